"""Bands of rows, in which pictures are converted.

A picture goes through its steps a band at a time, so that what one step leaves for the next stays in the processor's
cache. A whole 1080p plane for each step would be memory that the system has to clear anew for every frame: that took
longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_PIXELS: Final = 1 << 18  # of a band; 1.5 MB of 16-bit RGB
_STEP: Final = 16  # rows; whole vectors of every processor, and whole cells of every chroma sampling


def bands(height: int, width: int) -> Iterator[slice]:
    """Yield the rows of a picture from top to bottom, in bands that begin at multiples of 16."""
    count = max(_PIXELS // max(width, 1) // _STEP, 1) * _STEP
    for first in range(0, height, count):
        yield slice(first, min(first + count, height))
