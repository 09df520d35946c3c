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

from mam_video.training.pictures import IGNORE, Masked

FRAMES = 3

# How often a cut-out of each source is drawn: those with true soft alpha most.
WEIGHTS = {"rendered": 5.0, "alphamatting_train": 2.0, "am2k_samples": 0.8, "tuxpaint": 1.2}


@dataclass(frozen=True, slots=True)
class Layer:
    """A subject cut out of its picture: where `mask` is 1, or by the alpha that the picture has as its fourth channel.

    `unsure` is 1 where the truth is not known.
    """

    picture: np.ndarray
    mask: np.ndarray
    unsure: np.ndarray | None = None


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
        grow, turn = _grow(rng), rng.gauss(0, 6)
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
            pictures.append(_warp(m.picture, view.matrix, size, _mirrors(rng, mask)))
            masks.append(_warp_mask(mask, view.matrix, size))
            unsure.append(_warp_mask((m.mask == IGNORE).astype(np.uint8), view.matrix, size))
            views.append(view)
            boxes.append(here)
        moves = []
        for t in range(FRAMES - 1):
            # What motion would tell of the subject: its boxes, more or less.
            a, b = boxes[t], boxes[t + 1]
            scale = ((a[2] - a[0]) / (b[2] - b[0]), (a[3] - a[1]) / (b[3] - b[1]))
            back = np.array([[scale[0], 0, a[0] - scale[0] * b[0]], [0, scale[1], a[1] - scale[1] * b[1]]])
            moves.append(_mixed_move(rng, views[t], views[t + 1], back, size))
        return _arrays(rng, pictures, masks, unsure, views, moves, size)

    # ------------------------------------------------------------------------------------------------- stills
    def _pick_subject(self, rng: random.Random, pool: Sequence[Masked]) -> Layer:
        m = rng.choice(pool)
        mask = (m.mask == rng.choice(m.ids)).astype(np.uint8)
        unsure = (m.mask == IGNORE).astype(np.uint8) if m.alpha is None else np.zeros_like(mask)
        return Layer(_with_alpha(m), mask, unsure if unsure.any() else None)

    def _from_still(self, rng: random.Random) -> dict[str, np.ndarray] | None:
        size = self._size
        if rng.random() < self._cutout_share:
            m = rng.choices(self._cutouts, cum_weights=self._cutout_weights)[0]
        else:
            m = rng.choice(self._stills)
        mask = (m.mask == rng.choice(m.ids)).astype(np.uint8)
        unsure = (m.mask == IGNORE).astype(np.uint8) if m.alpha is None else np.zeros_like(mask)
        layered = rng.random() < 0.5 or m.alpha is not None
        flip, grow, turn = rng.random() < 0.5, _grow(rng), rng.gauss(0, 8)
        start = box_of(mask)
        if start is None:
            return None
        reach = max(start[2] - start[0], start[3] - start[1])
        background = self._other_background(rng, m) if layered else None
        others = self._others(rng, m, start, reach, 0.5 if layered else 0.25)
        pole = (rng.randrange(1, FRAMES), self._other_background(rng, m)) if rng.random() < 0.15 else None
        gone = FRAMES - 1 if layered and rng.random() < 0.06 else -1
        agitation = rng.choice([0.3, 1.0, 1.6])
        mirror = _mirrors(rng, mask)

        pictures, masks, doubts, views, motions = [], [], [], [], []
        motion, ground = np.eye(3), np.eye(3)
        picture = _with_alpha(m)
        for t in range(FRAMES):
            if t:
                motion = _small_motion(rng, start, agitation) @ motion
                ground = _small_motion(rng, start, 0.5 * agitation) @ ground
            bend = _bend(rng, mask.shape, max(mask.shape) * rng.uniform(0, 0.03)) if t else None
            p, k, u = (_bent(x, bend, i > 0) for i, x in enumerate((picture, mask, unsure)))
            where = box_of(k)
            if where is None:
                return None
            moved_box = _moved_box(motion, where)
            view = _view(rng, moved_box, size, grow, turn, flip, 0.05 if t == 0 else rng.uniform(0.03, 0.22))
            a = view.matrix @ motion
            truth, doubt = _warp_mask(k, a, size), _warp_mask(u, a, size)
            if background is not None:
                drawn = _warp(background, view.matrix @ ground, size)
                # Beyond a cut-out's picture nothing of it: no mirror image.
                subject, soft = _cut(_warp(p, a, size, mirror and m.alpha is None), truth)
            else:
                drawn, subject, soft = _warp(p, a, size, mirror), None, None
            behind = [o for o in others if not o.in_front]
            over = [o for o in others if o.in_front]
            for o in behind:
                drawn, doubt = o.draw(drawn, doubt, view.matrix, t, truth, size)
            if soft is not None and subject is not None and t != gone:
                drawn = _blend(drawn, subject, soft)
            if t == gone:
                truth = np.zeros_like(truth)
            for o in over:
                drawn, truth = o.draw_over(drawn, truth, view.matrix, t, size)
            if pole is not None and pole[0] == t:
                drawn, truth = _pole(rng, drawn, truth, pole[1], size)
            pictures.append(drawn)
            masks.append(truth)
            doubts.append(doubt)
            views.append(view)
            motions.append(motion)
        moves = []
        for t in range(FRAMES - 1):
            back = (motions[t] @ np.linalg.inv(motions[t + 1]))[:2]
            moves.append(_mixed_move(rng, views[t], views[t + 1], back, size))
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
            place = _placing(box, scale, float(cx), float(cy), rng.gauss(0, 5), rng.random() < 0.5)
            steps = [np.eye(3)]
            for _ in range(FRAMES - 1):
                steps.append(_small_motion(rng, _moved_box(place, box), 1.0) @ steps[-1])
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
        mask = _warp_mask(self.layer.mask, a, size)
        return _cut(_warp(self.layer.picture, a, size, self.layer.picture.shape[2] == 3), mask)

    def draw(
        self, onto: np.ndarray, doubt: np.ndarray, view: np.ndarray, t: int, truth: np.ndarray, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Behind the subject."""
        picture, soft = self._drawn(view, t, size)
        keep = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 0.8)
        return _blend(onto, picture, soft * (1 - keep)), doubt

    def draw_over(
        self, onto: np.ndarray, truth: np.ndarray, view: np.ndarray, t: int, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Before the subject."""
        picture, soft = self._drawn(view, t, size)
        return _blend(onto, picture, soft), truth * (soft < 0.5).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _ViewOf:
    matrix: np.ndarray  # (3, 3): scene -> view pixels
    content: tuple[int, int]  # (h, w) of the picture in the square; the rest is padding


def box_of(mask: np.ndarray) -> np.ndarray | None:
    """Tight x0 y0 x1 y1, half-open, or None where the mask is empty."""
    xs, ys = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if len(xs) == 0:
        return None
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float64)


