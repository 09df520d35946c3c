"""The recipe: from a clip and a prompt to mattes. Read it top to bottom; each arrow of docs/design.md is one call.

Two questions are asked of every frame. *Where is the subject?* must be asked in order and is the tracker's; its answer
is the track. *How opaque is each pixel?* needs the frame and its track alone, so it is answered in batches. Given the
track, a frame's matte depends only on the frames within the smoothing's radius: batches fall on absolute frame numbers,
so a range comes out as in the whole run, bit for bit on the same device.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import groupby, tee
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mam_video.clock import Clock
from mam_video.corrections import track_prompts
from mam_video.cuts import CutFinder
from mam_video.errors import UsageError
from mam_video.finish import NOT_FORCED, Forced, finished
from mam_video.flicker import agreement, with_flicker
from mam_video.foreground import with_foreground
from mam_video.frames import Frame, Matted, State
from mam_video.masks import track_masks
from mam_video.media import ClipInfo, Reader, WriterGroup, open_clip, open_writers, parse_output, read_back
from mam_video.media.kept import identity, kept_beside
from mam_video.media.kinds import LAYERS, can_be_kept, identity_of, kept_place
from mam_video.media.masks import Masks
from mam_video.media.outputs import SUBJECT, folders_of_subjects, of_subjects
from mam_video.models.base import Candidates, Embedding, Model, ViewPrompt
from mam_video.models.merge import compose_alpha
from mam_video.models.registry import load_model
from mam_video.motion import Motion, with_motion
from mam_video.prompts import DEFAULT_SUBJECT, Prompt, Prompts
from mam_video.refine import refine
from mam_video.report.run import RunReport
from mam_video.resume import Done, Kept, KeptTrack, refuse_kept
from mam_video.settings import Settings
from mam_video.shots import each_in_first_shot, each_with_cuts, in_first_shot, with_cut, with_cuts
from mam_video.streams import ahead, ordered_map
from mam_video.subjects import divided, track_subjects, united
from mam_video.track import Tracked, track
from mam_video.track_file import Track, TrackWriter, saved

_DECODED_AHEAD = 4  # frames; each queue holds a few, so that memory does not grow with the clip
_MATTED_AHEAD = 2


def matte_frames(
    frames: Iterable[Frame],
    prompt: Prompt | None,
    model: Model,
    settings: Settings | None = None,
    *,
    given: Track | None = None,
    save_track: TrackWriter | None = None,
    kept: KeptTrack | None = None,
    begin: int = 0,
    forced: Forced = NOT_FORCED,
    cuts: CutFinder | None = None,
    clock: Clock | None = None,
) -> Generator[Matted, None, None]:
    """Matte the prompted subject in every frame. As many frames come out as go in, in order, with their own times.

    Args:
        frames: of one size, in display order, indices counting up by one.
        prompt: where the subject is in the first of them; not needed where a track is given.
        model: see `models.base`; `load_model` makes one.
        settings: all knobs; the defaults where None.
        given: a saved track to follow; nothing is tracked then.
        save_track: takes the track as it is found.
        kept: what this same call found when it was broken off; the rest is added to it.
        begin: index of the first frame that is wanted; what comes before is tracked, and does not come out.
        forced: trimaps and garbage mattes, which overrule the model.
        cuts: finds where the first shot ends, and does there what `settings.cuts` says; made where None. A track that
            is given knows its cuts.
        clock: counts the seconds of each stage.
    Neither tracking nor smoothing reaches across a cut. Memory does not grow with the clip.
    """
    settings, clock = settings or Settings(), clock or Clock()
    timed = _TimedModel(model, clock)

    decoded = ahead(clock.timed(frames, "decode"), _DECODED_AHEAD, "decode")
    moved = with_motion(decoded, settings.motion, clock=clock)
    if given is not None:
        tracked = given.follow(moved, model)
    elif prompt is not None:
        follow = partial(
            track, model=timed, prompt=prompt, settings=settings.track, view=settings.view,
            batch=batch_size(model, settings), known=() if kept is None else kept,
        )  # fmt: skip
        cuts = cuts or CutFinder(settings.cuts, settings.motion)
        tracked = in_first_shot(moved, follow, model, cuts, clock)
        if kept is not None:
            tracked = kept.kept(tracked)
        tracked = with_cuts(tracked, cuts)
    else:
        raise UsageError("no prompt: give a box or points on the first frame, or a saved track")
    if save_track is not None:
        tracked = saved(tracked, save_track)
    if begin:
        tracked = _since(begin, tracked)
    mattes = ahead(matte(tracked, timed, settings, clock), _MATTED_AHEAD, "model")
    with closing(mattes):
        for matted in with_flicker(mattes, settings.smooth, clock):
            yield finished(matted, settings.finish, forced, clock)


def matte_subjects(
    frames: Iterable[Frame],
    prompts: Mapping[str, Prompt],
    model: Model,
    settings: Settings | None = None,
    *,
    save_tracks: Mapping[str, TrackWriter] | None = None,
    forced: Forced = NOT_FORCED,
    cuts: CutFinder | None = None,
    clock: Clock | None = None,
) -> Generator[Matted, None, None]:
    """Matte several subjects in every frame; see `subjects.py` for what they share.

    Args:
        prompts: where each is in the first frame, by its name.
        save_tracks: take the track of each as it is found.
        others: as for `matte_frames`.
    Each `Matted` is of all of them together, with each one's own in `parts`, in the order of `prompts`. At no pixel do
    the alphas of the parts add up to more than 1.
    """
    settings, clock = settings or Settings(), clock or Clock()
    timed = _TimedModel(model, clock)

    decoded = ahead(clock.timed(frames, "decode"), _DECODED_AHEAD, "decode")
    moved = with_motion(decoded, settings.motion, clock=clock)
    follow = partial(
        track_subjects, model=timed, prompts=prompts, settings=settings.track, view=settings.view,
        batch=batch_size(model, settings),
    )  # fmt: skip
    cuts = cuts or CutFinder(settings.cuts, settings.motion)
    tracked = each_with_cuts(each_in_first_shot(moved, follow, model, prompts, cuts, clock), cuts)
    if save_tracks is not None:
        tracked = _saved_each(tracked, save_tracks)
    mattes = ahead(_matte_each(tracked, timed, settings, clock), _MATTED_AHEAD, "model")
    with closing(mattes):
        # Each is smoothed by itself: copies of one stream, which are read in step.
        each = [
            with_flicker(_column(rows, k), settings.smooth, clock) for k, rows in enumerate(tee(mattes, len(prompts)))
        ]
        for parts in zip(*each, strict=True):
            done = [finished(part, settings.finish_of(part.record.subject), forced, clock) for part in divided(parts)]
            yield united(divided(done))


def _column(
    rows: Iterable[tuple[tuple[Matted, Motion | None], ...]], k: int
) -> Generator[tuple[Matted, Motion | None], None, None]:
    for row in rows:
        yield row[k]


def _saved_each(
    tracked: Generator[tuple[Tracked, ...], None, None], writers: Mapping[str, TrackWriter]
) -> Generator[tuple[Tracked, ...], None, None]:
    """`tracked`, unchanged, with what was found of each subject written on its way."""
    with closing(tracked):
        for row in tracked:
            for item in row:
                writers[item.record.subject].write(item)
            yield row


def _matte_each(
    tracked: Generator[tuple[Tracked, ...], None, None], model: Model, settings: Settings, clock: Clock
) -> Generator[tuple[tuple[Matted, Motion | None], ...], None, None]:
    """`matte` for each subject by itself, group by group of frames; those of one view have one embedding."""
    size = batch_size(model, settings)
    with closing(tracked):
        for _, group in groupby(tracked, key=lambda row: row[0].frame.index // size):
            each = [matte(column, model, settings, clock) for column in zip(*group, strict=True)]
            yield from zip(*each, strict=True)


def _since(begin: int, tracked: Iterable[Tracked]) -> Generator[Tracked, None, None]:
    """Those from the frame `begin` on; the others are found, and go no further."""
    try:
        for item in tracked:
            if item.frame.index >= begin:
                yield item
    finally:
        close = getattr(tracked, "close", None)
        if close is not None:
            close()


def matte(
    tracked: Iterable[Tracked], model: Model, settings: Settings, clock: Clock
) -> Generator[tuple[Matted, Motion | None], None, None]:
    """How opaque is each pixel? Frame by frame, with the motion that led to it; batches fall on absolute numbers."""
    size = batch_size(model, settings)
    for (_, view), group in groupby(tracked, key=lambda t: (t.frame.index // size, t.view)):
        batch = list(group)
        logits = np.stack([t.logits for t in batch]).astype(np.float32)
        seen = [bool((mask > 0).any()) for mask in logits]
        with torch.inference_mode():
            levels = model.matte(_embedding(batch, model), logits) if any(seen) else None
        for k, (item, mask) in enumerate(zip(batch, logits, strict=True)):
            with clock.stage("merge"), torch.inference_mode():
                if levels is not None and seen[k]:
                    alpha = compose_alpha(levels[k], mask, view, settings.matte)
                else:  # no mask, no subject: whatever the model makes of an empty mask is noise
                    alpha = np.zeros((view.height, view.width), np.float32)
            record = replace(item.record, agreement=agreement(alpha, mask, view))
            with clock.stage("refine"):
                picture = item.frame.rgb8[view.y0 : view.y0 + view.height, view.x0 : view.x0 + view.width]
                alpha = view.lay_down(refine(alpha, picture, view, settings.refine), item.frame.size)
            yield Matted(item.frame, alpha, record), item.motion


def _embedding(batch: Sequence[Tracked], model: Model) -> Embedding:
    """The tracker's embedding where it holds just these frames; else made again: batches are always the same."""
    if batch[0].embedding is not None:
        return batch[0].embedding[0]
    return model.embed([t.view.cut(t.frame.rgb8) for t in batch])


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
    frames: tuple[int, int | None] | None = None,
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
        frames: first and last index (None: to the end), both inclusive, 0-based; the whole clip where None. Without a
            track to follow, the prompt is of the first of them. Movies of a range start at time 0, with the timecode
            and the sound of these frames.
        resume: keep what is done beside the outputs, and where an earlier run of the same was cut off, go on there: the
            result is the same bits on the same device.
        on_frame: called after each frame is written.
        on_tracked: called after each frame that is tracked ahead of matting, once for each direction.
    Returns: what the run tells.
    Raises: MamVideoError, anything the user can mend; then nothing stands under any output's name. An interrupt passes;
        with `resume` its text says how many frames are kept.
    """
    settings = settings or Settings()
    templates = [str(name) for name in ([outputs] if isinstance(outputs, str | Path) else outputs)]
    prompt, each = _subjects_of(prompt)
    named = list(each) or [prompt.subject if isinstance(prompt, Prompts) else DEFAULT_SUBJECT]
    if unknown := [name for name in settings.looks if name not in named]:
        raise UsageError(f"--look {unknown[0]}: no such subject; subjects of this run: {', '.join(named)}")
    if not each:
        settings = replace(settings, finish=settings.finish_of(named[0]), looks={})
    asked = [(name, whose) for template in templates for whose, name in of_subjects(template, named).items()]
    names = [name for name, _ in asked]
    whose = [subject if each else None for _, subject in asked]
    tracks = of_subjects(str(track_to), named) if track_to is not None else {}
    first, last = frames or (0, None)
    if first < 0 or (last is not None and last < first):
        raise UsageError(f"range {first}-{last} is not a range of frames; give FIRST-LAST, counted from 0")
    with open_clip(source, settings.input) as reader:
        if prompt is not None:
            prompt.check_inside(reader.info.size)
        for of_one in each.values():
            of_one.check_inside(reader.info.size)
        ways = [
            name for name, way in _ways(prompt or each or None, track_from, masks, trimaps).items() if way is not None
        ]
        if not ways:
            raise UsageError("no prompt: give a box or points on the first frame, or a saved track")
        if len(ways) > 1:
            raise UsageError(f"{' and '.join(ways)} both say where the subject is; give one of them")
        prompt, several = _told_apart(prompt, frames, backward)
        together = {}
        if each:
            together = _on_first(each, first)
            refused = {"--resume": resume, "--invert": settings.finish.invert, "--include": include is not None}
            for option, given_too in refused.items():
                if given_too:
                    raise UsageError(f"{option} is for one subject, {len(each)} are named: give each a run of its own")
            if None in tracks:
                raise UsageError(f"--save-track {track_to}: one file for {len(each)} tracks; put {SUBJECT} in its name")
        if several is not None and resume:
            raise UsageError(
                "--resume cannot go on with prompts on several frames; --save-track first, then --track with --resume"
            )
        given = Track.load(track_from, reader.info.size) if track_from is not None else None
        info, part = _part_of(reader.info, first), frames is not None
        with ExitStack() as stack:
            stack.enter_context(given or nullcontext())

            def opened(source: str | Path | None, option: str) -> Masks | None:
                return None if source is None else stack.enter_context(Masks(source, reader.info, option))

            made = opened(masks, "--masks") or opened(trimaps, "--trimaps")
            forced = Forced(opened(trimaps, "--trimaps"), opened(include, "--include"), opened(exclude, "--exclude"))
            kept: Kept | None = None
            if resume:
                model = model or load_model(settings.model)
                by_hand = {"masks": masks, "trimaps": trimaps, "include": include, "exclude": exclude}
                key = _asked(source, names, prompt, settings, model, track_from, by_hand, frames)
                kept = stack.enter_context(Kept([kept_place(name, info) for name in names], key))
            else:
                refuse_kept(_kept_places(names, info), settings.output.overwrite)
            beside = [*(parse_output(template)[0] for template in templates), *([str(track_to)] if tracks else [])]
            for name in beside:
                stack.enter_context(folders_of_subjects(name, list(of_subjects(name, named).values())))
            writers = stack.enter_context(_writers(names, info, settings, part, kept, list(each), whose))
            model = model or load_model(settings.model)
            clock, cuts = Clock(), CutFinder(settings.cuts, settings.motion)
            if made is not None:
                given = stack.enter_context(_track_of(made, reader, settings, cuts, trimaps is not None, frames, model))
            report = RunReport(reader.info, model.name, model.weights, _device_of(model), settings, list(writers.paths))
            start = beat = time.perf_counter()
            size = batch_size(model, settings)
            if several is not None:
                tail = None if last is None else _tail(last, settings, size)
                given = stack.enter_context(
                    _tracked_ahead(reader, several, model, settings, cuts, first, tail, clock, on_tracked)
                )
                beat = time.perf_counter()
            with_colour = {
                of for name, of in zip(names, whose, strict=True) if parse_output(name)[1].content != "alpha"
            }
            own_colour = with_colour and settings.output.foreground == "estimate"

            def prepare(matted: Matted) -> tuple[Matted, Any]:
                coloured = matted
                if own_colour:
                    with clock.stage("foreground"):
                        coloured = _coloured(matted, with_colour)
                with clock.stage("convert"):
                    return matted, writers.prepare(coloured)

            if kept is not None:
                _take_over(kept, writers, first, given, report)
            done = len(report.records)
            begin = first + done
            alphas = [(a.low, a.high) for a in kept.done] if kept is not None else []
            alphas_of: dict[str, list[tuple[float, float]]] = {name: [] for name in each}
            lead, tail = first, None if last is None else _tail(last, settings, size)
            if given is not None:
                lead = max(_lead(begin, settings, size), given.first)
                tail = None if tail is None else min(tail, max(given.first + given.count, first + 1))
                if settings.cuts.on_cut == "stop" and (several is not None or made is not None):
                    tail = given.first + given.count  # it ends before a cut
            savers = {
                name: stack.enter_context(
                    TrackWriter(tracks[name], info.size, model, settings.as_dict(), overwrite=settings.output.overwrite)
                )
                for name in (each if tracks else ())
            }
            one_track = None if each else next(iter(tracks.values()), None)
            with _track_writer(one_track, reader.info, model, settings, fixed=kept is not None) as saver:
                frames_of = reader.frames(lead, tail)
                if each:
                    stream = matte_subjects(
                        frames_of,
                        together,
                        model,
                        settings,
                        save_tracks=savers or None,
                        forced=forced,
                        cuts=cuts,
                        clock=clock,
                    )
                else:
                    stream = matte_frames(
                        frames_of, prompt, model, settings, given=given, save_track=saver, forced=forced, cuts=cuts,
                        kept=kept.track if kept is not None else None,
                        begin=_lead(begin, settings, size) if done else 0, clock=clock,
                    )  # fmt: skip
                wanted = (m for m in stream if begin <= m.frame.index and (last is None or m.frame.index <= last))
                with closing(stream), closing(ordered_map(prepare, wanted, 1)) as prepared:
                    for matted, pictures in prepared:
                        with clock.stage("encode"):
                            writers.put(pictures)
                        now = time.perf_counter()
                        report.records.append(matted.record)
                        if matted.parts:
                            report.parts.append(tuple(part.record for part in matted.parts))
                        report.frame_seconds.append(now - beat)
                        report.add_stages(clock.seconds)
                        alphas.append((float(matted.alpha.min()), float(matted.alpha.max())))
                        for own in matted.parts:
                            alphas_of[own.record.subject].append((float(own.alpha.min()), float(own.alpha.max())))
                        if kept is not None:
                            known = (matted.record.agreement, matted.record.flicker)
                            kept.add(Done(*alphas[-1], now - beat, *(math.nan if v is None else v for v in known)))
                        beat = now
                        if on_frame is not None:
                            on_frame(matted, report)
                if not report.records:
                    wanted_range = f"{first}-" if last is None else f"{first}-{last}"
                    raise UsageError(f"{source}: holds no frame of the range {wanted_range}")
        report.records = [with_cut(record, cuts) for record in report.records]  # those that were kept
        report.notes = [*info.notes, *writers.notes, *_broken_frames(reader, report), *_told_cuts(cuts, report)]
        if each:
            report.notes += _told_of(templates, list(each))
        if several is not None and len(several.frames) > 1:
            places = ", ".join(str(index if info.numbers is None else info.numbers[index]) for index in several.frames)
            report.notes.append(f"prompts on frames {places}")
        if done:
            report.notes.append(f"resumed after {done} frames; times by stage are of the others")
        if settings.output.verify:
            with clock.stage("verify"):
                layered = [(min(low), max(high)) for low, high in _spans(alphas_of)]
                reached = {
                    path: layered if parse_output(name)[1].name == LAYERS else alphas if of is None else alphas_of[of]
                    for path, name, of in zip(writers.paths, names, whose, strict=True)
                }
                for path, promise in writers.promises():
                    report.checks[path] = read_back(path, promise, reached[path])
    before = sum(report.frame_seconds[:done])
    report.wall, report.seconds = before + time.perf_counter() - start, clock.seconds
    return report


def _subjects_of(
    prompt: Prompt | Prompts | Sequence[Prompts] | None,
) -> tuple[Prompt | Prompts | None, dict[str, Prompts]]:
    """What shows the one subject; or, of several, their prompts by name, else empty."""
    if prompt is None or isinstance(prompt, Prompt | Prompts):
        return prompt, {}
    if len(prompt) == 1:
        return prompt[0], {}
    each = {prompts.subject: prompts for prompts in prompt}
    if len(each) < len(prompt):
        raise UsageError("two subjects have one name; give each its own")
    return None, each


def _on_first(each: Mapping[str, Prompts], first: int) -> dict[str, Prompt]:
    """The prompts of several subjects. Raises: UsageError, one is not on the first frame alone."""
    for name, prompts in each.items():
        if prompts.frames != (first,):
            where = ", ".join(map(str, prompts.frames))
            raise UsageError(
                f"subject '{name}' has prompts on frames {where} (by index): {len(each)} subjects are followed from "
                f"frame {first} alone; prompt each there, or give '{name}' a run of its own"
            )
    return {name: prompts[first] for name, prompts in each.items()}


def _coloured(matted: Matted, whose: Collection[str | None]) -> Matted:
    """With the subject's own colour; of several subjects for the parts that are wanted; None: all together."""
    parts = tuple(with_foreground(part) if part.record.subject in whose else part for part in matted.parts)
    return replace(with_foreground(matted) if None in whose else matted, parts=parts)


