"""Synthetic scenes for the segmenter: three frames of a moving subject, with the inputs that a tracker would give.

A scene is three frames of a real clip, or three crops of one picture. In the latter the whole picture is bent and
moved, or the subject is cut out and moved over another background. A cut-out with a true alpha (hair, fur) is
composited by that alpha. Subjects of other pictures stand beside it (distractors, mostly from the same source) or in
front of it, and poles pass in front of it. Everything is drawn directly at the crop's size.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import cv2
import numpy as np

from mam_video.training.data.pictures import IGNORE, Masked
from mam_video.training.synth.augment import degrade, photographic
from mam_video.training.synth.layers import (
    Layer,
    SceneView,
    attach_alpha,
    bend_picture,
    blend_layers,
    box_of,
    cut_out,
    draw_bend,
    draw_mirrors,
    draw_mixed_move,
    draw_placement,
    draw_pole,
    draw_small_motion,
    grow_box,
    move_box,
    warp_mask,
    warp_picture,
)
from mam_video.training.synth.prompts import draw_points

FRAMES = 3


# Weights of the sources of cut-outs; 1 if not listed. Sources with true soft alpha weigh most.
WEIGHTS = {"rendered": 5.0, "alphamatting_train": 2.0, "am2k_samples": 0.8, "tuxpaint": 1.2}


class Stills:
    """Draws scenes from stills and clips. Seed and number determine a scene."""

    def __init__(
        self,
        items: Sequence[Masked],
        backgrounds: Sequence[np.ndarray],
        size: int,
        seed: int,
        cutouts: Sequence[Masked] = (),
        cutout_share: float = 0.0,
    ) -> None:
        """Set up the sources. `cutout_share` of the scenes from stills show a cut-out, drawn by `WEIGHTS`."""
        self._size, self._seed = size, seed
        self._backgrounds = backgrounds
        self._stills = [m for m in items if m.clip is None]
        self._cutouts = list(cutouts)
        self._cutout_share = cutout_share if cutouts else 0.0
        counts = Counter(m.source for m in cutouts)
        self._cutout_weights = list(accumulate(WEIGHTS.get(m.source, 1.0) / counts[m.source] for m in cutouts))
        self._by_source: dict[str, list[Masked]] = defaultdict(list)
        clips: dict[str, list[Masked]] = defaultdict(list)
        for m in items:
            if m.clip is None:
                self._by_source[m.source].append(m)
            else:
                clips[m.clip].append(m)
        for m in cutouts:
            self._by_source[m.source].append(m)
        self._clips = [frames for frames in clips.values() if len(frames) > 1]

    def scene(self, index: int) -> dict[str, np.ndarray]:
        """Draw scene number `index`. `_arrays` documents the result."""
        attempt = 0
        while True:
            rng = random.Random(f"{self._seed}/{index}/{attempt}")
            scene = self._draw_scene(rng)
            if scene is not None:
                return scene
            attempt += 1

    def _draw_scene(self, rng: random.Random) -> dict[str, np.ndarray] | None:
        if self._clips and rng.random() < 0.3:
            return self._scene_from_clip(rng)
        return self._scene_from_still(rng)

    # ------------------------------------------------------------------------------------------------- real clips
    def _scene_from_clip(self, rng: random.Random) -> dict[str, np.ndarray] | None:
        frames = rng.choice(self._clips)
        chosen = rng.sample(frames, FRAMES) if len(frames) >= FRAMES else [*frames, rng.choice(frames)]
        first = chosen[0]
        subject = rng.choice(first.ids)
        size, flip = self._size, rng.random() < 0.5
        grow, turn = grow_box(rng), rng.gauss(0, 6)
        pictures, masks, unsure, views, boxes = [], [], [], [], []
        box = None
        for i, m in enumerate(chosen):
            mask = (m.mask == subject).astype(np.uint8)
            current_box = box_of(mask)
            if current_box is None:
                # The subject is gone; the tracker keeps its last crop.
                if box is None or rng.random() < 0.7:
                    return None
                current_box = box
            box = current_box
            view = _view(rng, current_box, size, grow, turn, flip, 0.05 if i == 0 else rng.uniform(0.03, 0.2))
            pictures.append(warp_picture(m.picture, view.matrix, size, draw_mirrors(rng, mask)))
            masks.append(warp_mask(mask, view.matrix, size))
            unsure.append(warp_mask((m.mask == IGNORE).astype(np.uint8), view.matrix, size))
            views.append(view)
            boxes.append(current_box)
        moves = []
        for t in range(FRAMES - 1):
            # Approximate the subject's motion by the change of its boxes.
            a, b = boxes[t], boxes[t + 1]
            scale = ((a[2] - a[0]) / (b[2] - b[0]), (a[3] - a[1]) / (b[3] - b[1]))
            back = np.array([[scale[0], 0, a[0] - scale[0] * b[0]], [0, scale[1], a[1] - scale[1] * b[1]]])
            moves.append(draw_mixed_move(rng, views[t], views[t + 1], back, size))
        return _arrays(rng, pictures, masks, unsure, views, moves, size)

    # ------------------------------------------------------------------------------------------------- stills
    def _pick_subject(self, rng: random.Random, pool: Sequence[Masked]) -> Layer:
        m = rng.choice(pool)
        mask = (m.mask == rng.choice(m.ids)).astype(np.uint8)
        unsure = (m.mask == IGNORE).astype(np.uint8) if m.alpha is None else np.zeros_like(mask)
        return Layer(attach_alpha(m), mask, unsure if unsure.any() else None)

    def _scene_from_still(self, rng: random.Random) -> dict[str, np.ndarray] | None:
        size = self._size
        if rng.random() < self._cutout_share:
            m = rng.choices(self._cutouts, cum_weights=self._cutout_weights)[0]
        else:
            m = rng.choice(self._stills)
        mask = (m.mask == rng.choice(m.ids)).astype(np.uint8)
        unsure = (m.mask == IGNORE).astype(np.uint8) if m.alpha is None else np.zeros_like(mask)
        layered = rng.random() < 0.5 or m.alpha is not None
        flip, grow, turn = rng.random() < 0.5, grow_box(rng), rng.gauss(0, 8)
        start = box_of(mask)
        if start is None:
            return None
        extent = max(start[2] - start[0], start[3] - start[1])
        background = self._other_background(rng, m) if layered else None
        others = self._draw_others(rng, m, start, extent, 0.5 if layered else 0.25)
        pole = (rng.randrange(1, FRAMES), self._other_background(rng, m)) if rng.random() < 0.15 else None
        gone = FRAMES - 1 if layered and rng.random() < 0.06 else -1
        agitation = rng.choice([0.3, 1.0, 1.6])
        mirror = draw_mirrors(rng, mask)

        pictures, masks, unknowns, views, motions = [], [], [], [], []
        motion, ground = np.eye(3), np.eye(3)
        picture = attach_alpha(m)
        for t in range(FRAMES):
            if t:
                motion = draw_small_motion(rng, start, agitation) @ motion
                ground = draw_small_motion(rng, start, 0.5 * agitation) @ ground
            bend = draw_bend(rng, mask.shape, max(mask.shape) * rng.uniform(0, 0.03)) if t else None
            p, k, u = (bend_picture(x, bend, i > 0) for i, x in enumerate((picture, mask, unsure)))
            bent_box = box_of(k)
            if bent_box is None:
                return None
            moved_box = move_box(motion, bent_box)
            view = _view(rng, moved_box, size, grow, turn, flip, 0.05 if t == 0 else rng.uniform(0.03, 0.22))
            a = view.matrix @ motion
            truth, unknown = warp_mask(k, a, size), warp_mask(u, a, size)
            if background is not None:
                drawn = warp_picture(background, view.matrix @ ground, size)
                # A cut-out has no mirror image beyond its picture.
                subject, soft = cut_out(warp_picture(p, a, size, mirror and m.alpha is None), truth)
            else:
                drawn, subject, soft = warp_picture(p, a, size, mirror), None, None
            behind = [o for o in others if not o.in_front]
            over = [o for o in others if o.in_front]
            for o in behind:
                drawn, unknown = o.draw(drawn, unknown, view.matrix, t, truth, size)
            if soft is not None and subject is not None and t != gone:
                drawn = blend_layers(drawn, subject, soft)
            if t == gone:
                truth = np.zeros_like(truth)
            for o in over:
                drawn, truth = o.draw_over(drawn, truth, view.matrix, t, size)
            if pole is not None and pole[0] == t:
                drawn, truth = draw_pole(rng, drawn, truth, pole[1], size)
            pictures.append(drawn)
            masks.append(truth)
            unknowns.append(unknown)
            views.append(view)
            motions.append(motion)
        moves = []
        for t in range(FRAMES - 1):
            back = (motions[t] @ np.linalg.inv(motions[t + 1]))[:2]
            moves.append(draw_mixed_move(rng, views[t], views[t + 1], back, size))
        return _arrays(rng, pictures, masks, unknowns, views, moves, size)

    def _other_background(self, rng: random.Random, subject: Masked) -> np.ndarray:
        h, w = subject.mask.shape
        if self._backgrounds and rng.random() < 0.4:
            other = rng.choice(self._backgrounds)
        else:
            other = rng.choice(self._stills).picture
        zoom = rng.uniform(1.0, 1.6) * max(h / other.shape[0], w / other.shape[1])
        full = cv2.resize(other, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
        y, x = rng.randint(0, max(full.shape[0] - h, 0)), rng.randint(0, max(full.shape[1] - w, 0))
        return np.ascontiguousarray(full[y : y + h, x : x + w])

    def _draw_others(
        self, rng: random.Random, subject: Masked, start: np.ndarray, extent: float, chance: float
    ) -> list[_OtherSubject]:
        others: list[_OtherSubject] = []
        while len(others) < 3 and rng.random() < chance:
            pool = self._by_source[subject.source] if rng.random() < 0.7 else self._stills
            layer = self._pick_subject(rng, pool)
            box = box_of(layer.mask)
            if box is None:
                continue
            scale = extent / max(box[2] - box[0], box[3] - box[1]) * rng.uniform(0.5, 1.2)
            angle, distance = rng.uniform(0, 6.2832), rng.uniform(0.5, 1.1) * extent
            cx = (start[0] + start[2]) / 2 + np.cos(angle) * distance
            cy = (start[1] + start[3]) / 2 + np.sin(angle) * distance * 0.7
            place = draw_placement(box, scale, float(cx), float(cy), rng.gauss(0, 5), rng.random() < 0.5)
            steps = [np.eye(3)]
            for _ in range(FRAMES - 1):
                steps.append(draw_small_motion(rng, move_box(place, box), 1.0) @ steps[-1])
            others.append(_OtherSubject(layer, [s @ place for s in steps], rng.random() < 0.25))
        return others


@dataclass(frozen=True, slots=True)
class _OtherSubject:
    """Another subject in the scene. `transforms` map its picture to the scene, (3, 3) by frame."""

    layer: Layer
    transforms: list[np.ndarray]
    in_front: bool

    def _drawn(self, view: np.ndarray, t: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        a = view @ self.transforms[t]
        mask = warp_mask(self.layer.mask, a, size)
        return cut_out(warp_picture(self.layer.picture, a, size, self.layer.picture.shape[2] == 3), mask)

    def draw(
        self, onto: np.ndarray, unknown: np.ndarray, view: np.ndarray, t: int, truth: np.ndarray, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw it behind the subject. Returns the picture and the unknown region."""
        picture, soft = self._drawn(view, t, size)
        keep = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 0.8)
        return blend_layers(onto, picture, soft * (1 - keep)), unknown

    def draw_over(
        self, onto: np.ndarray, truth: np.ndarray, view: np.ndarray, t: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw it in front of the subject. Returns the picture and the visible mask of the subject."""
        picture, soft = self._drawn(view, t, size)
        return blend_layers(onto, picture, soft), truth * (soft < 0.5).astype(np.uint8)


def _view(
    rng: random.Random, box: np.ndarray, size: int, grow: float, degrees: float, flip: bool, error: float
) -> SceneView:
    """Draw a square crop around the box, wrong by `error` of its size, and sometimes padded to the right or below."""
    extent = max(box[2] - box[0], box[3] - box[1], 8.0)
    content = (size, size)
    if rng.random() < 0.3:
        short = int(size * rng.uniform(0.5, 0.95))
        content = (short, size) if rng.random() < 0.7 else (size, short)
        if min(content) < size * (box[3] - box[1] if content[0] < size else box[2] - box[0]) / (extent * grow):
            content = (size, size)
    scale = size / (extent * grow * float(np.exp(rng.gauss(0, error))))
    cx = content[1] / 2 + rng.gauss(0, error * size * 0.6)
    cy = content[0] / 2 + rng.gauss(0, error * size * 0.6)
    return SceneView(draw_placement(box, scale, cx, cy, degrees + rng.gauss(0, 20 * error), flip), content)


def _arrays(
    rng: random.Random,
    pictures: list[np.ndarray],
    masks: list[np.ndarray],
    unsure: list[np.ndarray],
    views: list[SceneView],
    moves: list[np.ndarray],
    size: int,
) -> dict[str, np.ndarray] | None:
    """Pack a scene as arrays. Returns None if the first frame shows too little of the subject.

    picture   (3, 3, S, S) uint8          weight  (3, 1, S/2, S/2) float32, 0 where the truth is unknown, and in padding
    truth     (3, 1, S/2, S/2) float32    bad     (3, 1, S/2, S/2) float32, a degraded mask
    box       (3, 4) float32 in shares    move    (2, 2, 3) float32, shares of frame t+1 -> shares of frame t
    points    (3, POINTS, 2), labels (3, POINTS)
    valid     (3, 1, S/8, S/8) float32, 1 in the picture, 0 in padding
    """
    half, cells = size // 2, size // 8
    out: dict[str, list[np.ndarray]] = {
        k: [] for k in ("picture", "truth", "weight", "bad", "box", "points", "labels", "valid")
    }
    for t, picture in enumerate(photographic(rng, pictures)):
        h, w = views[t].content
        picture, mask = picture.copy(), masks[t].copy()
        picture[h:], picture[:, w:] = 127, 127
        mask[h:], mask[:, w:] = 0, 0
        valid = np.zeros((size, size), np.float32)
        valid[:h, :w] = 1
        box = box_of(mask)
        if t == 0 and (box is None or mask.sum() < size * size / 400):
            return None
        truth = cv2.resize(mask.astype(np.float32), (half, half), interpolation=cv2.INTER_AREA)
        hard = (truth > 0.5).astype(np.uint8)
        points, labels = draw_points(rng, hard)
        out["picture"].append(picture.transpose(2, 0, 1))
        out["truth"].append(truth[None])
        known = valid * (1 - unsure[t].astype(np.float32))
        out["weight"].append(cv2.resize(known, (half, half), interpolation=cv2.INTER_AREA)[None])
        out["bad"].append(degrade(rng, hard)[None])
        out["box"].append(((box if box is not None else np.array([0, 0, size, size])) / size).astype(np.float32))
        out["points"].append(points)
        out["labels"].append(labels)
        out["valid"].append(cv2.resize(valid, (cells, cells), interpolation=cv2.INTER_AREA)[None])
    arrays = {k: np.ascontiguousarray(np.stack(v)) for k, v in out.items()}
    arrays["move"] = np.stack(moves).astype(np.float32)
    return arrays
