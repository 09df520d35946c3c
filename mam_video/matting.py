"""The recipe: from a clip and a prompt to mattes. Read it top to bottom; each arrow of docs/design.md is one call.

Two questions are asked of every frame. *Where is the subject?* must be asked in order and is the tracker's; its answer
is the track. *How opaque is each pixel?* needs the frame and its track alone, so it is answered in batches. Given the
track, a frame's matte depends only on the frames within the smoothing's radius: batches fall on absolute frame numbers,
so a range comes out as in the whole run, bit for bit on the same device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mam_video.clock import Clock
from mam_video.errors import UsageError
from mam_video.foreground import with_foreground
from mam_video.frames import Frame, Matted
from mam_video.media import ClipInfo, Reader, open_clip, open_writers, parse_output
from mam_video.media.verify import verify_movie, with_alpha
from mam_video.models.base import Candidates, Embedding, Model, ViewPrompt
from mam_video.models.merge import compose_alpha
from mam_video.models.registry import load_model
from mam_video.motion import Motion, with_motion
from mam_video.prompts import Prompt
from mam_video.refine import refine
from mam_video.report.run import RunReport
from mam_video.settings import Settings
from mam_video.smooth import smooth
from mam_video.streams import ahead, ordered_map
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
        clock: counts the seconds of each stage.
    Memory does not grow with the clip.
    """
    settings, clock = settings or Settings(), clock or Clock()
    timed = _TimedModel(model, clock)

    decoded = ahead(clock.timed(frames, "decode"), _DECODED_AHEAD, "decode")
    moved = with_motion(decoded, settings.motion, clock=clock)
    if given is not None:
        tracked = given.follow(moved, model)
    elif prompt is not None:
        size = batch_size(model, settings)
        tracked = track(moved, timed, prompt, settings=settings.track, view=settings.view, batch=size)
    else:
        raise UsageError("no prompt: give a box or points on the first frame, or a saved track")
    if save_track is not None:
        tracked = saved(tracked, save_track)
    mattes = ahead(matte(tracked, timed, settings, clock), _MATTED_AHEAD, "model")
    with closing(mattes):
        yield from smooth(mattes, settings.smooth, clock)


