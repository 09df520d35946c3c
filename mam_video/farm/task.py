"""Run one task of a job: open what its plan names, refuse where this machine differs, run the step."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import cv2

from mam_video.core.errors import MissingFileError, UsageError
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import ModelSettings, Settings
from mam_video.farm import steps
from mam_video.farm.folder import JobFolder
from mam_video.farm.plan import JobPlan, aligned, default_chunk
from mam_video.jobs.checkpoint import difference, run_fingerprint
from mam_video.jobs.mask_source import MaskSource
from mam_video.jobs.mask_sources import mask_source
from mam_video.jobs.matte_clip import Callbacks, MatteJob, check_job_names
from mam_video.jobs.output_plan import OutputPlan, edge_ops_of_subject
from mam_video.jobs.saved_tracks import tracks_by_subject
from mam_video.jobs.tracked_before import TrackedBefore
from mam_video.matting.pipeline import device_of
from mam_video.media import Reader, open_clip, parse_output
from mam_video.media.sequence.image_formats import SUFFIXES
from mam_video.media.sequence.pattern import is_sequence
from mam_video.models.base import Model
from mam_video.models.registry import load_model
from mam_video.prompts.prompt import Prompts
from mam_video.report.rerun import Rerun
from mam_video.runtime.cores import at_most

TRACK, MATTE, JOIN = "track", "matte", "join"
STEPS = (TRACK, MATTE, JOIN)
_MACHINE = ("device", "threads")  # of the fingerprint: may be of each machine


@dataclass(frozen=True)
class Task:
    """One task of a job: a step, and for `matte` its frames."""

    step: str
    chunk: FrameRange | None = None

    def name(self, plan: JobPlan) -> str:
        """What users call it, as `matte 0-47`."""
        return self.step if self.chunk is None else f"{self.step} {plan.called(self.chunk)}"


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What a user asks for, as checked values: see `matte_clip` for each."""

    source: str
    outputs: tuple[str, ...]
    prompts: tuple[Prompts, ...]
    settings: Settings
    part: FrameRange | None
    backward: bool
    files: dict[str, str]
    save_track: str | None
    report: str | None
    command: tuple[str, ...] = ()
    rerun: Rerun | None = None


def make_plan(shot: Shot, reader: Reader, *, workers: int, chunk: int | None, threads: int) -> JobPlan:
    """Make the plan of a shot: a `draft_plan` whose weights are hashed, and whose prompts and outputs are checked."""
    return fingerprinted(draft_plan(shot, reader, workers=workers, chunk=chunk, threads=threads), reader)


def draft_plan(shot: Shot, reader: Reader, *, workers: int, chunk: int | None, threads: int) -> JobPlan:
    """Make the plan of a shot without its fingerprint: no model is loaded, nor PyTorch. Paths become absolute.

    Args:
        workers: that the shot is shared out to, where `chunk` is not given.
        chunk: frames of a matte task; None: some four tasks a worker.
        threads: of a task's model.
    Raises: UsageError, the number of frames is not known.
    """
    info = reader.info
    part = shot.part or FrameRange()
    count = part.count(info.frames_in_header)
    frames = FrameRange(part.start, None if count is None else part.start + max(count, 1))
    numbers = info.numbers
    counts_on = numbers is not None and numbers[-1] - numbers[0] == len(numbers) - 1 and part.start < len(numbers)
    return JobPlan(
        source=_absolute(shot.source),
        outputs=tuple(_absolute_output(output) for output in shot.outputs),
        frames=frames,
        part=shot.part,
        chunk=aligned(chunk or default_chunk(count or 1, workers)),
        threads=threads,
        prompts=tuple(each.in_pixels(info.size) for each in shot.prompts),
        backward=shot.backward,
        files={name: _absolute(path) for name, path in shot.files.items()},
        save_track=None if shot.save_track is None else _absolute(shot.save_track),
        report=None if shot.report is None else _absolute(shot.report),
        settings=shot.settings,
        fingerprint={},
        command=shot.command,
        rerun=shot.rerun,
        first_number=numbers[part.start] if counts_on and numbers is not None else None,
    )


def fingerprinted(plan: JobPlan, reader: Reader) -> JobPlan:
    """Return a draft with its fingerprint, its prompts and outputs checked. Raises: UsageError, as `matte_clip`."""
    import torch

    torch.set_num_threads(plan.threads)
    with _source(plan, reader) as source:
        job = _job(plan, reader, source)
        return replace(plan, fingerprint=_fingerprint(job, plan, source, cached_model(plan.settings.model)))


def outputs_of(plan: JobPlan) -> OutputPlan:
    """Return the files of a job, with its subjects' names in place."""
    if plan.prompts:
        subjects: Sequence[str] = [each.subject for each in plan.prompts]
    elif "track" in plan.files:
        subjects = list(tracks_by_subject(plan.files["track"]))
    else:
        subjects = MaskSource.subjects
    return OutputPlan.of(plan.outputs, subjects, plan.save_track)


