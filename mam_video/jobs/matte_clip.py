"""From files to files: a clip and what says where its subject is, to mattes that stand when all of them are whole."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mam_video.core.errors import UsageError
from mam_video.core.frames import Matted, State
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings
from mam_video.jobs.checkpoint import Checkpoint, Done, refuse_checkpoint
from mam_video.jobs.mask_sources import MaskSource, lead, tail
from mam_video.jobs.output_plan import AlphaRanges, OutputPlan, edge_ops_of_subject
from mam_video.matting.edge_ops import Overrides
from mam_video.matting.foreground import with_foreground
from mam_video.matting.pipeline import TimedModel, batch_size, device_of, matte_frames, matte_subjects
from mam_video.media import ClipInfo, Reader, WriterGroup, open_clip, open_writers, parse_output, verify_output
from mam_video.media.atomic_output import SUBJECT
from mam_video.media.mask_reader import Masks
from mam_video.media.open import checkpoint_place, identity_of, is_resumable
from mam_video.models.base import Model
from mam_video.models.registry import load_model
from mam_video.motion.shot_detection import CutFinder
from mam_video.prompts.prompt import Prompt, Prompts
from mam_video.report.run import RunReport
from mam_video.runtime.append_log import checkpoint_beside, identity
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import ordered_map
from mam_video.tracking.shots import with_cut
from mam_video.tracking.track_file import Track, TrackWriter


def matte_clip(
    source: str | Path,
    outputs: str | Path | Sequence[str | Path],
    prompt: Prompt | Prompts | Sequence[Prompts] | None,
    settings: Settings | None = None,
    *,
    backward: bool = False,
    model: Model | None = None,
    track_from: str | Path | None = None,
    track_to: str | Path | None = None,
    masks: str | Path | None = None,
    trimaps: str | Path | None = None,
    include: str | Path | None = None,
    exclude: str | Path | None = None,
    frames: FrameRange | tuple[int, int | None] | None = None,
    resume: bool = False,
    on_frame: Callable[[Matted, RunReport], None] | None = None,
    on_tracked: Callable[[], None] | None = None,
) -> RunReport:
    """Matte the prompted subject in a clip and write it. Outputs appear under their names when all of them are whole.

    Args:
        source: a movie, or a sequence by its pattern, its folder or one file.
        outputs: one or several of `NAME[:KIND]`; see `media.kinds`. `{subject}` in a name stands for the subject's: one
            output each. Without it an output is of all subjects together.
        prompt: where the subject is in the first frame (of the range), or in several frames; not with `track_from`,
            `masks` or `trimaps`. With prompts on other frames than the first the clip is read twice: all of it is
            tracked, in both directions between prompts (`corrections.py`), before the first frame is matted. Of
            several subjects `Prompts` for each, on the first frame alone.
        backward: track back to the first frame (of the range) from the first prompt; without it that frame has to have
            a prompt.
        settings: all knobs; the defaults where None.
        model: one already loaded; else loaded by `settings.model`.
        track_from, track_to: a track file to follow, and one to write.
        masks: of every frame, made elsewhere: nothing is tracked; see `media.masks` for what they can be.
        trimaps: likewise: black and white are final, the model works in the grey.
        include, exclude: garbage mattes, a still or one for each frame: the alpha is 1 in the one and 0 in the other.
        frames: which of them; a pair is first and last index (None: to the end), both inclusive, counted from 0; the
            whole clip where None. Without a track to follow, the prompt is of the first of them. Movies of a range
            start at time 0, with the timecode and the sound of these frames.
        resume: keep what is done beside the outputs, and where an earlier run of the same was cut off, go on there: the
            result is the same bits on the same device.
        on_frame: called after each frame is written.
        on_tracked: called after each frame that is tracked ahead of matting, once for each direction.
    Returns: what the run tells.
    Raises: MamVideoError, anything the user can mend; then nothing stands under any output's name. An interrupt passes;
        with `resume` its text says how many frames are kept.
    """
    settings, part = settings or Settings(), frames is not None
    span = FrameRange.of(frames) or FrameRange()
    templates = [str(name) for name in ([outputs] if isinstance(outputs, str | Path) else outputs)]
    with open_clip(source, settings.input) as reader:
        sought = MaskSource.of(
            prompt, span, size=reader.info.size, backward=backward, track=track_from, masks=masks, trimaps=trimaps
        )
        settings = edge_ops_of_subject(settings, sought)
        wanted = OutputPlan.of(templates, sought, track_to)
        if sought.each:
            _refuse_for_several(sought, settings, wanted, resume, include)
        info = _since(reader.info, span.start)
        with ExitStack() as stack:
            given = stack.enter_context(Track.load(track_from, reader.info.size)) if track_from is not None else None

            def opened(name: str | Path | None, option: str) -> Masks | None:
                return None if name is None else stack.enter_context(Masks(name, reader.info, option))

            by_hand = opened(masks, "--masks") or opened(trimaps, "--trimaps")
            forced = Overrides(opened(trimaps, "--trimaps"), opened(include, "--include"), opened(exclude, "--exclude"))

            kept: Checkpoint | None = None
            if resume:
                model = model or load_model(settings.model)
                key = run_fingerprint(
                    source,
                    wanted.names,
                    sought,
                    span if part else None,
                    settings,
                    model,
                    {"include": include, "exclude": exclude},
                )
                kept = stack.enter_context(Checkpoint([checkpoint_place(name, info) for name in wanted.names], key))
            else:
                refuse_checkpoint(
                    [checkpoint_place(n, info) for n in wanted.names if is_resumable(n)], settings.output.overwrite
                )
            wanted.make_folders(stack)
            writers = stack.enter_context(_writers(wanted, info, settings, part, kept))
            model = model or load_model(settings.model)
            batch = batch_size(model, settings)
            clock, cuts = StageTimer(), CutFinder(settings.cuts, settings.motion)
            report = RunReport(reader.info, model.name, model.weights, device_of(model), settings, list(writers.paths))
            start = time.perf_counter()
            if given is None:
                ahead = sought.tracked_ahead(
                    reader, span, TimedModel(model, clock), settings, part=part, batch=batch, masks=by_hand, cuts=cuts,
                    clock=clock, keep=None if kept is None else kept.ahead, on_tracked=on_tracked,
                )  # fmt: skip
                given = stack.enter_context(ahead)
            alphas = AlphaRanges(sought)
            if kept is not None:
                _take_over(kept, writers, span.start, given, report, alphas)
            done = len(report.records)
            begin = span.start + done
            first, stop = _to_read(span, begin, given, settings, batch, ahead=sought.track is None)
            with _track_writers(wanted, reader.info, model, settings, kept) as savers:
                found = reader.frames(first, stop)
                if sought.each:
                    stream = matte_subjects(
                        found, sought.each, model, settings, save_tracks=savers, forced=forced, cuts=cuts, clock=clock
                    )
                else:
                    stream = matte_frames(
                        found, sought.prompt, model, settings, given=given, save_track=savers.get(None), forced=forced,
                        kept=kept.track if kept is not None else None,
                        begin=lead(begin, settings.smooth, batch) if done else 0, cuts=cuts, clock=clock,
                    )  # fmt: skip
                asked = (m for m in stream if m.frame.index >= begin and m.frame.index in span)
                with closing(stream):
                    for matted, seconds in _written(asked, writers, wanted, settings, clock):
                        alphas.add(matted)
                        report.add(matted, seconds, clock.seconds)
                        if kept is not None:
                            known = (matted.record.agreement, matted.record.flicker)
                            least, most = alphas.last
                            kept.add(Done(least, most, seconds, *(math.nan if v is None else v for v in known)))
                        if on_frame is not None:
                            on_frame(matted, report)
                if not report.records:
                    raise UsageError(f"{source}: holds no frame of the range {span}")
        report.records = [with_cut(record, cuts) for record in report.records]  # those that were kept
        report.notes = [*info.notes, *writers.notes, *_broken_frames(reader, report), *_told_cuts(cuts, report)]
        report.notes += [*wanted.message(), *_told_prompts(sought, report)]
        if done:
            report.notes.append(f"resumed after {done} frames; times by stage are of the others")
        if settings.output.verify:
            with clock.stage("verify"):
                outputs_of = dict(zip(writers.paths, zip(wanted.names, wanted.whose, strict=True), strict=True))
                for path, promise in writers.promises():
                    report.checks[path] = verify_output(path, promise, alphas.reached(*outputs_of[path]))
    before = sum(report.frame_seconds[:done])
    report.wall, report.seconds = before + time.perf_counter() - start, clock.seconds
    return report


def _refuse_for_several(
    sought: MaskSource, settings: Settings, wanted: OutputPlan, resume: bool, include: str | Path | None
) -> None:
    """Raises: UsageError, something is asked that is for one subject only."""
    count = len(sought.each)
    refused = {"--resume": resume, "--invert": settings.finish.invert, "--include": include is not None}
    for option, asked in refused.items():
        if asked:
            raise UsageError(f"{option} is for one subject, {count} are named: give each a run of its own")
    if None in wanted.tracks:
        raise UsageError(f"--save-track {wanted.tracks[None]}: one file for {count} tracks; put {SUBJECT} in its name")


def _to_read(
    span: FrameRange, begin: int, given: Track | None, settings: Settings, batch: int, *, ahead: bool
) -> tuple[int, int | None]:
    """First frame and one past the last that are read, so that those from `begin` on come out as in the whole clip.

    `ahead`: the track that is given was made in this run, and ends where the run is to end.
    """
    stop = tail(span, settings.smooth, batch)
    if given is None:
        return span.start, stop
    end = given.first + given.count
    if stop is not None:
        stop = min(stop, max(end, span.start + 1))
    if ahead and settings.cuts.on_cut == "stop":
        stop = end
    return max(lead(begin, settings.smooth, batch), given.first), stop


def _written(
    mattes: Iterator[Matted], writers: WriterGroup, wanted: OutputPlan, settings: Settings, clock: StageTimer
) -> Generator[tuple[Matted, float], None, None]:
    """Each matte when it is in every file, and the seconds since the one before."""
    whose = wanted.coloured
    own_colour = bool(whose) and settings.output.foreground == "estimate"

    def prepare(matted: Matted) -> tuple[Matted, Any]:
        coloured = matted
        if own_colour:
            with clock.stage("foreground"):
                coloured = _coloured(matted, whose)
        with clock.stage("convert"):
            return matted, writers.prepare(coloured)

    beat = time.perf_counter()
    with closing(ordered_map(prepare, mattes, 1)) as prepared:
        for matted, pictures in prepared:
            with clock.stage("encode"):
                writers.put(pictures)
            now = time.perf_counter()
            yield matted, now - beat
            beat = now


def _coloured(matted: Matted, whose: Collection[str | None]) -> Matted:
    """With the subject's own colour; of several subjects for the parts that are wanted; None: all together."""
    parts = tuple(with_foreground(part) if part.record.subject in whose else part for part in matted.parts)
    return replace(with_foreground(matted) if None in whose else matted, parts=parts)


