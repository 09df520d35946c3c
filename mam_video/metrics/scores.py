"""Compute metrics by name, in the units that papers and the VideoMatte benchmark print."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from mam_video.metrics import alpha as of_alpha
from mam_video.metrics import masks as of_masks
from mam_video.metrics.video import dtssd

Pair = tuple[np.ndarray, np.ndarray]  # prediction and truth, (H, W) float32 in [0, 1]


@dataclass(frozen=True, slots=True)
class Metric:
    """How to print a metric: its label with the factor, and whether higher is better."""

    label: str
    higher_is_better: bool = False


METRICS = {
    "sad": Metric("SAD"),
    "mse": Metric("MSE x1e3"),
    "mad": Metric("MAD x1e3"),
    "grad": Metric("Grad"),
    "conn": Metric("Conn"),
    "dtssd": Metric("dtSSD x1e2"),
    "j": Metric("J", True),
    "f": Metric("F", True),
}


def score_frame(
    metrics: Collection[str],
    prediction: np.ndarray,
    truth: np.ndarray,
    past: Pair | None = None,
    *,
    stretch_grad: bool = False,
    above: float = 0.5,
) -> dict[str, float]:
    """Score one frame, in the units of `METRICS`.

    Args:
        metrics: names of `METRICS`.
        prediction, truth: (H, W) float32 in [0, 1].
        past: the pair of the previous frame, for dtSSD; without it dtSSD is NaN.
        stretch_grad: stretch each alpha to 0..1 before the gradient, as VideoMatte does for its low-resolution sheet.
        above: alpha above this value counts as mask, for J and F.
    Raises: ValueError, the sizes differ.
    """
    mask, true_mask = prediction > above, truth > above
    functions = {
        "sad": lambda: of_alpha.sad(prediction, truth),
        "mse": lambda: of_alpha.mse(prediction, truth) * 1e3,
        "mad": lambda: of_alpha.mad(prediction, truth) * 1e3,
        "grad": lambda: of_alpha.grad(prediction, truth, stretch=stretch_grad),
        "conn": lambda: of_alpha.conn(prediction, truth),
        "dtssd": lambda: float("nan") if past is None else dtssd(prediction, truth, *past) * 1e2,
        "j": lambda: of_masks.region_j(mask, true_mask),
        "f": lambda: of_masks.boundary_f(mask, true_mask),
    }
    return {name: functions[name]() for name in metrics}


@dataclass(frozen=True, slots=True)
class ClipScores:
    """One value per frame, in the units of the VideoMatte benchmark: MAD and MSE times 1000, dtSSD times 100.

    dtSSD compares pairs of frames, so `dtssd` has one value fewer than the clip has frames. The published sheets count
    0 for the first frame; `dtssd_with_leading_zero` is their mean.
    """

    mad: tuple[float, ...]
    mse: tuple[float, ...]
    grad: tuple[float, ...]
    conn: tuple[float, ...]
    dtssd: tuple[float, ...]

    def mean(self) -> dict[str, float]:
        """Average each metric over the frames; NaN for a metric without values."""
        names = ("mad", "mse", "grad", "conn", "dtssd")
        return {n: float(np.mean(v)) if (v := getattr(self, n)) else float("nan") for n in names}

    @property
    def dtssd_with_leading_zero(self) -> float:
        return float(np.sum(self.dtssd) / (len(self.dtssd) + 1))


def clip_scores(pairs: Iterable[Pair], *, stretch_grad: bool = False, slow: bool = True) -> ClipScores:
    """Score a clip of (prediction, truth) alphas in frame order, each (H, W) float32 in [0, 1].

    Memory holds two pairs. `stretch_grad` stretches each alpha to 0..1 before the gradient: the benchmark does so for
    its low-resolution sheet, and not for its high-resolution one. Without `slow`, Grad and Conn stay empty.
    """
    columns: dict[str, list[float]] = {n: [] for n in ("mad", "mse", "grad", "conn", "dtssd")}
    names = [n for n in columns if slow or n not in ("grad", "conn")]
    past: Pair | None = None
    for pair in pairs:
        for name, value in score_frame(names, *pair, past, stretch_grad=stretch_grad).items():
            if name != "dtssd" or past is not None:
                columns[name].append(value)
        past = pair
    return ClipScores(**{n: tuple(v) for n, v in columns.items()})
