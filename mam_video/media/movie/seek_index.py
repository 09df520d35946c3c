"""Where a movie can be entered, and what its frames are: so that a part of it can be decoded without all before it.

A seek is a promise that containers and codecs keep in their own ways: indexes lie, open groups of pictures lack what
they refer to, some streams refresh a picture over many frames. So nothing is believed: what a pass from the start has
seen of each frame, its time and a checksum of its pixels, is compared with what comes after a seek.
"""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from threading import Lock

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame


class SeekMismatch(Exception):
    """A seek led elsewhere than it should."""


class SeekIndex:
    """What is known of a movie's frames, from the first on; some bytes a frame. Threads may fill and query it."""

    def __init__(self) -> None:
        self._times = array("q")
        self._sums = array("L")
        self._entries = array("q")  # indices of key frames
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._sums)

    def see(self, index: int, pts: int, picture: VideoFrame) -> None:
        """Frame `index` of a pass from the start; `picture` is PyAV's."""
        with self._lock:
            if index != len(self._sums):
                return
            self._times.append(pts)
            self._sums.append(_checksum(picture))
            if picture.key_frame and picture.pts == pts:
                self._entries.append(index)

    def before(self, index: int) -> int | None:
        """Return the last frame up to `index` at which the movie can be entered; None where that is its first."""
        place = bisect_right(self._entries, index) - 1
        return self._entries[place] if place >= 0 and self._entries[place] > 0 else None

    def time(self, index: int) -> int:
        """Its pts."""
        return self._times[index]

    def check(self, index: int, picture: VideoFrame) -> None:
        """Raises: SeekMismatch, `picture` is not frame `index`."""
        if picture.pts != self._times[index] or picture.is_corrupt or _checksum(picture) != self._sums[index]:
            raise SeekMismatch


def _checksum(picture: VideoFrame) -> int:
    """Checksum every line of every plane, the palette (a seek can lose it) and the tags that decide the colours."""
    form = picture.format
    kind = f"{form.name} {picture.width} {picture.height} {picture.colorspace} {picture.color_range}"
    found = zlib.crc32(kind.encode())
    for number, plane in enumerate(picture.planes):
        if not plane.line_size:  # a palette
            found = zlib.crc32(bytes(plane), found)
            continue
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height]
        pixels = lines[:, : _line_bytes(form, number, plane.width)]  # the padding after them may hold anything
        found = zlib.crc32(pixels.tobytes(), found)
    return found


def _line_bytes(form: VideoFormat, plane: int, width: int) -> int:
    """Return how many bytes of a line of `plane` hold pixels; `width` is the plane's, in pixels."""
    if form.is_planar:
        return width * sum((part.bits + 7) // 8 for part in form.components if part.plane == plane)
    bits = form.bits_per_pixel if form.padded_bits_per_pixel is None else form.padded_bits_per_pixel
    return (width * bits + 7) // 8
