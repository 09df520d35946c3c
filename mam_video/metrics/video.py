"""What the alpha of a clip is judged by: dtSSD for flicker, and the VideoMatte benchmark's units.

A constant alpha flickers nowhere: dtSSD counts only beside MAD.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mam_video.metrics import alpha as of_alpha


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


@dataclass(frozen=True, slots=True)
class ClipScores:
    """One value a frame, in the units of the VideoMatte benchmark: MAD and MSE times 1000, dtSSD times 100.

    `dtssd` has one value fewer than the clip has frames: it judges pairs. The published sheets write 0 for the first
    frame and average it in; `dtssd_with_leading_zero` is their mean.
    """

    mad: tuple[float, ...]
    mse: tuple[float, ...]
    grad: tuple[float, ...]
    conn: tuple[float, ...]
    dtssd: tuple[float, ...]

    def mean(self) -> dict[str, float]:
        """The mean of each metric over the frames, NaN where there is none."""
        names = ("mad", "mse", "grad", "conn", "dtssd")
        return {n: float(np.mean(v)) if (v := getattr(self, n)) else float("nan") for n in names}

    @property
    def dtssd_with_leading_zero(self) -> float:
        return float(np.sum(self.dtssd) / (len(self.dtssd) + 1))


def clip_scores(
    pairs: Iterable[tuple[np.ndarray, np.ndarray]], *, stretch_grad: bool = False, slow: bool = True
) -> ClipScores:
    """Scores of (prediction, truth) alphas in frame order, each (H, W) float32 in [0, 1]; holds one past pair.

    `stretch_grad` follows the benchmark's low-resolution sheet, which spreads each alpha to 0..1 before its gradient;
    its high-resolution sheet does not. Without `slow`, Grad and Conn are left out (empty).
    """
    columns: dict[str, list[float]] = {n: [] for n in ("mad", "mse", "grad", "conn", "dtssd")}
    past: tuple[np.ndarray, np.ndarray] | None = None
    for prediction, truth in pairs:
        columns["mad"].append(of_alpha.mad(prediction, truth) * 1e3)
        columns["mse"].append(of_alpha.mse(prediction, truth) * 1e3)
        if slow:
            columns["grad"].append(of_alpha.grad(prediction, truth, stretch=stretch_grad))
            columns["conn"].append(of_alpha.conn(prediction, truth))
        if past is not None:
            columns["dtssd"].append(dtssd(prediction, truth, *past) * 1e2)
        past = prediction, truth
    return ClipScores(**{n: tuple(v) for n, v in columns.items()})


def foreground_error(prediction: np.ndarray, truth: np.ndarray, true_alpha: np.ndarray) -> dict[str, float]:
    """MAD and MSE, both times 1000, of straight (H, W, 3) float32 foregrounds where the true alpha is above 0."""
    difference = prediction.astype(np.float64)[true_alpha > 0] - truth[true_alpha > 0]
    if difference.size == 0:
        return {"mad": 0.0, "mse": 0.0}
    return {"mad": float(np.abs(difference).mean() * 1e3), "mse": float((difference**2).mean() * 1e3)}
