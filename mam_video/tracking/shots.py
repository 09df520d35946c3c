"""Split a clip into shots: nothing is tracked or smoothed across a cut.

A shot begins with the clip's first frame, and wherever no motion leads to a frame: `CutFinder` removes it there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TypeVar

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame, Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding, Reason
from mam_video.models.base import Model
from mam_video.motion.flow import Motion
from mam_video.motion.shot_detection import CutFinder, Moved
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import closing_iter
from mam_video.tracking.mask_ops import empty_logits
from mam_video.tracking.types import MaskObservation, TrackedFrame

T = TypeVar("T")


class Shots:
    """A stream of frames with their motion, read shot by shot."""

    def __init__(self, moved: Iterator[Moved]) -> None:
        self._source = moved
        self._next: Moved | None = None

    @property
    def next(self) -> Moved | None:
        """Return the next frame without taking it; None at the end."""
        if self._next is None:
            self._next = next(self._source, None)
        return self._next

    def take(self, end: int | None = None) -> Generator[Moved, None, None]:
        """Take the rest of the next frame's shot; with `end` only the frames before that index."""
        begun = False
        while (item := self.next) is not None:
            frame, motion = item
            if (begun and motion is None) or (end is not None and frame.index >= end):
                return
            begun, self._next = True, None
            yield item


def in_first_shot(
    moved: Iterable[Moved],
    follow: Callable[[Iterable[Moved]], Generator[tuple[TrackedFrame, ...], None, None]],
    model: Model,
    subjects: Iterable[str],
    cuts: CutFinder,
    clock: StageTimer | None = None,
) -> Generator[tuple[TrackedFrame, ...], None, None]:
    """Track the subjects through the first shot; frames of later shots, which have no prompt, get empty masks.

    Args:
        moved: the frames of the clip with their motion.
        follow: the tracker, given the frames of the first shot.
        subjects: their names as records have them; empty for one that is alone.
        cuts: finds where the shot ends, and says what is done there.
    Yields a `TrackedFrame` for each subject and frame.
    """
    names = tuple(subjects)
    with closing_iter(cuts.watch(moved, clock)) as source:
        shots = Shots(source)
        with closing(follow(shots.take())) as followed:
            yield from followed
        while shots.next is not None:
            begin = shots.next[0].index
            for frame, motion in shots.take():
                empty = without_prompt(frame, motion, begin, model)
                yield tuple(empty.with_record(replace(empty.record, subject=name)) for name in names)


def without_prompt(frame: Frame, motion: Motion | None, begin: int, model: Model) -> TrackedFrame:
    """Return an empty mask for a frame whose shot, which begins at index `begin`, has no prompt."""
    h, w = frame.size
    record = Record(
        frame.index, frame.pts, State.CUT, Box(0, 0, w, h), 0.0, 0.0,
        (Finding(Reason.NO_PROMPT_IN_SHOT, float(begin)),),
    )  # fmt: skip
    logits = empty_logits(model.mask_size)
    crop = Crop.whole(frame.size, model.view_size)
    return TrackedFrame(frame, motion, MaskObservation(record, crop, logits, np.zeros((0, 0), np.float32)))


def with_cuts(
    rows: Iterable[tuple[TrackedFrame, ...]], cuts: CutFinder
) -> Generator[tuple[TrackedFrame, ...], None, None]:
    """Mark the first frame of each shot, and take the motion to it away."""
    with closing_iter(rows) as source:
        for row in source:
            yield tuple(_with_cut(item, cuts) for item in row)


def _with_cut(item: TrackedFrame, cuts: CutFinder) -> TrackedFrame:
    record = with_cut(item.record, cuts)
    return replace(item.with_record(record), motion=None) if record.cut else item


def with_cut(record: Record, cuts: CutFinder) -> Record:
    """Mark a record with which a shot begins; it is flagged where tracking went on through the cut."""
    if record.cut or record.index not in cuts.found:
        return record
    if cuts.settings.on_cut != "continue":
        return replace(record, cut=True)
    findings = (Finding(Reason.TRACKED_THROUGH_CUT), *record.findings)
    return replace(record, state=State.CUT, findings=findings, cut=True)
