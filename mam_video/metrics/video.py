"""What a clip is judged by beyond its frames: dtSSD for flicker, and the error of its foreground colours.

A constant alpha flickers nowhere: dtSSD counts only beside MAD.
"""

from __future__ import annotations

import numpy as np


def dtssd(
    prediction: np.ndarray, truth: np.ndarray, previous_prediction: np.ndarray, previous_truth: np.ndarray
) -> float:
    """Root mean square difference of the changes since the previous frame, 0..; papers print it times 100.

    All four are (H, W) float32 alphas in [0, 1].
    Source: Erofeev et al., Perceptually motivated benchmark for video matting, BMVC 2015, as RobustVideoMatting has it.
    """
    change = prediction.astype(np.float64) - previous_prediction
    true_change = truth.astype(np.float64) - previous_truth
    return float(np.sqrt(np.mean((change - true_change) ** 2)))


def foreground_error(prediction: np.ndarray, truth: np.ndarray, true_alpha: np.ndarray) -> dict[str, float]:
    """MAD and MSE, both times 1000, of straight (H, W, 3) float32 foregrounds where the true alpha is above 0."""
    difference = prediction.astype(np.float64)[true_alpha > 0] - truth[true_alpha > 0]
    if difference.size == 0:
        return {"mad": 0.0, "mse": 0.0}
    return {"mad": float(np.abs(difference).mean() * 1e3), "mse": float((difference**2).mean() * 1e3)}
