"""Guided upsampling on a device: the arithmetic of `matting/upsample.py`, for the whole crop.

There the work is limited to the rectangle of the soft band, which is found in the numbers. Here it is done everywhere,
and what lies outside that rectangle keeps the model's alpha, as there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mam_video.core.crop import Crop
from mam_video.core.settings import RefineSettings
from mam_video.matting.device.sampling import (
    box_dilated,
    box_mean,
    cubic_taps,
    in_extent,
    linear_taps,
    shrunk,
)


def refine(alpha: Tensor, picture: Tensor, view: Crop, settings: RefineSettings) -> Tensor:
    """Sharpen the alpha of a crop that covers more plate pixels than the model saw.

    Args:
        alpha: (height, width) float32 in [0, 1], the crop's rectangle.
        picture: (height, width, 3) uint8 RGB, the same rectangle of the plate.
        view, settings: as in `matting/upsample.py`.
    Returns: (height, width) float32 in [0, 1].
    """
    content_h, content_w = view.content
    if not settings.enabled or view.width <= content_w or view.height <= content_h:
        return alpha
    band = _soft_band(alpha, reach=2 * view.width / content_w)
    inside = in_extent(band)
    device, (height, width), (sx, sy) = alpha.device, alpha.shape, view.scale
    rows = linear_taps(height, content_h, 1 / sy, 0.5 / sy - 0.5, device)
    columns = linear_taps(width, content_w, 1 / sx, 0.5 / sx - 0.5, device)
    small_alpha = columns.columns(rows.rows(alpha[None]))
    small = shrunk(picture.permute(2, 0, 1), (content_h, content_w)).round()
    maps = _guided_coefficients(small, small_alpha, settings.radius, settings.eps)

    down = cubic_taps(content_h, height, sy, 0.5 * sy - 0.5, device)
    across = cubic_taps(content_w, width, sx, 0.5 * sx - 0.5, device)
    *slopes, part = across.columns(down.rows(maps))
    for channel, slope in enumerate(slopes):
        part = part + slope * (picture[..., channel].float() * (1 / 255))
    sharp = torch.where(inside, part.clamp(0, 1), alpha)
    for _ in range(settings.projections):
        missing = small_alpha - shrunk(sharp[None], (content_h, content_w))
        sharp = torch.where(inside, (sharp + across.columns(down.rows(missing))[0]).clamp(0, 1), alpha)
    return torch.where(band > 0, sharp, alpha)


def _soft_band(alpha: Tensor, reach: float) -> Tensor:
    """Mark the pixels within `reach` of any alpha that is neither 0 nor 1: (H, W) float32, 0 or 1."""
    soft = ((alpha > 1 / 255) & (alpha < 1 - 1 / 255)).float()
    return box_dilated(soft, 2 * max(round(reach), 1) + 1)


def _guided_coefficients(picture: Tensor, alpha: Tensor, radius: float, eps: float) -> Tensor:
    """Fit alpha (1, h, w) to a picture (3, h, w) of codes 0..255: (4, h, w) float32, three slopes and the offset.

    Source: He, Sun, Tang (2013), as `core/guided_filter.py`, in float64 like there.
    """
    mean = box_mean(max(round(radius), 1))
    colours, value = picture.double() / 255, alpha.double()
    r, g, b = colours
    means = mean(torch.cat([colours, value, colours * value, colours * colours, torch.stack([r * g, r * b, g * b])]))
    mean_r, mean_g, mean_b, mean_value, v_r, v_g, v_b, rr, gg, bb, rg, rb, gb = means
    v_r, v_g, v_b = v_r - mean_r * mean_value, v_g - mean_g * mean_value, v_b - mean_b * mean_value
    rr, gg, bb = rr - mean_r * mean_r + eps, gg - mean_g * mean_g + eps, bb - mean_b * mean_b + eps
    rg, rb, gb = rg - mean_r * mean_g, rb - mean_r * mean_b, gb - mean_g * mean_b
    i_rr, i_rg, i_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    i_gg, i_gb, i_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * i_rr + rg * i_rg + rb * i_rb
    slopes = torch.stack([
        i_rr * v_r + i_rg * v_g + i_rb * v_b,
        i_rg * v_r + i_gg * v_g + i_gb * v_b,
        i_rb * v_r + i_gb * v_g + i_bb * v_b,
    ]) / determinant  # fmt: skip
    offset = mean_value - (slopes[0] * mean_r + slopes[1] * mean_g + slopes[2] * mean_b)
    return mean(torch.cat([slopes, offset[None]])).float()
