"""Short scenes for the segmenter: three views of one subject, moved, with what a tracker would know about them.

A scene is three frames of a real clip, or three views of one picture: the picture bent and moved as a whole, or the
subject cut out and moved over another background. A cut-out with a true alpha (hair, fur) is laid over its background
by that. Other pictures' subjects are laid beside it (look-alikes: mostly of
the same source) or in front of it, and poles pass before it. All is drawn straight at the view's size.
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


# How often a cut-out of each source is drawn: those with true soft alpha most.
WEIGHTS = {"rendered": 5.0, "alphamatting_train": 2.0, "am2k_samples": 0.8, "tuxpaint": 1.2}


class Stills:
    """Stands for a scene's frames: draws, deterministically, scene number i of a seed."""

    def __init__(
        self,
        items: Sequence[Masked],
        backgrounds: Sequence[np.ndarray],
        size: int,
        seed: int,
        cutouts: Sequence[Masked] = (),
        cutout_share: float = 0.0,
    ) -> None:
        """`cutout_share` of the scenes that are not of a clip show one of `cutouts`; sources count by `WEIGHTS`."""
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
        """See `Scene.arrays`."""
        attempt = 0
        while True:
            rng = random.Random(f"{self._seed}/{index}/{attempt}")
            made = self._attempt(rng)
            if made is not None:
                return made
            attempt += 1

    def _attempt(self, rng: random.Random) -> dict[str, np.ndarray] | None:
        if self._clips and rng.random() < 0.3:
            return self._from_clip(rng)
        return self._from_still(rng)

    # ------------------------------------------------------------------------------------------------- real clips
    def _from_clip(self, rng: random.Random) -> dict[str, np.ndarray] | None:
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
            here = box_of(mask)
            if here is None:
                # The subject is gone: the tracker still looks where it was.
                if box is None or rng.random() < 0.7:
                    return None
                here = box
            box = here
            view = _view(rng, here, size, grow, turn, flip, 0.05 if i == 0 else rng.uniform(0.03, 0.2))
            pictures.append(warp_picture(m.picture, view.matrix, size, draw_mirrors(rng, mask)))
            masks.append(warp_mask(mask, view.matrix, size))
            unsure.append(warp_mask((m.mask == IGNORE).astype(np.uint8), view.matrix, size))
            views.append(view)
            boxes.append(here)
        moves = []
        for t in range(FRAMES - 1):
            # What motion would tell of the subject: its boxes, more or less.
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

    def _from_still(self, rng: random.Random) -> dict[str, np.ndarray] | None:
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
        reach = max(start[2] - start[0], start[3] - start[1])
        background = self._other_background(rng, m) if layered else None
        others = self._others(rng, m, start, reach, 0.5 if layered else 0.25)
        pole = (rng.randrange(1, FRAMES), self._other_background(rng, m)) if rng.random() < 0.15 else None
        gone = FRAMES - 1 if layered and rng.random() < 0.06 else -1
        agitation = rng.choice([0.3, 1.0, 1.6])
        mirror = draw_mirrors(rng, mask)

        pictures, masks, doubts, views, motions = [], [], [], [], []
        motion, ground = np.eye(3), np.eye(3)
        picture = attach_alpha(m)
        for t in range(FRAMES):
            if t:
                motion = draw_small_motion(rng, start, agitation) @ motion
                ground = draw_small_motion(rng, start, 0.5 * agitation) @ ground
            bend = draw_bend(rng, mask.shape, max(mask.shape) * rng.uniform(0, 0.03)) if t else None
            p, k, u = (bend_picture(x, bend, i > 0) for i, x in enumerate((picture, mask, unsure)))
            where = box_of(k)
            if where is None:
                return None
            moved_box = move_box(motion, where)
            view = _view(rng, moved_box, size, grow, turn, flip, 0.05 if t == 0 else rng.uniform(0.03, 0.22))
            a = view.matrix @ motion
            truth, doubt = warp_mask(k, a, size), warp_mask(u, a, size)
            if background is not None:
                drawn = warp_picture(background, view.matrix @ ground, size)
                # Beyond a cut-out's picture nothing of it: no mirror image.
                subject, soft = cut_out(warp_picture(p, a, size, mirror and m.alpha is None), truth)
            else:
                drawn, subject, soft = warp_picture(p, a, size, mirror), None, None
            behind = [o for o in others if not o.in_front]
            over = [o for o in others if o.in_front]
            for o in behind:
                drawn, doubt = o.draw(drawn, doubt, view.matrix, t, truth, size)
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
            doubts.append(doubt)
            views.append(view)
            motions.append(motion)
        moves = []
        for t in range(FRAMES - 1):
            back = (motions[t] @ np.linalg.inv(motions[t + 1]))[:2]
            moves.append(draw_mixed_move(rng, views[t], views[t + 1], back, size))
        return _arrays(rng, pictures, masks, doubts, views, moves, size)

    def _other_background(self, rng: random.Random, like: Masked) -> np.ndarray:
        h, w = like.mask.shape
        if self._backgrounds and rng.random() < 0.4:
            other = rng.choice(self._backgrounds)
        else:
            other = rng.choice(self._stills).picture
        zoom = rng.uniform(1.0, 1.6) * max(h / other.shape[0], w / other.shape[1])
        full = cv2.resize(other, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
        y, x = rng.randint(0, max(full.shape[0] - h, 0)), rng.randint(0, max(full.shape[1] - w, 0))
        return np.ascontiguousarray(full[y : y + h, x : x + w])

    def _others(self, rng: random.Random, like: Masked, start: np.ndarray, reach: float, chance: float) -> list[_Other]:
        found: list[_Other] = []
        while len(found) < 3 and rng.random() < chance:
            pool = self._by_source[like.source] if rng.random() < 0.7 else self._stills
            layer = self._pick_subject(rng, pool)
            box = box_of(layer.mask)
            if box is None:
                continue
            scale = reach / max(box[2] - box[0], box[3] - box[1]) * rng.uniform(0.5, 1.2)
            angle, away = rng.uniform(0, 6.2832), rng.uniform(0.5, 1.1) * reach
            cx = (start[0] + start[2]) / 2 + np.cos(angle) * away
            cy = (start[1] + start[3]) / 2 + np.sin(angle) * away * 0.7
            place = draw_placement(box, scale, float(cx), float(cy), rng.gauss(0, 5), rng.random() < 0.5)
            steps = [np.eye(3)]
            for _ in range(FRAMES - 1):
                steps.append(draw_small_motion(rng, move_box(place, box), 1.0) @ steps[-1])
            found.append(_Other(layer, [s @ place for s in steps], rng.random() < 0.25))
        return found


@dataclass(frozen=True, slots=True)
class _Other:
    """Another subject in the scene; `places` takes its picture to the scene, frame by frame."""

    layer: Layer
    places: list[np.ndarray]
    in_front: bool

    def _drawn(self, view: np.ndarray, t: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        a = view @ self.places[t]
        mask = warp_mask(self.layer.mask, a, size)
        return cut_out(warp_picture(self.layer.picture, a, size, self.layer.picture.shape[2] == 3), mask)

    def draw(
        self, onto: np.ndarray, doubt: np.ndarray, view: np.ndarray, t: int, truth: np.ndarray, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Behind the subject."""
        picture, soft = self._drawn(view, t, size)
        keep = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 0.8)
        return blend_layers(onto, picture, soft * (1 - keep)), doubt

    def draw_over(
        self, onto: np.ndarray, truth: np.ndarray, view: np.ndarray, t: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Before the subject."""
        picture, soft = self._drawn(view, t, size)
        return blend_layers(onto, picture, soft), truth * (soft < 0.5).astype(np.uint8)


def _view(
    rng: random.Random, box: np.ndarray, size: int, grow: float, degrees: float, flip: bool, error: float
) -> SceneView:
    """A square about the box, off by `error` of its size, now and then with padding to the right or below."""
    reach = max(box[2] - box[0], box[3] - box[1], 8.0)
    content = (size, size)
    if rng.random() < 0.3:
        short = int(size * rng.uniform(0.5, 0.95))
        content = (short, size) if rng.random() < 0.7 else (size, short)
        if min(content) < size * (box[3] - box[1] if content[0] < size else box[2] - box[0]) / (reach * grow):
            content = (size, size)
    scale = size / (reach * grow * float(np.exp(rng.gauss(0, error))))
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
    """The scene as arrays; None where its first frame shows too little of the subject.

    picture   (3, 3, S, S) uint8          weight  (3, 1, S/2, S/2) float32, 0 where the truth is not known or padding
    truth     (3, 1, S/2, S/2) float32    bad     (3, 1, S/2, S/2) float32, a degraded mask
    box       (3, 4) float32 in shares    move    (2, 2, 3) float32, shares of frame t+1 -> of frame t
    points    (3, POINTS, 2), labels (3, POINTS)
    valid     (3, 1, S/8, S/8) float32, 1 where there is picture
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
        places, labels = draw_points(rng, hard)
        out["picture"].append(picture.transpose(2, 0, 1))
        out["truth"].append(truth[None])
        known = valid * (1 - unsure[t].astype(np.float32))
        out["weight"].append(cv2.resize(known, (half, half), interpolation=cv2.INTER_AREA)[None])
        out["bad"].append(degrade(rng, hard)[None])
        out["box"].append(((box if box is not None else np.array([0, 0, size, size])) / size).astype(np.float32))
        out["points"].append(places)
        out["labels"].append(labels)
        out["valid"].append(cv2.resize(valid, (cells, cells), interpolation=cv2.INTER_AREA)[None])
    arrays = {k: np.ascontiguousarray(np.stack(v)) for k, v in out.items()}
    arrays["move"] = np.stack(moves).astype(np.float32)
    return arrays