def _placing(box: np.ndarray, scale: float, cx: float, cy: float, degrees: float, flip: bool) -> np.ndarray:
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) * scale
    if flip:
        turn = turn @ np.diag([-1.0, 1.0])
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    out = np.eye(3)
    out[:2, :2] = turn
    out[:2, 2] = np.array([cx, cy]) - turn @ middle
    return out


def _small_motion(rng: random.Random, box: np.ndarray, amount: float) -> np.ndarray:
    """A move of the size that a subject makes between frames that are some frames apart."""
    reach = max(box[2] - box[0], box[3] - box[1])
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    scale = float(np.exp(rng.gauss(0, 0.08 * amount)))
    dx, dy = (rng.gauss(0, 0.1 * amount * reach) for _ in range(2))
    out = _placing(box, scale, cx + dx, cy + dy, rng.gauss(0, 6 * amount), False)
    out[0, 1] += rng.gauss(0, 0.05 * amount) * scale
    return out


def _moved_box(matrix: np.ndarray, box: np.ndarray) -> np.ndarray:
    corners = np.array([[box[0], box[1], 1], [box[2], box[1], 1], [box[0], box[3], 1], [box[2], box[3], 1]]).T
    x, y = (matrix @ corners)[:2]
    return np.array([x.min(), y.min(), x.max(), y.max()])


def _grow(rng: random.Random) -> float:
    """Side of the view in sides of the box: a tracker holds its view while the subject shrinks in it."""
    return float(np.exp(rng.uniform(np.log(1.1), np.log(2.2))))


def _view(
    rng: random.Random, box: np.ndarray, size: int, grow: float, degrees: float, flip: bool, error: float
) -> _ViewOf:
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
    return _ViewOf(_placing(box, scale, cx, cy, degrees + rng.gauss(0, 20 * error), flip), content)


def _mirrors(rng: random.Random, mask: np.ndarray) -> bool:
    """Whether what lies outside the picture is drawn as its mirror image, not as padding.

    Never where the subject reaches the border: its mirror image would be background that looks like the subject.
    """
    rim = np.concatenate([mask[:3].ravel(), mask[-3:].ravel(), mask[:, :3].ravel(), mask[:, -3:].ravel()])
    return rng.random() < 0.6 and not rim.any()


