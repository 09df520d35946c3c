"""Combine the alphas of several subjects on a device: the arithmetic of `matting/compositing.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from mam_video.matting.device.frames import Part, ResidentMatted
from mam_video.tracking.types import worst_of

_ROUNDS = 3  # the second takes off what rounding left in the first, one unit in the last place at least


def divided(parts: Sequence[ResidentMatted]) -> tuple[ResidentMatted, ...]:
    """Divide the alphas of a frame's subjects by their sum where that is more than 1."""
    if len(parts) == 1:
        return tuple(parts)
    alphas = divide_one([part.alpha for part in parts])
    coverages: Sequence[Tensor | None] = [part.coverage for part in parts]
    if any(coverage is not None for coverage in coverages):
        coverages = divide_one([p.alpha if p.coverage is None else p.coverage for p in parts])
    return tuple(
        replace(part, alpha=alpha, coverage=coverage)
        for part, alpha, coverage in zip(parts, alphas, coverages, strict=True)
    )


def divide_one(alphas: Sequence[Tensor]) -> list[Tensor]:
    """Divide alphas, each (H, W) float32, where they add up to more than 1; no sum is more, even by rounding."""
    given = torch.stack(list(alphas))
    total = reduce(torch.add, given)
    over = total > 1
    parts = given / total
    for _ in range(_ROUNDS):  # rounding may leave a bit too much; take it off the largest
        left = parts.sum(0, dtype=torch.float64) - 1
        largest, most = parts.max(0, keepdim=True)
        less = torch.minimum((largest - left).float(), torch.nextafter(largest, torch.zeros_like(largest)))
        parts = parts.scatter(0, most, torch.where(left > 0, less, largest))
    return list(torch.where(over, parts, given))


def share_included(parts: Sequence[ResidentMatted], include: Tensor) -> tuple[ResidentMatted, ...]:
    """Raise the sum of several subjects' alphas to at least `include`, (H, W) float32 in [0, 1]."""
    total = sum_of([part.alpha for part in parts])
    missing = (include - total).clamp(min=0)
    raised = []
    for part in parts:
        share = torch.where(total > 0, part.alpha / total, torch.full_like(total, 1 / len(parts)))
        coverage = part.alpha if part.coverage is None else part.coverage
        whole = Part(0, part.frame.size[0], 0, part.frame.size[1])
        raised.append(replace(part, alpha=part.alpha + missing * share, coverage=coverage, part=whole))
    return tuple(raised)


def united(parts: Sequence[ResidentMatted]) -> ResidentMatted:
    """Unite the subjects of a frame in one matte: the sum of their alphas. A lone subject's is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    coverage = None
    if any(part.coverage is not None for part in parts):
        coverage = sum_of([part.alpha if part.coverage is None else part.coverage for part in parts])
    mattes = [part.matte for part in parts if part.matte is not None]
    return ResidentMatted(
        parts[0].frame,
        sum_of([part.alpha for part in parts]),
        worst_of([p.record for p in parts]),
        reduce(Part.joined, (part.part for part in parts)),
        coverage=coverage,
        parts=tuple(parts),
        matte=sum_of(mattes) if mattes else None,
    )


def sum_of(alphas: Sequence[Tensor]) -> Tensor:
    """Add alphas, each (H, W) float32; at most 1."""
    return reduce(torch.add, alphas).clamp(max=1)
