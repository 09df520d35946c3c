"""Measure a clip beyond single frames: dtSSD for flicker, and the error of foreground colours.

A constant alpha does not flicker, so judge dtSSD only together with MAD.
"""

from __future__ import annotations

import numpy as np


def dtssd(
    prediction: np.ndarray, truth: np.ndarray, previous_prediction: np.ndarray, previous_truth: np.ndarray
) -> float:
    """Compute the root mean square difference of the changes since the previous frame, 0 or more.

    All four arguments are (H, W) float32 alphas in [0, 1]. Papers print the value times 100.
    Source: Erofeev et al., Perceptually motivated benchmark for video matting, BMVC 2015, in the form that
    RobustVideoMatting uses.
    """
    change = prediction.astype(np.float64) - previous_prediction
    true_change = truth.astype(np.float64) - previous_truth
    return float(np.sqrt(np.mean((change - true_change) ** 2)))


def foreground_error(prediction: np.ndarray, truth: np.ndarray, true_alpha: np.ndarray) -> dict[str, float]:
    """Compute MAD and MSE, both times 1000, of foreground colours where the true alpha is above 0.

    Foregrounds are straight (H, W, 3) float32; `true_alpha` is (H, W).
    """
    difference = prediction.astype(np.float64)[true_alpha > 0] - truth[true_alpha > 0]
    if difference.size == 0:
        return {"mad": 0.0, "mse": 0.0}
    return {"mad": float(np.abs(difference).mean() * 1e3), "mse": float((difference**2).mean() * 1e3)}
