"""Sentences are made from codes in one place."""

import pytest

from mam_video.core.frames import Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding, Reason
from mam_video.report.run import flagged_ranges
from mam_video.report.sentences import sentence, sentences


@pytest.mark.parametrize("reason", Reason)
def test_every_code_has_a_sentence_with_and_without_numbers(reason: Reason) -> None:
    text = "as it was" if reason is Reason.OTHER else ""
    for finding in (Finding(reason, 1.5, 0.5, other="dog", text=text), Finding(reason, other="dog", text=text)):
        found = sentence([finding])
        assert found and "_" not in found and "\n" not in found and "None" not in found


def test_findings_that_differ_only_in_numbers_share_a_sentence() -> None:
    shares = [Finding(Reason.PARTLY_SEEN, value, 0.8) for value in (0.33, 0.16, 0.39)]
    removed = Finding(Reason.STATIC_PART_REMOVED)
    found = sentences([shares[0], removed, *shares[1:], removed])
    assert len(found) == 2 and "16-39%" in found[0]


def test_a_jump_is_told_in_its_direction() -> None:
    assert "2.4 times larger" in sentence([Finding(Reason.AREA_JUMP, 2.4)])
    assert "123 times larger" in sentence([Finding(Reason.AREA_JUMP, 123.4)])
    assert "2 times smaller" in sentence([Finding(Reason.AREA_JUMP, 0.5)])


def test_subjects_and_old_texts_are_kept_apart() -> None:
    meets = Finding(Reason.MEETS_SUBJECT, other="blue", subject="red")
    old = Finding(Reason.PARTLY_SEEN, text="only 40% of it is seen")
    found = sentences([meets, old, Finding(Reason.MEETS_SUBJECT, other="red", subject="blue")])
    assert len(found) == 3 and found[0].startswith("red: touches 'blue'") and found[1] == old.text


def test_a_flagged_range_has_a_code_for_each_sentence() -> None:
    records = [
        Record(i, i, State.UNCERTAIN, Box(0, 0, 1, 1), 0.5, 0.1, (Finding(Reason.LOW_SCORE, 0.5 + i / 100, 0.6),))
        for i in range(3)
    ]
    (found,) = flagged_ranges(records)
    entry = found.as_dict()
    assert entry["codes"] == ["low_score"] and len(entry["reasons"]) == 1 and "0.50 to 0.52" in entry["reasons"][0]
