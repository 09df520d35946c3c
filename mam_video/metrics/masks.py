"""Measure masks: region similarity J and contour accuracy F of the DAVIS benchmark.

Masks are (H, W) bool; the prediction comes first.
Source: Perazzi et al., A benchmark dataset and evaluation methodology for video object segmentation, CVPR 2016.
"""

from __future__ import annotations

import math

import cv2
import numpy as np


def region_j(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Compute intersection over union, 0..1; 1 if both masks are empty. Raises: ValueError, the sizes differ."""
    prediction, truth = _checked(prediction), _checked(truth)
    if prediction.shape != truth.shape:
        raise ValueError(f"masks differ in size: {prediction.shape} and {truth.shape}")
    union = np.count_nonzero(prediction | truth)
    return 1.0 if union == 0 else np.count_nonzero(prediction & truth) / union


def boundary_f(prediction: np.ndarray, truth: np.ndarray, tolerance: int | None = None) -> float:
    """Compute the harmonic mean of boundary precision and recall within `tolerance` pixels, 0..1.

    The default tolerance is 0.8 % of the picture's diagonal, rounded up. Two empty boundaries give 1.
    Raises: ValueError, the sizes differ.
    """
    prediction, truth = _checked(prediction), _checked(truth)
    if prediction.shape != truth.shape:
        raise ValueError(f"masks differ in size: {prediction.shape} and {truth.shape}")
    radius = math.ceil(0.008 * math.hypot(*truth.shape)) if tolerance is None else tolerance
    predicted_boundary, true_boundary = boundary(prediction), boundary(truth)
    predicted_count, true_count = np.count_nonzero(predicted_boundary), np.count_nonzero(true_boundary)
    if predicted_count == 0 or true_count == 0:
        # With one empty boundary precision or recall is 0.
        return 1.0 if predicted_count == true_count else 0.0
    precision = np.count_nonzero(predicted_boundary & _grown(true_boundary, radius)) / predicted_count
    recall = np.count_nonzero(true_boundary & _grown(predicted_boundary, radius)) / true_count
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def boundary(mask: np.ndarray) -> np.ndarray:
    """Mark the pixels that differ from their right, lower or lower right neighbour. Returns: (H, W) bool."""
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
        raise ValueError(f"a mask must be (H, W) bool, is {mask.shape} {mask.dtype}")
    return mask
