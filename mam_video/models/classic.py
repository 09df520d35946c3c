"""The classic model: no weights, no training beforehand. It learns the subject's look from the prompted frame alone.

A baseline that a learned model must beat, and a choice of its own for clips where the subject's colours, textures or
motion differ from what is around it.

*Segment.* Each cell of the mask is described by colour and texture at three scales. A kernel logistic regression
(random Fourier features, Rahimi and Recht, NIPS 2007; a few Newton steps) tells the subject's cells from the
background's. On the prompted frame it is started by the box, in rounds that label, learn and label again, as GrabCut
does with its colour mixtures (Rother et al., SIGGRAPH 2004). Later frames are judged by a regression that was learned
on the reference frames: the prompted one, which never fades, and recent confident ones. To its answer come the
distance to the moved mask, and whether a cell moves like the subject or like the ground; all is smoothed along the
picture's edges, by mean-field steps whose pairwise term is a guided filter (He et al., PAMI 2013).

*Score.* How well the prompted frame's regression, which no later frame has taught, agrees with the mask: inside it and
in a ring around it.

*Matte.* The band around the mask's edge is refined into soft alpha with the picture as guide.

GrabCut itself was measured first and left out: started by the true box its mean IoU is 0.59 on single frames of
the development clips where this has 0.67, and it collapses where the subject fills little of its box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from mam_video.core.geometry import Box, mask_bounds
from mam_video.core.guided_filter import filter_by_colour, filter_by_grey
from mam_video.models.base import Candidates, Embedding, Reference, ViewPrompt

_SIZE = 512  # side of the view
_MASK = 256  # of the mask
_STEP = 2  # mask cells a cell of the features: the regression's grid
_WAVES = 160  # random Fourier features
_SAMPLES = 1500  # cells that a regression learns from, of each frame
_SOFT = 5  # radius of the filter that softens the edge, in view pixels
_AWAY = -8.0  # logit of what is surely background

# How much each voice counts, in logits. Lightly swept on the development clips; the motion's matters most.
_LOOK = 0.7  # what the regression says, which itself stays within 4
_GOING = 1.0  # what the motion says, within 2
_MIDDLE = 0.6  # on the prompted frame: the subject is rather in the middle of its box
_DEEP, _FAR = 3.0, 8.0  # at most for a place deep inside the moved mask, and against one far outside
_REACH = 0.06  # one logit of distance, in square roots of the mask's area
_RECENT = 0.4  # all recent references together, against 1 for the prompted frame
_ROUNDS = 4


@dataclass(slots=True)
class _Picture:
    """One picture of a batch.

    rgb    (h, w, 3) uint8, as given
    small  (h/2, w/2, 3) uint8, at the mask's resolution
    waves  (rows, columns, _WAVES) float32, the random features of each cell of the regression's grid
    """

    rgb: np.ndarray
    small: np.ndarray
    waves: np.ndarray


class ClassicModel:
    """See the module's text. On the CPU, whatever the device; deterministic."""

    references = 3
    motion = True

    def __init__(self) -> None:
        self.name = "classic"
        self.view_size = _SIZE
        self.mask_size = _MASK
        self.weights: dict[str, str] = {}
        self._anchor: tuple[Reference, np.ndarray] | None = None
        self._cached: tuple[tuple[int, ...], tuple[Reference, ...], np.ndarray] | None = None

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        h, w = pictures[0].shape[:2]
        if any(p.shape[:2] != (h, w) for p in pictures):
            raise ValueError("pictures of one batch differ in size")
        return Embedding(len(pictures), (h, w), [_prepared(p) for p in pictures])

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        picture: _Picture = embedding.data[index]
        rows, columns = picture.small.shape[:2]
        shrink = _MASK / _SIZE
        box = _scaled(prompt.box, shrink) if prompt.box is not None else Box(0, 0, columns, rows)
        seeds = _seeds(prompt.points * shrink, prompt.labels, (rows, columns))
        apart = prompt.motion[:rows, :columns] * np.float32(shrink) if prompt.motion is not None else None
        if prompt.logits is None:
            unary = _begin(picture, box, seeds, apart)
            first = _learn_from((Reference(embedding, index, _laid(unary), True),))
            score = _score(unary > 0, _judged(picture, first))
        else:
            moved = np.ascontiguousarray(prompt.logits[:rows, :columns])
            model, anchor = self._learned(prompt.references), self._anchor_of(prompt.references)
            unary, score = _go_on(picture, moved, model, anchor, apart)
        return Candidates(_laid(unary)[None], np.array([score], np.float32))

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        alphas = np.zeros((embedding.count, 1, _SIZE, _SIZE), np.float32)
        h, w = embedding.content
        for alpha, picture, mask in zip(alphas, embedding.data, logits, strict=True):
            fine = cv2.resize(mask.astype(np.float32), (_SIZE, _SIZE), interpolation=cv2.INTER_LINEAR)[:h, :w]
            alpha[0, :h, :w] = _soft(picture.rgb, fine)
        return torch.from_numpy(alphas)

    def _learned(self, references: tuple[Reference, ...]) -> np.ndarray | None:
        """The regression of these references: kept, since they change only every few frames. A memo, not a state."""
        if not references:
            return None
        key = tuple(id(r) for r in references)
        if self._cached is None or self._cached[0] != key:
            self._cached = key, references, _learn_from(references)
        return self._cached[2]

    def _anchor_of(self, references: tuple[Reference, ...]) -> np.ndarray | None:
        """The regression of the prompted frame alone, which the score is taken from."""
        prompted = tuple(r for r in references if r.prompted)
        if not prompted:
            return None
        if self._anchor is None or self._anchor[0] is not prompted[0]:
            self._anchor = prompted[0], _learn_from(prompted)
        return self._anchor[1]


