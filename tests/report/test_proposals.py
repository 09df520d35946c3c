"""A box is proposed where it still fits; elsewhere the user is asked to draw one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mam_video.core.frames import Record, State
from mam_video.core.geometry import Box
from mam_video.report.proposals import Proposal, proposal

BOX = Box(100, 100, 200, 300)


def reliable(*, speed: float = 0.0, count: int = 5) -> list[Record]:
    return [Record(i, i, State.TRACKED, BOX.moved(speed * i, 0), 0.9, 0.1) for i in range(count)]


def flagged(index: int, state: State = State.UNCERTAIN, *, cut: bool = False) -> Record:
    return Record(index, index, state, BOX, 0.5, 0.1, cut=cut)


@pytest.mark.parametrize(("index", "speed", "found"), [(5, 0, True), (7, 0, True), (8, 0, False), (5, 15, True),
                                                       (6, 15, False), (5, 25, False)])  # fmt: skip
def test_the_last_reliable_box_until_it_may_have_moved_off(index: int, speed: float, found: bool) -> None:
    records = reliable(speed=speed)
    box = proposal(flagged(index), records, [])
    assert box == (Proposal(records[-1].box, 4) if found else None)


@pytest.mark.parametrize("state", [State.LOST, State.CUT, State.RECOVERED])
def test_none_where_the_subject_is_or_was_out_of_sight(state: State) -> None:
    assert proposal(flagged(5, state), reliable(), []) is None


def test_none_in_another_shot_or_without_a_reliable_frame() -> None:
    assert proposal(flagged(5, cut=True), reliable(), []) is None
    assert proposal(flagged(5), [], []) is None


def test_none_where_the_mask_has_just_grown() -> None:
    records = reliable()
    records[-1] = replace(records[-1], area=0.16)
    assert proposal(flagged(5), records, []) is None


def test_none_where_it_wraps_another_subject() -> None:
    assert proposal(flagged(5), reliable(), [Box(150, 200, 220, 280)]) is None
    assert proposal(flagged(5), reliable(), [Box(180, 200, 280, 280)]) is not None
