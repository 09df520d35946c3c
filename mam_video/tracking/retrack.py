"""Correct a saved track: only the frames around a new prompt are tracked again.

A new prompt changes the frames up to its neighbours in the track: the prompted frames on either side, or the ends of
the shot or of the track where there are none. Between them both passes of `bidirectional.py` run as usual; what was
found on the neighbours is taken over. All other frames are those of the track, bit for bit.

    track      P . . . . . . . . P . . . . . . . . P . . .
    new                              *
    again                          = = = = = = = =
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mam_video.core.errors import UsageError
from mam_video.core.frames import Record, State
from mam_video.core.reasons import Reason
from mam_video.core.settings import Settings
from mam_video.models.base import Model
from mam_video.motion.shot_detection import CutFinder, Moved
from mam_video.prompts.prompt import Prompt, Prompts
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import ahead, closing_iter
from mam_video.tracking.bidirectional import BLENDED_AHEAD, BidirectionalTracker, FramesOf
from mam_video.tracking.track_file import Track
from mam_video.tracking.types import MaskObservation


@dataclass(frozen=True, slots=True)
class Stretch:
    """The frames start <= index < stop of a track that are tracked again.

    prompted  the newly prompted frames among them, in order
    before, after  the neighbours: prompted frames of the track that are kept; None where there is none in the shot
    """

    start: int
    stop: int
    prompted: tuple[int, ...]
    before: int | None
    after: int | None


def find_stretches(track: Track, prompted: Sequence[int]) -> list[Stretch]:
    """Return what has to be tracked again for new prompts on the frames `prompted`, in order.

    Raises: UsageError, a frame is not in the track.
    """
    end = track.first + track.count
    stretches: list[Stretch] = []
    for place in sorted(prompted):
        if not track.first <= place < end:
            raise UsageError(f"prompt on frame {place} (by index): {track.path} covers frames {track.first}-{end - 1}")
        last = stretches[-1] if stretches else None
        if last is not None and place < last.stop:  # between the same neighbours
            stretches[-1] = replace(last, prompted=(*last.prompted, place))
            continue
        start, before = place, None
        while start > track.first and not _begins_shot(track.record(start)):
            if track.record(start - 1).state is State.PROMPTED and start - 1 not in prompted:
                before = start - 1
                break
            start -= 1
        stop, after = place + 1, None
        while stop < end and not _begins_shot(record := track.record(stop)):
            if record.state is State.PROMPTED and stop not in prompted:
                after = stop
                break
            stop += 1
        stretches.append(Stretch(start, stop, (place,), before, after))
    return stretches


def retrack(
    frames_of: FramesOf,
    track: Track,
    prompts: Prompts,
    model: Model,
    settings: Settings,
    folder: Path,
    *,
    stop: int | None = None,
    batch: int = 1,
    clock: StageTimer | None = None,
    on_frame: Callable[[], None] | None = None,
) -> Generator[MaskObservation, None, None]:
    """Yield the observation of each frame of a track, in order, corrected by new prompts.

    Args:
        folder: an empty folder for observations; they are left there.
        stop: frames from here on are not needed: a stretch that no prompt ends is not tracked further.
        batch, clock, on_frame: as in `track_prompts`.
    Raises: UsageError, a prompt is not on a frame of the track, or another model made the track.
    """
    if (track.model, track.mask_size) != (model.name, model.mask_size):
        raise UsageError(
            f"{track.path}: was made with --model {track.model}, and is corrected by the same model alone; use that "
            f"one, or track all with {model.name}: leave out --track and give every prompt"
        )
    corrector = _Corrector(frames_of, track, prompts, model, settings, batch, clock or StageTimer(), on_frame)
    yield from ahead(corrector.observations(folder, stop), BLENDED_AHEAD, "model")


@dataclass(frozen=True)
class _Corrector:
    frames_of: FramesOf
    track: Track
    prompts: Prompts
    model: Model
    settings: Settings
    batch: int
    clock: StageTimer
    on_frame: Callable[[], None] | None

    def observations(self, folder: Path, stop: int | None) -> Generator[MaskObservation, None, None]:
        index = self.track.first
        for number, stretch in enumerate(find_stretches(self.track, self.prompts.frames)):
            own = folder / str(number)
            own.mkdir()
            for kept in range(index, stretch.start):
                yield self.track.frame(kept)
            yield from self._again(stretch, own, stop)
            index = stretch.stop
        for kept in range(index, self.track.first + self.track.count):
            yield self.track.frame(kept)

    def _again(self, stretch: Stretch, folder: Path, stop: int | None) -> Generator[MaskObservation, None, None]:
        """Track a stretch again; frames beyond `stop` that no prompt follows are left as they were."""
        end = stretch.stop
        if stretch.after is None and stop is not None:
            end = max(min(end, stop), stretch.prompted[-1] + 1)
        known = {k: self.track.frame(k) for k in (stretch.before, stretch.after) if k is not None}
        prompts = {k: Prompt(found.record.box, placed=True) for k, found in known.items()}
        prompts |= {k: self.prompts[k] for k in stretch.prompted}
        tracker = BidirectionalTracker(
            self.frames_of, Prompts.of(prompts), self.model, self.settings, folder, self._cuts_in(stretch),
            self.batch, self.clock, self.on_frame or (lambda: None), known,
        )  # fmt: skip
        try:
            tracker.track_forwards(end if stretch.after is None else stretch.after + 1)
            tracker.track_backwards(stretch.start if stretch.before is None else stretch.before)
            for found in tracker.blended(stretch.start if stretch.before is None else stretch.before):
                if found.record.index not in known:
                    begins = _begins_shot(self.track.record(found.record.index))
                    yield found.with_record(replace(found.record, cut=True)) if begins else found
        finally:
            tracker.close()
        for kept in range(end, stretch.stop):
            yield self.track.frame(kept)

    def _cuts_in(self, stretch: Stretch) -> CutFinder:
        """Return the cuts that tracking goes through: a stretch lies in one shot, or cuts do not end shots."""
        cuts = _KnownCuts(replace(self.settings.cuts, on_cut="continue"), self.settings.motion)
        inside = range(stretch.start, stretch.stop)
        cuts.found = [k for k in inside if self.track.record(k).cut and not _begins_shot(self.track.record(k))]
        return cuts


class _KnownCuts(CutFinder):
    """Cuts that are known: none are looked for."""

    def watch(self, frames: Iterable[Moved], clock: StageTimer | None = None) -> Generator[Moved, None, None]:
        with closing_iter(frames) as source:
            yield from source


def _begins_shot(record: Record) -> bool:
    """Return whether a frame is the first of a shot; a cut that tracking went through begins none."""
    return record.cut and all(finding.reason is not Reason.TRACKED_THROUGH_CUT for finding in record.findings)
