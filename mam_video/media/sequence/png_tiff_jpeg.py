"""PNG, TIFF and JPEG: headers are read here, pixels by OpenCV.

OpenCV answers for damaged files with half a picture as readily as with none, so files are checked first as far as their
format allows: PNG by the checksum of every chunk, JPEG by its end marker, TIFF by where its strips and tiles end.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
from PIL import Image

from mam_video.core.errors import MediaError
from mam_video.media.movie.container_layout import pictures_in_png
from mam_video.media.sequence.image_header import ImageHeader, check_size, read_head, read_whole, refuse, size_of_file
from mam_video.runtime.os_errors import reason

_READ: Final = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH  # alpha is dropped, not blended; EXIF's rotation is applied
_ORIENTATION: Final = 0x0112  # EXIF's and TIFF's tag


def _decoded(path: Path, data: bytes) -> np.ndarray:
    """Return (H, W, 3) RGB of the file's bytes: uint8, uint16 or float32."""
    rgb: np.ndarray = cv2.cvtColor(_stored(path, data, _READ), cv2.COLOR_BGR2RGB)
    return rgb


def _stored(path: Path, data: bytes, flags: int) -> np.ndarray:
    """Return what OpenCV makes of the file's bytes: (H, W) or (H, W, C), blue first; uint8, uint16 or float32."""
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (cv2.error, MemoryError) as error:
        raise refuse(path, " ".join(str(error).split())[:200]) from error
    if picture is None:
        raise refuse(path, "its pixels are damaged, or packed in a way that is not known here")
    if picture.dtype not in (np.uint8, np.uint16, np.float32):
        raise refuse(path, f"its pixels are {picture.dtype}; convert them to 8 or 16 bits, or to float")
    return np.asarray(picture)


def _upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a stored picture as EXIF's orientation (1 to 8) says; others leave it as it is."""
    if orientation in (5, 6, 7, 8):
        picture = np.swapaxes(picture, 0, 1)
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


