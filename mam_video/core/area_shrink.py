"""Shrink a part of a picture as the whole would be: each pixel is the mean of the area that it covers.

OpenCV's `resize` with INTER_AREA shrinks whole pictures only. Where a part is wanted, its time goes with the part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True, slots=True)
class _Axis:
    """Along one axis each wanted pixel is the sum of a few samples times their weights.

    first    the first sample that any of them takes
    samples  (taps, n) their places, counted from the first
    weights  (taps, n) float32, which sum to 1 over the taps
    """

    first: int
    samples: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, size: int, small: int, begin: int, end: int) -> _Axis:
        """Of the pixels `begin` to `end` (half-open) of an axis of `size` samples that is shrunk to `small`."""
        times = size / small
        low = np.arange(begin, end) * times
        places = np.floor(low).astype(np.intp) + np.arange(math.ceil(times) + 1)[:, None]
        covered = np.minimum(low + times, places + 1) - np.maximum(low, places)
        first = int(places[0, 0])
        weights = np.where(places < size, np.clip(covered, 0, None), 0)
        return cls(first, np.minimum(places, size - 1) - first, (weights / weights.sum(0)).astype(np.float32))

    @property
    def stop(self) -> int:
        return self.first + int(self.samples.max()) + 1

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Shrink along the rows: (m, w) or (m, w, c) to (n, w) or (n, w, c) float32."""
        shape = (-1, *(1,) * (values.ndim - 1))
        total = np.zeros((self.samples.shape[1], *values.shape[1:]), np.float32)
        for places, weight in zip(self.samples, self.weights, strict=True):
            total += values[places] * weight.reshape(shape)
        return total


class AreaShrink:
    """Shrinks pictures of one size to another, of which only a part is wanted.

    Args:
        size, small: (H, W) of the pictures, and what they are shrunk to; smaller or equal.
        part: rows and columns of what is wanted, half-open: top, bottom, left, right.
    """

    def __init__(self, size: tuple[int, int], small: tuple[int, int], part: tuple[int, int, int, int]) -> None:
        top, bottom, left, right = part
        self._down = _Axis.of(size[0], small[0], top, bottom)
        self._across = _Axis.of(size[1], small[1], left, right)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Shrink (H, W) or (H, W, 3), float32 or uint8; uint8 is rounded to nearest."""
        down, across = self._down, self._across
        rows = down.rows(picture[down.first : down.stop, across.first : across.stop])
        shrunk: np.ndarray = cv2.transpose(across.rows(cv2.transpose(rows)))
        return shrunk if picture.dtype != np.uint8 else np.rint(shrunk).astype(np.uint8)
