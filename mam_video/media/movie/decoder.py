"""Decode a movie's pictures: their indices, their times, and damage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from mam_video.core.errors import MediaError
from mam_video.core.settings import InputSettings
from mam_video.media.base import ClipInfo
from mam_video.media.ffmpeg_compat import ticks
from mam_video.media.movie.alpha_side_channel import alpha_decoder
from mam_video.media.movie.integrity import promised_end
from mam_video.media.movie.repair import FrameSlot, deinterlaced, skip_damaged, strict
from mam_video.media.movie.seek_index import SeekIndex, SeekMismatch
from mam_video.media.movie.stream_info import OpenedStream
from mam_video.media.movie.timeline import Timeline
from mam_video.runtime.os_errors import reason

END_SLACK: Final = 4  # frames by which a clip may end before its header says, since writers count durations differently


@dataclass(frozen=True, slots=True)
class Decoded:
    """One frame as the decoder gave it, with the time that it will keep."""

    index: int
    pts: int
    picture: av.VideoFrame = field(repr=False)


class MovieDecoder:
    """Passes over one movie's pictures, in display order.

    Timestamps are the source's own, in its stream's time base; where its clock restarts they go on (`timeline.py`). A
    frame without one gets its packet's decoding time if that fits, else the previous frame's plus one frame's duration;
    one that does not come after the previous frame's is moved to one tick behind it, so that times always grow.

    broken      indices of frames that could not be decoded in this pass; see `Reader`
    count       frames decoded so far, over all passes
    seek_index  where later passes may start; None: not wanted, or found wrong
    """

    def __init__(
        self, info: ClipInfo, settings: InputSettings, stored_size: tuple[int, int], *, reads_alpha: bool
    ) -> None:
        """`stored_size`: (H, W) of the pictures before they are turned upright."""
        self.broken: list[int] = []
        self.count = 0
        self.seek_index: SeekIndex | None = None
        self._path, self._settings, self._stored = info.path, settings, stored_size
        self._time_base, self._timeline, self._reads_alpha = info.time_base, info.timeline, reads_alpha
        self._step = max(1, round(1 / (info.rate * info.time_base)))

    def frames(self, start: int, stop: int | None, *, with_alpha: bool = False) -> Iterator[Decoded]:
        """Yield the frames start <= index < stop; `with_alpha`: also the alpha beside the pictures, always."""
        if stop is not None and stop <= start:
            return
        if not with_alpha and stop is not None and self.seek_index is not None and stop <= len(self.seek_index):
            try:
                for decoded in self._entered(start, stop, self.seek_index):
                    yield decoded
                    start = decoded.index + 1
            except SeekMismatch:
                self.seek_index = None
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

    def _entered(self, start: int, stop: int, seek_index: SeekIndex) -> Iterator[Decoded]:
        """Yield start <= index < stop from the nearest seek point before them; none where that is the movie's start.

        Each frame is compared with the index. Raises: SeekMismatch, one differs.
        """
        entry = seek_index.before(start)
        if entry is None:
            return
        index = entry
        with OpenedStream(self._path) as (container, stream):
            try:
                container.seek(seek_index.time(entry), stream=stream, backward=True, any_frame=False)
                for picture in self._pictures_from_here(container, stream):
                    self.count += 1
                    if index == entry and picture.pts is not None and picture.pts < seek_index.time(entry):
                        continue  # leading pictures, or a seek that led too far back
                    seek_index.check(index, picture)
                    if index >= start:
                        yield Decoded(index, seek_index.time(index), picture)
                    index += 1
                    if index >= stop:
                        return
            except (av.FFmpegError, OSError, ValueError) as error:
                raise SeekMismatch from error
        raise SeekMismatch

    def _all(self, with_alpha: bool) -> Iterator[Decoded]:
        """Yield every frame from the first. For a broken one: raise, or repeat the picture before it."""
        index, pts = 0, None
        last: av.VideoFrame | None = None
        repeat = self._settings.on_error == "repeat"
        seek_index = None if with_alpha else self.seek_index
        self.broken.clear()
        with OpenedStream(self._path) as (container, stream):
            promised = promised_end(container, stream)
            try:
                shown = shown_pictures(
                    self._path, container, stream, self._timeline, with_alpha or self._reads_alpha, repeat
                )
                for picture, due in shown:
                    if picture is None or (picture.is_corrupt and not repeat):
                        if not repeat or last is None:
                            raise damaged_at(self._path, index, "its data is incomplete")
                        self.broken.append(index)
                        assert pts is not None
                        pts = pts + self._step if due is None else max(due, pts + 1)
                        yield Decoded(index, pts, last)
                        index += 1
                        continue
                    if (picture.height, picture.width) != self._stored:
                        raise MediaError(
                            f"{self._path}: frame {index} is {picture.width}x{picture.height}, those before it "
                            f"{self._stored[1]}x{self._stored[0]}; split the clip where its size changes"
                        )
                    pts = self._time(picture, pts)
                    self.count += 1
                    if seek_index is not None:
                        seek_index.see(index, pts, picture)
                    last = picture if repeat else None
                    yield Decoded(index, pts, picture)
                    index += 1
            except (av.FFmpegError, OSError, ValueError) as error:
                raise damaged_at(self._path, index, reason(error)) from error
        if pts is None:
            raise MediaError(f"{self._path}: holds no frame that can be decoded")
        slack = 1 if container.format.name == "avi" else END_SLACK  # AVI counts frames, the others seconds
        end = (pts + slack * self._step) * self._time_base
        if promised is not None and end < promised:
            raise damaged_at(self._path, index, f"the clip should go on to {float(promised):.3f} s but ends here")

    def _time(self, picture: av.VideoFrame, previous: int | None) -> int:
        own = ticks(picture.pts)
        if own is None:
            own = ticks(picture.dts)
            if own is None or (previous is not None and own <= previous):
                own = 0 if previous is None else previous + self._step
        return own if previous is None else max(own, previous + 1)

    def _pictures_from_here(self, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
        """Decode the stream from where the container stands, with the alpha beside the pictures where that is read."""
        decoder = alpha_decoder(self._path, stream) if self._reads_alpha else None
        if decoder is None:
            yield from container.decode(stream)
            return
        for packet in container.demux(stream):
            yield from decoder.decode(packet if packet.size else None)


def damaged_at(path: Path, index: int, why: str) -> MediaError:
    """Return the error of a frame that cannot be read."""
    readable = f"frames 0 to {index - 1} can" if index > 1 else "frame 0 can" if index else "no frame can"
    return MediaError(
        f"{path}: frame {index} cannot be read ({why}), {readable}; the file is damaged or cut off there "
        "(--on-error repeat goes on where single frames are damaged)"
    )


def shown_pictures(
    path: Path, container: InputContainer, stream: VideoStream, timeline: Timeline, with_alpha: bool, repeat: bool
) -> Iterator[FrameSlot]:
    """Decode the stream's frames in display order, with the alpha that stands beside them where wanted."""
    decoder = alpha_decoder(path, stream) if with_alpha else None
    packets = timeline.packets(container, stream)
    yield from skip_damaged(packets, stream, decoder) if repeat else strict(packets, container, stream, decoder)