def run_fingerprint(
    source: str | Path,
    outputs: Sequence[str],
    sought: MaskSource,
    span: FrameRange | None,
    settings: Settings,
    model: Model,
    by_hand: Mapping[str, str | Path | None],
) -> dict[str, Any]:
    """All that a result depends on, in plain values: a run is gone on with only where none of it changed."""
    asked = settings.as_dict()
    for free in ("overwrite", "verify"):
        del asked["output"][free]
    colours = os.environ.get("OCIO", "")
    mask = None if sought.prompt is None else sought.prompt.mask
    files = {"masks": sought.masks, "trimaps": sought.trimaps, **by_hand}
    return {
        "version of mam-video": version("mam-video"),
        "version of torch": torch.__version__,
        "outputs": [f"{Path(name).absolute()}:{kind.name}" for name, kind in map(parse_output, outputs)],
        "input": identity_of(source),
        "range": "all" if span is None else str(span),
        "prompt": sought.described(),
        "mask": "none" if mask is None else hashlib.sha256(mask.tobytes()).hexdigest(),
        **{name: "none" if given is None else identity_of(given) for name, given in files.items()},
        "track": "none" if sought.track is None else identity([Path(sought.track)]),
        "settings": asked,
        "OCIO": identity([Path(colours)]) if Path(colours).is_file() else colours,
        "model": model.name,
        "weights": model.weights,
        "device": device_of(model),
        "threads": torch.get_num_threads(),
    }