def run_task(plan: JobPlan, task: Task, on_frame: steps.OnFrame | None = None) -> steps.Joined | None:
    """Run one task of a job. It may be run again at any time, and twice at once.

    Returns: of `join` what came of the job; None where that was joined before.
    Raises: UsageError, this machine has other versions, weights or files than the plan says; else as `matte_clip`.
    """
    _check_versions(plan, task)
    check_visible(plan)
    with ExitStack() as stack:
        if task.step != JOIN:  # the join encodes with every core, as a run on one machine does
            stack.enter_context(_on_its_cores(plan.threads))
        reader = stack.enter_context(open_clip(plan.source, plan.settings.input))
        folder = JobFolder.of(plan, reader.info, outputs_of(plan).names)
        if folder.joined:
            return None
        source = stack.enter_context(_source(plan, reader))
        if task.step != TRACK and plan.tracks:
            paths = folder.track_paths if task.chunk is None else folder.tracks_for(task.chunk)
            if paths is None or (task.chunk is None and folder.tracked is None):
                raise UsageError(f"{folder.main}: the track step of this job is not done; run it before {task.step}")
            source = stack.enter_context(TrackedBefore(source, paths, reader.info))
        job = _job(plan, reader, source)
        model: Model | None = None
        if task.step != JOIN:
            model = cached_model(plan.settings.model)
            if device_of(model) != "cpu" and plan.threads == 1:  # a GPU must not wait for pictures
                stack.enter_context(at_most(2))
            _check_fingerprint(plan, _fingerprint(job, plan, source, model))
        folder.claim()
        with folder.beat(task.name(plan)) as beat:

            def count(total: int | None) -> None:
                beat.count(total)
                if on_frame is not None:
                    on_frame(total)

            if model is None:
                joined = steps.join(job, folder, count)
                folder.finish()
                return joined
            if task.step == TRACK:
                steps.track(job, folder, model, count)
            else:
                assert task.chunk is not None
                steps.matte(job, folder, model, task.chunk, count)
    return None


@contextmanager
def _on_its_cores(count: int) -> Iterator[None]:
    """Hold PyTorch, OpenCV, the codecs and the stages to `count` cores; the next task sets them anew."""
    import torch

    torch.set_num_threads(count)
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        with at_most(count):
            yield
    finally:
        cv2.setNumThreads(before)


@lru_cache(maxsize=1)
def cached_model(settings: ModelSettings) -> Model:
    """Load a model, or return it where this process has loaded it for the task before."""
    return load_model(settings)


def check_visible(plan: JobPlan) -> None:
    """Check that this machine sees every file of a job. Raises: MissingFileError, naming machine and path."""
    needed = [(plan.source, "the clip"), *((path, f"--{name}") for name, path in plan.files.items())]
    for path, what in needed:
        there = Path(path)
        if "{subject}" in path or is_sequence(path, SUFFIXES):
            there = there if there.is_dir() else there.parent
        if not there.exists():
            raise _not_seen(path, what)
    for output in plan.outputs:
        folder = Path(parse_output(output)[0]).parent
        if "{subject}" not in str(folder) and not any(each.is_dir() for each in (folder, folder.parent)):
            raise _not_seen(str(folder), "the folder of an output")


def _not_seen(path: str, what: str) -> MissingFileError:
    return MissingFileError(
        f"{path}: machine {socket.gethostname()} does not see this file ({what}); put it on storage that every machine "
        "mounts under the same path"
    )


def _check_versions(plan: JobPlan, task: Task) -> None:
    own = {"version of mam-video": version("mam-video")}
    if task.step != JOIN:  # which computes nothing, and so loads no PyTorch
        import torch

        own["version of torch"] = torch.__version__
    _check_fingerprint(replace(plan, fingerprint={name: plan.fingerprint.get(name) for name in own}), own)


def _check_fingerprint(plan: JobPlan, own: Mapping[str, object]) -> None:
    """Raises: UsageError, which names what differs here from the plan."""
    wanted = {name: value for name, value in plan.fingerprint.items() if name not in _MACHINE}
    found = {name: value for name, value in own.items() if name not in _MACHINE}
    if wanted != found:
        raise UsageError(
            f"machine {socket.gethostname()} differs from the job: {difference(wanted, found)}; make the machines "
            "alike, or make the job anew"
        )


def _fingerprint(job: MatteJob, plan: JobPlan, source: MaskSource, model: Model) -> dict[str, object]:
    files = {name: plan.files.get(name) for name in ("include", "exclude")}
    found = run_fingerprint(
        job.reader.info, plan.outputs, source.fingerprint(), plan.part, plan.settings, model, device_of(model), files
    )
    return dict(json.loads(json.dumps(found)))


@contextmanager
def _source(plan: JobPlan, reader: Reader) -> Iterator[MaskSource]:
    """Open what says where the subjects are."""
    files = plan.files
    with mask_source(
        list(plan.prompts) or None, reader.info, plan.part, backward=plan.backward, track=files.get("track"),
        masks=files.get("masks"), trimaps=files.get("trimaps"), passes=plan.settings.track.passes,
    ) as source:  # fmt: skip
        yield source


def _job(plan: JobPlan, reader: Reader, source: MaskSource) -> MatteJob:
    """Return the job as `matte_clip` makes it, names checked."""
    settings = edge_ops_of_subject(plan.settings, source.subjects)
    outputs = OutputPlan.of(plan.outputs, source.subjects, plan.save_track)
    read = {f"--{name}": path for name, path in plan.files.items()}
    check_job_names(reader.info, outputs, settings, plan.part, read)
    by_hand = {name: plan.files.get(name) for name in ("trimaps", "include", "exclude")}
    return MatteJob(reader, source, outputs, settings, plan.part, plan.part, by_hand, False, False, None, Callbacks())


def _absolute(path: str) -> str:
    ending = "/" if path.endswith(("/", "\\")) else ""
    return f"{Path(path).absolute()}{ending}"


def _absolute_output(output: str) -> str:
    name, kind = parse_output(output)
    return f"{_absolute(name)}:{kind.name}"
