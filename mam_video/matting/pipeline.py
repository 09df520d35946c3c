"""The recipe: from a clip and its masks to mattes in files. `run_stages` names every stage, in order.

Two questions are answered for every frame. *Where is the subject?* is answered in order, by the tracker; its answer is
the track. *How opaque is each pixel?* needs the frame and its track alone, so it is answered in batches. Given the
track, a frame's matte depends only on the frames within the smoothing's radius. Batches fall on absolute frame numbers,
so a range comes out as in the whole run, bit for bit on the same device.

Between the stages travel rows: one item for each subject of a frame. A lone subject is a row of one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from mam_video.core.errors import DeviceError, UsageError
from mam_video.core.frames import Frame, Matted, as_frames
from mam_video.core.geometry import Box
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings, SmoothSettings, checked_settings
from mam_video.matting.backend import Backend, C, Delivered, M, Wanted
from mam_video.matting.edge_ops import NOT_FORCED, Overrides
from mam_video.matting.opencv_backend import OpenCVBackend
from mam_video.matting.temporal_filter import Moving, smooth_by
from mam_video.models.base import (
    Candidates,
    Embedding,
    MatteModel,
    Model,
    ViewPrompt,
    at_plate_size,
    matte_model_of,
    side_by_side,
)
from mam_video.models.batches import naming_device_failures
from mam_video.models.registry import load_model
from mam_video.models.resident import embed_views
from mam_video.models.torch_threads import computed_with, new_thread_count
from mam_video.motion.flow import with_motion
from mam_video.motion.shot_detection import CutFinder
from mam_video.prompts.prompt import Prompt, one_prompt
from mam_video.runtime.cores import cores, worker_count
from mam_video.runtime.rows import map_columns
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import ahead, closing_iter, ordered_map
from mam_video.tracking.stage import Apart, FollowTracks, TrackedRow, TrackPrompts, TrackStage, in_turn
from mam_video.tracking.track_back import WINDOW
from mam_video.tracking.track_file import Track
from mam_video.tracking.types import TrackedFrame

if TYPE_CHECKING:  # PyTorch is loaded where the first frame is computed: a join needs none
    import torch

_DECODED_AHEAD = 4  # frames; each queue holds a few, so that memory does not grow with the clip
_MATTED_AHEAD = 2
_TRACKED_AHEAD = 4  # where tracking has a thread of its own on a CPU
_WINDOW_BYTES = 192 << 20  # of the pictures of a window that was checked


class OutputStages(Protocol):
    """The last stages, which know files: jobs give them, so that matting does not.

    wanted  what the files take of each frame
    """

    wanted: Wanted

    def convert(self, delivered: Delivered) -> Any:
        """Return what `encode` takes. Pure: any thread, any order."""
        ...

    def encode(self, converted: Any) -> None:
        """Write one frame; frames come in display order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the stages of a run work with.

    count      subjects in a frame
    frames     those that come out, from `begin` on; what lies around them is tracked, and matted as far as smoothing
               sees it
    overrides  trimaps and garbage mattes, which overrule the model
    """

    track: TrackStage
    model: Model
    settings: Settings
    count: int = 1
    frames: FrameRange = field(default_factory=FrameRange)
    begin: int = 0
    overrides: Overrides = NOT_FORCED
    clock: StageTimer = field(default_factory=StageTimer)

    @cached_property
    def timed(self) -> TimedModel:
        """The model, its three calls counted as stages."""
        return TimedModel(self.model, self.clock)

    @cached_property
    def backend(self) -> Backend[Any, Any]:
        """What computes the stages after the model."""
        return backend_of(self.model, self.settings, self.overrides, self.clock)


def backend_of(model: Model, settings: Settings, overrides: Overrides, clock: StageTimer) -> Backend[Any, Any]:
    """Choose what computes the stages after the model: PyTorch where that is on a GPU or it is set, else OpenCV."""
    device = device_of(cast(Model, matte_model_of(model)))
    kind, where = device.partition(":")[0], settings.model.stages
    if where == "device" and kind == "mps":
        raise DeviceError("model.stages = device: MPS has no float64, which refining needs; use host")
    if where == "device" or (where == "auto" and kind == "cuda"):
        import torch

        from mam_video.matting.device.backend import TorchBackend

        return TorchBackend(torch.device(device), settings, overrides, clock)
    return OpenCVBackend(settings, overrides, clock)


def run_stages(frames: Iterable[Frame], run: Run, output: OutputStages | None = None) -> Generator[Matted, None, None]:
    """Take frames through every stage; yield each when it is matted, or written where an output is given, in order."""
    settings, clock, backend = run.settings, run.clock, run.backend
    crops = model_stages(frames, run)
    mattes = ordered_map(partial(_refined_row, backend=backend), crops, backend.threads, "refine")
    smoothing = partial(smooth_by, backend.averaged, settings=settings.smooth, clock=clock, threads=backend.threads)
    smoothed = map_columns(mattes, [smoothing] * run.count)
    measured = map_columns(smoothed, [backend.flickers] * run.count)
    finished = edit_edges(measured, run)
    with closing(mattes), closing(backend.delivered(finished, Wanted() if output is None else output.wanted)) as done:
        if output is None:
            for delivery in done:
                yield delivery().matted
            return
        ready = partial(_ready_to_encode, output=output, clock=clock)
        with closing(ordered_map(ready, done, worker_count(), "convert")) as converted:
            for matted, pictures in converted:
                with clock.stage("encode"):
                    output.encode(pictures)
                yield matted


def model_stages(frames: Iterable[Frame], run: Run) -> Generator[tuple[Any, ...], None, None]:
    """Take frames through the stages up to the model's alpha, in threads of their own; yield a row of crops for each.

    On a GPU tracking and matting have a thread each; on a CPU where the model's work divides so (`side_by_side`).
    Else they take turns: a second thread that computes with every core would only hold up the first.
    """
    on_cpu = device_of(run.model) == "cpu"
    two = on_cpu and cores() > 1 and side_by_side(run.model) and batch_size(run.model, run.settings) == 1
    apart: Apart = partial(matted_beside, run=run, count=new_thread_count()) if two else in_turn
    tracked = needed(track_stages(frames, run, apart), run)
    if not on_cpu:
        tracked = ahead(tracked, 2 * batch_size(run.model, run.settings), "track")
    matted = partial(matte, model=run.timed, settings=run.settings, backend=run.backend)
    return ahead(map_columns(tracked, [matted] * run.count), window_rows if two else _MATTED_AHEAD, "model")


def matted_beside(rows: Iterable[TrackedRow], run: Run, count: int) -> Generator[TrackedRow, None, None]:
    """Track in a thread of its own, and matte each frame as soon as it is tracked, in the thread that asks for `rows`.

    The check of the track holds frames until it has seen a window of them; so matting need not wait for it.

    Args:
        count: PyTorch's threads. Each of both gets half of them, or one; the second all when everything is tracked.
    """
    own = max(count // 2, 1)
    tracked = ahead(computed_with(rows, max(count - own, 1)), _TRACKED_AHEAD, "track")
    return computed_with(_with_levels(tracked, run), own)


def _with_levels(rows: Iterable[TrackedRow], run: Run) -> Generator[TrackedRow, None, None]:
    begin = _first_needed_of(run)
    with closing_iter(rows) as source:
        for row in source:
            wanted = row[0].frame.index >= begin
            yield tuple(replace(t, levels=_levels([t], run.timed)) for t in row) if wanted else row


def window_rows(row: tuple[Any, ...]) -> int:
    """Count the rows that are let go at once where a window of the track was checked, if they are small; else fewer."""
    frame = row[0].tracked.frame
    size = frame.rgb.nbytes + (0 if frame.rgb8 is frame.rgb else frame.rgb8.nbytes)
    return min(max(_WINDOW_BYTES // size, _MATTED_AHEAD), WINDOW)


def track_stages(frames: Iterable[Frame], run: Run, apart: Apart = in_turn) -> Generator[TrackedRow, None, None]:
    """Take frames through the stages up to the track; yield a row for each, in order. `apart`: see `TrackStage`."""
    decoded = ahead(run.clock.timed(frames, "decode"), _DECODED_AHEAD, "decode")
    moving = with_motion(decoded, run.settings.motion, max(worker_count(), 2), run.clock)
    return run.track(run.backend.frames(moving), run.timed, apart)


def matte_frames(
    frames: Iterable[Frame | np.ndarray] | np.ndarray,
    prompt: Prompt | Mapping[str, Prompt] | Box | tuple[float, float, float, float] | None,
    model: Model | str | None = None,
    settings: Settings | str | None = None,
    *,
    given: Track | None = None,
    forced: Overrides = NOT_FORCED,
    cuts: CutFinder | None = None,
    clock: StageTimer | None = None,
) -> Generator[Matted, None, None]:
    """Matte the prompted subject, or several, in every frame. As many frames come out as go in, with their own times.

    Args:
        frames: of one size, in display order, indices counting up by one; or (H, W, 3) arrays of pixels.
        prompt: where the subject is in the first of them; of several subjects by their names. A box, or four numbers
            for one, is a prompt too. Not needed where a track is given.
        model: see `models.base`; `load_model` makes one; or a name; None: that of the settings.
        settings: all knobs, or the name of a preset or file; the defaults where None.
        given: a saved track to follow; nothing is tracked then.
        forced: trimaps and garbage mattes, which overrule the model.
        cuts: finds where the first shot ends, and does there what `settings.cuts` says; made where None. A track that
            is given knows its cuts.
        clock: counts the seconds of each stage.
    Several subjects come out as one `Matted` of all of them, with each one's own in `parts`, in the order of `prompt`.
    At no pixel do the alphas of the parts add up to more than 1.
    Neither tracking nor smoothing reaches across a cut. Memory does not grow with the clip.
    """
    settings, clock = checked_settings(settings), clock or StageTimer()
    if model is None or isinstance(model, str):
        model = load_model(settings.model if model is None else replace(settings.model, name=model))
    frames = as_frames(frames)
    track: TrackStage
    if given is not None:
        track, count = FollowTracks({"": given}), 1
    elif prompt is not None and (not isinstance(prompt, Mapping) or prompt):
        by_name = prompt if isinstance(prompt, Mapping) else {"": prompt}
        first = next(frames, None)
        if first is None:
            return
        prompts = {name: one_prompt(each).in_pixels(first.size) for name, each in by_name.items()}
        frames = _with_first(first, frames)
        cuts = cuts or CutFinder(settings.cuts, settings.motion)
        track, count = TrackPrompts(prompts, settings, batch_size(model, settings), cuts, clock), len(prompts)
    else:
        raise UsageError("no prompt: give a box or points on the first frame, or a saved track")
    run = Run(track=track, model=model, settings=settings, count=count, overrides=forced, clock=clock)
    yield from run_stages(frames, run)


def _with_first(first: Frame, others: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
    with closing(others):
        yield first
        yield from others


def needed(rows: Iterable[TrackedRow], run: Run) -> Generator[TrackedRow, None, None]:
    """Drop the rows before the first frame that a wanted one depends on: they are tracked, and not matted."""
    begin = _first_needed_of(run)
    with closing_iter(rows) as source:
        for row in source:
            if row[0].frame.index >= begin:
                yield row


def _first_needed_of(run: Run) -> int:
    return first_needed(run.begin, run.settings.smooth, batch_size(run.model, run.settings))


def first_needed(index: int, smooth: SmoothSettings, batch: int) -> int:
    """Return the frame to begin with so that `index` comes out as in the whole clip.

    It begins the batch of the first frame that smoothing sees; one more, since motion is measured from the one before.
    """
    reach = index - smooth.radius if smooth.strength > 0 else index
    return max(reach // batch * batch - 1, 0)


def end_needed(frames: FrameRange, smooth: SmoothSettings, batch: int) -> int | None:
    """Return one past the frame to end with so that the last one comes out as in the whole clip; None: at its end."""
    if frames.last is None:
        return None
    reach = frames.last + smooth.radius if smooth.strength > 0 else frames.last
    return (reach // batch + 1) * batch


def matte(
    tracked: Iterable[TrackedFrame], model: Model, settings: Settings, backend: Backend[C, Any]
) -> Generator[C, None, None]:
    """Estimate the alpha of each crop; batches fall on absolute frame numbers."""
    size, mattes = batch_size(model, settings), matte_model_of(model)
    fitted = tracked if mattes is model else (_fitted(each, mattes) for each in tracked)
    for _, group in groupby(fitted, key=lambda t: (t.frame.index // size, t.crop)):
        batch = list(group)
        levels = _levels(batch, mattes) if batch[0].levels is None else batch[0].levels
        batch = [replace(t, embedding=None, levels=None) for t in batch]  # nobody needs them from here on
        yield from backend.crops(batch, levels, _masks(batch))


def _levels(batch: Sequence[TrackedFrame], model: MatteModel) -> torch.Tensor | None:
    """Matte a batch; see `MatteModel.matte`. None where no mask has a subject."""
    import torch

    logits = _masks(batch)
    if not (logits > 0).any():
        return None
    with torch.inference_mode():
        return model.matte(_embedding(batch, model), logits)


def _masks(batch: Sequence[TrackedFrame]) -> np.ndarray:
    return np.stack([t.logits for t in batch]).astype(np.float32)


def _refined_row(row: tuple[C, ...], backend: Backend[C, M]) -> tuple[Moving[M], ...]:
    return tuple(backend.refined(crop) for crop in row)


def edit_edges(rows: Iterable[tuple[Any, ...]], run: Run) -> Generator[Any, None, None]:
    """Apply the edge operations to the wanted frames, and unite the subjects of each."""
    for row in rows:
        index = row[0].frame.index
        if index >= run.begin and index in run.frames:
            yield run.backend.edited(row)


def _ready_to_encode(delivery: Callable[[], Delivered], output: OutputStages, clock: StageTimer) -> tuple[Matted, Any]:
    """Wait for a frame and convert it to what is encoded; pure, done in a thread of its own."""
    delivered = delivery()
    with clock.stage("convert"):
        return delivered.matted, output.convert(delivered)


def _fitted(tracked: TrackedFrame, mattes: MatteModel) -> TrackedFrame:
    """Bring the crop and mask that one model found to the sizes of the one that mattes."""
    found = tracked.observation
    if at_plate_size(mattes):
        found = found.resized(max(found.crop.width, found.crop.height), len(found.logits))
    else:
        found = found.resized(mattes.view_size, mattes.mask_size)
    return replace(tracked, observation=found, embedding=None)


def _embedding(batch: Sequence[TrackedFrame], model: MatteModel) -> Embedding:
    """Take the tracker's embedding where it holds just these frames, else embed them: batches are always the same."""
    if batch[0].embedding is not None:
        return batch[0].embedding[0]
    return embed_views(model, [t.frame for t in batch], batch[0].crop)


