"""EXR files of scan lines with zip compression, put together on all cores.

OpenEXR's own writer has the same steps and gives the same bytes, but it takes samples apart and forms differences byte
by byte, and compresses what is empty again and again: that is a third to a half of its time. The header and the
deflate stream are the library's here too.
Source: "OpenEXR File Layout" (openexr.com); internal_zip.c of OpenEXRCore.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import OpenEXR

from mam_video.media.base import XYXY
from mam_video.runtime.cores import cores
from mam_video.runtime.streams import ordered_map

LINES: Final = {"zip": 16, "zips": 1}  # of a chunk
_AT_ONCE: Final = 16  # lines that a thread takes at a time
ZIP_LEVEL: Final = 1  # of 9; the library's own is 4, which takes half as long again for 2 % smaller files
_WINDOW: Final = b"dataWindow\0box2i\0" + struct.pack("<i", 16)


@cache
def library_deflate() -> Callable[[np.ndarray], bytes | None] | None:
    """Return the library's zip of a (n,) uint8 array; None of what it cannot shrink. None where a build hides it."""
    if sys.byteorder != "little":
        return None
    try:
        compress = ctypes.CDLL(OpenEXR.__file__).exr_compress_buffer
    except (OSError, AttributeError):
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    compress.argtypes = [pointer, ctypes.c_int, pointer, size, pointer, size, ctypes.POINTER(size)]
    compress.restype = ctypes.c_int32

    def deflate(data: np.ndarray) -> bytes | None:
        room, length = np.empty_like(data), size()
        failed = compress(
            None, ZIP_LEVEL, data.ctypes.data, data.nbytes, room.ctypes.data, room.nbytes, ctypes.byref(length)
        )
        return None if failed or length.value >= data.nbytes else room[: length.value].tobytes()

    return deflate


def write_chunks(
    path: Path,
    head: bytes,
    data: XYXY,
    channels: dict[str, np.ndarray],
    lines: int,
    deflate: Callable[[np.ndarray], bytes | None],
) -> None:
    """Write a single-part file of scan lines.

    Args:
        head: all that stands before the table of offsets, of a file with the same attributes but any data window.
        data: the data window, half-open.
        channels: (h, w) each, float16 or float32.
        lines: of a chunk.
    Raises: OSError.
    """
    planes = [channels[name].view(np.uint16) for name in sorted(channels, key=str.encode)]
    height = data[3] - data[1]
    empty: dict[int, bytes] = {}  # chunks of nothing but 0, by their number of words: compressed once

    def chunk(first: int) -> bytes:
        words = np.concatenate([plane[first : first + lines] for plane in planes], axis=1).ravel()
        blank = not words.max()
        packed = empty.get(words.size) if blank else None
        if packed is None:
            packed = deflate(_differences(words)) or words.tobytes()
        if blank:
            empty[words.size] = packed
        return struct.pack("<ii", data[1] + first, len(packed)) + packed

    def chunks(first: int) -> list[bytes]:
        return [chunk(line) for line in range(first, min(first + _AT_ONCE, height), lines)]

    with path.open("wb") as file:
        place = head.index(_WINDOW) + len(_WINDOW)
        window = struct.pack("<4i", data[0], data[1], data[2] - 1, data[3] - 1)
        file.write(head[:place] + window + head[place + 16 :])
        table = file.tell()
        file.write(bytes(8 * -(-height // lines)))
        places = []
        for some in ordered_map(chunks, range(0, height, _AT_ONCE), cores(), "exr"):
            for packed in some:
                places.append(file.tell())
                file.write(packed)
        file.seek(table)
        file.write(struct.pack(f"<{len(places)}Q", *places))


def head_of(data: bytes) -> bytes:
    """Return what stands before the table of offsets in a single-part file."""
    at = 8  # magic number and version
    while data[at]:
        at = data.index(b"\0", data.index(b"\0", at) + 1) + 1  # name and type
        (size,) = struct.unpack_from("<i", data, at)
        at += 4 + size
    return data[: at + 1]


def _differences(words: np.ndarray) -> np.ndarray:
    """Return (2 n,) uint8 of (n,) uint16: all first bytes, all second ones; then each less the one before, plus 128."""
    apart = np.empty(2 * words.size, np.uint8)
    np.copyto(apart[: words.size], words, casting="unsafe")
    np.copyto(apart[words.size :], words >> 8, casting="unsafe")
    found = np.empty_like(apart)
    found[0] = apart[0]
    np.subtract(apart[1:], apart[:-1], out=found[1:])
    found[1:] ^= 128
    return found
