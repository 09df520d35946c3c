"""The values that the tracker hands on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame, Record, State
from mam_video.core.geometry import Box
from mam_video.models.base import Embedding, Model, Reference
from mam_video.motion.flow import Motion


@dataclass(frozen=True, slots=True)
class TrackedFrame:
    """Where the subject is in one frame: all that matting needs beside the model.

    motion     from the frame before to this one, or None for the first
    view       the rectangle that the model looked at
    logits     (m, m) float16 over the view's square; above 0 is subject. Half precision, as it is saved, so that a
               saved Track gives the same matte bit for bit
    embedding  the embedding of the frame's batch and the frame's place in it, or None where it must be made again. It
               is given only where the batch is the whole run of frames of one group that share the view, so that a
               matte of the batch is the same as one made from a saved Track
    standing   (m, m) float32, frames that each place has stood still: what the tracker remembers beside the rest
    """

    frame: Frame
    motion: Motion | None = field(repr=False)
    record: Record
    view: Crop
    logits: np.ndarray = field(repr=False)
    embedding: tuple[Embedding, int] | None = field(default=None, repr=False)
    standing: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.logits.dtype != np.float16 or self.logits.ndim != 2 or self.logits.shape[0] != self.logits.shape[1]:
            raise TypeError(f"logits must be (m, m) float16, is {self.logits.shape} {self.logits.dtype}")


# Of one frame: its record, its view, its logits, (m, m) float16, and `TrackedFrame.standing`.
MaskObservation = tuple[Record, Crop, np.ndarray, np.ndarray | None]


@dataclass(slots=True)
class TrackStep:
    """A frame on its way: `next_motion` leads from it to the next, and is known for the first frame only."""

    frame: Frame
    motion: Motion | None
    next_motion: Motion | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where the subject should be, in frame pixels.

    box       tight; what a lost frame's record says
    search    grown; what the segmenter is asked with
    expected  by the box filter alone
    leaves    it stands at the frame's border and moves outwards, or nothing of the moved mask is in the picture
    reach     the box that is slow to shrink, moved here; None right after the prompt
    """

    box: Box
    search: Box
    expected: Box
    leaves: bool
    reach: Box | None


@dataclass(frozen=True, slots=True)
class TrackBatch:
    """Frames that were embedded together."""

    view: Crop
    frames: list[Frame] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LaterAnswer:
    """A reference that is embedded only if it is still one when the model is asked again."""

    batch: TrackBatch
    index: int
    logits: np.ndarray = field(repr=False)
    prompted: bool

    def embedded(self, model: Model) -> Reference:
        with torch.inference_mode():
            embedding = model.embed([self.batch.view.cut(frame.rgb8) for frame in self.batch.frames])
        return Reference(embedding, self.index, self.logits, self.prompted)


_WORSE = (State.PROMPTED, State.TRACKED, State.RECOVERED, State.UNCERTAIN, State.CUT, State.LOST)


def worst_of(records: Sequence[Record]) -> Record:
    worst = max(records, key=lambda r: (_WORSE.index(r.state), -r.score))
    findings = tuple(replace(finding, subject=r.subject) for r in records if r.state.flagged for finding in r.findings)
    agreements = [r.agreement for r in records if r.agreement is not None]
    flickers = [r.flicker for r in records if r.flicker is not None]
    return replace(
        worst,
        area=min(sum(r.area for r in records), 1.0),
        findings=findings,
        agreement=min(agreements, default=None),
        flicker=max(flickers, default=None),
    )
