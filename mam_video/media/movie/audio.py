"""Sound: the source's audio packets copied into an output unchanged, or decoded and written as linear PCM.

What a container can hold is found by trying: the header and the first packets are written into memory and read back.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any, Final, Literal

import av
import numpy as np

from mam_video.media.ffmpeg_compat import fraction, ticks, url, writing
from mam_video.media.movie.timeline import Timeline
from mam_video.runtime.os_errors import reason

Audio = Literal["copy", "pcm", "none"]

_TRIED_PACKETS: Final = 8  # of each stream, in a trial
_TRIED_BYTES: Final = 256 << 20  # a trial reads no further than this for a stream that begins late
_PREROLL: Final = Fraction(1)  # seconds decoded before a range, since decoders start with less than all of the sound
_BLOCK: Final = 2048  # samples in a packet of PCM
_SLACK: Final = Fraction(1, 200)  # seconds by which times may differ from the count of samples before silence is put in
_SAME: Final = {"mp2": "mp3", "mp1": "mp3"}  # MP4 has one number for all of MPEG audio; readers decode any
_FORMATS: Final = {".mov": "mov", ".mp4": "mp4", ".m4v": "mp4", ".mkv": "matroska", ".webm": "webm"}
_NAMES: Final = {"mov": "MOV", "mp4": "MP4", "matroska": "Matroska", "webm": "WebM"}
_24_BITS: Final = ("pcm_s24", "pcm_bluray", "pcm_dvd", "truehd", "mlp", "dts", "wmalossless")
_FAILURES: Final = (av.FFmpegError, OSError, ValueError, NotImplementedError)


def _codec(stream: Any) -> str:
    """The codec's own name, whichever decoder reads it; "" where FFmpeg does not know it."""
    return "" if stream.codec_context is None else str(stream.codec_context.codec.canonical_name)


def describe_audio(stream: Any) -> str:
    """One line about an audio stream: codec, rate, channels, language."""
    context = stream.codec_context
    if context is None:
        return "unknown codec"
    parts = [_codec(stream), f"{context.sample_rate} Hz", str(context.layout.name)]
    language = stream.metadata.get("language", "und")
    return ", ".join(parts + ([language] if language != "und" else []))


def _delay(stream: Any) -> Fraction:
    """Seconds that a stream's first packets may come early: Opus's times begin before 0, and muxers know it."""
    return Fraction(1, 10) if _codec(stream) == "opus" else Fraction(0)


@dataclass(frozen=True, slots=True)
class Route:
    """What becomes of one audio stream of a source.

    index  of the stream in its file
    codec  of the output; "" where the stream is left out
    pcm    whether it is decoded and written as PCM
    note   a line to tell, or ""
    """

    index: int
    codec: str
    pcm: bool = False
    note: str = ""


def plan_sound(source: Path, form: str, audio: Audio) -> list[Route]:
    """Decide for each audio stream of a file what a container of FFmpeg's format `form` gets of it.

    Raises: OSError or av.FFmpegError, where the source cannot be opened.
    """
    with av.open(url(source), "r") as container:
        streams = [] if audio == "none" else list(container.streams.audio)
        return [_route(source, number, stream, form, audio) for number, stream in enumerate(streams, 1)]


def sound_notes(source: Path, output: Path, audio: Audio) -> list[str]:
    """Say what of the source's sound an output cannot hold, before anything is written."""
    form = _FORMATS.get(output.suffix.lower())
    if form is None or audio == "none" or not source.is_file():
        return []
    try:
        routes = plan_sound(source, form, audio)
    except _FAILURES:
        return []  # the writer tells it
    return [f"{output.name}: {route.note}" for route in routes if route.note]


