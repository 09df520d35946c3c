"""Quality measures on a device: the arithmetic of `matting/quality.py`. Their numbers are read with the frame."""

from __future__ import annotations

import torch
from torch import Tensor

from mam_video.core.crop import Crop
from mam_video.matting.device.sampling import shrunk
from mam_video.matting.device.temporal_filter import carry
from mam_video.models.resident import ResidentMotion


def flicker(past: Tensor | None, alpha: Tensor, motion: ResidentMotion | None) -> tuple[Tensor | None, Tensor | None]:
    """Measure flicker of an alpha (H, W) against the one before; return it, (), and the alpha at the motion's size."""
    if motion is None:
        return None, alpha
    small = _at(alpha, motion.size)
    if past is None:
        return None, small
    moved = carry(motion, _at(past, motion.size)[None])[0]
    trusted = motion.trusted[0]
    subject = (torch.maximum(small, moved) * trusted).sum()
    change = ((small - moved).abs() * trusted).sum()
    return torch.where(subject > 0, change / subject, torch.zeros_like(subject)), small


def agreement(alpha: Tensor, mask: Tensor, view: Crop) -> Tensor:
    """Return the IoU, 0..1, of a crop's alpha (height, width) above one half with its mask (m, m): ()."""
    m = mask.shape[0]
    h, w = (max(round(side * m / view.size), 1) for side in view.content)
    matte, found = _at(alpha, (h, w)) > 0.5, mask[:h, :w] > 0
    both, either = (matte & found).sum().float(), (matte | found).sum().float()
    return torch.where(either > 0, both / either, torch.ones_like(either))


def _at(alpha: Tensor, size: tuple[int, int]) -> Tensor:
    return alpha if tuple(alpha.shape) == tuple(size) else shrunk(alpha[None], size)[0]
