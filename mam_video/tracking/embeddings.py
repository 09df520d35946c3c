"""Embeddings of a group of frames: frames that follow each other in one crop are embedded together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame
from mam_video.models.base import Embedding, Model, Reference
from mam_video.models.resident import embed_views, views_of
from mam_video.tracking.types import TrackStep


@dataclass(frozen=True, slots=True)
class FrameEmbedding:
    """One frame's embedding: its place `index` in the embedding of a batch."""

    crop: Crop
    embedding: Embedding
    index: int

    def reference(self, logits: np.ndarray, prompted: bool) -> Reference:
        """Make a reference of the frame with its mask, (m, m) float32 logits."""
        return Reference(self.embedding, self.index, logits, prompted)


@dataclass(frozen=True, slots=True)
class DeferredEmbedding:
    """A frame that is not embedded yet: the frames of its batch, embedded only when they are needed."""

    crop: Crop
    frames: Sequence[Frame] = field(repr=False)
    index: int

    def reference(self, logits: np.ndarray, prompted: bool) -> DeferredReference:
        return DeferredReference(self, logits, prompted)


@dataclass(frozen=True, slots=True)
class DeferredReference:
    """A reference that is embedded only if it is still one when the model is used again."""

    source: DeferredEmbedding
    logits: np.ndarray = field(repr=False)
    prompted: bool

    def embedded(self, model: Model) -> Reference:
        embedding = embed_views(model, self.source.frames, self.source.crop)
        return Reference(embedding, self.source.index, self.logits, self.prompted)


@dataclass(frozen=True, slots=True)
class _Run:
    """Frames of a group that share a crop: `count` frames from place `start` on."""

    crop: Crop
    embedding: Embedding
    start: int
    count: int


class GroupEmbeddings:
    """The embeddings of one group of frames for one subject.

    Where the subject stops fitting its crop within the group, the rest of the group is embedded again in a new one.

    Args:
        embed_rest: embeds all frames of the group from a place on in a crop.
    """

    def __init__(self, embed_rest: Callable[[Crop, int], Embedding]) -> None:
        self._embed_rest = embed_rest
        self._runs: list[_Run] = []

    def at(self, place: int, crop: Crop) -> FrameEmbedding:
        """Return the embedding of the frame at `place`, which is the next one, in `crop`."""
        if not self._runs or self._runs[-1].crop != crop:
            self._runs.append(_Run(crop, self._embed_rest(crop, place), place, 0))
        run = self._runs[-1]
        self._runs[-1] = replace(run, count=run.count + 1)
        return FrameEmbedding(crop, run.embedding, place - run.start)

    def move(self, place: int, crop: Crop) -> None:
        """Embed the frame at `place`, which was given last, and the rest of the group in another crop."""
        run = self._runs[-1]
        if run.crop == crop:
            return
        self._runs[-1] = replace(run, count=run.count - 1)
        self._runs.append(_Run(crop, self._embed_rest(crop, place), place, 1))

    def whole_batch(self, place: int) -> tuple[Embedding, int] | None:
        """Return a frame's embedding and its place there, if the embedding holds the frames of its run and no other."""
        run = next(run for run in self._runs if run.start <= place < run.start + run.count)
        return (run.embedding, place - run.start) if run.count == run.embedding.count else None


class SharedEmbeddings:
    """Embeddings of one group of frames, made once for all subjects that share a crop."""

    def __init__(self, model: Model, group: Sequence[TrackStep]) -> None:
        self._model, self._group = model, group
        self._embeddings: dict[tuple[Crop, int], Embedding] = {}
        self._pictures: dict[tuple[Crop, int], np.ndarray] = {}

    def embed_rest(self, crop: Crop, place: int) -> Embedding:
        """Embed all frames of the group from `place` on in `crop`."""
        if (crop, place) not in self._embeddings:
            import torch

            views = views_of(self._model, [step.frame for step in self._group[place:]], crop)
            arrays = [(place + k, view) for k, view in enumerate(views) if isinstance(view, np.ndarray)]
            self._pictures.update(((crop, k), view) for k, view in arrays)
            with torch.inference_mode():
                self._embeddings[crop, place] = self._model.embed(views)
        return self._embeddings[crop, place]

    def picture(self, crop: Crop, place: int) -> np.ndarray:
        """Return the picture of a frame that was embedded in `crop`, (h, w, 3) uint8."""
        if (crop, place) not in self._pictures:  # it was cut on the device
            self._pictures[crop, place] = crop.cut(self._group[place].frame.rgb8)
        return self._pictures[crop, place]
