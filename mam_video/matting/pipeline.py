"""The recipe: from a clip and a prompt to mattes. Read it top to bottom; each arrow of docs/design.md is one call.

Two questions are asked of every frame. *Where is the subject?* must be asked in order and is the tracker's; its answer
is the track. *How opaque is each pixel?* needs the frame and its track alone, so it is answered in batches. Given the
track, a frame's matte depends only on the frames within the smoothing's radius: batches fall on absolute frame numbers,
so a range comes out as in the whole run, bit for bit on the same device.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import groupby, tee
from typing import Any

import numpy as np
import torch

from mam_video.core.errors import UsageError
from mam_video.core.frames import Frame, Matted
from mam_video.core.settings import Settings
from mam_video.matting.compositing import divided, united
from mam_video.matting.edge_ops import NOT_FORCED, Overrides, apply_edge_ops, with_plate_alpha
from mam_video.matting.quality import agreement, with_flicker
from mam_video.matting.upsample import refine
from mam_video.models.base import Candidates, Embedding, Model, ViewPrompt
from mam_video.models.merge import compose_alpha
from mam_video.motion.flow import Motion, with_motion
from mam_video.motion.shot_detection import CutFinder
from mam_video.prompts.prompt import Prompt
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import ahead
from mam_video.tracking.multi_subject import track_subjects
from mam_video.tracking.shots import each_in_first_shot, each_with_cuts, in_first_shot, with_cuts
from mam_video.tracking.track_file import Track, TrackWriter, saved
from mam_video.tracking.track_log import TrackLog
from mam_video.tracking.tracker import track
from mam_video.tracking.types import TrackedFrame

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
    kept: TrackLog | None = None,
    begin: int = 0,
    forced: Overrides = NOT_FORCED,
    cuts: CutFinder | None = None,
    clock: StageTimer | None = None,
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
    settings, clock = settings or Settings(), clock or StageTimer()
    timed = TimedModel(model, clock)

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
            yield with_plate_alpha(apply_edge_ops(matted, settings.finish, forced, clock))


def matte_subjects(
    frames: Iterable[Frame],
    prompts: Mapping[str, Prompt],
    model: Model,
    settings: Settings | None = None,
    *,
    save_tracks: Mapping[str | None, TrackWriter] | None = None,
    forced: Overrides = NOT_FORCED,
    cuts: CutFinder | None = None,
    clock: StageTimer | None = None,
) -> Generator[Matted, None, None]:
    """Matte several subjects in every frame; see `subjects.py` for what they share.

    Args:
        prompts: where each is in the first frame, by its name.
        save_tracks: take the track of each as it is found.
        others: as for `matte_frames`.
    Each `Matted` is of all of them together, with each one's own in `parts`, in the order of `prompts`. At no pixel do
    the alphas of the parts add up to more than 1.
    """
    settings, clock = settings or Settings(), clock or StageTimer()
    timed = TimedModel(model, clock)

    decoded = ahead(clock.timed(frames, "decode"), _DECODED_AHEAD, "decode")
    moved = with_motion(decoded, settings.motion, clock=clock)
    follow = partial(
        track_subjects, model=timed, prompts=prompts, settings=settings.track, view=settings.view,
        batch=batch_size(model, settings),
    )  # fmt: skip
    cuts = cuts or CutFinder(settings.cuts, settings.motion)
    tracked = each_with_cuts(each_in_first_shot(moved, follow, model, prompts, cuts, clock), cuts)
    if save_tracks:
        tracked = _saved_each(tracked, save_tracks)
    mattes = ahead(_matte_each(tracked, timed, settings, clock), _MATTED_AHEAD, "model")
    with closing(mattes):
        # Each is smoothed by itself: copies of one stream, which are read in step.
        each = [
            with_flicker(_column(rows, k), settings.smooth, clock) for k, rows in enumerate(tee(mattes, len(prompts)))
        ]
        for parts in zip(*each, strict=True):
            done = [
                apply_edge_ops(part, settings.finish_of(part.record.subject), forced, clock) for part in divided(parts)
            ]
            yield united([with_plate_alpha(part) for part in divided(done)])


def _column(
    rows: Iterable[tuple[tuple[Matted, Motion | None], ...]], k: int
) -> Generator[tuple[Matted, Motion | None], None, None]:
    for row in rows:
        yield row[k]


def _saved_each(
    tracked: Generator[tuple[TrackedFrame, ...], None, None], writers: Mapping[str | None, TrackWriter]
) -> Generator[tuple[TrackedFrame, ...], None, None]:
    """`tracked`, unchanged, with what was found of each subject written on its way."""
    with closing(tracked):
        for row in tracked:
            for item in row:
                writers[item.record.subject].write(item)
            yield row


def _matte_each(
    tracked: Generator[tuple[TrackedFrame, ...], None, None], model: Model, settings: Settings, clock: StageTimer
) -> Generator[tuple[tuple[Matted, Motion | None], ...], None, None]:
    """`matte` for each subject by itself, group by group of frames; those of one view have one embedding."""
    size = batch_size(model, settings)
    with closing(tracked):
        for _, group in groupby(tracked, key=lambda row: row[0].frame.index // size):
            each = [matte(column, model, settings, clock) for column in zip(*group, strict=True)]
            yield from zip(*each, strict=True)


def _since(begin: int, tracked: Iterable[TrackedFrame]) -> Generator[TrackedFrame, None, None]:
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
    tracked: Iterable[TrackedFrame], model: Model, settings: Settings, clock: StageTimer
) -> Generator[tuple[Matted, Motion | None], None, None]:
    """How opaque is each pixel? Frame by frame, with the motion that led to it; batches fall on absolute numbers."""
    size = batch_size(model, settings)
    for (_, view), group in groupby(tracked, key=lambda t: (t.frame.index // size, t.crop)):
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
                alpha = view.paste(refine(alpha, picture, view, settings.refine), item.frame.size)
            yield Matted(item.frame, alpha, record), item.motion


def _embedding(batch: Sequence[TrackedFrame], model: Model) -> Embedding:
    """The tracker's embedding where it holds just these frames; else made again: batches are always the same."""
    if batch[0].embedding is not None:
        return batch[0].embedding[0]
    return model.embed([t.crop.cut(t.frame.rgb8) for t in batch])


def device_of(model: Model) -> str:
    return str(getattr(model, "device", "cpu"))


def batch_size(model: Model, settings: Settings) -> int:
    """Frames embedded and matted at once: on a CPU batches gain nothing, a GPU they fill."""
    return settings.model.batch or (1 if device_of(model) == "cpu" else 8)


class TimedModel:
    """A model whose three calls are counted as the stages embed, segment and matte; all else is the model's own."""

    def __init__(self, model: Model, clock: StageTimer) -> None:
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
