"""Estimate the foreground colour at soft edges, where the plate's colour is mixed with background.

A plate is I = a F + (1 - a) B. Given I and alpha, F and B are estimated together: they must explain the plate and vary
slowly. The method is that of Germer, Uelwer, Conrad and Harmeling, "Fast Multi-Level Foreground Estimation" (ICPR
2020). The weight of a neighbour grows with the change of alpha, and coarse levels initialise finer ones. Differs:
theirs visits every pixel. Here only uncertain pixels and their surroundings are visited, as lists, so that the time
grows with the length of the edge and not with the size of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np

from mam_video.core.arrays import Alpha, Grey8, Plate
from mam_video.core.frames import Matted

CERTAIN: Final = 1 / 1024  # alpha this close to 0 or 1 is certain; the error is below a step of 10 bits
COARSEST: Final = 32  # pixels, longer side of the coarsest level
HALF_MOST: Final = 65504.0  # the largest half float
ROUNDS: Final = 3
ROUNDS_COARSEST: Final = 10
LEAST_WEIGHT: Final = 1e-5  # weight of a neighbour with the same alpha
ROOM: Final = 16  # pixels around the uncertain ones that take part
_CROSS: Final = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_SQUARE: Final = np.ones((3, 3), np.uint8)


def with_foreground(matted: Matted) -> Matted:
    """Replace the picture of a matte by the estimated foreground colour. A pure function, safe in any thread.

    The coverage is used, because an alpha after choke or grow does not describe how the plate's colours are mixed. The
    plate's own alpha does not either: its colours are straight, and stay unchanged where it is below 1.
    """
    coverage = matted.alpha if matted.coverage is None else matted.coverage
    rgb = estimate_foreground(matted.frame.rgb, coverage, matted.frame.alpha)
    return matted if rgb is matted.frame.rgb else replace(matted, frame=replace(matted.frame, rgb=rgb))


def estimate_foreground(rgb: Plate, alpha: Alpha, plate_alpha: Alpha | None = None) -> Plate:
    """Estimate the subject's colour F, straight (not multiplied by alpha).

    Args:
        rgb: the plate, (H, W, 3); uint8 or uint16 over their whole range, or float16 or float32 of any scale.
        alpha: (H, W) float32 in [0, 1].
        plate_alpha: the plate's own alpha, (H, W) float32 in [0, 1]; None if it is 1 everywhere. The colour does not
            change where it is below 1. Where it is 0, the colour of the nearest neighbours is used.
    Returns: (H, W, 3) of the plate's dtype. It differs from the plate only where alpha is fractional, and up to two
        pixels around it where alpha is 0 (so that scaling or compression mixes in no background). Pixels with alpha 1
        keep the plate's exact values. Integers stay in their range, floats within the plate's range. If alpha is hard
        everywhere, the plate itself is returned, not a copy.
    Raises: ValueError, the sizes differ.
    """
    if rgb.shape[:2] != alpha.shape:
        raise ValueError(f"rgb is {rgb.shape[:2]}, alpha {alpha.shape}")
    uncertain = _uncertain(alpha)
    if not uncertain.any():
        return rgb
    top, left, bottom, right = _surroundings(uncertain)
    part = np.s_[top:bottom, left:right]
    is_integer = np.issubdtype(rgb.dtype, np.integer)
    plate_part, low, high = rgb[part], 0.0, 0.0
    if is_integer:
        high = float(np.iinfo(rgb.dtype).max)
    else:  # a render may hold half floats and values that are not finite
        plate_part = np.nan_to_num(plate_part.astype(np.float32), nan=0.0, posinf=HALF_MOST, neginf=-HALF_MOST)
        low, high = float(plate_part.min()), float(plate_part.max())
    if plate_alpha is not None:
        finite = plate_part.astype(np.float32)
        plate_part = _extended(finite, plate_alpha[part] > 0)
        if not is_integer:
            low, high = float(plate_part.min()), float(plate_part.max())
    levels = _pyramid(plate_part, alpha[part], uncertain[part])

    solution: _Solution | None = None
    for level in reversed(levels):
        solution = _solve(level, solution, low, high)
    assert solution is not None

    fractional = alpha[part].ravel()[solution.flat] < 1 - CERTAIN
    if plate_alpha is not None:
        fractional &= plate_alpha[part].ravel()[solution.flat] >= 1
    changed = solution.flat[fractional]
    colour = solution.colours[:3].take(solution.list_index.ravel()[changed], 1).T
    result = rgb.copy()
    rows, columns = np.divmod(changed, right - left)
    result[rows + top, columns + left] = np.rint(colour) if is_integer else colour
    return result


@dataclass(frozen=True, slots=True)
class _Level:
    """A level of the pyramid: a picture, its alpha, and the pixels that are uncertain here or on a finer level.

    The first level has the full size.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    uncertain: Grey8  # (H, W) uint8, 0 or 255


