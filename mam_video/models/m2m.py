"""M2M, the matting head of Matting Anything: it turns SAM's embedding, the picture and a mask into three alphas.

Source: Li, Jain and Shi, "Matting Anything", 2023, arXiv 2306.05399, and its public code ("sam_decoder_deep").
Parameter names follow the published checkpoints, so these load unchanged. Every 3x3 and transposed convolution of the
blocks is spectrally normalised by the wrapper of the checkpoints, see `SpectralNorm`.

For inference `M2M.fold()` makes a copy whose convolutions include the spectral and batch norms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from mam_video.core.errors import WeightsError

EMBEDDING_CHANNELS = 256
STRIDE = 16  # picture pixels per cell of the embedding
NEGATIVE_SLOPE = 0.2  # of the leaky ReLU
REACH = 8  # receptive field: embedding cells around a pixel that affect its alpha; all kernels add up to 6.1
_GUIDE = 4  # channels of picture and mask, appended to the features of each stage


class Alphas(NamedTuple):
    """The alpha of each head at the picture's size, (B, 1, 16h, 16w) float32 in [0, 1], from coarse to fine."""

    os8: torch.Tensor
    os4: torch.Tensor
    os1: torch.Tensor


class _NormalisedWeight(nn.Module):
    """The tensors of one wrapped convolution, with the names of the published checkpoints.

    `weight_bar`, reshaped to (shape[0], rest), is the matrix W. `weight_u` and `weight_v` are the vectors of the power
    iteration. For a transposed convolution shape[0] is the number of input channels.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        # u and v are untrained parameters, because the published files store them as parameters.
        self.weight_u = nn.Parameter(F.normalize(torch.randn(rows), dim=0), requires_grad=False)
        self.weight_v = nn.Parameter(F.normalize(torch.randn(columns), dim=0), requires_grad=False)
        self.weight_bar = nn.Parameter(weight)

    def iterate(self) -> None:
        """Do one power iteration in place. It moves v and u towards the first singular vectors."""
        with torch.no_grad():
            matrix = self.weight_bar.flatten(1)
            v = matrix.t() @ self.weight_u
            self.weight_v.copy_(v / (v.norm() + 1e-12))
            u = matrix @ self.weight_v
            self.weight_u.copy_(u / (u.norm() + 1e-12))

    def weight(self) -> torch.Tensor:
        """Return `weight_bar` divided by its spectral norm, estimated from the current u and v."""
        sigma = self.weight_u.dot(self.weight_bar.flatten(1).mv(self.weight_v))
        return self.weight_bar / sigma


class SpectralNorm(nn.Module):
    """A convolution without bias whose weight is divided by its estimated spectral norm.

    In training every forward pass does one power iteration. In evaluation u and v do not change. This is the wrapper of
    the published checkpoints; `torch.nn.utils.spectral_norm` differs for transposed convolutions.
    Source: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        assert conv.bias is None
        self.transposed = isinstance(conv, nn.ConvTranspose2d)
        self.stride = int(conv.stride[0])
        self.padding = int(conv.padding[0])
        self.module = _NormalisedWeight(conv.weight.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.module.iterate()
        convolve = F.conv_transpose2d if self.transposed else F.conv2d
        return convolve(x, self.module.weight(), None, self.stride, self.padding)

    def folded(self) -> nn.Conv2d | nn.ConvTranspose2d:
        """Return the equivalent plain convolution for evaluation. The norm is computed in float64."""
        bar = self.module.weight_bar
        with bar.device:
            normalised = _NormalisedWeight(bar.detach().double())
        normalised.weight_u.data = self.module.weight_u.detach().double()
        normalised.weight_v.data = self.module.weight_v.detach().double()
        ins, outs = (bar.shape[0], bar.shape[1]) if self.transposed else (bar.shape[1], bar.shape[0])
        layer_type = nn.ConvTranspose2d if self.transposed else nn.Conv2d
        conv = layer_type(
            ins, outs, bar.shape[2], stride=self.stride, padding=self.padding, bias=False, device=bar.device
        )
        conv.weight.data = normalised.weight().detach().to(bar.dtype)
        return conv


def _conv(ins: int, outs: int, kernel: int) -> nn.Conv2d:
    conv = nn.Conv2d(ins, outs, kernel, padding=kernel // 2, bias=False)
    nn.init.xavier_uniform_(conv.weight)
    return conv


def _double(channels: int) -> SpectralNorm:
    return SpectralNorm(nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False))


def _activate(x: torch.Tensor) -> torch.Tensor:
    # Work in place at inference: at full resolution a map of 32 channels takes 134 MB.
    return F.leaky_relu(x, NEGATIVE_SLOPE, inplace=not torch.is_grad_enabled())


class Block(nn.Module):
    """A residual block. With `outs` it doubles the resolution and changes the channels from `ins` to `outs`."""

    def __init__(self, ins: int, outs: int | None = None) -> None:
        super().__init__()
        self.upsample: nn.Sequential | None = None
        if outs is None:
            outs = ins
            self.conv1: nn.Module = SpectralNorm(_conv(ins, ins, 3))
        else:
            self.conv1 = _double(ins)
            # The checkpoints have the nearest-neighbour doubling at index 0; Identity keeps their numbering.
            self.upsample = nn.Sequential(nn.Identity(), SpectralNorm(_conv(ins, outs, 1)), nn.BatchNorm2d(outs))
        self.bn1: nn.Module = nn.BatchNorm2d(ins)
        self.conv2: nn.Module = SpectralNorm(_conv(ins, outs, 3))
        self.bn2: nn.Module = nn.BatchNorm2d(outs)
        assert isinstance(self.bn2, nn.BatchNorm2d)
        nn.init.zeros_(self.bn2.weight)  # a new block passes on its skip connection

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        main = _activate(self.bn1(self.conv1(x)))
        main = self.bn2(self.conv2(main))
        skip = x
        if self.upsample is not None:
            # Doubling commutes with a 1x1 convolution and a batch norm; doubling last takes a quarter of the work.
            skip = F.interpolate(self.upsample(x), scale_factor=2, mode="nearest")
        return _activate(main.add_(skip) if not torch.is_grad_enabled() else main + skip)


def _layer(ins: int, outs: int, plain: int) -> nn.Sequential:
    return nn.Sequential(Block(ins + _GUIDE, outs), *(Block(outs) for _ in range(plain)))


def _head(ins: int) -> nn.Sequential:
    last = nn.Conv2d(32, 1, 3, padding=1)
    nn.init.xavier_uniform_(last.weight)
    return nn.Sequential(_conv(ins, 32, 3), nn.BatchNorm2d(32), nn.LeakyReLU(NEGATIVE_SLOPE, inplace=False), last)


class M2M(nn.Module):
    """The matting head at its full size: 2,714,619 trainable parameters.

    It is fully convolutional: an embedding of h x w cells belongs to a picture of 16h x 16w pixels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer2 = _layer(EMBEDDING_CHANNELS, 128, 2)
        self.layer3 = _layer(128, 64, 2)
        self.layer4 = _layer(64, 32, 1)
        self.conv1: nn.Module = _double(32)
        self.bn1: nn.Module = nn.BatchNorm2d(32)
        self.refine_OS8 = _head(128)
        self.refine_OS4 = _head(64)
        self.refine_OS1 = _head(32)

    def forward(self, embedding: torch.Tensor, picture: torch.Tensor, mask: torch.Tensor) -> Alphas:
        """Compute the alphas of a batch.

        Args:
            embedding: (B, 256, h, w), from SAM.
            picture: (B, 3, 16h, 16w) float32, normalised as for SAM, padding 0.
            mask: (B, 1, m, n) float32 of any size, the guide mask, 1 subject and 0 background.
        Returns: Alphas, float32 even if the network runs in half precision.
        Raises: ValueError, the picture is not 16 times the embedding.
        """
        h, w = embedding.shape[-2:]
        if picture.shape[-2:] != (h * STRIDE, w * STRIDE):
            raise ValueError(
                f"picture must be {STRIDE} times the embedding, are {tuple(picture.shape)} {tuple(embedding.shape)}"
            )
        x = self.layer2(_guided(embedding.to(self.dtype), picture, mask))
        os8 = _upsampled(_run_head(self.refine_OS8, x), 8)
        x = self.layer3(_guided(x, picture, mask))
        os4 = _upsampled(_run_head(self.refine_OS4, x), 4)
        x = self.layer4(_guided(x, picture, mask))
        x = _activate(self.bn1(self.conv1(x)))
        os1 = _run_head(self.refine_OS1, x)
        return Alphas(_alpha(os8), _alpha(os4), _alpha(os1))

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the network. The last convolution of each head is always float32."""
        first = self.refine_OS8[0].weight
        assert isinstance(first, torch.Tensor)
        return first.dtype

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load the `state_dict` of a published checkpoint.

        Checkpoints of several GPUs have the prefix `module.` on every key. It is removed if the first key has it.
        Raises: WeightsError, the tensors do not belong to this network.
        """
        names = list(state)
        wrapped = bool(names) and names[0].startswith("module.")
        plain = {(k.removeprefix("module.") if wrapped else k): v.float() for k, v in state.items()}
        expected = self.state_dict()
        missing = sorted(expected.keys() - plain.keys())
        # Files of old PyTorch versions lack the count of batches; nothing here uses it.
        missing = [k for k in missing if not k.endswith("num_batches_tracked")]
        unknown = sorted(plain.keys() - expected.keys())
        if missing or unknown:
            fault = f"lacks {missing[0]}" if missing else f"holds {unknown[0]}"
            raise WeightsError(f"not a MAM checkpoint: it {fault} ({len(missing)} missing, {len(unknown)} unknown)")
        for name, value in plain.items():
            if value.shape != expected[name].shape:
                raise WeightsError(
                    f"not a MAM checkpoint: {name} is {tuple(value.shape)}, must be {tuple(expected[name].shape)}"
                )
        counts = {k: v.long() for k, v in plain.items() if k.endswith("num_batches_tracked")}
        self.load_state_dict({**expected, **plain, **counts})

    @torch.no_grad()
    def fold(self) -> M2M:
        """Make a copy for inference, in evaluation mode and channels-last.

        Its convolutions include the spectral and batch norms, folded in float64 and stored in float32. The copy is on
        the device of this network, which does not change.
        """
        with next(self.parameters()).device:
            folded = M2M()
        folded.load_state_dict(self.state_dict())
        for layer in (folded.layer2, folded.layer3, folded.layer4):
            for block in layer:
                assert isinstance(block, Block)
                block.conv1, block.bn1 = _fold_pair(block.conv1, block.bn1), nn.Identity()
                block.conv2, block.bn2 = _fold_pair(block.conv2, block.bn2), nn.Identity()
                if block.upsample is not None:
                    block.upsample[1] = _fold_pair(block.upsample[1], block.upsample[2])
                    block.upsample[2] = nn.Identity()
        folded.conv1, folded.bn1 = _fold_pair(folded.conv1, folded.bn1), nn.Identity()
        for head in (folded.refine_OS8, folded.refine_OS4, folded.refine_OS1):
            head[0], head[1] = _fold_pair(head[0], head[1]), nn.Identity()
        return folded.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def in_precision(self, dtype: torch.dtype) -> M2M:
        """Convert all but the last convolution of each head to `dtype` in place. Call `fold` first. Returns itself."""
        self.to(dtype)
        for head in (self.refine_OS8, self.refine_OS4, self.refine_OS1):
            head[3].float()
        return self


def _fold_pair(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """Fold `conv` and the batch norm after it into one convolution with bias, for evaluation."""
    plain = conv.folded() if isinstance(conv, SpectralNorm) else conv
    assert isinstance(plain, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    shape = (1, -1, 1, 1) if isinstance(plain, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    layer_type = type(plain)
    folded = layer_type(
        plain.in_channels,
        plain.out_channels,
        plain.kernel_size,  # type: ignore[arg-type]
        stride=plain.stride,  # type: ignore[arg-type]
        padding=plain.padding,  # type: ignore[arg-type]
        device=plain.weight.device,
    )
    folded.weight.data = (plain.weight.double() * scale.view(shape)).to(plain.weight.dtype)
    assert folded.bias is not None
    folded.bias.data = shift.to(plain.weight.dtype)
    return folded


def _guided(features: torch.Tensor, picture: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Concatenate features, picture and mask in this order; picture and mask are resized to the features' size."""
    size = features.shape[-2:]
    guides = [_resized(g, (int(size[0]), int(size[1]))).to(features.dtype) for g in (picture, mask)]
    return torch.cat([features, *guides], dim=1)


def _resized(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(maps.float(), size=size, mode="bilinear", align_corners=False)


def _run_head(head: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """Run a head: logits (B, 1, h, w) float32. The last convolution is float32 in any precision."""
    hidden = _activate(head[1](head[0](x)))
    logits: torch.Tensor = head[3](hidden.float())
    return logits


def _upsampled(logits: torch.Tensor, times: int) -> torch.Tensor:
    return F.interpolate(logits, scale_factor=times, mode="bilinear", align_corners=False)


def _alpha(logits: torch.Tensor) -> torch.Tensor:
    """Compute (tanh(x) + 1) / 2, as the reference does. It is a sigmoid of 2x that reaches 0 and 1 exactly."""
    return (torch.tanh(logits) + 1.0) / 2.0
