"""The guided filter: values written as a local linear function of a guide picture.

Source: He, Sun, Tang, "Guided Image Filtering" (2013); with a colour guide equations 14 to 16. The type of the inputs
is the type of the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np


def box_mean(radius: int, border: int = cv2.BORDER_DEFAULT) -> Callable[[np.ndarray], np.ndarray]:
    """Return the mean over a square of 2 * radius + 1 pixels; `border` is OpenCV's."""
    side = (2 * radius + 1, 2 * radius + 1)
    return lambda values: cv2.blur(values, side, borderType=border)


def filter_by_grey(guide: np.ndarray, values: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """Filter values (h, w) float32 by a grey guide (h, w) float32 in [0, 1]; eps in its squared units."""
    mean = box_mean(radius)
    mean_g, mean_v = mean(guide), mean(values)
    slope = (mean(guide * values) - mean_g * mean_v) / (mean(guide * guide) - mean_g**2 + eps)
    offset = mean_v - slope * mean_g
    return np.asarray(mean(slope) * guide + mean(offset))


@dataclass(frozen=True, slots=True)
class ColourFit:
    """Linear functions of a colour that fit the values around each pixel best: maps (h, w), one a colour.

    The slopes are `numerators` over `determinant`; their mean over the window makes the filter.
    """

    means: Sequence[np.ndarray]
    mean_value: np.ndarray
    numerators: tuple[np.ndarray, np.ndarray, np.ndarray]
    determinant: np.ndarray


def fit_colours(
    colours: Sequence[np.ndarray], values: np.ndarray, mean: Callable[[np.ndarray], np.ndarray], eps: float
) -> ColourFit:
    """Fit values (h, w) to three planes (h, w) in [0, 1] in the window of `mean`; eps in squared units of colour."""
    r, g, b = colours
    means = mean_r, mean_g, mean_b = mean(r), mean(g), mean(b)
    mean_value = mean(values)
    v_r, v_g, v_b = (mean(c * values) - m * mean_value for c, m in zip(colours, means, strict=True))
    rr = mean(r * r) - mean_r * mean_r + eps
    gg = mean(g * g) - mean_g * mean_g + eps
    bb = mean(b * b) - mean_b * mean_b + eps
    rg = mean(r * g) - mean_r * mean_g
    rb = mean(r * b) - mean_r * mean_b
    gb = mean(g * b) - mean_g * mean_b
    # The inverse of the symmetric 3x3 covariance, by its cofactors.
    i_rr, i_rg, i_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    i_gg, i_gb, i_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    numerators = (
        i_rr * v_r + i_rg * v_g + i_rb * v_b,
        i_rg * v_r + i_gg * v_g + i_gb * v_b,
        i_rb * v_r + i_gb * v_g + i_bb * v_b,
    )
    return ColourFit(means, mean_value, numerators, rr * i_rr + rg * i_rg + rb * i_rb)


def filter_by_colour(guide: np.ndarray, values: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """Filter values (h, w) float32 by a colour guide (h, w, 3) uint8; eps in squared units of [0, 1] colour."""
    mean = box_mean(radius)
    colours = cv2.split(guide.astype(np.float32) / np.float32(255))
    fit = fit_colours(colours, values, mean, eps)
    share = 1 / fit.determinant
    slopes = [numerator * share for numerator in fit.numerators]
    offset = fit.mean_value
    for slope, mean_colour in zip(slopes, fit.means, strict=True):
        offset = offset - slope * mean_colour
    terms = [mean(slope) * colour for slope, colour in zip(slopes, colours, strict=True)]
    return np.asarray(terms[0] + terms[1] + terms[2] + mean(offset), np.float32)
