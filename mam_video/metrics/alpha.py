"""Measure the error of one alpha: SAD, MSE, MAD, gradient and connectivity error.

Alphas are (H, W) float32 in [0, 1]; the prediction comes first. `region` is an (H, W) bool mask of the pixels that
count; None counts all. MSE and MAD are means over the counted pixels, in [0, 1]; papers print them times 1000. The sums
SAD, Grad and Conn are divided by 1000, as papers print them.

Source: Rhemann et al., A perceptually motivated online benchmark for image matting, CVPR 2009.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np

_SIGMA = 1.4  # pixels, sigma of the Gaussian of the gradient
_STEP, _THETA = 0.1, 0.15  # threshold step and tolerance of the connectivity error


def sad(prediction: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> float:
    """Sum the absolute differences over the counted pixels, divided by 1000."""
    return _sum(np.abs(_checked(prediction, truth)), region)[0] / 1000


def mad(prediction: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> float:
    """Average the absolute differences over the counted pixels, 0..1; 0 if no pixel counts."""
    total, count = _sum(np.abs(_checked(prediction, truth)), region)
    return total / max(count, 1)


def mse(prediction: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> float:
    """Average the squared differences over the counted pixels, 0..1; 0 if no pixel counts."""
    total, count = _sum(_checked(prediction, truth) ** 2, region)
    return total / max(count, 1)


def grad(
    prediction: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None, *, stretch: bool = False
) -> float:
    """Sum the squared differences of the gradient magnitudes, divided by 1000.

    Gradients are first derivatives of a Gaussian with sigma 1.4; borders are replicated. `stretch` first stretches each
    alpha to 0..1 by its own minimum and maximum, as RobustVideoMatting does for its low-resolution sheet.
    """
    return _sum(_gradient_error(prediction, truth, stretch), region)[0] / 1000


def conn(prediction: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> float:
    """Sum the differences in connectedness to the common body (connectivity error), divided by 1000.

    The common body at a threshold is the largest 4-connected component where both alphas reach the threshold. The
    background never counts as the body. (A version in circulation takes the background if it is larger, and so gives 0
    for an empty prediction. This function does not.)
    """
    return _sum(_connectivity_error(prediction, truth), region)[0] / 1000


def _checked(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(f"both alphas must be (H, W) and of one size, are {prediction.shape} and {truth.shape}")
    difference: np.ndarray = prediction.astype(np.float64) - truth
    return difference


def _sum(error: np.ndarray, region: np.ndarray | None) -> tuple[float, int]:
    if region is None:
        return float(error.sum(dtype=np.float64)), error.size
    return float(error[region].sum(dtype=np.float64)), int(np.count_nonzero(region))


@functools.cache
def _derivative_kernel() -> np.ndarray:
    """Return the x derivative of a Gaussian with L2 norm 1: (9, 9) float64 at sigma 1.4.

    The kernel ends where the Gaussian falls below 1 % of its peak.
    """
    half = math.ceil(_SIGMA * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * _SIGMA * 0.01)))
    x = np.arange(-half, half + 1, dtype=np.float64)
    gauss = np.exp(-(x**2) / (2 * _SIGMA**2)) / (_SIGMA * math.sqrt(2 * math.pi))
    kernel = np.outer(gauss, -x * gauss / _SIGMA**2)
    kernel /= np.linalg.norm(kernel)
    return kernel


def _gradient_error(prediction: np.ndarray, truth: np.ndarray, stretch: bool = False) -> np.ndarray:
    _checked(prediction, truth)
    magnitudes = []
    for alpha in (prediction, truth):
        alpha = alpha.astype(np.float64)
        if stretch:
            alpha = _stretched(alpha)
        kernel = _derivative_kernel()
        dx = cv2.filter2D(alpha, cv2.CV_64F, kernel, borderType=cv2.BORDER_REPLICATE)
        dy = cv2.filter2D(alpha, cv2.CV_64F, kernel.T, borderType=cv2.BORDER_REPLICATE)
        magnitudes.append(np.hypot(dx, dy))
    error: np.ndarray = (magnitudes[0] - magnitudes[1]) ** 2
    return error


def _stretched(alpha: np.ndarray) -> np.ndarray:
    low, high = float(alpha.min()), float(alpha.max())
    # A constant map becomes 0, as with OpenCV's NORM_MINMAX. Its gradient is 0 in any case.
    return (alpha - low) / (high - low) if high > low else np.zeros_like(alpha)


def _connectivity_error(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    _checked(prediction, truth)
    # Compare float64 thresholds with float32 alphas, as the reference implementations do.
    thresholds = np.arange(0, 1 + _STEP, _STEP)
    connected_to = np.full(prediction.shape, -1.0)
    for i in range(1, len(thresholds)):
        both = ((prediction >= thresholds[i]) & (truth >= thresholds[i])).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(both, connectivity=4)
        body = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])) if count > 1 else np.zeros(both.shape, bool)
        connected_to[(connected_to == -1) & ~body] = thresholds[i - 1]
    connected_to[connected_to == -1] = 1

    def connectedness(alpha: np.ndarray) -> np.ndarray:
        distance = alpha.astype(np.float64) - connected_to
        degree: np.ndarray = 1 - distance * (distance >= _THETA)
        return degree

    error: np.ndarray = np.abs(connectedness(prediction) - connectedness(truth))
    return error
