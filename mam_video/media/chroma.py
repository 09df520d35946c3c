"""Chroma planes of fewer samples than the luma: widened to its size, and made of planes of its size."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

SAMPLING: Final = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "440": (1, 2), "411": (4, 1), "410": (4, 4)}
# Where a chroma sample sits among the luma samples that it is of (FFmpeg's names), across and down: 0 on the first, 0.5
# in the middle, 1 on the last. Source: H.273, figure 1.
SITINGS: Final = {
    "left": (0.0, 0.5),
    "center": (0.5, 0.5),
    "topleft": (0.0, 0.0),
    "top": (0.5, 0.0),
    "bottomleft": (0.0, 1.0),
    "bottom": (0.5, 1.0),
}


def shifted(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return codes widened to 16 bits by shifting: a new array."""
    wide = codes.astype(np.uint16)
    wide <<= 16 - bits
    return wide


def upsampled(
    chroma: np.ndarray, sampling: tuple[int, int], rows: slice, width: int, siting: str, bits: int
) -> np.ndarray:
    """Return rows of a chroma plane at the luma's size, widened: linear, with the samples where `siting` puts them.

    rows  of the luma; they begin at a multiple of what `sampling` says
    """
    across, down = sampling
    along_x, along_y = SITINGS[siting]
    first = max(rows.start // down - (down > 1), 0)  # and a neighbour on either side
    chroma = shifted(chroma[first : -(-rows.stop // down) + (down > 1)], bits)
    if down > 1 and along_y == 0.5:
        chroma = cv2.resize(chroma, (chroma.shape[1], chroma.shape[0] * down), interpolation=cv2.INTER_LINEAR)
    elif down > 1:
        between = _between(chroma, down, 0, from_last=along_y == 1)
        chroma = np.stack(between, axis=1).reshape(-1, chroma.shape[1])
    if across > 1 and along_x == 0.5:
        chroma = cv2.resize(chroma, (chroma.shape[1] * across, chroma.shape[0]), interpolation=cv2.INTER_LINEAR)
    elif across > 1:  # interleaved: the columns in between fall into place
        chroma = cv2.merge(_between(chroma, across, 1)).reshape(chroma.shape[0], -1)
    return chroma[rows.start - first * down : rows.stop - first * down, :width]


def _between(chroma: np.ndarray, count: int, axis: int, *, from_last: bool = False) -> list[np.ndarray]:
    """The `count` luma places of each chroma sample, an array each; the sample sits on the first, or on the last."""
    following = np.empty_like(chroma)
    to, source = (slice(None, -1), slice(1, None)) if not from_last else (slice(1, None), slice(None, -1))
    edge = 0 if from_last else -1
    if axis == 1:
        following[:, to], following[:, edge] = chroma[:, source], chroma[:, edge]
    else:
        following[to], following[edge] = chroma[source], chroma[edge]
    steps = [chroma] + [
        cv2.addWeighted(chroma, 1 - step / count, following, step / count, 0) for step in range(1, count)
    ]
    return steps[::-1] if from_last else steps


def halved(plane: np.ndarray) -> np.ndarray:
    """Return a plane (uint16) of the luma's size at half of it both ways, with MPEG's siting ("left").

    Odd sizes have one more chroma sample, for which the last row or column counts twice.
    """
    height, width = plane.shape
    if height % 2 or width % 2:
        plane = cv2.copyMakeBorder(plane, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    plane = cv2.addWeighted(plane[::2], 0.5, plane[1::2], 0.5, 0)
    even, odd = cv2.split(plane.reshape(*plane.shape[:1], -1, 2))
    before = np.empty_like(odd)
    before[:, 1:] = odd[:, :-1]
    before[:, 0] = even[:, 0]
    sides = cv2.addWeighted(before, 0.5, odd, 0.5, 0)
    return np.asarray(cv2.addWeighted(even, 0.5, sides, 0.5, 0))
