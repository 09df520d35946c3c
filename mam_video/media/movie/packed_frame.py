"""A picture in a codec's own pixels as bytes, so that one process converts it and another writes it."""

from __future__ import annotations

import json
import zlib
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.video.plane import VideoPlane

from mam_video.core.errors import MediaError
from mam_video.core.untrusted import parse_json
from mam_video.media.base import WholeWriter
from mam_video.media.movie.encoded_picture import EncodedPicture, Picture, PictureEncoder

_LEVEL = 1  # of zlib: the fastest


class FrameWriter(WholeWriter[Picture]):
    """A writer whose converted frames are FFmpeg's pictures, encoded by another process where `_alone` allows it.

    _alone  encodes single pictures; None: the codec's pictures need each other
    """

    _alone: PictureEncoder | None = None

    def packed(self, converted: Picture) -> bytes:
        assert isinstance(converted, av.VideoFrame)
        return pack_frame(converted) if self._alone is None else self._alone.encoded(converted).packed()

    def unpacked(self, data: bytes) -> Picture:
        return EncodedPicture.of_bytes(data) or unpack_frame(data)


def pack_frame(frame: av.VideoFrame) -> bytes:
    """Return size, pixel format, colour tags, time and planes of a picture, losslessly compressed."""
    planes = _planes(frame)
    unit = Fraction(frame.time_base or 1)
    head = {
        "format": frame.format.name,
        "size": [frame.width, frame.height],
        "tags": [int(frame.color_range), int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc)],
        "pts": frame.pts,
        "unit": [unit.numerator, unit.denominator],
        "duration": frame.duration,
        "bytes": [plane.nbytes for plane in planes],
    }
    body = zlib.compressobj(_LEVEL)
    packed = [body.compress(np.ascontiguousarray(plane).tobytes()) for plane in planes]
    return b"".join([json.dumps(head).encode(), b"\n", *packed, body.flush()])


def unpack_frame(data: bytes) -> av.VideoFrame:
    """Return the picture that `pack_frame` was given. Raises: MediaError, the bytes are damaged."""
    try:
        first, _, body = data.partition(b"\n")
        head = parse_json(first)
        width, height = (int(value) for value in head["size"])
        frame = av.VideoFrame(width, height, str(head["format"]))
        rows = _planes(frame)
        if [plane.nbytes for plane in rows] != head["bytes"]:
            raise ValueError("planes of another size")
        total = sum(plane.nbytes for plane in rows)
        codes = np.frombuffer(zlib.decompressobj().decompress(body, total), np.uint8, total)
        ends = np.cumsum([plane.nbytes for plane in rows])[:-1]
        for plane, own in zip(rows, np.split(codes, ends), strict=True):
            plane[:] = own.reshape(plane.shape)
        frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = head["tags"]
        frame.pts, frame.time_base = head["pts"], Fraction(*head["unit"])
        frame.duration = head["duration"]
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise MediaError(f"a converted picture is damaged ({error}); make its frames again") from None
    return frame


def _used_rows(plane: VideoPlane, bits: int) -> np.ndarray:
    """Return a view of a plane's bytes, (rows, bytes of a row) uint8, without what pads its rows.

    Planes of the formats that are written here hold one component each.
    """
    lines = np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: plane.height, : plane.width * ((bits + 7) // 8)]


def _planes(frame: av.VideoFrame) -> list[np.ndarray]:
    bits = max(component.bits for component in frame.format.components)
    return [_used_rows(plane, bits) for plane in frame.planes]
