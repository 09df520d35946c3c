"""The guided filter against a least-squares fit in each window, solved by NumPy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mam_video.core.guided_filter import box_mean, filter_by_colour, filter_by_grey, fit_colours

SIZE, RADIUS, EPS = (9, 11), 2, 1e-3
RNG = np.random.default_rng(4)
COLOUR = RNG.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
VALUES = RNG.random(SIZE, dtype=np.float32)


def window(picture: np.ndarray, y: int, x: int) -> np.ndarray:
    """All pixels of the window around (y, x), (n, channels), mirrored beyond the border as OpenCV does by default."""
    padded = cv2.copyMakeBorder(picture, RADIUS, RADIUS, RADIUS, RADIUS, cv2.BORDER_DEFAULT)
    part = padded[y : y + 2 * RADIUS + 1, x : x + 2 * RADIUS + 1]
    return part.reshape(part.shape[0] * part.shape[1], -1).astype(np.float64)


def fitted(guide: np.ndarray, y: int, x: int) -> np.ndarray:
    """The ridge regression of one window: a slope for each channel of the guide, then the offset."""
    colours, values = window(guide, y, x), window(VALUES, y, x)[:, 0]
    apart = colours - colours.mean(0)
    normal = apart.T @ apart / len(apart) + EPS * np.eye(apart.shape[1])
    slopes = np.linalg.solve(normal, apart.T @ (values - values.mean()) / len(apart))
    return np.array([*slopes, values.mean() - slopes @ colours.mean(0)])


def slow(guide: np.ndarray) -> np.ndarray:
    """The filter, window by window: the mean of the fits, applied to the guide's own pixel."""
    fits = np.array([[fitted(guide, y, x) for x in range(SIZE[1])] for y in range(SIZE[0])])
    mean = cv2.blur(fits, (2 * RADIUS + 1,) * 2)
    return np.asarray((mean[..., :-1] * guide.reshape(*SIZE, -1)).sum(2) + mean[..., -1])


def test_a_grey_guide() -> None:
    grey = cv2.cvtColor(COLOUR, cv2.COLOR_RGB2GRAY).astype(np.float32) / np.float32(255)
    np.testing.assert_allclose(filter_by_grey(grey, VALUES, RADIUS, EPS), slow(grey), atol=2e-5)


def test_a_colour_guide() -> None:
    found = filter_by_colour(COLOUR, VALUES, RADIUS, EPS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow(COLOUR / 255), atol=1e-4)


@pytest.mark.parametrize("place", [(0, 0), (4, 5), (8, 10)])
def test_a_fit_is_the_ridge_regression_of_its_window(place: tuple[int, int]) -> None:
    planes = cv2.split(COLOUR.astype(np.float64) / 255)
    fit = fit_colours(planes, VALUES.astype(np.float64), box_mean(RADIUS), EPS)
    slopes = [(numerator / fit.determinant)[place] for numerator in fit.numerators]
    np.testing.assert_allclose(slopes, fitted(COLOUR / 255, *place)[:-1], atol=1e-9)
