"""The timecode track of QuickTime and MP4, read from its own sample.

FFmpeg turns the track into a tag on the way; here it is read as stored: one big-endian frame number, and in the
sample's description the rate it is counted at and whether it is drop-frame, which need not be the picture's. The reel's
name stands there too. Source: Apple, QuickTime File Format, "Timecode Media".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from mam_video.core.errors import UsageError
from mam_video.core.timecode import Timecode

_DROP, _NEGATIVE, _COUNTER = 1, 4, 8
_MOST_ATOMS: Final = 10_000  # of one parent; a damaged file must not keep us


def read_track(path: Path) -> tuple[Timecode, str] | None:
    """The first timecode and the reel's name ("" without) of a MOV or MP4; None where it holds no timecode track."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            for track in _below(file, _below_one(file, (0, size), b"moov"), b"trak"):
                media = _below_one(file, track, b"mdia")
                if _handler(file, media) != b"tmcd":
                    continue
                table = _below_one(file, _below_one(file, media, b"minf"), b"stbl")
                found = _read(file, table, size)
                if found is not None:
                    return found
    except (OSError, struct.error, UsageError):
        return None
    return None


Span = tuple[int, int]  # first byte of an atom's content, and one past its last
_NOWHERE: Span = (0, 0)


def _atoms(file: BinaryIO, span: Span) -> Iterator[tuple[bytes, Span]]:
    at, end = span
    for _ in range(_MOST_ATOMS):
        if end - at < 8:
            return
        file.seek(at)
        size, name = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            head = 16
        elif size == 0:
            size = end - at
        if size < head or at + size > end:
            return
        yield name, (at + head, at + size)
        at += size


def _below(file: BinaryIO, span: Span, name: bytes) -> Iterator[Span]:
    return (inner for found, inner in _atoms(file, span) if found == name)


def _below_one(file: BinaryIO, span: Span, name: bytes) -> Span:
    return next(_below(file, span, name), _NOWHERE)


def _content(file: BinaryIO, span: Span, most: int = 4096) -> bytes:
    file.seek(span[0])
    return file.read(min(span[1] - span[0], most))


def _handler(file: BinaryIO, media: Span) -> bytes:
    return _content(file, _below_one(file, media, b"hdlr"))[8:12]


def _read(file: BinaryIO, table: Span, size: int) -> tuple[Timecode, str] | None:
    description = _content(file, _below_one(file, table, b"stsd"))[8:]
    if description[4:8] != b"tmcd":
        return None
    flags, scale, duration, rate = struct.unpack_from(">IIIB", description, 20)
    if flags & _COUNTER:
        return None
    if not rate and duration:
        rate = round(scale / duration)
    offset = _offset(file, table)
    if not rate or offset is None or offset + 4 > size:
        return None
    file.seek(offset)
    (count,) = struct.unpack(">i" if flags & _NEGATIVE else ">I", file.read(4))
    zero = Timecode(0, rate, bool(flags & _DROP) and rate % 30 == 0)
    return zero + count, _reel(description)


def _offset(file: BinaryIO, table: Span) -> int | None:
    """Return where the first sample lies."""
    for name, form in ((b"stco", ">I"), (b"co64", ">Q")):
        places = _content(file, _below_one(file, table, name))
        if len(places) >= 8 + struct.calcsize(form) and struct.unpack_from(">I", places, 4)[0]:
            (offset,) = struct.unpack_from(form, places, 8)
            return int(offset)
    return None


def _reel(description: bytes) -> str:
    """Return the text of the description's `name` atom: its length, a language, and the letters."""
    at, end = 34, min(struct.unpack_from(">I", description)[0], len(description))
    while at + 12 <= end:
        size, name = struct.unpack_from(">I4s", description, at)
        if name == b"name":
            (length,) = struct.unpack_from(">H", description, at + 8)
            return description[at + 12 : min(at + 12 + length, end)].decode("utf-8", "replace").strip("\0 ")
        if size < 8:
            break
        at += size
    return ""
