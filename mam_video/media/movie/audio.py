"""Sound: the source's audio packets copied into an output, not decoded and not changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from mam_video.media.ffmpeg_compat import fraction, ticks, url, writing
from mam_video.media.movie.timeline import Timeline


def describe_audio(stream: Any) -> str:
    """One line about an audio stream: codec, rate, channels, language."""
    context = stream.codec_context
    if context is None:
        return "unknown codec"
    parts = [context.name, f"{context.sample_rate} Hz", str(context.layout.name)]
    language = stream.metadata.get("language", "und")
    return ", ".join(parts + ([language] if language != "und" else []))


def _delay(stream: Any) -> Fraction:
    """Seconds that a stream's first packets may come early: Opus's times begin before 0, and muxers know it."""
    return Fraction(1, 10) if stream.codec_context.name in ("opus", "libopus") else Fraction(0)


class AudioCopy:
    """Audio of one file on its way into another, packet by packet as the pictures go, so that little is held.

    Each writer opens the source for itself: outputs go at their own pace.
    """

    def __init__(self, source: Path, timeline: Timeline | None = None) -> None:
        """`timeline`: how the source's clock goes on where it restarts.

        Raises: OSError or av.FFmpegError, where the source cannot be opened again."""
        self._source: Any = av.open(url(source), "r")
        self._timeline = timeline or Timeline()
        self._streams: dict[int, tuple[Any, Any]] = {}
        self._packets: Iterator[Any] = iter(())
        self._held: Any = None
        self.left_out: list[str] = []

    def add_to(self, container: Any) -> None:
        """Give an output the source's audio streams, before its header is written.

        What its format cannot hold is listed in `left_out`.
        """
        for stream in self._source.streams.audio:
            if stream.codec_context is None or stream.codec_context.name not in container.supported_codecs:
                self.left_out.append(describe_audio(stream))
                continue
            try:
                copy = container.add_stream_from_template(stream)
            except (ValueError, av.FFmpegError):
                self.left_out.append(describe_audio(stream))
                continue
            copy.metadata.update(
                {k: v for k, v in stream.metadata.items() if k in ("language", "title", "handler_name")}
            )
            with suppress(AttributeError, TypeError):
                copy.disposition = stream.disposition
            self._streams[stream.index] = (stream, copy)
        if self._streams:
            self._packets = self._timeline.packets(self._source, [stream for stream, _ in self._streams.values()])

    def copy_until(
        self, container: Any, path: Path, start: Fraction | None, end: Fraction | None, shift: Fraction
    ) -> None:
        """Copy what lies in start <= time < end, in seconds of the source; None: no such bound.

        Args:
            shift: seconds added to every time, as the pictures' times are shifted.
        """
        with writing(path):
            while (packet := self._next()) is not None:
                source, copy = self._streams[packet.stream_index]
                unit = fraction(packet.time_base) or fraction(source.time_base) or Fraction(1)
                stamp = ticks(packet.pts) if ticks(packet.pts) is not None else ticks(packet.dts)
                time = None if stamp is None else stamp * unit
                if time is not None and end is not None and time >= end:
                    self._held = packet
                    return
                if time is not None and start is not None and time + _delay(source) < start:
                    continue
                if shift:
                    moved = round(shift / unit)
                    packet.pts = None if packet.pts is None else packet.pts + moved
                    packet.dts = None if packet.dts is None else packet.dts + moved
                packet.stream = copy
                container.mux(packet)

    def _next(self) -> Any:
        held, self._held = self._held, None
        if held is not None:
            return held
        for packet in self._packets:
            if packet.size:  # the demuxer ends with an empty one
                return packet
        return None

    def close(self) -> None:
        self._packets = iter(())
        self._source.close()
