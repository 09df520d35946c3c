"""Draw composites I = alpha F + (1 - alpha) B with a known alpha, to train the matte head on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import cv2
import numpy as np

from mam_video.training.synth.augment import photographic
from mam_video.training.synth.layers import box_of


def composite(alpha: np.ndarray, foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Compute alpha F + (1 - alpha) B from an alpha (H, W) in [0, 1] and straight colours (H, W, 3) of one range.

    Returns: (H, W, 3) float32, exactly the background where alpha is 0 and exactly the foreground where it is 1.
    """
    a = alpha.astype(np.float32)[:, :, None]
    out: np.ndarray = a * foreground.astype(np.float32) + (1 - a) * background.astype(np.float32)
    return out


def over(alpha: np.ndarray, foreground: np.ndarray, alpha2: np.ndarray, foreground2: np.ndarray) -> tuple[
    np.ndarray, np.ndarray
]:  # fmt: skip
    """Lay one subject over another, conserving light. Returns: alpha (H, W), straight colours (H, W, 3), float32."""
    joined = 1 - (1 - alpha) * (1 - alpha2)
    light = composite(alpha, foreground, alpha2[:, :, None] * foreground2)
    return joined, light / np.maximum(joined, 1e-6)[:, :, None]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A subject in a crop: alpha (V, V) float32, straight colours (V, V, 3) float32 0..255."""

    alpha: np.ndarray
    colour: np.ndarray


class Composites:
    """Draws composites by seed and number, at the size of a crop.

    A share `hard` of them tests whether mattes are solid. In these a subject has copies of itself behind it, a flat
    colour or a shadow, or is cut off by the picture's border, and the input masks have errors of all sizes.
    """

    def __init__(
        self,
        subjects: Sequence[tuple[str, np.ndarray]],
        backgrounds: Sequence[np.ndarray],
        size: int,
        seed: int,
        weights: dict[str, float] | None = None,
        hard: float = 0.0,
    ) -> None:
        by_source: dict[str, list[np.ndarray]] = {}
        for source, rgba in subjects:
            by_source.setdefault(source, []).append(rgba)
        weights = weights or {}
        self._pools = [(by_source[s], weights.get(s, 1.0)) for s in sorted(by_source)]
        self._backgrounds, self._size, self._seed, self._hard = backgrounds, size, seed, hard

    def sample(self, index: int) -> dict[str, np.ndarray]:
        """Draw composite number `index`.

        picture (3, V, V) uint8               alpha (1, V, V) float32
        mask    (1, V/4, V/4) float32 0..1, a segmenter's possible mask
        box     (4,) float32, shares of V     valid (1, V, V) float32, 1 in the picture, 0 in padding
        """
        attempt = 0
        while True:
            rng = random.Random(f"{self._seed}/{index}/{attempt}")
            # Its own random numbers: a composite that is not hard does not depend on the share of hard ones.
            hard_rng = random.Random(f"hard/{self._seed}/{index}/{attempt}")
            sample = self._attempt(rng, hard_rng if chance(hard_rng, self._hard) else None)
            if sample is not None:
                return sample
            attempt += 1

    def _attempt(self, rng: random.Random, hard_rng: random.Random | None) -> dict[str, np.ndarray] | None:
        composed = self._compose(rng, hard_rng)
        if composed is None:
            return None
        picture, alpha = composed
        size = self._size
        coded = np.rint(np.clip(picture, 0, 255)).astype(np.uint8)
        # A blur of the picture would blur its alpha too; that of `photographic` stays within about a pixel.
        coded = photographic(rng, [coded])[0] if rng.random() < 0.6 else coded
        content = (size, size)
        if rng.random() < 0.25:
            short = int(size * rng.uniform(0.55, 0.95))
            content = (short, size) if rng.random() < 0.7 else (size, short)
        h, w = content
        coded[h:], coded[:, w:] = 127, 127
        alpha = alpha.astype(np.float32)
        alpha[h:], alpha[:, w:] = 0, 0
        subject = (alpha > 0.5).astype(np.uint8)
        box = box_of(subject)
        if box is None or subject.mean() < 0.01:
            return None
        valid = np.zeros((size, size), np.float32)
        valid[:h, :w] = 1
        mask = guessed_mask(rng, alpha, size // 4)
        if chance(hard_rng, 0.7):
            mask = with_errors(hard_rng, mask)
        return {
            "picture": np.ascontiguousarray(coded.transpose(2, 0, 1)),
            "alpha": alpha[None],
            "mask": mask[None],
            "box": (box / size).astype(np.float32),
            "valid": valid[None],
        }

    def _compose(self, rng: random.Random, hard_rng: random.Random | None) -> tuple[np.ndarray, np.ndarray] | None:
        """Draw the layers of a composite. Returns: the picture (V, V, 3) float32 0..255 and the alpha (V, V)."""
        # A hard subject is sometimes cut off by the border of the picture, mostly the lower one.
        cut_off = [(0.5, 0.75), (0.5, 0.85), (0.2, 0.6), (0.8, 0.6)]
        subject = self._draw(rng, 1.0, hard_rng.choice(cut_off) if chance(hard_rng, 0.3) else (0.5, 0.5))
        if subject is None:
            return None
        alpha, colour = subject.alpha, subject.colour
        if chance(hard_rng, 0.25):
            colour = flattened(hard_rng, colour, alpha)
        if rng.random() < 0.12:
            second = self._draw(rng, rng.uniform(0.5, 1), (rng.random(), rng.random()))
            if second is not None:
                alpha, colour = over(alpha, colour, second.alpha, second.colour)
        background = self._background(rng, colour, alpha)
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            other = self._draw(rng, rng.uniform(0.3, 0.9), (rng.random(), rng.random()))
            if other is not None:
                background = composite(other.alpha, other.colour, background)
        if chance(hard_rng, 0.4):
            background = self._with_copies(hard_rng, alpha, colour, background)
        if chance(hard_rng, 0.3):
            background = shaded(hard_rng, alpha, background)
        picture = composite(alpha, colour, background)
        if rng.random() < 0.08:
            # Another subject in front: it hides the subject and counts as background.
            other = self._draw(rng, rng.uniform(0.3, 0.7), (rng.random(), rng.random()))
            if other is not None:
                picture = composite(other.alpha, other.colour, picture)
                alpha = alpha * (1 - other.alpha)
        return picture, alpha

    def _draw(self, rng: random.Random, scale: float, place: tuple[float, float]) -> Drawn | None:
        """Draw a subject in the crop, rotated, scaled and with other colours. Returns None if its alpha is almost 0."""
        pool = rng.choices([p for p, _ in self._pools], [w for _, w in self._pools])[0]
        rgba = rng.choice(pool)
        size = self._size
        box = box_of(rgba[:, :, 3] > 40)
        if box is None:
            return None
        reach = max(box[2] - box[0], box[3] - box[1])
        k = scale * size / (reach * rng.uniform(1.05, 1.9))
        a = np.deg2rad(rng.gauss(0, 12))
        turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) * k
        if rng.random() < 0.5:
            turn = turn @ np.diag([-1.0, 1.0])
        middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
        target = np.array(place) * size + np.array([rng.gauss(0, 0.06), rng.gauss(0, 0.06)]) * size
        matrix = np.hstack([turn, (target - turn @ middle)[:, None]])
        if k < 0.7:
            rgba = cv2.GaussianBlur(rgba, (0, 0), 0.35 / k)
        colour = cv2.warpAffine(
            rgba[:, :, :3], matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        alpha = cv2.warpAffine(rgba[:, :, 3].astype(np.float32) / 255, matrix, (size, size), flags=cv2.INTER_LINEAR)
        colour = colour.astype(np.float32) * rng.uniform(0.6, 1.3) + rng.uniform(-20, 20)
        colour = np.clip(colour * np.array([rng.uniform(0.88, 1.12) for _ in range(3)], np.float32), 0, 255)
        return Drawn(np.clip(alpha, 0, 1), colour)

    def _with_copies(
        self, rng: random.Random, alpha: np.ndarray, colour: np.ndarray, background: np.ndarray
    ) -> np.ndarray:
        """Draw one or two copies of the subject on the background: moved, mirrored, scaled, brighter or darker."""
        size = self._size
        for _ in range(rng.choice([1, 1, 2])):
            k, side = rng.uniform(0.5, 1.1), rng.choice([-1.0, 1.0])
            shift = np.array([rng.gauss(0, 0.35), rng.gauss(0, 0.2)]) * size + size / 2
            matrix = np.array([[k * side, 0, shift[0] - k * side * size / 2], [0, k, shift[1] - k * size / 2]])
            copy_alpha = cv2.warpAffine(alpha, matrix, (size, size), flags=cv2.INTER_LINEAR)
            copy = cv2.warpAffine(colour, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            background = composite(copy_alpha, np.clip(copy * rng.uniform(0.75, 1.2), 0, 255), background)
        return background

    def _background(self, rng: random.Random, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """Draw a background (V, V, 3): part of a picture, sometimes out of focus or near the subject's colour."""
        size = self._size
        other = rng.choice(self._backgrounds)
        h, w = other.shape[:2]
        side = int(min(h, w) * rng.uniform(0.4, 1.0))
        y, x = rng.randint(0, h - side), rng.randint(0, w - side)
        part = other[y : y + side, x : x + side]
        if rng.random() < 0.5:
            part = part[:, ::-1]
        flags = cv2.INTER_AREA if side > size else rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])
        background = cv2.resize(np.ascontiguousarray(part), (size, size), interpolation=flags).astype(np.float32)
        draw = rng.random()
        if draw < 0.25:
            background = cv2.GaussianBlur(background, (0, 0), rng.uniform(1, 12))
        elif draw < 0.5:
            # The photographs are small: grain replaces the detail of a real background.
            grain = np.random.default_rng(rng.getrandbits(32)).standard_normal((size, size, 1), np.float32)
            grain = cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.5, 1.5))[:, :, None]
            background = background + grain * rng.uniform(4, 25)
        if rng.random() < 0.2 and alpha.sum() > 0:
            mean = (colour * alpha[:, :, None]).sum((0, 1)) / alpha.sum()
            background = background + rng.uniform(0.3, 1.0) * (mean - background.mean((0, 1)))
        return np.clip(background, 0, 255)


