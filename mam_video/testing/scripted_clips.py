"""Scripted clips with known truth in every frame: the visible part of the subject and of its distractor.

A drawn animal (or any cut-out) moves over a textured background. Walls and poles occlude it; the camera pans, cuts,
dissolves or meets a flash. The tests use small clips in the colour of the colour model.
`pipelines/measure/evaluate_states.py` uses larger ones in natural colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import cv2
import numpy as np

from mam_video.core.frames import Frame

Picture = np.ndarray  # (H, W, 3) float32, RGB 0..255


class Place(NamedTuple):
    """Where a subject stands.

    x, y    its centre, in shares of the picture's width and height
    height  in heights of the picture
    turn    rotation in degrees
    """

    x: float
    y: float
    height: float
    turn: float = 0.0


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame and its truth.

    seen   (H, W) bool, the visible part of the subject
    share  the visible share of the subject's whole area, 0..1
    other  (H, W) bool, the visible part of the distractor
    """

    rgb: np.ndarray = field(repr=False)
    seen: np.ndarray = field(repr=False)
    share: float
    other: np.ndarray = field(repr=False)


@dataclass(frozen=True, slots=True)
class Script:
    """A named clip. Each call of `shots` draws it again."""

    name: str
    shots: Callable[[], Iterator[Shot]]

    def frames(self) -> Iterator[Frame]:
        for index, shot in enumerate(self.shots()):
            yield Frame(index, 1001 * index, Fraction(1, 24000), shot.rgb)


def drawn_animal(seed: int, colour: tuple[int, int, int] | None = None) -> np.ndarray:
    """Draw a textured animal with legs, head, ears and tail: (256, 256, 4) float32 RGBA 0..255.

    With `colour` all of it has that colour, lighter and darker in places, so that the colour model finds it.
    """
    rng = np.random.default_rng(seed)
    if colour is None:
        hue = rng.uniform(0, 180)
        hsv = np.array([[[hue, 190, 200], [(hue + rng.uniform(15, 40)) % 180, 150, rng.uniform(60, 240)]]], np.uint8)
        coat = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].astype(float)
    else:
        coat = np.array([colour, colour], float)
    shape = np.zeros((512, 512), np.uint8)
    part = np.zeros((512, 512), np.float32)

    def oval(x: float, y: float, a: float, b: float, turn: float, tone: float) -> None:
        mask = np.zeros_like(shape)
        cv2.ellipse(mask, ((x, y), (2 * a, 2 * b), turn), 255, -1, cv2.LINE_AA)
        np.maximum(shape, mask, out=shape)
        part[mask > 127] = tone

    long = rng.uniform(120, 150)
    for x in (-0.75, -0.4, 0.4, 0.75):
        oval(256 + x * long, 390, 20, 78, float(rng.uniform(-12, 12)), 0.2)
    oval(256 - long - 30, 240, 16, 70, float(rng.uniform(20, 60)), 0.7)
    oval(256, 290, long, 82, 0, 0.0)
    oval(256 + long * 0.85, 205, 40, 85, 25, 0.1)
    oval(256 + long + 25, 130, 72, 50, float(rng.uniform(-10, 15)), 0.25)
    for x in (-35, 5):
        oval(256 + long + x, 80, 15, 38, float(rng.uniform(-20, 20)), 0.9)
    grain = _noise((512, 512), 5, rng)
    y, x = np.mgrid[:512, :512]
    stripes = 0.5 + 0.5 * np.sin((x + 0.4 * y) / rng.uniform(9, 16) + 5 * _noise((512, 512), 30, rng))
    mix = np.clip(part * 0.6 + (stripes > 0.72) * 0.5 + 0.25 * grain, 0, 1)[..., None]
    rgb = coat[0] * (1 - mix) + coat[1] * mix
    rgb = np.clip(rgb * (0.9 + 0.25 * (grain[..., None] - 0.5)), 0, 255)
    if colour is None:
        cv2.circle(rgb, (int(256 + long + 45), 118), 9, (15, 15, 15), -1)
    rgba = np.dstack([rgb, shape]).astype(np.float32)
    return np.asarray(cv2.resize(rgba, (256, 256), interpolation=cv2.INTER_AREA))


