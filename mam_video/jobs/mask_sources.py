"""Mask sources: where a run gets the subjects' masks from. Each kind is a class that checks itself when made.

    FirstFramePrompt   prompts on the first frame: tracked and matted in one pass over the clip
    MultiFramePrompts  prompts on several frames, or on a later one: tracked first, matted in a second pass
    SavedTrack         a track file (`saved_tracks.py`)
    CorrectedTracks    a track file and prompts that correct it: tracked again around these, matted in a second pass
    ExternalMasks      masks of every frame, made elsewhere
    Trimaps            trimaps of every frame, made elsewhere

`mask_source` makes the right one of what a user gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mam_video.core.errors import UsageError
from mam_video.core.frames import Record
from mam_video.core.ranges import FrameRange
from mam_video.jobs.external_masks import track_masks
from mam_video.jobs.mask_source import MaskSource, TrackedAhead, TrackedClip, TrackingJob, hash_of_masks
from mam_video.jobs.saved_tracks import CorrectedTracks, SavedTrack
from mam_video.media import ClipInfo
from mam_video.media.mask_reader import Masks
from mam_video.media.open import identity_of
from mam_video.models.base import video_model_of
from mam_video.motion.flow import with_motion
from mam_video.motion.shot_detection import CutFinder
from mam_video.prompts.prompt import Prompt, PromptLike, Prompts, as_prompt
from mam_video.tracking.bidirectional import track_prompts
from mam_video.tracking.shots import with_cuts
from mam_video.tracking.stage import TrackPrompts
from mam_video.tracking.track_file import TrackWriter
from mam_video.tracking.video_model import refuse_late_prompt, track_in_memory


def mask_source(
    prompt: PromptLike | None,
    info: ClipInfo,
    frames: FrameRange | None,
    *,
    backward: bool = False,
    track: str | Path | None = None,
    masks: str | Path | None = None,
    trimaps: str | Path | None = None,
    masks_of: FrameRange | None = None,
    passes: int = 1,
) -> MaskSource:
    """Make the mask source of a run, from a prompt, a track file, masks or trimaps; or from a track and prompts.

    Args:
        prompt: see `as_prompt`. Beside a track it corrects it.
        info: the clip.
        frames: the range of the run; None: the whole clip.
        backward: track back from the first prompt to the first frame.
        masks_of: the range that masks are of where their numbers do not say it; None: `frames`.
        passes: `track.passes`.
    Raises: UsageError, nothing was given or two things, or what was given cannot be for this clip and range.
    """
    prompt = as_prompt(prompt)
    ways = {"a prompt": prompt or None, "--track": track, "--masks": masks, "--trimaps": trimaps}
    given = [name for name, way in ways.items() if way is not None]
    if not given:
        raise UsageError("no prompt: give a box or points on the first frame, or a saved track")
    if len(given) > 1 and given != ["a prompt", "--track"]:
        raise UsageError(f"{' and '.join(given)} both say where the subject is; give one of them")
    if masks is not None:
        return ExternalMasks(masks, info, frames, masks_of)
    if trimaps is not None:
        return Trimaps(trimaps, info, frames, masks_of)
    first = frames.start if frames is not None else 0
    if isinstance(prompt, Prompt):
        prompt = Prompts.of({first: prompt})
    several = [prompt] if isinstance(prompt, Prompts) else list(prompt or ())
    _check_names([prompts.subject for prompts in several])
    if track is not None:
        return CorrectedTracks(track, several, info, frames) if several else SavedTrack(track, info, frames)
    if passes > 1 and len(several) > 1:
        raise UsageError("track.passes = 2 works with one subject: matte one after the other, or set track.passes=1")
    if passes == 1 and all(prompts.frames == (first,) for prompts in several):
        return FirstFramePrompt({prompts.subject: prompts[first] for prompts in several}, info, first)
    return MultiFramePrompts(several, info, frames or FrameRange(), backward=backward)


class FirstFramePrompt(MaskSource):
    """One subject or several, each prompted on the first frame.

    Raises: UsageError, a prompt lies outside the frame.
    """

    def __init__(self, prompts: Mapping[str, Prompt], info: ClipInfo, first: int = 0) -> None:
        """`prompts` by subject; `first` is the index of the frame that they are on."""
        self.prompts = {subject: prompt.in_pixels(info.size) for subject, prompt in prompts.items()}
        self.subjects, self.first = tuple(prompts), first

    def prompts_at(self, index: int) -> tuple[Prompt | None, ...]:
        return tuple(self.prompts.values()) if index == self.first else ()

    @contextmanager
    def tracked(self, job: TrackingJob) -> Iterator[TrackedClip]:
        names = self.record_names
        logs = () if job.checkpoint is None else job.checkpoint.tracks

        def records(index: int) -> tuple[Record, ...]:
            found = (log[index - job.frames.start].record for log in logs)
            return tuple(replace(record, subject=name) for record, name in zip(found, names, strict=True))

        stage = TrackPrompts(
            dict(zip(names, self.prompts.values(), strict=True)), job.settings, job.batch, job.cuts, job.clock, logs
        )
        yield TrackedClip(stage=stage, known=min((len(log) for log in logs), default=0), records=records)

    def fingerprint(self) -> dict[str, Any]:
        if len(self.prompts) == 1:
            (text,) = map(str, self.prompts.values())
        else:
            text = "; ".join(f"{name}@ {prompt}" for name, prompt in self.prompts.items())
        return {"prompt": text, "mask": hash_of_masks(self.prompts.values())}


class MultiFramePrompts(TrackedAhead):
    """Subjects with prompts on several frames, or on a later one than the first; each is tracked by itself.

    Raises: UsageError, a prompt lies outside the frame or the range, or nothing leads to the first frame.
    """

    def __init__(self, several: Sequence[Prompts], info: ClipInfo, frames: FrameRange, *, backward: bool) -> None:
        self.several = tuple(prompts.in_pixels(info.size) for prompts in several)
        self.subjects = tuple(prompts.subject for prompts in several)
        for prompts in several:
            _check_places(prompts, frames, backward, alone=len(several) == 1)

    def prompts_at(self, index: int) -> tuple[Prompt | None, ...]:
        found = tuple(dict(prompts.entries).get(index) for prompts in self.several)
        return found if any(found) else ()

    @property
    def prompted(self) -> tuple[int, ...]:
        frames = sorted({index for prompts in self.several for index in prompts.frames})
        return tuple(frames) if len(frames) > 1 else ()

    def track_ahead(self, k: int, path: Path, folder: Path, job: TrackingJob) -> None:
        if path.exists():
            return
        job.reader.index_for_random_access()
        # All find the same cuts; those of the first subject are the run's.
        cuts = job.cuts if k == 0 else CutFinder(job.settings.cuts, job.settings.motion)
        follower = video_model_of(job.model)
        if follower is not None:
            refuse_late_prompt(follower, self.several[k].frames[0], job.frames.start)
        with TrackWriter(path, job.reader.info.size, job.model, job.settings.as_dict()) as writer:
            if follower is not None:
                self._track_in_memory(k, writer, job, cuts)
                return
            found = track_prompts(
                job.reader.frames, self.several[k], job.model, job.settings, folder, first=job.frames.start,
                stop=job.stop, cuts=cuts, batch=job.batch, clock=job.clock, on_frame=job.on_tracked,
            )  # fmt: skip
            with closing(found):
                for observation in found:
                    writer.write_observation(observation)

    def _track_in_memory(self, k: int, writer: TrackWriter, job: TrackingJob, cuts: CutFinder) -> None:
        """Track subject `k` with a video model, which takes each prompt when its frame comes."""
        frames = job.reader.frames(job.frames.start, job.stop)
        moved = cuts.watch(with_motion(frames, job.settings.motion, clock=job.clock), job.clock)
        prompts = [dict(self.several[k].entries)]
        rows = with_cuts(track_in_memory(moved, job.model, prompts, job.settings, job.clock), cuts)
        with closing(rows):
            for (tracked,) in rows:
                writer.write(tracked)
                if job.on_tracked is not None:
                    job.on_tracked()

    def fingerprint(self) -> dict[str, Any]:
        alone = len(self.several) == 1
        entries = [
            f"{'' if alone else prompts.subject + '@'}{index}: {prompt}"
            for prompts in self.several
            for index, prompt in prompts.entries
        ]
        masks = (prompt for prompts in self.several for _, prompt in prompts.entries)
        return {"prompt": "; ".join(entries), "mask": hash_of_masks(masks)}


class ExternalMasks(TrackedAhead):
    """Masks of every frame, made elsewhere, opened. Raises: as `Masks`, and UsageError, the range asks for others."""

    option = "--masks"
    trimaps = False

    def __init__(
        self, source: str | Path, info: ClipInfo, frames: FrameRange | None, masks_of: FrameRange | None = None
    ) -> None:
        self.source = source
        self.whole = frames is None  # of a whole clip every frame needs a mask
        self.masks = Masks(source, info, self.option, masks_of or frames)
        try:
            _check_range(self.masks, info, frames or FrameRange())
        except UsageError:
            self.masks.close()
            raise

    def track_ahead(self, k: int, path: Path, folder: Path, job: TrackingJob) -> None:
        path.unlink(missing_ok=True)
        stop = job.stop
        if self.masks.stop is not None and not self.whole:
            stop = self.masks.stop if stop is None else min(stop, self.masks.stop)
        track_masks(job.reader, self.masks, path, job.settings, job.cuts, trimaps=self.trimaps, stop=stop)

    def fingerprint(self) -> dict[str, Any]:
        return {self.option.removeprefix("--"): identity_of(self.source)}

    @property
    def notes(self) -> list[str]:
        return self.masks.notes

    def close(self) -> None:
        self.masks.close()


class Trimaps(ExternalMasks):
    """Trimaps of every frame, made elsewhere: black and white are final, the model works in the grey."""

    option = "--trimaps"
    trimaps = True


def _check_names(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise UsageError("two subjects have one name; give each its own")


def _check_places(prompts: Prompts, frames: FrameRange, backward: bool, *, alone: bool) -> None:
    """Raises: UsageError, a prompt lies outside the range, or nothing leads to its first frame."""
    whose = "" if alone else f"subject '{prompts.subject}': "
    for index in prompts.frames:
        if index not in frames:
            raise UsageError(f"{whose}prompt on frame {index}: lies outside the range {frames} (by index)")
    if prompts.frames[0] > frames.start and not backward:
        raise UsageError(
            f"{whose}the first prompt is on frame {prompts.frames[0]} (by index): add one for frame {frames.start}, or "
            f"--backward to track from {prompts.frames[0]} back to {frames.start}"
        )


def _check_range(masks: Masks, info: ClipInfo, frames: FrameRange) -> None:
    """Raises: UsageError, the range has frames without a mask."""
    beyond = masks.stop is not None and frames.last is not None and frames.last >= masks.stop
    if frames.start < masks.first or beyond:
        first, last = (info.frame_number(k) for k in (masks.first, (masks.stop or masks.first + 1) - 1))
        raise UsageError(f"{masks.option} {masks.source}: are of frames {first}-{last}; give a --range among them")
