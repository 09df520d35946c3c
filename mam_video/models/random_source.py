"""Untrained weights from a seed, `random:SEED`, to try a run without weight files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mam_video.core.errors import UsageError

RANDOM = "random"  # instead of a path: random:SEED gives untrained weights


def is_random(source: str | Path) -> bool:
    """Return whether a source of weights is random:SEED, or random alone."""
    return isinstance(source, str) and source.partition(":")[0] == RANDOM


@contextlib.contextmanager
def seeded(source: str | Path) -> Iterator[None]:
    """Seed torch from random:SEED inside the block, and restore the caller's random state after it.

    Raises: UsageError, the seed is no whole number.
    """
    import torch

    text = str(source).partition(":")[2] or "0"
    if not text.isdecimal():
        raise UsageError(f"{source}: the seed must be a whole number, as in {RANDOM}:0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(text))
        yield
