"""The frames that the model compares a new frame with."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import copy

from mam_video.models.base import Model, Reference
from mam_video.tracking.types import LaterAnswer


class ReferenceMemory:
    """The prompted frames, which never fade, and the latest confident ones, some frames apart.

    `others` are prompted frames beside the one that is followed from, nearest first. One place of three and more is
    left to the latest frames.
    """

    def __init__(self, most: int, others: Sequence[Reference] = ()) -> None:
        self._anchors: list[Reference | LaterAnswer] = []
        self._others = tuple(others)[: anchors_beside(most)]
        self._recent: deque[Reference | LaterAnswer] = deque(maxlen=max(most - 1 - len(self._others), 0))
        self._most = most
        self._last = 0

    def remember(self, model: Model) -> None:
        """Embed what was found before."""
        for kept in (self._anchors, self._recent):
            for place, reference in enumerate(kept):
                if isinstance(reference, LaterAnswer):
                    kept[place] = reference.embedded(model)

    def copy(self) -> ReferenceMemory:
        """As they are now: what is offered later is not in it."""
        same = copy(self)
        same._recent = copy(self._recent)
        return same

    def offer(self, reference: Reference | LaterAnswer, frame_index: int) -> None:
        if self._most == 0:
            return
        if reference.prompted:
            self._anchors = [reference]
            self._last = frame_index
        elif abs(frame_index - self._last) >= _REFERENCE_STEP:
            self._recent.append(reference)
            self._last = frame_index

    def all(self, more: Sequence[Reference] = ()) -> tuple[Reference, ...]:
        """Those that are kept; in places that are free, the first of `more`."""
        kept = (*self._anchors, *self._others, *reversed(self._recent))
        return (*(r for r in kept if isinstance(r, Reference)), *more)[: self._most]


def anchors_beside(references: int) -> int:
    """How many prompted frames are kept beside the one that is followed from, for a model of so many references."""
    return max(references - 2, min(references - 1, 1), 0)


_REFERENCE_STEP = 5  # frames between two references: neighbours tell nothing new
