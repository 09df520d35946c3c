"""The frames of one clip for the page: any frame, quickly, in bounded memory.

A movie is decoded once in the background, which makes every later jump quick (`Reader.index_frames`); until a frame is
reached there, a request for it waits. Neighbouring frames come from one pass of the decoder.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from mam_video.core.arrays import RGB8
from mam_video.core.errors import MamVideoError, MediaError, UsageError
from mam_video.core.frames import Frame
from mam_video.media import Reader
from mam_video.media.movie.reader import MovieReader
from mam_video.runtime.lifecycle import Closeable
from mam_video.studio.caches import BoundedCache
from mam_video.studio.pictures import plate_full, plate_view, view_jpeg, view_size

T = TypeVar("T")
_PICTURES: Final = 96 << 20  # bytes of encoded pictures
_DECODED: Final = 64 << 20  # bytes of decoded frames, for pixel values and for views of one frame
_SKIP: Final = 12  # frames that are decoded and passed over rather than sought
_BACK: Final = 8  # frames decoded together when the page goes backwards
_DIRECT: Final = 48  # frames from the start that need no index
_PAUSE: Final = 0.03  # seconds that the background pass waits while the page asks for frames
_WAIT: Final = 120.0  # seconds until a frame that is never reached is given up


class _Pass(Generic[T]):
    """One pass of a decoder that goes on where it stood, and begins anew where a frame is far from there."""

    def __init__(self, begin: Callable[[int, int | None], Iterator[tuple[int, T]]]) -> None:
        self._begin = begin
        self._run: Iterator[tuple[int, T]] | None = None
        self._next = 0

    def get(self, index: int, stop: int | None) -> T | None:
        """Return what belongs to a frame; None where the clip ends before it. `stop` as for `Reader.frames`."""
        if self._run is not None and 0 <= index - self._next <= _SKIP:
            found = self._up_to(index)
            if found is not None:
                return found
        self._run, self._next = self._begin(index, stop), index
        return self._up_to(index)

    def end(self) -> None:
        """Let go of the decoder."""
        self._run = None

    def _up_to(self, index: int) -> T | None:
        assert self._run is not None
        for at, found in self._run:
            self._next = at + 1
            if at >= index:
                return found
        self._run = None
        return None


def _quick_pass(reader: Reader) -> _Pass[RGB8] | None:
    """Make a pass of small pictures, where the reader has a quick way for them."""
    if not isinstance(reader, MovieReader):
        return None
    width, height = view_size(reader.info.width, reader.info.height)
    if reader.views(width, height, 0, 0) is None:
        return None

    def begin(start: int, stop: int | None) -> Iterator[tuple[int, RGB8]]:
        return reader.views(width, height, start, stop) or iter(())

    return _Pass(begin)


class FrameStore(Closeable):
    """Frames of an opened clip, by index. Thread-safe; the reader is closed with it.

    on_indexed  called from a thread as the background pass goes on: frames that are quick, frames
                of the clip, and whether it has ended
    """

    def __init__(self, reader: Reader, on_indexed: Callable[[int, int, bool], None] | None = None) -> None:
        self.reader, self.info = reader, reader.info
        self._on_indexed = on_indexed
        self._decoding = threading.Lock()
        self._reached = threading.Condition()
        self._exact = _Pass(lambda start, stop: ((f.index, f) for f in reader.frames(start, stop)))
        self._quick = _quick_pass(reader)
        self._last = 0
        self._asked = 0.0
        self._pictures: BoundedCache[bytes] = BoundedCache(_PICTURES)
        self._frames: BoundedCache[Frame] = BoundedCache(_DECODED)
        self.indexed = 0
        self.whole = self.info.numbers is not None
        self._failure: MamVideoError | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._index, name="index", daemon=True)
        if not self.whole:
            self._thread.start()

    @property
    def count(self) -> int:
        """Frames of the clip; what the header claims until all are counted."""
        if self.info.numbers is not None:
            return len(self.info.numbers)
        known = self.info.frames_in_header
        return self.indexed if known is None or (self.whole and self.indexed) else max(known, self.indexed)

    def frame(self, index: int) -> Frame:
        """Return a frame. Raises: UsageError, the clip has no such frame; MediaError, it cannot be read."""
        found = self._frames.get(index)
        if found is not None:
            return found
        self._wait_for(index)
        with self._decoding:
            found = self._frames.get(index)
            return self._decoded(index) if found is None else found

    def picture(self, index: int, *, full: bool) -> bytes:
        """Return a frame encoded for the page: JPEG for scrubbing, or every pixel as PNG. Raises: as `frame`."""
        self._asked = time.monotonic()
        found = self._pictures.get((index, full))
        if found is not None:
            return found
        if full:
            return self._keep(index, plate_full(self.frame(index)), full)
        if 0 < self._last - index <= _BACK:  # going backwards: the frames before are wanted next
            for before in range(max(index - _BACK, 0), index):
                if self._pictures.get((before, False)) is None:
                    self._keep(before, self._view(before), False)
        self._last = index
        return self._keep(index, self._view(index), full)

    def close(self) -> None:
        self._closed = True
        with self._reached:
            self._reached.notify_all()
        if self._thread.is_alive():
            self._thread.join(5)
        with self._decoding:
            self._exact.end()
            if self._quick is not None:
                self._quick.end()
            self.reader.close()

    def _keep(self, index: int, data: bytes, full: bool) -> bytes:
        self._pictures.put((index, full), data, len(data))
        return data

    def _decoded(self, index: int) -> Frame:
        """Decode up to a frame and keep it; the lock is held."""
        frame = self._exact.get(index, self._stop_for(index))
        if frame is None:
            raise UsageError(f"{self.info.path}: holds no frame {index}")
        self._frames.put(index, frame, frame.rgb.nbytes)
        return frame

    def _stop_for(self, index: int) -> int | None:
        """One past the last frame that a pass from `index` may reach by seeking."""
        return self.indexed if self.info.numbers is None and self.indexed > index else None

    def _view(self, index: int) -> bytes:
        """Encode a frame for scrubbing, the quick way where the movie has one."""
        if self._quick is None:
            return plate_view(self.frame(index))
        self._wait_for(index)
        with self._decoding:
            picture = self._quick.get(index, self._stop_for(index))
        if picture is None:
            raise UsageError(f"{self.info.path}: holds no frame {index}")
        return view_jpeg(picture)

    def _wait_for(self, index: int) -> None:
        """Wait until a frame can be decoded without all before it. Raises: UsageError, MediaError."""
        if index < 0:
            raise UsageError("frames are counted from 0")
        deadline = time.monotonic() + _WAIT
        with self._reached:
            while not (self.whole or index < _DIRECT or self.indexed > index or self._failure or self._closed):
                if not self._reached.wait(1.0) and time.monotonic() > deadline:
                    raise MediaError(f"{self.info.path}: frame {index} is not reached yet; try again")
        if self._closed:
            raise UsageError("the clip was closed")
        if self._failure is not None and index >= self.indexed:
            raise self._failure
        if self.whole and index >= self.count > 0:
            raise UsageError(f"{self.info.path}: holds no frame {index}; it has {self.count}, counted from 0")

    def _index(self) -> None:
        told = 0.0
        try:
            for index in self.reader.index_frames():
                self.indexed = index + 1
                now = time.monotonic()
                if now - told > 0.25:
                    told = now
                    self._tell(False)
                if self._closed:
                    return
                if now - self._asked < 0.5 and index > _DIRECT:
                    time.sleep(_PAUSE)
        except MamVideoError as error:
            self._failure = error
        self.whole = self._failure is None
        self._tell(True)

    def _tell(self, ended: bool) -> None:
        with self._reached:
            self._reached.notify_all()
        if self._on_indexed is not None and not self._closed:
            self._on_indexed(self.indexed, self.count, ended)