def matte(
    tracked: Iterable[Tracked], model: Model, settings: Settings, clock: Clock
) -> Generator[tuple[Matted, Motion | None], None, None]:
    """How opaque is each pixel? Frame by frame, with the motion that led to it; batches fall on absolute numbers."""
    size = batch_size(model, settings)
    for (_, view), group in groupby(tracked, key=lambda t: (t.frame.index // size, t.view)):
        batch = list(group)
        logits = np.stack([t.logits for t in batch]).astype(np.float32)
        with torch.inference_mode():
            levels = model.matte(_embedding(batch, model), logits)
        for item, maps, mask in zip(batch, levels, logits, strict=True):
            with clock.stage("merge"), torch.inference_mode():
                if (mask > 0).any():
                    alpha = compose_alpha(maps, mask, view, settings.matte)
                else:  # no mask, no subject: whatever the model makes of an empty mask is noise
                    alpha = np.zeros((view.height, view.width), np.float32)
            with clock.stage("refine"):
                picture = item.frame.rgb8[view.y0 : view.y0 + view.height, view.x0 : view.x0 + view.width]
                alpha = view.lay_down(refine(alpha, picture, view, settings.refine), item.frame.size)
            yield Matted(item.frame, alpha, item.record), item.motion


def _embedding(batch: Sequence[Tracked], model: Model) -> Embedding:
    """The tracker's embedding where it holds just these frames; else made again: batches are always the same."""
    if batch[0].embedding is not None:
        return batch[0].embedding[0]
    return model.embed([t.view.cut(t.frame.rgb8) for t in batch])


def matte_clip(
    source: str | Path,
    outputs: str | Path | Sequence[str | Path],
    prompt: Prompt | None,
    settings: Settings | None = None,
    *,
    model: Model | None = None,
    track_from: str | Path | None = None,
    track_to: str | Path | None = None,
    frames: tuple[int, int | None] | None = None,
    on_frame: Callable[[Matted, RunReport], None] | None = None,
) -> RunReport:
    """Matte the prompted subject in a clip and write it. Outputs appear under their names when all of them are whole.

    Args:
        source: a movie, or a sequence by its pattern, its folder or one file.
        outputs: one or several of `NAME[:KIND]`; see `media.kinds`.
        prompt: where the subject is in the first frame (of the range); not needed with `track_from`.
        settings: all knobs; the defaults where None.
        model: one already loaded; else loaded by `settings.model`.
        track_from, track_to: a track file to follow, and one to write.
        frames: first and last index (None: to the end), both inclusive, 0-based; the whole clip where None. Without a
            track to follow, the prompt is of the first of them. Movies of a range start at time 0, with the timecode
            and the sound of these frames.
        on_frame: called after each frame is written.
    Returns: what the run tells.
    Raises: MamVideoError, anything the user can mend; then nothing stands under any output's name.
    """
    settings = settings or Settings()
    names = [outputs] if isinstance(outputs, str | Path) else list(outputs)
    first, last = frames or (0, None)
    if first < 0 or (last is not None and last < first):
        raise UsageError(f"range {first}-{last} is not a range of frames; give FIRST-LAST, counted from 0")
    with open_clip(source, settings.input) as reader:
        if prompt is not None:
            prompt.check_inside(reader.info.size)
        if track_from is None and prompt is None:
            raise UsageError("no prompt: give a box or points on the first frame, or a saved track")
        given = Track.load(track_from, reader.info.size) if track_from is not None else None
        info, part = _part_of(reader.info, first), frames is not None
        with given or nullcontext(), open_writers(names, info, settings.output, part=part) as writers:
            model = model or load_model(settings.model)
            report = RunReport(reader.info, model.name, model.weights, _device_of(model), settings, list(writers.paths))
            clock = Clock()
            start = beat = time.perf_counter()
            alphas: list[tuple[float, float]] = []
            size = batch_size(model, settings)
            with_colour = any(parse_output(name)[1].content != "alpha" for name in names)
            own_colour = with_colour and settings.output.foreground == "estimate"

            def prepare(matted: Matted) -> tuple[Matted, Any]:
                coloured = matted
                if own_colour:
                    with clock.stage("foreground"):
                        coloured = with_foreground(matted)
                with clock.stage("convert"):
                    return matted, writers.prepare(coloured)

            lead, tail = first, None if last is None else _tail(last, settings, size)
            if given is not None:
                lead = max(_lead(first, settings, size), given.first)
                tail = None if tail is None else min(tail, max(given.first + given.count, first + 1))
            with _track_writer(track_to, reader.info, model, settings) as saver:
                stream = matte_frames(
                    reader.frames(lead, tail), prompt, model, settings, given=given, save_track=saver, clock=clock
                )
                wanted = (m for m in stream if first <= m.frame.index and (last is None or m.frame.index <= last))
                with closing(stream), closing(ordered_map(prepare, wanted, 1)) as prepared:
                    for matted, pictures in prepared:
                        with clock.stage("encode"):
                            writers.put(pictures)
                        now = time.perf_counter()
                        report.records.append(matted.record)
                        report.frame_seconds.append(now - beat)
                        alphas.append((float(matted.alpha.min()), float(matted.alpha.max())))
                        beat = now
                        if on_frame is not None:
                            on_frame(matted, report)
                if not report.records:
                    wanted_range = f"{first}-" if last is None else f"{first}-{last}"
                    raise UsageError(f"{source}: holds no frame of the range {wanted_range}")
            report.notes = [*info.notes, *writers.notes, *_broken_frames(reader, report)]
        if settings.output.verify:
            with clock.stage("verify"):
                for path, promise in writers.promises():
                    report.checks[path] = verify_movie(path, with_alpha(promise, alphas))
    report.wall, report.seconds = time.perf_counter() - start, clock.seconds
    return report


def _broken_frames(reader: Reader, report: RunReport) -> list[str]:
    """A line about the frames of this run that could not be decoded, if there are any."""
    seen = {record.index for record in report.records}
    lost = [index for index in reader.broken if index in seen]
    if not lost:
        return []
    named = ", ".join(map(str, lost[:20])) + (f" and {len(lost) - 20} more" if len(lost) > 20 else "")
    which = f"frame {named} is" if len(lost) == 1 else f"frames {named} are"
    return [f"{which} damaged in the clip; the frame before stands in"]


def _part_of(info: ClipInfo, first: int) -> ClipInfo:
    """The same clip as seen from its frame `first` on: its outputs' timecode starts there."""
    return info if info.timecode is None or not first else replace(info, timecode=info.timecode + first)


def _track_writer(
    path: str | Path | None, info: ClipInfo, model: Model, settings: Settings
) -> AbstractContextManager[TrackWriter | None]:
    if path is None:
        return nullcontext()
    return TrackWriter(path, info.size, model, settings.as_dict(), overwrite=settings.output.overwrite)


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
