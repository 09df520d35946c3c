"""The values that travel through the tracker and out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame, Record, State
from mam_video.core.geometry import Box
from mam_video.models.base import Embedding, Reference
from mam_video.motion.flow import Motion
from mam_video.tracking.mask_ops import resized_logits

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class MaskObservation:
    """What was found in one frame, without its pixels.

    crop        the rectangle of the frame that the model looked at
    logits      (m, m) float16 over the crop's square; above 0 is subject. Half precision, as it is saved, so that a
                saved track gives the same matte bit for bit
    static_age  (m, m) float32, for how many frames each cell's part has not moved; (0, 0) before the first time, None
                where it is not known
    """

    record: Record
    crop: Crop
    logits: np.ndarray = field(repr=False)
    static_age: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.logits.dtype != np.float16 or self.logits.ndim != 2 or self.logits.shape[0] != self.logits.shape[1]:
            raise TypeError(f"logits must be (m, m) float16, is {self.logits.shape} {self.logits.dtype}")

    @property
    def lost(self) -> bool:
        return self.record.state is State.LOST

    def with_record(self, record: Record) -> MaskObservation:
        return replace(self, record=record)

    def resized(self, view_size: int, mask_size: int) -> MaskObservation:
        """Bring crop and mask to the sizes of another model, in pixels of its square and cells of its mask."""
        if (self.crop.size, len(self.logits)) == (view_size, mask_size):
            return self
        logits = resized_logits(self.logits, mask_size).astype(np.float16)
        return replace(self, crop=replace(self.crop, size=view_size), logits=logits)


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """A frame with what was found in it: all that matting needs beside the model.

    motion     from the previous frame to this one; None for the first
    embedding  the embedding of the frame's batch and the frame's place in it; None where it must be made again. It is
               given only where the batch is the whole run of frames of one group that share the crop, so that a matte
               of the batch is the same as one made from a saved track
    levels     the frame's alpha maps, as the matte model made them of it alone (`MatteModel.matte`); None where matting
               is yet to come, and where the mask is empty
    """

    frame: Frame
    motion: Motion | None = field(repr=False)
    observation: MaskObservation
    embedding: tuple[Embedding, int] | None = field(default=None, repr=False)
    levels: torch.Tensor | None = field(default=None, repr=False)

    @property
    def record(self) -> Record:
        return self.observation.record

    @property
    def crop(self) -> Crop:
        return self.observation.crop

    @property
    def own_embedding(self) -> Embedding | None:
        """The frame's embedding, where it holds no other frame: then one made again has the same bits."""
        return self.embedding[0] if self.embedding is not None and self.embedding[0].count == 1 else None

    @property
    def logits(self) -> np.ndarray:
        """(m, m) float16, as in `MaskObservation`."""
        return self.observation.logits

    def with_record(self, record: Record) -> TrackedFrame:
        return replace(self, observation=self.observation.with_record(record))


@dataclass(frozen=True, slots=True)
class TrackStart:
    """What is known when a subject's tracker starts; all of it is optional.

    anchors  the subject in other prompted frames, most telling first: references that never fade
    before   the observation of the frame before the first, which the prompt corrects
    recent   references for the first frame alone: what was tracked shortly before, latest first
    begun    the observation of the first frame, where it is known already
    embedded embeddings of single frames that exist already, by index and crop
    """

    anchors: Sequence[Reference] = ()
    before: MaskObservation | None = None
    recent: Sequence[Reference] = ()
    begun: MaskObservation | None = None
    embedded: Mapping[tuple[int, Crop], Embedding] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrackStep:
    """A frame on its way. `next_motion` leads from it to the next one, and is known for the first frame only."""

    frame: Frame
    motion: Motion | None
    next_motion: Motion | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where the subject should be, in frame pixels.

    box         tight; a lost frame's record has it
    query_box   grown by a margin: the segmenter's prompt
    expected    by the box filter alone
    exiting     it touches the frame's border and moves outwards, or its predicted mask is outside the frame
    search_box  the box that is slow to shrink, moved here; None right after the prompt
    scale       by which factor the subject grows from the previous frame, as the motion says; 1 where it is lost
    """

    box: Box
    query_box: Box
    expected: Box
    exiting: bool
    search_box: Box | None
    scale: float


_SEVERITY = (State.PROMPTED, State.TRACKED, State.RECOVERED, State.UNCERTAIN, State.CUT, State.LOST)


def worst_of(records: Sequence[Record]) -> Record:
    """Combine the records of several subjects: the worst one's, with the flagged findings of all."""
    worst = max(records, key=lambda r: (_SEVERITY.index(r.state), -r.score))
    findings = tuple(replace(finding, subject=r.subject) for r in records if r.flagged for finding in r.findings)
    agreements = [r.agreement for r in records if r.agreement is not None]
    flickers = [r.flicker for r in records if r.flicker is not None]
    return replace(
        worst,
        area=min(sum(r.area for r in records), 1.0),
        findings=findings,
        agreement=min(agreements, default=None),
        flicker=max(flickers, default=None),
    )
