"""Decide what a container gets of a source's sound: each stream copied, decoded to linear PCM, or left out.

What a container can hold is found by trying: the header and the first packets are written into memory and read back.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from mam_video.media.ffmpeg_compat import url
from mam_video.media.movie.packet_mover import PacketMover, codec_of

Audio = Literal["copy", "pcm", "none"]

BLOCK: Final = 2048  # samples in a packet of PCM
FAILURES: Final = (av.FFmpegError, OSError, ValueError, NotImplementedError)
FORMATS: Final = {".mov": "mov", ".mp4": "mp4", ".m4v": "mp4", ".mkv": "matroska", ".webm": "webm"}
_TRIED_PACKETS: Final = 8  # of each stream, in a trial
_TRIED_BYTES: Final = 256 << 20  # a trial reads no further than this for a stream that begins late
_SAME: Final = {"mp2": "mp3", "mp1": "mp3"}  # MP4 has one number for all of MPEG audio; readers decode any
_NAMES: Final = {"mov": "MOV", "mp4": "MP4", "matroska": "Matroska", "webm": "WebM"}
_24_BITS: Final = ("pcm_s24", "pcm_bluray", "pcm_dvd", "truehd", "mlp", "dts", "wmalossless")


def describe_audio(stream: AudioStream) -> str:
    """Describe an audio stream in a line: codec, rate, channels, language."""
    if not codec_of(stream):
        return "unknown codec"
    context = stream.codec_context
    parts = [codec_of(stream), f"{context.sample_rate} Hz", str(context.layout.name)]
    language = stream.metadata.get("language", "und")
    return ", ".join(parts + ([language] if language != "und" else []))


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
    form = FORMATS.get(output.suffix.lower())
    if form is None or audio == "none" or not source.is_file():
        return []
    try:
        routes = plan_sound(source, form, audio)
    except FAILURES:
        return []  # the writer tells it
    return [f"{output.name}: {route.note}" for route in routes if route.note]


def audio_stream(container: InputContainer, index: int) -> AudioStream:
    """Return an audio stream of a container by its index."""
    stream = container.streams[index]
    assert isinstance(stream, AudioStream)
    return stream


def _route(source: Path, number: int, stream: AudioStream, form: str, audio: Audio) -> Route:
    described = f"stream {number}, {describe_audio(stream)}"
    codec, name = codec_of(stream), _NAMES.get(form, form)
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


def _pcm_codec(stream: AudioStream) -> str:
    """Return linear PCM that holds all that the stream's decoder gives; "" where there is no decoder.

    Whole numbers keep their depth. Of lossy codecs the decoder's float is rounded to 24 bits; float PCM stays float.
    """
    context, codec = stream.codec_context, codec_of(stream)
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


def _depth(stream: AudioStream) -> int:
    """Bits of a sample that the decoder gives as 32; 32 where it is not known."""
    codec, extra = codec_of(stream), bytes(stream.codec_context.extradata or b"")
    if codec.startswith(_24_BITS):
        return 24
    if codec == "flac" and len(extra) >= 34:  # STREAMINFO: 5 bits of depth - 1 after rate and channels
        info = extra[8:] if extra[:4] == b"fLaC" else extra
        return ((info[12] & 1) << 4 | info[13] >> 4) + 1
    if codec == "alac" and len(extra) >= 24:  # magic cookie, the last 24 bytes: frame length, version, depth
        return extra[-24:][5] or 32
    return 32


def _holds_copy(source: Path, stream: AudioStream, form: str) -> bool:
    """Whether a container keeps this stream as it is: write its first packets into memory, and read them back."""
    if stream.codec_context is None or not _players_read(form, codec_of(stream)):
        return False
    buffer = io.BytesIO()
    try:
        with av.open(url(source), "r") as reading, av.open(buffer, "w", format=form) as container:
            found = audio_stream(reading, stream.index)
            copy = add_copy(container, found)
            container.start_encoding()
            mover = PacketMover(found, copy)
            for packet in _first_packets(reading, found):
                mover.move(packet, Fraction(0))
                container.mux(packet)
        return mover.count == 0 or _reads(buffer, stream, codec_of(stream))
    except FAILURES:
        return False


def _first_packets(container: InputContainer, stream: AudioStream) -> Iterator[Packet[Stream]]:
    count = size = 0
    for packet in container.demux():
        size += packet.size
        if packet.size and packet.stream_index == stream.index:
            yield packet
            count += 1
        if count == _TRIED_PACKETS or size > _TRIED_BYTES:
            return


def _holds_pcm(form: str, stream: AudioStream, codec: str) -> bool:
    """Return whether a container holds PCM of this rate and layout, likewise."""
    if not _players_read(form, codec):
        return False
    buffer = io.BytesIO()
    context = stream.codec_context
    try:
        with av.open(buffer, "w", format=form) as container:
            out = add_pcm(container, stream, codec)
            container.start_encoding()
            silence = bytes(BLOCK * context.layout.nb_channels * bytes_a_sample(codec))
            container.mux(pcm_packet(silence, 0, BLOCK, context.sample_rate, out))
        return _reads(buffer, stream, codec)
    except FAILURES:
        return False


def _players_read(form: str, codec: str) -> bool:
    """Return whether players read in a container what FFmpeg would write there.

    PCM in MP4 is young (ISO/IEC 23003-5): readers older than it take it all for 16 bits, so that 24 are noise.
    """
    return form != "mp4" or not codec.startswith("pcm_") or codec == "pcm_s16le"


def _reads(buffer: io.BytesIO, stream: AudioStream, codec: str) -> bool:
    """Whether a reader finds the one stream in what was written, of this codec, with the stream's rate and channels."""
    buffer.seek(0)
    with av.open(buffer, "r") as container:
        if len(container.streams.audio) != 1:
            return False
        found = container.streams.audio[0]
        if _SAME.get(codec_of(found), codec_of(found)) != _SAME.get(codec, codec):
            return False
        there, meant = found.codec_context, stream.codec_context
        return bool(there.sample_rate == meant.sample_rate and there.layout.nb_channels == meant.layout.nb_channels)


def add_copy(container: OutputContainer, stream: AudioStream) -> AudioStream:
    out = container.add_stream_from_template(stream)
    if codec_of(stream).startswith("pcm_"):  # nothing in the packets says the layout
        out.codec_context.layout = _layout(stream)
    return out


def _layout(stream: AudioStream) -> AudioLayout | str:
    """Return the stream's channels; one or two that it has no names for are mono or stereo."""
    layout = stream.codec_context.layout
    known = not str(layout.name).endswith("channels")
    return layout if known or layout.nb_channels > 2 else ("mono", "stereo")[layout.nb_channels - 1]


def add_pcm(container: OutputContainer, stream: AudioStream, codec: str) -> AudioStream:
    out = container.add_stream(codec, rate=stream.codec_context.sample_rate)
    assert isinstance(out, AudioStream)
    out.codec_context.layout = _layout(stream)
    out.time_base = Fraction(1, stream.codec_context.sample_rate)
    return out


def pcm_packet(data: bytes, start: int, count: int, rate: int, stream: AudioStream) -> Packet[Any]:
    packet = av.Packet(data)
    packet.time_base = Fraction(1, rate)
    packet.pts = packet.dts = start
    packet.duration = count
    packet.is_keyframe = True
    packet.stream = stream
    return packet


def bytes_a_sample(codec: str) -> int:
    return int(codec.removesuffix("le")[-2:]) // 8
