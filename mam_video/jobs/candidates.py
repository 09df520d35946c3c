"""Find what could be matted in a picture: ask the model at many places, keep answers that it confirms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import cv2
import numpy as np
import torch

from mam_video.core.crop import Crop
from mam_video.core.geometry import Box, box_of_mask
from mam_video.matting.still import view_prompt
from mam_video.models.base import Embedding, Model
from mam_video.prompts.prompt import Prompt

MOST: Final = 9
_GRIDS: Final = ((2, 3, 0.72), (3, 5, 0.42))  # rows, columns and height of the query boxes, of the picture's
_PARTS: Final = 2  # separate parts of a mask that are queried again
_SMALLEST, _LARGEST = 0.003, 0.7  # of the picture's area
_AGREE: Final = 0.7  # IoU of a mask and of the one that its own box gives
_STABLE: Final = 0.75  # IoU of the mask cut lower and higher
_CUT: Final = 1.0  # logits by which it is
_FILLS: Final = 0.3  # of its own box, at least
_SAME_BOX: Final = 0.75  # IoU of two boxes, likewise
_SAME: Final = 0.35  # IoU or share of the smaller one, above which two masks are of one thing
_EDGE: Final = 0.9  # of the picture's width or height: what spans more of both is background


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that can be matted.

    box    around it, in frame pixels, whole numbers
    mask   (H, W) bool
    score  how well the model's answers agree, 0..1
    """

    box: Box
    mask: np.ndarray = field(repr=False)
    score: float

    @property
    def area(self) -> float:
        """Its share of the picture, 0..1."""
        return float(self.mask.mean())


@torch.inference_mode()
def find_candidates(model: Model, picture: np.ndarray, most: int = MOST) -> list[Candidate]:
    """Find what can be matted in a picture, the best first.

    The model is queried with boxes on a coarse grid, then again with the box of each mask. Masks that repeat
    themselves, do not depend on where the mask is cut, and do not overlap better ones are kept.

    Args:
        model: any; see `mam_video.models.registry.load_model`.
        picture: (H, W, 3) uint8 RGB.
        most: how many to return at most.
    """
    size = (picture.shape[0], picture.shape[1])
    view = Crop.whole(size, model.view_size)
    embedding = model.embed([view.cut(picture)])
    found: list[Candidate] = []
    for box in _query_boxes(size):
        x, y = (int(v) for v in box.centre)
        if any(each.mask[y, x] for each in found):
            continue  # what is there is known
        logits = _answer(model, embedding, view, box)
        for part in () if logits is None else _parts(logits > 0):
            around = _box_of(part)
            if around is None or any(around.iou(each.box) > _SAME_BOX for each in found):
                continue
            answer = _confirmed(model, embedding, view, part, around)
            if answer is not None:
                found.append(answer)
    kept: list[Candidate] = []
    for each in sorted(found, key=lambda one: one.score * one.area**0.15, reverse=True):
        if all(_overlap(each.mask, other.mask) < _SAME for other in kept):
            kept.append(each)
    return kept[:most]


def _query_boxes(size: tuple[int, int]) -> Iterator[Box]:
    """Boxes all over the picture, the large ones first; columns are made rows where the picture stands upright."""
    h, w = size
    for rows, columns, share in _GRIDS:
        if h > w:
            rows, columns = columns, rows
        height, width = share * h, min(share * min(h, w), w) if h <= w else share * w
        height = height if h <= w else min(share * min(h, w), h)
        for y in np.linspace(0, h - height, rows):
            for x in np.linspace(0, w - width, columns):
                yield Box(float(x), float(y), float(x + width), float(y + height))


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    """The largest separate parts of a mask, (H, W) bool each."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = facts[1:count, cv2.CC_STAT_AREA]
    order = np.argsort(-areas, kind="stable")[:_PARTS]
    return [labels == k + 1 for k in order if areas[k] >= _SMALLEST * mask.size]


def _confirmed(model: Model, embedding: Embedding, view: Crop, part: np.ndarray, box: Box) -> Candidate | None:
    """Ask with the box of an answer; None where the new answer differs or cannot be a subject."""
    if not _plausible(part, box):
        return None
    logits = _answer(model, embedding, view, box)
    if logits is None:
        return None
    mask = logits > 0
    final = _box_of(mask)
    if final is None or not _plausible(mask, final):
        return None
    agree, stable = _iou(part, mask), _iou(logits > _CUT, logits > -_CUT)
    if agree < _AGREE or stable < _STABLE:
        return None
    return Candidate(final, mask, agree * stable)


def _answer(model: Model, embedding: Embedding, view: Crop, box: Box) -> np.ndarray | None:
    """The best mask for a box, as logits of the frame's size (H, W) float32."""
    offered = model.segment(embedding, 0, replace(view_prompt(Prompt(box), view), prompted=False))
    if not len(offered.scores):
        return None
    logits = torch.from_numpy(offered.logits[int(offered.scores.argmax())].astype(np.float32))
    return view.to_rectangle(logits[None, None])[0, 0].numpy()  # the view is the whole picture


def _plausible(mask: np.ndarray, box: Box) -> bool:
    """Whether a mask with this box can be a subject: not too small, not the background."""
    h, w = mask.shape
    whole = box.width > _EDGE * w and box.height > _EDGE * h
    return _SMALLEST <= float(mask.mean()) <= _LARGEST and not whole and mask.sum() >= _FILLS * box.area


def _box_of(mask: np.ndarray) -> Box | None:
    return box_of_mask(mask.astype(np.float32))


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The share of the smaller mask that lies in the other."""
    both = int((a & b).sum())
    return both / max(min(int(a.sum()), int(b.sum())), 1)
