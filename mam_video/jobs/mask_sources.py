"""Mask sources: where a run gets the subjects' masks from. Each kind is a class that checks itself when made.

    FirstFramePrompt   prompts on the first frame: tracked and matted in one pass over the clip
    MultiFramePrompts  prompts on several frames, or on a later one: tracked first, matted in a second pass
    SavedTrack         a track file
    ExternalMasks      masks of every frame, made elsewhere
    Trimaps            trimaps of every frame, made elsewhere

`mask_source` makes the right one of what a user gives.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mam_video.core.errors import UsageError
from mam_video.core.frames import Record
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings
from mam_video.jobs.checkpoint import Checkpoint
from mam_video.jobs.external_masks import track_masks
from mam_video.matting.pipeline import end_needed
from mam_video.media import ClipInfo, Reader
from mam_video.media.atomic_output import SUBJECT
from mam_video.media.mask_reader import Masks
from mam_video.media.open import identity_of
from mam_video.models.base import Model, video_model_of
from mam_video.motion.flow import with_motion
from mam_video.motion.shot_detection import CutFinder
from mam_video.prompts.prompt import DEFAULT_SUBJECT, Prompt, PromptLike, Prompts, as_prompt
from mam_video.runtime.append_log import identity
from mam_video.runtime.lifecycle import Closeable
from mam_video.runtime.stage_timer import StageTimer
from mam_video.tracking.bidirectional import track_prompts
from mam_video.tracking.shots import with_cuts
from mam_video.tracking.stage import FollowTracks, TrackPrompts, TrackStage
from mam_video.tracking.track_file import Track, TrackWriter
from mam_video.tracking.video_model import refuse_late_prompt, track_in_memory


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


def mask_source(
    prompt: PromptLike | None,
    info: ClipInfo,
    frames: FrameRange | None,
    *,
    backward: bool = False,
    track: str | Path | None = None,
    masks: str | Path | None = None,
    trimaps: str | Path | None = None,
) -> MaskSource:
    """Make the mask source of a run, from exactly one of a prompt, a track file, masks and trimaps.

    Args:
        prompt: see `as_prompt`.
        info: the clip.
        frames: the range of the run; None: the whole clip.
        backward: track back from the first prompt to the first frame.
    Raises: UsageError, nothing was given or two things, or what was given cannot be for this clip and range.
    """
    prompt = as_prompt(prompt)
    ways = {"a prompt": prompt or None, "--track": track, "--masks": masks, "--trimaps": trimaps}
    given = [name for name, way in ways.items() if way is not None]
    if not given:
        raise UsageError("no prompt: give a box or points on the first frame, or a saved track")
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} both say where the subject is; give one of them")
    if track is not None:
        return SavedTrack(track, info, frames)
    if masks is not None:
        return ExternalMasks(masks, info, frames)
    if trimaps is not None:
        return Trimaps(trimaps, info, frames)
    first = frames.start if frames is not None else 0
    if isinstance(prompt, Prompt):
        return FirstFramePrompt({DEFAULT_SUBJECT: prompt}, info, first)
    several = [prompt] if isinstance(prompt, Prompts) else list(prompt or ())
    _check_names([prompts.subject for prompts in several])
    if all(prompts.frames == (first,) for prompts in several):
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
        return {"prompt": text, "mask": _hash_of_masks(self.prompts.values())}


class _TrackedAhead(MaskSource):
    """Masks that are found before the first frame is matted, and followed in a second pass over the clip.

    With a checkpoint a track is kept once it is whole.
    """

    @contextmanager
    def tracked(self, job: TrackingJob) -> Iterator[TrackedClip]:
        with tempfile.TemporaryDirectory(prefix="mam-video-") as folder, ExitStack() as stack:
            tracks: dict[str, Track] = {}
            for k, name in enumerate(self.record_names):
                own = Path(folder) / str(k)
                own.mkdir()
                path = own / "ahead.track" if job.checkpoint is None else job.checkpoint.ahead(k)
                self.track_ahead(k, path, own, job)
                tracks[name] = stack.enter_context(Track.load(path, job.reader.info.size))
            yield _followed(tracks, ends=job.settings.cuts.on_cut == "stop")

    @abstractmethod
    def track_ahead(self, k: int, path: Path, folder: Path, job: TrackingJob) -> None:
        """Write the track of subject `k` to `path`, if it is not there whole; `folder` is for files in between."""


class MultiFramePrompts(_TrackedAhead):
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
        return {"prompt": "; ".join(entries), "mask": _hash_of_masks(masks)}


class SavedTrack(MaskSource):
    """A track file of one subject, opened; or with `{subject}` in its name those of several, as they were saved.

    Raises: as `Track.load`, and UsageError, a track does not cover the frames of the run.
    """

    def __init__(self, path: str | Path, info: ClipInfo, frames: FrameRange | None) -> None:
        paths = tracks_by_subject(path)
        self.subjects = tuple(paths)
        self.tracks: list[Track] = []
        try:
            for each in paths.values():
                self.tracks.append(Track.load(each, info.size))
                _check_covered(self.tracks[-1], info, frames)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def tracked(self, job: TrackingJob) -> Iterator[TrackedClip]:
        yield _followed(dict(zip(self.record_names, self.tracks, strict=True)), ends=False)

    def fingerprint(self) -> dict[str, Any]:
        return {"track": identity([track.path for track in self.tracks])}

    def close(self) -> None:
        for track in self.tracks:
            track.close()


def tracks_by_subject(path: str | Path) -> dict[str, Path]:
    """Return the track files that a name stands for, by subject: each file that fits where it holds `{subject}`.

    Raises: UsageError, no file fits.
    """
    name = Path(path)
    if SUBJECT not in str(name):
        return {DEFAULT_SUBJECT: name}
    placed = next(k for k, part in enumerate(name.parts) if SUBJECT in part)
    folder, part = Path(*name.parts[:placed]), name.parts[placed]
    form = re.compile("(?P<subject>.+)".join(map(re.escape, part.split(SUBJECT, 1))).replace(re.escape(SUBJECT), ".+"))
    found = {}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        fits = form.fullmatch(entry.name)
        if fits is not None and not entry.name.startswith("."):
            file = Path(str(name).replace(SUBJECT, fits["subject"]))
            if file.is_file():
                found[fits["subject"]] = file
    if not found:
        raise UsageError(f"{path}: no such track file; {SUBJECT} stands for the subjects' names")
    return found


def _check_covered(track: Track, info: ClipInfo, frames: FrameRange | None) -> None:
    """Raises: UsageError, the run has frames that the track lacks."""
    wanted = frames or FrameRange()
    count = wanted.count(info.frames_in_header)
    if count == 0:  # refused when the clip is read
        return
    last = None if count is None else wanted.start + count - 1
    end = track.first + track.count - 1
    if track.first <= wanted.start <= end and (last is None or last <= end):
        return
    first, stop = info.frame_number(track.first), info.frame_number(end)
    start = info.frame_number(wanted.start)
    if frames is None:
        more = f"the clip has frames {start}-{info.frame_number(last if last is not None else end)}: give --range "
        raise UsageError(f"{track.path} covers frames {first}-{stop}; {more}{first}-{stop}")
    until = "" if last is None else info.frame_number(last)
    raise UsageError(f"{track.path} covers frames {first}-{stop}; you asked for {start}-{until}")


class ExternalMasks(_TrackedAhead):
    """Masks of every frame, made elsewhere, opened. Raises: as `Masks`, and UsageError, the range asks for others."""

    option = "--masks"
    trimaps = False

    def __init__(self, source: str | Path, info: ClipInfo, frames: FrameRange | None) -> None:
        self.source = source
        self.whole = frames is None  # of a whole clip every frame needs a mask
        self.masks = Masks(source, info, self.option, frames)
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


def _followed(tracks: Mapping[str, Track], *, ends: bool) -> TrackedClip:
    """Follow tracks that are whole; `ends`: the run ends where they do."""

    def records(index: int) -> tuple[Record, ...]:
        return tuple(replace(track.frame(index).record, subject=name) for name, track in tracks.items())

    first = max(track.first for track in tracks.values())
    stop = min(track.first + track.count for track in tracks.values())
    known = max(stop - first, 0)
    covers = FrameRange(first, max(stop, first + 1))
    return TrackedClip(stage=FollowTracks(tracks), known=known, records=records, covers=covers, ends=ends)


def _hash_of_masks(prompts: Iterable[Prompt]) -> str:
    masks = [prompt.mask.tobytes() for prompt in prompts if prompt.mask is not None]
    return hashlib.sha256(b"".join(masks)).hexdigest() if masks else "none"


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