def drawn_ground(seed: int, size: tuple[int, int], grey: bool) -> Picture:
    """Draw a textured ground of `size` (H, W) with patches, stones and grain; grey for the colour model."""
    rng = np.random.default_rng(seed)
    h, w = size
    unit = h / 270
    soft = np.dstack([_noise(size, 40 * unit, rng) for _ in range(3)])
    fine = np.dstack([_noise(size, 2 * unit, rng)] * 3)
    colours = rng.uniform(60, 190, (6, 1)) + rng.uniform(-25, 25, (6, 3))
    patches = np.argmax(np.stack([_noise(size, 25 * unit, rng) for _ in colours]), axis=0)
    rgb = 0.6 * colours[patches] + 0.15 * (soft + soft.mean(2, keepdims=True)) * 255 + 0.35 * (fine - 0.2) * 255
    for _ in range(40):
        x, y = int(rng.uniform(0, w)), int(rng.uniform(0, h))
        axes = int(rng.uniform(4, 16) * unit + 1), int(rng.uniform(4, 12) * unit + 1)
        tone = rng.uniform(40, 210) + rng.uniform(-20, 20, 3)
        cv2.ellipse(rgb, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, tuple(map(float, tone)), -1, cv2.LINE_AA)
    if grey:
        rgb = np.repeat(rgb.mean(2, keepdims=True), 3, axis=2)
    return np.clip(rgb, 0, 255).astype(np.float32)


