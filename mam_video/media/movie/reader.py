"""Read movies through PyAV: whatever FFmpeg decodes.

Time is ticks of an exact time base from the reader to the writer. `pixel_formats.py` converts the pixels. Timecode
(`quicktime_timecode.py`), sound (`audio.py`), colour tags, sample aspect, reel and creation time travel beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from mam_video.core.errors import MediaError
from mam_video.core.frames import Frame
from mam_video.core.settings import InputSettings
from mam_video.media import pixel_formats
from mam_video.media.ffmpeg_compat import ticks
from mam_video.media.movie.container_layout import is_animated_webp
from mam_video.media.movie.integrity import cut_off, hidden, joined, promised_end, unread
from mam_video.media.movie.repair import Shown, deinterlaced, mended, whole
from mam_video.media.movie.seek_index import SeekIndex, SeekMismatch
from mam_video.media.movie.stream_info import OpenedStream, describe_stream, stream_notes
from mam_video.media.movie.timeline import Timeline, continued
from mam_video.media.plate_alpha import IGNORED, alpha_notes, straight_picture
from mam_video.runtime.lifecycle import Closeable
from mam_video.runtime.os_errors import reason
from mam_video.runtime.streams import ordered_map

CONVERSIONS_AHEAD: Final = 2  # pictures converted to RGB at a time while the decoder goes on
END_SLACK: Final = 4  # frames by which a clip may end before its header says, since writers count durations differently


@dataclass(frozen=True, slots=True)
class _Decoded:
    """One frame as the decoder gave it, with the time that it will keep."""

    index: int
    pts: int
    picture: av.VideoFrame = field(repr=False)


class MovieReader(Closeable):
    """Frames of one movie, in display order, upright, as 16-bit RGB. See `Reader` for the promises.

    Timestamps are the source's own, in its stream's time base; where its clock restarts they go on (`timeline.py`). A
    frame without one gets its packet's decoding time if that fits, else the previous frame's plus one frame's duration;
    one that does not come after the previous frame's is moved to one tick behind it, so that times always grow.

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
        self._places: SeekIndex | None = None
        self.decoded = 0  # frames in all, by every pass
        with self._container() as (container, stream):
            if short := cut_off(path, container, stream):
                raise MediaError(f"{path}: {short}; get a whole copy, or save what is there: ffmpeg -i IN -c copy OUT")
            if is_animated_webp(path):
                raise MediaError(f"{path}: an animated WebP is not read; convert it to a GIF or an animated PNG first")
            first = self._first_frame(container, stream)
            self._stored = (first.height, first.width)
            timeline = continued(path, stream.index, anyway=joined(path, container))
            own = pixel_formats.alpha_of(first)  # before `describe_stream`, which spends the frame
            info, self._decoding, self._turn = describe_stream(path, container, stream, first, timeline)
            beside = _has_alpha_beside(stream)
            fewer = hidden(container, stream)
            unknown = (*_tags_not_known(first), *unread(path, container))
        asked = self._settings.alpha
        if beside and asked != "ignore":
            first = self._first_with_alpha()
            own = pixel_formats.alpha_of(first)
        if own is not None or (beside and asked == "ignore"):
            association = {"auto": "straight", "ignore": IGNORED}.get(asked, asked)
            basis = "assumed" if asked == "auto" else "as asked"
            info = replace(info, has_alpha=True, alpha=association, alpha_basis=basis, pixel_format=first.format.name)
        self._reads_alpha = asked != "ignore" and (info.has_alpha or bool(first.format.has_palette))
        told = alpha_notes(own, info.alpha, info.alpha_basis)
        self.info = replace(info, notes=(*stream_notes(info, self._settings, fewer), *unknown, *told))
        step = 1 / (self.info.rate * self.info.time_base)
        self._step = max(1, round(step))

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames start <= index < stop; see `Reader.frames`.

        Raises: MediaError where a frame cannot be decoded or the file ends before its time, naming the frame.
        """
        if self._closed:
            raise ValueError("frames() of a closed reader")
        return ordered_map(self._convert, self._decoded(start, stop), CONVERSIONS_AHEAD)

    def index_for_random_access(self) -> None:
        # Where broken frames are repeated or fields are mended, a frame depends on those before it.
        if self._places is None and self._settings.on_error == "stop" and not self._settings.deinterlace:
            self._places = SeekIndex()

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
        alpha = pixel_formats.alpha_of(decoded.picture)
        if alpha is None:
            alpha = pixel_formats.grey_of(self._decoding(decoded.picture))
        return self._turn(alpha)

    def _convert(self, decoded: _Decoded) -> Frame:
        rgb = self._turn(self._decoding(decoded.picture))
        start = self.info.timecode
        label = None if start is None else str(start + decoded.index)
        alpha = None
        if self._reads_alpha and (own := pixel_formats.alpha_of(decoded.picture)) is not None:
            rgb, alpha = straight_picture(rgb, self._turn(own), self.info.alpha)
        return Frame(decoded.index, decoded.pts, self.info.time_base, rgb, timecode=label, alpha=alpha)

    def _decoded(self, start: int, stop: int | None, *, with_alpha: bool = False) -> Iterator[_Decoded]:
        if stop is not None and stop <= start:
            return
        if not with_alpha and stop is not None and self._places is not None and stop <= len(self._places):
            try:
                for decoded in self._entered(start, stop, self._places):
                    yield decoded
                    start = decoded.index + 1
            except SeekMismatch:
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

    def _entered(self, start: int, stop: int, places: SeekIndex) -> Iterator[_Decoded]:
        """Frames start <= index < stop from the nearest place before them; none where that is the movie's start.

        Each was compared with what is known of it. Raises: SeekMismatch, something is not as it was.
        """
        entry = places.before(start)
        if entry is None:
            return
        index = entry
        with self._container() as (container, stream):
            try:
                container.seek(places.time(entry), stream=stream, backward=True, any_frame=False)
                for picture in self._pictures_from_here(container, stream):
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
                raise SeekMismatch from error
        raise SeekMismatch

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
                shown = _shown(
                    self.path, container, stream, self.info.timeline, with_alpha or self._reads_alpha, repeat
                )
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

    def _first_with_alpha(self) -> av.VideoFrame:
        """The first frame with the alpha that stands beside it."""
        with self._container() as (container, stream):
            try:
                for shown in _shown(self.path, container, stream, Timeline(), True, False):
                    if shown.picture is not None:
                        return shown.picture
            except (av.FFmpegError, OSError, ValueError) as error:
                raise self._broken(0, reason(error)) from error
        raise MediaError(f"{self.path}: holds no frame that can be decoded")

    def _pictures_from_here(self, container: Any, stream: Any) -> Iterator[av.VideoFrame]:
        """The stream's pictures from where the container stands, with the alpha beside them where that is read."""
        decoder = _alpha_decoder(self.path, stream) if self._reads_alpha else None
        if decoder is None:
            yield from container.decode(stream)
            return
        for packet in container.demux(stream):
            yield from decoder.decode(packet if packet.size else None)

    def _container(self) -> OpenedStream:
        return OpenedStream(self.path)


