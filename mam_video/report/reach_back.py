"""Reach back: find the frames that hold a part which the tracker recognised as wrong, and removed, only later.

The tracker removes a part that stands still once it has stood for `track.stand` frames. Where the part came in follows
from the boxes and areas of the frames before: the box reaches to the part, and the area jumps up. Those frames are
flagged too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from mam_video.core.frames import Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding, Reason

FARTHEST: Final = 48  # frames; a part that came in earlier is flagged for these alone
_LEAST_DROP: Final = 0.05  # of the area before, by which the removal makes the mask smaller
_LEAST_EXTENSION: Final = 0.15  # of a box's side, by which the part reaches beyond the box without it
_NEAR: Final = 0.5  # of that extension, from the part's place: a box whose edge is nearer reaches to it
_MOST_STEP: Final = 0.3  # of that extension, by which the edge moves a frame while the box reaches to the part
_JUMP: Final = 1.1  # of the area a frame, where the part comes in


def flagged_back(records: Sequence[Record], stand: int) -> list[Record]:
    """Return the records of one subject with all frames flagged that held a static part before it was removed.

    `stand`: frames that a part stands still before it is removed, `track.stand`.
    """
    flagged = list(records)
    for place in range(len(records)):
        start = first_held(records[max(place - FARTHEST, 0) : place + 1], stand)
        for k in range(place - start, place):
            flagged[k] = flagged_held(flagged[k])
    return flagged


def first_held(records: Sequence[Record], stand: int) -> int:
    """Count the frames right before the last one that hold a static part which is removed in it.

    Args:
        records: of one subject, in order, ending with the frame in question; some `FARTHEST` before it are enough.
        stand: `track.stand`.
    """
    if len(records) < 2 or not stand or not _removed(records[-1]) or _removed(records[-2]):
        return 0
    last, before = records[-1], records[-2]
    if last.cut or not _may_hold(before):
        return 0
    edge, extension = _extension(before.box, last.box)
    reaches = extension >= _LEAST_EXTENSION * (last.box.height if edge % 2 else last.box.width)
    if not reaches and before.area * (1 - _LEAST_DROP) < last.area:
        return 0  # the mask was not larger before: this removal goes on from an earlier one, or tracks backwards
    sure = _usable(records, stand)
    return sure if not reaches else max(sure, _reaching(records, edge, extension))


def flagged_held(record: Record) -> Record:
    """Return a record flagged as one that holds a static part."""
    if any(finding.reason is Reason.STATIC_PART_HELD for finding in record.findings):
        return record
    state = State.UNCERTAIN if record.state is State.TRACKED else record.state
    return replace(record, state=state, findings=(Finding(Reason.STATIC_PART_HELD), *record.findings))


def _removed(record: Record) -> bool:
    return any(finding.reason is Reason.STATIC_PART_REMOVED for finding in record.findings)


def _may_hold(record: Record) -> bool:
    """Return whether a frame can hold a part that a user has not seen: not where a prompt or nothing was found."""
    return record.state not in (State.PROMPTED, State.LOST, State.CUT) and not _removed(record)


def _usable(records: Sequence[Record], most: int) -> int:
    """Count the frames before the last one that may hold the part, up to `most`, within one shot."""
    count = 0
    for record in reversed(records[:-1]):
        if count == most or not _may_hold(record):
            break
        count += 1
        if record.cut:
            break
    return count


def _extension(before: Box, last: Box) -> tuple[int, float]:
    """Return the edge of `before` that is farthest beyond `last`: its place in `xyxy`, and by how many pixels."""
    beyond = [sign * (b - a) for a, b, sign in zip(last.xyxy, before.xyxy, (-1, -1, 1, 1), strict=True)]
    edge = max(range(4), key=beyond.__getitem__)
    return edge, beyond[edge]


def _reaching(records: Sequence[Record], edge: int, extension: float) -> int:
    """Count the frames before the last one whose box reaches to the part.

    Where the part came in, the box's edge jumped. Where it did not, the subject itself came near first, and its area
    jumped when it took the part in.
    """
    run = list(records[-1 - _usable(records, FARTHEST) : -1])
    edges = [record.box.xyxy[edge] for record in run]
    start, jumped = len(run) - 1, False
    while start > 0 and not jumped and abs(edges[start - 1] - edges[-1]) <= _NEAR * extension:
        jumped = abs(edges[start - 1] - edges[start]) >= _MOST_STEP * extension
        start -= not jumped
    if start > 0 and abs(edges[start - 1] - edges[start]) < _MOST_STEP * extension:
        growth = {k: run[k].area / max(run[k - 1].area, 1e-9) for k in range(start + 1, len(run))}
        most = max(growth, key=growth.__getitem__, default=start)
        start = most if growth.get(most, 0.0) > _JUMP else start
    return len(run) - start
