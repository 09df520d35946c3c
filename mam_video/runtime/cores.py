"""The cores that this process uses: those that the system gives it, or its share of a machine that others use too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_MOST_WORKERS = 8  # threads of one stage; each holds frames of its own
_share: int | None = None


def cores() -> int:
    """Return how many cores this process may use: 1 at least."""
    return _available() if _share is None else min(_share, _available())


def worker_count() -> int:
    """Count the threads for work that goes frame by frame: half of the cores that the process may use, 8 at most.

    The model and the codecs have threads of their own.
    """
    return max(min(cores() // 2, _MOST_WORKERS), 1)


def one_thread() -> bool:
    """Whether this process was given a share of one core, so that its stages take turns in one thread."""
    return _share == 1


def codec_threads() -> int:
    """Return the threads of a decoder; 0: as many as FFmpeg finds cores."""
    return 0 if _share is None else _share


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Use `count` cores of this machine at most inside the block. Every thread of the process heeds it."""
    global _share
    before, _share = _share, max(count, 1)
    try:
        yield
    finally:
        _share = before


def _available() -> int:
    if hasattr(os, "sched_getaffinity"):  # only Linux knows it
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1
