"""The subject's own colour at soft edges, where the plate's colour holds background.

A plate is I = a F + (1 - a) B. Given I and alpha, F and B are found together: they explain the plate and change
slowly. As in Germer, Uelwer, Conrad and Harmeling, "Fast Multi-Level Foreground Estimation" (ICPR 2020), neighbours
count the more the more alpha changes between them, and coarse levels hand their answer to finer ones. Theirs visits
every pixel; only the unsure ones and their surroundings are visited here, kept as lists, so that the time goes with the
length of the edge and not with the size of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from mam_video.core.arrays import Alpha, Grey8, Plate
from mam_video.core.frames import Matted

_SURE: Final = 1 / 1024  # alpha closer than this to 0 or 1 is sure: what it could change is below a step of 10 bits
_COARSEST: Final = 32  # pixels of the longer side
_HALF_MOST: Final = 65504.0  # the largest half float
_ROUNDS: Final = 3
_ROUNDS_COARSEST: Final = 10
_LEAST_WEIGHT: Final = 1e-5  # of a neighbour whose alpha is the same
_CROSS: Final = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_SQUARE: Final = np.ones((3, 3), np.uint8)


def with_foreground(matted: Matted) -> Matted:
    """The same with the subject's own colour as its picture; pure, so that any thread may do it.

    An alpha that was grown or choked by hand does not say how the plate's colours are mixed; the coverage before does.
    The plate's own alpha says nothing of it either: its colours are straight, and stay as they are where it is below 1.
    """
    coverage = matted.alpha if matted.coverage is None else matted.coverage
    rgb = estimate_foreground(matted.frame.rgb, coverage, matted.frame.alpha)
    return matted if rgb is matted.frame.rgb else replace(matted, frame=replace(matted.frame, rgb=rgb))


def estimate_foreground(rgb: Plate, alpha: Alpha, own: Alpha | None = None) -> Plate:
    """The subject's colour F, straight (not multiplied by alpha).

    Args:
        rgb: the plate, (H, W, 3); uint8 or uint16 over their whole range, or float16 or float32 of any scale.
        alpha: (H, W) float32 in [0, 1].
        own: (H, W) float32 in [0, 1], the alpha that the plate brings along; None where it is 1 everywhere. Where it is
            below 1 the colour is not changed. Where it is 0 colours count as their nearest neighbours', since nothing
            lies behind the edge of what the plate shows.
    Returns: (H, W, 3) of the plate's dtype. It differs from the plate only where alpha is fractional, and two pixels
        around that where alpha is 0 (so that scaling or compressing the result drags no background in). Pixels of
        alpha 1 keep the plate's exact values. Integers stay in their range, floats within the plate's own. The plate
        itself, not a copy, where alpha is hard everywhere.
    """
    if rgb.shape[:2] != alpha.shape:
        raise ValueError(f"rgb is {rgb.shape[:2]}, alpha {alpha.shape}")
    unsure = _unsure(alpha)
    if not unsure.any():
        return rgb
    top, left, bottom, right = _surroundings(unsure)
    cut = np.s_[top:bottom, left:right]
    whole = np.issubdtype(rgb.dtype, np.integer)
    seen, low, high = rgb[cut], 0.0, 0.0
    if whole:
        high = float(np.iinfo(rgb.dtype).max)
    else:  # half too, and what is not finite: a render may hold either
        seen = np.nan_to_num(seen.astype(np.float32), nan=0.0, posinf=_HALF_MOST, neginf=-_HALF_MOST)
        low, high = float(seen.min()), float(seen.max())
    if own is not None:
        finite = seen.astype(np.float32)
        seen = _extended(finite, own[cut] > 0)
        if not whole:
            low, high = float(seen.min()), float(seen.max())
    levels = _pyramid(seen, alpha[cut], unsure[cut])

    found: _Found | None = None
    for level in reversed(levels):
        found = _solve(level, found, low, high)
    assert found is not None

    mixed = alpha[cut].ravel()[found.flat] < 1 - _SURE
    if own is not None:
        mixed &= own[cut].ravel()[found.flat] >= 1
    ours = found.flat[mixed]
    colour = found.colours[:3].take(found.place.ravel()[ours], 1).T
    result = rgb.copy()
    rows, columns = np.divmod(ours, right - left)
    result[rows + top, columns + left] = np.rint(colour) if whole else colour
    return result


@dataclass(frozen=True, slots=True)
class _Level:
    """A picture, its alpha, and what of it is unsure (or was, on a finer level); the first is the full size."""

    rgb: np.ndarray
    alpha: np.ndarray
    unsure: Grey8  # 0 or 255


@dataclass(frozen=True, slots=True)
class _Found:
    """F and B of the pixels that one level knows of.

    flat     (M,) places in the flattened picture
    place    (H, W) int32, where in the list a pixel is; -1 where it is not
    colours  (6, M) float32: F and B, channel by channel
    """

    flat: np.ndarray
    place: np.ndarray
    colours: np.ndarray


def _extended(rgb: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return float32 colour that is carried on from where it is known to where it is not, ever smoother further away.

    Means of known pixels on coarser and coarser levels fill what is unknown on finer ones.

    Args:
        rgb: (H, W, 3) float32, finite.
        known: (H, W) bool. Where no pixel is known, `rgb` is returned as it is.
    """
    if known.all() or not known.any():
        return rgb
    height, width = known.shape
    weight = known.astype(np.float32)
    colour = rgb * weight[..., None]
    odd = (height % 2, width % 2)
    colour, weight = (cv2.copyMakeBorder(each, 0, odd[0], 0, odd[1], cv2.BORDER_REPLICATE) for each in (colour, weight))
    half = (colour.shape[1] // 2, colour.shape[0] // 2)
    colour, weight = (cv2.resize(each, half, interpolation=cv2.INTER_AREA) for each in (colour, weight))
    coarse = _extended(colour / np.maximum(weight, np.float32(1e-6))[..., None], weight > 0)
    whole = cv2.resize(coarse, (2 * half[0], 2 * half[1]), interpolation=cv2.INTER_LINEAR)[:height, :width]
    return np.where(known[..., None], rgb, whole)


def _unsure(alpha: Alpha) -> Grey8:
    return cv2.inRange(alpha, _SURE, 1 - _SURE)


def _surroundings(unsure: Grey8) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of what is unsure, with room for some sure pixels on every side."""
    x, y, width, height = cv2.boundingRect(unsure)
    room = 16
    return max(y - room, 0), max(x - room, 0), min(y + height + room, unsure.shape[0]), min(
        x + width + room, unsure.shape[1]
    )  # fmt: skip


def _pyramid(rgb: np.ndarray, alpha: np.ndarray, unsure: np.ndarray) -> list[_Level]:
    """Means of 2 x 2 pixels, again and again, odd sizes extended by their last row or column."""
    levels = [_Level(rgb, alpha, unsure)]
    while max(levels[-1].alpha.shape) > _COARSEST:
        parts = [_halved(part) for part in (levels[-1].rgb, levels[-1].alpha, levels[-1].unsure)]
        colour, opacity, was = parts
        levels.append(
            _Level(colour.astype(np.float32), opacity, cv2.max(_unsure(opacity), cv2.compare(was, 0, cv2.CMP_GT)))
        )
    return levels


def _halved(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        height, width = picture.shape[:2]
    half: np.ndarray = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return half


def _solve(level: _Level, coarser: _Found | None, low: float, high: float) -> _Found:
    """F and B around what is unsure on one level, begun from the next coarser one's.

    A pixel's F and B minimise (a F + (1 - a) B - I)^2 + sum of w (F - F')^2 + w (B - B')^2 over its four neighbours
    (F', B'), with w = |a - a'| + a little. The minimum lies at the neighbours' weighted mean, moved by a share of what
    the mean leaves of the plate. Pixels are visited as on a chessboard, one colour after the other.
    """
    height, width = level.alpha.shape
    if coarser is None:
        free = np.full((height, width), 255, np.uint8)
        known = free
    else:
        free = cv2.dilate(level.unsure, _SQUARE)
        known = cv2.dilate(free, _CROSS)
    flat = np.flatnonzero(known.ravel())
    place = np.full(height * width, -1, np.int32)
    place[flat] = np.arange(len(flat), dtype=np.int32)
    rows, columns = np.divmod(flat, width)
    plate = level.rgb.reshape(-1, 3).take(flat, 0).T.astype(np.float32, order="C")
    alpha = level.alpha.ravel().take(flat)

    if coarser is None:
        colours = np.repeat(_means(plate, alpha)[:, None], len(flat), 1)
    else:
        across = (width + 1) // 2
        colours = coarser.colours.take(coarser.place.ravel().take((rows >> 1) * across + (columns >> 1)), 1)
    solid, clear = alpha >= 1 - _SURE, alpha <= _SURE
    np.copyto(colours[:3], plate, where=solid)
    np.copyto(colours[3:], plate, where=clear)

    moving = free.ravel()[flat] > 0
    colour_of_square = (rows + columns) & 1
    fields = [
        _Field.of(np.flatnonzero(moving & (colour_of_square == side)), flat, rows, columns, place, plate, alpha, level)
        for side in (0, 1)
    ]
    for _ in range(_ROUNDS_COARSEST if coarser is None else _ROUNDS):
        for field in fields:
            field.relax(colours, low, high)
    return _Found(flat, place.reshape(height, width), colours)


def _means(plate: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """(6,) float32: the mean colour of what is rather subject, and of what is rather not."""
    both = np.stack([alpha, 1 - alpha]) ** 4 + 1e-6
    return ((both @ plate.T) / both.sum(1, keepdims=True)).astype(np.float32).ravel()


@dataclass(frozen=True, slots=True)
class _Field:
    """The squares of one colour, and what does not change about them while they are visited.

    at         (N,) places in the list
    beside     (4, N) places of their neighbours
    weights    (4, N) float32, adding up to 1
    plate      (3, N) float32
    shares     (N,) float32 each: alpha and 1 - alpha, and how much of the rest goes to F and to B
    """

    at: np.ndarray
    beside: np.ndarray
    weights: np.ndarray
    plate: np.ndarray
    shares: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def of(
        cls,
        at: np.ndarray,
        flat: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        place: np.ndarray,
        plate: np.ndarray,
        alpha: np.ndarray,
        level: _Level,
    ) -> _Field:
        height, width = level.alpha.shape
        y, x, here = rows.take(at), columns.take(at), flat.take(at)
        steps = [
            np.where(x > 0, here - 1, here),
            np.where(x < width - 1, here + 1, here),
            np.where(y > 0, here - width, here),
            np.where(y < height - 1, here + width, here),
        ]
        beside = place.take(np.stack(steps)).astype(np.intp)
        own = alpha.take(at)
        weights = np.abs(alpha.take(beside) - own) + np.float32(_LEAST_WEIGHT)
        total = weights.sum(0)
        norm = own * own + (1 - own) * (1 - own) + total
        shares = (own, 1 - own, own / norm, (1 - own) / norm)
        return cls(at, beside, weights / total, plate.take(at, 1), shares)

    def relax(self, colours: np.ndarray, low: float, high: float) -> None:
        mean = colours.take(self.beside[0], 1)
        mean *= self.weights[0]
        for beside, weight in zip(self.beside[1:], self.weights[1:], strict=True):
            mean += colours.take(beside, 1) * weight
        alpha, rest, to_f, to_b = self.shares
        left = self.plate - alpha * mean[:3] - rest * mean[3:]
        mean[:3] += to_f * left
        mean[3:] += to_b * left
        np.clip(mean, low, high, out=mean)
        for channel, values in zip(colours, mean, strict=True):
            channel[self.at] = values