def _route(source: Path, number: int, stream: Any, form: str, audio: Audio) -> Route:
    described = f"stream {number}, {describe_audio(stream)}"
    codec, name = _codec(stream), _NAMES.get(form, form)
    pcm = _pcm_codec(stream)
    if audio == "pcm" and pcm and _holds_pcm(form, stream, pcm):
        return Route(stream.index, pcm, pcm=True)
    if _holds_copy(source, stream, form):
        note = f"{name} does not hold PCM that players read: copied as it is: {described}" if audio == "pcm" else ""
        return Route(stream.index, codec, note=note)
    remedies = []
    if form != "matroska" and _holds_copy(source, stream, "matroska"):
        remedies.append(".mkv keeps it")
    if pcm and _holds_pcm(form, stream, pcm):
        remedies.append("--audio pcm converts it")
    elif pcm:
        remedies.append("--audio pcm converts it in .mov and .mkv")
    remedy = f"; {', '.join(remedies)}" if remedies else ""
    return Route(stream.index, "", note=f"{name} cannot hold this sound, it is left out: {described}{remedy}")


def _pcm_codec(stream: Any) -> str:
    """Linear PCM that holds all that the stream's decoder gives; "" where there is no decoder.

    Whole numbers keep their depth. Of lossy codecs the decoder's float is rounded to 24 bits; float PCM stays float.
    """
    context, codec = stream.codec_context, _codec(stream)
    if context is None or context.format is None or not context.sample_rate or not context.layout.nb_channels:
        return ""
    kind = str(context.format.name).removesuffix("p")
    if kind in ("flt", "dbl"):
        exact = codec.startswith("pcm_f") or codec == "wavpack"
        return "pcm_s24le" if not exact else "pcm_f32le" if kind == "flt" else "pcm_f64le"
    if kind in ("u8", "s16"):
        return "pcm_s16le"
    if kind == "s64" or (kind == "s32" and _depth(stream) > 24):
        return "pcm_s32le"
    return "pcm_s24le" if kind == "s32" else ""


def _depth(stream: Any) -> int:
    """Bits of a sample that the decoder gives as 32; 32 where it is not known."""
    codec, extra = _codec(stream), bytes(stream.codec_context.extradata or b"")
    if codec.startswith(_24_BITS):
        return 24
    if codec == "flac" and len(extra) >= 34:  # STREAMINFO: 5 bits of depth - 1 after rate and channels
        info = extra[8:] if extra[:4] == b"fLaC" else extra
        return ((info[12] & 1) << 4 | info[13] >> 4) + 1
    if codec == "alac" and len(extra) >= 24:  # magic cookie, the last 24 bytes: frame length, version, depth
        return extra[-24:][5] or 32
    return 32


def _holds_copy(source: Path, stream: Any, form: str) -> bool:
    """Whether a container keeps this stream as it is: write its first packets into memory, and read them back."""
    if stream.codec_context is None or not _players_read(form, _codec(stream)):
        return False
    buffer = io.BytesIO()
    try:
        with av.open(url(source), "r") as reading, av.open(buffer, "w", format=form) as container:
            found = reading.streams[stream.index]
            copy = _add_copy(container, found)
            container.start_encoding()
            mover = _Mover(found, copy)
            for packet in _first_packets(reading, found):
                mover.move(packet, Fraction(0))
                container.mux(packet)
        return mover.count == 0 or _reads(buffer, stream, _codec(stream))
    except _FAILURES:
        return False


def _first_packets(container: Any, stream: Any) -> Iterator[Any]:
    count = size = 0
    for packet in container.demux():
        size += packet.size
        if packet.size and packet.stream_index == stream.index:
            yield packet
            count += 1
        if count == _TRIED_PACKETS or size > _TRIED_BYTES:
            return


def _holds_pcm(form: str, stream: Any, codec: str) -> bool:
    """Whether a container holds PCM of this rate and layout, likewise."""
    if not _players_read(form, codec):
        return False
    buffer = io.BytesIO()
    context = stream.codec_context
    try:
        with av.open(buffer, "w", format=form) as container:
            out = _add_pcm(container, stream, codec)
            container.start_encoding()
            silence = bytes(_BLOCK * context.layout.nb_channels * _bytes_a_sample(codec))
            container.mux(_packet(silence, 0, _BLOCK, context.sample_rate, out))
        return _reads(buffer, stream, codec)
    except _FAILURES:
        return False