def _writers(
    wanted: OutputPlan, info: ClipInfo, settings: Settings, part: bool, kept: Checkpoint | None
) -> WriterGroup:
    if kept is None:
        return open_writers(
            wanted.names, info, settings.output, part=part, subjects=wanted.subjects, whose=wanted.whose
        )
    # A run that was cut off while it gave names finds its own files under them.
    output = replace(settings.output, overwrite=settings.output.overwrite or kept.publishing)
    writers = open_writers(wanted.names, info, output, part=part, keep=kept.places)
    writers.before_publish = kept.mark
    return writers


def _take_over(
    kept: Checkpoint, writers: WriterGroup, first: int, given: Track | None, report: RunReport, alphas: AlphaRanges
) -> None:
    """What is done already, into writers and report: as many frames as every file has that is kept."""
    most = len(kept.done) if given is not None else min(len(kept.done), len(kept.track))
    kept.agree(writers.resume_from(first, most, named=kept.publishing))
    for k, done in enumerate(kept.done):
        record = (given.frame(first + k) if given is not None else kept.track[k])[0]
        known = [None if math.isnan(v) else v for v in (done.agreement, done.flicker)]
        report.records.append(replace(record, agreement=known[0], flicker=known[1]))
        report.frame_seconds.append(done.seconds)
        report.add_stages({})
        alphas.add_known(done.low, done.high)


