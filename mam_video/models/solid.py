"""Make the embedded model's alpha solid where its mask is sure: no holes, no haze and no specks.

A segmenter's mask says where the subject is, a matte head says how opaque its edge is. Far from the edge the head can
only be wrong, so the mask decides there:

- An enclosed hole that the mask does not have is filled, unless the head opens most of it (a mesh, a wheel).
- Deep inside the confident mask alpha is 1. Around that, half-open places are closed by and by. Neither is done where
  the head opens much of the neighbourhood almost wholly, as in hair that the mask takes for solid. A place that the
  mask doubts, but still takes for subject, counts as confident where confident cells enclose it.
- Outside the mask faint alpha is taken off, more of it farther away.
- What hangs together with no part of the mask is removed, and so are very small parts of the mask itself.

All decisions are made on the mask's own grid, whose cells are a few pixels of the view wide; between cells the limits
change smoothly. Distances below are in cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam_video.models.transfers import download, upload

# The values were chosen on pictures with a known alpha and on filmed clips (docs/measurements.md).
_CONFIDENT = 0.9  # mask from which alpha is forced to 1 ...
_FORCED = (1.4, 2.2)  # ... at this depth it begins, at that depth it is complete
_SURE = 0.98  # mask from which half-open places are closed ...
_CLOSED = (1.0, 4.0)
_GAIN = 1.0  # ... by so much at most: at the depth's end alpha from 1 / (1 + gain) on is 1
_OPENED = 0.2  # a cell with an alpha below this is opened by the head
_AROUND = 15  # side of the neighbourhood in which such cells are counted
_DOUBT = (0.25, 0.45)  # share of them from which the mask decides less, and from which it decides nothing
_NOBODY = 0.1  # mask up to which faint alpha is taken off ...
_CLEARED = (0.0, 4.0)
_FAINT = 0.05  # ... up to this value
_LOW = 0.95  # alpha below this is a hole ...
_OPEN = 0.35  # ... and an open one where the mean of its cells is below this
_HAS = 0.9  # a mask below this has the hole itself
_SEEN = 0.1  # alpha above this hangs together
_BRIDGED = 0  # gaps of so many cells to either side do not part what hangs together
_SMALL = 0.01  # parts of the mask of a smaller share of its largest part are removed


@dataclass(frozen=True, slots=True)
class _Limits:
    """What may be done to each cell's alpha; each map (m, m) float32."""

    filled: np.ndarray  # 1 where alpha becomes 1
    floor: np.ndarray  # the least alpha
    gain: np.ndarray  # alpha is multiplied by 1 + gain
    faint: np.ndarray  # alpha up to this becomes 0
    kept: np.ndarray  # 0 where alpha becomes 0


