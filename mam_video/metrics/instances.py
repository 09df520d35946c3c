"""Instance matting quality (IMQ): how many subjects were found, and how well each is matted.

Source: Sun, Tang and Tai, Human instance matting via mutual guidance and multi-instance refinement, CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mam_video.metrics import alpha as of_alpha

METRICS = ("mad", "mse", "grad", "conn", "iou")
_IOU_BAR = 0.5
_WEIGHT = 10.0  # fixed by the paper: an error of 0.1 scores 0


@dataclass(frozen=True, slots=True)
class Matches:
    """What one picture adds to the set's score: counts, and the matched pairs' summed similarity by metric."""

    true_positives: int
    false_positives: int
    false_negatives: int
    similarity: dict[str, float]


@dataclass(frozen=True, slots=True)
class InstanceQuality:
    """Over a set, 0..1 (papers print times 100): IMQ, its matting part MQ by metric, and its recognition part RQ."""

    imq: dict[str, float]
    mq: dict[str, float]
    rq: float


def match_instances(
    predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], metrics: Sequence[str] = METRICS
) -> Matches:
    """One picture's instances, each an (H, W) float32 alpha in [0, 1], matched for the largest sum of IoU.

    Instances are binarised at alpha > 0, as the source does: a faint haze over the picture wrecks the IoU.
    """
    similarity = dict.fromkeys(metrics, 0.0)
    found = 0
    if len(predictions) and len(truths):
        iou = np.array([[_iou(p, t) for t in truths] for p in predictions])
        for i, j in _best_pairs(iou):
            if iou[i, j] >= _IOU_BAR:
                found += 1
                for name in metrics:
                    similarity[name] += _similarity(name, predictions[i], truths[j], float(iou[i, j]))
    return Matches(found, len(predictions) - found, len(truths) - found, similarity)


def imq(pictures: Iterable[Matches]) -> InstanceQuality:
    """The quality over a set of pictures."""
    all_of = list(pictures)
    found = sum(m.true_positives for m in all_of)
    size = found + sum(m.false_positives + m.false_negatives for m in all_of) / 2 + 1e-6
    names = all_of[0].similarity if all_of else {}
    total = {n: sum(m.similarity[n] for m in all_of) for n in names}
    return InstanceQuality(
        imq={n: s / size for n, s in total.items()},
        mq={n: s / max(found, 1) for n, s in total.items()},
        rq=found / size,
    )


def _best_pairs(score: np.ndarray) -> list[tuple[int, int]]:
    """The assignment of rows to columns with the largest sum."""
    from scipy.optimize import linear_sum_assignment  # here, since nothing else of a matting run needs SciPy

    rows, columns = linear_sum_assignment(score, maximize=True)  # type: ignore[no-untyped-call, unused-ignore]
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True)]


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero((a > 0) & (b > 0)) / (np.count_nonzero((a > 0) | (b > 0)) + 1e-8)


def _similarity(name: str, prediction: np.ndarray, truth: np.ndarray, iou: float) -> float:
    if name == "iou":
        return iou
    union = (prediction > 0) | (truth > 0)
    if name == "mse":
        error = of_alpha.mse(prediction, truth, union) * int(np.count_nonzero(union))
    else:
        summed = {"mad": of_alpha.sad, "grad": of_alpha.grad, "conn": of_alpha.conn}[name]
        error = summed(prediction, truth, union) * 1000
    # One more than the pixels, as the source divides; here all four are means.
    mean = error / (np.count_nonzero(union) + 1)
    return float(1 - min(_WEIGHT * mean, 1))