def _warp(picture: np.ndarray, matrix: np.ndarray, size: int, mirror: bool = True) -> np.ndarray:
    shrink = abs(float(np.linalg.det(matrix[:2, :2]))) ** 0.5
    if shrink < 0.6:
        # Antialias: bilinear looks at four pixels only.
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 / shrink)
    border = cv2.BORDER_REFLECT_101 if mirror else cv2.BORDER_CONSTANT
    out: np.ndarray = cv2.warpAffine(
        picture, matrix[:2], (size, size), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=(127, 127, 127)
    )
    return out


def _warp_mask(mask: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    soft = cv2.warpAffine(mask * np.uint8(255), matrix[:2], (size, size), flags=cv2.INTER_LINEAR)
    out: np.ndarray = (soft > 127).astype(np.uint8)
    return out


def _bend(rng: random.Random, shape: tuple[int, ...], amount: float) -> tuple[np.ndarray, np.ndarray]:
    h, w = shape[:2]
    coarse = np.array([rng.gauss(0, amount) for _ in range(32)], np.float32).reshape(2, 4, 4)
    dx, dy = (cv2.resize(c, (w, h), interpolation=cv2.INTER_CUBIC) for c in coarse)
    return dx + np.arange(w, dtype=np.float32), dy + np.arange(h, dtype=np.float32)[:, None]


def _bent(image: np.ndarray, bend: tuple[np.ndarray, np.ndarray] | None, is_mask: bool) -> np.ndarray:
    if bend is None:
        return image
    flags = cv2.INTER_NEAREST if is_mask else cv2.INTER_LINEAR
    border = cv2.BORDER_CONSTANT if is_mask else cv2.BORDER_REFLECT_101
    out: np.ndarray = cv2.remap(image, bend[0], bend[1], flags, borderMode=border)
    return out


def _blend(under: np.ndarray, over: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    out: np.ndarray = cv2.blendLinear(over, under, alpha.astype(np.float32), (1 - alpha).astype(np.float32))
    return out


def _with_alpha(m: Masked) -> np.ndarray:
    """(H, W, 3), of a cut-out (H, W, 4), uint8."""
    return m.picture if m.alpha is None else np.dstack([m.picture, m.alpha])


def _cut(picture: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What of a picture (h, w, 3 or 4) is laid over another: colours, and how much of them, float32 0..1."""
    if picture.shape[2] == 4:
        return np.ascontiguousarray(picture[:, :, :3]), picture[:, :, 3].astype(np.float32) / 255
    return picture, cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 0.8)


def _pole(
    rng: random.Random, picture: np.ndarray, truth: np.ndarray, texture: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Something long and narrow before the subject."""
    mask = np.zeros((size, size), np.uint8)
    ys, xs = np.nonzero(truth)
    if len(xs) == 0:
        return picture, truth
    i = rng.randrange(len(xs))
    angle, half = rng.gauss(1.571, 0.35), size
    dx, dy = np.cos(angle) * half, np.sin(angle) * half
    ends = [(int(xs[i] - dx), int(ys[i] - dy)), (int(xs[i] + dx), int(ys[i] + dy))]
    cv2.line(mask, ends[0], ends[1], 1, rng.randint(3, 40))
    over = cv2.resize(texture, (size, size))
    return _blend(picture, over, cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)), truth * (1 - mask)


def _mixed_move(rng: random.Random, a: _ViewOf, b: _ViewOf, back: np.ndarray, size: int) -> np.ndarray:
    """(2, 3): from places in view b to places in view a, in shares of the side, as far as the motion is known.

    `back` takes scene places at b to those at a, where the subject stood. The tracker may know it, know half of it, or
    nothing; and it errs.
    """
    draw = rng.random()
    known = 0.0 if draw < 0.3 else 1.0 if draw < 0.65 else rng.random()
    identity = np.eye(3)
    full = np.vstack([back[:2], [0, 0, 1]])
    mixed = identity + known * (full - identity)
    m = a.matrix @ mixed @ np.linalg.inv(b.matrix)
    to_pixels, to_shares = np.diag([size, size, 1.0]), np.diag([1 / size, 1 / size, 1.0])
    out = (to_shares @ m @ to_pixels)[:2]
    out[:, 2] += [rng.gauss(0, 0.015), rng.gauss(0, 0.015)]
    return out


def _degraded(rng: random.Random, mask: np.ndarray) -> np.ndarray:
    """What a bad tracker would hand over: the mask grown or shrunk, pieces missing or added, moved, soft."""
    n = len(mask)
    x = mask.copy()
    k = 2 * rng.randrange(1, max(n // 22, 2)) + 1
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (k, k))
    draw = rng.random()
    x = cv2.dilate(x, ellipse) if draw < 0.35 else cv2.erode(x, ellipse) if draw < 0.6 else x
    for _ in range(rng.randrange(4)):
        centre = (rng.randrange(n), rng.randrange(n))
        cv2.circle(x, centre, rng.randrange(n // 40, n // 6), int(rng.random() < 0.5), -1)
    scale, cx, cy = rng.uniform(0.9, 1.1), n / 2 + rng.gauss(0, n / 36), n / 2 + rng.gauss(0, n / 36)
    a = _placing(np.array([0, 0, n, n]), scale, cx, cy, rng.gauss(0, 5), False)
    soft = cv2.warpAffine(x.astype(np.float32), a[:2], (n, n))
    out: np.ndarray = cv2.GaussianBlur(soft, (0, 0), rng.uniform(0.5, 2))
    return out


def photographic(rng: random.Random, pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Colour, blur, noise, compression and resampling: mostly the same over the scene, a little different by frame."""
    gain, offset = rng.uniform(0.7, 1.3), rng.uniform(-25, 25)
    tint = [rng.uniform(0.9, 1.1) for _ in range(3)]
    gamma = float(np.exp(rng.gauss(0, 0.15)))
    grey, blur = rng.random() < 0.06, rng.uniform(0.5, 1.6) if rng.random() < 0.2 else 0.0
    quality = rng.randint(25, 80) if rng.random() < 0.25 else 0
    noise = rng.uniform(1, 9) if rng.random() < 0.2 else 0.0
    streak = rng.randint(3, 11) if rng.random() < 0.12 else 0
    levels = np.arange(256, dtype=np.float32)
    out = []
    for picture in pictures:
        flicker = rng.gauss(1, 0.03)
        curve = 255 * (levels / 255) ** gamma
        table = np.stack([np.clip(curve * gain * flicker * t + offset, 0, 255) for t in tint], 1).astype(np.uint8)
        x = cv2.LUT(picture, table[None])
        if blur:
            x = cv2.GaussianBlur(x, (0, 0), blur)
        if streak and rng.random() < 0.7:
            kernel = np.zeros((streak, streak), np.float32)
            angle, c = rng.uniform(0, 3.14), streak // 2
            dx, dy = round(np.cos(angle) * c), round(np.sin(angle) * c)
            cv2.line(kernel, (c - dx, c - dy), (c + dx, c + dy), 1.0)
            x = cv2.filter2D(x, -1, kernel / kernel.sum())
        if noise:
            grain = np.random.default_rng(rng.getrandbits(32)).standard_normal(x.shape, np.float32)
            x = cv2.add(x, (grain * noise), dtype=cv2.CV_8U)
        if quality:
            ok, coded = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, quality])
            assert ok
            x = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        if grey:
            x = np.repeat(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[:, :, None], 3, 2)
        out.append(x)
    return out


POINTS = 3


def _points(rng: random.Random, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(POINTS, 2) x y in shares and (POINTS,) labels: 1 subject, 0 background, -1 no point. The first is on it."""
    n = len(truth)
    places, labels = np.zeros((POINTS, 2), np.float32), np.full(POINTS, -1, np.int64)
    inner = cv2.erode(truth, np.ones((3, 3), np.uint8))
    ys, xs = np.nonzero(inner if inner.any() else truth)
    if len(xs) == 0:
        return places, labels
    near = cv2.dilate(truth, np.ones((25, 25), np.uint8)) & (1 - cv2.dilate(truth, np.ones((3, 3), np.uint8)))
    ny, nx = np.nonzero(near)
    for i in range(rng.choice([1, 1, 2, 3])):
        on = i == 0 or rng.random() < 0.5 or len(nx) == 0
        px, py = (xs, ys) if on else (nx, ny)
        j = rng.randrange(len(px))
        places[i], labels[i] = ((px[j] + 0.5) / n, (py[j] + 0.5) / n), int(on)
    return places, labels


def _arrays(
    rng: random.Random,
    pictures: list[np.ndarray],
    masks: list[np.ndarray],
    unsure: list[np.ndarray],
    views: list[_ViewOf],
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
        places, labels = _points(rng, hard)
        out["picture"].append(picture.transpose(2, 0, 1))
        out["truth"].append(truth[None])
        known = valid * (1 - unsure[t].astype(np.float32))
        out["weight"].append(cv2.resize(known, (half, half), interpolation=cv2.INTER_AREA)[None])
        out["bad"].append(_degraded(rng, hard)[None])
        out["box"].append(((box if box is not None else np.array([0, 0, size, size])) / size).astype(np.float32))
        out["points"].append(places)
        out["labels"].append(labels)
        out["valid"].append(cv2.resize(valid, (cells, cells), interpolation=cv2.INTER_AREA)[None])
    arrays = {k: np.ascontiguousarray(np.stack(v)) for k, v in out.items()}
    arrays["move"] = np.stack(moves).astype(np.float32)
    return arrays
