"""Convolutions for inference on a CPU: weights in the library's own layout, and what follows computed in the same pass.

oneDNN computes them. PyTorch's convolution lays its weights out anew at each call, writes its sums to memory and reads
them again for the activation and for what is added; here all of that is one pass. A stride with TensorFlow's padding
needs no padded copy of its input either. Sums are taken in the order that the library chooses for the layout, so
results agree with PyTorch's to rounding.

PyTorch calls the same operators from compiled graphs. Where its build lacks oneDNN, networks stay as they are.
"""

from __future__ import annotations

import copy
import threading

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HIGHEST = 6.0  # of ReLU6
_LAYING_OUT = threading.Lock()


class PackedConvolution(nn.Module):
    """What a convolution and, where `act`, ReLU6 after it compute. Takes and returns float32, channels-last.

    same  pixels to pad to the left, right, top and bottom before it, as TensorFlow does at stride 2; None: what the
          convolution says
    """

    def __init__(self, conv: nn.Conv2d, *, act: bool, same: tuple[int, int, int, int] | None = None) -> None:
        super().__init__()
        weight = conv.weight.detach()
        pads = [_number(n) for n in conv.padding]
        self._pad: tuple[int, int, int, int] | None = None
        if same is not None and conv.groups > 1:
            # Left and top one pixel of padding more and a weight of 0 for it: then both sides have the same.
            left, right, top, bottom = same
            assert right == left + 1 and bottom == top + 1
            weight, pads = F.pad(weight, (1, 0, 1, 0)), [bottom, right]
        elif same is not None:
            self._pad, pads = same, [0, 0]
        self._act = "hardtanh" if act else "none"
        self._limits: list[float] = [0.0, _HIGHEST] if act else []
        self._how = (pads, list(conv.stride), list(conv.dilation), conv.groups)
        self._ready = False  # whether the weight has the library's layout, which it chooses by the size of the maps
        # No buffers: they are looked up slowly, and never leave the CPU.
        self.weight = weight.contiguous()
        self.bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        if self._pad is not None:
            x = F.pad(x, self._pad)
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._laid_out(x), self.bias, *self._how, self._act, self._limits, ""
        )
        return found

    def added(self, x: Tensor, other: Tensor) -> Tensor:
        """What is computed of `x`, without an activation, plus `other`."""
        found: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            x, other, self._laid_out(x), self.bias, *self._how, "add", 1.0, None, [], ""
        )
        return found

    def _laid_out(self, x: Tensor) -> Tensor:
        """The weight as the library wants it for maps of the size of `x`, the first ones that come."""
        if not self._ready:
            with _LAYING_OUT:  # threads of one model may come here at once
                if not self._ready:
                    size = list(x.shape)
                    self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self._how, size)
                    self._ready = True
        return self.weight


class SplitConvolution(nn.Module):
    """What a convolution, then ReLU6 make of maps joined along their channels, without joining them.

    first  of the first `channels` channels, without bias
    rest   of the others
    """

    def __init__(self, conv: nn.Conv2d, channels: int) -> None:
        super().__init__()
        self.first, self.rest = (PackedConvolution(part, act=False) for part in _parts(conv, channels))

    def forward(self, first: Tensor, rest: Tensor) -> Tensor:
        """`first`: what the convolution of that name made of its maps; `rest`: the other maps."""
        return F.relu6(self.rest.added(rest, first), inplace=True)


def added(conv: nn.Module, x: Tensor, other: Tensor) -> Tensor:
    """`other` and what `conv`, which has no activation, makes of `x`: a new tensor."""
    return conv.added(x, other) if isinstance(conv, PackedConvolution) else other + conv(x)


def available() -> bool:
    """Whether PyTorch's build has these operators."""
    names = ("_convolution_pointwise", "_reorder_convolution_weight")
    built = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return built and all(hasattr(torch.ops.mkldnn, name) for name in names)


def _number(padding: int | str) -> int:
    if isinstance(padding, str):
        raise TypeError(f"padding is {padding!r}; only numbers of pixels are known here")
    return padding


def _parts(conv: nn.Conv2d, channels: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The convolution's parts that look at the first `channels` of its input, and at the others."""
    first, rest = copy.deepcopy(conv), copy.deepcopy(conv)
    first.in_channels, rest.in_channels = channels, conv.in_channels - channels
    first.weight = nn.Parameter(conv.weight[:, :channels].detach().clone(), requires_grad=False)
    rest.weight = nn.Parameter(conv.weight[:, channels:].detach().clone(), requires_grad=False)
    first.bias = None
    return first, rest