def _players_read(form: str, codec: str) -> bool:
    """Whether players read in a container what FFmpeg would write there.

    PCM in MP4 is young (ISO/IEC 23003-5): readers older than it take it all for 16 bits, so that 24 are noise.
    """
    return form != "mp4" or not codec.startswith("pcm_") or codec == "pcm_s16le"


def _reads(buffer: io.BytesIO, stream: Any, codec: str) -> bool:
    """Whether a reader finds the one stream in what was written, of this codec, with the stream's rate and channels."""
    buffer.seek(0)
    with av.open(buffer, "r") as container:
        if len(container.streams.audio) != 1:
            return False
        found: Any = container.streams.audio[0]
        if _SAME.get(_codec(found), _codec(found)) != _SAME.get(codec, codec):
            return False
        there, meant = found.codec_context, stream.codec_context
        return bool(there.sample_rate == meant.sample_rate and there.layout.nb_channels == meant.layout.nb_channels)


def _add_copy(container: Any, stream: Any) -> Any:
    out = container.add_stream_from_template(stream)
    if _codec(stream).startswith("pcm_"):  # nothing in the packets says the layout
        out.codec_context.layout = _layout(stream)
    return out


def _layout(stream: Any) -> Any:
    """The stream's channels; one or two that it has no names for are mono or stereo."""
    layout = stream.codec_context.layout
    known = not str(layout.name).endswith("channels")
    return layout if known or layout.nb_channels > 2 else ("mono", "stereo")[layout.nb_channels - 1]


def _add_pcm(container: Any, stream: Any, codec: str) -> Any:
    out = container.add_stream(codec, rate=stream.codec_context.sample_rate)
    out.codec_context.layout = _layout(stream)
    out.time_base = Fraction(1, stream.codec_context.sample_rate)
    return out


def _packet(data: bytes, start: int, count: int, rate: int, stream: Any) -> Any:
    packet: Any = av.Packet(data)
    packet.time_base = Fraction(1, rate)
    packet.pts = packet.dts = start
    packet.duration = count
    packet.is_keyframe = True
    packet.stream = stream
    return packet


def _bytes_a_sample(codec: str) -> int:
    return int(codec.removesuffix("le")[-2:]) // 8