def _broken_frames(reader: Reader, report: RunReport) -> list[str]:
    """A line about the frames of this run that could not be decoded, if there are any."""
    seen = {record.index for record in report.records}
    lost = [index for index in reader.broken if index in seen]
    if not lost:
        return []
    told = [reader.info.frame_number(index) for index in lost]
    named = ", ".join(map(str, told[:20])) + (f" and {len(lost) - 20} more" if len(lost) > 20 else "")
    which = f"frame {named} is" if len(lost) == 1 else f"frames {named} are"
    damaged = "damaged" if reader.info.numbers is None else "missing or damaged"
    return [f"{which} {damaged} in the clip; the frame before stands in"]


def _told_cuts(cuts: CutFinder, report: RunReport) -> list[str]:
    """What was done at the cuts, and what to do about it."""

    def named(indices: Sequence[int]) -> str:
        told = [report.clip.frame_number(index) for index in indices]
        which = ", ".join(map(str, told[:20])) + (f" and {len(told) - 20} more" if len(told) > 20 else "")
        return f"frame{'s' if len(told) > 1 else ''} {which}"

    past = report.records[-1].index + 1
    if cuts.settings.on_cut == "stop" and past in cuts.found:
        return [
            f"stopped before {named([past])}, where a new shot begins; matte it by itself with --range and a prompt of "
            "its own, or go on with --on-cut reprompt or continue"
        ]
    passed = [record.index for record in report.records if record.cut and record.state is State.CUT]
    if cuts.settings.on_cut == "continue":
        return [f"tracking went on through hard cuts before {named(passed)}: look there"] if passed else []
    if not passed:
        return []
    begins, them, each = ("a new shot begins", "it", "it") if len(passed) == 1 else ("new shots begin", "them", "each")
    return [
        f"{begins} at {named(passed)} and nobody points at the subject in {them}: the alpha is empty there; "
        f"give {each} a prompt, or say --on-cut continue where this is no cut"
    ]


def _told_prompts(sought: MaskSource, report: RunReport) -> list[str]:
    if sought.prompts is None or len(sought.prompts.frames) < 2:
        return []
    places = ", ".join(str(report.clip.frame_number(index)) for index in sought.prompts.frames)
    return [f"prompts on frames {places}"]


def _since(info: ClipInfo, first: int) -> ClipInfo:
    """The same clip as seen from its frame `first` on: its outputs' timecode starts there."""
    return info if info.timecode is None or not first else replace(info, timecode=info.timecode + first)


@contextmanager
def _track_writers(
    wanted: OutputPlan, info: ClipInfo, model: Model, settings: Settings, kept: Checkpoint | None
) -> Iterator[dict[str | None, TrackWriter]]:
    """A writer for each track that is to be saved. Of a run that is kept it grows under a name that does not change, so
    that a run that goes on begins that file again."""
    with ExitStack() as stack:
        writers: dict[str | None, TrackWriter] = {}
        for whose, path in wanted.tracks.items():
            part = checkpoint_beside(Path(path))
            if kept is None:
                part.unlink(missing_ok=True)
            writer = TrackWriter(
                path, info.size, model, settings.as_dict(), overwrite=settings.output.overwrite,
                part=part if kept is not None else None,
            )  # fmt: skip
            writers[whose] = stack.enter_context(writer)
        yield writers