def device_of(model: Model) -> str:
    """Name the device that the model computes on."""
    return str(getattr(model, "device", "cpu"))


def batch_size(model: Model, settings: Settings) -> int:
    """Count the frames embedded and matted at once: on a CPU batches gain nothing, a GPU they fill."""
    return settings.model.batch or (1 if device_of(model) == "cpu" else 8)


class TimedModel:
    """A model whose three calls are counted as the stages embed, segment and matte; all else passes through."""

    def __init__(self, model: Model, clock: StageTimer) -> None:
        self._model, self._clock = model, clock
        self._device = device_of(model)
        self.name, self.weights = model.name, model.weights
        self.view_size, self.mask_size = model.view_size, model.mask_size

    def embed(self, pictures: Sequence[Any]) -> Embedding:
        with self._clock.stage("embed"), naming_device_failures(self._device):
            return self._model.embed(pictures)

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        with self._clock.stage("segment"), naming_device_failures(self._device):
            return self._model.segment(embedding, index, prompt)

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        with self._clock.stage("matte"), naming_device_failures(self._device):
            return self._model.matte(embedding, logits)

    @cached_property
    def matte_model(self) -> TimedModel:
        """The model that mattes, its calls counted too: this one, or the second of a pair."""
        mattes = matte_model_of(self._model)
        return self if mattes is self._model else TimedModel(cast(Model, mattes), self._clock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
