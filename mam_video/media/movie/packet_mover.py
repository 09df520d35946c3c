"""Move the packets of one stream into another container unchanged, with times that its muxer accepts."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream

from mam_video.media.ffmpeg_compat import fraction, ticks


def codec_of(stream: Stream) -> str:
    """Return the codec's own name, whichever decoder reads it; "" where FFmpeg does not know it."""
    return "" if stream.codec_context is None else str(stream.codec_context.codec.canonical_name)


class PacketMover:
    """Packets of one stream on their way into another, with times that a muxer takes: each there, and growing."""

    def __init__(self, source: AudioStream, copy: AudioStream) -> None:
        self.source, self.copy = source, copy
        self.count = 0
        self._last: int | None = None  # decoding time of the last packet, in the copy's ticks
        self._after: int | None = None  # and its end

    def move(self, packet: Packet[Any], shift: Fraction) -> None:
        """Give a packet to the copy, `shift` seconds later."""
        source = unit_of(packet, self.source)
        unit = fraction(self.copy.time_base) or source
        stamps = ticks(packet.pts), ticks(packet.dts)
        pts, dts = (None if stamp is None else round((stamp * source + shift) / unit) for stamp in stamps)
        exact = self._samples(packet.size)
        duration = round((exact or (ticks(packet.duration) or 0) * source) / unit)
        dts = dts if dts is not None else pts if pts is not None else self._after
        if dts is None:
            dts = round(shift / unit)
        if exact and self._after is not None and abs(dts - self._after) * unit <= 2 * source:
            dts = pts = self._after  # a coarse clock, as Matroska's, rounds what the samples tell
        if self._last is not None:
            dts = max(dts, self._last + 1)
            duration = duration or dts - self._last  # a muxer needs the last packet's, or MOV hides it
        self._last, self._after = dts, dts + duration
        packet.time_base = unit
        packet.dts, packet.pts, packet.duration = dts, max(dts, dts if pts is None else pts), duration
        packet.stream = self.copy
        self.count += 1

    def _samples(self, size: int) -> Fraction:
        """Return seconds in so many bytes of linear PCM; 0 for other codecs."""
        found = re.fullmatch(r"pcm_[suf](\d+)([lb]e)?", codec_of(self.source))
        context = self.source.codec_context
        if found is None or not context.sample_rate:
            return Fraction(0)
        return Fraction(size, int(found[1]) // 8 * context.layout.nb_channels * context.sample_rate)


def unit_of(packet: Packet[Any], source: Stream) -> Fraction:
    return fraction(packet.time_base) or fraction(source.time_base) or Fraction(1)


def time_of(packet: Packet[Any], source: Stream) -> Fraction | None:
    """Return seconds in the source at which a packet's sound begins, as far as it says so."""
    stamp = ticks(packet.pts) if ticks(packet.pts) is not None else ticks(packet.dts)
    return None if stamp is None else stamp * unit_of(packet, source)
