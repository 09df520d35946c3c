"""The matte head of the embedded small model's network. Tensors in, tensors out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mam_video.models.lite_backbone import LITE0, LiteArchitecture
from mam_video.models.lite_layers import Attention, Block, ConvNorm, Features, halved, joined, of_joined, up

_FEATURE_SCALE = 0.1  # f2 and f4 have a deviation of about 10: brought to that of pictures and masks
_NO_ALPHA = -20.0  # a logit

# What the layers see to each side, in their own pixels: 3x3, 5x5, 5x5, 3x3 at V/2; 3x3, three 5x5, 3x3 at V/4; three
# 5x5 at V/8.
_REACH2, _REACH4, _REACH8 = 6, 8, 6
_STEP = 8  # sizes of maps at V/2 and V/4 are multiples of it, since a CPU's library prepares itself for each size anew


def local_colours(picture: Tensor, mask: Tensor, levels: int = 6, patience: float = 0.1) -> tuple[Tensor, Tensor]:
    """What the subject and the background look like around each place: F and B (B, 3, h, w) like `picture`.

    Means of what the mask (B, 1, h, w) in [0, 1] is sure about, from the finest of some levels that has enough of it,
    by pulling up and pushing down a pyramid (Gortler et al., The Lumigraph, 1996). `patience` is how much sure area,
    in cells, counts as much as the next coarser level. h and w must divide by 2 to the levels - 1.
    """
    # Both at once: B subjects, then B backgrounds; the colour of what is sure, and how much that is.
    sure = torch.cat([3 * mask - 2, 1 - 3 * mask]).clamp(0, 1)
    pulled = [torch.cat([torch.cat([picture, picture]) * sure, sure], 1)]
    for _ in range(levels - 1):
        pulled.append(F.avg_pool2d(pulled[-1], 2))
    mean = pulled[-1].mean((2, 3), keepdim=True)
    # Grey, and nothing to tell by, where there is no such thing at all.
    colour = (mean[:, :3] / (mean[:, 3:] + 1e-3)).expand(-1, -1, *pulled[-1].shape[2:])
    for level in reversed(pulled):
        if colour.shape[-1] != level.shape[-1]:
            # One map at a time: of three PyTorch makes other bits in one thread than in several, and is slower.
            colour = up(colour.flatten(0, 1)[:, None]).view_as(level[:, :3])
        colour = (level[:, :3] + patience * colour) / (level[:, 3:] + patience)
    subject, background = colour.chunk(2)
    return subject, background


def between(colours: Tensor, subject: Tensor, background: Tensor) -> Tensor:
    """How far colours lie on the way from background to subject, (B, n, h, w): about alpha where both are right.

    colours: (B, 3 n, h, w), n of each place, red ones first; subject, background: (B, 3, h, w).
    """
    way = subject - background
    way = way / (_dot(way, way) + 0.01)
    return (_dot(colours, way) - _dot(background, way)).clamp(-0.5, 1.5)


def _dot(colours: Tensor, way: Tensor) -> Tensor:
    """(B, n, h, w): the products of (B, 3 n, h, w), red ones first, with (B, 3, h, w), summed over the colours."""
    red, green, blue = colours.chunk(3, 1)
    return torch.addcmul(torch.addcmul(red * way[:, :1], green, way[:, 1:2]), blue, way[:, 2:])


class MatteHead(nn.Module):
    """Alpha at V from the picture at V, the mask's logits at S/2, the backbone's first features and the segmenter's.

    In the manner of M2M: each stage takes the picture and the mask again. What no small network learns well it is told:
    the colours that the mask is sure of around each place, and how far the pixel lies from one to the other, as
    sampling-based matting does. The full resolution is reached by shuffling pixels of each 2x2 into channels and back,
    so that no layer runs at V.
    """

    def __init__(
        self, architecture: LiteArchitecture = LITE0, c8: int = 48, c16: int = 64, c4: int = 32, c2: int = 24
    ) -> None:
        super().__init__()
        wide, middle = architecture.wide, architecture.middle
        low2, low4, *_ = architecture.channels
        self.in8 = ConvNorm(low4 + 4 + 2, c8)
        self.down = nn.Sequential(ConvNorm(c8, c16, 3, stride=2), Block(c16), Block(c16), Block(c16))
        self.meaning = ConvNorm(middle, c16, 1, act=False)
        self.meaning_top = ConvNorm(wide, c16, 1, act=False)
        self.context = Attention(c16)
        self.deep = nn.Sequential(Block(c16), Block(c16))
        self.across = ConvNorm(c8 + c16, c8, 1)
        self.body8 = nn.Sequential(Block(c8), Block(c8), Block(c8))
        self.in4 = ConvNorm(c8 + low2 + 4 + 8, c4)
        self.body4 = nn.Sequential(Block(c4), Block(c4), Block(c4))
        self.coarse = nn.Conv2d(c4, 1, 3, padding=1)
        self.in2 = ConvNorm(c4 + 12 + 1 + 5, c2)
        self.body2, self.more2 = Block(c2), Block(c2)
        self.fine = nn.Conv2d(c2, 4, 3, padding=1)
        # What is added starts as nothing. Source: Goyal et al., arXiv 1706.02677, section 5.1.
        blocks = (*self.deep, self.body8[2], self.body4[2], self.more2)
        norms = (self.meaning[1], self.meaning_top[1], *(b.mix[1] for b in blocks if isinstance(b, Block)))
        for added in (*norms, self.context.proj, self.context.mlp[2]):
            assert isinstance(added, nn.BatchNorm2d | nn.Linear)
            nn.init.zeros_(added.weight)
            nn.init.zeros_(added.bias)

    def forward(
        self,
        picture: Tensor,
        f2: Tensor,
        f4: Tensor,
        features: Features,
        logits: Tensor,
        content: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Alpha logits (B, 1, V, V), and the coarse ones (B, 1, V/4, V/4), which training looks at too.

        picture: (B, 3, V, V) RGB in [-1, 1]; logits: (B, 1, S/2, S/2); content: (h, w) of the picture in the square.
        Beyond the content the finer layers do no work, and the logits are those of no alpha. Within it they are as
        without `content`.
        """
        at2, at4, at8 = _extents(picture.shape[-1], content)
        sure = logits.sigmoid()
        mask = 2 * sure - 1
        quarter = halved(halved(picture))
        subject, background = local_colours(quarter, sure)
        apart = (subject - background).pow(2).sum(1, keepdim=True).sqrt()
        share = between(quarter, subject, background)
        told = torch.cat([share, apart, subject, background], 1)
        f4 = f4 * _FEATURE_SCALE
        eighth = (F.avg_pool2d(quarter, 2), F.avg_pool2d(mask, 2), F.avg_pool2d(told[:, :2], 2))
        x = self.in8(joined([f4], eighth))
        deep = self.down(x)
        deep = F.relu6(deep + self.meaning(features.l8) + up(self.meaning_top(features.top)))
        seen = F.avg_pool2d(deep, 2)
        deep = self.deep(F.relu6(deep + up(self.context(seen) - seen)))
        x = self.body8(self.across(torch.cat([_part(x, at8), up(deep, at8)], 1)))
        f2 = _part(f2, at4) * _FEATURE_SCALE
        x = self.body4(self.in4(joined([up(x, at4), f2], [_part(each, at4) for each in (quarter, mask, told)])))
        coarse = self.coarse(x)
        # Channels of `pixels` go colour by colour, the four places of each together.
        pixels = F.pixel_unshuffle(_part(picture, (2 * at2[0], 2 * at2[1])), 2)
        start = up(coarse, at2)
        apart, subject, background = torch.split(up(told[:, 1:], at2), [1, 3, 3], 1)
        shares = between(pixels, subject, background)
        x = self.more2(self.body2(of_joined(self.in2, up(x, at2), pixels, start, shares, apart)))
        alpha = up(start) + F.pixel_shuffle(self.fine(x), 2)
        return _whole(alpha, picture.shape[-1]), _whole(coarse, picture.shape[-1] // 4)


_Extent = tuple[int, int]


def _extents(side: int, content: tuple[int, int] | None) -> tuple[_Extent, _Extent, _Extent]:
    """(h, w) of what has to be computed at V/2, V/4 and V/8 of a square of V = `side` pixels."""

    def reached(length: int) -> tuple[int, int, int]:
        half = min(_raised(-(-length // 2) + _REACH2, _STEP), side // 2)
        quarter = min(_raised(half // 2 + 1 + _REACH4, _STEP), side // 4)
        return half, quarter, min(quarter // 2 + 1 + _REACH8, side // 8)

    down, across = (reached(length) for length in content or (side, side))
    at2, at4, at8 = zip(down, across, strict=True)
    return at2, at4, at8


def _raised(length: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-length // step) * step


def _part(x: Tensor, extent: _Extent) -> Tensor:
    return x[..., : extent[0], : extent[1]]


def _whole(x: Tensor, side: int) -> Tensor:
    """Logits of no alpha beyond those that were computed."""
    return F.pad(x, (0, side - x.shape[-1], 0, side - x.shape[-2]), value=_NO_ALPHA)
