"""Combine the alphas of several subjects so that they sum to at most 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from mam_video.core.frames import Matted
from mam_video.tracking.types import worst_of

# Alphas


def divided(parts: Sequence[Matted]) -> tuple[Matted, ...]:
    """The mattes of one frame's subjects, of which no pixel adds up to more than 1.

    Where alphas do, each is divided by their sum; elsewhere they pass as they came.
    """
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
    total = reduce(np.add, alphas)
    over = total > 1
    if not over.any():
        return alphas
    parts = np.stack([alpha[over] for alpha in alphas]) / total[over]
    # Rounding may leave a bit too much; it comes off the largest.
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


def united(parts: Sequence[Matted]) -> Matted:
    """All subjects of a frame as one matte, their sum; its record is that of the subject that is worst off."""
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
    return np.minimum(reduce(np.add, alphas), np.float32(1))
