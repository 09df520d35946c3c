"""Which frames the report shows: the worst flagged ones, and some evenly along the clip."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding, Reason
from mam_video.report.pictures import SUBJECT_COLOURS, Snapshot, tint
from mam_video.report.thumbnails import MOST_EVEN, Thumbnails

SIZE = (48, 64)
HELD, REMOVED = Reason.STATIC_PART_HELD, Finding(Reason.STATIC_PART_REMOVED)


def matted(*records: Record, size: tuple[int, int] = SIZE, value: float = 0.0) -> Matted:
    frame = Frame(records[0].index, records[0].index, Fraction(1, 24), np.full((*size, 3), 90, np.uint8))
    alpha = np.full(size, value, np.float32)
    parts = tuple(Matted(frame, alpha / len(records), record) for record in records) if len(records) > 1 else ()
    return Matted(frame, alpha, records[0], parts=parts)


def record(
    i: int, state: State = State.TRACKED, *findings: Finding, box: Box | None = None, area: float = 0.1
) -> Record:
    return Record(i, i, state, box or Box(10, 10, 40, 40), 0.9, area, findings)


@pytest.mark.parametrize("count", [1, 7, 8, 12, 13, 16, 17, 33, 100, 1000])
def test_even_frames(count: int) -> None:
    looks = Thumbnails()
    for i in range(count):
        looks.add(matted(record(i)))
    found = [row[0].index for row, _ in looks.even]
    assert found[0] == 0 and found[-1] == count - 1
    assert min(count, 8) <= len(found) <= MOST_EVEN
    steps = np.diff(found)
    assert count <= MOST_EVEN or steps.max() <= 2.5 * count / len(found)
    assert not looks.found


def test_a_card_for_each_subject_that_is_flagged() -> None:
    looks = Thumbnails()
    for i in range(6):
        a = record(i, State.UNCERTAIN if i in (2, 3) else State.TRACKED, box=Box(2, 2, 20, 40))
        b = record(i, State.UNCERTAIN if i == 3 else State.TRACKED, box=Box(30, 2, 60, 40))
        looks.add(matted(a, b))
    assert [(t.record.index, t.place, t.begins) for t in looks.found] == [(2, 0, True), (3, 0, False), (3, 1, True)]
    boxes = [t.proposal.box.x0 if t.proposal else None for t in looks.found]
    assert boxes == [2, 2, 30]


def test_frames_are_shown_that_a_later_one_flags() -> None:
    """The part comes in with frame 20, and is removed in frame 26."""
    looks = Thumbnails(stand=5)
    for i in range(30):
        holds = 20 <= i < 26
        findings = (REMOVED,) if i == 26 else ()
        state = State.UNCERTAIN if i == 26 else State.TRACKED
        box = Box(10, 10, 40, 46 if holds else 30)
        looks.add(matted(record(i, state, *findings, box=box, area=0.2 if holds else 0.1)))
    first, _ = looks.found
    assert first.record.index == 20 and first.begins
    assert first.record.state is State.UNCERTAIN and first.record.findings[0].reason is HELD
    assert first.proposal is not None and first.proposal.index == 19 and first.proposal.box == Box(10, 10, 40, 30)


def test_subjects_have_their_own_colours() -> None:
    left, right = np.zeros((4, 8), np.uint8), np.zeros((4, 8), np.uint8)
    left[:, :4], right[:, 3:] = 200, 55
    found = tint([left, right])
    assert tuple(found[0, 0]) == (*SUBJECT_COLOURS[0], 200)
    assert tuple(found[0, 3]) == (*SUBJECT_COLOURS[0], 255)
    assert tuple(found[0, 7]) == (*SUBJECT_COLOURS[1], 55)


def test_pictures_are_reduced_and_can_be_read() -> None:
    picture = Snapshot.of(matted(record(0), size=(1000, 2000), value=0.4)).encoded()
    assert picture.size == (640, 1280)
    matte = cv2.imdecode(np.frombuffer(picture.matte, np.uint8), cv2.IMREAD_UNCHANGED)
    plate = cv2.imdecode(np.frombuffer(picture.plate, np.uint8), cv2.IMREAD_COLOR)
    assert matte is not None and plate is not None
    assert matte.shape == (640, 1280, 4) and plate.shape == (640, 1280, 3)
    assert (matte[..., 3] == 102).all() and tuple(matte[0, 0, :3]) == SUBJECT_COLOURS[0][::-1]
