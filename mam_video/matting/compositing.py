"""Combine the alphas of several subjects so that they sum to at most 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from mam_video.core.frames import Matted
from mam_video.tracking.types import worst_of


def divided(parts: Sequence[Matted]) -> tuple[Matted, ...]:
    """Divide the alphas of a frame's subjects by their sum where that is more than 1; elsewhere they are unchanged."""
    if len(parts) == 1:
        return tuple(parts)
    alphas = divide_one([part.alpha for part in parts])
    coverages: Sequence[np.ndarray | None] = [part.coverage for part in parts]
    if any(coverage is not None for coverage in coverages):
        coverages = divide_one([p.alpha if p.coverage is None else p.coverage for p in parts])
    if all(a is part.alpha for a, part in zip(alphas, parts, strict=True)):
        return tuple(parts)
    return tuple(
        replace(part, alpha=alpha, coverage=coverage)
        for part, alpha, coverage in zip(parts, alphas, coverages, strict=True)
    )


def divide_one(alphas: list[np.ndarray]) -> list[np.ndarray]:
    """Divide alphas, each (H, W) float32, where they add up to more than 1; no sum is more, even by rounding."""
    total = reduce(np.add, alphas)
    over = total > 1
    if not over.any():
        return alphas
    parts = np.stack([alpha[over] for alpha in alphas]) / total[over]
    # Rounding may leave a bit too much; take it off the largest.
    while (left := parts.sum(0, dtype=np.float64) - 1).max() > 0:
        most = parts.argmax(0)
        columns = np.arange(parts.shape[1])
        largest = parts[most, columns]
        less = np.minimum(largest - left, np.nextafter(largest, np.float32(0))).astype(np.float32)
        parts[most, columns] = np.where(left > 0, less, largest)
    found = []
    for alpha, part in zip(alphas, parts, strict=True):
        whole = alpha.copy()
        whole[over] = part
        found.append(whole)
    return found


def share_included(parts: Sequence[Matted], include: np.ndarray) -> tuple[Matted, ...]:
    """Raise the sum of several subjects' alphas to at least `include`, (H, W) float32 in [0, 1].

    What is missing goes to each subject in proportion to its alpha, and evenly where no subject has any.
    """
    total = sum_of([part.alpha for part in parts])
    missing = np.maximum(include - total, 0)
    if not missing.any():
        return tuple(parts)
    covered = total > 0
    raised = []
    for part in parts:
        share = np.full_like(total, 1 / len(parts))
        np.divide(part.alpha, total, out=share, where=covered)
        coverage = part.alpha if part.coverage is None else part.coverage
        raised.append(replace(part, alpha=part.alpha + missing * share, coverage=coverage))
    return tuple(raised)


def united(parts: Sequence[Matted]) -> Matted:
    """Unite the subjects of a frame in one matte: the sum of their alphas, with the record of the worst.

    A lone subject's matte is returned as it is, without parts.
    """
    if len(parts) == 1:
        return parts[0]
    coverage = None
    if any(part.coverage is not None for part in parts):
        coverage = sum_of([part.alpha if part.coverage is None else part.coverage for part in parts])
    mattes = [part.matte for part in parts if part.matte is not None]  # of all of them, or of none
    return Matted(
        parts[0].frame,
        sum_of([part.alpha for part in parts]),
        worst_of([p.record for p in parts]),
        coverage,
        tuple(parts),
        sum_of(mattes) if mattes else None,
    )


def sum_of(alphas: list[np.ndarray]) -> np.ndarray:
    """Add alphas, each (H, W) float32; at most 1."""
    return np.minimum(reduce(np.add, alphas), np.float32(1))
