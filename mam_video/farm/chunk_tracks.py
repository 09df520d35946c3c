"""A track file for each chunk, written while tracking goes on, so that chunks can be matted before it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from mam_video.core.ranges import FrameRange
from mam_video.core.settings import SmoothSettings
from mam_video.farm.plan import ALIGNED
from mam_video.matting.pipeline import end_needed, first_needed
from mam_video.runtime.lifecycle import Transactional
from mam_video.runtime.os_errors import writing
from mam_video.tracking.stage import TrackedRow
from mam_video.tracking.track_file import TrackWriter


def track_span(chunk: FrameRange, smooth: SmoothSettings, batch: int) -> FrameRange:
    """Return the frames whose track a chunk needs, on every device: batches of a CPU, of a GPU, or as set."""
    sizes = {1, ALIGNED, batch}
    ends = [end_needed(chunk, smooth, size) or 0 for size in sizes]
    return FrameRange(min(first_needed(chunk.start, smooth, size) for size in sizes), max(ends))


class _Open:
    """The growing track files of one chunk, one for each subject."""

    def __init__(self, chunk: FrameRange, span: FrameRange, writers: Sequence[TrackWriter]) -> None:
        self.chunk, self.span, self.writers = chunk, span, writers


class ChunkTracks(Transactional):
    """Writes what each chunk needs of the track. A file appears whole, when its last frame is tracked."""

    def __init__(
        self,
        spans: Sequence[tuple[FrameRange, FrameRange]],
        open_writer: Callable[[FrameRange, int], TrackWriter],
        final: Callable[[FrameRange, int], Path],
        subjects: int,
    ) -> None:
        """`spans`: chunks with their `track_span`, in order. `open_writer` and `final`: of a chunk and a subject."""
        self._waiting, self._open = list(spans), list[_Open]()
        self._open_writer, self._final, self._subjects = open_writer, final, subjects

    def add(self, row: TrackedRow) -> None:
        """Add a tracked frame: an item for each subject."""
        index = row[0].frame.index
        while self._waiting and self._waiting[0][1].start <= index:
            chunk, span = self._waiting.pop(0)
            self._open.append(_Open(chunk, span, [self._open_writer(chunk, k) for k in range(self._subjects)]))
        for each in self._open:
            for writer, item in zip(each.writers, row, strict=True):
                writer.write(item)
        for each in [each for each in self._open if each.span.stop == index + 1]:
            self._finish(each)

    def _finish(self, each: _Open) -> None:
        self._open.remove(each)
        for k, writer in enumerate(each.writers):
            writer.close()
            final = self._final(each.chunk, k)
            with writing(final):
                writer.path.replace(final)

    def close(self) -> None:
        """Finish the files of chunks whose span reaches beyond the last frame."""
        while self._open:
            self._finish(self._open[0])

    def abort(self) -> None:
        with ExitStack() as stack:
            for each in self._open:
                for writer in each.writers:
                    stack.callback(writer.abort)
