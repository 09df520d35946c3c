"""The foreground's colour on a device: the method and the arithmetic of `matting/foreground.py`, on whole rectangles.

There only uncertain pixels are visited, as lists, and the pyramid begins at the corner of their rectangle; both are
found in the numbers. Here every pixel of the rectangle that may be uncertain is computed, and what is not uncertain
keeps its colour. Where the two rectangles are the same the colours are too, but for rounding; else the pyramids differ,
and both are as near to the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mam_video.matting.device.frames import ResidentMatted
from mam_video.matting.device.sampling import box_dilated
from mam_video.matting.foreground import CERTAIN, COARSEST, HALF_MOST, LEAST_WEIGHT, ROOM, ROUNDS, ROUNDS_COARSEST


def with_foreground(matted: ResidentMatted) -> ResidentMatted:
    """Give a matte the estimated colour of its subject, as `foreground.with_foreground`."""
    frame = matted.frame
    coverage = matted.alpha if matted.coverage is None else matted.coverage
    part = matted.part.grown(ROOM, frame.size).slices
    colour = frame.values
    own = None if frame.own_alpha is None else frame.own_alpha[part]
    colour[:, *part] = estimate_foreground(colour[:, *part], coverage[part], own, codes=_largest_code(frame.plate))
    return replace(matted, colour=colour)


def _largest_code(plate: Tensor) -> float | None:
    return {torch.uint8: 255.0, torch.int16: 65535.0}.get(plate.dtype)


def estimate_foreground(
    plate: Tensor, alpha: Tensor, plate_alpha: Tensor | None = None, *, codes: float | None = None
) -> Tensor:
    """Estimate the subject's colour F in a rectangle.

    Args:
        plate: (3, H, W) float32; alpha, plate_alpha: (H, W) float32 in [0, 1].
        codes: the largest code of a plate of whole numbers; None: the plate is float.
    Returns: (3, H, W) float32; whole numbers of a plate of whole numbers.
    """
    given, low, high = plate, plate.new_zeros(()), plate.new_zeros(())
    if codes is None:
        given = plate.nan_to_num(nan=0.0, posinf=HALF_MOST, neginf=-HALF_MOST)
    else:
        high = torch.full_like(high, codes)
    if plate_alpha is not None:
        given = _extended(given, plate_alpha > 0)
    if codes is None:
        low, high = given.amin(), given.amax()
    whole = codes is not None and plate_alpha is None  # the first reduction of whole numbers is rounded
    levels = [_Level(given, alpha, _uncertain(alpha))]
    while max(levels[-1].alpha.shape) > COARSEST:
        levels.append(levels[-1].halved(rounded=whole and len(levels) == 1))
    colours: Tensor | None = None
    for level in reversed(levels):
        colours = _solve(level, colours, low, high)
    assert colours is not None

    free = torch.ones_like(alpha) if len(levels) == 1 else box_dilated(levels[0].uncertain, 3)
    changed = (_cross_dilated(free) > 0) & (alpha < 1 - CERTAIN)
    if plate_alpha is not None:
        changed &= plate_alpha >= 1
    changed &= (levels[0].uncertain > 0).any()
    found = colours[:3] if codes is None else colours[:3].round()
    return torch.where(changed, found, plate)


@dataclass(frozen=True, slots=True)
class _Level:
    """A level of the pyramid: rgb (3, H, W), alpha (H, W), and uncertain (H, W) float32, 0 or 1."""

    rgb: Tensor
    alpha: Tensor
    uncertain: Tensor

    def halved(self, *, rounded: bool) -> _Level:
        """Return the next coarser level, by means of 2 x 2 pixels."""
        both = _halved(torch.cat([self.rgb, self.alpha[None]]))
        rgb, alpha = both[:3], both[3]
        finer = F.max_pool2d(_even(self.uncertain[None])[None], 2)[0, 0]
        return _Level((rgb + 0.5).floor() if rounded else rgb, alpha, torch.maximum(_uncertain(alpha), finer))


def _uncertain(alpha: Tensor) -> Tensor:
    return ((alpha >= CERTAIN) & (alpha <= 1 - CERTAIN)).float()


def _even(values: Tensor) -> Tensor:
    """Extend (C, H, W) of odd sizes by their last row or column."""
    height, width = values.shape[-2:]
    if not (height % 2 or width % 2):
        return values
    return F.pad(values[None], (0, width % 2, 0, height % 2), mode="replicate")[0]


def _halved(values: Tensor) -> Tensor:
    return F.avg_pool2d(_even(values)[None], 2)[0]


def _extended(rgb: Tensor, known: Tensor) -> Tensor:
    """Extend known colours to unknown pixels, smoother with the distance; unchanged where none is known."""
    height, width = known.shape
    if max(height, width) == 1:
        return rgb
    weight = known.float()[None]
    both = _halved(torch.cat([rgb * weight, weight]))
    colour, weight = both[:3], both[3:]
    coarse = _extended(colour / weight.clamp(min=1e-6), weight[0] > 0)
    size = (2 * weight.shape[1], 2 * weight.shape[2])
    filled = F.interpolate(coarse[None], size=size, mode="bilinear", align_corners=False)[0, :, :height, :width]
    return torch.where(known | ~known.any(), rgb, filled)


def _solve(level: _Level, coarser: Tensor | None, low: Tensor, high: Tensor) -> Tensor:
    """Solve for F and B of one level, initialised from the next coarser one: (6, H, W) float32."""
    alpha, plate = level.alpha, level.rgb
    height, width = alpha.shape
    if coarser is None:
        colours = _means(plate, alpha)[:, None, None].expand(6, height, width)
        free = torch.ones_like(alpha, dtype=torch.bool)
    else:
        colours = coarser.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width]
        free = box_dilated(level.uncertain, 3) > 0
    solid, clear = alpha >= 1 - CERTAIN, alpha <= CERTAIN
    colours = torch.cat([torch.where(solid, plate, colours[:3]), torch.where(clear, plate, colours[3:])])
    odd = (torch.arange(height, device=alpha.device)[:, None] + torch.arange(width, device=alpha.device)) % 2 > 0
    field = _Field.of(plate, alpha)
    for _ in range(ROUNDS_COARSEST if coarser is None else ROUNDS):
        for moving in (free & ~odd, free & odd):
            colours = torch.where(moving, field.relaxed(colours, low, high), colours)
    return colours


def _cross_dilated(region: Tensor) -> Tensor:
    """Dilate (H, W) float32 by a cross of 3 pixels."""
    tall = F.max_pool2d(region[None, None], (3, 1), stride=1, padding=(1, 0))[0, 0]
    wide = F.max_pool2d(region[None, None], (1, 3), stride=1, padding=(0, 1))[0, 0]
    return torch.maximum(tall, wide)


def _means(plate: Tensor, alpha: Tensor) -> Tensor:
    """Compute the mean colours of subject and background, weighted by alpha: (6,) float32."""
    both = torch.stack([alpha, 1 - alpha]) ** 4 + 1e-6
    sums = [(weight * plate).sum((1, 2)) / weight.sum() for weight in both]
    return torch.cat(sums)


def _neighbours(values: Tensor) -> Sequence[Tensor]:
    """Return (C, H, W) as the neighbour to the left, right, above and below sees it; a pixel at the border itself."""
    height, width = values.shape[-2:]
    wide = F.pad(values[None], (1, 1, 1, 1), mode="replicate")[0]
    return (
        wide[:, 1:-1, :width], wide[:, 1:-1, 2:], wide[:, :height, 1:-1], wide[:, 2:, 1:-1],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Field:
    """What is constant while the pixels of a level are visited. Few operations matter: each is a launch on a GPU.

    weights    (4, H, W) of the neighbours, which sum to 1
    plate      (3, H, W)
    opacities  (2, 1, H, W): alpha, and 1 - alpha
    shares     (2, 1, H, W): the shares of the residual that F and B take
    """

    weights: Tensor
    plate: Tensor
    opacities: Tensor
    shares: Tensor

    @classmethod
    def of(cls, plate: Tensor, alpha: Tensor) -> _Field:
        weights = torch.cat([(each - alpha).abs() + LEAST_WEIGHT for each in _neighbours(alpha[None])])
        total = weights[0] + weights[1] + weights[2] + weights[3]
        opacities = torch.stack([alpha, 1 - alpha])
        norm = (opacities * opacities).sum(0) + total
        return cls(weights / total, plate, opacities[:, None], (opacities / norm)[:, None])

    def relaxed(self, colours: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Return what every pixel becomes, (6, H, W), given its neighbours."""
        first, *others = zip(_neighbours(colours), self.weights, strict=True)
        mean = first[0] * first[1]
        for values, weight in others:
            mean = torch.addcmul(mean, values, weight)
        both = mean.unflatten(0, (2, 3))
        residual = torch.addcmul(self.plate, self.opacities[0], both[0], value=-1)
        residual = torch.addcmul(residual, self.opacities[1], both[1], value=-1)
        return torch.addcmul(both, self.shares, residual).flatten(0, 1).clamp(low, high)