def _spans(alphas_of: Mapping[str, list[tuple[float, float]]]) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Of each frame the least alphas of all subjects, and the largest."""
    for row in zip(*alphas_of.values(), strict=True):
        yield tuple(low for low, _ in row), tuple(high for _, high in row)


def _told_of(outputs: Sequence[str], subjects: Sequence[str]) -> list[str]:
    """A line of what holds all subjects together."""
    names = [name for name in outputs if SUBJECT not in name and parse_output(name)[1].name != LAYERS]
    if not names:
        return []
    hold = "holds" if len(names) == 1 else "hold"
    return [f"{', '.join(names)} {hold} {', '.join(subjects)} together; {SUBJECT} in a name gives each its own"]


def _ways(
    prompt: object, track_from: str | Path | None, masks: str | Path | None, trimaps: str | Path | None
) -> dict[str, object]:
    """All that can say where the subject is, by name."""
    return {"a prompt": prompt, "--track": track_from, "--masks": masks, "--trimaps": trimaps}


@contextmanager
def _track_of(
    masks: Masks,
    reader: Reader,
    settings: Settings,
    cuts: CutFinder,
    trimaps: bool,
    frames: tuple[int, int | None] | None,
    model: Model,
) -> Iterator[Track]:
    """The track of masks made elsewhere, in a file of its own as long as the run lasts."""
    first, last = frames or (0, None)
    stop = masks.stop if frames is not None else None  # of a whole clip every frame needs one
    if last is not None:
        tail = _tail(last, settings, batch_size(model, settings))
        stop = tail if stop is None else min(tail, stop)
    if first < masks.first or (masks.stop is not None and last is not None and last >= masks.stop):
        numbers = reader.info.numbers
        ends = (masks.first, (masks.stop or masks.first + 1) - 1)
        told = ends if numbers is None else tuple(numbers[k] for k in ends)
        raise UsageError(f"{masks.option} {masks.source}: are of frames {told[0]}-{told[1]}; give a --range among them")
    with tempfile.TemporaryDirectory(prefix="mam-video-") as folder:
        path = Path(folder) / "masks.track"
        track_masks(reader, masks, path, settings, cuts, trimaps=trimaps, stop=stop)
        with Track.load(path, reader.info.size) as track_of_masks:
            yield track_of_masks


def _told_apart(
    prompt: Prompt | Prompts | None, frames: tuple[int, int | None] | None, backward: bool
) -> tuple[Prompt | None, Prompts | None]:
    """Either the prompt of the first frame, which one pass over the clip serves, or prompts that need two."""
    if not isinstance(prompt, Prompts):
        return prompt, None
    first, last = frames or (0, None)
    for index in prompt.frames:
        if index < first or (last is not None and index > last):
            where = f"{first}-{'' if last is None else last}"
            raise UsageError(f"prompt on frame {index}: lies outside the range {where} (by index) that is asked for")
    if prompt.frames == (first,):
        return prompt[first], None
    if prompt.frames[0] > first and not backward:
        raise UsageError(
            f"frame {first} has no prompt, the first is on frame {prompt.frames[0]} (by index): give one there, or "
            "--backward to track back to it"
        )
    return None, prompt


@contextmanager
def _tracked_ahead(
    reader: Reader,
    prompts: Prompts,
    model: Model,
    settings: Settings,
    cuts: CutFinder,
    first: int,
    stop: int | None,
    clock: Clock,
    on_tracked: Callable[[], None] | None,
) -> Generator[Track, None, None]:
    """The first of two passes: the track of frames first <= index < stop, in a file that lasts as long as this."""
    with tempfile.TemporaryDirectory(prefix="mam-video-") as name:
        folder = Path(name)
        with TrackWriter(folder / "joined.track", reader.info.size, model, settings.as_dict()) as writer:
            found = track_prompts(
                reader.frames, prompts, _TimedModel(model, clock), settings, folder, first=first, stop=stop,
                cuts=cuts, batch=batch_size(model, settings), clock=clock, on_frame=on_tracked,
            )  # fmt: skip
            with closing(found):
                for record, view, logits, _ in found:
                    writer.write_found(record, view, logits)
        with Track.load(folder / "joined.track", reader.info.size) as track_found:
            yield track_found


def _asked(
    source: str | Path,
    outputs: Sequence[str | Path],
    prompt: Prompt | None,
    settings: Settings,
    model: Model,
    track_from: str | Path | None,
    by_hand: Mapping[str, str | Path | None],
    frames: tuple[int, int | None] | None,
) -> dict[str, Any]:
    """All that a result depends on, in plain values: a run is gone on with only where none of it changed."""
    asked = settings.as_dict()
    for free in ("overwrite", "verify"):
        del asked["output"][free]
    colours = os.environ.get("OCIO", "")
    return {
        "version of mam-video": version("mam-video"),
        "version of torch": torch.__version__,
        "outputs": [f"{Path(name).absolute()}:{kind.name}" for name, kind in map(parse_output, outputs)],
        "input": identity_of(source),
        "range": "all" if frames is None else f"{frames[0]}-{'' if frames[1] is None else frames[1]}",
        "prompt": "none" if prompt is None else str(prompt),
        "mask": "none" if prompt is None or prompt.mask is None else hashlib.sha256(prompt.mask.tobytes()).hexdigest(),
        **{name: "none" if given is None else identity_of(given) for name, given in by_hand.items()},
        "track": "none" if track_from is None else identity([Path(track_from)]),
        "settings": asked,
        "OCIO": identity([Path(colours)]) if Path(colours).is_file() else colours,
        "model": model.name,
        "weights": model.weights,
        "device": _device_of(model),
        "threads": torch.get_num_threads(),
    }


def _kept_places(outputs: Sequence[str | Path], info: ClipInfo) -> list[Path]:
    """Where an earlier run may have kept something, of those outputs that can be kept."""
    return [kept_place(output, info) for output in outputs if can_be_kept(output)]


def _writers(
    outputs: Sequence[str | Path],
    info: ClipInfo,
    settings: Settings,
    part: bool,
    kept: Kept | None,
    subjects: Sequence[str],
    whose: Sequence[str | None],
) -> WriterGroup:
    if kept is None:
        return open_writers(outputs, info, settings.output, part=part, subjects=subjects, whose=whose)
    # A run that was cut off while it gave names finds its own files under them.
    output = replace(settings.output, overwrite=settings.output.overwrite or kept.publishing)
    writers = open_writers(outputs, info, output, part=part, keep=kept.places)
    writers.before_publish = kept.mark
    return writers


def _take_over(kept: Kept, writers: WriterGroup, first: int, given: Track | None, report: RunReport) -> None:
    """What is done already, into writers and report: as many frames as every file has that is kept."""
    most = len(kept.done) if given is not None else min(len(kept.done), len(kept.track))
    kept.agree(writers.go_on(first, most, named=kept.publishing))
    for k, done in enumerate(kept.done):
        record = (given.frame(first + k) if given is not None else kept.track[k])[0]
        known = [None if math.isnan(v) else v for v in (done.agreement, done.flicker)]
        report.records.append(replace(record, agreement=known[0], flicker=known[1]))
        report.frame_seconds.append(done.seconds)
        report.add_stages({})


def _broken_frames(reader: Reader, report: RunReport) -> list[str]:
    """A line about the frames of this run that could not be decoded, if there are any."""
    seen = {record.index for record in report.records}
    lost = [index for index in reader.broken if index in seen]
    if not lost:
        return []
    numbers = reader.info.numbers
    told = [index if numbers is None else numbers[index] for index in lost]
    named = ", ".join(map(str, told[:20])) + (f" and {len(lost) - 20} more" if len(lost) > 20 else "")
    which = f"frame {named} is" if len(lost) == 1 else f"frames {named} are"
    damaged = "damaged" if numbers is None else "missing or damaged"
    return [f"{which} {damaged} in the clip; the frame before stands in"]


def _told_cuts(cuts: CutFinder, report: RunReport) -> list[str]:
    """What was done at the cuts, and what to do about it."""
    numbers = report.clip.numbers

    def named(indices: Sequence[int]) -> str:
        told = [index if numbers is None else numbers[index] for index in indices]
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
    return [
        f"new shots begin at {named(passed)} and nobody points at the subject in them: their alpha is empty; give each "
        "a prompt, or say --on-cut continue where these are no cuts"
    ] if passed else []  # fmt: skip


def _part_of(info: ClipInfo, first: int) -> ClipInfo:
    """The same clip as seen from its frame `first` on: its outputs' timecode starts there."""
    return info if info.timecode is None or not first else replace(info, timecode=info.timecode + first)


