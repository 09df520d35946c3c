"""Write movies: frames in, one file that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer

from mam_video.core.errors import MediaError
from mam_video.core.frames import Frame, Matted
from mam_video.core.planes import PlaneRecipe
from mam_video.media import pixel_formats
from mam_video.media.atomic_output import FileOutput
from mam_video.media.expected import ExpectedMedia, rate_of
from mam_video.media.ffmpeg_compat import ticks, writing
from mam_video.media.formats import OutputRequest
from mam_video.media.light import write_light
from mam_video.media.movie.audio import AudioCopy
from mam_video.media.movie.codecs import draw
from mam_video.media.movie.encoded_picture import EncodedPicture, Picture, PictureEncoder
from mam_video.media.movie.muxer import MovieHeader, open_container, tag_numbers
from mam_video.media.movie.output_clock import MATROSKA_SUFFIXES, OutputClock
from mam_video.media.movie.packed_frame import FrameWriter
from mam_video.media.movie.packet_log import PacketLog
from mam_video.media.movie.picture_pool import PicturePool
from mam_video.media.movie.retime import FrameRetimer


class MovieWriter(FrameWriter):
    """One movie file.

    Every frame keeps its own timestamp; `OutputClock` says where it stands. MOV and MP4 keep the time base exactly;
    Matroska and WebM count in milliseconds, so times there are rounded to the nearest (half a millisecond at most).
    Sound moves with the pictures.

    With a checkpoint folder encoded pictures go into a log there, and the movie is muxed from them at the end, without
    encoding any again: a run that was cut off resumes with the pictures of the log.

    With `settings.rate` the movie has that constant rate, and `FrameRetimer` says which frame each picture shows.

    notes  what could not be taken over from the source
    """

    def __init__(self, request: OutputRequest) -> None:
        """Raises: UsageError or MediaError, before anything is written, where the output is not possible."""
        info, settings, keep = request.info, request.settings, request.checkpoint
        assert request.format.codec is not None
        self.path, self.notes = request.path, []
        self._format, self._premultiply = request.format, settings.premultiply
        self.codec = request.format.codec(request.format.content, request.tags, info.height, info.width,
                                          request.backdrop)  # fmt: skip
        self.clock = OutputClock(
            self.path, info, settings.constant_rate, part=request.part, resumable=request.checkpoint is not None
        )
        self._retimer = None if self.clock.rate is None else FrameRetimer[Picture](self.clock.rate)
        self.info = self.clock.info
        self._coded = self.codec.size(info.height, info.width)
        self._pictures = PicturePool(*self._coded, self.codec.pixel_format)
        self._tags = tag_numbers(self.codec.colour)
        self._times: list[int] = []  # of the frames written so far, in ticks
        self._in_matroska = self.path.suffix.lower() in MATROSKA_SUFFIXES
        self._aspect = info.sample_aspect
        if self._in_matroska and self._aspect != 1:  # PyAV cannot set what FFmpeg's Matroska writer looks at
            self.notes.append(
                f"{self.path.name}: Matroska is written without the sample aspect of {self._aspect}; MOV keeps it"
            )
            self._aspect = Fraction(1)
        self._sound: AudioCopy | None = None
        self._output = FileOutput(self.path, info.path, settings.overwrite, keep)
        self._log: PacketLog | None = None
        self._container: OutputContainer | None = None
        header = MovieHeader(self.codec, self.info, self._coded, self.clock.unit, self._aspect)
        self._alone = PictureEncoder(header) if request.format.resumable else None
        try:
            if keep is not None:
                self._log = PacketLog(keep / "pictures")
            with writing(self.path):
                if settings.audio != "none" and info.sound and info.path.is_file():
                    self._sound = AudioCopy(info.path, self.path, settings.audio, info.timeline)
                self._container, self._stream = open_container(self.path, self._output.partial, header, self._sound)
        except BaseException:
            self.abort()
            raise

    @property
    def shows(self) -> list[int] | None:
        """With a constant rate: which of the frames handed over each picture shows. None: all, in order."""
        return None if self._retimer is None else self._retimer.shows

    def expected(self) -> ExpectedMedia:
        """State what the file should hold, given the frames it was handed."""
        times = [tick * self.clock.unit for tick in self._times]
        return ExpectedMedia(
            size=self._coded,
            times=times,
            rate=rate_of(times, self.info.rate),
            aspect=self._aspect,
            timecode=self.info.timecode,
            colour=self.codec.colour,
            sound=self._sound.streams if self._sound is not None else 0,
            has_alpha="a" in self.codec.pixel_format.removeprefix("gray"),
            shows_alpha=self._format.content != "preview",
            alpha_slack=self._format.alpha_slack,
            shows=self.shows,
        )

    def convert(self, matted: Matted) -> av.VideoFrame:
        """Make the frame in the codec's own pixels."""
        frame, codec = matted.frame, self.codec
        if frame.size != self.info.size:
            raise ValueError(f"frame {frame.index} is {frame.size}, the clip {self.info.size}")
        rgb = frame.shown if self._format.display_referred else frame.codes
        back = None if codec.backdrop is None else codec.backdrop.picture(frame.index)
        picture = self._blank(frame)
        draw(codec, pixel_formats.writable_planes(picture), rgb, matted.alpha, back, premultiply=self._premultiply)
        return picture

    @property
    def recipe(self) -> PlaneRecipe | None:
        recipe = self.codec.recipe
        if recipe is None or self._format.display_referred:
            return None
        return replace(recipe, premultiplied=self._premultiply)

    def of_planes(self, planes: Sequence[np.ndarray], frame: Frame) -> av.VideoFrame:
        return pixel_formats.fill(self._blank(frame), list(planes))

    def _blank(self, frame: Frame) -> av.VideoFrame:
        """Return a picture in the codec's own pixels, not drawn yet, at the frame's time."""
        picture = self._pictures.take()
        picture.color_range, picture.colorspace, picture.color_primaries, picture.color_trc = self._tags
        picture.pts = self.clock.ticks(frame.pts)
        picture.time_base = self.clock.unit
        picture.duration = self.clock.frame_ticks
        return picture

    def encode(self, converted: Picture) -> None:
        pts = ticks(converted.pts)
        assert pts is not None
        pts = self.clock.place(pts)
        if self._retimer is None:
            self._encode_at(converted, pts)
            return
        for held, picture in self._retimer.add(converted, pts * self.clock.unit):
            self._encode_at(held, picture * self.clock.frame_ticks)

    def _encode_at(self, frame: Picture, pts: int) -> None:
        frame.pts = pts
        if self._log is None:
            self._copy_sound(pts)
        self._encode(frame)
        self._times.append(pts)

    def _encode(self, frame: Picture | None) -> None:
        """Encode into the file, or into the log. None: what the encoder still has."""
        assert self._container is not None
        with writing(self.path):
            if isinstance(frame, EncodedPicture):
                packets = [frame.packet(self.clock.unit, self._stream)]
            else:
                packets = self._stream.encode(frame)
                if frame is not None and self._retimer is None:  # that one may show a picture again
                    self._pictures.handed_over(frame)
                    self._pictures.encoded(len(packets))
            for packet in packets:
                if self._log is None:
                    self._container.mux(packet)
                else:
                    self._log.append(packet, self.clock.shift)

    def frames_kept(self, first: int, most: int, *, named: bool = False) -> int:
        return 0 if self._log is None else min(len(self._log), most)

    def resume_from(self, first: int, count: int) -> None:
        if self._log is None:
            super().resume_from(first, count)
            return
        self._log.cut(count)
        for pts, shift in self._log.times():
            self.clock.resume(pts, shift)
            self._times.append(pts)

    def _mux_log(self, log: PacketLog, container: OutputContainer) -> None:
        """Put the movie together of the pictures in the log."""
        for packet in log.packets(self.clock.unit):
            self._copy_sound(ticks(packet.pts))
            packet.stream = self._stream
            with writing(self.path):
                container.mux(packet)

    def _copy_sound(self, end: int | None, *, last: bool = False) -> None:
        """Copy the source's sound up to a time of the output, in its ticks; None: all that is left."""
        if self._sound is None:
            return
        assert self._container is not None
        clock = self.clock
        start = clock.first * clock.unit if clock.part else None
        if start is None and self._in_matroska:
            start = -clock.shift * clock.unit  # Matroska has no time before 0: it would move the pictures instead
        until = None if end is None else clock.source_seconds(end)
        self._sound.copy_until(self._container, self.path, start, until, clock.shift * clock.unit, last=last)

    def finish(self) -> None:
        if self.clock.last is None:
            raise MediaError(f"{self.path}: no frame was written to it")
        assert self._container is not None
        end = self.clock.end()
        if self._retimer is not None:
            for held, picture in self._retimer.end(end):
                self._encode_at(held, picture * self.clock.frame_ticks)
            self.notes.append(f"{self.path.name} {self._retimer.message()}")
        if self._log is not None:
            self._encode(None)
            self._mux_log(self._log, self._container)
        self._copy_sound(round(end / self.clock.unit) if self.clock.part else None, last=True)
        if self._sound is not None:
            self.notes += [f"{self.path.name}: {each}" for each in self._sound.notes]
            self._sound.close()
        if self._log is None:
            self._encode(None)
        else:
            self._log.close()
        with writing(self.path):
            self._container.close()
            self.notes += write_light(self.path, self._output.partial, self.info, self.codec.colour)
        if self.codec.backdrop is not None:
            self.notes += [f"{self.path.name}: {each}" for each in self.codec.backdrop.notes]
            self.codec.backdrop.close()

    def check(self) -> None:
        self._output.check()

    def commit(self) -> None:
        self._output.publish()

    def abort(self) -> None:
        if self.codec.backdrop is not None:
            self.codec.backdrop.close()
        if self._log is not None:
            with suppress(Exception):  # what the encoder still has need not be made again
                self._encode(None)
            self._log.close()
        with suppress(Exception):
            if self._sound is not None:
                self._sound.close()
        with suppress(Exception):
            if self._container is not None:
                self._container.close()
        self._output.discard()
