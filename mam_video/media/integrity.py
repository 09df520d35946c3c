"""Whether a file holds all that its headers promise.

FFmpeg's demuxers end quietly where a file was cut off (a copy that broke, a full disk): MP4 and Matroska give the
frames that are there and say nothing. A matte that silently lacks its end is worse than none, so what a container says
of its own length is held against the file before the first frame:

- MP4 and MOV: the index names the place of every frame's data;
- Matroska and WebM: the segment gives its length (not in live recordings);
- AVI: each RIFF chunk gives its length.

MPEG streams (TS, PS, raw H.264) promise nothing; there only a frame whose data is incomplete is noticed. FFmpeg's FFV1
decoder patches a damaged slice from the frame before and only logs it, so that is not seen here.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final

from mam_video.media.edge import ticks

_CLOCK: Final = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"


def cut_off(path: Path, container: Any, stream: Any) -> str | None:
    """How the file falls short, in words, or None where nothing shows it to be cut off."""
    if not path.is_file():
        return None
    size = path.stat().st_size
    if "mov" in container.format.name.split(","):
        ends = [entry.pos + entry.size for entry in stream.index_entries if entry.pos >= 0]
        there = sum(end <= size for end in ends)
        if there < len(ends):
            return f"the file is cut off: the data of only {there} of its {len(ends)} frames is in it"
        return None
    with path.open("rb") as file:
        promised = _promised_size(file, size)
    if promised is not None and promised > size:
        return f"the file is cut off: it holds {size:,} of {promised:,} bytes"
    return None


def promised_end(container: Any, stream: Any) -> Fraction | None:
    """When the video should end, in seconds, where the container says so of this very stream; else None.

    Matroska's demuxer skips what it cannot parse, so damage in the middle can swallow the rest. Its DURATION tag is
    written by FFmpeg and mkvtoolnix for every stream; the container's own duration counts only where video is alone.
    """
    if "matroska" not in container.format.name:
        return None
    tag = next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), "")
    if found := _CLOCK.fullmatch(tag.strip()):
        hours, minutes, seconds = found.groups()
        return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
    if len(container.streams) == 1 and ticks(container.duration):
        return Fraction(int(container.duration), 1_000_000)
    return None


def _promised_size(file: BinaryIO, size: int) -> int | None:
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _riff_end(file, size)
    if head[:4] == _EBML:
        return _segment_end(file)
    return None


def _riff_end(file: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk ends; large AVIs have several, one behind the other."""
    end = 0
    while end < size:
        file.seek(end)
        chunk = file.read(8)
        if len(chunk) < 8 or chunk[:4] != b"RIFF":
            break
        end += 8 + int.from_bytes(chunk[4:], "little")
    return end


def _segment_end(file: BinaryIO) -> int | None:
    """Where Matroska's segment ends, or None where its length is not given. Source: RFC 8794, sections 4 and 5."""
    file.seek(4)
    header = _vint(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(4) != _SEGMENT:
        return None
    length = _vint(file)
    return None if length is None else file.tell() + length


def _vint(file: BinaryIO) -> int | None:
    """A variable-length integer; None at the end of the file or where all its bits are set, which means unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    rest = file.read(more)
    if len(rest) < more:
        return None
    bits = 7 * (more + 1)
    value = int.from_bytes(first + rest, "big") & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value
