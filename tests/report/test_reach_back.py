"""A part that is removed late is flagged from the frame on in which it came in."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from mam_video.core.frames import Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import Settings
from mam_video.media.base import ClipInfo
from mam_video.report.reach_back import FARTHEST, flagged_back
from mam_video.report.run import RunReport

STAND = 5
REMOVED = (Finding(Reason.STATIC_PART_REMOVED),)
# A ball that is kicked near a shoe: bottom edge of its box, and area. The shoe is in frames 17 to 22, as one could see.
BOTTOMS = (424, 496, 539, 586, 664, 667, 670, 679, 684, 686, 484, 479, 479)
AREAS = (68.6, 71.1, 72.6, 73.4, 86.8, 95.7, 91.6, 89.3, 90.8, 87.2, 63.2, 63.3, 64.5)
TOPS = (329, 397, 438, 482, 529, 501, 474, 451, 431, 405, 397, 394, 393)


def ball() -> list[Record]:
    return [
        Record(i, i, State.TRACKED, Box(650, top, 740, bottom), 0.9, area * 1e-4, REMOVED if i == 23 else ())
        for i, (top, bottom, area) in enumerate(zip(TOPS, BOTTOMS, AREAS, strict=True), 13)
    ]


def held(records: Sequence[Record], stand: int = STAND) -> list[int]:
    flagged = flagged_back(records, stand)
    changed = [new.index for new, old in zip(flagged, records, strict=True) if new != old]
    assert changed == [r.index for r in flagged if any(f.reason is Reason.STATIC_PART_HELD for f in r.findings)]
    return changed


def steady(count: int, *, came: int, left: int, camera: float = 0.0, state: State = State.TRACKED) -> list[Record]:
    """A box that moves with the camera; a part below it is in the mask from frame `came` to `left`, exclusive."""
    records = []
    for i in range(count):
        holds = came <= i < left
        box = Box(10 + camera * i, 10, 50 + camera * i, 90 if holds else 50)
        findings = REMOVED if i == left else ()
        records.append(Record(i, i, state if i else State.PROMPTED, box, 0.9, 0.2 if holds else 0.1, findings))
    return records


def test_the_shoe_beside_the_ball() -> None:
    assert held(ball()) == [17, 18, 19, 20, 21, 22]
    flagged = flagged_back(ball(), STAND)
    assert {r.state for r in flagged if 17 <= r.index <= 22} == {State.UNCERTAIN}


@pytest.mark.parametrize("camera", [0.0, 4.0, -30.0])
def test_a_part_that_came_in_at_once(camera: float) -> None:
    assert held(steady(30, came=12, left=21, camera=camera)) == list(range(12, 21))


def test_nothing_is_flagged_without_a_removal() -> None:
    records = [r for r in steady(30, came=12, left=21) if not r.findings]
    assert held(records) == []
    assert held(ball(), stand=0) == []


def test_prompts_cuts_and_lost_frames_end_it() -> None:
    records = steady(30, came=0, left=21)
    assert held(records) == list(range(1, 21))  # frame 0 is prompted: the user has seen it
    lost = [*records]
    lost[15] = Record(15, 15, State.LOST, records[15].box, 0.1, 0.0)
    assert held(lost) == list(range(16, 21))
    cut = [*records]
    cut[17] = Record(17, 17, State.TRACKED, records[17].box, 0.9, 0.2, cut=True)
    assert held(cut) == list(range(17, 21))


def test_it_does_not_reach_back_without_end() -> None:
    assert held(steady(200, came=5, left=150)) == list(range(150 - FARTHEST, 150))


def test_a_removal_that_goes_on_reaches_back_once() -> None:
    records = steady(30, came=12, left=21)
    more = [
        Record(r.index, r.pts, r.state, r.box, r.score, r.area, REMOVED) if 21 <= r.index < 25 else r for r in records
    ]
    assert held(more) == list(range(12, 21))


def test_a_mask_that_was_no_larger_before_is_not_flagged() -> None:
    """As when the clip was tracked backwards: then the part is in the frames after."""
    records = steady(30, came=22, left=29)[:29]
    records[21] = Record(21, 21, State.TRACKED, records[21].box, 0.9, 0.1, REMOVED)
    assert held(records) == []


def test_a_slow_subject_that_takes_a_part_in() -> None:
    """It comes near with small steps; the area tells when the part came in."""
    records = []
    for i in range(40):
        holds = 25 <= i < 34
        bottom = min(50 + 2 * i, 100) if not holds else 100
        top = bottom - 40 if i < 25 else 60 - 5 * (i - 25)
        area = 0.16 if holds else 0.1
        if i >= 34:
            bottom = top + 40
        records.append(Record(i, i, State.TRACKED, Box(10, top, 50, bottom), 0.9, area, REMOVED if i == 34 else ()))
    assert held(records) == list(range(25, 34))


def test_report_range_and_counts_agree() -> None:
    clip = ClipInfo(Path("ball.mp4"), 1280, 720, Fraction(24), Fraction(1, 24), "yuv420p")
    report = RunReport(clip, "fake", {}, "cpu", Settings(), [])
    report.records = ball()
    report.flag_back(STAND)
    (found,) = report.flagged
    assert (found.first, found.last) == (17, 22) and found.codes == ["static_part_held"]
    assert report.states() == {"tracked": 7, "uncertain": 6}
    assert "frames 17-22: uncertain, worst" in str(found) and "does not move" in str(found)


def test_of_several_subjects_one_is_flagged() -> None:
    clip = ClipInfo(Path("ball.mp4"), 1280, 720, Fraction(24), Fraction(1, 24), "yuv420p")
    report = RunReport(clip, "fake", {}, "cpu", Settings(), [])

    def named(records: list[Record], name: str) -> list[Record]:
        return [Record(r.index, r.pts, r.state, r.box, r.score, r.area, r.findings, subject=name) for r in records]

    calm = [Record(r.index, r.pts, r.state, r.box, r.score, r.area) for r in ball()]
    report.parts = list(zip(named(ball(), "ball"), named(calm, "man"), strict=True))
    report.records = [row[0] for row in report.parts]
    report.flag_back(STAND)
    (found,) = report.flagged
    assert found.subject == "ball" and (found.first, found.last) == (17, 22)
    assert [r.index for r in report.records if r.state is State.UNCERTAIN] == list(range(17, 23))
