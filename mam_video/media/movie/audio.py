"""Copy a movie's sound into an output: packets unchanged, or decoded and written as linear PCM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any, Final

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from mam_video.media.ffmpeg_compat import url, writing
from mam_video.media.movie.audio_pcm import PcmDecoder
from mam_video.media.movie.audio_plan import (
    FAILURES,
    FORMATS,
    Audio,
    add_copy,
    add_pcm,
    audio_stream,
    describe_audio,
    plan_sound,
)
from mam_video.media.movie.packet_mover import PacketMover, codec_of, time_of
from mam_video.media.movie.timeline import Timeline
from mam_video.runtime.os_errors import reason

_PREROLL: Final = Fraction(1)  # seconds decoded before a range, since decoders start with less than all of the sound


class AudioCopy:
    """Audio of one file on its way into another, packet by packet as the pictures go, so that little is held.

    Each writer opens the source for itself: outputs go at their own pace.

    notes  what the output does not get, or not as it is, a line each
    """

    def __init__(self, source: Path, output: Path, audio: Audio = "copy", timeline: Timeline | None = None) -> None:
        """`timeline`: how the source's clock goes on where it restarts.

        Raises: OSError or av.FFmpegError, where the source cannot be opened again.
        """
        self._path = source
        form = FORMATS[output.suffix.lower()]
        self._routes = plan_sound(source, form, audio)
        self._source = av.open(url(source), "r")
        self._timeline = timeline or Timeline()
        self._ways: dict[int, PacketMover | PcmDecoder] = {}
        self._packets: Iterator[Packet[Any]] = iter(())
        self._held: Packet[Any] | None = None
        self._keeps_empty = form in ("matroska", "webm")
        self.notes = [route.note for route in self._routes if route.note]

    @property
    def streams(self) -> int:
        """How many audio streams the finished file has: MOV and MP4 write no track that holds nothing."""
        return sum(1 for way in self._ways.values() if way.count or self._keeps_empty)

    def ticks_of(self, unit: int) -> int:
        """Return ticks a second, a multiple of `unit`, that count the pictures' times and the samples both exactly.

        MOV and MP4 say in them how long a stream waits before it begins. `unit` where there is no such number.
        """
        for route in self._routes:
            rate = audio_stream(self._source, route.index).codec_context.sample_rate if route.codec else 1
            unit = lcm(unit, rate) if rate and lcm(unit, rate) < 1 << 31 else unit
        return unit

    def add_to(self, container: OutputContainer) -> None:
        """Give an output the source's audio streams that it can hold, before its header is written."""
        for route in self._routes:
            if not route.codec:
                continue
            stream = audio_stream(self._source, route.index)
            if route.pcm:
                out = add_pcm(container, stream, route.codec)
                self._ways[route.index] = PcmDecoder(stream, out, route.codec)
            else:
                out = add_copy(container, stream)
                self._ways[route.index] = PacketMover(stream, out)
            out.metadata.update(
                {k: v for k, v in stream.metadata.items() if k in ("language", "title", "handler_name")}
            )
            with suppress(AttributeError, TypeError):
                out.disposition = stream.disposition
        if self._ways:
            self._packets = self._timeline.packets(self._source, [way.source for way in self._ways.values()])

    def copy_until(
        self,
        container: OutputContainer,
        path: Path,
        start: Fraction | None,
        end: Fraction | None,
        shift: Fraction,
        *,
        last: bool = False,
    ) -> None:
        """Copy what lies in start <= time < end, in seconds of the source; None: no such bound.

        Args:
            shift: seconds added to every time, as the pictures' times are shifted.
            last: this is the last call.
        """
        converted = [way for way in self._ways.values() if isinstance(way, PcmDecoder)]
        stop = None if end is None else end + shift
        while (packet := self._next()) is not None:
            way = self._ways[packet.stream_index]
            time = time_of(packet, way.source)
            if time is not None and end is not None and time >= end:
                self._held = packet
                break
            early = _PREROLL if isinstance(way, PcmDecoder) else _delay(way.source)
            if time is not None and start is not None and time + early < start:
                continue
            if isinstance(way, PcmDecoder):
                way.decode(packet, shift)
                self._write(container, path, way.ready(stop))
            else:
                way.move(packet, shift)
                self._write(container, path, (packet,))
        for way in converted:
            if last:
                way.decode(None, shift)
            self._write(container, path, way.ready(stop, last=last))
        if last:
            self._add_notes()

    def _write(self, container: OutputContainer, path: Path, packets: Iterable[Packet[Any]]) -> None:
        for packet in packets:
            with writing(path):
                container.mux(packet)

    def _next(self) -> Packet[Any] | None:
        held, self._held = self._held, None
        if held is not None:
            return held
        try:
            for packet in self._packets:
                if packet.size:  # the demuxer ends with an empty one
                    return packet
        except FAILURES as error:
            self.notes.append(f"the sound of {self._path.name} cannot be read to its end ({reason(error)})")
        self._packets = iter(())
        return None

    def _add_notes(self) -> None:
        for way in self._ways.values():
            if not way.count:
                self.notes.append(f"nothing is there to be heard of {describe_audio(way.source)}")
            if isinstance(way, PcmDecoder) and way.broken:
                some = f"{way.broken} packets" if way.broken > 1 else "1 packet"
                self.notes.append(f"{some} of {describe_audio(way.source)} cannot be decoded: silence stands there")

    def close(self) -> None:
        self._packets = iter(())
        self._source.close()


def _delay(stream: Stream) -> Fraction:
    """Return seconds that a stream's first packets may come early: Opus's times begin before 0, and muxers know it."""
    return Fraction(1, 10) if codec_of(stream) == "opus" else Fraction(0)
