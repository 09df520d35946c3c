"""Walk the outer structure of a file: where it breaks off, and what lies in it that FFmpeg does not read.

Only heads are read, never content, so that a large file takes a moment. What is walked: the boxes of MOV and MP4
(ISO/IEC 14496-12, section 4.2), the tags of FLV (Adobe Flash Video File Format Specification 10.1, annex E), the blocks
of GIF89a (section 17 on), the chunks of PNG (ISO/IEC 15948, with acTL and fcTL) and of WebP's RIFF, and the elements of
Matroska whose segment has no length (RFC 8794).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

_MOST: Final = 2_000_000  # boxes, tags or chunks; a damaged file must not keep us
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_BOXES: Final = frozenset(
    b"ftyp styp moov moof mdat mfra sidx ssix free skip wide udta meta uuid emsg prft pdin pnot idat junk".split()
)
_ANIMATED_WEBP: Final = 0x02  # flag of VP8X


@dataclass(slots=True)
class Found:
    """What a walk found.

    cut      how the file breaks off, in words, or None
    second   first byte of another file behind the first one, or None
    headers  of MOV and MP4: how many boxes `moov`; with `pieces`, whether fragments follow
    """

    cut: str | None = None
    second: int | None = None
    headers: int = 0
    pieces: bool = field(default=False)


def walked(path: Path, names: str) -> Found:
    """Walk a file that FFmpeg calls by these names of formats. An empty `Found` where its kind is not walked.

    Raises: OSError.
    """
    for name, walk in _WALKS.items():
        if name in names.split(","):
            with path.open("rb", buffering=512) as file:
                return walk(file, path.stat().st_size)
    return Found()


def is_animated_webp(path: Path) -> bool:
    """Return whether a file is a WebP of several pictures."""
    head = _head(path, 21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) > 20 and bool(head[20] & _ANIMATED_WEBP)


def pictures_in_png(path: Path) -> int:
    """Return how many pictures an animated PNG says to have; 1 of any other file."""
    if _head(path, 8) != PNG_SIGNATURE:
        return 1
    try:
        with path.open("rb", buffering=512) as file:
            for name, start, length in _chunks_of_png(file, path.stat().st_size):
                if name == b"IDAT":  # one that is animated says so before
                    return 1
                if name == b"acTL" and length >= 4:
                    file.seek(start)
                    return max(1, int.from_bytes(file.read(4), "big"))
    except OSError:
        return 1
    return 1


def ends_inside(path: Path) -> bool:
    """Return whether a Matroska file without a length, a live recording, ends in the middle of an element."""
    size = path.stat().st_size
    with path.open("rb", buffering=512) as file:
        at, within = 0, False
        for _ in range(_MOST):
            if at >= size:
                return False
            file.seek(at)
            head = file.read(12)
            width = 9 - head[0].bit_length() if head[0] else 9
            if width > 4 or len(head) <= width or not head[width]:
                return within and size - at < 12
            more = 9 - head[width].bit_length()
            if len(head) < width + more:
                return within
            mask = (1 << 7 * more) - 1
            length = int.from_bytes(head[width : width + more], "big") & mask
            at += width + more
            if length == mask:
                within = True  # its children follow
            elif at + length > size:
                return within
            else:
                at += length
    return False


def lacks_index(path: Path) -> bool:
    """Return whether a MOV or MP4 has media data but no whole `moov`: a recording never finished, or cut off."""
    try:
        with path.open("rb", buffering=512) as file:
            size = path.stat().st_size
            names = [name for name, _, end in _boxes(file, size) if name == b"mdat" or end <= size]
    except OSError:
        return False
    return b"mdat" in names and b"moov" not in names


def _head(path: Path, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(length)
    except (OSError, ValueError):
        return b""


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Outermost boxes: name, first byte and one past the last, which may lie beyond the file's end."""
    at = 0
    for _ in range(_MOST):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8 or head[4:8] not in _BOXES:
            return
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        elif length == 0:
            length = size - at
        if length < 8:
            return
        yield head[4:8], at, at + length
        at += length


def _walk_boxes(file: BinaryIO, size: int) -> Found:
    found, last, end, again = Found(), b"", 0, 0
    for name, start, end in _boxes(file, size):
        last = name
        if name == b"moov":
            found.headers += 1
            found.second = again or start if found.headers == 2 else found.second
        elif name == b"ftyp" and start:
            again = again or start
        found.pieces = found.pieces or name == b"moof"
        if end > size:
            found.cut = f"its last box should end at byte {end:,}, the file ends at {size:,}"
    if found.pieces and found.cut is None:
        if last == b"moof":
            found.cut = "its last fragment has no data"
        elif 0 < size - end < 8:
            found.cut = "it ends inside the head of a box"
    return found


