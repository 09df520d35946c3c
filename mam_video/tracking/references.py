"""Reference memory: the frames that the model compares a new frame with."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mam_video.models.base import Model, Reference
from mam_video.tracking.embeddings import DeferredReference

_REFERENCE_STEP = 5  # frames between two references: neighbours add nothing


class ReferenceMemory:
    """The prompted frames, which never fade, and the latest confident ones, some frames apart.

    `anchors` are prompted frames beside the one that tracking started from, nearest first. Of three places and more one
    is left to the latest frames.
    """

    def __init__(self, capacity: int, anchors: Sequence[Reference] = ()) -> None:
        self._prompted: list[Reference | DeferredReference] = []
        self._anchors = tuple(anchors)[: anchor_capacity(capacity)]
        self._recent: deque[Reference | DeferredReference] = deque(maxlen=max(capacity - 1 - len(self._anchors), 0))
        self._capacity = capacity
        self._last = 0

    def embed_deferred(self, model: Model) -> None:
        """Embed the references that were found without asking the model."""
        for references in (self._prompted, self._recent):
            for place, reference in enumerate(references):
                if isinstance(reference, DeferredReference):
                    references[place] = reference.embedded(model)

    def add(self, reference: Reference | DeferredReference, frame_index: int) -> None:
        """Add a confident frame; it is dropped if it is too near the last one."""
        if self._capacity == 0:
            return
        if reference.prompted:
            self._prompted = [reference]
            self._last = frame_index
        elif abs(frame_index - self._last) >= _REFERENCE_STEP:
            self._recent.append(reference)
            self._last = frame_index

    def all(self, more: Sequence[Reference] = ()) -> tuple[Reference, ...]:
        """Return the references, and in free places the first of `more`."""
        references = (*self._prompted, *self._anchors, *reversed(self._recent))
        return (*(r for r in references if isinstance(r, Reference)), *more)[: self._capacity]


def anchor_capacity(references: int) -> int:
    """Return how many anchors are kept, for a model that takes so many references."""
    return max(references - 2, min(references - 1, 1), 0)