def solid(alpha: Tensor, logits: np.ndarray, content: tuple[int, int]) -> Tensor:
    """Solidify the alphas of a batch of views.

    Args:
        alpha: (B, 1, V, V) float32 in [0, 1].
        logits: (B, m, m) float32, the masks; above 0 is subject. V is a multiple of m.
        content: (h, w) of the picture inside the square; the rest is padding.
    Returns: (B, 1, V, V) float32 in [0, 1], on the device of `alpha`; 0 in the padding.
    """
    h, w = content
    c = alpha.shape[-1] // logits.shape[-1]
    rows, columns = -(-h // c), -(-w // c)
    low, high = download(_extremes(alpha[..., :h, :w], c), "cells")
    masks = 1 / (1 + np.exp(-np.clip(logits[:, :rows, :columns], -30, 30).astype(np.float32)))
    limits = [_limits(*one) for one in zip(masks, low, high, strict=True)]
    names = _Limits.__slots__
    stack = np.stack([[getattr(one, name) for one in limits] for name in names])
    given = dict(zip(names, upload(stack, alpha.device, "limits")[:, :, None], strict=True))

    def maps(name: str, mode: str) -> Tensor:
        smooth = {"align_corners": False} if mode == "bilinear" else {}
        return F.interpolate(given[name], scale_factor=c, mode=mode, **smooth)[..., :h, :w]

    least = maps("floor", "bilinear")
    if any(one.filled.any() for one in limits):
        least = torch.maximum(maps("filled", "nearest"), least)
    out = torch.maximum(alpha[..., :h, :w], least)
    out = out.mul_(maps("gain", "bilinear").add_(1)).clamp_(max=1)
    faint = maps("faint", "bilinear")
    # (out - faint) / (1 - faint), but exact at 1 and where `faint` is 0.
    out = (out - faint * (1 - out) / (1 - faint)).clamp_(min=0).mul_(maps("kept", "nearest"))
    return F.pad(out, (0, alpha.shape[-1] - w, 0, alpha.shape[-2] - h))


def _extremes(alpha: Tensor, c: int) -> Tensor:
    """(2, B, rows, columns): the lowest and the highest alpha of each cell of (B, 1, h, w), of c x c pixels at most.

    As float32 rounds 1 - (1 - alpha), since the limits were chosen so.
    """
    h, w = alpha.shape[-2:]
    room = (0, -w % c, 0, -h % c)
    found = []
    for signed, beyond in ((-alpha, -1.0), (alpha, 0.0)):
        cells = F.pad(signed, room, value=beyond)
        cells = cells.view(len(cells), 1, -1, c, cells.shape[-1]).amax(3)
        found.append(cells.view(len(cells), 1, cells.shape[2], -1, c).amax(4)[:, 0])
    return torch.stack([1 - (1 + found[0]), found[1]])


def _limits(mask: np.ndarray, low: np.ndarray, high: np.ndarray) -> _Limits:
    """From a mask in 0..1 and the lowest and the highest alpha of each of its cells; each (rows, columns) float32."""
    filled, opened = _holes(mask, low)
    # Between the cells limits are interpolated: what is open keeps a cell of room.
    room = cv2.dilate(opened.astype(np.uint8), np.ones((3, 3), np.uint8))
    decides = 1 - _ramp(_share_opened(mask, np.where(filled, 1, low)), _DOUBT)
    floor = _ramp(_depth(_closed(mask, _CONFIDENT)), _FORCED) * (1 - room) * decides
    gain = _GAIN * _ramp(_depth(_closed(mask, _SURE)), _CLOSED) * decides
    faint = _FAINT * _ramp(_depth(mask <= _NOBODY), _CLEARED)
    high = np.maximum(high, np.maximum(filled, floor))
    kept = _connected(mask, (high - faint) / (1 - faint))
    return _Limits(*(x.astype(np.float32) for x in (filled, floor, gain, faint, kept)))


def _closed(mask: np.ndarray, least: float) -> np.ndarray:
    """(rows, columns) bool: the mask from `least` on, and enclosed doubts in which it still takes all for subject."""
    sure = mask >= least
    count, label = cv2.connectedComponents((~sure).astype(np.uint8), connectivity=4)
    lowest = np.ones(count, np.float32)
    np.minimum.at(lowest, label.ravel(), mask.ravel())
    lowest[0] = 0  # the sure cells themselves
    closed: np.ndarray = sure | (lowest > 0.5)[label]
    return closed


def _holes(mask: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) bool each: enclosed holes that are to be filled, and enclosed ones that are open."""
    count, label = cv2.connectedComponents((low < _LOW).astype(np.uint8), connectivity=4)
    has = np.ones(count, np.float32)
    np.minimum.at(has, label.ravel(), mask.ravel())
    mean = np.bincount(label.ravel(), low.ravel(), count) / np.maximum(np.bincount(label.ravel(), minlength=count), 1)
    enclosed = has >= _HAS
    enclosed[0] = False  # all that is no hole
    return (enclosed & (mean >= _OPEN))[label], (enclosed & (mean < _OPEN))[label]


def _share_opened(mask: np.ndarray, low: np.ndarray) -> np.ndarray:
    """(rows, columns) float32: of the mask's cells in the neighbourhood, the share that the head opens."""
    inside = (mask > 0.5).astype(np.float32)

    def around(cells: np.ndarray) -> np.ndarray:
        return cv2.blur(cells, (_AROUND, _AROUND), borderType=cv2.BORDER_REPLICATE)

    share: np.ndarray = around(inside * (low < _OPENED)) / np.maximum(around(inside), 0.02)
    return share


def _connected(mask: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(rows, columns) bool: what hangs together with a part of the mask that is not very small."""
    side = 2 * _BRIDGED + 1
    seen = cv2.dilate((high > _SEEN).astype(np.uint8), np.ones((side, side), np.uint8))
    count, label = cv2.connectedComponents(seen, connectivity=4)
    area = np.bincount(label[mask > 0.5], minlength=count)
    area[0] = 0
    kept: np.ndarray = area >= max(_SMALL * area.max(), 1)
    return kept[label]


def _depth(region: np.ndarray) -> np.ndarray:
    """How far each cell lies inside `region` (rows, columns) bool, in cells; beyond the border all is region."""
    if region.all():
        return np.full(region.shape, np.inf, np.float32)
    depth: np.ndarray = cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, 5)
    return depth


def _ramp(value: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """0 up to the first of `ends`, 1 from the second on."""
    ramp: np.ndarray = np.clip((value - ends[0]) / (ends[1] - ends[0]), 0, 1)
    return ramp
