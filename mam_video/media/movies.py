"""Movies through PyAV: a reader for all that FFmpeg decodes, and a writer for ProRes, FFV1, VP9 and H.264.

Time is ticks of an exact time base from the reader to the writer. Pixels are converted by `colour.py`. Beside the
pictures travel timecode (`tmcd.py`), sound (`sound.py`), colour tags, sample aspect, reel and time of creation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import av
import av.container
import av.video.stream
import cv2
import numpy as np
from av.stream import Disposition

from mam_video.closing import Closes, TwoSteps
from mam_video.errors import MediaError, UsageError
from mam_video.frames import Frame, Matted
from mam_video.media import colour, tmcd
from mam_video.media.backdrop import Backdrop
from mam_video.media.base import ClipInfo, Colour
from mam_video.media.edge import fraction, reason, ticks, url, writing
from mam_video.media.integrity import cut_off, hidden, promised_end
from mam_video.media.kept import PacketLog
from mam_video.media.outputs import FileOutput
from mam_video.media.pace import Pace, at_rate
from mam_video.media.places import Places, Strayed
from mam_video.media.repair import Shown, deinterlaced, mended, whole
from mam_video.media.sound import SoundCopy, describe_sound
from mam_video.settings import InputSettings, OutputSettings, parse_rate
from mam_video.streams import ordered_map
from mam_video.timecode import MOST_RATE, Timecode, nominal_rate

CONVERSIONS_AHEAD: Final = 2  # pictures converted to RGB at a time while the decoder goes on

END_SLACK: Final = 4  # frames by which a clip may end before its header says, since writers count durations differently


@dataclass(frozen=True, slots=True)
class _Decoded:
    """One frame as the decoder gave it, with the time that it will keep."""

    index: int
    pts: int
    picture: av.VideoFrame = field(repr=False)


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


def _upright(frame: av.VideoFrame) -> _Upright:
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


class MovieReader(Closes):
    """Frames of one movie, in display order, upright, as 16-bit RGB. See `Reader` for the promises.

    Timestamps are the source's own, in its stream's time base. A frame without one gets its packet's decoding time
    if that fits, else the previous frame's plus one frame's duration; one that does not come after the previous
    frame's is moved to one tick behind it, so that times always grow.

    broken   indices of frames that could not be decoded, as far as frames() has come; the frame before stands in for
             each. Empty unless `on_error` is "repeat".
    decoded  how many frames were decoded so far, over all passes
    """

    def __init__(self, path: Path, settings: InputSettings | None = None) -> None:
        """Open and decode the first frame, which says what the header may leave open.

        Raises: MediaError, in one line, for a missing file, a folder, not a video, no video stream, a cut-off file.
        """
        self.path = path
        self.broken: list[int] = []
        self._settings = settings or InputSettings()
        self._closed = False
        self._places: Places | None = None
        self.decoded = 0  # frames in all, by every pass
        with self._container() as (container, stream):
            if short := cut_off(path, container, stream):
                raise MediaError(f"{path}: {short}; get a whole copy, or save what is there: ffmpeg -i IN -c copy OUT")
            first = self._first_frame(container, stream)
            info, self._decoding, self._turn = _describe(path, container, stream, first)
            self.info = replace(info, notes=_notes(info, self._settings, hidden(container, stream)))
        self._stored = (first.height, first.width)
        step = 1 / (self.info.rate * self.info.time_base)
        self._step = max(1, round(step))

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames start <= index < stop; see `Reader.frames`.

        Raises: MediaError where a frame cannot be decoded or the file ends before its time, naming the frame.
        """
        if self._closed:
            raise ValueError("frames() of a closed reader")
        return ordered_map(self._convert, self._decoded(start, stop), CONVERSIONS_AHEAD)

    def go_back_later(self) -> None:
        # Where broken frames are repeated or fields are mended, a frame depends on those before it.
        if self._places is None and self._settings.on_error == "stop" and not self._settings.deinterlace:
            self._places = Places()

    def alphas(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """The alpha of frames start <= index < stop, upright, (H, W) float32 in [0, 1].

        It is the clip's own where it has one (WebM's side channel too), else the grey value: that of a matte alone.
        Raises: MediaError as `frames` does, and where this FFmpeg cannot read the alpha that the clip has.
        """
        if self._closed:
            raise ValueError("alphas() of a closed reader")
        return ordered_map(self._alpha, self._decoded(start, stop, with_alpha=True), CONVERSIONS_AHEAD)

    def close(self) -> None:
        self._closed = True

    def _alpha(self, decoded: _Decoded) -> np.ndarray:
        alpha = colour.alpha_of(decoded.picture)
        if alpha is None:
            alpha = colour.grey_of(self._decoding(decoded.picture))
        return self._turn(alpha)

    def _convert(self, decoded: _Decoded) -> Frame:
        rgb = self._turn(self._decoding(decoded.picture))
        start = self.info.timecode
        label = None if start is None else str(start + decoded.index)
        return Frame(decoded.index, decoded.pts, self.info.time_base, rgb, timecode=label)

    def _decoded(self, start: int, stop: int | None, *, with_alpha: bool = False) -> Iterator[_Decoded]:
        if stop is not None and stop <= start:
            return
        if not with_alpha and stop is not None and self._places is not None and stop <= len(self._places):
            try:
                for decoded in self._entered(start, stop, self._places):
                    yield decoded
                    start = decoded.index + 1
            except Strayed:
                self._places = None
        if stop is not None and stop <= start:
            return
        frames = self._all(with_alpha)
        if self._settings.deinterlace:
            frames = deinterlaced(frames, lambda d: d.picture, lambda d, picture: replace(d, picture=picture))
        for decoded in frames:
            if decoded.index >= start:
                yield decoded
            if stop is not None and decoded.index + 1 >= stop:
                return

    def _entered(self, start: int, stop: int, places: Places) -> Iterator[_Decoded]:
        """Frames start <= index < stop from the nearest place before them; none where that is the movie's start.

        Each was compared with what is known of it. Raises: Strayed, something is not as it was.
        """
        entry = places.before(start)
        if entry is None:
            return
        index = entry
        with self._container() as (container, stream):
            try:
                container.seek(places.time(entry), stream=stream, backward=True, any_frame=False)
                for picture in container.decode(stream):
                    self.decoded += 1
                    if index == entry and picture.pts is not None and picture.pts < places.time(entry):
                        continue  # leading pictures, or a seek that led too far back
                    places.check(index, picture)
                    if index >= start:
                        yield _Decoded(index, places.time(index), picture)
                    index += 1
                    if index >= stop:
                        return
            except (av.FFmpegError, OSError, ValueError) as error:
                raise Strayed from error
        raise Strayed

    def _all(self, with_alpha: bool) -> Iterator[_Decoded]:
        """Every frame from the first. Where a frame is broken: an error, or the picture before it once more."""
        index, pts = 0, None
        last: av.VideoFrame | None = None
        repeat = self._settings.on_error == "repeat"
        places = None if with_alpha else self._places
        self.broken.clear()
        with self._container() as (container, stream):
            promised = promised_end(container, stream)
            try:
                shown = _shown(self.path, container, stream, with_alpha, repeat)
                for picture, due in shown:
                    if picture is None or (picture.is_corrupt and not repeat):
                        if not repeat or last is None:
                            raise self._broken(index, "its data is incomplete")
                        self.broken.append(index)
                        assert pts is not None
                        pts = pts + self._step if due is None else max(due, pts + 1)
                        yield _Decoded(index, pts, last)
                        index += 1
                        continue
                    if (picture.height, picture.width) != self._stored:
                        raise MediaError(
                            f"{self.path}: frame {index} is {picture.width}x{picture.height}, those before it "
                            f"{self._stored[1]}x{self._stored[0]}; split the clip where its size changes"
                        )
                    pts = self._time(picture, pts)
                    self.decoded += 1
                    if places is not None:
                        places.see(index, pts, picture)
                    last = picture if repeat else None
                    yield _Decoded(index, pts, picture)
                    index += 1
            except (av.FFmpegError, OSError, ValueError) as error:
                raise self._broken(index, reason(error)) from error
        if pts is None:
            raise MediaError(f"{self.path}: holds no frame that can be decoded")
        slack = 1 if container.format.name == "avi" else END_SLACK  # AVI counts frames, the others seconds
        end = (pts + slack * self._step) * self.info.time_base
        if promised is not None and end < promised:
            raise self._broken(index, f"the clip should go on to {float(promised):.3f} s but ends here")

    def _time(self, picture: av.VideoFrame, previous: int | None) -> int:
        own = ticks(picture.pts)
        if own is None:
            own = ticks(picture.dts)
            if own is None or (previous is not None and own <= previous):
                own = 0 if previous is None else previous + self._step
        return own if previous is None else max(own, previous + 1)

    def _broken(self, index: int, why: str) -> MediaError:
        readable = f"frames 0 to {index - 1} can" if index > 1 else "frame 0 can" if index else "no frame can"
        return MediaError(
            f"{self.path}: frame {index} cannot be read ({why}), {readable}; the file is damaged or cut off there "
            "(--on-error repeat goes on where single frames are damaged)"
        )

    def _first_frame(self, container: Any, stream: Any) -> av.VideoFrame:
        try:
            for frame in container.decode(stream):
                return frame
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._broken(0, reason(error)) from error
        raise MediaError(f"{self.path}: holds no frame that can be decoded; the file is empty or cut off")

    def _container(self) -> _Opened:
        return _Opened(self.path)


class _Opened:
    """An open container and its video stream, closed at the end."""

    def __init__(self, path: Path) -> None:
        if not path.exists() and "%" not in path.name:
            raise MediaError(f"{path}: no such file")
        if path.is_dir():
            raise MediaError(f"{path}: is a folder, not a clip; for a sequence give its pattern, as name.%04d.png")
        if path.exists() and not path.is_file():
            raise MediaError(f"{path}: is a pipe or a device, and a clip is read more than once; give a file")
        if path.is_file() and path.stat().st_size == 0:
            raise MediaError(f"{path}: the file is empty")
        try:
            self._container = av.open(str(path) if "%" in path.name else url(path), "r")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{path}: not a video that can be read ({reason(error)}); try `ffprobe` on it") from error
        try:
            self._stream = _video_stream(path, self._container)
            self._stream.thread_type = "AUTO"
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> tuple[Any, Any]:
        return self._container, self._stream

    def __exit__(self, *_: object) -> None:
        self._container.close()


def _shown(path: Path, container: Any, stream: Any, with_alpha: bool, repeat: bool) -> Iterator[Shown]:
    """The stream's frames in display order. FFmpeg's own VP8 and VP9 decoders leave out the alpha that WebM carries
    beside the picture; libvpx's read it."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.codec.canonical_name)
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if not with_alpha or name is None or tags.get("alpha_mode") != "1":
        yield from (mended if repeat else whole)(container, stream)
        return
    try:
        decoder: Any = av.CodecContext.create(name, "r")
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"{path}: this FFmpeg lacks {name}, which reads its alpha; convert the clip first") from error
    if stream.codec_context.extradata:
        decoder.extradata = stream.codec_context.extradata
    for packet in container.demux(stream):
        for picture in decoder.decode(packet if packet.size else None):
            yield Shown(picture, ticks(picture.pts))


def _video_stream(path: Path, container: Any) -> Any:
    """The best video stream that is not a cover picture."""
    movies = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not movies:
        what = "only sound" if container.streams.audio else "no video stream"
        raise MediaError(f"{path}: holds {what}; a clip with pictures is needed")
    best = container.streams.best("video")
    stream = best if best is not None and best.index in (s.index for s in movies) else movies[0]
    if stream.codec_context is None:
        raise MediaError(f"{path}: this FFmpeg has no decoder for its video; convert the clip first")
    return stream


def _describe(
    path: Path, container: Any, stream: Any, first: av.VideoFrame
) -> tuple[ClipInfo, colour.Decoding, _Upright]:
    turn = _upright(first)
    codec = stream.codec_context.name
    tags = colour.colour_of(first, codec)
    aspect = fraction(stream.sample_aspect_ratio) or Fraction(1)
    height, width = first.height, first.width
    if turn.quarter_turns % 2:
        height, width, aspect = width, height, 1 / aspect
    rate = fraction(stream.average_rate) or fraction(stream.guessed_rate) or fraction(stream.base_rate) or Fraction(25)
    timecode, reel = _labels(path, container, stream, rate)
    info = ClipInfo(
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
        has_alpha=colour.pixel_format_has_alpha(first.format),
        timecode=timecode,
        reel=reel,
        created=_tag("creation_time", container, stream),
        sound=tuple(describe_sound(each) for each in container.streams.audio),
        interlaced=bool(first.interlaced_frame),
    )
    return info, colour.Decoding(tags.matrix, tags.range == "pc", centred=codec == "mjpeg"), turn


def _labels(path: Path, container: Any, stream: Any, rate: Fraction) -> tuple[Timecode | None, str]:
    """The first frame's timecode, counted at the picture's own whole rate, and the reel's name.

    QuickTime's timecode track is read as stored; elsewhere a tag of a stream or of the file says it.
    """
    whole_rate = nominal_rate(rate)
    if whole_rate > MOST_RATE:
        return None, ""
    others = [each for each in container.streams if each.type == "data"]
    reel = _tag("reel_name", stream, *others, container)
    stored = tmcd.read_track(path) if "mov" in container.format.name.split(",") and path.is_file() else None
    if stored is not None:
        return stored[0].at_rate(whole_rate), stored[1] or reel
    text = _tag("timecode", stream, *others, container)
    for drop in (None, False):
        with suppress(UsageError):
            return Timecode.parse(text, whole_rate, drop), reel
    return None, reel


def _tag(name: str, *holders: Any) -> str:
    """The first of these streams' or files' tags of this name, whatever its case; "" where there is none."""
    for holder in holders:
        for key, value in holder.metadata.items():
            if key.lower() == name and value.strip():
                return str(value).strip()
    return ""


def _notes(info: ClipInfo, settings: InputSettings, fewer: tuple[int, int] | None) -> tuple[str, ...]:
    notes = []
    if fewer is not None:
        shown, counted = fewer
        notes.append(
            f"{shown} frames are shown where the header counts {counted}: an edit list leaves the others out, or the "
            "index is damaged"
        )
    if info.interlaced and not settings.deinterlace:
        notes.append("the clip is interlaced: edges that move are combs, and mattes follow them; see --deinterlace")
    return tuple(notes)


Content = Literal["rgba", "alpha", "preview"]


class Picture(Protocol):
    """What a movie kind makes of a matted frame: planes in its pixel format. Pure, so that threads can share it."""

    codec: str
    pixel_format: str
    options: dict[str, str]
    colour: Colour
    stands_alone: bool  # whether no picture needs another one, so that files can be joined at any frame
    shows_alpha: bool  # whether the matte can be read from it: its alpha, or its gray
    for_eyes: bool  # whether it is given display-referred pixels always, and not the codes of a log plate
    backdrop: Backdrop | None  # what the pictures are laid over

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) as coded."""
        ...

    def planes(self, rgb: np.ndarray, alpha: np.ndarray, index: int) -> list[np.ndarray]:
        """Of (H, W, 3) uint16, (H, W) float32 and the frame's index: an array for every plane, in the codec's codes."""
        ...


class _Same:
    stands_alone = True
    shows_alpha = True
    for_eyes = False
    backdrop: Backdrop | None = None

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height, width


class ProResPicture(_Same):
    """ProRes 4444: limited-range YUV 4:4:4 of 10 bits, and alpha of 10 bits in that profile's 16-bit coding.

    The planes are made here and not by swscale, which truncates alpha (80/65535 off after reading back; rounding
    leaves 44). Quality is a constant quantiser of 1: within 4/1023 of the YUV given, in half the time of the encoder's
    search for a bit rate, whatever the picture. The alpha kind has the matte in R = G = B.
    """

    codec = "prores_ks"
    profile = "4444"
    table = "auto"  # the profile's own

    def __init__(self, content: Content, source: Colour, height: int, width: int) -> None:
        self._alpha_only = content == "alpha"
        self.pixel_format = "yuv444p10le" if self._alpha_only else "yuva444p10le"
        self.options = {
            "profile": self.profile, "quant_mat": self.table, "flags": "+qscale", "global_quality": "118",
        }  # fmt: skip
        if not self._alpha_only:
            self.options["alpha_bits"] = "16"
        self.colour = replace(source, range="tv", matrix=colour.writable_matrix(source, height, width))

    def planes(self, rgb: np.ndarray, alpha: np.ndarray, index: int) -> list[np.ndarray]:
        if self._alpha_only:
            neutral = np.full(alpha.shape, 512, np.uint16)
            luma = np.rint(np.clip(alpha, 0, 1) * np.float32(876) + np.float32(64)).astype(np.uint16)
            return [luma, neutral, neutral]
        return [*colour.yuv444(rgb, self.colour.matrix, 10), colour.alpha_codes(alpha, 10)]


class ProResXqPicture(ProResPicture):
    """ProRes 4444 XQ: the same planes with the finest table that FFmpeg's encoder has, four for every frequency.

    4444 has it but for the highest frequencies, so that XQ is hardly larger here, and hardly nearer. It is for places
    that ask for this profile. (FFmpeg's other encoder has a finer table but keeps to a bit rate: 3 times the error.)
    """

    profile = "4444xq"
    table = "default"


class Ffv1Picture(_Same):
    """FFV1, lossless: RGB and alpha of 16 bits each, or alpha alone as gray of 16 bits."""

    codec = "ffv1"

    def __init__(self, content: Content, source: Colour, height: int, width: int) -> None:
        self._alpha_only = content == "alpha"
        self.pixel_format = "gray16le" if self._alpha_only else "gbrap16le"
        self.options = {"level": "3", "slicecrc": "1", "g": "1"}
        if min(height, width) >= 64:  # threads share a frame by slices; the encoder refuses them on tiny pictures
            self.options["slices"] = "16"
        self.colour = replace(source, range="pc", matrix="unknown" if self._alpha_only else "gbr")

    def planes(self, rgb: np.ndarray, alpha: np.ndarray, index: int) -> list[np.ndarray]:
        codes = colour.alpha_codes(alpha, 16)
        if self._alpha_only:
            return [codes]
        red, green, blue = cv2.split(rgb)
        return [green, blue, red, codes]


class Vp9Picture(_Same):
    """VP9 for the web: 8-bit 4:2:0 with an alpha of 8 bits in WebM's side channel, both lossy."""

    codec = "libvpx-vp9"
    stands_alone = False
    for_eyes = True

    def __init__(self, content: Content, source: Colour, height: int, width: int) -> None:
        self._alpha_only = content == "alpha"
        self.pixel_format = "yuv420p" if self._alpha_only else "yuva420p"
        self.options = {
            "crf": "18", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0",
        }  # fmt: skip
        self.colour = replace(source, range="tv", matrix=colour.writable_matrix(source, height, width))

    def planes(self, rgb: np.ndarray, alpha: np.ndarray, index: int) -> list[np.ndarray]:
        codes = colour.alpha_codes(alpha, 16 if self._alpha_only else 8)
        if self._alpha_only:
            return colour.yuv420(cv2.merge([codes, codes, codes]), self.colour.matrix)
        return [*colour.yuv420(rgb, self.colour.matrix), codes.astype(np.uint8)]


class PreviewPicture:
    """H.264 to look at: the subject over a backdrop, or its matte in gray. Odd sizes get one more row or
    column (the last one repeated), since 4:2:0 has none."""

    codec = "libx264"
    stands_alone = False
    for_eyes = True
    pixel_format = "yuv420p"

    def __init__(self, content: Content, source: Colour, height: int, width: int, backdrop: Backdrop | None) -> None:
        """`backdrop`: what the subject lies over; None for the matte alone."""
        self.options = {"crf": "18", "preset": "veryfast"}
        self.colour = replace(source, range="tv", matrix=colour.writable_matrix(source, height, width))
        self.shows_alpha = content == "alpha"
        self.backdrop = backdrop

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height + height % 2, width + width % 2

    def planes(self, rgb: np.ndarray, alpha: np.ndarray, index: int) -> list[np.ndarray]:
        if self.backdrop is None:
            codes = colour.alpha_codes(alpha, 16)
            picture = cv2.merge([codes, codes, codes])
        else:
            picture = colour.composite(rgb, alpha, self.backdrop.picture(index))
        height, width = alpha.shape
        if height % 2 or width % 2:
            picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        return colour.yuv420(picture, self.colour.matrix)


class MovieWriter(TwoSteps):
    """One movie file. `write` is `put(prepare(matted))`: prepare is pure and may run ahead in threads, put is in order.

    Every frame keeps its own timestamp. MOV and MP4 keep the time base exactly; Matroska and WebM count in
    milliseconds, so times there are rounded to the nearest (half a millisecond at most). A clip that starts before
    time 0 is moved to start there: MOV would hide its first frames behind an edit list. A part of a clip is moved to
    start at 0 too. Sound moves with the pictures.

    With `keep`, a hidden folder, encoded pictures are kept in a log there, and the movie is put together of them at the
    end, without encoding any again: a run that was cut off goes on with those that the log has.

    With `settings.rate` the movie has that constant rate, and `Pace` says which frame each picture shows.

    notes  what could not be taken over from the source
    ticks  times of the frames written so far, in `unit`s
    shows  with a constant rate: which of the frames handed over each of them is
    """

    def __init__(
        self,
        path: Path,
        picture: Picture,
        info: ClipInfo,
        settings: OutputSettings,
        *,
        part: bool = False,
        keep: Path | None = None,
    ) -> None:
        """Raises: UsageError or MediaError, before anything is written, where the output is not possible."""
        self.notes: list[str] = []
        self._part = part
        self.sound: SoundCopy | None = None
        self._audio = settings.audio and bool(info.sound) and info.path.is_file()
        self.path = path
        self.picture = picture
        self._premultiply = settings.premultiply
        self._pace: Pace | None = None
        self._held: av.VideoFrame | None = None
        self.shows: list[int] | None = None
        self.unit = Fraction(1, info.time_base.denominator)
        self._last_takes = max(1, round(1 / (info.rate * self.unit))) * self.unit
        if settings.rate:
            rate = parse_rate(settings.rate)
            self._pace, self.shows = Pace(rate), []
            self.unit = Fraction(1, lcm(info.time_base.denominator, rate.numerator))  # both count whole ticks of it
            self._last_takes = 1 / info.rate
            info = at_rate(info, rate)
            if self.unit.denominator >= 1 << 31 or keep is not None:
                other = "--resume" if keep is not None else f"times in {info.time_base} s"
                raise UsageError(f"{path}: --rate {settings.rate} does not go with {other}; leave --rate out")
        self.info = info
        self._times = int(info.time_base / self.unit)
        self._duration = max(1, round(1 / (info.rate * self.unit)))
        self.coded = picture.size(info.height, info.width)
        self._tags = _numbers(picture.colour)
        self.ticks: list[int] = []
        self._last: int | None = None
        self._given = 0
        self._shift = 0
        self._first = 0
        self._in_matroska = path.suffix.lower() in (".mkv", ".webm")
        self.aspect = info.sample_aspect
        if self._in_matroska and self.aspect != 1:  # PyAV cannot set what FFmpeg's Matroska writer looks at
            self.notes.append(
                f"{path.name}: Matroska is written without the sample aspect of {self.aspect}; MOV keeps it"
            )
            self.aspect = Fraction(1)
        self._output = FileOutput(path, info.path, settings.overwrite, keep)
        self._kept: PacketLog | None = None
        self._container: Any = None
        try:
            if keep is not None:
                self._kept = PacketLog(keep / "pictures")
            with writing(path):
                self._open()
        except BaseException:
            self.abort()
            raise

    def _open(self) -> None:
        """Container, stream, tags: all that stands in the headers."""
        unit = str(self.unit.denominator)
        options: dict[str, str] = {}
        if self.path.suffix.lower() in (".mov", ".mp4", ".m4v"):
            options = {"video_track_timescale": unit, "movie_timescale": unit, "movflags": "+write_colr"}
            if self.picture.codec == "libx264":
                options["movflags"] += "+faststart"
        try:
            form = "mp4" if self.path.suffix.lower() == ".m4v" else None  # FFmpeg's own choice there knows no timecode
            self._container = av.open(url(self._output.partial), "w", format=form, options=options)
            stream: Any = self._container.add_stream(self.picture.codec, rate=self.info.rate)
        except ValueError as error:
            raise MediaError(f"{self.path}: cannot be written ({reason(error)})") from error
        height, width = self.coded
        stream.width, stream.height = width, height
        stream.pix_fmt = self.picture.pixel_format
        context = stream.codec_context
        context.time_base = self.unit
        stream.time_base = self.unit
        context.sample_aspect_ratio = self.aspect
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = self._tags
        context.thread_type = "AUTO"
        context.thread_count = 0
        if self.picture.pixel_format == "yuva420p":
            stream.metadata["alpha_mode"] = "1"
        stream.options.update(self.picture.options)
        if self.info.timecode is not None:
            stream.metadata["timecode"] = str(_writable(self.info.timecode, self.info.rate))
        if self.info.reel:
            stream.metadata["reel_name"] = self.info.reel
        if self.info.created:
            self._container.metadata["creation_time"] = self.info.created
        self._stream = stream
        if self._audio:
            self.sound = SoundCopy(self.info.path)
            self.sound.add_to(self._container)
            kind = self.path.suffix.lower()
            self.notes += [f"{self.path.name}: {kind} cannot hold this sound: {each}" for each in self.sound.left_out]
        self._container.start_encoding()

    def prepare(self, matted: Matted) -> av.VideoFrame:
        """The frame in the codec's own pixels. Pure: any thread, any order."""
        rgb = colour.as_16_bit(matted.frame.shown if self.picture.for_eyes else matted.frame.codes)
        if matted.frame.size != self.info.size:
            raise ValueError(f"frame {matted.frame.index} is {matted.frame.size}, the clip {self.info.size}")
        if self._premultiply:
            rgb = colour.premultiplied(rgb, matted.alpha)
        height, width = self.coded
        frame = av.VideoFrame(width, height, self.picture.pixel_format)
        colour.fill(frame, self.picture.planes(rgb, matted.alpha, matted.frame.index))
        frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = self._tags
        frame.pts = matted.frame.pts * self._times
        frame.time_base = self.unit
        frame.duration = self._duration
        return frame

    def put(self, frame: av.VideoFrame) -> None:
        """Encode a prepared frame; in display order."""
        pts = ticks(frame.pts)
        assert pts is not None
        if self._last is None:
            self._shift = -pts if self._part else max(0, -pts)
            self._first = pts
        pts += self._shift
        if self._last is not None and pts <= self._last:
            raise ValueError(f"frame at {pts} comes after one at {self._last}")
        if self._pace is None:
            self._place(frame, pts)
        else:
            self._show(self._pace.until(pts * self.unit))
            self._held, self._given = frame, self._given + 1
        self._last = pts

    def _show(self, pictures: range) -> None:
        """The frame that is held, in these pictures of the constant rate."""
        for picture in pictures:
            assert self._held is not None and self.shows is not None
            self._place(self._held, picture * self._duration)
            self.shows.append(self._given - 1)

    def _place(self, frame: av.VideoFrame, pts: int) -> None:
        frame.pts = pts
        if self._kept is None:
            self._copy_sound(pts)
        self._encode(frame)
        self.ticks.append(pts)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        """To the file, or to the log of what is kept. None: what the encoder still has."""
        with writing(self.path):
            for packet in self._stream.encode(frame):
                if self._kept is None:
                    self._container.mux(packet)
                else:
                    self._kept.append(packet, self._shift)

    def kept(self, first: int, most: int, *, named: bool = False) -> int:
        """How many frames an earlier run left, `most` at most."""
        return 0 if self._kept is None else min(len(self._kept), most)

    def go_on(self, first: int, count: int) -> None:
        """Take over the first `count` frames of those; before the first `put`."""
        assert self._kept is not None
        self._kept.cut(count)
        for pts, shift in self._kept.times():
            if self._last is None:
                self._shift, self._first = shift, pts - shift
            self._last = pts
            self.ticks.append(pts)

    def _join(self) -> None:
        """Put the movie together of what is kept."""
        assert self._kept is not None
        for packet in self._kept.packets(self.unit):
            self._copy_sound(ticks(packet.pts))
            packet.stream = self._stream
            with writing(self.path):
                self._container.mux(packet)

    def _copy_sound(self, end: int | None) -> None:
        """The source's sound up to a time of the output, in its ticks; all that is left where None."""
        if self.sound is None:
            return
        start = self._first * self.unit if self._part else None
        if start is None and self._in_matroska:
            start = -self._shift * self.unit  # Matroska has no time before 0: it would move the pictures instead
        until = None if end is None else (end - self._shift) * self.unit
        self.sound.copy_until(self._container, self.path, start, until, self._shift * self.unit)

    def write(self, matted: Matted) -> None:
        """Raises: MediaError, where the disk is full or the encoder fails."""
        self.put(self.prepare(matted))

    def finish(self) -> None:
        """Complete the file under its hidden name."""
        if self._last is None:
            raise MediaError(f"{self.path}: no frame was written to it")
        end = self._last * self.unit + self._last_takes
        if self._pace is not None:
            self._show(self._pace.end(end))
            self.notes.append(f"{self.path.name} {self._pace.told()}")
        if self._kept is not None:
            self._encode(None)
            self._join()
        self._copy_sound(round(end / self.unit) if self._part else None)
        if self.sound is not None:
            self.sound.close()
        if self._kept is None:
            self._encode(None)
        else:
            self._kept.close()
        with writing(self.path):
            self._container.close()
        if self.picture.backdrop is not None:
            self.notes += [f"{self.path.name}: {each}" for each in self.picture.backdrop.notes]
            self.picture.backdrop.close()

    def publish(self) -> None:
        """Give the finished file its name."""
        self._output.publish()

    def abort(self) -> None:
        if self.picture.backdrop is not None:
            self.picture.backdrop.close()
        if self._kept is not None:
            with suppress(Exception):  # what the encoder still has need not be made again
                self._encode(None)
            self._kept.close()
        with suppress(Exception):
            if self.sound is not None:
                self.sound.close()
        with suppress(Exception):
            if self._container is not None:
                self._container.close()
        self._output.discard()


def _writable(timecode: Timecode, rate: Fraction) -> Timecode:
    """FFmpeg writes drop-frame only at 30000/1001 and its multiples; elsewhere the same label stands without."""
    if timecode.drop and rate.denominator != 1001:
        return Timecode.parse(str(timecode), timecode.rate, False)
    return timecode


def _numbers(tags: Colour) -> tuple[int, int, int, int]:
    """Range, matrix, primaries, transfer as FFmpeg counts them."""
    return (
        colour.number(tags.range, colour.RANGES),
        colour.number(tags.matrix, colour.MATRICES),
        colour.number(tags.primaries, colour.PRIMARIES),
        colour.number(tags.transfer, colour.TRANSFERS),
    )
