"""The track stage of the recipe: of each frame a row with one `TrackedFrame` for each subject.

A subject that is alone is a row of one, and its records name no subject.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Protocol

from mam_video.core.settings import Settings
from mam_video.models.base import Model, video_model_of
from mam_video.motion.shot_detection import CutFinder, Moved
from mam_video.prompts.prompt import Prompt
from mam_video.runtime.rows import map_columns
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import closing_iter
from mam_video.tracking.multi_subject import track_subjects
from mam_video.tracking.shots import in_first_shot, with_cuts
from mam_video.tracking.track_back import checked
from mam_video.tracking.track_file import Track, TrackWriter, saved
from mam_video.tracking.track_log import TrackLog
from mam_video.tracking.tracker import track
from mam_video.tracking.types import TrackedFrame
from mam_video.tracking.video_model import track_in_memory

TrackedRow = tuple[TrackedFrame, ...]


class Apart(Protocol):
    """How the model's tracking runs: where it is asked for, or ahead of that."""

    def __call__(self, rows: Iterable[TrackedRow]) -> Iterable[TrackedRow]:
        """Return the same rows in the same order."""
        ...


def in_turn(rows: Iterable[TrackedRow]) -> Iterable[TrackedRow]:
    """Track a frame when it is asked for."""
    return rows


class TrackStage(Protocol):
    """Finds the subjects in frames."""

    def __call__(
        self, moving: Iterable[Moved], model: Model, apart: Apart = in_turn
    ) -> Generator[TrackedRow, None, None]:
        """Yield a row for each frame, in order.

        Args:
            moving: neighbouring frames in order, each with the motion that leads to it.
            apart: how the tracker runs if the model is asked where subjects are. It may go ahead of the check of its
                track, of matting and of all else.
        """
        ...


@dataclass(frozen=True)
class TrackPrompts:
    """Track the subjects that are prompted on the first frame, as far as the first shot goes.

    prompts  by name, as records have it: empty for a subject that is alone
    batch    frames embedded at once
    logs     of each subject, what this same call found when it was cut off; the rest is added. Empty: nothing is logged
    """

    prompts: Mapping[str, Prompt]
    settings: Settings
    batch: int
    cuts: CutFinder
    clock: StageTimer = field(default_factory=StageTimer)
    logs: Sequence[TrackLog] = ()

    def __call__(
        self, moving: Iterable[Moved], model: Model, apart: Apart = in_turn
    ) -> Generator[TrackedRow, None, None]:
        follow = partial(self._follow, model=model, apart=apart)
        rows = in_first_shot(moving, follow, model, self.prompts, self.cuts, self.clock)
        if self.logs:
            rows = map_columns(rows, [log.kept for log in self.logs])
        return with_cuts(rows, self.cuts)

    def _follow(self, moving: Iterable[Moved], model: Model, apart: Apart) -> Generator[TrackedRow, None, None]:
        """Track one subject by itself, or several side by side."""
        settings = self.settings
        if video_model_of(model) is not None:
            with closing_iter(moving) as source:
                first = next(iter(source), None)
                if first is not None:
                    prompts = [{first[0].index: prompt} for prompt in self.prompts.values()]
                    rows = track_in_memory(chain([first], source), model, prompts, settings, self.clock)
                    yield from map_columns(rows, [partial(_named, name=name) for name in self.prompts])
            return
        if len(self.prompts) > 1:
            rows = track_subjects(
                moving, model, self.prompts, settings=settings.track, view=settings.view, batch=self.batch
            )
        else:
            (prompt,) = self.prompts.values()
            known = self.logs[0] if self.logs else ()
            rows = _alone(
                track(moving, model, prompt, settings=settings.track, view=settings.view, batch=self.batch, known=known)
            )
        yield from map_columns(apart(rows), [partial(checked, model=model, settings=settings)] * len(self.prompts))


@dataclass(frozen=True)
class FollowTracks:
    """Follow saved tracks: nothing is tracked.

    tracks  by name, as records have it: empty for a subject that is alone
    """

    tracks: Mapping[str, Track]

    def __call__(
        self, moving: Iterable[Moved], model: Model, apart: Apart = in_turn
    ) -> Generator[TrackedRow, None, None]:
        # One stream of frames for all: a row of the same frame for each.
        rows = _repeated(moving, len(self.tracks))
        return map_columns(rows, [partial(_followed, track, name, model) for name, track in self.tracks.items()])


def _alone(tracked: Iterable[TrackedFrame]) -> Generator[TrackedRow, None, None]:
    with closing_iter(tracked) as source:
        for item in source:
            yield (item,)


def _named(tracked: Iterable[TrackedFrame], name: str) -> Generator[TrackedFrame, None, None]:
    with closing_iter(tracked) as source:
        for item in source:
            yield item.with_record(replace(item.record, subject=name)) if name else item


def _repeated(moving: Iterable[Moved], count: int) -> Generator[tuple[Moved, ...], None, None]:
    with closing_iter(moving) as source:
        for item in source:
            yield (item,) * count


def _followed(track: Track, name: str, model: Model, moving: Iterable[Moved]) -> Generator[TrackedFrame, None, None]:
    return _named(track.follow(moving, model), name)


@dataclass(frozen=True)
class SaveTracks:
    """A track stage whose rows are also written to track files, one for each subject. Their owner closes them."""

    stage: TrackStage
    writers: Sequence[TrackWriter]

    def __call__(
        self, moving: Iterable[Moved], model: Model, apart: Apart = in_turn
    ) -> Generator[TrackedRow, None, None]:
        return map_columns(self.stage(moving, model, apart), [partial(saved, writer=writer) for writer in self.writers])
