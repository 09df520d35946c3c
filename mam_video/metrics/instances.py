"""Measure instance matting quality (IMQ): how many subjects were found, and how well each is matted.

Source: Sun, Tang and Tai, Human instance matting via mutual guidance and multi-instance refinement, CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mam_video.metrics import alpha as of_alpha

METRICS = ("mad", "mse", "grad", "conn", "iou")
_IOU_BAR = 0.5
_WEIGHT = 10.0  # from the paper: an error of 0.1 scores 0


@dataclass(frozen=True, slots=True)
class Matches:
    """The matches of one picture: counts, and the summed similarity of matched pairs by metric."""

    true_positives: int
    false_positives: int
    false_negatives: int
    similarity: dict[str, float]


@dataclass(frozen=True, slots=True)
class InstanceQuality:
    """The quality over a set of pictures, 0..1; papers print it times 100.

    imq  instance matting quality by metric
    mq   its matting part by metric
    rq   its recognition part
    """

    imq: dict[str, float]
    mq: dict[str, float]
    rq: float


def match_instances(
    predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], metrics: Sequence[str] = METRICS
) -> Matches:
    """Match the instances of one picture so that the sum of IoU is largest.

    Each instance is an (H, W) float32 alpha in [0, 1]. Instances are binarised at alpha > 0, as in the source; so a
    faint haze over the picture ruins the IoU.
    """
    similarity = dict.fromkeys(metrics, 0.0)
    true_positives = 0
    if len(predictions) and len(truths):
        iou = np.array([[_iou(p, t) for t in truths] for p in predictions])
        for i, j in _best_pairs(iou):
            if iou[i, j] >= _IOU_BAR:
                true_positives += 1
                for name in metrics:
                    similarity[name] += _similarity(name, predictions[i], truths[j], float(iou[i, j]))
    return Matches(true_positives, len(predictions) - true_positives, len(truths) - true_positives, similarity)


def imq(pictures: Iterable[Matches]) -> InstanceQuality:
    """Compute the quality over a set of pictures."""
    matches = list(pictures)
    true_positives = sum(m.true_positives for m in matches)
    size = true_positives + sum(m.false_positives + m.false_negatives for m in matches) / 2 + 1e-6
    names = matches[0].similarity if matches else {}
    sums = {n: sum(m.similarity[n] for m in matches) for n in names}
    return InstanceQuality(
        imq={n: s / size for n, s in sums.items()},
        mq={n: s / max(true_positives, 1) for n, s in sums.items()},
        rq=true_positives / size,
    )


def _best_pairs(score: np.ndarray) -> list[tuple[int, int]]:
    """Assign rows to columns so that the sum is largest (Hungarian algorithm)."""
    from scipy.optimize import linear_sum_assignment  # imported here: nothing else in a matting run needs SciPy

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
    # Divide by the number of pixels plus one, as the source does. All four errors are means here.
    mean = error / (np.count_nonzero(union) + 1)
    return float(1 - min(_WEIGHT * mean, 1))
