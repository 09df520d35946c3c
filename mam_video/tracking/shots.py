"""Several shots in one clip: what is known of one never reaches the next.

A shot begins with a clip's first frame, and wherever no motion leads to a frame: `cuts.CutFinder` takes it away there.
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
from mam_video.models.base import Model
from mam_video.motion.flow import Motion
from mam_video.motion.shot_detection import CutFinder, Moved
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import closing_iter
from mam_video.tracking.types import TrackedFrame

T = TypeVar("T")

_EMPTY = -8.0  # logit: surely background


class Shots:
    """A stream of frames with their motion, taken shot by shot."""

    def __init__(self, moved: Iterator[Moved]) -> None:
        self._source = moved
        self._next: Moved | None = None

    @property
    def next(self) -> Moved | None:
        """What comes next, which stays there; None at the end."""
        if self._next is None:
            self._next = next(self._source, None)
        return self._next

    def take(self, end: int | None = None) -> Generator[Moved, None, None]:
        """What is left of the shot that the next frame is of; with `end` only the frames before that index."""
        begun = False
        while (item := self.next) is not None:
            frame, motion = item
            if (begun and motion is None) or (end is not None and frame.index >= end):
                return
            begun, self._next = True, None
            yield item


def in_first_shot(
    moved: Iterable[Moved],
    follow: Callable[[Iterable[Moved]], Generator[TrackedFrame, None, None]],
    model: Model,
    cuts: CutFinder,
    clock: StageTimer | None = None,
) -> Generator[TrackedFrame, None, None]:
    """Follow the subject through the first shot; in later ones nobody points at it. One `TrackedFrame` a frame.

    Args:
        moved: the frames of the clip with their motion.
        follow: the tracker, given the frames of the first shot.
        cuts: finds where it ends, and says what is done there.
    """

    def missing(frame: Frame, motion: Motion | None, begin: int) -> TrackedFrame:
        return without_prompt(frame, motion, begin, model)

    return _in_first_shot(cuts.watch(moved, clock), follow, missing)


def each_in_first_shot(
    moved: Iterable[Moved],
    follow: Callable[[Iterable[Moved]], Generator[tuple[TrackedFrame, ...], None, None]],
    model: Model,
    subjects: Iterable[str],
    cuts: CutFinder,
    clock: StageTimer | None = None,
) -> Generator[tuple[TrackedFrame, ...], None, None]:
    """The same of several `subjects`, by name: of each frame a `TrackedFrame` for each."""
    names = tuple(subjects)

    def missing(frame: Frame, motion: Motion | None, begin: int) -> tuple[TrackedFrame, ...]:
        empty = without_prompt(frame, motion, begin, model)
        return tuple(replace(empty, record=replace(empty.record, subject=name)) for name in names)

    return _in_first_shot(cuts.watch(moved, clock), follow, missing)


def _in_first_shot(
    moved: Iterable[Moved],
    follow: Callable[[Iterable[Moved]], Generator[T, None, None]],
    missing: Callable[[Frame, Motion | None, int], T],
) -> Generator[T, None, None]:
    with closing_iter(moved) as source:
        shots = Shots(source)
        with closing(follow(shots.take())) as followed:
            yield from followed
        while shots.next is not None:
            begin = shots.next[0].index
            for frame, motion in shots.take():
                yield missing(frame, motion, begin)


def without_prompt(frame: Frame, motion: Motion | None, begin: int, model: Model) -> TrackedFrame:
    """An empty mask: nobody pointed at the subject in the frame's shot, which begins at index `begin`."""
    h, w = frame.size
    record = Record(
        frame.index, frame.pts, State.CUT, Box(0, 0, w, h), 0.0, 0.0,
        (f"no prompt shows the subject in the shot that begins at frame {begin}",),
    )  # fmt: skip
    logits = np.full((model.mask_size, model.mask_size), _EMPTY, np.float16)
    standing = np.zeros((0, 0), np.float32)
    return TrackedFrame(frame, motion, record, Crop.whole(frame.size, model.view_size), logits, standing=standing)


def with_cuts(tracked: Iterable[TrackedFrame], cuts: CutFinder) -> Generator[TrackedFrame, None, None]:
    """`tracked`, where the first frame of each shot says so, and no motion leads to it."""
    with closing_iter(tracked) as source:
        for item in source:
            yield _with_cut(item, cuts)


def each_with_cuts(
    rows: Iterable[tuple[TrackedFrame, ...]], cuts: CutFinder
) -> Generator[tuple[TrackedFrame, ...], None, None]:
    """The same of several subjects."""
    with closing_iter(rows) as source:
        for row in source:
            yield tuple(_with_cut(item, cuts) for item in row)


def _with_cut(item: TrackedFrame, cuts: CutFinder) -> TrackedFrame:
    record = with_cut(item.record, cuts)
    return replace(item, motion=None, record=record) if record.cut else item


def with_cut(record: Record, cuts: CutFinder) -> Record:
    """A record that says whether a shot begins with its frame; flagged where tracking went on through the cut."""
    if record.cut or record.index not in cuts.found:
        return record
    if cuts.settings.on_cut != "continue":
        return replace(record, cut=True)
    reasons = ("a hard cut lies before this frame, and tracking went on through it", *record.reasons)
    return replace(record, state=State.CUT, reasons=reasons, cut=True)
