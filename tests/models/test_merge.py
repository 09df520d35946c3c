"""The merge against a slow version that loops over the kernel, on arrays and on tensors, for odd maps of all kinds."""

from itertools import product
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mam_video.core.crop import Crop
from mam_video.core.settings import MatteSettings
from mam_video.models import merge
from tests.models import slow_merge

pytestmark = pytest.mark.numeric

SIZE = (61, 83)
WIDTHS = (0, 1, 2, 3, 5, 10, 20, 21, 59, 76)
RNG = np.random.default_rng(11)


def soft_disc(cx: float, cy: float, radius: float, edge: float) -> np.ndarray:
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    distance = np.hypot(x + 0.5 - cx, y + 0.5 - cy)
    return np.clip((radius - distance) / edge + 0.5, 0, 1).astype(np.float32)


def single(y: int, x: int) -> np.ndarray:
    alpha = np.zeros(SIZE, np.float32)
    alpha[y, x] = 0.5
    return alpha


ALPHAS = {
    "zeros": np.zeros(SIZE, np.float32),
    "ones": np.ones(SIZE, np.float32),
    "disc": soft_disc(40, 30, 18, 9),
    "at the corner": soft_disc(80, 58, 15, 6),
    "one pixel": single(30, 40),
    "corner pixel": single(0, 0),
    "last pixel": single(SIZE[0] - 1, SIZE[1] - 1),
    "noise": RNG.random(SIZE, dtype=np.float32),
    "speckle": (RNG.random(SIZE) > 0.995).astype(np.float32),
    "thresholds": RNG.choice(
        [np.nextafter(np.float32(t), np.float32(to)) for t in (1 / 255, 1 - 1 / 255) for to in (0, t, 1)], SIZE
    ).astype(np.float32),
}


def both_kinds(function: Any, array: np.ndarray, *rest: Any, **named: Any) -> np.ndarray:
    """The answer for an array; that for the same tensor must be the same."""
    found = function(array, *rest, **named)
    assert isinstance(found, np.ndarray)
    tensor = function(torch.from_numpy(array), *rest, **named)
    np.testing.assert_array_equal(tensor.numpy(), found)
    return found


@pytest.mark.parametrize("size", range(0, 60))
def test_kernels_follow_the_rule_of_the_ellipse(size: int) -> None:
    np.testing.assert_array_equal(merge.kernel_of(2 * size) > 0, slow_merge.ellipse(size))


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("name", ALPHAS)
def test_unknown_regions(name: str, two_sided: bool) -> None:
    alpha, mask = ALPHAS[name], ALPHAS[name] > 0.4
    for width in WIDTHS:
        found = both_kinds(merge.unknown_from_alpha, alpha, width, two_sided=two_sided)
        np.testing.assert_array_equal(found, slow_merge.unknown_from_alpha(alpha, width, two_sided))
        found = both_kinds(merge.unknown_from_mask, mask, width, two_sided=two_sided)
        np.testing.assert_array_equal(found, slow_merge.unknown_from_mask(mask, width, two_sided))
    np.testing.assert_array_equal(both_kinds(merge.outside_box, mask), slow_merge.outside_box(mask))


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize(("guidance", "box_clean"), [("mask", True), ("alpha", True), ("alpha", False)])
def test_merges_of_a_part_equal_those_of_the_whole(guidance: Any, box_clean: bool, two_sided: bool) -> None:
    """`merge_levels` works on the part around the subject; the slow version on the whole picture."""
    for (name, os8), widths in product(ALPHAS.items(), ((10, 20, 10), (1, 3, 30))):
        os4, os1 = RNG.random(SIZE, dtype=np.float32), RNG.random(SIZE, dtype=np.float32)
        mask = ALPHAS["disc"] > 0.5 if name in ("noise", "thresholds") else os8 > 0.5
        settings = MatteSettings(
            guidance=guidance, box_clean=box_clean, two_sided=two_sided,
            os8_width=widths[0], os4_width=widths[1], os1_width=widths[2],
        )  # fmt: skip
        expected = slow_merge.merge(os8, os4, os1, mask, guidance, box_clean, two_sided, widths)
        given = [m.copy() for m in (os8, os4, os1, mask)]
        found = merge.merge_levels(os8, os4, os1, mask, settings)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected, err_msg=name)
        on_device = merge.merge_levels(*(torch.from_numpy(m) for m in (os8, os4, os1, mask)), settings)  # type: ignore[call-arg]
        np.testing.assert_array_equal(on_device.numpy(), expected, err_msg=name)
        for before, after in zip(given, (os8, os4, os1, mask), strict=True):
            np.testing.assert_array_equal(before, after)  # nothing is written to


def test_an_empty_mask_has_an_answer() -> None:
    noise, empty = ALPHAS["noise"], np.zeros(SIZE, np.bool_)
    for guidance in ("mask", "alpha"):
        settings = MatteSettings(guidance=guidance)  # type: ignore[arg-type]
        assert not merge.merge_levels(noise, noise, noise, empty, settings).any()


def test_maps_of_different_sizes_are_refused() -> None:
    small = np.zeros((3, 3), np.float32)
    with pytest.raises(ValueError, match="differ in size"):
        merge.merge_levels(small, small, small, np.zeros((3, 4), np.bool_), MatteSettings())


def test_widths_are_in_proportion_to_large_pictures_only() -> None:
    assert merge.widths_for((214, 320), MatteSettings()) == (10, 20, 10)
    assert merge.widths_for((2160, 3840), MatteSettings()) == (38, 75, 38)
    assert merge.widths_for((2160, 3840), MatteSettings(scale_widths=False)) == (10, 20, 10)


def test_one_level_is_the_alpha_itself() -> None:
    view = Crop(4, 6, 40, 30, 64)
    level = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    alpha = merge.compose_alpha(level, np.ones((16, 16), np.float32), view, MatteSettings())
    h, w = view.content
    expected = cv2.resize(level[0, :h, :w].numpy(), (40, 30), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(alpha, expected, atol=1e-5)


def test_tensors_merge_to_the_same_bits_on_every_device(device: torch.device) -> None:
    maps = [RNG.random(SIZE, dtype=np.float32) for _ in range(3)]
    mask = ALPHAS["disc"] > 0.5
    for guidance in ("mask", "alpha"):
        settings = MatteSettings(guidance=guidance)  # type: ignore[arg-type]
        found = merge.merge_levels(*(torch.from_numpy(m).to(device) for m in (*maps, mask)), settings)  # type: ignore[call-arg]
        np.testing.assert_array_equal(found.cpu().numpy(), merge.merge_levels(*maps, mask, settings))  # type: ignore[call-arg]
