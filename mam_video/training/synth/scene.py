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

from mam_video.training.data.pictures import IGNORE, LabelledPicture
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


class SceneGenerator:
    """Draws scenes from stills and clips. Seed and number determine a scene."""

    def __init__(
        self,
        items: Sequence[LabelledPicture],
        backgrounds: Sequence[np.ndarray],
        size: int,
        seed: int,
        cutouts: Sequence[LabelledPicture] = (),
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
        self._by_source: dict[str, list[LabelledPicture]] = defaultdict(list)
        clips: dict[str, list[LabelledPicture]] = defaultdict(list)
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
        clip = rng.choice(self._clips)
        chosen = rng.sample(clip, FRAMES) if len(clip) >= FRAMES else [*clip, rng.choice(clip)]
        subject = rng.choice(chosen[0].ids)
        size, flip = self._size, rng.random() < 0.5
        crop = _CropStyle(size, flip, grow_box(rng), rng.gauss(0, 6))
        frames: list[_SceneFrame] = []
        boxes: list[np.ndarray] = []
        for t, m in enumerate(chosen):
            mask = (m.mask == subject).astype(np.uint8)
            box = box_of(mask)
            if box is None:
                # The subject is gone; the tracker keeps its last crop.
                if not boxes or rng.random() < 0.7:
                    return None
                box = boxes[-1]
            view = crop.view(rng, box, 0.05 if t == 0 else rng.uniform(0.03, 0.2))
            picture = warp_picture(m.picture, view.matrix, size, draw_mirrors(rng, mask))
            unknown = warp_mask((m.mask == IGNORE).astype(np.uint8), view.matrix, size)
            frames.append(_SceneFrame(picture, warp_mask(mask, view.matrix, size), unknown, view))
            boxes.append(box)
        back = [_box_motion(boxes[t], boxes[t + 1]) for t in range(FRAMES - 1)]
        return _arrays(rng, frames, _draw_moves(rng, frames, back, size), size)

    # ------------------------------------------------------------------------------------------------- stills
    def _scene_from_still(self, rng: random.Random) -> dict[str, np.ndarray] | None:
        still = self._draw_still_scene(rng)
        if still is None:
            return None
        frames, motions = [], []
        motion, background_motion = np.eye(3), np.eye(3)
        for t in range(FRAMES):
            if t:
                motion = draw_small_motion(rng, still.box, still.agitation) @ motion
                background_motion = draw_small_motion(rng, still.box, 0.5 * still.agitation) @ background_motion
            frame = still.frame(rng, t, motion, background_motion)
            if frame is None:
                return None
            frames.append(frame)
            motions.append(motion)
        back = [(motions[t] @ np.linalg.inv(motions[t + 1]))[:2] for t in range(FRAMES - 1)]
        return _arrays(rng, frames, _draw_moves(rng, frames, back, self._size), self._size)

    def _draw_still_scene(self, rng: random.Random) -> _StillScene | None:
        """Draw the content of a scene from a still. Returns None if the subject's mask is empty."""
        if rng.random() < self._cutout_share:
            m = rng.choices(self._cutouts, cum_weights=self._cutout_weights)[0]
        else:
            m = rng.choice(self._stills)
        mask = (m.mask == rng.choice(m.ids)).astype(np.uint8)
        layered = rng.random() < 0.5 or m.alpha is not None
        flip = rng.random() < 0.5
        crop = _CropStyle(self._size, flip, grow_box(rng), rng.gauss(0, 8))
        box = box_of(mask)
        if box is None:
            return None
        return _StillScene(
            crop=crop,
            picture=attach_alpha(m),
            mask=mask,
            unknown=_unknown_of(m),
            box=box,
            background=self._other_background(rng, m) if layered else None,
            others=self._draw_others(rng, m, box, 0.5 if layered else 0.25),
            pole=(rng.randrange(1, FRAMES), self._other_background(rng, m)) if rng.random() < 0.15 else None,
            absent_frame=FRAMES - 1 if layered and rng.random() < 0.06 else None,
            agitation=rng.choice([0.3, 1.0, 1.6]),
            mirror=draw_mirrors(rng, mask),
        )

    def _pick_subject(self, rng: random.Random, pool: Sequence[LabelledPicture]) -> Layer:
        m = rng.choice(pool)
        return Layer(attach_alpha(m), (m.mask == rng.choice(m.ids)).astype(np.uint8))

    def _other_background(self, rng: random.Random, subject: LabelledPicture) -> np.ndarray:
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
        self, rng: random.Random, subject: LabelledPicture, box: np.ndarray, chance: float
    ) -> list[_OtherSubject]:
        """Draw up to three other subjects around the box of the subject; each with the probability `chance`."""
        extent = max(box[2] - box[0], box[3] - box[1])
        others: list[_OtherSubject] = []
        while len(others) < 3 and rng.random() < chance:
            pool = self._by_source[subject.source] if rng.random() < 0.7 else self._stills
            layer = self._pick_subject(rng, pool)
            own_box = box_of(layer.mask)
            if own_box is None:
                continue
            scale = extent / max(own_box[2] - own_box[0], own_box[3] - own_box[1]) * rng.uniform(0.5, 1.2)
            angle, distance = rng.uniform(0, 6.2832), rng.uniform(0.5, 1.1) * extent
            cx = (box[0] + box[2]) / 2 + np.cos(angle) * distance
            cy = (box[1] + box[3]) / 2 + np.sin(angle) * distance * 0.7
            place = draw_placement(own_box, scale, float(cx), float(cy), rng.gauss(0, 5), rng.random() < 0.5)
            steps = [np.eye(3)]
            for _ in range(FRAMES - 1):
                steps.append(draw_small_motion(rng, move_box(place, own_box), 1.0) @ steps[-1])
            others.append(_OtherSubject(layer, [s @ place for s in steps], rng.random() < 0.25))
        return others


