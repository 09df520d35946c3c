"""What every mask source is: it finds the subjects in every frame. `mask_sources.py` has those of prompts and masks,
`saved_tracks.py` those of track files.
"""

from __future__ import annotations

import hashlib
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mam_video.core.frames import Record
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings
from mam_video.jobs.checkpoint import Checkpoint
from mam_video.matting.pipeline import end_needed
from mam_video.media import Reader
from mam_video.models.base import Model
from mam_video.motion.shot_detection import CutFinder
from mam_video.prompts.prompt import DEFAULT_SUBJECT, Prompt
from mam_video.runtime.lifecycle import Closeable
from mam_video.runtime.stage_timer import StageTimer
from mam_video.tracking.stage import FollowTracks, TrackStage
from mam_video.tracking.track_file import Track


@dataclass(frozen=True, kw_only=True)
class TrackingJob:
    """What a mask source works with.

    frames      those that come out
    batch       frames embedded at once
    cuts        finds the cuts, and says what is done there
    checkpoint  where what is found is kept, so that the run can be resumed
    on_tracked  called after each frame that is tracked ahead of matting, in either direction
    """

    reader: Reader
    frames: FrameRange
    model: Model
    settings: Settings
    batch: int
    cuts: CutFinder
    clock: StageTimer
    checkpoint: Checkpoint | None = None
    on_tracked: Callable[[], None] | None = None

    @property
    def stop(self) -> int | None:
        """One past the frame to end with so that the last one comes out as in the whole clip; None: the clip's end."""
        return end_needed(self.frames, self.settings.smooth, self.batch)


@dataclass(frozen=True, kw_only=True)
class TrackedClip:
    """Where the subjects are, ready for the recipe.

    stage    the track stage of the recipe
    covers   frames that are tracked already; None: they are tracked as they come
    ends     whether the run ends where `covers` does
    known    frames whose records `records` can tell, counted from the run's first
    records  of a frame, by index: a record for each subject
    """

    stage: TrackStage
    known: int
    records: Callable[[int], tuple[Record, ...]]
    covers: FrameRange | None = None
    ends: bool = False


class MaskSource(Closeable):
    """Finds the subjects in every frame. A context manager: files that it opened are closed at its end.

    subjects  their names, in the order of every row
    """

    subjects: tuple[str, ...] = (DEFAULT_SUBJECT,)

    @abstractmethod
    def tracked(self, job: TrackingJob) -> AbstractContextManager[TrackedClip]:
        """Find the subjects, or prepare to find them as frames come. The result is valid inside the context.

        Raises: UsageError or MediaError, in one line.
        """

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return what the masks depend on, in plain values."""

    @property
    def prompted(self) -> tuple[int, ...]:
        """Indices of the prompted frames, where there are several."""
        return ()

    def prompts_at(self, index: int) -> tuple[Prompt | None, ...]:
        """Return the prompt of each subject on frame `index`; empty where prompts are not known."""
        return ()

    @property
    def notes(self) -> list[str]:
        """What was assumed of the masks, a line each."""
        return []

    @property
    def record_names(self) -> tuple[str, ...]:
        """Names of the subjects as records have them: empty for one that is alone."""
        return self.subjects if len(self.subjects) > 1 else ("",)

    def close(self) -> None:
        """Close what was opened."""


class TrackedAhead(MaskSource):
    """Masks that are found before the first frame is matted, and followed in a second pass over the clip.

    With a checkpoint a track is kept once it is whole.
    """

    @contextmanager
    def tracked(self, job: TrackingJob) -> Iterator[TrackedClip]:
        with tempfile.TemporaryDirectory(prefix="mam-video-") as folder, ExitStack() as stack:
            tracks = {
                name: stack.enter_context(self.track_of(k, Path(folder), job))
                for k, name in enumerate(self.record_names)
            }
            yield followed(tracks, ends=job.settings.cuts.on_cut == "stop")

    def track_of(self, k: int, folder: Path, job: TrackingJob) -> Track:
        """Return the track of subject `k`, opened; `folder` is for files of the run."""
        own = folder / str(k)
        own.mkdir()
        path = own / "ahead.track" if job.checkpoint is None else job.checkpoint.ahead(k)
        self.track_ahead(k, path, own, job)
        return Track.load(path, job.reader.info.size)

    @abstractmethod
    def track_ahead(self, k: int, path: Path, folder: Path, job: TrackingJob) -> None:
        """Write the track of subject `k` to `path`, if it is not there whole; `folder` is for files in between."""


def followed(tracks: Mapping[str, Track], *, ends: bool) -> TrackedClip:
    """Follow tracks that are whole; `ends`: the run ends where they do."""

    def records(index: int) -> tuple[Record, ...]:
        return tuple(replace(track.frame(index).record, subject=name) for name, track in tracks.items())

    first = max(track.first for track in tracks.values())
    stop = min(track.first + track.count for track in tracks.values())
    known = max(stop - first, 0)
    covers = FrameRange(first, max(stop, first + 1))
    return TrackedClip(stage=FollowTracks(tracks), known=known, records=records, covers=covers, ends=ends)


def hash_of_masks(prompts: Iterable[Prompt]) -> str:
    masks = [prompt.mask.tobytes() for prompt in prompts if prompt.mask is not None]
    return hashlib.sha256(b"".join(masks)).hexdigest() if masks else "none"
