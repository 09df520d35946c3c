"""What one alpha is judged by: SAD, MSE, MAD, gradient and connectivity error.

Alphas are (H, W) float32 in [0, 1], prediction first. `region` is an (H, W) bool mask of the pixels that count; None
counts all. Values are plain: a mean is a mean over the counted pixels in [0, 1], and the sums SAD, Grad and Conn are
divided by 1000, as papers print them. Papers print MSE and MAD times 1000.

Source: Rhemann et al., A perceptually motivated online benchmark for image matting, CVPR 2009.
"""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np

_SIGMA = 1.4  # of the gradient's Gaussian
_STEP, _THETA = 0.1, 0.15  # of the connectivity error


def sad(prediction: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> float:
    """Sum of absolute differences over the counted pixels, divided by 1000."""
    return _sum(np.abs(_checked(prediction, truth)), region)[0] / 1000


def mad(prediction: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> float:
    """Mean absolute difference over the counted pixels, 0..1; 0 where none counts."""
    total, count = _sum(np.abs(_checked(prediction, truth)), region)
    return total / max(count, 1)


def mse(prediction: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> float:
    """Mean squared difference over the counted pixels, 0..1; 0 where none counts."""
    total, count = _sum(_checked(prediction, truth) ** 2, region)
    return total / max(count, 1)


def grad(
    prediction: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None, *, stretch: bool = False
) -> float:
    """Sum of squared differences of the gradients' magnitudes, divided by 1000.

    Gradients are first derivatives of a Gaussian of sigma 1.4, borders replicated. With `stretch` each alpha is first
    spread to 0..1 by its own minimum and maximum, as RobustVideoMatting's low-resolution sheet does.
    """
    return _sum(_gradient_error(prediction, truth, stretch), region)[0] / 1000


def conn(prediction: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> float:
    """Connectivity error: sum of the differences in connectedness to the common body, divided by 1000.

    The common body at a threshold is the largest 4-connected part that both alphas reach; the background is no
    candidate for it. (A version in circulation picks the background where that is larger: it gives 0 to an empty
    prediction, and is not followed.)
    """
    return _sum(_connectivity_error(prediction, truth), region)[0] / 1000


def _checked(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(f"two (H, W) alphas of one size are needed, not {prediction.shape} and {truth.shape}")
    difference: np.ndarray = prediction.astype(np.float64) - truth
    return difference


def _sum(error: np.ndarray, region: np.ndarray | None) -> tuple[float, int]:
    if region is None:
        return float(error.sum(dtype=np.float64)), error.size
    return float(error[region].sum(dtype=np.float64)), int(np.count_nonzero(region))


@functools.cache
def _derivative_kernel() -> np.ndarray:
    """The x derivative of a Gaussian, cut where it falls below 1 % of itself, of L2 norm 1: (9, 9) at sigma 1.4."""
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
    # A flat map has nothing to stretch. OpenCV's NORM_MINMAX makes it 0; its gradient is 0 either way.
    return (alpha - low) / (high - low) if high > low else np.zeros_like(alpha)


def _connectivity_error(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    _checked(prediction, truth)
    # Thresholds in float64 against float32 alphas, as the references compare them.
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