@dataclass(frozen=True, slots=True)
class _SceneFrame:
    """A frame of a scene before its degradation, at the crop's size S."""

    picture: np.ndarray  # (S, S, 3) uint8
    mask: np.ndarray  # (S, S) uint8, 1 on the subject
    unknown: np.ndarray  # (S, S) uint8, 1 where the truth is unknown
    view: SceneView


@dataclass(frozen=True, slots=True)
class _CropStyle:
    """How the crops of a scene are drawn."""

    size: int
    flip: bool
    grow: float  # side of the crop in sides of the box
    degrees: float

    def view(self, rng: random.Random, box: np.ndarray, error: float) -> SceneView:
        """Draw a square crop around the box, wrong by `error` of its size, sometimes padded to the right or below."""
        size = self.size
        extent = max(box[2] - box[0], box[3] - box[1], 8.0)
        content = (size, size)
        if rng.random() < 0.3:
            short = int(size * rng.uniform(0.5, 0.95))
            content = (short, size) if rng.random() < 0.7 else (size, short)
            if min(content) < size * (box[3] - box[1] if content[0] < size else box[2] - box[0]) / (extent * self.grow):
                content = (size, size)
        scale = size / (extent * self.grow * float(np.exp(rng.gauss(0, error))))
        cx = content[1] / 2 + rng.gauss(0, error * size * 0.6)
        cy = content[0] / 2 + rng.gauss(0, error * size * 0.6)
        degrees = self.degrees + rng.gauss(0, 20 * error)
        return SceneView(draw_placement(box, scale, cx, cy, degrees, self.flip), content)


