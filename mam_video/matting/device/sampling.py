"""Resize, sample and filter maps on a device, with the arithmetic of the OpenCV functions that the CPU's stages use.

Maps are (C, H, W). Tables of weights are made on the CPU in float64; see `models/taps.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam_video.models.merge import between
from mam_video.models.taps import Taps


@lru_cache(maxsize=128)
def area_taps(size: int, small: int, device: torch.device) -> Taps:
    """Shrink an axis of `size` samples to `small` by the mean of what each covers, as `core/area_shrink.py`."""
    times = size / small
    low = np.arange(small) * times
    places = np.floor(low).astype(np.intp) + np.arange(math.ceil(times) + 1)[:, None]
    covered = np.minimum(low + times, places + 1) - np.maximum(low, places)
    weights = np.where(places < size, np.clip(covered, 0, None), 0)
    return Taps.of(np.minimum(places, size - 1), weights / weights.sum(0), device, exact=True)


@lru_cache(maxsize=128)
def linear_taps(size: int, count: int, scale: float, offset: float, device: torch.device) -> Taps:
    """Sample an axis of `size` samples at j * scale + offset for j < count, linearly; beyond the ends they repeat."""
    at = np.arange(count) * scale + offset
    first = np.floor(at)
    share = at - first
    places = np.clip(np.stack([first, first + 1]), 0, size - 1)
    return Taps.of(places, np.stack([1 - share, share]), device)


@lru_cache(maxsize=128)
def cubic_taps(size: int, count: int, scale: float, offset: float, device: torch.device) -> Taps:
    """As `linear_taps`, by cubic convolution with OpenCV's a = -0.75 (Keys 1981)."""
    a = -0.75
    at = np.arange(count) * scale + offset
    first = np.floor(at)
    steps = np.arange(-1, 3)[:, None]
    far = np.abs(at - first - steps)
    near = ((a + 2) * far - (a + 3)) * far * far + 1
    weights = np.where(far <= 1, near, ((a * far - 5 * a) * far + 8 * a) * far - 4 * a)
    return Taps.of(np.clip(first + steps, 0, size - 1), weights, device)


def shrunk(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrink (C, H, W) of any type to `size` (h, w) by the mean of the areas: float32, not rounded."""
    h, w = values.shape[-2:]
    rows = area_taps(h, size[0], values.device).rows(values)
    return area_taps(w, size[1], values.device).columns(rows)


def sampled(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sample (C, h, w) float32 bilinearly at positions x, y (H, W), in its pixels; beyond the border it is repeated."""
    h, w = values.shape[-2:]
    grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], -1)
    return F.grid_sample(values[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]


def box_dilated(region: Tensor, side: int) -> Tensor:
    """Dilate (H, W) float32 by a square of `side` pixels (odd)."""
    reach = side // 2
    grown = F.max_pool2d(region[None, None], (side, 1), stride=1, padding=(reach, 0))
    return F.max_pool2d(grown, (1, side), stride=1, padding=(0, reach))[0, 0]


def in_extent(region: Tensor) -> Tensor:
    """Return (H, W) bool: the pixels of the tight box around what is above 0 in (H, W); none where nothing is."""
    rows, columns = (between((region > 0).any(axis)) for axis in (1, 0))
    return rows[:, None] & columns


@lru_cache(maxsize=32)
def _mirrored(size: int, room: int, device: torch.device) -> Taps:
    """Return an axis with `room` more at both ends, mirrored at the border's outer edge."""
    places = np.arange(-room, size + room) % (2 * size)
    places = np.where(places < size, places, 2 * size - 1 - places)
    return Taps.of(places[None], np.ones((1, len(places))), device)


def box_mean(radius: int) -> Callable[[Tensor], Tensor]:
    """Return the mean of (C, H, W) over a square of 2 * radius + 1 pixels, mirrored at the border."""
    side = 2 * radius + 1

    def mean(values: Tensor) -> Tensor:
        h, w = values.shape[-2:]
        wide = _mirrored(w, radius, values.device).columns(_mirrored(h, radius, values.device).rows(values))
        return F.avg_pool2d(wide[None], side, stride=1)[0]

    return mean


def padded(values: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Repeat the border of (C, H, W) float32 outwards: rows above and below, columns left and right."""
    return F.pad(values[None], (*columns, *rows), mode="replicate")[0]
