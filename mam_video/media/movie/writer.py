"""Write movies: frames in, one file that appears whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any, Final

import av

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.frames import Matted
from mam_video.core.settings import OutputSettings
from mam_video.core.timecode import Timecode, nominal_rate
from mam_video.media import pixel_formats
from mam_video.media.atomic_output import FileOutput
from mam_video.media.base import ClipInfo, Colour
from mam_video.media.ffmpeg_compat import ticks, url, writing
from mam_video.media.light import write_atoms
from mam_video.media.movie.audio import Audio, AudioCopy
from mam_video.media.movie.codecs import MovieCodec
from mam_video.media.movie.packet_log import PacketLog
from mam_video.media.movie.retime import Retimer, at_rate
from mam_video.runtime.lifecycle import TwoPhaseOutput
from mam_video.runtime.os_errors import reason

CONVERSIONS_AHEAD: Final = 2  # pictures converted to RGB at a time while the decoder goes on


class MovieWriter(TwoPhaseOutput):
    """One movie file. `write` is `put(prepare(matted))`: prepare is pure and may run ahead in threads, put is in order.

    Every frame keeps its own timestamp. MOV and MP4 keep the time base exactly; Matroska and WebM count in
    milliseconds, so times there are rounded to the nearest (half a millisecond at most). A clip that starts before
    time 0 is moved to start there: MOV would hide its first frames behind an edit list. A part of a clip is moved to
    start at 0 too. Sound moves with the pictures.

    With `keep`, a hidden folder, encoded pictures are kept in a log there, and the movie is put together of them at the
    end, without encoding any again: a run that was cut off goes on with those that the log has.

    With `settings.rate` the movie has that constant rate, and `Retimer` says which frame each picture shows.

    notes  what could not be taken over from the source
    ticks  times of the frames written so far, in `unit`s
    shows  with a constant rate: which of the frames handed over each of them is
    """

    def __init__(
        self,
        path: Path,
        picture: MovieCodec,
        info: ClipInfo,
        settings: OutputSettings,
        *,
        part: bool = False,
        keep: Path | None = None,
    ) -> None:
        """Raises: UsageError or MediaError, before anything is written, where the output is not possible."""
        self.notes: list[str] = []
        self._part = part
        self.sound: AudioCopy | None = None
        self._audio: Audio = settings.audio if info.sound and info.path.is_file() else "none"
        self.path = path
        self.picture = picture
        self._premultiply = settings.premultiply
        self._pace: Retimer | None = None
        self._held: av.VideoFrame | None = None
        self.shows: list[int] | None = None
        self.unit = tick_of(path, info)
        self._last_takes = max(1, round(1 / (info.rate * self.unit))) * self.unit
        rate = settings.constant_rate
        if rate is not None:
            self._pace, self.shows = Retimer(rate), []
            self.unit = Fraction(1, lcm(self.unit.denominator, rate.numerator))  # both count whole ticks of it
            self._last_takes = 1 / info.rate
            info = at_rate(info, rate)
            if self.unit.denominator >= 1 << 31 or keep is not None:
                other = "--resume" if keep is not None else f"times in {info.time_base} s"
                raise UsageError(f"{path}: --rate {settings.rate} does not go with {other}; leave --rate out")
        self.info = info
        self._times = int(info.time_base / self.unit)
        self._duration = max(1, round(1 / (info.rate * self.unit)))
        self.coded = picture.size(info.height, info.width)
        self._tags = numbers_of(picture.colour)
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
        if self._audio != "none":
            self.sound = AudioCopy(self.info.path, self.path, self._audio, self.info.timeline)
        options: dict[str, str] = {}
        if self.path.suffix.lower() in (".mov", ".mp4", ".m4v"):
            whole = unit if self.sound is None else str(self.sound.ticks_of(self.unit.denominator))
            options = {"video_track_timescale": unit, "movie_timescale": whole, "movflags": "+write_colr"}
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
        if "420" in self.picture.pixel_format:
            stream.options["chroma_sample_location"] = "left"  # as `pixel_formats.yuv420` makes it
        if self.info.timecode is not None:
            stream.metadata["timecode"] = str(_writable(self.info.timecode, self.info.rate))
        if self.info.reel:
            stream.metadata["reel_name"] = self.info.reel
        if self.info.created:
            self._container.metadata["creation_time"] = self.info.created
        self._stream = stream
        if self.sound is not None:
            self.sound.add_to(self._container)
        self._container.start_encoding()

    def prepare(self, matted: Matted) -> av.VideoFrame:
        """The frame in the codec's own pixels. Pure: any thread, any order."""
        rgb = pixel_formats.as_16_bit(matted.frame.shown if self.picture.for_eyes else matted.frame.codes)
        if matted.frame.size != self.info.size:
            raise ValueError(f"frame {matted.frame.index} is {matted.frame.size}, the clip {self.info.size}")
        if self._premultiply:
            rgb = pixel_formats.premultiplied(rgb, matted.alpha)
        height, width = self.coded
        frame = av.VideoFrame(width, height, self.picture.pixel_format)
        pixel_formats.fill(frame, self.picture.planes(rgb, matted.alpha, matted.frame.index))
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

    def resume_from(self, first: int, count: int) -> None:
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

    def _copy_sound(self, end: int | None, *, last: bool = False) -> None:
        """The source's sound up to a time of the output, in its ticks; all that is left where None."""
        if self.sound is None:
            return
        start = self._first * self.unit if self._part else None
        if start is None and self._in_matroska:
            start = -self._shift * self.unit  # Matroska has no time before 0: it would move the pictures instead
        until = None if end is None else (end - self._shift) * self.unit
        self.sound.copy_until(self._container, self.path, start, until, self._shift * self.unit, last=last)

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
            self.notes.append(f"{self.path.name} {self._pace.message()}")
        if self._kept is not None:
            self._encode(None)
            self._join()
        self._copy_sound(round(end / self.unit) if self._part else None, last=True)
        if self.sound is not None:
            self.notes += [f"{self.path.name}: {each}" for each in self.sound.notes]
            self.sound.close()
        if self._kept is None:
            self._encode(None)
        else:
            self._kept.close()
        with writing(self.path):
            self._container.close()
            self._write_light()
        if self.picture.backdrop is not None:
            self.notes += [f"{self.path.name}: {each}" for each in self.picture.backdrop.notes]
            self.picture.backdrop.close()

    def _write_light(self) -> None:
        """Mastering display and light levels, beside the tags that they belong to; a note where they have no place."""
        light, tags, own = self.info.light, self.picture.colour, self.info.colour
        if (tags.primaries, tags.transfer) != (own.primaries, own.transfer):
            return
        missing = list(light.dynamic)
        if light.static:
            in_mov = self.path.suffix.lower() in (".mov", ".mp4", ".m4v")
            if not in_mov or not write_atoms(self._output.partial, light):
                missing.insert(0, "mastering display and light levels")
        if missing:
            self.notes.append(f"{self.path.name}: {', '.join(missing)} of the clip are not kept in it")

    def check(self) -> None:
        """Raises: MediaError, another run has written the file since this one began."""
        self._output.check()

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


def numbers_of(tags: Colour) -> tuple[int, int, int, int]:
    """Range, matrix, primaries, transfer as FFmpeg counts them."""
    return (
        pixel_formats.number(tags.range, pixel_formats.RANGES),
        pixel_formats.number(tags.matrix, pixel_formats.MATRICES),
        pixel_formats.number(tags.primaries, pixel_formats.PRIMARIES),
        pixel_formats.number(tags.transfer, pixel_formats.TRANSFERS),
    )


def tick_of(path: Path, info: ClipInfo) -> Fraction:
    """Seconds a tick of the output: the clip's own, or finer where FFmpeg needs it to write the timecode.

    FFmpeg counts a MOV's labels at the rate of one frame in whole ticks: 17 of 1/1000 s are 59 a second, not 59.94.
    """
    own = Fraction(1, info.time_base.denominator)
    if info.timecode is None or path.suffix.lower() not in (".mov", ".mp4", ".m4v"):
        return own
    step = max(1, round(1 / (info.rate * own))) * own
    finer = lcm(own.denominator, info.rate.numerator)
    return own if nominal_rate(1 / step) == nominal_rate(info.rate) or finer >= 1 << 31 else Fraction(1, finer)
