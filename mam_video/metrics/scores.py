"""Every metric of one frame by name, in the units that papers and the VideoMatte benchmark print."""

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
    """How a metric is printed: its name with its factor, and which way is up."""

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
    """One frame's scores, in the units of `METRICS`.

    Args:
        metrics: names of `METRICS`.
        prediction, truth: (H, W) float32 in [0, 1].
        past: the pair before it, which dtSSD needs; where None it is NaN.
        stretch_grad: spread each alpha to 0..1 before its gradient, as VideoMatte's low-resolution sheet does.
        above: what is above it is mask, for J and F.
    Raises: ValueError, the sizes differ.
    """
    mask, true_mask = prediction > above, truth > above
    makers = {
        "sad": lambda: of_alpha.sad(prediction, truth),
        "mse": lambda: of_alpha.mse(prediction, truth) * 1e3,
        "mad": lambda: of_alpha.mad(prediction, truth) * 1e3,
        "grad": lambda: of_alpha.grad(prediction, truth, stretch=stretch_grad),
        "conn": lambda: of_alpha.conn(prediction, truth),
        "dtssd": lambda: float("nan") if past is None else dtssd(prediction, truth, *past) * 1e2,
        "j": lambda: of_masks.region_j(mask, true_mask),
        "f": lambda: of_masks.boundary_f(mask, true_mask),
    }
    return {name: makers[name]() for name in metrics}


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


def clip_scores(pairs: Iterable[Pair], *, stretch_grad: bool = False, slow: bool = True) -> ClipScores:
    """Scores of (prediction, truth) alphas in frame order, each (H, W) float32 in [0, 1]; holds one past pair.

    `stretch_grad` follows the benchmark's low-resolution sheet, which spreads each alpha to 0..1 before its gradient;
    its high-resolution sheet does not. Without `slow`, Grad and Conn are left out (empty).
    """
    columns: dict[str, list[float]] = {n: [] for n in ("mad", "mse", "grad", "conn", "dtssd")}
    wanted = [n for n in columns if slow or n not in ("grad", "conn")]
    past: Pair | None = None
    for pair in pairs:
        for name, value in score_frame(wanted, *pair, past, stretch_grad=stretch_grad).items():
            if name != "dtssd" or past is not None:
                columns[name].append(value)
        past = pair
    return ClipScores(**{n: tuple(v) for n, v in columns.items()})