@dataclass(frozen=True, slots=True)
class _OtherSubject:
    """Another subject in the scene. `transforms` map its picture to the scene, (3, 3) by frame."""

    layer: Layer
    transforms: list[np.ndarray]
    in_front: bool

    def _cut_out(self, view: np.ndarray, t: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        a = view @ self.transforms[t]
        mask = warp_mask(self.layer.mask, a, size)
        return cut_out(warp_picture(self.layer.picture, a, size, self.layer.picture.shape[2] == 3), mask)

    def draw_behind(self, onto: np.ndarray, truth: np.ndarray, view: np.ndarray, t: int, size: int) -> np.ndarray:
        """Draw it behind the subject of the mask `truth`."""
        picture, soft = self._cut_out(view, t, size)
        keep = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 0.8)
        return blend_layers(onto, picture, soft * (1 - keep))

    def draw_in_front(
        self, onto: np.ndarray, truth: np.ndarray, view: np.ndarray, t: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw it in front of the subject. Returns the picture and the visible mask of the subject."""
        picture, soft = self._cut_out(view, t, size)
        return blend_layers(onto, picture, soft), truth * (soft < 0.5).astype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StillScene:
    """The content of a scene from one picture (H, W, 3 or 4), which is bent and moved as a whole or cut out."""

    crop: _CropStyle
    picture: np.ndarray
    mask: np.ndarray  # (H, W) uint8, 1 on the subject
    unknown: np.ndarray  # (H, W) uint8, 1 where the truth is unknown
    box: np.ndarray  # of the mask
    background: np.ndarray | None  # the subject is cut out and laid over it; None keeps the whole picture
    others: list[_OtherSubject]
    pole: tuple[int, np.ndarray] | None  # the frame in which a pole hides part of the subject, and its texture
    absent_frame: int | None
    agitation: float  # factor of the motion
    mirror: bool  # show the picture's mirror image outside of it

    def frame(
        self, rng: random.Random, t: int, motion: np.ndarray, background_motion: np.ndarray
    ) -> _SceneFrame | None:
        """Draw frame t, moved by (3, 3) motions in the scene. Returns None if bending leaves nothing of the subject."""
        size, shape = self.crop.size, self.mask.shape
        bend = draw_bend(rng, shape, max(shape) * rng.uniform(0, 0.03)) if t else None
        picture = bend_picture(self.picture, bend, False)
        mask, unknown = (bend_picture(x, bend, True) for x in (self.mask, self.unknown))
        box = box_of(mask)
        if box is None:
            return None
        view = self.crop.view(rng, move_box(motion, box), 0.05 if t == 0 else rng.uniform(0.03, 0.22))
        a = view.matrix @ motion
        truth, unknown = warp_mask(mask, a, size), warp_mask(unknown, a, size)
        drawn = self._draw(t, picture, truth, view.matrix, a, view.matrix @ background_motion)
        if t == self.absent_frame:
            truth = np.zeros_like(truth)
        for other in self.others:
            if other.in_front:
                drawn, truth = other.draw_in_front(drawn, truth, view.matrix, t, size)
        if self.pole is not None and self.pole[0] == t:
            drawn, truth = draw_pole(rng, drawn, truth, self.pole[1], size)
        return _SceneFrame(drawn, truth, unknown, view)

    def _draw(
        self, t: int, picture: np.ndarray, truth: np.ndarray, view: np.ndarray, a: np.ndarray, behind: np.ndarray
    ) -> np.ndarray:
        """Draw background, other subjects behind, and the subject. `a` and `behind` map the pictures to the crop."""
        size = self.crop.size
        if self.background is None:
            drawn, cut = warp_picture(picture, a, size, self.mirror), None
        else:
            drawn = warp_picture(self.background, behind, size)
            # A cut-out has no mirror image beyond its picture.
            cut = cut_out(warp_picture(picture, a, size, self.mirror and picture.shape[2] == 3), truth)
        for other in self.others:
            if not other.in_front:
                drawn = other.draw_behind(drawn, truth, view, t, size)
        if cut is not None and t != self.absent_frame:
            drawn = blend_layers(drawn, *cut)
        return drawn


def _unknown_of(m: LabelledPicture) -> np.ndarray:
    """Return (H, W) uint8, 1 where the truth is unknown. The truth of a cut-out is known everywhere."""
    return (m.mask == IGNORE).astype(np.uint8) if m.alpha is None else np.zeros_like(m.mask)


def _box_motion(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the (2, 3) motion from box b to box a, an approximation of the subject's."""
    scale = ((a[2] - a[0]) / (b[2] - b[0]), (a[3] - a[1]) / (b[3] - b[1]))
    return np.array([[scale[0], 0, a[0] - scale[0] * b[0]], [0, scale[1], a[1] - scale[1] * b[1]]])


def _draw_moves(rng: random.Random, frames: list[_SceneFrame], back: list[np.ndarray], size: int) -> list[np.ndarray]:
    """Draw the motions that a tracker would report; `back` are the subject's (2, 3), from each frame to the last."""
    return [draw_mixed_move(rng, frames[t].view, frames[t + 1].view, m, size) for t, m in enumerate(back)]


def _arrays(
    rng: random.Random, frames: list[_SceneFrame], moves: list[np.ndarray], size: int
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
    for t, picture in enumerate(photographic(rng, [f.picture for f in frames])):
        h, w = frames[t].view.content
        picture, mask = picture.copy(), frames[t].mask.copy()
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
        known = valid * (1 - frames[t].unknown.astype(np.float32))
        out["weight"].append(cv2.resize(known, (half, half), interpolation=cv2.INTER_AREA)[None])
        out["bad"].append(degrade(rng, hard)[None])
        out["box"].append(((box if box is not None else np.array([0, 0, size, size])) / size).astype(np.float32))
        out["points"].append(points)
        out["labels"].append(labels)
        out["valid"].append(cv2.resize(valid, (cells, cells), interpolation=cv2.INTER_AREA)[None])
    arrays = {k: np.ascontiguousarray(np.stack(v)) for k, v in out.items()}
    arrays["move"] = np.stack(moves).astype(np.float32)
    return arrays