def _track_writer(
    path: str | Path | None, info: ClipInfo, model: Model, settings: Settings, *, fixed: bool
) -> AbstractContextManager[TrackWriter | None]:
    """`fixed`: it grows under a name that does not change, so that a run that goes on begins that file again."""
    if path is None:
        return nullcontext()
    part = kept_beside(Path(path)) if fixed else None
    if not fixed:
        kept_beside(Path(path)).unlink(missing_ok=True)
    return TrackWriter(path, info.size, model, settings.as_dict(), overwrite=settings.output.overwrite, part=part)


def _lead(first: int, settings: Settings, size: int) -> int:
    """The frame to begin with so that frame `first` comes out as in the whole run: its batch, and what smoothing sees.

    One frame more, since motion is measured from the frame before.
    """
    reach = first - settings.smooth.radius if settings.smooth.strength > 0 else first
    return max(reach // size * size - 1, 0)


def _tail(last: int, settings: Settings, size: int) -> int:
    """One past the frame to end with so that frame `last` comes out as in the whole run."""
    reach = last + settings.smooth.radius if settings.smooth.strength > 0 else last
    return (reach // size + 1) * size


def _device_of(model: Model) -> str:
    return str(getattr(model, "device", "cpu"))


def batch_size(model: Model, settings: Settings) -> int:
    """Frames embedded and matted at once: on a CPU batches gain nothing, a GPU they fill."""
    return settings.model.batch or (1 if _device_of(model) == "cpu" else 8)


class _TimedModel:
    """A model whose three calls are counted as the stages embed, segment and matte; all else is the model's own."""

    def __init__(self, model: Model, clock: Clock) -> None:
        self._model, self._clock = model, clock
        self.name, self.weights = model.name, model.weights
        self.view_size, self.mask_size = model.view_size, model.mask_size

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        with self._clock.stage("embed"):
            return self._model.embed(pictures)

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        with self._clock.stage("segment"):
            return self._model.segment(embedding, index, prompt)

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        with self._clock.stage("matte"):
            return self._model.matte(embedding, logits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
