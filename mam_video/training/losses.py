"""Losses for masks and alphas. Tensors (B, 1, H, W); weights of the same shape say which pixels count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_loss(logits: Tensor, truth: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy plus Dice, a scalar; and each picture's soft IoU (B,), without gradient.

    Where a truth is empty Dice says nothing and is left out.
    """
    count = weight.sum().clamp(min=1)
    entropy = (F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * weight).sum() / count
    p, t = logits.sigmoid() * weight, truth * weight
    inter = (p * t).sum((1, 2, 3))
    both = p.sum((1, 2, 3)) + t.sum((1, 2, 3))
    there = (t.sum((1, 2, 3)) > 0).float()
    dice = ((1 - (2 * inter + 1) / (both + 1)) * there).sum() / there.sum().clamp(min=1)
    with torch.no_grad():
        hard, true = (logits > 0).float() * weight, (truth > 0.5).float() * weight
        cut = (hard * true).sum((1, 2, 3))
        union = (hard + true).sum((1, 2, 3)) - cut
        iou = torch.where(union > 0, cut / union.clamp(min=1), torch.ones_like(union))
    return entropy + dice, iou


def l1(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute difference over the weight."""
    return ((prediction - truth).abs() * weight).sum() / (weight.sum() + 1e-8)


_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


def _blur(x: Tensor, gain: float = 1.0) -> Tensor:
    from kornia.filters import filter2d  # here, since it takes half a second to import

    row = torch.tensor(_BINOMIAL, dtype=x.dtype, device=x.device)
    kernel = (row[:, None] * row[None]) * (gain / 256)
    return filter2d(x, kernel[None], border_type="reflect")


def laplacian_pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """What each halving loses, finest first; each level of the size before its halving.

    Enlarging puts zeros between the pixels and blurs them with four times the kernel. Source: Burt and Adelson 1983, as
    the matting losses since Hou and Liu 2019 use it.
    """
    bands = []
    for _ in range(levels):
        small = _blur(x)[:, :, ::2, ::2]
        spread = torch.zeros_like(x)
        spread[:, :, ::2, ::2] = small
        bands.append(x - _blur(spread, 4.0))
        x = small
    return bands


def laplacian_loss(prediction: Tensor, truth: Tensor, weight: Tensor, levels: int = 5) -> Tensor:
    """The pyramids' weighted mean absolute differences, level i counting 2^i."""
    total = prediction.new_zeros(())
    for i, band in enumerate(laplacian_pyramid(prediction - truth, levels)):
        total = total + 2**i * l1(band, torch.zeros_like(band), weight)
        weight = weight[:, :, ::2, ::2]
    return total
