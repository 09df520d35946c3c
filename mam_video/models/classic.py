"""The classic model: it has no weights and learns the subject's appearance from the prompted frame alone.

It is a baseline that a learned model must beat. It also suits clips where the subject's colours, textures or motion
differ from its surroundings.

*Segment.* Colour and texture at three scales describe each cell of the mask. A kernel logistic regression (random
Fourier features, Rahimi and Recht, NIPS 2007; a few Newton steps) separates the subject's cells from the background's.
On the prompted frame the box starts it, in rounds that label, learn and label again, as GrabCut does with its colour
mixtures (Rother et al., SIGGRAPH 2004). On later frames the regression is learned from the reference frames: the
prompted one, which is never dropped, and recent confident ones. Two terms are added: the distance to the warped mask,
and whether a cell moves like the subject or like the background. Mean-field steps smooth the sum along the picture's
edges; their pairwise term is a guided filter (He et al., PAMI 2013).

*Score.* The agreement of the mask with the regression of the prompted frame, inside the mask and in a ring around it.
That regression learns from no later frame.

*Matte.* A guided filter refines the band around the mask's edge into soft alpha.

GrabCut itself was measured first and rejected. From the true box its mean IoU is 0.59 on single frames of the
development clips, and 0.67 here. It collapses where the subject fills only a small part of its box.
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

_SIZE = 512  # side of the crop, pixels
_MASK = 256  # side of the mask, cells
_STEP = 2  # mask cells per cell of the regression's grid
_FEATURES = 160  # number of random Fourier features
_SAMPLES = 1500  # cells of each frame that a regression learns from
_FILTER_RADIUS = 5  # radius of the guided filter that makes the alpha, in crop pixels
_BACKGROUND_LOGIT = -8.0  # logit of certain background

# Weights of the terms, in logits. Tuned coarsely on the development clips; the motion term matters most.
_APPEARANCE_WEIGHT = 0.7  # of the regression, whose logits lie within 4 of zero
_MOTION_WEIGHT = 1.0  # of the motion, whose logits lie within 2 of zero
_CENTRE_WEIGHT = 0.6  # on the prompted frame, of the prior for the middle of the box
_INSIDE_LIMIT, _OUTSIDE_LIMIT = 3.0, 8.0  # largest logit deep inside the warped mask, and far outside it (negative)
_DISTANCE_SCALE = 0.06  # distance worth one logit, in square roots of the mask's area
_RECENT_WEIGHT = 0.4  # weight of all recent references together; the prompted frame has 1
_ROUNDS = 4  # of labelling and learning on the prompted frame


@dataclass(slots=True)
class _Picture:
    """One picture of a batch.

    rgb    (h, w, 3) uint8, the input
    small  (h/2, w/2, 3) uint8, at the mask's resolution
    waves  (rows, columns, _FEATURES) float32, the random features of each cell of the regression's grid
    """

    rgb: np.ndarray
    small: np.ndarray
    waves: np.ndarray


class ClassicModel:
    """The classic model; see the module docstring. It always runs on the CPU and is deterministic."""

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
        return Embedding(len(pictures), (h, w), [_prepare(p) for p in pictures])

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        picture: _Picture = embedding.data[index]
        rows, columns = picture.small.shape[:2]
        shrink = _MASK / _SIZE
        box = _scaled(prompt.box, shrink) if prompt.box is not None else Box(0, 0, columns, rows)
        seeds = _seeds(prompt.points * shrink, prompt.labels, (rows, columns))
        motion = prompt.motion[:rows, :columns] * np.float32(shrink) if prompt.motion is not None else None
        if prompt.logits is None:
            unary = _initialise(picture, box, seeds, motion)
            first = _learn_from((Reference(embedding, index, _in_square(unary), True),))
            score = _score(unary > 0, _appearance_logits(picture, first))
        else:
            moved = np.ascontiguousarray(prompt.logits[:rows, :columns])
            model, anchor = self._regression(prompt.references), self._anchor_regression(prompt.references)
            unary, score = _update(picture, moved, model, anchor, motion)
        return Candidates(_in_square(unary)[None], np.array([score], np.float32))

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        alphas = np.zeros((embedding.count, 1, _SIZE, _SIZE), np.float32)
        h, w = embedding.content
        for alpha, picture, mask in zip(alphas, embedding.data, logits, strict=True):
            fine = cv2.resize(mask.astype(np.float32), (_SIZE, _SIZE), interpolation=cv2.INTER_LINEAR)[:h, :w]
            alpha[0, :h, :w] = _soft(picture.rgb, fine)
        return torch.from_numpy(alphas)

    def _regression(self, references: tuple[Reference, ...]) -> np.ndarray | None:
        """Return the regression of these references. It is cached, since they change only every few frames."""
        if not references:
            return None
        key = tuple(id(r) for r in references)
        if self._cached is None or self._cached[0] != key:
            self._cached = key, references, _learn_from(references)
        return self._cached[2]

    def _anchor_regression(self, references: tuple[Reference, ...]) -> np.ndarray | None:
        """Return the regression of the prompted frame alone; the score is computed from it."""
        prompted = tuple(r for r in references if r.prompted)
        if not prompted:
            return None
        if self._anchor is None or self._anchor[0] is not prompted[0]:
            self._anchor = prompted[0], _learn_from(prompted)
        return self._anchor[1]


# Features of a cell


def _random_waves() -> tuple[np.ndarray, np.ndarray]:
    # RandomState guarantees that its stream never changes.
    draw = np.random.RandomState(1)
    return draw.randn(12, _FEATURES).astype(np.float32) * np.float32(0.5), (draw.rand(_FEATURES) * 2 * np.pi).astype(
        np.float32
    )


_DIRECTIONS, _PHASES = _random_waves()


def _prepare(rgb: np.ndarray) -> _Picture:
    h, w = rgb.shape[:2]
    small = cv2.resize(rgb, (max(-(-w // 2), 1), max(-(-h // 2), 1)), interpolation=cv2.INTER_AREA)
    described = _description(small)[::_STEP, ::_STEP]
    waves = np.cos(described.reshape(-1, described.shape[2]) @ _DIRECTIONS + _PHASES)
    waves *= np.float32(4 * np.sqrt(2 / _FEATURES))
    return _Picture(rgb, small, waves.reshape(*described.shape[:2], _FEATURES))


def _description(rgb: np.ndarray) -> np.ndarray:
    """Describe each pixel by Lab at three scales and by strength and direction of texture: (h, w, 12) float32."""
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab *= np.array([0.5, 1, 1], np.float32) / np.float32(15)
    near, far = cv2.GaussianBlur(lab, (0, 0), 2), cv2.GaussianBlur(lab, (0, 0), 6)
    light = np.ascontiguousarray(lab[..., 0])
    mean = cv2.GaussianBlur(light, (0, 0), 3)
    rough = np.sqrt(np.maximum(cv2.GaussianBlur(light * light, (0, 0), 3) - mean * mean, 0))
    upright = cv2.GaussianBlur(np.abs(cv2.Sobel(light, -1, 1, 0)), (0, 0), 3) / 4
    level = cv2.GaussianBlur(np.abs(cv2.Sobel(light, -1, 0, 1)), (0, 0), 3) / 4
    return np.dstack([lab * 0.7, near, far * 0.7, rough * 2, upright * 2, level * 2]).astype(np.float32)


# Learn to separate subject and background


def _learn(
    waves: np.ndarray, subject: np.ndarray, weights: np.ndarray, ridge: float = 0.3, steps: int = 3
) -> np.ndarray:
    """Fit a weighted logistic regression by Newton's method.

    Args: waves (n, d) float32; subject (n,) in [0, 1]; weights (n,), any scale.
    Returns: (d + 1,) float32, the offset last.
    """
    n, d = waves.shape
    inputs = np.hstack([waves, np.ones((n, 1), np.float32)])
    weights = (weights / weights.mean()).astype(np.float32)
    result = np.zeros(d + 1, np.float32)
    for _ in range(steps):
        linear = np.clip(inputs @ result, -6, 6)
        probability = 1 / (1 + np.exp(-linear))
        spread = np.maximum(probability * (1 - probability), np.float32(1e-2))
        target = linear + (subject - probability) / spread
        weighted = inputs * (weights * spread)[:, None]
        normal = (weighted.T @ inputs).astype(np.float64)
        normal[np.diag_indices_from(normal)] += ridge * n / 1000
        result = np.linalg.solve(normal, (weighted.T @ target).astype(np.float64)).astype(np.float32)
    return result


def _appearance_logits(picture: _Picture, model: np.ndarray) -> np.ndarray:
    """Apply a regression to each mask cell: (rows, columns) float32 logits, within 4 of zero."""
    h, w = picture.small.shape[:2]
    coarse = picture.waves @ model[:-1] + model[-1]
    return np.clip(_enlarged(coarse, (h, w)), -4, 4)


def _enlarged(coarse: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge from the regression's grid to the mask's. Grid cell (i, j) is mask cell (2i, 2j)."""
    h, w = size
    y, x = np.mgrid[:h, :w].astype(np.float32) / _STEP
    return np.asarray(cv2.remap(coarse, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _learn_from(references: tuple[Reference, ...]) -> np.ndarray:
    """Learn a regression from reference frames. The prompted one weighs 1, all recent ones together 0.4."""
    waves, subject, weights = [], [], []
    recent = max(sum(not r.prompted for r in references), 1)
    for reference in references:
        picture: _Picture = reference.embedding.data[reference.index]
        rows, columns = picture.waves.shape[:2]
        logits = reference.logits[::_STEP, ::_STEP][:rows, :columns].ravel()
        probability = 1 / (1 + np.exp(-np.clip(logits, -6, 6)))
        inside = probability > 0.5
        certainty = np.abs(2 * probability - 1)
        for side in (inside, ~inside):
            samples = np.flatnonzero(side)
            samples = samples[:: max(len(samples) * 2 // _SAMPLES, 1)]
            if len(samples) == 0:
                continue
            waves.append(picture.waves.reshape(-1, _FEATURES)[samples])
            subject.append(probability[samples])
            share = 1.0 if reference.prompted else _RECENT_WEIGHT / recent
            weights.append(share * certainty[samples] / max(certainty[samples].sum(), 1e-6))
    return _learn(np.concatenate(waves), np.concatenate(subject), np.concatenate(weights))


# The unary term on the prompted frame and on later frames


def _initialise(picture: _Picture, box: Box, seeds: np.ndarray, motion: np.ndarray | None) -> np.ndarray:
    """Segment the prompted frame: label, learn and label again, inside the box. Returns logits (rows, columns)."""
    h, w = picture.small.shape[:2]
    inside = _inside(box, (h, w))
    cx, cy = box.centre
    y, x = np.mgrid[:h, :w].astype(np.float32) + np.float32(0.5)
    distance = np.hypot((x - cx) / (box.width / 2), (y - cy) / (box.height / 2))
    centre_prior = np.where(inside, 1.5 - 1.5 * distance * distance, -6).astype(np.float32)
    unary = centre_prior + seeds
    trainable = inside[::_STEP, ::_STEP].ravel()
    weights = np.where(trainable, 1 / max(trainable.sum(), 1), 1 / max((~trainable).sum(), 1)).astype(np.float32)
    waves = picture.waves.reshape(-1, _FEATURES)
    stride = max(waves.shape[0] // (2 * _SAMPLES), 1)
    for _ in range(_ROUNDS):
        motion_logits = _motion_logits(motion, unary > 0, ~inside) * _MOTION_WEIGHT if motion is not None else 0.0
        probability = 1 / (1 + np.exp(-unary[::_STEP, ::_STEP].ravel()))
        probability = np.where(trainable, probability, 0).astype(np.float32)
        model = _learn(waves[::stride], probability[::stride], weights[::stride])
        unary = _smoothed(
            picture.small, _appearance_logits(picture, model) + _CENTRE_WEIGHT * centre_prior + seeds + motion_logits
        )
        unary[~inside] = -6
        unary = np.where(seeds != 0, seeds, unary)
    return unary


def _motion_logits(motion: np.ndarray, subject_cells: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Compare the motion of each cell with that of subject and background: logits within 2 of zero.

    `motion` (h, w, 2) is relative to the camera. `subject_cells` and `outside` (h, w) bool are the current
    subject and background. A subject at rest gives zeros.
    """
    if not subject_cells.any():
        return np.zeros(subject_cells.shape, np.float32)
    subject_motion = np.median(motion[subject_cells], axis=0)
    noise = np.median(np.hypot(motion[outside][:, 0], motion[outside][:, 1])) if outside.any() else 0.0
    scale = np.float32(max(2 * float(noise), 0.25 * float(np.hypot(*subject_motion)), 0.5) ** 2)
    preference = np.square(motion).sum(2) - np.square(motion - subject_motion).sum(2)
    return np.asarray(np.clip(preference / (2 * scale), -2, 2), np.float32)


def _update(
    picture: _Picture,
    moved: np.ndarray,
    model: np.ndarray | None,
    anchor: np.ndarray | None,
    motion: np.ndarray | None,
) -> tuple[np.ndarray, float]:
    """Segment a later frame. Returns logits (rows, columns) and the score."""
    mask = moved > 0
    appearance = _appearance_logits(picture, model) if model is not None else np.zeros_like(moved)
    distance_scale = max(_DISTANCE_SCALE * float(np.sqrt(np.count_nonzero(mask))), 2.0)
    distance_logits = np.clip(_signed_distance(mask) / np.float32(distance_scale), -_OUTSIDE_LIMIT, _INSIDE_LIMIT)
    unary = _APPEARANCE_WEIGHT * appearance + distance_logits
    if motion is not None:
        outside = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
        unary = unary + _MOTION_WEIGHT * _motion_logits(motion, mask, outside)
    unary = _smoothed(picture.small, unary)
    return unary, _score(unary > 0, _appearance_logits(picture, anchor) if anchor is not None else appearance)


def _score(mask: np.ndarray, appearance: np.ndarray) -> float:
    """Average two shares: mask cells that the regression calls subject, and ring cells that it calls background."""
    if not mask.any():
        return 0.0
    width = max(int(0.15 * np.sqrt(np.count_nonzero(mask))), 3)
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((2 * width + 1, 2 * width + 1), np.uint8)) > 0
    ring = grown & ~mask
    inside = float((appearance[mask] > 0).mean())
    outside = float((appearance[ring] < 0).mean()) if ring.any() else 1.0
    return (inside + outside) / 2


def _in_square(unary: np.ndarray) -> np.ndarray:
    """Place logits (rows, columns) in the mask's square. The padding is background."""
    logits = np.full((_MASK, _MASK), _BACKGROUND_LOGIT, np.float32)
    logits[: unary.shape[0], : unary.shape[1]] = unary
    return logits


def _inside(box: Box, size: tuple[int, int]) -> np.ndarray:
    """Mark the cells whose centre lies in the box: (h, w) bool."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return np.asarray((x >= box.x0) & (x < box.x1) & (y >= box.y0) & (y < box.y1))


def _scaled(box: Box, factor: float) -> Box:
    return Box(*(v * factor for v in box.xyxy))


def _seeds(points: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw confident logits in a small disc around each point, zero elsewhere: (h, w) float32."""
    seeds = np.zeros(size, np.float32)
    for (x, y), label in zip(points, labels, strict=True):
        cv2.circle(seeds, (int(x), int(y)), 3, 6.0 if label else -6.0, -1)
    return seeds


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Compute the distance to the mask's edge in cells, positive inside: (h, w) float32."""
    if not mask.any():
        return np.full(mask.shape, -1e3, np.float32)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    if mask.all():
        return np.full(mask.shape, 1e3, np.float32)
    within = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(within - outside, np.float32)


# Smoothing along the picture's edges


def _smoothed(rgb: np.ndarray, unary: np.ndarray, steps: int = 6, strength: float = 6.0) -> np.ndarray:
    """Run mean-field steps: a guided filter pulls each cell towards similar neighbours. Returns logits (h, w)."""
    guide = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / np.float32(255)
    unary = unary.astype(np.float32)
    belief = np.tanh(unary / 2)
    for _ in range(steps):
        logits = unary + np.float32(strength) * filter_by_grey(guide, belief, 6, 1e-3)
        belief = np.tanh(logits / 2)
    return np.asarray(logits)


def _soft(rgb: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Compute alpha (h, w) float32 in [0, 1] of a picture (h, w, 3) from logits of its size.

    A guided filter with the picture's colours as guide: in each window alpha is the linear function of colour that fits
    the mask best. Only the box around the edge is computed. The mean error around the edge is 0.036 from the true mask,
    over the development pictures with alpha. With a grey guide it is 0.046, and for the mask itself 0.063.
    """
    mask = (logits > 0).astype(np.float32)
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    bounds = mask_bounds(edge)
    if bounds is None:
        return mask
    x0, y0, x1, y1 = bounds
    margin = 4 * _FILTER_RADIUS + 1  # the filter changes nothing farther away
    h, w = mask.shape
    part = (
        slice(max(y0 - margin, 0), min(y1 + margin, h)),
        slice(max(x0 - margin, 0), min(x1 + margin, w)),
    )
    mask[part] = np.clip(filter_by_colour(rgb[part], mask[part], _FILTER_RADIUS, 1e-4), 0, 1)
    return mask
