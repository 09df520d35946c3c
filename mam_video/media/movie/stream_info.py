"""Describe a movie: rate, size, timecode, colour tags, notes for the user."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from mam_video.core.errors import MediaError, MissingFileError, UsageError
from mam_video.core.settings import InputSettings
from mam_video.core.timecode import MOST_RATE, Timecode, nominal_rate
from mam_video.media import pixel_formats
from mam_video.media.base import ClipInfo
from mam_video.media.ffmpeg_compat import fraction, url
from mam_video.media.light import light_of
from mam_video.media.movie import quicktime_timecode
from mam_video.media.movie.audio_plan import describe_audio
from mam_video.media.movie.container_layout import lacks_index
from mam_video.media.movie.rates import meant_rate
from mam_video.media.movie.timeline import Timeline
from mam_video.media.transfers import PRIMARIES
from mam_video.runtime.cores import codec_threads
from mam_video.runtime.os_errors import reason


@dataclass(frozen=True, slots=True)
class _Upright:
    """How the stored picture is turned (and mirrored) to stand as displayed. Source: the container's display matrix."""

    quarter_turns: int = 0  # counter-clockwise
    mirrored: bool = False  # left to right, before the turn

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Of (H, W, 3) or (H, W), any type."""
        if self.mirrored:
            rgb = cv2.flip(rgb, 1)
        if self.quarter_turns:
            turn = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)[self.quarter_turns - 1]
            rgb = cv2.rotate(rgb, turn)
        return rgb


def upright_picture(frame: av.VideoFrame) -> _Upright:
    """Read the display matrix: a b / c d of (x', y') = (a x + c y, b x + d y), y downwards, 16.16 fixed point."""
    sides: Any = frame.side_data
    data = next((bytes(sides[i]) for i in range(len(sides)) if sides[i].type.name == "DISPLAYMATRIX"), None)
    if data is None or len(data) < 36:
        return _Upright()
    a, b, _, c, d = np.frombuffer(data, "<i4" if np.little_endian else ">i4")[:5].astype(float)
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    if a == b == 0:
        return _Upright()
    turns = round(np.degrees(np.arctan2(-b, a)) / 90) % 4  # y points down, so a turn towards -y is counter-clockwise
    return _Upright(turns, bool(mirrored))


class OpenedStream:
    """An open container and its video stream, closed at the end."""

    def __init__(self, path: Path) -> None:
        if not path.exists() and "%" not in path.name:
            raise MissingFileError(f"{path}: no such file")
        if path.is_dir():
            raise MediaError(f"{path}: is a folder, not a clip; for a sequence give its pattern, as name.%04d.png")
        if path.exists() and not path.is_file():
            raise MediaError(f"{path}: is a pipe or a device, and a clip is read more than once; give a file")
        if path.is_file() and path.stat().st_size == 0:
            raise MediaError(f"{path}: the file is empty")
        try:
            self._container = av.open(str(path) if "%" in path.name else url(path), "r")
        except (av.FFmpegError, OSError, ValueError) as error:
            if path.is_file() and lacks_index(path):
                raise MediaError(
                    f"{path}: not a video that can be read: its index (moov) is missing, since the recording was not "
                    "finished or is cut off; get a whole copy"
                ) from error
            raise MediaError(f"{path}: not a video that can be read ({reason(error)}); try `ffprobe` on it") from error
        try:
            self._stream = _video_stream(path, self._container)
            self._stream.thread_type = "AUTO"
            self._stream.codec_context.thread_count = codec_threads()
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> tuple[InputContainer, VideoStream]:
        return self._container, self._stream

    def __exit__(self, *_: object) -> None:
        self._container.close()


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    """Choose the best video stream that is not a cover picture."""
    movies = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not movies:
        what = "only sound" if container.streams.audio else "no video stream"
        raise MediaError(f"{path}: holds {what}; a clip with pictures is needed")
    best = container.streams.best("video")
    stream = next((s for s in movies if best is not None and s.index == best.index), movies[0])
    if stream.frames == 1:  # AVIF has its first picture beside the animation
        stream = max(movies, key=lambda each: int(each.frames))
    if stream.codec_context is None:
        raise MediaError(f"{path}: this FFmpeg has no decoder for its video; convert the clip first")
    return stream


# Decoders that always say where chroma sits, be it the default of their standard.
_SAY_THEIR_SITING: Final = frozenset({
    "h261", "h263", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "theora", "vp3", "vvc",
})  # fmt: skip


def chroma_siting(stream: VideoStream, first: av.VideoFrame) -> str:
    """Return where chroma sits, by the tag, else by MPEG-2's rule: left; "" where it is not subsampled.

    The pixels of `first` are lost by this, and its side data must not be looked at any more.
    """
    pixel_format = first.format
    if pixel_format.is_rgb or (pixel_format.chroma_width(16), pixel_format.chroma_height(16)) in ((16, 16), (0, 0)):
        return ""
    if len(pixel_format.components) < 3:
        return ""
    sits = pixel_formats.siting_of(first)
    if sits == "center" and stream.codec_context.codec.canonical_name not in _SAY_THEIR_SITING:
        return "center" if _tagged_center(stream) else "left"
    return sits


def _tagged_center(stream: VideoStream) -> bool:
    """Return whether the stream has a siting tag at all. It is seen in the header that Matroska would get of it."""
    memory = BytesIO()
    try:
        with av.open(memory, "w", format="matroska") as container:
            container.add_stream_from_template(stream)
            container.start_encoding()
            header = memory.getvalue()
    except (av.FFmpegError, ValueError):
        return False
    return b"\x55\xb7\x81\x02" in header  # ChromaSitingHorz: half


def describe_stream(
    path: Path, container: InputContainer, stream: VideoStream, first: av.VideoFrame, timeline: Timeline
) -> tuple[ClipInfo, pixel_formats.Decoding, _Upright]:
    turn = upright_picture(first)
    codec = stream.codec_context.name
    tags = pixel_formats.colour_of(first, codec)
    aspect = fraction(stream.sample_aspect_ratio) or Fraction(1)
    height, width = first.height, first.width
    if turn.quarter_turns % 2:
        height, width, aspect = width, height, 1 / aspect
    rate = fraction(stream.average_rate) or fraction(stream.guessed_rate) or fraction(stream.base_rate) or Fraction(25)
    rate = meant_rate(path, container, stream, rate, timeline)
    timecode, reel = frame_labels(path, container, stream, rate)
    light = light_of(first)
    siting = chroma_siting(stream, first)  # the last look at this frame
    info = ClipInfo(
        codec=stream.codec_context.codec.canonical_name,
        path=path,
        width=width,
        height=height,
        rate=rate,
        time_base=fraction(stream.time_base) or 1 / rate,
        frames_in_header=stream.frames or None,
        pixel_format=first.format.name,
        bits=max(component.bits for component in first.format.components),
        rotation=90 * turn.quarter_turns,
        sample_aspect=aspect,
        colour=tags,
        timecode=timecode,
        reel=reel,
        created=tag_of("creation_time", container, stream),
        sound=tuple(describe_audio(each) for each in container.streams.audio),
        interlaced=bool(first.interlaced_frame),
        chromaticities=PRIMARIES.get(tags.primaries),
        siting=siting,
        light=light,
        timeline=timeline,
    )
    return info, pixel_formats.Decoding(tags.matrix, tags.range == "pc", siting or "left"), turn


def frame_labels(
    path: Path, container: InputContainer, stream: VideoStream, rate: Fraction
) -> tuple[Timecode | None, str]:
    """Return the first frame's timecode, counted at the picture's own whole rate, and the reel's name.

    QuickTime's timecode track is read as stored; elsewhere a tag of a stream or of the file says it.
    """
    whole_rate = nominal_rate(rate)
    if whole_rate > MOST_RATE:
        return None, ""
    others = [each for each in container.streams if each.type == "data"]
    reel = tag_of("reel_name", stream, *others, container)
    stored = (
        quicktime_timecode.read_track(path) if "mov" in container.format.name.split(",") and path.is_file() else None
    )
    if stored is not None:
        return stored[0].at_rate(whole_rate), stored[1] or reel
    text = tag_of("timecode", stream, *others, container)
    for drop in (None, False):
        with suppress(UsageError):
            return Timecode.parse(text, whole_rate, drop), reel
    return None, reel


def tag_of(name: str, *holders: InputContainer | Stream) -> str:
    """Return the first of these streams' or files' tags of this name, whatever its case; "" where there is none."""
    for holder in holders:
        for key, value in holder.metadata.items():
            if key.lower() == name and value.strip():
                return str(value).strip()
    return ""


def stream_notes(info: ClipInfo, settings: InputSettings, fewer: tuple[int, int] | None) -> tuple[str, ...]:
    notes = info.timeline.message()
    if fewer is not None:
        shown, counted = fewer
        notes.append(
            f"{shown} frames are shown where the header counts {counted}: an edit list leaves the others out, or the "
            "index is damaged"
        )
    if info.interlaced and not settings.deinterlace:
        notes.append("the clip is interlaced: edges that move are combs, and mattes follow them; see --deinterlace")
    return tuple(notes)