def _shown(
    path: Path, container: Any, stream: Any, timeline: Timeline, with_alpha: bool, repeat: bool
) -> Iterator[Shown]:
    """The stream's frames in display order, with the alpha that stands beside them where that is asked for."""
    decoder = _alpha_decoder(path, stream) if with_alpha else None
    packets = timeline.packets(container, stream)
    yield from mended(packets, decoder) if repeat else whole(packets, container, stream, decoder)


_WITH_ALPHA_BESIDE: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # codecs, and the decoders that read that alpha


def _has_alpha_beside(stream: Any) -> bool:
    """Whether the header says that an alpha stands beside each picture, as WebM has it."""
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    return stream.codec_context.codec.canonical_name in _WITH_ALPHA_BESIDE and tags.get("alpha_mode") == "1"


def _alpha_decoder(path: Path, stream: Any) -> Any:
    """A decoder that reads the alpha beside the pictures; None where there is none.

    FFmpeg's own VP8 and VP9 decoders leave that out, and libvpx's read it. Pictures are the same bits.
    """
    if not _has_alpha_beside(stream):
        return None
    name = _WITH_ALPHA_BESIDE[stream.codec_context.codec.canonical_name]
    try:
        decoder: Any = av.CodecContext.create(name, "r")
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(
            f"{path}: this FFmpeg lacks {name}, which reads its alpha; convert the clip first, or see --ignore-alpha"
        ) from error
    if stream.codec_context.extradata:
        decoder.extradata = stream.codec_context.extradata
    decoder.thread_count = 0  # as many as there are processors
    return decoder


def _tags_not_known(first: av.VideoFrame) -> tuple[str, ...]:
    """Lines about tags that say something that is not read: never taken for something else in silence."""
    tags = {
        "matrix": (int(first.colorspace), pixel_formats.MATRICES, "decoded by the usual rule for its size"),
        "primaries": (int(first.color_primaries), pixel_formats.PRIMARIES, "taken as Rec. 709"),
        "transfer": (int(first.color_trc), pixel_formats.TRANSFERS, "taken as display-referred sRGB"),
    }
    told = []
    for what, (number, names, instead) in tags.items():
        known = number in names or number == 0
        if what == "matrix" and not first.format.is_rgb and len(first.format.components) >= 3:
            known = number in (0, 2) or pixel_formats.is_readable(names.get(number, ""))
        if not known:
            told.append(
                f"the {what} tag {names.get(number, number)} is not read here: {instead}; convert the clip first"
            )
    return tuple(told)
