"""What masks are judged by: region similarity J and contour accuracy F of the DAVIS benchmark.

Masks are (H, W) bool, prediction first.
Source: Perazzi et al., A benchmark dataset and evaluation methodology for video object segmentation, CVPR 2016.
"""

from __future__ import annotations

import math

import cv2
import numpy as np


def region_j(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union, 0..1; 1 where both are empty."""
    prediction, truth = _checked(prediction), _checked(truth)
    if prediction.shape != truth.shape:
        raise ValueError(f"masks differ in size: {prediction.shape} and {truth.shape}")
    union = np.count_nonzero(prediction | truth)
    return 1.0 if union == 0 else np.count_nonzero(prediction & truth) / union


def boundary_f(prediction: np.ndarray, truth: np.ndarray, tolerance: int | None = None) -> float:
    """Harmonic mean of the boundaries' precision and recall within `tolerance` pixels, 0..1.

    The default tolerance is 0.8 % of the picture's diagonal, rounded up. Both boundaries empty give 1.
    """
    prediction, truth = _checked(prediction), _checked(truth)
    if prediction.shape != truth.shape:
        raise ValueError(f"masks differ in size: {prediction.shape} and {truth.shape}")
    radius = math.ceil(0.008 * math.hypot(*truth.shape)) if tolerance is None else tolerance
    ours, theirs = boundary(prediction), boundary(truth)
    n_ours, n_theirs = np.count_nonzero(ours), np.count_nonzero(theirs)
    if n_ours == 0 or n_theirs == 0:
        # One empty boundary leaves either precision or recall at 0.
        return 1.0 if n_ours == n_theirs else 0.0
    precision = np.count_nonzero(ours & _grown(theirs, radius)) / n_ours
    recall = np.count_nonzero(theirs & _grown(ours, radius)) / n_theirs
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def boundary(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: where a pixel differs from its right, lower or lower right neighbour."""
    edge = np.zeros(mask.shape, bool)
    edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disc = (x * x + y * y <= radius * radius).astype(np.uint8)
    grown: np.ndarray = cv2.dilate(mask.astype(np.uint8), disc) > 0
    return grown


def _checked(mask: np.ndarray) -> np.ndarray:
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"a mask is (H, W) bool, not {mask.shape} {mask.dtype}")
    return mask
