"""Matte a clip: from a file and what says where its subjects are, to files that appear when all of them are whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mam_video.core.errors import UsageError
from mam_video.core.frames import Matted, State
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings, checked_settings
from mam_video.jobs.checkpoint import Checkpoint, begin_anew, done_frame, refuse_checkpoint, run_fingerprint
from mam_video.jobs.mask_source import MaskSource, TrackedClip, TrackingJob
from mam_video.jobs.mask_sources import mask_source
from mam_video.jobs.output_plan import AlphaRanges, OutputPlan, edge_ops_of_subject
from mam_video.jobs.prompt_check import judged, judged_frame
from mam_video.matting.backend import Delivered, Wanted
from mam_video.matting.edge_ops import Overrides
from mam_video.matting.pipeline import (
    OutputStages,
    Run,
    TimedModel,
    batch_size,
    device_of,
    end_needed,
    first_needed,
    run_stages,
)
from mam_video.media import ClipInfo, Reader, WriterGroup, open_clip, open_writers, verify_output
from mam_video.media.atomic_output import SUBJECT
from mam_video.media.mask_reader import Masks
from mam_video.media.name_guard import NameGuard
from mam_video.media.open import check_names, checkpoint_place, is_resumable
from mam_video.models.base import Model
from mam_video.models.registry import licences, load_model, weight_files
from mam_video.motion.shot_detection import CutFinder
from mam_video.prompts.prompt import PromptLike
from mam_video.report import notes
from mam_video.report.run import RunReport
from mam_video.runtime.append_log import checkpoint_beside
from mam_video.runtime.stage_timer import StageTimer
from mam_video.tracking.shots import with_cut
from mam_video.tracking.stage import SaveTracks, TrackStage
from mam_video.tracking.track_file import TrackWriter


def matte_clip(
    source: str | Path | Reader,
    outputs: str | Path | Sequence[str | Path],
    prompt: PromptLike | None = None,
    settings: Settings | str | None = None,
    *,
    backward: bool = False,
    model: Model | str | None = None,
    track_from: str | Path | None = None,
    track_to: str | Path | None = None,
    masks: str | Path | None = None,
    trimaps: str | Path | None = None,
    include: str | Path | None = None,
    exclude: str | Path | None = None,
    frames: FrameRange | tuple[int, int | None] | None = None,
    masks_of: FrameRange | None = None,
    resume: bool = False,
    keep: bool = False,
    on_frame: Callable[[Matted, RunReport], None] | None = None,
    on_tracked: Callable[[], None] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    on_resume: Callable[[int], None] | None = None,
) -> RunReport:
    """Matte a clip's subjects and write it. Outputs get their names when all of them are whole.

    Args:
        source: a movie, a sequence (pattern, folder or one file), or an opened reader, which stays open.
        outputs: `NAME[:KIND]`, see `media.formats`; `{subject}` in a name gives each subject an output. None at all:
            mattes go to `on_frame` alone.
        prompt: on the first frame of the range or on several; of several subjects `Prompts` for each. A box, or four
            numbers for one, is a prompt too.
        settings: all knobs, or the name of a preset or file; the defaults where None.
        model: one that is loaded, or a name; None: that of the settings.
        backward: track back from the first prompt to the first frame.
        track_from, masks, trimaps: stand in place of a prompt: a track file; masks or trimaps of every frame. Prompts
            beside a track correct it: only the frames around them are tracked again.
        track_to: a track file to write.
        include, exclude: garbage mattes, a still or one for each frame: alpha is 1 in the one, 0 in the other.
        frames: a range; a pair is first and last index, both inclusive. Movies of a range start at time 0.
        masks_of: the range that masks, trimaps and garbage mattes are of, where it is not `frames`.
        resume: keep what is done beside the outputs, and go on there where the same run was cut off.
        keep: keep it too, but begin anew; a run with `resume` goes on.
        on_frame, on_tracked: called after each frame that is written, and that is tracked ahead of matting.
        progress: called after each frame that is written, with the frames done and to do (None: not known).
        on_resume: with `resume`, called once before matting with the number of frames that are done already.
    Raises: MamVideoError, anything the user can mend; then nothing stands under any output's name.
    """
    settings, part = checked_settings(settings), FrameRange.of(frames)
    if isinstance(model, str):
        settings, model = settings.with_values({"model": {"name": model}}, "model"), None
    names = [str(name) for name in ([outputs] if isinstance(outputs, str | Path) else outputs)]
    with ExitStack() as stack:
        if isinstance(source, str | Path):
            source = stack.enter_context(open_clip(source, settings.input))
        where = mask_source(
            prompt, source.info, part, backward=backward, track=track_from, masks=masks, trimaps=trimaps,
            masks_of=masks_of, passes=settings.track.passes,
        )  # fmt: skip
        stack.enter_context(where)
        settings = edge_ops_of_subject(settings, where.subjects)
        plan = OutputPlan.of(names, where.subjects, track_to)
        by_hand = {"trimaps": trimaps, "include": include, "exclude": exclude}
        read = {**by_hand, "masks": masks, "track": track_from}
        check_job_names(source.info, plan, settings, part, {f"--{name}": path for name, path in read.items()})
        calls = Callbacks(on_frame, on_tracked, progress, on_resume)
        return MatteJob(
            source, where, plan, settings, part, masks_of or part, by_hand, resume, keep, model, calls
        ).run()


@dataclass(frozen=True)
class Callbacks:
    """What the caller of `matte_clip` is told while it runs."""

    on_frame: Callable[[Matted, RunReport], None] | None = None
    on_tracked: Callable[[], None] | None = None
    progress: Callable[[int, int | None], None] | None = None
    on_resume: Callable[[int], None] | None = None


@dataclass
class MatteJob:
    """One run of `matte_clip`, or a part of one: `jobs/steps.py` has those that run on many machines.

    part     the range that the user gave; None: the whole clip
    masks_of the range that masks are of
    by_hand  files of trimaps and garbage mattes, by option
    """

    reader: Reader
    source: MaskSource
    plan: OutputPlan
    settings: Settings
    part: FrameRange | None
    masks_of: FrameRange | None
    by_hand: Mapping[str, str | Path | None]
    resume: bool
    keep: bool
    model: Model | None
    calls: Callbacks
    clock: StageTimer = field(default_factory=StageTimer)
    frames: FrameRange = field(init=False)
    info: ClipInfo = field(init=False)
    cuts: CutFinder = field(init=False)
    alphas: AlphaRanges = field(init=False)
    checkpoint: Checkpoint | None = field(init=False, default=None)
    writers: WriterGroup = field(init=False)
    report: RunReport = field(init=False)

    def __post_init__(self) -> None:
        self.frames = self.part or FrameRange()
        self.info = _info_from(self.reader.info, self.frames.start)
        self.cuts = CutFinder(self.settings.cuts, self.settings.motion)
        self.alphas = AlphaRanges(self.source.subjects)

    def run(self) -> RunReport:
        """Open everything, track, matte, then read back what was written."""
        with ExitStack() as stack:
            overrides = self.open_overrides(stack)
            self.plan.make_folders(stack)
            self.checkpoint = self._open_checkpoint(stack)
            self.writers = stack.enter_context(self._open_writers())
            model = self.model = self.model or load_model(self.settings.model)
            self.report = self.begin_report(model)
            start = time.perf_counter()
            tracks = stack.enter_context(self.source.tracked(self.tracking_job(model)))
            done = self._take_over(tracks)
            if self.calls.on_resume is not None and self.checkpoint is not None:
                self.calls.on_resume(done)
            self._matte(tracks, model, overrides, done)
        self.report.files = self.writers.files
        self._mark_cuts(done)
        self.report.flag_back(self.settings.track.stand)
        self.report.notes = self.notes(done)
        if self.settings.output.verify:
            self.verify()
        before = sum(self.report.frame_seconds[:done])
        self.report.wall, self.report.seconds = before + time.perf_counter() - start, self.clock.seconds
        return self.report

    def open_overrides(self, stack: ExitStack) -> Overrides:
        def opened(name: str) -> Masks | None:
            path = self.by_hand[name]
            info, part = self.reader.info, self.masks_of
            return None if path is None else stack.enter_context(Masks(path, info, f"--{name}", part))

        return Overrides(opened("trimaps"), opened("include"), opened("exclude"))

    def _open_checkpoint(self, stack: ExitStack) -> Checkpoint | None:
        names = self.plan.names
        overwrite = self.settings.output.overwrite
        if not (self.resume or self.keep):
            places = [checkpoint_place(name, self.info, self.part) for name in names if is_resumable(name)]
            refuse_checkpoint(places, overwrite)
            return None
        places = [checkpoint_place(name, self.info, self.part) for name in names]
        if not any(place.exists() for place in places):
            self._open_writers().abort()  # a name that is taken is refused before the model is loaded
        model = self.model = self.model or load_model(self.settings.model)
        files = {name: self.by_hand[name] for name in ("include", "exclude")}
        key = run_fingerprint(
            self.reader.info, names, self.source.fingerprint(), self.part, self.settings, model, device_of(model), files
        )
        if not self.resume:
            begin_anew(places, key, overwrite)
        return stack.enter_context(Checkpoint(places, key, len(self.source.subjects), asked=self.resume))

    def _open_writers(self) -> WriterGroup:
        output, checkpoint = self.settings.output, self.checkpoint
        if not self.plan.names:
            return WriterGroup(())
        if checkpoint is not None:
            # A run that was cut off while it gave names finds its own files under them.
            output = replace(output, overwrite=output.overwrite or checkpoint.publishing)
        writers = open_writers(
            self.plan.names, self.info, output, part=self.part is not None, frames=self.part,
            keep=() if checkpoint is None else checkpoint.places, subjects=self.plan.subjects, whose=self.plan.whose,
        )  # fmt: skip
        if checkpoint is not None:
            writers.before_commit = checkpoint.mark
        return writers

    def begin_report(self, model: Model) -> RunReport:
        return RunReport(
            self.reader.info, model.name, model.weights, device_of(model), self.settings, list(self.writers.paths),
            licences=licences(model.name),
        )  # fmt: skip

    def tracking_job(self, model: Model) -> TrackingJob:
        return TrackingJob(
            reader=self.reader, frames=self.frames, model=TimedModel(model, self.clock), settings=self.settings,
            batch=batch_size(model, self.settings), cuts=self.cuts, clock=self.clock, checkpoint=self.checkpoint,
            on_tracked=self.calls.on_tracked,
        )  # fmt: skip

    def _take_over(self, tracks: TrackedClip) -> int:
        """Take over what an earlier run wrote, into writers and report; return how many frames every output has."""
        checkpoint = self.checkpoint
        if checkpoint is None:
            return 0
        first, most = self.frames.start, min(len(checkpoint.done), tracks.known)
        checkpoint.agree(self.writers.resume_from(first, most, named=checkpoint.publishing))
        for k, done in enumerate(checkpoint.done):
            found = tracks.records(first + k)
            records = [entry.completed(record) for entry, record in zip(done[1:] or done, found, strict=True)]
            if prompts := self.source.prompts_at(first + k):
                records = [judged(record, prompt) for record, prompt in zip(records, prompts, strict=True)]
            self.report.add_known(records, done[0].seconds)
            self.alphas.add_known([(entry.low, entry.high) for entry in done])
        return len(checkpoint.done)

    def _mark_cuts(self, done: int) -> None:
        """Mark the first frames of shots among those of an earlier run: its cuts are found while this one goes on."""
        for k in range(done):
            row = self.report.parts[k] if self.report.parts else (self.report.records[k],)
            self.report.set_known(k, [with_cut(record, self.cuts) for record in row])

    def _matte(self, tracks: TrackedClip, model: Model, overrides: Overrides, done: int) -> None:
        """Run the recipe on the frames that are left."""
        with track_writers(self.plan, self.reader.info, model, self.settings, self.checkpoint) as savers:
            stage = SaveTracks(tracks.stage, savers) if savers else tracks.stage
            run = self.recipe(stage, model, overrides, self.frames.start + done)
            self.write_frames(run, tracks, FileStages(self.writers, self.plan.coloured, self.settings))
            if not self.report.records:
                raise UsageError(f"{self.reader.info.path}: holds no frame of the range {self.frames}")

    def recipe(self, stage: TrackStage, model: Model, overrides: Overrides, begin: int) -> Run:
        """Return what the stages work with for the frames of `self.frames` from the index `begin` on."""
        return Run(
            track=stage, model=model, settings=self.settings, count=len(self.source.subjects), frames=self.frames,
            begin=begin, overrides=overrides, clock=self.clock,
        )  # fmt: skip

    def write_frames(self, run: Run, tracks: TrackedClip, output: OutputStages) -> None:
        """Take frames through every stage, and record each when it is written."""
        frames = self.reader.frames(*frames_to_read(self, tracks, run.begin, run.model))
        with closing(run_stages(frames, run, output)) as written:
            beat = time.perf_counter()
            for matted in written:
                now = time.perf_counter()
                self._add(matted, now - beat)
                beat = now

    def _add(self, matted: Matted, seconds: float) -> None:
        """Record a frame that every output was given, `seconds` after the one before."""
        matted = judged_frame(matted, self.source.prompts_at(matted.frame.index))
        self.alphas.add(matted)
        self.report.add(matted, seconds, self.clock.seconds)
        if self.checkpoint is not None:
            self.checkpoint.add(done_frame(matted, self.alphas.last, seconds))
        if self.calls.on_frame is not None:
            self.calls.on_frame(matted, self.report)
        if self.calls.progress is not None:
            self.calls.progress(len(self.report.records), self.frames.count(self.reader.info.frames_in_header))

    def notes(self, done: int) -> list[str]:
        """Collect the notes of the run, a line each."""
        clip, report, cuts = self.reader.info, self.report, self.cuts

        def called(indices: Iterable[int]) -> list[int]:
            return [clip.frame_number(index) for index in indices]

        seen = {record.index for record in report.records}
        broken = called(index for index in self.reader.broken if index in seen)
        past = report.records[-1].index + 1
        passed = called(record.index for record in report.records if record.cut and record.state is State.CUT)
        if cuts.settings.on_cut == "stop" and past in cuts.found:
            at_cuts = notes.stopped_at_cut(clip.frame_number(past))
        elif cuts.settings.on_cut == "continue":
            at_cuts = notes.tracked_through_cuts(passed)
        else:
            at_cuts = notes.shots_without_prompt(passed)
        return [
            *self.info.notes, *self.source.notes, *self.writers.notes,
            *notes.broken_frames(broken, of_sequence=clip.numbers is not None), *at_cuts,
            *notes.subjects_together(self.plan.together, self.plan.subjects, SUBJECT),
            *notes.prompted_frames(called(self.source.prompted)), *notes.resumed(done),
            *getattr(self.model, "notes", ()),
        ]  # fmt: skip

    def verify(self) -> None:
        """Read the outputs back, and record what is not as it should be."""
        with self.clock.stage("verify"):
            plan = self.plan
            outputs = dict(zip(self.writers.paths, zip(plan.names, plan.whose, strict=True), strict=True))
            for path, expected in self.writers.expected():
                self.report.checks[path] = verify_output(path, expected, self.alphas.reached(*outputs[path]))


def frames_to_read(job: MatteJob, tracks: TrackedClip, begin: int, model: Model) -> tuple[int, int | None]:
    """Return first frame and one past the last to read, so that those from `begin` on are as in the whole clip."""
    smooth, batch = job.settings.smooth, batch_size(model, job.settings)
    stop = end_needed(job.frames, smooth, batch)
    if tracks.covers is None:
        return job.frames.start, stop
    end = tracks.covers.stop
    assert end is not None
    if stop is not None:
        stop = min(stop, max(end, job.frames.start + 1))
    return max(first_needed(begin, smooth, batch), tracks.covers.start), end if tracks.ends else stop


class FileStages:
    """The stages of the recipe that know files.

    wanted  what the files take of each frame
    """

    def __init__(self, writers: WriterGroup, coloured: Collection[str | None], settings: Settings) -> None:
        """`coloured`: subjects whose colour is written; None: all together."""
        self._writers = writers
        estimated = coloured if settings.output.foreground == "estimate" else ()
        self.wanted = Wanted(frozenset(estimated), tuple(writers.recipes))

    def convert(self, delivered: Delivered) -> Any:
        return self._writers.converted(delivered.coloured, delivered.planes)

    def encode(self, converted: Any) -> None:
        self._writers.encode(converted)


def check_job_names(
    info: ClipInfo,
    plan: OutputPlan,
    settings: Settings,
    frames: FrameRange | None,
    read: Mapping[str, str | Path | None],
) -> None:
    """Raises: UsageError, an output would overwrite an input or another output. `read`: files by their option."""
    guard = NameGuard()
    for what, name in {"the clip": info.path, **read, **weight_files(settings.model)}.items():
        guard.reads(what, name)
    check_names(guard, plan.names, info, settings.output, frames, tracks=plan.tracks.values())


def _info_from(info: ClipInfo, first: int) -> ClipInfo:
    """Return the clip as seen from its frame `first` on: its outputs' timecode starts there."""
    return info if info.timecode is None or not first else replace(info, timecode=info.timecode + first)


@contextmanager
def track_writers(
    plan: OutputPlan, info: ClipInfo, model: Model, settings: Settings, checkpoint: Checkpoint | None
) -> Iterator[list[TrackWriter]]:
    """Open a writer for each track that is to be saved, in the order of the subjects.

    With a checkpoint it grows under a name that does not change, so that a resumed run begins that file again. A run
    that was cut off after its tracks got their names, and before its outputs did, replaces its own tracks.
    """
    overwrite = settings.output.overwrite or (checkpoint is not None and checkpoint.tracks_named)
    with ExitStack() as stack:
        writers = []
        for path in plan.tracks.values():
            growing = checkpoint_beside(Path(path))
            if checkpoint is None:
                growing.unlink(missing_ok=True)
            writer = TrackWriter(
                path, info.size, model, settings.as_dict(), overwrite=overwrite,
                part=growing if checkpoint is not None else None,
            )  # fmt: skip
            writers.append(stack.enter_context(writer))
        yield writers
        if checkpoint is not None and writers:
            checkpoint.mark_tracks()