def chance(rng: random.Random | None, share: float) -> TypeGuard[random.Random]:
    """Draw True with the probability `share`. Without random numbers it is always False."""
    return rng is not None and rng.random() < share


def flattened(rng: random.Random, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Blend the subject's colours (V, V, 3) with one flat colour and a soft gradient, everywhere or in a part."""
    size = alpha.shape[0]
    mean = (colour * alpha[:, :, None]).sum((0, 1)) / max(float(alpha.sum()), 1.0)
    flat = mean if rng.random() < 0.5 else np.array([rng.uniform(0, 255) for _ in range(3)])
    slope = np.array([rng.gauss(0, 25) for _ in range(4)], np.float32).reshape(2, 2, 1)
    light = cv2.resize(slope, (size, size), interpolation=cv2.INTER_LINEAR)[:, :, None]
    share = np.full((size, size), rng.uniform(0.6, 1.0), np.float32)
    if rng.random() < 0.5:  # like a shirt or a patch of fur
        share = share * blobs(rng, size, 0.0)
    out: np.ndarray = np.clip(composite(share, flat.astype(np.float32) + light, colour), 0, 255)
    return out


def shaded(rng: random.Random, alpha: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Draw a soft shadow of the subject on the background (V, V, 3), from its feet. The alpha does not include it."""
    size = alpha.shape[0]
    box = box_of(alpha > 0.5)
    if box is None:
        return background
    low, lean = float(box[3]), rng.gauss(0, 0.7)
    height = rng.choice([-1.0, 1.0]) * rng.uniform(0.1, 0.5)
    matrix = np.array([[1, lean * height, -lean * height * low], [0, height, low * (1 - height)]])
    shadow = cv2.warpAffine(alpha, matrix, (size, size), flags=cv2.INTER_LINEAR)
    shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(1, 12)) * rng.uniform(0.3, 0.8)
    darkened: np.ndarray = background * (1 - shadow[:, :, None])
    return darkened


def blobs(rng: random.Random, size: int, level: float) -> np.ndarray:
    """Draw random regions: (size, size) float32, 1 where smooth noise of standard deviation 1 is above `level`."""
    side = rng.choice([3, 4, 6, 10])
    coarse = np.array([rng.gauss(0, 1) for _ in range(side * side)], np.float32).reshape(side, side)
    regions: np.ndarray = (cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) > level).astype(np.float32)
    return regions


def with_errors(rng: random.Random, mask: np.ndarray) -> np.ndarray:
    """Add errors of all sizes to a mask (m, m) in 0..1: holes, leaks, specks, and regions of low confidence."""
    size = mask.shape[0]
    logits = np.log(np.clip(mask, 1e-5, 1 - 1e-5) / np.clip(1 - mask, 1e-5, 1))
    near = cv2.GaussianBlur(mask, (0, 0), size / 32)
    for _ in range(rng.choice([1, 1, 2, 3])):
        # Mostly at the edge, where segmenters err; sometimes anywhere.
        candidates = np.flatnonzero((near > 0.1) & (near < 0.9)) if rng.random() < 0.6 else np.arange(mask.size)
        if not len(candidates):
            continue
        y, x = divmod(int(candidates[rng.randrange(len(candidates))]), size)
        reach = size * float(np.exp(rng.uniform(np.log(0.012), np.log(0.12))))
        axes = (max(round(reach * rng.uniform(0.5, 2)), 1), max(round(reach * rng.uniform(0.3, 1)), 1))
        spot = np.zeros((size, size), np.float32)
        cv2.ellipse(spot, (x, y), axes, rng.uniform(0, 180), 0, 360, 1.0, -1)
        spot = cv2.GaussianBlur(spot, (0, 0), rng.uniform(0.6, 2.0))
        # The errors of a segmenter mostly have a low confidence.
        wrong = rng.choice([-1, 1]) * abs(rng.gauss(0, 2.0)) if rng.random() < 0.7 else rng.choice([-6.0, 6.0])
        logits = logits + (wrong - logits) * spot
    if rng.random() < 0.4:
        uncertain = cv2.GaussianBlur(blobs(rng, size, 0.8), (0, 0), size / 40)
        logits = logits * (1 - uncertain * rng.uniform(0.5, 0.95))
    out: np.ndarray = 1 / (1 + np.exp(-logits))
    return out.astype(np.float32)


def guessed_mask(rng: random.Random, alpha: np.ndarray, size: int) -> np.ndarray:
    """Draw a segmenter's possible mask, (size, size) float32 0..1: with a smooth edge that is slightly wrong."""
    small = cv2.resize(alpha, (size, size), interpolation=cv2.INTER_AREA)
    hard = (small > rng.uniform(0.25, 0.75)).astype(np.float32)
    rounded = cv2.GaussianBlur(hard, (0, 0), rng.uniform(0.6, 2.5))
    mask = (rounded > rng.uniform(0.35, 0.65)).astype(np.uint8)
    # Parts of the edge are moved outwards, others inwards.
    coarse = np.array([rng.gauss(0, 1) for _ in range(64)], np.float32).reshape(8, 8)
    wander = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) * rng.choice([0.5, 1.0, 2.0])
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 3) - cv2.distanceTransform(1 - mask, cv2.DIST_L2, 3)
    out = 1 / (1 + np.exp(-np.clip((inside + wander) * rng.uniform(0.8, 2.5), -12, 12)))
    if rng.random() < 0.15:
        centre, radius = (rng.randrange(size), rng.randrange(size)), rng.randrange(2, 8)
        spot = np.zeros((size, size), np.float32)
        cv2.circle(spot, centre, radius, 1.0, -1)
        spot = cv2.GaussianBlur(spot, (0, 0), 1.0)
        out = np.maximum(out, spot) if rng.random() < 0.5 else np.minimum(out, 1 - spot)
    return out.astype(np.float32)


def unknown_band(alpha: np.ndarray, width: int) -> np.ndarray:
    """Return the unknown region (H, W) bool: where the alpha is neither 0 nor 1, and `width` pixels around."""
    unknown = ((alpha > 1 / 255) & (alpha < 254 / 255)).astype(np.uint8)
    # A hard edge is unknown too.
    hard = (alpha > 0.5).astype(np.uint8)
    unknown |= cv2.morphologyEx(hard, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    band: np.ndarray = cv2.dilate(unknown, disc) > 0
    return band
