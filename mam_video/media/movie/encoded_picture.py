"""Pictures of codecs whose pictures stand alone, encoded one by one, so that one process encodes and another muxes."""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from mam_video.core.errors import MediaError
from mam_video.media.ffmpeg_compat import ticks
from mam_video.media.movie.muxer import MovieHeader, set_up

_MARK: Final = b"encoded\n"
_HEAD: Final = struct.Struct("<qq?")  # pts, duration, key


@dataclass(slots=True)
class EncodedPicture:
    """One picture as the encoder gave it. `pts` and `duration` in ticks of the movie's clock."""

    pts: int
    duration: int
    key: bool
    data: bytes

    def packed(self) -> bytes:
        """Return all of it as bytes; `of_bytes` reads them."""
        return _MARK + _HEAD.pack(self.pts, self.duration, self.key) + self.data

    @classmethod
    def of_bytes(cls, data: bytes) -> EncodedPicture | None:
        """Read what `packed` gave; None: the bytes are of something else. Raises: MediaError, they are cut off."""
        if not data.startswith(_MARK):
            return None
        try:
            pts, duration, key = _HEAD.unpack_from(data, len(_MARK))
        except struct.error as error:
            raise MediaError(f"an encoded picture is damaged ({error}); make its frames again") from None
        return cls(pts, duration, key, data[len(_MARK) + _HEAD.size :])

    def packet(self, unit: Fraction, stream: VideoStream) -> Packet[Any]:
        """Return it as a muxer takes it for `stream`, its times in `unit`s."""
        packet = av.Packet(self.data)
        packet.time_base = unit
        packet.pts = packet.dts = self.pts
        packet.duration, packet.is_keyframe = self.duration, self.key
        packet.stream = stream
        return packet


Picture = av.VideoFrame | EncodedPicture  # what a movie's writer takes: in the codec's own pixels, or encoded


class PictureEncoder:
    """Encodes pictures one by one, in any order and from any thread: each thread has an encoder of its own.

    The bytes are those of the encoder that writes the whole movie, since a picture depends on no other.
    """

    def __init__(self, header: MovieHeader) -> None:
        self._header, self._own = header, threading.local()

    def encoded(self, frame: av.VideoFrame) -> EncodedPicture:
        """Encode a picture in the codec's own pixels. Raises: MediaError, the encoder gives it not at once."""
        context = getattr(self._own, "context", None)
        if context is None:
            context = self._own.context = self._opened()
        packets = list(context.encode(frame))
        if len(packets) != 1:
            raise MediaError(f"{self._header.codec.codec} gave {len(packets)} packets for a picture, and not one")
        (packet,) = packets
        key = bool(packet.is_keyframe)
        return EncodedPicture(ticks(frame.pts) or 0, ticks(packet.duration) or 0, key, bytes(packet))

    def _opened(self) -> VideoCodecContext:
        context = av.CodecContext.create(self._header.codec.codec, "w")
        assert isinstance(context, VideoCodecContext)
        context.framerate = self._header.info.rate
        set_up(context, self._header)
        context.thread_count = 1  # with more it would hold pictures back
        return context
