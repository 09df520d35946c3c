"""Layers and maps that the halves of the embedded small model's network share. Tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mam_video.models.cpu_convolutions import SplitConvolution, added


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless `act` says no, ReLU6."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, *, stride: int = 1, groups: int = 1, act: bool = True):
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        layers: list[nn.Module] = [conv, nn.BatchNorm2d(c_out)]
        super().__init__(*layers, *([nn.ReLU6(inplace=True)] if act else []))


class Block(nn.Module):
    """5x5 depthwise, then 1x1, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(channels, channels, 5, groups=channels)
        self.mix = ConvNorm(channels, channels, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(added(self.mix, self.depthwise(x), x), inplace=True)


def joined(wide: Sequence[Tensor], narrow: Sequence[Tensor]) -> Tensor:
    """Concatenate along the channels, wide maps first, channels-last as a convolution takes them.

    Narrow maps are joined by themselves first: the two formats mixed are copied once more, at many times the cost.
    """
    return torch.cat([*(w.contiguous(memory_format=torch.channels_last) for w in wide), _narrow(narrow)], 1)


def of_joined(conv: nn.Module, wide: Tensor, *narrow: Tensor) -> Tensor:
    """What `conv` makes of `joined([wide], narrow)`."""
    if isinstance(conv, SplitConvolution):
        return conv(conv.first(wide), _narrow(narrow))
    return conv(joined([wide], narrow))


def of_raised(conv: nn.Module, low: Tensor, *maps: Tensor) -> Tensor:
    """What `conv`, of 1x1, makes of `low`, brought to twice its size, joined with `maps`.

    In the precision of the first of them, to which autocast would round the convolution's input.
    """
    like = maps[0].dtype
    if isinstance(conv, SplitConvolution):  # it and the enlargement may change places
        return conv(up(conv.first(low)), torch.cat(maps, 1))
    return conv(torch.cat([each.to(like) for each in (up(low), *maps)], 1))


def _narrow(maps: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(maps), 1).contiguous(memory_format=torch.channels_last)


class _SameLayout(torch.autograd.Function):
    """The tensor itself, whose gradient gets its memory format.

    The gradient of an enlargement comes contiguous. Where such a one meets a channels-last map, PyTorch's own rule for
    what ReLU6's gradient looks like differs from what its kernel gives, and a compiled step fails; a plain one is slow.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        ctx.format = torch.channels_last if last else torch.contiguous_format
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous(memory_format=ctx.format)


def up(x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Twice the size, bilinear. `size` (h, w): only so many rows and columns of it."""
    if torch.is_grad_enabled() and x.requires_grad:
        x = _SameLayout.apply(x)
    if size is None:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    found: Tensor = torch.ops.aten.upsample_bilinear2d(x, list(size), False, 2.0, 2.0)
    return found


def halved(picture: Tensor) -> Tensor:
    """The means of 2x2 pixels of (B, C, H, W), H and W even: many times faster on a CPU than pooling few channels."""
    rows = picture[:, :, ::2] + picture[:, :, 1::2]
    return (rows[..., ::2] + rows[..., 1::2]) * 0.25


class Attention(nn.Module):
    """Each cell looks at all others, then thinks by itself; both are added to the input. (B, C, h, w) -> the same."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm1(tokens)).view(b, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v)
        tokens = tokens + self.proj(seen.transpose(1, 2).reshape(b, h * w, c))
        tokens = tokens + self.mlp(self.norm2(tokens))
        out = tokens.transpose(1, 2).reshape(b, c, h, w)
        # The layers that follow compute in the layout of what they get: it stays that of the input.
        last = x.is_contiguous(memory_format=torch.channels_last)
        return out.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@dataclass(frozen=True, slots=True)
class Features:
    """The prompt-free half of the segmenter, for a batch."""

    l4: Tensor
    l8: Tensor
    top: Tensor  # stride 16
    key: Tensor  # (B, KEY, S/8, S/8), of length 1
    look: Tensor  # (B, LOOK, S/8, S/8), of length 1

    def pick(self, index: int) -> Features:
        return self.part(slice(index, index + 1))

    def part(self, some: slice) -> Features:
        """Those of some pictures of the batch."""
        return Features(*(getattr(self, k)[some] for k in FEATURES))

    @staticmethod
    def joined(parts: Sequence[Features]) -> Features:
        """Those of a batch, of its parts."""
        if len(parts) == 1:
            return parts[0]
        return Features(*(torch.cat([getattr(part, k) for part in parts]) for k in FEATURES))


FEATURES = ("l4", "l8", "top", "key", "look")
