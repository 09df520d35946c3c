"""Make the planes that encoders take, on a device: the arithmetic of `media/pixel_formats.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from mam_video.core.planes import PlaneRecipe
from mam_video.matting.device.frames import ResidentMatted


def planes(matted: ResidentMatted, recipe: PlaneRecipe) -> Tensor:
    """Return (n, H, W) int16 with the bits of uint16: the recipe's planes of a plate of whole numbers."""
    widened = 257 if matted.frame.plate.dtype == torch.uint8 else 1
    rgb = (matted.frame.values if matted.colour is None else matted.colour) * widened
    if recipe.premultiplied:
        rgb = (rgb * matted.alpha).round().clamp(0, 65535)
    made = []
    for *weights, opacity, offset in recipe.rows:
        plane = torch.full_like(matted.alpha, offset)
        for weight, channel in zip(weights, rgb, strict=True):
            if weight:
                plane = plane + weight * channel
        if opacity:
            plane = plane + opacity * matted.alpha
        made.append(plane)
    codes = torch.stack(made).round().clamp(0, 65535).int()
    return codes.to(torch.int16)  # the lower 16 bits


def colour_as_plate(colour: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (H, W, 3) of the plate's type, int16 with the bits of uint16, of colour (3, H, W) float32 in its codes."""
    pixels = colour.permute(1, 2, 0)
    return (pixels if dtype.is_floating_point else pixels.int()).to(dtype).contiguous()
