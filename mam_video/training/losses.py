"""Losses for masks and alphas. Tensors are (B, 1, H, W); a weight of the same shape says which pixels count."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_loss(logits: Tensor, truth: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy plus Dice loss, a scalar, and the IoU of each picture (B,), without gradient.

    Pictures with an empty truth have no Dice loss.
    """
    count = weight.sum().clamp(min=1)
    entropy = (F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * weight).sum() / count
    p, t = logits.sigmoid() * weight, truth * weight
    soft_intersection = (p * t).sum((1, 2, 3))
    soft_sum = p.sum((1, 2, 3)) + t.sum((1, 2, 3))
    has_truth = (t.sum((1, 2, 3)) > 0).float()
    dice = ((1 - (2 * soft_intersection + 1) / (soft_sum + 1)) * has_truth).sum() / has_truth.sum().clamp(min=1)
    with torch.no_grad():
        hard, true = (logits > 0).float() * weight, (truth > 0.5).float() * weight
        intersection = (hard * true).sum((1, 2, 3))
        union = (hard + true).sum((1, 2, 3)) - intersection
        iou = torch.where(union > 0, intersection / union.clamp(min=1), torch.ones_like(union))
    return entropy + dice, iou


def l1(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Compute the weighted mean absolute difference."""
    return ((prediction - truth).abs() * weight).sum() / (weight.sum() + 1e-8)


def _binomial_kernel(like: Tensor) -> Tensor:
    """Return the kernel (1, 5, 5) with rows and columns of 1 4 6 4 1, of sum 1.

    It is computed on the device of `like`: a copy from the host would hold up every step on a GPU.
    """
    distance = (torch.arange(5, dtype=like.dtype, device=like.device) - 2).abs()
    row = 6 - 1.5 * distance - 0.5 * distance**2
    return (row[:, None] * row[None] / 256)[None]


class _Symmetric(torch.autograd.Function):
    """A convolution of one channel (N, 1, H, W) with a symmetric kernel (1, 1, 5, 5), which gets no gradient.

    Its gradient is the same convolution. PyTorch's own backward pass of a single channel is many times slower on a CPU:
    the whole Laplacian loss took 2.5 times as long (docs/measurements.md).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(kernel)
        return F.conv2d(x, kernel)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kernel,) = ctx.saved_tensors
        return F.conv2d(F.pad(gradients[0], (4, 4, 4, 4)), kernel), None


def _blur(x: Tensor, kernel: Tensor) -> Tensor:
    """Blur each channel of (B, C, H, W) with a symmetric kernel (1, 5, 5); the border is reflected."""
    padded = F.pad(x, (2, 2, 2, 2), mode="reflect").flatten(0, 1)[:, None]
    blurred: Tensor = _Symmetric.apply(padded, kernel[None])
    return blurred.view_as(x)


def laplacian_pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """Compute the bands of a Laplacian pyramid, finest first. A band has the size before its halving.

    To enlarge, zeros are put between the pixels and blurred with four times the kernel.
    Source: Burt and Adelson 1983, in the form of the matting losses since Hou and Liu 2019.
    """
    bands, kernel = [], _binomial_kernel(x)
    for _ in range(levels):
        small = _blur(x, kernel)[:, :, ::2, ::2]
        spread = torch.zeros_like(x)
        spread[:, :, ::2, ::2] = small
        bands.append(x - _blur(spread, 4 * kernel))
        x = small
    return bands


def laplacian_loss(prediction: Tensor, truth: Tensor, weight: Tensor, levels: int = 5) -> Tensor:
    """Sum the weighted mean absolute differences of the pyramid's bands; level i has the factor 2^i."""
    total = prediction.new_zeros(())
    for i, band in enumerate(laplacian_pyramid(prediction - truth, levels)):
        total = total + 2**i * l1(band, torch.zeros_like(band), weight)
        weight = weight[:, :, ::2, ::2]
    return total
