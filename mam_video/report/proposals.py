"""Propose the box of a correction: the last reliable one where it still fits, and none where it may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from mam_video.core.frames import Record, State
from mam_video.core.geometry import Box

KEPT: Final = 9  # reliable records that are looked at
_MOST_GAP: Final = 3  # frames since the last reliable one
_MOST_DRIFT: Final = 0.2  # of the box's shorter side, by which it may have moved since
_MOST_GROWTH: Final = 1.4  # of the area, compared with the reliable frames before
_MOST_SHARED: Final = 0.5  # of another subject's box, which the proposed box may cover


@dataclass(frozen=True, slots=True)
class Proposal:
    """A box for a correction, in frame pixels, and the index of the frame that it is from."""

    box: Box
    index: int


def proposal(record: Record, reliable: Sequence[Record], others: Sequence[Box]) -> Proposal | None:
    """Propose a box for a flagged frame; None where the user needs to draw it.

    Args:
        record: of the flagged frame.
        reliable: unflagged records of the subject before it, latest last.
        others: boxes of the other subjects in the latest of these.
    """
    if not reliable or record.state in (State.LOST, State.CUT, State.RECOVERED):
        return None
    last, before = reliable[-1], list(reliable[-KEPT:-1])
    gap = record.index - last.index
    if gap > _MOST_GAP or record.cut:
        return None
    if before and last.area > _MOST_GROWTH * median(r.area for r in before):
        return None  # the mask has just grown: it may hold something else already
    if before and gap * _speed(before[-1], last) > _MOST_DRIFT * min(last.box.width, last.box.height):
        return None
    if any(last.box.shared_area(other) > _MOST_SHARED * other.area for other in others):
        return None
    return Proposal(last.box, last.index)


def _speed(a: Record, b: Record) -> float:
    """Return by how many pixels a frame the edge of the box that moves most moves from `a` to `b`."""
    return max(abs(x - y) for x, y in zip(a.box.xyxy, b.box.xyxy, strict=True)) / max(b.index - a.index, 1)
