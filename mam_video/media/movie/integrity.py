"""Whether a file holds all that its headers promise.

FFmpeg's demuxers end quietly where a file was cut off (a copy that broke, a full disk): MP4 and Matroska give the
frames that are there and say nothing. A matte that silently lacks its end is worse than none, so what a container says
of its own length is held against the file before the first frame:

- MP4 and MOV: the index names the place of every frame's and every sound packet's data, and each box (a fragment's
  too) gives its length;
- Matroska and WebM: the segment gives its length (not in live recordings), and so does every element in it: where one
  does not fit, or is none that belongs there, FFmpeg would skip what it cannot parse, frames too;
- AVI: each RIFF chunk gives its length;
- FLV, GIF and animated PNG: each tag, block or chunk does (`container_layout.py`).

MPEG streams (TS, PS, raw H.264) promise nothing; there only a frame whose data is incomplete is noticed, and a packet
of a transport stream. FFmpeg's FFV1 decoder patches a damaged slice from the frame before and only logs it, so that is
not seen here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final

from av.container import InputContainer
from av.video.stream import VideoStream

from mam_video.media.ffmpeg_compat import fraction, ticks
from mam_video.media.movie.container_layout import ends_inside, walked

_CLOCK: Final = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
# What may stand in what, as far as frames depend on it. Anything: its content is not looked at.
_ANYWHERE: Final = {0xEC: "anything", 0xBF: "anything"}  # Void, CRC-32
_CHILDREN: Final[dict[str, dict[int, str]]] = {
    "segment": {
        0x1654AE6B: "tracks",
        0x1F43B675: "cluster",
        **dict.fromkeys((0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367), "anything"),
    },
    "tracks": {0xAE: "track"},
    "track": {0xD7: "track number"},  # and much else
    "cluster": {
        0xA3: "block",
        0xA0: "group",
        **dict.fromkeys((0xE7, 0xA7, 0xAB), "number"),
        **dict.fromkeys((0x5854, 0xAF), "anything"),
    },
    "group": {
        0xA1: "block",
        0x75A1: "additions",
        **dict.fromkeys((0x9B, 0xFA, 0xFB, 0xFD, 0x75A2), "number"),
        **dict.fromkeys((0xA2, 0xA4, 0x8E, 0xC8, 0xAF), "anything"),
    },
    "additions": {0xA6: "more"},
    "more": {0xA5: "anything", 0xEE: "number"},
}


def cut_off(path: Path, container: InputContainer, stream: VideoStream) -> str | None:
    """Return how the file falls short, in words, or None where nothing shows it to be cut off."""
    if not path.is_file():
        return None
    size = path.stat().st_size
    if "mov" in container.format.name.split(","):
        ends = [entry.pos + entry.size for entry in stream.index_entries if entry.pos >= 0]
        there = sum(end <= size for end in ends)
        if there < len(ends):
            return f"the file is cut off: the data of only {there} of its {len(ends)} frames is in it"
    short = walked(path, container.format.name).cut
    if short:
        return f"the file is cut off: {short}"
    if "mov" in container.format.name.split(","):
        for sound in container.streams.audio:
            ends = [entry.pos + entry.size for entry in sound.index_entries if entry.pos >= 0]
            there = sum(end <= size for end in ends)
            if there < len(ends):
                return f"the file is cut off: the data of only {there} of its {len(ends)} packets of sound is in it"
        return None
    with path.open("rb", buffering=512) as file:
        promised = _promised_size(file, size)
        if promised is not None and promised > size:
            return f"the file is cut off: it holds {size:,} of {promised:,} bytes"
        place = _break_in_matroska(file, size) if "matroska" in container.format.name else None
    return None if place is None else f"the file is damaged at byte {place:,}"


def joined(path: Path, container: InputContainer) -> bool:
    """Whether another recording lies behind the first one in a file that FFmpeg reads to its end all the same."""
    if not path.is_file():
        return False
    names = container.format.name.split(",")
    if "mov" in names:
        found = walked(path, container.format.name)
        return found.pieces and found.headers > 1
    if "matroska" not in names:
        return False
    with path.open("rb", buffering=512) as file:
        end = _segment_end(file)
        return end is None or end < path.stat().st_size


def unread(path: Path, container: InputContainer) -> list[str]:
    """Lines about what lies in the file and is not read, or is missing at the end of one that promises nothing."""
    if not path.is_file():
        return []
    names, size = container.format.name.split(","), path.stat().st_size
    found = walked(path, container.format.name)
    if found.second is not None:
        how = "not all of it is" if found.pieces else "it is not"
        return [
            f"another recording lies behind the first one, at byte {found.second:,} of {size:,}, and {how} read: split "
            "the file there"
        ]
    if "matroska" in names:
        with path.open("rb", buffering=512) as file:
            live = _segment_end(file) is None
        if live and ends_inside(path):
            return ["the file, a live recording without a length, is cut off: what comes after its end is missing"]
    if "mpegts" in names and _part_of_a_packet(path, size):
        return ["the file is cut off inside a packet of the stream: frames and sound at its end may be missing"]
    return []


def hidden(container: InputContainer, stream: VideoStream) -> tuple[int, int] | None:
    """Return how many frames will be shown, and how many the header counts, where a MOV or MP4 shows fewer; else None.

    An edit list may leave frames out on purpose; a damaged one, or a damaged index, does it too.
    """
    if "mov" not in container.format.name.split(","):
        return None
    shown = sum(not entry.is_discard for entry in stream.index_entries)
    return (shown, stream.frames) if 0 < shown < stream.frames else None


def promised_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """When the video should end, in seconds, where the container says so of this very stream; else None.

    Matroska's demuxer skips what it cannot parse, so damage in the middle can swallow the rest. Its DURATION tag is
    written by FFmpeg and mkvtoolnix for every stream; the container's own duration counts only where video is alone.
    AVI counts the frames in its header.
    """
    if container.format.name == "avi" and stream.frames and (rate := fraction(stream.average_rate)):
        return stream.frames / rate
    if "matroska" not in container.format.name:
        return None
    tag = next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), "")
    if found := _CLOCK.fullmatch(tag.strip()):
        hours, minutes, seconds = found.groups()
        return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
    if len(container.streams) == 1 and (microseconds := ticks(container.duration)):
        return Fraction(microseconds, 1_000_000)
    return None


def _part_of_a_packet(path: Path, size: int) -> bool:
    """Whether a transport stream that begins with a packet does not end with one. Source: ISO/IEC 13818-1, 2.4.3."""
    with path.open("rb") as file:
        head = file.read(5 * 204)
    for length, first in ((188, 0), (192, 4), (204, 0)):
        if head[first::length][:4] == b"\x47" * 4:
            return bool(size % length)
    return False


def _promised_size(file: BinaryIO, size: int) -> int | None:
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _riff_end(file, size)
    if head[:4] == _EBML:
        return max((end for _, end in _segments(file, size)), default=None)
    return None


def _riff_end(file: BinaryIO, size: int) -> int:
    """Return where the last RIFF chunk ends; large AVIs have several, one behind the other."""
    end = 0
    while end < size:
        file.seek(end)
        chunk = file.read(8)
        if len(chunk) < 8 or chunk[:4] != b"RIFF":
            break
        end += 8 + int.from_bytes(chunk[4:], "little")
    return end


def _segment_end(file: BinaryIO, at: int = 0) -> int | None:
    """Return where Matroska's segment ends whose header begins at byte `at`, or None where its length is not given.

    Source: RFC 8794, sections 4 and 5.
    """
    file.seek(at + 4)
    header = _vint(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(4) != _SEGMENT:
        return None
    length = _vint(file)
    return None if length is None else file.tell() + length


def _segments(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Matroska's segments, one behind the other where files were joined: first byte of the content, one past its last.

    One without a length ends them.
    """
    at = 0
    while at < size:
        file.seek(at)
        if file.read(4) != _EBML:
            return
        end = _segment_end(file, at)
        if end is None:
            return
        yield file.tell(), end
        at = end


