"""Edge operations on a device: the arithmetic of `matting/edge_ops.py`, for the whole window of the frame."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam_video.core.arrays import Alpha
from mam_video.core.settings import FinishSettings
from mam_video.matting.device.frames import Part, ResidentMatted
from mam_video.matting.device.sampling import padded
from mam_video.matting.edge_ops import SURE, Overrides, gaussian_of, rim_of
from mam_video.models.transfers import upload


def apply_edge_ops(matted: ResidentMatted, settings: FinishSettings, forced: Overrides) -> ResidentMatted:
    """Apply the edge operations to a matte, as `edge_ops.apply_edge_ops`."""
    index, window = matted.frame.index, matted.frame.window
    whole = Part(0, matted.frame.size[0], 0, matted.frame.size[1])
    alpha, part = matted.alpha, matted.part
    if forced.trimaps is not None:
        alpha, part = within_trimap(alpha, override(forced.trimaps.at(index), alpha.device)), whole
    coverage = alpha
    alpha = finish(alpha, settings, window)
    if forced.include is not None:
        alpha, part = torch.maximum(alpha, override(forced.include.at(index), alpha.device)), whole
    if forced.exclude is not None:
        alpha = alpha * (1 - override(forced.exclude.at(index), alpha.device))
    if settings.invert:
        alpha, coverage = _invert(alpha, window), _invert(coverage, window)
    return matted if alpha is matted.alpha else replace(matted, alpha=alpha, coverage=coverage, part=part)


def override(mask: Alpha, device: torch.device) -> Tensor:
    """Upload a mask made by hand, (H, W) float32."""
    return upload(mask, device, "overrides")


def inverted(matted: ResidentMatted) -> ResidentMatted:
    """Return a matte of all that is not its subject, as `edge_ops.inverted`."""
    window, coverage = matted.frame.window, matted.alpha if matted.coverage is None else matted.coverage
    return replace(
        matted,
        alpha=_invert(matted.alpha, window),
        coverage=_invert(coverage, window),
        parts=tuple(inverted(part) for part in matted.parts),
    )


def with_plate_alpha(matted: ResidentMatted) -> ResidentMatted:
    """Multiply the alpha by the plate's own alpha, as `edge_ops.with_plate_alpha`."""
    own = matted.frame.own_alpha
    if own is None:
        return matted
    coverage = matted.alpha if matted.coverage is None else matted.coverage
    return replace(matted, alpha=matted.alpha * own, coverage=coverage, matte=matted.alpha)


def within_trimap(alpha: Tensor, trimap: Tensor) -> Tensor:
    """Keep the alpha where the trimap is grey, and set it to 0 or 1 elsewhere."""
    background, subject = trimap <= float(np.float32(SURE)), trimap >= float(np.float32(1 - SURE))
    return alpha.masked_fill(subject, 1).masked_fill(background, 0)


def finish(alpha: Tensor, settings: FinishSettings, window: tuple[int, int, int, int] | None = None) -> Tensor:
    """Apply levels, choke, grow and feather to an alpha (H, W) float32, as `edge_ops.finish`."""
    if not (settings.levels or settings.choke or settings.grow or settings.feather):
        return alpha
    h, w = alpha.shape
    x0, y0, x1, y1 = window or (0, 0, w, h)
    region = alpha[y0:y1, x0:x1]
    if settings.levels:
        black, white = np.float32(settings.black), np.float32(settings.white)
        region = ((region - float(black)) / float(white - black)).clamp(0, 1)
    if settings.choke:
        region = (-_largest_around(-region, settings.choke)).clamp(0, 1)
    if settings.grow:
        region = _largest_around(region, settings.grow).clamp(0, 1)
    if settings.feather:
        region = _feather(region, settings.feather)
    if region.shape == alpha.shape:
        return region.contiguous()
    whole = alpha.clone()
    whole[y0:y1, x0:x1] = region
    return whole


def _invert(alpha: Tensor, window: tuple[int, int, int, int] | None) -> Tensor:
    h, w = alpha.shape
    x0, y0, x1, y1 = window or (0, 0, w, h)
    inverted = torch.zeros_like(alpha)
    inverted[y0:y1, x0:x1] = 1 - alpha[y0:y1, x0:x1]
    return inverted


def _largest_around(alpha: Tensor, radius: float) -> Tensor:
    """Return the largest value within `radius` of each pixel: a disc of whole pixels, and its rim between pixels."""
    h, w = alpha.shape
    room, reach = math.ceil(radius) + 1, int(radius)
    wide = padded(alpha[None], (room, room), (room, room))[0]
    grown = alpha
    for dy in range(-reach, reach + 1):
        across = max(dx for dx in range(reach + 1) if np.hypot(dx, dy) <= radius)
        rows = wide[room + dy : room + dy + h, room - across : room + across + w]
        grown = torch.maximum(grown, F.max_pool2d(rows[None, None], (1, 2 * across + 1), stride=1)[0, 0])
    for right, down in rim_of(radius):
        x, y = math.floor(right), math.floor(down)
        fx, fy = right - x, down - y
        corner = [
            wide[room + y + j : room + y + j + h, room + x + i : room + x + i + w] for j in (0, 1) for i in (0, 1)
        ]
        upper = corner[0] * (1 - fx) + corner[1] * fx
        lower = corner[2] * (1 - fx) + corner[3] * fx
        grown = torch.maximum(grown, upper * (1 - fy) + lower * fy)
    return grown


def _feather(alpha: Tensor, width: float) -> Tensor:
    """Blur by a Gaussian, as `edge_ops`: rows, then columns."""
    weights = gaussian_of(width)
    reach = len(weights) // 2
    h, w = alpha.shape
    wide = padded(alpha[None], (reach, reach), (reach, reach))[0]
    rows = sum(wide[:, k : k + w] * float(weight) for k, weight in enumerate(weights))
    assert isinstance(rows, Tensor)
    both = sum(rows[k : k + h] * float(weight) for k, weight in enumerate(weights))
    assert isinstance(both, Tensor)
    return both.clamp(0, 1)
