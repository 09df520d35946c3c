"""Animated WebP for a quick look: 8 bits, straight alpha, any viewer.

Each frame is compressed alone (by Pillow) and written at once, so that memory does not grow with the clip; FFmpeg's
muxer for single frames lays them over each other, and its animation encoder keeps them all until the end. Source: WebP
Container Specification (VP8X, ANIM, ANMF).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, Final, NamedTuple

import cv2
import numpy as np
from PIL import Image

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.frames import Matted
from mam_video.media import pixel_formats
from mam_video.media.atomic_output import FileOutput
from mam_video.media.base import WholeWriter
from mam_video.media.ffmpeg_compat import writing
from mam_video.media.formats import OutputRequest

_MAX_SIDE: Final = 16383
_PICTURE: Final = (b"ALPH", b"VP8 ", b"VP8L")
_HAS_ALPHA, _ANIMATED, _REPLACE = 0x10, 0x02, 0x02  # flags of VP8X, and ANMF's: do not blend with the frame before


class _Compressed(NamedTuple):
    start: int  # milliseconds
    chunks: bytes


class WebpWriter(WholeWriter[_Compressed]):
    """One animation. Times are milliseconds; the last frame lasts as long as the rate says."""

    def __init__(self, request: OutputRequest) -> None:
        """Raises: UsageError or MediaError, before anything is written, where the output is not possible."""
        path, info = request.path, request.info
        if max(info.size) > _MAX_SIDE:
            raise UsageError(
                f"{path}: WebP holds {_MAX_SIDE} pixels a side at most; the clip is {info.width}x{info.height}"
            )
        self.path, self.notes = path, []
        self._info = info
        self._waiting: _Compressed | None = None
        self._origin = 0
        self._count = 0
        self._output = FileOutput(path, info.path, request.settings.overwrite)
        with writing(path):
            self._file: BinaryIO = self._output.partial.open("wb")
            size = (info.width - 1).to_bytes(3, "little") + (info.height - 1).to_bytes(3, "little")
            self._file.write(b"RIFF\0\0\0\0WEBP")
            self._file.write(_chunk(b"VP8X", struct.pack("<I", _HAS_ALPHA | _ANIMATED) + size))
            self._file.write(_chunk(b"ANIM", struct.pack("<IH", 0, 0)))  # transparent ground, for ever

    def convert(self, matted: Matted) -> _Compressed:
        """Compress the frame."""
        frame = matted.frame
        if frame.size != self._info.size:
            raise ValueError(f"frame {frame.index} is {frame.size}, the clip {self._info.size}")
        eight = frame.rgb8
        alpha = cv2.convertScaleAbs(pixel_formats.alpha_codes(matted.alpha, 16), alpha=255 / 65535)
        data = io.BytesIO()
        picture = Image.fromarray(np.dstack([eight, alpha]))
        picture.save(data, "WEBP", quality=80, method=2, exact=True)
        chunks = b"".join(_chunk(name, body) for name, body in _chunks(data.getvalue()) if name in _PICTURE)
        return _Compressed(round(frame.pts * frame.time_base * 1000), chunks)

    def packed(self, converted: _Compressed) -> bytes:
        return struct.pack("<q", converted.start) + converted.chunks

    def unpacked(self, data: bytes) -> _Compressed:
        return _Compressed(struct.unpack_from("<q", data)[0], data[8:])

    def encode(self, converted: _Compressed) -> None:
        """Write the frame before, whose length is known now."""
        self._flush(converted.start)
        self._waiting = converted

    def _flush(self, end: int) -> None:
        if self._waiting is None:
            return
        length = min(max(end - self._waiting.start, 1), (1 << 24) - 1)
        three = [0, 0, self._info.width - 1, self._info.height - 1, length]
        head = b"".join(value.to_bytes(3, "little") for value in three) + bytes([_REPLACE])
        with writing(self.path):
            self._file.write(_chunk(b"ANMF", head + self._waiting.chunks))
        self._count += 1

    def expected(self) -> None:
        """State nothing: an animated WebP is not read back."""

    def finish(self) -> None:
        if self._waiting is None:
            raise MediaError(f"{self.path}: no frame was written to it")
        self._flush(self._waiting.start + round(1000 / self._info.rate))
        with writing(self.path):
            size = self._file.tell() - 8
            if size >= 1 << 32:
                raise MediaError(f"{self.path}: longer than WebP can be (4 GB); write a movie instead")
            self._file.seek(4)
            self._file.write(struct.pack("<I", size))
            self._file.close()

    def check(self) -> None:
        self._output.check()

    def commit(self) -> None:
        self._output.publish()

    def abort(self) -> None:
        with suppress(OSError):  # a disk that is full may be why we are here
            self._file.close()
        self._output.discard()


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a RIFF file, as name and body."""
    place = 12
    while place + 8 <= len(file):
        (length,) = struct.unpack_from("<I", file, place + 4)
        yield file[place : place + 4], file[place + 8 : place + 8 + length]
        place += 8 + length + length % 2
