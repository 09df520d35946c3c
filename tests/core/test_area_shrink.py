"""A part shrunk by itself is that part of the whole shrunk by OpenCV."""

import cv2
import numpy as np
import pytest

from mam_video.core.area_shrink import AreaShrink

pytestmark = pytest.mark.numeric

SIZES = [((72, 87), (53, 64)), ((90, 160), (30, 64)), ((41, 64), (41, 64)), ((100, 100), (7, 99))]


@pytest.mark.parametrize(("size", "small"), SIZES)
def test_a_part_is_that_of_the_whole(size: tuple[int, int], small: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).random((*size, 3), np.float32)
    whole = cv2.resize(picture, small[::-1], interpolation=cv2.INTER_AREA)
    for part in ((0, small[0], 0, small[1]), (2, small[0] - 1, 3, small[1]), (1, 3, 5, 6)):
        top, bottom, left, right = part
        shrink = AreaShrink(size, small, part)
        # Sums of up to 16 x 3 products of values below 1: float32 rounds each by at most 2^-24, in another order.
        np.testing.assert_allclose(shrink(picture), whole[top:bottom, left:right], rtol=0, atol=64 * 2**-24)
        np.testing.assert_array_equal(shrink(picture[..., 0].copy()), shrink(picture)[..., 0])


def test_whole_numbers_are_rounded() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (72, 87, 3)).astype(np.uint8)
    whole = cv2.resize(picture, (64, 53), interpolation=cv2.INTER_AREA)
    found = AreaShrink((72, 87), (53, 64), (4, 50, 8, 60))(picture)
    assert found.dtype == np.uint8
    difference = np.abs(found.astype(int) - whole[4:50, 8:60])
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3  # only where the mean lies half way between two


def test_a_constant_stays_what_it_is() -> None:
    found = AreaShrink((50, 70), (33, 41), (0, 33, 0, 41))(np.full((50, 70), 0.7, np.float32))
    np.testing.assert_allclose(found, np.float32(0.7), rtol=2**-22)