# What a cell looks like


def _random_waves() -> tuple[np.ndarray, np.ndarray]:
    # RandomState, since its stream is promised never to change.
    draw = np.random.RandomState(1)
    return draw.randn(12, _WAVES).astype(np.float32) * np.float32(0.5), (draw.rand(_WAVES) * 2 * np.pi).astype(
        np.float32
    )


_DIRECTIONS, _PHASES = _random_waves()


def _prepared(rgb: np.ndarray) -> _Picture:
    h, w = rgb.shape[:2]
    small = cv2.resize(rgb, (max(-(-w // 2), 1), max(-(-h // 2), 1)), interpolation=cv2.INTER_AREA)
    described = _description(small)[::_STEP, ::_STEP]
    waves = np.cos(described.reshape(-1, described.shape[2]) @ _DIRECTIONS + _PHASES)
    waves *= np.float32(4 * np.sqrt(2 / _WAVES))
    return _Picture(rgb, small, waves.reshape(*described.shape[:2], _WAVES))


def _description(rgb: np.ndarray) -> np.ndarray:
    """(h, w, 12) float32: Lab at three scales, and the strength and direction of texture."""
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab *= np.array([0.5, 1, 1], np.float32) / np.float32(15)
    near, far = cv2.GaussianBlur(lab, (0, 0), 2), cv2.GaussianBlur(lab, (0, 0), 6)
    light = np.ascontiguousarray(lab[..., 0])
    mean = cv2.GaussianBlur(light, (0, 0), 3)
    rough = np.sqrt(np.maximum(cv2.GaussianBlur(light * light, (0, 0), 3) - mean * mean, 0))
    upright = cv2.GaussianBlur(np.abs(cv2.Sobel(light, -1, 1, 0)), (0, 0), 3) / 4
    level = cv2.GaussianBlur(np.abs(cv2.Sobel(light, -1, 0, 1)), (0, 0), 3) / 4
    return np.dstack([lab * 0.7, near, far * 0.7, rough * 2, upright * 2, level * 2]).astype(np.float32)


# Learning to tell subject from background


def _learn(
    waves: np.ndarray, subject: np.ndarray, weights: np.ndarray, ridge: float = 0.3, steps: int = 3
) -> np.ndarray:
    """Weighted logistic regression by Newton's method.

    Args: waves (n, d) float32; subject (n,) in [0, 1]; weights (n,), any scale.
    Returns: (d + 1,) float32, the offset last.
    """
    n, d = waves.shape
    inputs = np.hstack([waves, np.ones((n, 1), np.float32)])
    weights = (weights / weights.mean()).astype(np.float32)
    found = np.zeros(d + 1, np.float32)
    for _ in range(steps):
        linear = np.clip(inputs @ found, -6, 6)
        chance = 1 / (1 + np.exp(-linear))
        spread = np.maximum(chance * (1 - chance), np.float32(1e-2))
        target = linear + (subject - chance) / spread
        weighted = inputs * (weights * spread)[:, None]
        normal = (weighted.T @ inputs).astype(np.float64)
        normal[np.diag_indices_from(normal)] += ridge * n / 1000
        found = np.linalg.solve(normal, (weighted.T @ target).astype(np.float64)).astype(np.float32)
    return found


def _judged(picture: _Picture, model: np.ndarray) -> np.ndarray:
    """What the regression says of each mask cell: (rows, columns) float32 logits, within 4 of zero."""
    h, w = picture.small.shape[:2]
    coarse = picture.waves @ model[:-1] + model[-1]
    return np.clip(_enlarged(coarse, (h, w)), -4, 4)


def _enlarged(coarse: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """From the regression's grid, whose cell (i, j) is mask cell (2i, 2j), to the mask's."""
    h, w = size
    y, x = np.mgrid[:h, :w].astype(np.float32) / _STEP
    return np.asarray(cv2.remap(coarse, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _learn_from(references: tuple[Reference, ...]) -> np.ndarray:
    """A regression from reference frames; the prompted one counts as much as all recent ones."""
    waves, subject, weights = [], [], []
    recent = max(sum(not r.prompted for r in references), 1)
    for reference in references:
        picture: _Picture = reference.embedding.data[reference.index]
        rows, columns = picture.waves.shape[:2]
        logits = reference.logits[::_STEP, ::_STEP][:rows, :columns].ravel()
        chance = 1 / (1 + np.exp(-np.clip(logits, -6, 6)))
        inside = chance > 0.5
        sure = np.abs(2 * chance - 1)
        for side in (inside, ~inside):
            picked = np.flatnonzero(side)
            picked = picked[:: max(len(picked) * 2 // _SAMPLES, 1)]
            if len(picked) == 0:
                continue
            waves.append(picture.waves.reshape(-1, _WAVES)[picked])
            subject.append(chance[picked])
            share = 1.0 if reference.prompted else _RECENT / recent
            weights.append(share * sure[picked] / max(sure[picked].sum(), 1e-6))
    return _learn(np.concatenate(waves), np.concatenate(subject), np.concatenate(weights))


# The two questions: where is it to begin with, and where is it now


def _begin(picture: _Picture, box: Box, seeds: np.ndarray, apart: np.ndarray | None) -> np.ndarray:
    """The prompted frame: label, learn, label again, from the box inwards. Returns logits (rows, columns)."""
    h, w = picture.small.shape[:2]
    inside = _inside(box, (h, w))
    cx, cy = box.centre
    y, x = np.mgrid[:h, :w].astype(np.float32) + np.float32(0.5)
    away = np.hypot((x - cx) / (box.width / 2), (y - cy) / (box.height / 2))
    middle = np.where(inside, 1.5 - 1.5 * away * away, -6).astype(np.float32)
    unary = middle + seeds
    taught = inside[::_STEP, ::_STEP].ravel()
    weights = np.where(taught, 1 / max(taught.sum(), 1), 1 / max((~taught).sum(), 1)).astype(np.float32)
    waves = picture.waves.reshape(-1, _WAVES)
    stride = max(waves.shape[0] // (2 * _SAMPLES), 1)
    for _ in range(_ROUNDS):
        going = _going(apart, unary > 0, ~inside) * _GOING if apart is not None else 0.0
        chance = 1 / (1 + np.exp(-unary[::_STEP, ::_STEP].ravel()))
        chance = np.where(taught, chance, 0).astype(np.float32)
        model = _learn(waves[::stride], chance[::stride], weights[::stride])
        unary = _smoothed(picture.small, _judged(picture, model) + _MIDDLE * middle + seeds + going)
        unary[~inside] = -6
        unary = np.where(seeds != 0, seeds, unary)
    return unary


def _going(apart: np.ndarray, held: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """How much more each cell moves like the subject than like the ground: logits within 2 of zero.

    `apart` is the motion apart from the camera (h, w, 2); `held` the cells taken for the subject. A subject that rests
    gives zeros.
    """
    if not held.any():
        return np.zeros(held.shape, np.float32)
    own = np.median(apart[held], axis=0)
    noise = np.median(np.hypot(apart[outside][:, 0], apart[outside][:, 1])) if outside.any() else 0.0
    scale = np.float32(max(2 * float(noise), 0.25 * float(np.hypot(*own)), 0.5) ** 2)
    nearer = np.square(apart).sum(2) - np.square(apart - own).sum(2)
    return np.asarray(np.clip(nearer / (2 * scale), -2, 2), np.float32)


def _go_on(
    picture: _Picture,
    moved: np.ndarray,
    model: np.ndarray | None,
    anchor: np.ndarray | None,
    apart: np.ndarray | None,
) -> tuple[np.ndarray, float]:
    """A later frame. Returns logits (rows, columns) and the score."""
    mask = moved > 0
    look = _judged(picture, model) if model is not None else np.zeros_like(moved)
    reach = max(_REACH * float(np.sqrt(np.count_nonzero(mask))), 2.0)
    place = np.clip(_signed_distance(mask) / np.float32(reach), -_FAR, _DEEP)
    unary = _LOOK * look + place
    if apart is not None:
        beyond = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
        unary = unary + _GOING * _going(apart, mask, beyond)
    unary = _smoothed(picture.small, unary)
    return unary, _score(unary > 0, _judged(picture, anchor) if anchor is not None else look)


def _score(found: np.ndarray, look: np.ndarray) -> float:
    """Mean of two shares: of the mask that the regression calls subject, of the ring around it that it calls ground."""
    if not found.any():
        return 0.0
    width = max(int(0.15 * np.sqrt(np.count_nonzero(found))), 3)
    grown = cv2.dilate(found.astype(np.uint8), np.ones((2 * width + 1, 2 * width + 1), np.uint8)) > 0
    ring = grown & ~found
    inside = float((look[found] > 0).mean())
    outside = float((look[ring] < 0).mean()) if ring.any() else 1.0
    return (inside + outside) / 2


def _laid(unary: np.ndarray) -> np.ndarray:
    """Logits (rows, columns) in the mask's square; the padding is background."""
    logits = np.full((_MASK, _MASK), _AWAY, np.float32)
    logits[: unary.shape[0], : unary.shape[1]] = unary
    return logits


def _inside(box: Box, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool: cells whose centre lies in the box."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return np.asarray((x >= box.x0) & (x < box.x1) & (y >= box.y0) & (y < box.y1))


def _scaled(box: Box, factor: float) -> Box:
    return Box(*(v * factor for v in box.xyxy))


def _seeds(points: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) float32: sure logits in a small disc around each point, zero elsewhere."""
    seeds = np.zeros(size, np.float32)
    for (x, y), label in zip(points, labels, strict=True):
        cv2.circle(seeds, (int(x), int(y)), 3, 6.0 if label else -6.0, -1)
    return seeds


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance to the mask's edge in cells, positive inside."""
    if not mask.any():
        return np.full(mask.shape, -1e3, np.float32)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    if mask.all():
        return np.full(mask.shape, 1e3, np.float32)
    within = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(within - outside, np.float32)


# Along the picture's edges


def _smoothed(rgb: np.ndarray, unary: np.ndarray, steps: int = 6, strength: float = 6.0) -> np.ndarray:
    """Mean-field steps: each cell listens to those around it that look alike, through a guided filter."""
    guide = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / np.float32(255)
    unary = unary.astype(np.float32)
    belief = np.tanh(unary / 2)
    for _ in range(steps):
        joined = unary + np.float32(strength) * filter_by_grey(guide, belief, 6, 1e-3)
        belief = np.tanh(joined / 2)
    return np.asarray(joined)


def _soft(rgb: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Alpha (h, w) float32 in [0, 1] of a picture (h, w, 3) from logits of its size.

    The guided filter with the picture's colours as guide: within a window, alpha is the linear function of the colour
    that fits the mask best. Only the box around the edge is worked on. Mean error around the edge, over the
    development pictures with alpha, from the true mask: 0.036; with a grey guide 0.046; of the mask itself 0.063.
    """
    mask = (logits > 0).astype(np.float32)
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    bounds = mask_bounds(edge)
    if bounds is None:
        return mask
    x0, y0, x1, y1 = bounds
    reach = 4 * _SOFT + 1  # beyond it the filter changes nothing
    h, w = mask.shape
    part = (
        slice(max(y0 - reach, 0), min(y1 + reach, h)),
        slice(max(x0 - reach, 0), min(x1 + reach, w)),
    )
    mask[part] = np.clip(filter_by_colour(rgb[part], mask[part], _SOFT, 1e-4), 0, 1)
    return mask
