"""Select one of the masks that the segmenter offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.geometry import Box
from mam_video.models.base import Candidates
from mam_video.tracking.mask_ops import box_of_logits, keep_supported, mask_iou
from mam_video.tracking.types import Prediction


@dataclass(frozen=True, slots=True)
class Selection:
    """A mask of a frame.

    logits   (m, m) over the crop's square; above 0 is subject
    box      tight, frame pixels; None where the mask is empty
    score    the segmenter's own, 0..1
    overlap  IoU with the predicted mask, 0..1; 1 where there is none
    """

    logits: np.ndarray = field(repr=False)
    box: Box | None
    score: float
    overlap: float = 1.0


def select(offered: Candidates, predicted: np.ndarray, prediction: Prediction, crop: Crop, speck: float) -> Selection:
    """Select by score, overlap with the predicted mask and agreement with the box filter together.

    Source: the idea of SAMURAI (arXiv 2411.11922); it needs no training. Parts that neither touch the predicted mask
    nor lie in the query box are removed. `predicted` is (m, m) float32 logits; the selection's are float16.
    """
    best, best_value = None, -1.0
    for logits, score in zip(offered.logits, offered.scores, strict=True):
        logits = keep_supported(logits, predicted, crop.to_view(prediction.query_box), crop.size)
        box = box_of_logits(logits, crop, speck)
        overlap = mask_iou(logits > 0, predicted > 0)
        value = 0.4 * float(score) + 0.4 * overlap + (0.2 * box.iou(prediction.expected) if box else 0.0)
        if best is None or value > best_value:
            best, best_value = Selection(logits, box, float(score), overlap), value
    assert best is not None
    return Selection(best.logits.astype(np.float16), best.box, best.score, best.overlap)


def select_prompted(answers: Sequence[Candidates], prompted: Box | None, crop: Crop, speck: float) -> Selection:
    """Select the mask for a prompt: by score and, where a box was given, by agreement with it. float16 logits."""
    masks = np.concatenate([answer.logits for answer in answers])
    scores = np.concatenate([answer.scores for answer in answers])
    values = []
    for logits, score in zip(masks, scores, strict=True):
        box = box_of_logits(logits, crop, speck)
        values.append(float(score) + (0.5 * prompted.iou(box) if prompted and box else 0.0))
    best = int(np.argmax(values))
    logits = masks[best].astype(np.float16)
    return Selection(logits, box_of_logits(logits.astype(np.float32), crop, speck), float(scores[best]))