def _noise(size: tuple[int, int], blur: float, rng: np.random.Generator) -> np.ndarray:
    """Draw smooth noise, (H, W) float64 in 0..1."""
    h, w = size
    step = max(int(blur / 3), 1)
    coarse = rng.normal(size=(h // step + 2, w // step + 2)).astype(np.float32)
    coarse = cv2.GaussianBlur(coarse, (0, 0), max(blur / step, 0.6))
    full = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    return np.clip(0.5 + (full - full.mean()) / (5 * full.std() + 1e-9), 0, 1)


class Stage:
    """Draws one scene: a ground wider than the picture, a subject, and what occludes it.

    Args:
        size: (H, W) of the frames.
        seed: the seed of all drawing.
        colour: RGB of the subject, over grey grounds; None: natural colours.
        subjects: cut-outs (h, w, 4) RGBA 0..255 of the subject and its distractor, instead of drawn animals.
        ground: a picture (h, w, 3), instead of the drawn ground.
    """

    def __init__(
        self,
        size: tuple[int, int],
        seed: int,
        colour: tuple[int, int, int] | None = None,
        subjects: tuple[np.ndarray, np.ndarray] | None = None,
        ground: np.ndarray | None = None,
    ) -> None:
        self.size = size
        self.seed = seed
        self.colour = colour
        h, w = size
        wide = (round(1.2 * h), round(1.6 * w))
        if ground is None:
            self.ground = drawn_ground(seed, wide, colour is not None)
        else:
            self.ground = cv2.resize(ground, wide[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
        if subjects is None:
            animal = drawn_animal(seed, colour)
            self.subjects = animal, np.ascontiguousarray(animal[:, ::-1])
        else:
            self.subjects = subjects
        self.stuff = drawn_ground(seed + 1000, wide, colour is not None)
        self.grain = np.random.default_rng(seed)

    def other_scene(self) -> Stage:
        return Stage(self.size, self.seed + 500, self.colour)

    def backdrop(self, pan: tuple[float, float] = (0.0, 0.0)) -> Picture:
        """Return the ground, moved by `pan` (x, y) in shares of the picture from its middle."""
        h, w = self.size
        gh, gw = self.ground.shape[:2]
        matrix = np.array([[1, 0, -((gw - w) / 2 + pan[0] * w)], [0, 1, -((gh - h) / 2 + pan[1] * h)]], np.float32)
        return np.asarray(cv2.warpAffine(self.ground, matrix, (w, h), borderMode=cv2.BORDER_REFLECT))

    def shot(
        self,
        subject: Place | None,
        *,
        other: Place | None = None,
        other_in_front: bool = True,
        walls: tuple[tuple[float, float], ...] = (),
        pan: tuple[float, float] = (0.0, 0.0),
        finish: Callable[[Picture], Picture] | None = None,
    ) -> Shot:
        """Draw one frame.

        Args:
            subject, other: places of the subject and the distractor; None: not in the scene.
            other_in_front: whether the distractor occludes the subject.
            walls: (from x, to x) in shares of the width; each occludes everything over the full height.
            pan: as for `backdrop`.
            finish: a function applied to the picture before grain is added.
        """
        h, w = self.size
        rgb = self.backdrop(pan)
        nothing = np.zeros((h, w), np.float32)
        layers = [(0, subject), (1, other)] if other_in_front else [(1, other), (0, subject)]
        alphas = [nothing, nothing]
        whole = 0.0
        for which, place in layers:
            if place is None:
                continue
            colours, alpha, full = self._place_cutout(self.subjects[which], place)
            rgb = rgb + alpha[..., None] * (colours - rgb)
            alphas[1 - which] = alphas[1 - which] * (1 - alpha)
            alphas[which] = alpha
            whole = full if which == 0 else whole
        for x0, x1 in walls:
            a, b = max(round(x0 * w), 0), min(round(x1 * w), w)
            if a < b:
                rgb[:, a:b] = 0.8 * self.stuff[:h, :w][:, a:b] + 20
                for alpha in alphas:
                    alpha[:, a:b] = 0
        if finish is not None:
            rgb = finish(rgb)
        rgb = rgb + self.grain.normal(0, 1.5, (h, w, 1))
        seen = alphas[0] > 0.5
        return Shot(
            np.clip(np.rint(rgb), 0, 255).astype(np.uint8), seen, float(seen.sum() / whole) if whole else 0.0,
            alphas[1] > 0.5,
        )  # fmt: skip

    def _place_cutout(self, cutout: np.ndarray, place: Place) -> tuple[np.ndarray, np.ndarray, float]:
        """Place a cut-out in the frame.

        Returns: colours (H, W, 3), alpha (H, W), and the whole area in pixels, including parts outside the frame.
        """
        h, w = self.size
        ch, _ = cutout.shape[:2]
        scale = place.height * h / ch
        near = cv2.resize(cutout, None, fx=min(scale, 1), fy=min(scale, 1), interpolation=cv2.INTER_AREA)
        nh, nw = near.shape[:2]
        matrix = cv2.getRotationMatrix2D((nw / 2, nh / 2), place.turn, scale * ch / nh)
        matrix[:, 2] += (place.x * w - nw / 2, place.y * h - nh / 2)
        near = np.dstack([near[..., :3] * near[..., 3:] / 255, near[..., 3] / 255])
        warped = cv2.warpAffine(near, matrix, (w, h), flags=cv2.INTER_LINEAR)
        alpha = warped[..., 3]
        colours = warped[..., :3] / np.maximum(alpha, 1e-3)[..., None]
        full = float((near[..., 3] > 0.5).sum()) * (scale * ch / nh) ** 2
        return colours, alpha, full


# The scripts. Frames are counted from 0. The subject walks to the right if the docstring says nothing else.


# One long function on purpose: each script is a nested generator, and they share `stage` and `stride`.
def scripts(make: Callable[[int], Stage], seed: int = 0) -> list[Script]:
    """Return every script, on stages that `make(seed)` builds."""

    def stage() -> Stage:
        return make(seed)

    def stride(i: int) -> float:
        return 3 * np.sin(i / 3)

    def walk() -> Iterator[Shot]:
        on = stage()
        for i in range(40):
            yield on.shot(Place(0.25 + 0.012 * i, 0.55 + 0.03 * np.sin(i / 4), 0.5, stride(i)))

    def pan() -> Iterator[Shot]:
        on = stage()
        for i in range(40):
            yield on.shot(Place(0.5 + 0.1 * np.sin(i / 9), 0.5, 0.55, stride(i)), pan=(-0.25 + 0.012 * i, 0.0))

    def defocus() -> Iterator[Shot]:
        on = stage()
        unit = on.size[0] / 270
        for i in range(40):
            soft = 0.1 + 3.5 * unit * np.sin(np.pi * i / 39) ** 2

            def blurred(rgb: Picture, soft: float = soft) -> Picture:
                return np.asarray(cv2.GaussianBlur(rgb, (0, 0), soft))

            yield on.shot(Place(0.35 + 0.008 * i, 0.5, 0.55, stride(i)), finish=blurred)

    def light() -> Iterator[Shot]:
        """Dim the light to a third and restore it."""
        on = stage()
        for i in range(40):
            dim = np.float32(1 - 0.65 * np.sin(np.pi * i / 39) ** 2)

            def dimmed(rgb: Picture, dim: np.float32 = dim) -> Picture:
                return np.asarray(rgb * dim)

            yield on.shot(Place(0.35 + 0.008 * i, 0.5, 0.55, stride(i)), finish=dimmed)

    def turning() -> Iterator[Shot]:
        on = stage()
        for i in range(40):
            yield on.shot(Place(0.5, 0.5, 0.5, 2.5 * i), pan=(0.004 * i, 0.0))

    def scale() -> Iterator[Shot]:
        """Let the subject grow from a tenth of the picture's height to all of it."""
        on = stage()
        for i in range(48):
            yield on.shot(Place(0.5, 0.5, 0.1 * 10 ** (i / 47), 0.5 * stride(i)))

    def hidden() -> Iterator[Shot]:
        """Let the subject walk behind a wall, invisible for 20 frames."""
        on = stage()
        for i in range(70):
            yield on.shot(Place(0.16 + 0.0125 * i, 0.5, 0.42, stride(i)), walls=((0.38, _wall_end),))

    def hidden_beside() -> Iterator[Shot]:
        """Let the subject turn back behind a wall, invisible for 20 frames, while its distractor is visible."""
        on = stage()
        for i in range(60):
            x = 0.12 + 0.016 * min(i, 30 - abs(i - 30))
            yield on.shot(Place(x, 0.5, 0.36, stride(i)), other=Place(0.87, 0.5, 0.36), walls=((0.3, 0.68),))

    def away() -> Iterator[Shot]:
        """Let the subject leave to the right, stay away for 20 frames and return on the same side."""
        on = stage()
        for i in range(76):
            x = 0.66 + 0.02 * i if i < 38 else 0.66 + 0.02 * (75 - i)
            yield on.shot(Place(x, 0.5, 0.45, stride(i)))

    def elsewhere() -> Iterator[Shot]:
        """Let the subject leave to the right and return from the left."""
        on = stage()
        for i in range(70):
            x = 0.66 + 0.025 * i if i < 30 else -0.35 + 0.025 * (i - 38)
            yield on.shot(Place(x, 0.5, 0.45, stride(i)))

    def crossing(in_front: bool) -> Iterator[Shot]:
        on = stage()
        for i in range(50):
            yield on.shot(
                Place(0.22 + 0.0115 * i, 0.52, 0.42, stride(i)),
                other=Place(0.78 - 0.0115 * i, 0.5, 0.42, stride(i + 5)),
                other_in_front=in_front,
            )

    def cut() -> Iterator[Shot]:
        """Cut to a scene without the subject for 20 frames, and back."""
        on, off = stage(), stage().other_scene()
        for i in range(56):
            if 18 <= i < 38:
                yield off.shot(None, pan=(0.005 * i, 0.0))
            else:
                yield on.shot(Place(0.4 + 0.005 * i, 0.5, 0.5, stride(i)))

    def dissolve() -> Iterator[Shot]:
        """Dissolve over 8 frames to a scene without the subject, and back.

        The subject counts as visible while its scene has at least half of the mixture.
        """
        on, off = stage(), stage().other_scene()
        for i in range(64):
            rest = float(np.clip(max((22 - i) / 8, (i - 42) / 8), 0, 1))
            shown, blank = on.shot(Place(0.4 + 0.004 * i, 0.5, 0.5, stride(i))), off.shot(None, pan=(0.005 * i, 0.0))
            rgb = np.rint(rest * shown.rgb.astype(np.float32) + (1 - rest) * blank.rgb).astype(np.uint8)
            there = rest >= 0.5
            yield Shot(rgb, shown.seen & there, shown.share * there, shown.other)

    def flash() -> Iterator[Shot]:
        """Add two camera flashes of two frames each."""
        on = stage()
        for i in range(40):
            bright = {12: 2.0, 13: 1.4, 27: 2.0, 28: 1.4}.get(i, 1.0)

            def lit(rgb: Picture, bright: float = bright) -> Picture:
                return rgb * np.float32(bright) + np.float32(40 * (bright - 1))

            yield on.shot(Place(0.3 + 0.009 * i, 0.5, 0.5, stride(i)), finish=lit if bright > 1 else None)

    def pole() -> Iterator[Shot]:
        """Let the subject pass behind a pole that hides up to half of it."""
        on = stage()
        for i in range(60):
            yield on.shot(Place(0.15 + 0.012 * i, 0.5, 0.5, stride(i)), walls=((0.46, 0.56),))

    def thin_pole() -> Iterator[Shot]:
        on = stage()
        for i in range(60):
            yield on.shot(Place(0.15 + 0.012 * i, 0.5, 0.5, stride(i)), walls=((0.49, 0.52),))

    acts: list[tuple[str, Callable[[], Iterator[Shot]]]] = [
        ("walk", walk),
        ("pan", pan),
        ("defocus", defocus),
        ("light", light),
        ("turning", turning),
        ("scale", scale),
        ("hidden", hidden),
        ("hidden beside look-alike", hidden_beside),
        ("away", away),
        ("back elsewhere", elsewhere),
        ("crossing behind", lambda: crossing(True)),
        ("crossing in front", lambda: crossing(False)),
        ("cut", cut),
        ("dissolve", dissolve),
        ("flash", flash),
        ("pole", pole),
        ("thin pole", thin_pole),
    ]
    return [Script(name, shots) for name, shots in acts]


_wall_end = 0.38 + 0.2355 + 0.25  # 20 frames of walking, and the animal's length