class _Mover:
    """Packets of one stream on their way into another, with times that a muxer takes: each there, and growing."""

    def __init__(self, source: Any, copy: Any) -> None:
        self.source, self.copy = source, copy
        self.count = 0
        self._last: int | None = None  # decoding time of the last packet, in the copy's ticks
        self._after: int | None = None  # and its end

    def move(self, packet: Any, shift: Fraction) -> None:
        """Give a packet to the copy, `shift` seconds later."""
        source = _unit(packet, self.source)
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
        """Seconds in so many bytes of linear PCM; 0 for other codecs."""
        found = re.fullmatch(r"pcm_[suf](\d+)([lb]e)?", _codec(self.source))
        context = self.source.codec_context
        if found is None or not context.sample_rate:
            return Fraction(0)
        return Fraction(size, int(found[1]) // 8 * context.layout.nb_channels * context.sample_rate)


def _unit(packet: Any, source: Any) -> Fraction:
    return fraction(packet.time_base) or fraction(source.time_base) or Fraction(1)


def _time(packet: Any, source: Any) -> Fraction | None:
    """Seconds in the source at which a packet's sound begins, as far as it says so."""
    stamp = ticks(packet.pts) if ticks(packet.pts) is not None else ticks(packet.dts)
    return None if stamp is None else stamp * _unit(packet, source)


class _Pcm:
    """One stream decoded to linear PCM, sample by sample at the source's times.

    Samples before time 0 of the output are left out. Where the source's times leave a gap of more than `_SLACK`,
    silence fills it; where they overlap, the later samples give way. Holds a packet's worth.
    """

    def __init__(self, source: Any, out: Any, codec: str) -> None:
        self.source, self.out = source, out
        self.count = self.broken = 0
        self._codec = codec
        self._rate = int(source.codec_context.sample_rate)
        self._layout = source.codec_context.layout
        self._format = str(source.codec_context.format.name)
        self._channels = int(self._layout.nb_channels)
        self._resampler: Any = None
        self._next: int | None = None  # where in the output the next sample from the decoder lies
        self._at = 0  # where the first of those that are held lies
        self._held: list[np.ndarray] = []
        self._holds = 0

    def decode(self, packet: Any, shift: Fraction) -> None:
        """Take a packet of the source; None: what the decoder still has."""
        try:
            frames = self.source.codec_context.decode(packet)
        except _FAILURES:
            self.broken += 1
            return
        for frame in frames:
            self._take(frame, shift)

    def ready(self, stop: Fraction | None, *, last: bool = False) -> Iterator[Any]:
        """Packets of the output up to `stop`, in seconds of the output: whole blocks, and what is left where `last`."""
        while True:
            most = self._holds if stop is None else min(self._holds, round(stop * self._rate) - self._at)
            if most <= 0 or (most < _BLOCK and not last):
                return
            yield self._packet(min(most, _BLOCK))

    def _take(self, frame: Any, shift: Fraction) -> None:
        stamp = ticks(frame.pts)
        unit = fraction(frame.time_base)
        samples = self._samples(frame)
        if stamp is not None and unit is not None:
            place = round((stamp * unit + shift) * self._rate)
            slack = max(self._rate * _SLACK, 2 * unit * self._rate)
            if self._next is None:
                self._next = place
            elif place - self._next > slack:
                self._fill(place - self._next)
            elif self._next - place > slack:
                samples = samples[self._next - place :]
        elif self._next is None:
            self._next = round(shift * self._rate)
        self._hold(samples)

    def _fill(self, count: int) -> None:
        """Silence, in pieces, so that a long gap is not held at once."""
        zero = np.zeros((1, self._channels), _TYPES[self._codec])
        self._hold(np.broadcast_to(zero, (count, self._channels)))

    def _hold(self, samples: np.ndarray) -> None:
        assert self._next is not None
        start = self._next
        self._next += len(samples)
        samples = samples[max(0, -start) :]
        if not len(samples):
            return
        if not self._holds:
            self._at = max(start, 0)
        self._held.append(samples)
        self._holds += len(samples)

    def _samples(self, frame: Any) -> np.ndarray:
        """(samples, channels) of the output's type."""
        same = frame.sample_rate == self._rate and frame.layout.nb_channels == self._channels
        frames = [frame]
        if not same or frame.format.name != self._format:  # the stream changes on its way
            if self._resampler is None:
                self._resampler = av.AudioResampler(self._format, self._layout, self._rate)
            frames = self._resampler.resample(frame)
        parts = [np.zeros((0, self._channels), _TYPES[self._codec])]
        for each in frames:
            values = each.to_ndarray()
            flat = values.T if each.format.is_planar else values.reshape(-1, self._channels)
            parts.append(_linear(flat, self._codec))
        return np.concatenate(parts)

    def _packet(self, count: int) -> Any:
        taken, left = [], count
        while left:
            first = self._held[0]
            taken.append(first[:left])
            if len(first) > left:
                self._held[0] = first[left:]
            else:
                self._held.pop(0)
            left -= len(taken[-1])
        data = np.ascontiguousarray(np.concatenate(taken))
        whole = data.view(np.uint8).reshape(count, self._channels, data.itemsize)
        packet = _packet(whole[:, :, : _bytes_a_sample(self._codec)].tobytes(), self._at, count, self._rate, self.out)
        self._at += count
        self._holds -= count
        self.count += 1
        return packet


_TYPES: Final = {
    "pcm_s16le": "<i2",
    "pcm_s24le": "<i4",  # the low three bytes are written
    "pcm_s32le": "<i4",
    "pcm_f32le": "<f4",
    "pcm_f64le": "<f8",
}


def _linear(values: np.ndarray, codec: str) -> np.ndarray:
    """Samples of a decoder's type in that of the output: rounded to the nearest, cut at full scale, never wrapped."""
    if codec in ("pcm_f32le", "pcm_f64le"):
        return values.astype(_TYPES[codec])
    bits = 8 * _bytes_a_sample(codec)
    least, most = -(1 << bits - 1), (1 << bits - 1) - 1
    if values.dtype.kind == "f":
        scaled = np.rint(np.nan_to_num(values.astype(np.float64)) * -float(least))
        return np.clip(scaled, least, most).astype(_TYPES[codec])
    whole = values.astype(np.int64)
    have = 8 * values.dtype.itemsize
    if values.dtype == np.uint8:
        whole -= 128
    if have > bits:
        whole = np.clip((whole >> have - bits - 1) + 1 >> 1, least, most)
    return (whole << max(bits - have, 0)).astype(_TYPES[codec])


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
        form = _FORMATS[output.suffix.lower()]
        self._routes = plan_sound(source, form, audio)
        self._source: Any = av.open(url(source), "r")
        self._timeline = timeline or Timeline()
        self._ways: dict[int, _Mover | _Pcm] = {}
        self._packets: Iterator[Any] = iter(())
        self._held: Any = None
        self._keeps_empty = form in ("matroska", "webm")
        self.notes = [route.note for route in self._routes if route.note]

    @property
    def streams(self) -> int:
        """How many audio streams the finished file has: MOV and MP4 write no track that holds nothing."""
        return sum(1 for way in self._ways.values() if way.count or self._keeps_empty)

    def ticks_of(self, unit: int) -> int:
        """Ticks a second, a multiple of `unit`, that count the pictures' times and the samples both exactly.

        MOV and MP4 say in them how long a stream waits before it begins. `unit` where there is no such number.
        """
        for route in self._routes:
            rate = self._source.streams[route.index].codec_context.sample_rate if route.codec else 1
            unit = lcm(unit, rate) if rate and lcm(unit, rate) < 1 << 31 else unit
        return unit

    def add_to(self, container: Any) -> None:
        """Give an output the source's audio streams that it can hold, before its header is written."""
        for route in self._routes:
            if not route.codec:
                continue
            stream = self._source.streams[route.index]
            if route.pcm:
                out = _add_pcm(container, stream, route.codec)
                self._ways[route.index] = _Pcm(stream, out, route.codec)
            else:
                out = _add_copy(container, stream)
                self._ways[route.index] = _Mover(stream, out)
            out.metadata.update(
                {k: v for k, v in stream.metadata.items() if k in ("language", "title", "handler_name")}
            )
            with suppress(AttributeError, TypeError):
                out.disposition = stream.disposition
        if self._ways:
            self._packets = self._timeline.packets(self._source, [way.source for way in self._ways.values()])

    def copy_until(
        self,
        container: Any,
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
            last: nothing is asked for after this.
        """
        converted = [way for way in self._ways.values() if isinstance(way, _Pcm)]
        stop = None if end is None else end + shift
        while (packet := self._next()) is not None:
            way = self._ways[packet.stream_index]
            time = _time(packet, way.source)
            if time is not None and end is not None and time >= end:
                self._held = packet
                break
            early = _PREROLL if isinstance(way, _Pcm) else _delay(way.source)
            if time is not None and start is not None and time + early < start:
                continue
            if isinstance(way, _Pcm):
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
            self._tell()

    def _write(self, container: Any, path: Path, packets: Iterable[Any]) -> None:
        for packet in packets:
            with writing(path):
                container.mux(packet)

    def _next(self) -> Any:
        held, self._held = self._held, None
        if held is not None:
            return held
        try:
            for packet in self._packets:
                if packet.size:  # the demuxer ends with an empty one
                    return packet
        except _FAILURES as error:
            self.notes.append(f"the sound of {self._path.name} cannot be read to its end ({reason(error)})")
        self._packets = iter(())
        return None

    def _tell(self) -> None:
        for way in self._ways.values():
            if not way.count:
                self.notes.append(f"nothing is there to be heard of {describe_audio(way.source)}")
            if isinstance(way, _Pcm) and way.broken:
                some = f"{way.broken} packets" if way.broken > 1 else "1 packet"
                self.notes.append(f"{some} of {describe_audio(way.source)} cannot be decoded: silence stands there")

    def close(self) -> None:
        self._packets = iter(())
        self._source.close()
