"""A mask source for tasks that follow tracks which another task has made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mam_video.core.ranges import FrameRange
from mam_video.jobs.mask_source import MaskSource, TrackedClip, TrackingJob, followed
from mam_video.media import ClipInfo
from mam_video.prompts.prompt import Prompt
from mam_video.tracking.track_file import Track


class TrackedBefore(MaskSource):
    """A mask source whose tracks another task has made: its facts, and the track file of each subject, opened.

    Raises: as `Track.load`.
    """

    def __init__(self, source: MaskSource, paths: Sequence[Path], info: ClipInfo) -> None:
        self._source, self.subjects = source, source.subjects
        self.tracks: list[Track] = []
        try:
            self.tracks += [Track.load(path, info.size) for path in paths]
        except BaseException:
            self.close()
            raise

    @property
    def frames(self) -> FrameRange:
        """The frames that every track has."""
        first = max(track.first for track in self.tracks)
        return FrameRange(first, max(min(track.first + track.count for track in self.tracks), first + 1))

    @contextmanager
    def tracked(self, job: TrackingJob) -> Iterator[TrackedClip]:
        yield followed(dict(zip(self.record_names, self.tracks, strict=True)), ends=False)

    def fingerprint(self) -> dict[str, Any]:
        return self._source.fingerprint()

    @property
    def prompted(self) -> tuple[int, ...]:
        return self._source.prompted

    def prompts_at(self, index: int) -> tuple[Prompt | None, ...]:
        return self._source.prompts_at(index)

    @property
    def notes(self) -> list[str]:
        return self._source.notes

    def close(self) -> None:
        self._source.close()
        for track in self.tracks:
            track.close()
