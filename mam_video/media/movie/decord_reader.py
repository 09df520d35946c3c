"""Fetch single frames of a movie through decord, for pictures that people look at.

decord (extra `decord`) keeps its decoder open between fetches, and seeks by itself. It gives 8-bit RGB made by
FFmpeg's scaler, times as floats, and no alpha, so its pixels are not ours: they feed no model and no output. Nothing
that it says is believed unchecked. Its number and times of frames must be those of the packets that PyAV demuxes. The
first frame that is fetched must equal, bit for bit, what PyAV decodes from one key frame farther back. Otherwise
`MovieReader` decodes the movie.
"""

from __future__ import annotations

import importlib
from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np

from mam_video.core.frames import Frame
from mam_video.media.base import ClipInfo
from mam_video.media.movie.reader import MovieReader
from mam_video.media.movie.stream_info import OpenedStream
from mam_video.runtime.lifecycle import Closeable

# In these codecs every packet of an MP4 file is one picture that is shown.
_CODECS: Final = ("h264", "hevc")
_PIXELS: Final = ("yuv420p", "yuv422p", "yuv444p", "gbrp")


class DecordReader(Closeable):
    """A movie whose frames are fetched in any order. See `Reader`; the pixels are for viewing.

    refusal  why decord does not read this movie; "" while it does
    """

    def __init__(self, reader: MovieReader) -> None:
        """Take over `reader`, which is closed with this one. decord is opened when a later frame than 0 is fetched."""
        self.info = reader.info
        self.broken = reader.broken
        self._reader = reader
        self._times: list[int] = []
        self._keys: list[int] = []  # indices of key frames
        self._video: Any = None
        self._vouched = False
        self.refusal = _refusal(reader.info)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Yield frames start <= index < stop; see `Reader.frames`."""
        if start > 0 and not self.refusal and self._video is None:
            self.refusal = self._open()
        if start == 0 or self.refusal:
            yield from self._reader.frames(start, stop)
            return
        for index in range(start, len(self._times) if stop is None else min(stop, len(self._times))):
            rgb = self._fetched(index)
            if rgb is None:
                yield from self._reader.frames(index, stop)
                return
            label = None if self.info.timecode is None else str(self.info.timecode + index)
            yield Frame(index, self._times[index], self.info.time_base, rgb, timecode=label)

    def index_for_random_access(self) -> None:
        self._reader.index_for_random_access()

    def index_frames(self) -> Iterator[int]:
        return self._reader.index_frames()

    def close(self) -> None:
        self._video = None
        self._reader.close()

    def _open(self) -> str:
        """Open decord and compare its frames with the packets. Return why it is refused, "" if it is not."""
        try:
            decord = importlib.import_module("decord")
        except ImportError:
            return "decord is not installed"
        with OpenedStream(self._reader.path) as (container, stream):
            if stream.codec_context.codec.canonical_name not in _CODECS:
                return "not H.264 or HEVC"
            try:
                first = next(iter(container.decode(stream))).pts
                container.seek(0, backward=True)
                shown = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.size and not p.is_discard]
            except (av.FFmpegError, OSError, ValueError, StopIteration):
                return "packets cannot be read"
        if any(pts is None for pts, _ in shown):
            return "packets lack times"
        shown.sort()
        self._times = [pts for pts, _ in shown if pts is not None]
        self._keys = [index for index, (_, key) in enumerate(shown) if key]
        if len(set(self._times)) != len(self._times) or len(self._times) != self.info.frames_in_header:
            return "packets are not the frames that the header counts"
        if first != self._times[0]:
            return "the first packet is not the first frame"
        try:
            self._video = decord.VideoReader(str(self._reader.path), num_threads=1)
            count = len(self._video)
        except Exception as error:  # noqa: BLE001 - decord's errors derive from RuntimeError or from Exception
            return f"decord cannot open it ({' '.join(str(error).split())[:80]})"
        return "" if count == len(self._times) else f"decord counts {count} frames, the file has {len(self._times)}"

    def _fetched(self, index: int) -> np.ndarray | None:
        """Return (H, W, 3) uint8 RGB of a frame; None where decord is refused from here on."""
        try:
            rgb = np.asarray(self._video[index].asnumpy())
            seconds = float(self._video.get_frame_timestamp(index)[0])
        except Exception as error:  # noqa: BLE001 - as above
            self.refusal = f"decord cannot decode frame {index} ({' '.join(str(error).split())[:80]})"
            return None
        due = self._times[index] * self.info.time_base
        if abs(Fraction(seconds) - due) > self.info.time_base / 2 + due / 2**22:  # decord keeps times in float32
            self.refusal = f"decord's frame {index} has another time"
        elif rgb.shape != (*self.info.size, 3):
            self.refusal = f"decord's frame {index} has another size"
        elif not self._vouched and not self._is_what_pyav_decodes(index, rgb):
            self.refusal = f"decord's frame {index} has other pixels than FFmpeg's scaler gives"
        if self.refusal:
            return None
        self._vouched = True
        return rgb

    def _is_what_pyav_decodes(self, index: int, rgb: np.ndarray) -> bool:
        """Whether FFmpeg's scaler gives the same, decoded from the key frame before the one that decord enters at."""
        place = bisect_left(self._keys, index + 1) - 2
        entry = self._times[self._keys[max(place, 0)]] if self._keys else self._times[0]
        with OpenedStream(self._reader.path) as (container, stream):
            try:
                container.seek(entry, stream=stream, backward=True, any_frame=False)
                for picture in container.decode(stream):
                    if picture.pts == self._times[index]:
                        return not picture.is_corrupt and np.array_equal(rgb, picture.to_ndarray(format="rgb24"))
                    if picture.pts is None or picture.pts > self._times[index]:
                        break
            except (av.FFmpegError, OSError, ValueError):
                pass
        return False


def _refusal(info: ClipInfo) -> str:
    """Return why decord is not used for such a clip; "" where it is."""
    if info.pixel_format not in _PIXELS or info.has_alpha:
        return "not 8-bit colour without alpha"
    if not info.colour.tagged and info.pixel_format != "gbrp":
        return "colour is not tagged, and decord assumes another matrix than this package"
    if info.rotation or info.interlaced or info.timeline.stretches:
        return "turned, interlaced, or with a clock that restarts"
    return ""