def _break_in_matroska(file: BinaryIO, size: int) -> int | None:
    """Return the first byte of Matroska's segments where no element stands that belongs there; None where all do.

    Only heads of elements are read, down to a block's. What is of unknown length (a live recording) is not looked into.
    Source: RFC 9559, sections 5.1 and 27.1.
    """
    places = (_break_below(file, "segment", start, end, set()) for start, end in list(_segments(file, size)))
    return next((place for place in places if place is not None), None)


def _break_below(file: BinaryIO, parent: str, start: int, end: int, tracks: set[int]) -> int | None:
    """`_break_in_matroska` of one element's content. Numbers of tracks are gathered on the way."""
    for name, at, stop in _elements(file, start, end):
        kind = _CHILDREN[parent].get(name, "anything" if parent == "track" and name else _ANYWHERE.get(name))
        if kind is None or (kind == "number" and stop - at > 8):
            return at
        if kind == "track number":
            file.seek(at)
            tracks.add(int.from_bytes(file.read(min(stop - at, 8)), "big"))
        elif kind == "block":
            file.seek(at)
            if _vint(file) not in tracks:
                return at
        elif kind in _CHILDREN and (place := _break_below(file, kind, at, stop, tracks)) is not None:
            return place
    return None


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Elements that fill a span: name, first byte of the content and one past its last.

    Where one does not fit, a last one has the name 0. One of unknown length ends them.
    """
    at = start
    while at < end:
        file.seek(at)
        head = file.read(12)
        width = 9 - head[0].bit_length() if head and head[0] else 9
        if width > 4 or len(head) <= width:
            yield 0, at, at
            return
        name = int.from_bytes(head[:width], "big")
        more = 9 - head[width].bit_length() if head[width] else 9
        if more > 8 or len(head) < width + more:
            yield 0, at, at
            return
        bits = 7 * more
        length = int.from_bytes(head[width : width + more], "big") & ((1 << bits) - 1)
        if length == (1 << bits) - 1:
            return
        content = at + width + more
        if content + length > end:
            yield 0, at, at
            return
        at = content + length
        yield name, content, at


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