class Png:
    """PNG of 8 or 16 bits. Source: the PNG specification (ISO/IEC 15948), sections 5 and 11."""

    _BEFORE_PIXELS: Final = 256  # chunks that are looked through for one that tells which colours are transparent

    def facts(self, path: Path) -> ImageHeader:
        head = read_head(path, 33)
        if head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR" or len(head) < 33:
            raise refuse(path, "it is not a PNG")
        width, height, bits, kind = struct.unpack(">IIBB", head[16:26])
        check_size(path, height, width)
        alpha = kind in (4, 6) or self._has_transparent(path)
        form = "rgb48" if bits == 16 else "rgb24"
        return ImageHeader(
            width,
            height,
            form,
            max(8, bits),
            has_alpha=alpha,
            alpha_basis="as PNG has it",
            pictures=pictures_in_png(path),
        )

    def _has_transparent(self, path: Path) -> bool:
        """Return whether there is a chunk tRNS, which makes some colours transparent."""
        with path.open("rb") as file:
            file.seek(8)
            for _ in range(self._BEFORE_PIXELS):
                head = file.read(8)
                if len(head) < 8 or head[4:] in (b"IDAT", b"IEND"):
                    return False
                if head[4:] == b"tRNS":
                    return True
                file.seek(struct.unpack(">I", head[:4])[0] + 4, io.SEEK_CUR)
        return False

    def pixels(self, path: Path) -> np.ndarray:
        return _decoded(path, self._checked(path)[0])

    def picture(self, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """See `StillFormat.picture`. Alpha is of the picture's depth."""
        data, beside = self._checked(path)
        rgb = _decoded(path, data)
        bits, kind = data[24], data[25]
        if kind not in (4, 6) and b"tRNS" not in beside:
            return rgb, None
        stored = _stored(path, data, cv2.IMREAD_UNCHANGED)
        if stored.ndim == 3 and stored.shape[2] == 4:
            alpha = stored[..., 3]
        elif stored.ndim == 2 and len(beside.get(b"tRNS", b"")) >= 2:  # one grey is transparent
            top = np.iinfo(stored.dtype).max
            key = struct.unpack(">H", beside[b"tRNS"][:2])[0] & ((1 << bits) - 1)
            alpha = np.where(stored == key * (top // ((1 << bits) - 1)), stored.dtype.type(0), stored.dtype.type(top))
        else:
            raise refuse(path, "its transparency cannot be read; see --ignore-alpha")
        return rgb, _upright(alpha, _orientation(beside.get(b"eXIf", b"")))

    def _checked(self, path: Path) -> tuple[bytes, dict[bytes, bytes]]:
        """Return the file's bytes, every chunk of them whole, and the chunks that say how alpha stands."""
        still = self.facts(path)
        beside: dict[bytes, bytes] = {}
        data = read_whole(path, still.width * still.height * 8)
        place = 8
        while True:
            if place + 12 > len(data):
                raise refuse(path, "the file is cut off")
            (length,) = struct.unpack_from(">I", data, place)
            end = place + 8 + length
            if end + 4 > len(data):
                raise refuse(path, "the file is cut off")
            name = data[place + 4 : place + 8]
            if zlib.crc32(memoryview(data)[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
                raise refuse(path, f"its chunk {name.decode('latin-1')!a} is damaged")
            if name == b"IEND":
                return data, beside
            if name in (b"tRNS", b"eXIf"):
                beside[name] = data[place + 8 : end]
            place = end + 4


def _orientation(exif: bytes) -> int:
    """EXIF's orientation in a PNG's chunk eXIf; 1 where it says none or is damaged."""
    found = Image.Exif()
    try:
        found.load(b"Exif\0\0" + exif)
        return int(found.get(_ORIENTATION, 1))
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error):  # OpenCV takes these as upright
        return 1


class Jpeg:
    """JPEG of 8 bits. Source: ITU-T T.81, annex B."""

    _SIZES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

    def facts(self, path: Path) -> ImageHeader:
        head = read_head(path, 1 << 20)
        if head[:2] != b"\xff\xd8":
            raise refuse(path, "it is not a JPEG")
        place = 2
        while place + 9 <= len(head):
            if head[place] != 0xFF:
                break
            marker = head[place + 1]
            if marker == 0xFF:
                place += 1
                continue
            if marker in self._SIZES:
                bits, height, width = struct.unpack_from(">BHH", head, place + 4)
                check_size(path, height, width)
                blocks = -(-height // 8) * -(-width // 8)
                if marker in (0xC0, 0xC1) and size_of_file(path) < blocks // 4:  # a block has two codes, a bit at least
                    raise refuse(path, f"it has too few bytes for {width}x{height} pixels")
                return ImageHeader(width, height, "yuvj", bits)
            place += 2 + struct.unpack_from(">H", head, place + 2)[0]
        raise refuse(path, "its header is damaged")

    def pixels(self, path: Path) -> np.ndarray:
        still = self.facts(path)
        data = read_whole(path, still.width * still.height * 3)
        if b"\xff\xd9" not in data[-(1 << 16) :]:
            raise refuse(path, "the file is cut off")
        return _decoded(path, data)

    def picture(self, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """See `StillFormat.picture`."""
        return self.pixels(path), None


@dataclass(frozen=True, slots=True)
class _Tag:
    kind: int
    count: int
    values: tuple[int, ...]


class Tiff:
    """TIFF of 8 or 16 bits (display-referred) or float (taken as scene-linear); the first page of each file.

    Source: TIFF 6.0, sections 2 and 8; BigTIFF is not read.
    """

    _BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
    _MAX_VALUES: Final = 1 << 20
    _MOST_PAGES: Final = 10_000

    def facts(self, path: Path) -> ImageHeader:
        return replace(self._checked(path)[0], pictures=self._pages(path))

    def pixels(self, path: Path) -> np.ndarray:
        return self.picture(path)[0]

    def picture(self, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """See `StillFormat.picture`.

        OpenCV multiplies straight colour of 8 bits by its alpha, so Pillow reads that; and knows no grey with alpha
        beside it, so FFmpeg reads that.
        """
        still, end, size = self._checked(path)
        if end > size:
            raise refuse(path, f"the file is cut off: its pixels end at {end:,} of {size:,} bytes")
        data = read_whole(path, still.width * still.height * 16)
        if still.pixel_format.startswith("ya"):
            return _grey_tiff(path, data, still)
        if not still.has_alpha:
            return _decoded(path, data), None
        if still.bits == 8 and still.alpha_basis == _STRAIGHT_BY_TAG:
            return _straight_tiff(path, data, still)
        stored = _stored(path, data, cv2.IMREAD_UNCHANGED)
        if stored.ndim != 3 or stored.shape[2] != 4:
            return _decoded(path, data), None
        return cv2.cvtColor(stored, cv2.COLOR_BGRA2RGB), stored[..., 3]

    def _pages(self, path: Path) -> int:
        """How many full-size pictures the chain of headers has; reduced ones and masks (tag 254) do not count."""
        count = 0
        seen: set[int] = set()
        with path.open("rb") as file:
            head = file.read(8)
            order = "<" if head[:2] == b"II" else ">"
            (place,) = struct.unpack(f"{order}I", head[4:8])
            while place and place not in seen and len(seen) < self._MOST_PAGES:
                seen.add(place)
                file.seek(place)
                counted = file.read(2)
                if len(counted) < 2:
                    break
                (entries,) = struct.unpack(f"{order}H", counted)
                table = file.read(12 * entries + 4)
                if len(table) < 12 * entries + 4:
                    count += not count
                    break
                kinds = [table[k * 12 : k * 12 + 12] for k in range(entries)]
                kind = next((e for e in kinds if struct.unpack_from(f"{order}H", e)[0] == 254), None)
                count += kind is None or not struct.unpack_from(f"{order}I", kind, 8)[0] & 0b101
                (place,) = struct.unpack_from(f"{order}I", table, 12 * entries)
        return max(count, 1)

    def _checked(self, path: Path) -> tuple[ImageHeader, int, int]:
        """Return the facts, where the last strip or tile ends, and the file's size in bytes."""
        head = read_head(path, 8)
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
        if order is None or len(head) < 8:
            raise refuse(path, "it is not a TIFF (or a BigTIFF, which is not read)")
        size = path.stat().st_size
        tags = dict(self._tags(path, order, struct.unpack(f"{order}I", head[4:])[0], size))

        def one(number: int, default: int) -> int:
            tag = tags.get(number)
            return tag.values[0] if tag and tag.values else default

        width, height = one(256, 0), one(257, 0)
        check_size(path, height, width)
        bits, samples, floating = one(258, 1), one(277, 1), one(339, 1) == 3
        extra = tags[338].values if 338 in tags else ()
        alpha = samples in (2, 4) and bool(extra)
        association, basis = _ASSOCIATIONS.get(extra[0] if extra else 0, _OPEN)
        offsets, lengths = tags.get(273) or tags.get(324), tags.get(279) or tags.get(325)
        if offsets is None or lengths is None or len(offsets.values) != len(lengths.values):
            raise refuse(path, "its header names no pixels")
        end = max((a + b for a, b in zip(offsets.values, lengths.values, strict=True)), default=0)
        if one(259, 1) == 1 and sum(lengths.values) < width * height * samples * bits // 8:
            raise refuse(path, "its header names fewer bytes than its pixels need")
        form = "float" if floating else "rgb48" if bits > 8 else "rgb24"
        if samples == 2 and alpha:
            form = "ya16" if bits > 8 else "ya8"
            if floating or one(_ORIENTATION, 1) != 1:
                raise refuse(path, "grey with alpha is read as whole numbers and upright only; write RGBA")
        elif bits == 8 and basis == _STRAIGHT_BY_TAG and one(_ORIENTATION, 1) > 4:
            raise refuse(path, "it lies on its side; write it upright")
        own, assumed = ("linear", "float TIFF is taken as scene-linear") if floating else ("srgb", "")
        still = ImageHeader(
            width, height, form, bits, has_alpha=alpha, alpha=association, alpha_basis=basis, own=own, assumed=assumed
        )
        return still, end, size

    def _tags(self, path: Path, order: str, place: int, size: int) -> Iterator[tuple[int, _Tag]]:
        with path.open("rb") as file:
            file.seek(place)
            counted = file.read(2)
            if place < 8 or place > size or len(counted) < 2:
                raise refuse(path, "the file is cut off before its header")
            entries = file.read(12 * struct.unpack(f"{order}H", counted)[0])
            for start in range(0, len(entries) - 11, 12):
                number, kind, count = struct.unpack_from(f"{order}HHI", entries, start)
                if number not in (256, 257, 258, 259, 273, 274, 277, 279, 324, 325, 338, 339):
                    continue
                width = self._BYTES.get(kind, 0)
                if width not in (1, 2, 4) or count > self._MAX_VALUES:
                    raise refuse(path, f"its tag {number} is damaged")
                if width * count <= 4:
                    raw = entries[start + 8 : start + 8 + width * count]
                else:
                    file.seek(struct.unpack_from(f"{order}I", entries, start + 8)[0])
                    raw = file.read(width * count)
                if len(raw) < width * count:
                    raise refuse(path, "the file is cut off inside its header")
                yield number, _Tag(kind, count, struct.unpack(f"{order}{count}{'_BH_I'[width]}", raw))


_STRAIGHT_BY_TAG: Final = "its tag says so, unassociated"
_OPEN: Final = ("straight", "assumed: its tag leaves it open")
_ASSOCIATIONS: Final = {  # of TIFF's tag ExtraSamples
    1: ("premultiplied", "its tag says so, associated"),
    2: ("straight", _STRAIGHT_BY_TAG),
}


def _straight_tiff(path: Path, data: bytes, still: ImageHeader) -> tuple[np.ndarray, np.ndarray]:
    """Colour and alpha of a TIFF of 8 bits whose colour is straight, as stored."""
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            if image.mode != "RGBA":
                raise refuse(path, f"its alpha is packed in a way that is not known here ({image.mode})")
            stored = np.asarray(image)
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
        raise refuse(path, reason(error)) from error
    if stored.shape != (still.height, still.width, 4):
        raise refuse(path, "its pixels are damaged")
    return np.ascontiguousarray(stored[..., :3]), stored[..., 3]


def _grey_tiff(path: Path, data: bytes, still: ImageHeader) -> tuple[np.ndarray, np.ndarray]:
    """Colour and alpha of a TIFF of grey with alpha, as stored."""
    wanted = "ya8" if still.bits == 8 else "ya16le"
    try:
        with av.open(io.BytesIO(data), "r", format="tiff_pipe") as container:
            frame = next(container.decode(video=0))
        if frame.format.name != wanted:  # big-endian
            frame = frame.reformat(format=wanted, threads=1)
        plane: Any = frame.planes[0]
        samples = np.frombuffer(plane, np.uint8 if still.bits == 8 else "<u2")
        stored = samples.reshape(plane.height, -1)[:, : 2 * frame.width].reshape(frame.height, frame.width, 2)
    except (av.FFmpegError, OSError, ValueError, StopIteration) as error:
        raise refuse(path, reason(error)) from error
    if stored.shape != (still.height, still.width, 2):
        raise refuse(path, "its pixels are damaged")
    return cv2.merge([stored[..., 0]] * 3), stored[..., 1].copy()


def encode_png(rgba: np.ndarray) -> bytes:
    """Return a PNG of (H, W) or (H, W, 4) uint16. Raises: MediaError, where OpenCV fails."""
    picture = rgba if rgba.ndim == 2 else cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA)
    # A seventh smaller than OpenCV's default (run lengths only) for a third more time; stronger settings cost far more.
    done, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB])  # fmt: skip # noqa: E501
    if not done:
        raise MediaError("a PNG could not be encoded")
    return np.asarray(data).tobytes()


def encode_tiff(picture: np.ndarray, *, premultiplied: bool) -> bytes:
    """Return a TIFF of (H, W) or (H, W, 4) uint16: little-endian, one strip, deflate after horizontal differencing.

    The tag ExtraSamples says whether colour is premultiplied (1, associated) or straight (2, unassociated). Source:
    TIFF 6.0, sections 14 and 18; Adobe Photoshop TIFF Technical Notes (compression 8).
    """
    height, width = picture.shape[:2]
    samples = 1 if picture.ndim == 2 else 4
    rows = picture.reshape(height, width, samples)
    steps = rows.astype("<u2")
    steps[:, 1:] -= rows[:, :-1]
    strip = zlib.compress(steps.tobytes(), 1)
    entries: list[tuple[int, int, list[int]]] = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [16] * samples), (259, 3, [8]),
        (262, 3, [1 if samples == 1 else 2]), (273, 4, [0]), (277, 3, [samples]), (278, 4, [height]),
        (279, 4, [len(strip)]), (284, 3, [1]), (317, 3, [2]),
    ]  # fmt: skip
    if samples == 4:
        entries.append((338, 3, [1 if premultiplied else 2]))
    entries.append((339, 3, [1] * samples))
    head = 8 + 2 + 12 * len(entries) + 4
    beside = b""  # values that do not fit into their entry
    lines = b""
    for number, kind, values in entries:
        if number == 273:
            values = [head + sum(len(v) * 2 for _, k, v in entries if k == 3 and len(v) > 2)]
        raw = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(raw) > 4:
            lines += struct.pack("<HHII", number, kind, len(values), head + len(beside))
            beside += raw
        else:
            lines += struct.pack("<HHI", number, kind, len(values)) + raw.ljust(4, b"\0")
    ifd = struct.pack("<H", len(entries)) + lines + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + ifd + beside + strip