@dataclass(frozen=True, slots=True)
class _Solution:
    """F and B of the pixels in the list of one level.

    flat        (M,) indices in the flattened picture
    list_index  (H, W) int32, position of a pixel in the list; -1 if it is not in the list
    colours     (6, M) float32: F and B, channel by channel
    """

    flat: np.ndarray
    list_index: np.ndarray
    colours: np.ndarray


def _extended(rgb: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Extend known colours to unknown pixels, smoother with the distance. Returns: (H, W, 3) float32.

    Means of known pixels on coarser levels fill the unknown pixels of finer ones.

    Args:
        rgb: (H, W, 3) float32, finite.
        known: (H, W) bool. If no pixel is known, `rgb` is returned unchanged.
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
    is_integer = cv2.resize(coarse, (2 * half[0], 2 * half[1]), interpolation=cv2.INTER_LINEAR)[:height, :width]
    return np.where(known[..., None], rgb, is_integer)


def _uncertain(alpha: Alpha) -> Grey8:
    return cv2.inRange(alpha, CERTAIN, 1 - CERTAIN)


def _surroundings(uncertain: Grey8) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right of the uncertain pixels, with a margin of up to 16 pixels."""
    x, y, width, height = cv2.boundingRect(uncertain)
    return max(y - ROOM, 0), max(x - ROOM, 0), min(y + height + ROOM, uncertain.shape[0]), min(
        x + width + ROOM, uncertain.shape[1]
    )  # fmt: skip


def _pyramid(rgb: np.ndarray, alpha: np.ndarray, uncertain: np.ndarray) -> list[_Level]:
    """Build the levels by means of 2 x 2 pixels. Odd sizes are extended by their last row or column."""
    levels = [_Level(rgb, alpha, uncertain)]
    while max(levels[-1].alpha.shape) > COARSEST:
        parts = [_halved(part) for part in (levels[-1].rgb, levels[-1].alpha, levels[-1].uncertain)]
        colour, opacity, finer_uncertain = parts
        levels.append(
            _Level(
                colour.astype(np.float32),
                opacity,
                cv2.max(_uncertain(opacity), cv2.compare(finer_uncertain, 0, cv2.CMP_GT)),
            )
        )
    return levels


def _halved(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        height, width = picture.shape[:2]
    half: np.ndarray = cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return half


def _solve(level: _Level, coarser: _Solution | None, low: float, high: float) -> _Solution:
    """Solve for F and B around the uncertain pixels of one level, initialised from the next coarser level.

    A pixel's F and B minimise (a F + (1 - a) B - I)^2 + sum of w (F - F')^2 + w (B - B')^2 over its four neighbours
    (F', B'), with w = |a - a'| + 1e-5. The minimum is the neighbours' weighted mean plus a share of the residual that
    the mean leaves of the plate. Pixels are visited in chessboard order, one colour after the other.
    """
    height, width = level.alpha.shape
    if coarser is None:
        free = np.full((height, width), 255, np.uint8)
        known = free
    else:
        free = cv2.dilate(level.uncertain, _SQUARE)
        known = cv2.dilate(free, _CROSS)
    flat, counts = _in_chessboard_order(known, free)
    list_index = np.full(height * width, -1, np.int32)
    list_index[flat] = np.arange(len(flat), dtype=np.int32)
    rows, columns = np.divmod(flat, width)
    plate = level.rgb.reshape(-1, 3).take(flat, 0).T.astype(np.float32, order="C")
    alpha = level.alpha.ravel().take(flat)

    if coarser is None:
        colours = np.repeat(_means(plate, alpha)[:, None], len(flat), 1)
    else:
        across = (width + 1) // 2
        colours = coarser.colours.take(coarser.list_index.ravel().take((rows >> 1) * across + (columns >> 1)), 1)
    solid, clear = alpha >= 1 - CERTAIN, alpha <= CERTAIN
    np.copyto(colours[:3], plate, where=solid)
    np.copyto(colours[3:], plate, where=clear)

    sides = (slice(0, counts[0]), slice(counts[0], counts[0] + counts[1]))
    fields = [_Field.of(side, flat, rows, columns, list_index, plate, alpha, level) for side in sides]
    for _ in range(ROUNDS_COARSEST if coarser is None else ROUNDS):
        for field in fields:
            field.relax(colours, low, high)
    return _Solution(flat, list_index.reshape(height, width), colours)


def _in_chessboard_order(known: Grey8, free: Grey8) -> tuple[np.ndarray, tuple[int, int]]:
    """List the known pixels: free ones of one chessboard colour, free ones of the other, then those that stay.

    So each colour's pixels lie together in the list.
    Returns: indices in the flattened picture, and how many of each colour are free.
    """
    flat = np.flatnonzero(known.ravel())
    rows, columns = np.divmod(flat, known.shape[1])
    moving, odd = free.ravel()[flat] > 0, ((rows + columns) & 1).astype(np.bool_)
    first, second = flat[moving & ~odd], flat[moving & odd]
    return np.concatenate([first, second, flat[~moving]]), (len(first), len(second))


def _means(plate: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Compute the mean colours of subject and background, weighted by alpha: (6,) float32."""
    both = np.stack([alpha, 1 - alpha]) ** 4 + 1e-6
    return ((both @ plate.T) / both.sum(1, keepdims=True)).astype(np.float32).ravel()


@dataclass(frozen=True, slots=True)
class _Field:
    """The pixels of one chessboard colour, with the values that are constant while they are visited.

    at          which of the list they are
    neighbours  (4, N) positions of their neighbours
    weights     (4, N) float32, which sum to 1
    plate       (3, N) float32
    shares      (N,) float32 each: alpha, 1 - alpha, and the shares of the residual that F and B take
    """

    at: slice
    neighbours: np.ndarray
    weights: np.ndarray
    plate: np.ndarray
    shares: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def of(
        cls,
        at: slice,
        flat: np.ndarray,
        rows: np.ndarray,
        columns: np.ndarray,
        list_index: np.ndarray,
        plate: np.ndarray,
        alpha: np.ndarray,
        level: _Level,
    ) -> _Field:
        height, width = level.alpha.shape
        y, x, here = rows[at], columns[at], flat[at]
        steps = [
            np.where(x > 0, here - 1, here),
            np.where(x < width - 1, here + 1, here),
            np.where(y > 0, here - width, here),
            np.where(y < height - 1, here + width, here),
        ]
        neighbours = list_index.take(np.stack(steps)).astype(np.intp)
        plate_alpha = alpha[at]
        weights = np.abs(alpha.take(neighbours) - plate_alpha) + np.float32(LEAST_WEIGHT)
        total = weights.sum(0)
        norm = plate_alpha * plate_alpha + (1 - plate_alpha) * (1 - plate_alpha) + total
        shares = (plate_alpha, 1 - plate_alpha, plate_alpha / norm, (1 - plate_alpha) / norm)
        return cls(at, neighbours, weights / total, plate[:, at], shares)

    def relax(self, colours: np.ndarray, low: float, high: float) -> None:
        mean = colours.take(self.neighbours[0], 1)
        mean *= self.weights[0]
        for neighbours, weight in zip(self.neighbours[1:], self.weights[1:], strict=True):
            mean += colours.take(neighbours, 1) * weight
        alpha, rest, to_f, to_b = self.shares
        residual = self.plate - alpha * mean[:3] - rest * mean[3:]
        mean[:3] += to_f * residual
        mean[3:] += to_b * residual
        np.clip(mean, low, high, out=mean)
        colours[:, self.at] = mean
