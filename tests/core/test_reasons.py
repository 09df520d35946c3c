"""Reason codes travel through JSON, and sentences of files without codes are kept."""

import json
from typing import Any

import pytest

from mam_video.core.reasons import Finding, Reason


@pytest.mark.parametrize(
    "finding",
    [
        Finding(Reason.LOW_SCORE, 0.1 + 0.2, 0.45),
        Finding(Reason.MEETS_SUBJECT, other="blue", subject="red"),
        Finding(Reason.OTHER, text="a sentence"),
        Finding(Reason.PARTLY_SEEN, 0.0),
    ],
)
def test_json_keeps_every_bit(finding: Finding) -> None:
    assert Finding.from_dict(json.loads(json.dumps(finding.as_dict()))) == finding


def test_fields_that_are_not_set_are_left_out() -> None:
    assert Finding(Reason.LEFT_FRAME).as_dict() == {"code": "left_frame"}


@pytest.mark.parametrize(
    "entry",
    [{}, [], "x", {"code": "nonsense"}, {"code": "low_score", "value": "much"}, {"code": "low_score", "value": 1e999}],
)
def test_a_damaged_entry_is_an_error(entry: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Finding.from_dict(entry)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("only 40% of it is seen", Reason.PARTLY_SEEN),
        ("a look-alike touches it or has touched it: they may have been swapped", Reason.DISTRACTOR_CONTACT),
        ("a part that stood still was taken off: look at the frames before", Reason.STATIC_PART_REMOVED),
        ("score 0.55 is below 0.6", Reason.OTHER),
    ],
)
def test_sentences_that_decide_how_tracking_goes_on_get_their_codes(text: str, code: Reason) -> None:
    assert Finding.from_text(text) == Finding(code, text=text)