def _walk_flv(file: BinaryIO, size: int) -> Found:
    head = file.read(9)
    if head[:3] != b"FLV" or len(head) < 9:
        return Found()
    at = int.from_bytes(head[5:9], "big") + 4
    for _ in range(_MOST):
        if at >= size:
            break
        file.seek(at)
        tag = file.read(11)
        if tag[:3] == b"FLV":
            return Found(second=at)
        if len(tag) < 11:
            return Found(cut="it ends inside the head of a tag")
        kind, length = tag[0] & 0x1F, int.from_bytes(tag[1:4], "big")
        if kind not in (8, 9, 18):
            break
        if at + 11 + length > size:
            return Found(cut=f"its last tag should end at byte {at + 11 + length:,}, the file ends at {size:,}")
        if kind == 18 and at < 1024:
            promised = _number_in_script(file.read(length), b"filesize")
            if promised > size:
                return Found(cut=f"it holds {size:,} of {promised:,} bytes")
        at += 11 + length + 4
    return Found()


def _number_in_script(data: bytes, name: bytes) -> int:
    """Return a number of FLV's onMetaData; 0 where it is not there."""
    at = data.find(len(name).to_bytes(2, "big") + name + b"\0")
    start = at + 2 + len(name) + 1
    if at < 0 or start + 8 > len(data):
        return 0
    (value,) = struct.unpack_from(">d", data, start)
    return int(value) if 0 <= value < 1 << 53 else 0


def _walk_gif(file: BinaryIO, size: int) -> Found:
    head = file.read(13)
    if head[:4] != b"GIF8" or len(head) < 13:
        return Found()
    at, cut = 13 + _palette(head[10]), Found(cut="it ends inside a block")
    for _ in range(_MOST):
        if at == size:
            return Found()
        file.seek(at)
        kind = file.read(1)
        if kind == b"\x3b":
            file.seek(at + 1)
            return Found(second=at + 1 if file.read(4) == b"GIF8" else None)
        if kind == b"\x21":
            at += 2
        elif kind == b"\x2c":
            file.seek(at + 9)
            at += 11 + _palette((file.read(1) or b"\0")[0])
        else:
            return Found() if kind else cut
        for _ in range(_MOST):
            file.seek(at)
            length = file.read(1)
            if not length or at + 1 + length[0] > size:
                return cut
            at += 1 + length[0]
            if not length[0]:
                break
    return Found()


def _palette(flags: int) -> int:
    """Return bytes of the table of colours that a GIF's flags announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _chunks_of_png(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Chunks: name, first byte and length of the content; one that does not fit comes with the name b""."""
    at = 8
    for _ in range(_MOST):
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[:4], "big")
        if len(head) < 8 or at + 12 + length > size:
            yield b"", at, 0
            return
        yield head[4:8], at + 8, length
        if head[4:8] == b"IEND":
            return
        at += 12 + length


def _walk_png(file: BinaryIO, size: int) -> Found:
    promised, there, end = 0, 0, 8
    for name, start, length in _chunks_of_png(file, size):
        if not name:
            whole = max(there - 1, 0)
            return Found(cut=f"it holds {whole} of {promised} frames whole" if promised else "it ends inside a chunk")
        if name == b"acTL":
            file.seek(start)
            promised = int.from_bytes(file.read(4), "big")
        there += name == b"fcTL"
        end = start + length + 4
    if there < promised:
        return Found(cut=f"it holds {there} of {promised} frames")
    file.seek(end)
    return Found(second=end if file.read(8) == PNG_SIGNATURE else None)


def _walk_riff(file: BinaryIO, size: int) -> Found:
    head = file.read(8)
    promised = 8 + int.from_bytes(head[4:8], "little")
    if head[:4] == b"RIFF" and promised > size:
        return Found(cut=f"it holds {size:,} of {promised:,} bytes")
    return Found()


_WALKS: Final[dict[str, Callable[[BinaryIO, int], Found]]] = {
    "mov": _walk_boxes,
    "flv": _walk_flv,
    "gif": _walk_gif,
    "apng": _walk_png,
    "webp_pipe": _walk_riff,
}
