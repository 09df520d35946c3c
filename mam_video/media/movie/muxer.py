"""Open a movie for writing: the container, its picture stream, and all that stands in their headers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from mam_video.core.errors import MediaError
from mam_video.core.timecode import Timecode
from mam_video.media import pixel_formats
from mam_video.media.base import ClipInfo, Colour
from mam_video.media.ffmpeg_compat import url
from mam_video.media.movie.audio import AudioCopy
from mam_video.media.movie.codecs import MovieCodec
from mam_video.media.movie.output_clock import MOV_SUFFIXES
from mam_video.runtime.os_errors import reason


@dataclass(frozen=True, slots=True)
class MovieHeader:
    """What the headers of a movie say.

    size    (H, W) as coded
    unit    seconds a tick
    aspect  width of a pixel over its height
    """

    codec: MovieCodec
    info: ClipInfo
    size: tuple[int, int]
    unit: Fraction
    aspect: Fraction


def open_container(
    path: Path, partial: Path, header: MovieHeader, sound: AudioCopy | None
) -> tuple[OutputContainer, VideoStream]:
    """Open `partial` for writing, as a movie of the kind that the final name `path` says.

    Raises: MediaError, FFmpeg knows no such container or codec; OSError or av.FFmpegError.
    """
    codec, unit = header.codec, str(header.unit.denominator)
    options: dict[str, str] = {}
    if path.suffix.lower() in MOV_SUFFIXES:
        whole = unit if sound is None else str(sound.ticks_of(header.unit.denominator))
        options = {"video_track_timescale": unit, "movie_timescale": whole, "movflags": "+write_colr"}
        if codec.codec == "libx264":
            options["movflags"] += "+faststart"
    try:
        form = "mp4" if path.suffix.lower() == ".m4v" else None  # FFmpeg's own choice there knows no timecode
        container = av.open(url(partial), "w", format=form, options=options)
    except ValueError as error:
        raise MediaError(f"{path}: cannot be written ({reason(error)})") from error
    try:
        stream = _add_pictures(path, container, header)
        if sound is not None:
            sound.add_to(container)
        container.start_encoding()
    except BaseException:
        with suppress(Exception):  # another error is on its way
            container.close()
        raise
    return container, stream


def _add_pictures(path: Path, container: OutputContainer, header: MovieHeader) -> VideoStream:
    codec, info = header.codec, header.info
    try:
        stream = container.add_stream(codec.codec, rate=info.rate)
    except ValueError as error:
        raise MediaError(f"{path}: cannot be written ({reason(error)})") from error
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    set_up(context, header)
    stream.time_base = header.unit
    context.thread_type = "AUTO"
    context.thread_count = 0
    if codec.pixel_format == "yuva420p":
        stream.metadata["alpha_mode"] = "1"
    if info.timecode is not None:
        stream.metadata["timecode"] = str(_writable(info.timecode, info.rate))
    if info.reel:
        stream.metadata["reel_name"] = info.reel
    if info.created:
        container.metadata["creation_time"] = info.created
    return stream


def set_up(context: VideoCodecContext, header: MovieHeader) -> None:
    """Give an encoder all that decides its bits."""
    codec = header.codec
    context.height, context.width = header.size
    context.pix_fmt = codec.pixel_format
    context.time_base = header.unit
    context.sample_aspect_ratio = header.aspect
    context.color_range, context.colorspace, context.color_primaries, context.color_trc = tag_numbers(codec.colour)
    context.options.update(codec.options)
    if "420" in codec.pixel_format:
        context.options["chroma_sample_location"] = "left"  # as `pixel_formats.yuv420` makes it


def _writable(timecode: Timecode, rate: Fraction) -> Timecode:
    """Return the label that FFmpeg can write: drop-frame only at 30000/1001 and its multiples, else without."""
    if timecode.drop and rate.denominator != 1001:
        return Timecode.parse(str(timecode), timecode.rate, False)
    return timecode


def tag_numbers(tags: Colour) -> tuple[int, int, int, int]:
    """Return range, matrix, primaries and transfer as FFmpeg counts them."""
    return (
        pixel_formats.number(tags.range, pixel_formats.RANGES),
        pixel_formats.number(tags.matrix, pixel_formats.MATRICES),
        pixel_formats.number(tags.primaries, pixel_formats.PRIMARIES),
        pixel_formats.number(tags.transfer, pixel_formats.TRANSFERS),
    )
