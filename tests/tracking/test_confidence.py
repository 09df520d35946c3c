"""What is said of a mask, by numbers alone."""

from dataclasses import replace

import pytest

from mam_video.core.settings import TrackSettings
from mam_video.tracking.confidence import (
    TAKEN_OFF,
    TOUCHED,
    MaskEvidence,
    WarningMemory,
    rejection,
    safe_to_learn,
    warnings,
)

BARS = TrackSettings()
FINE = MaskEvidence(score=0.9, overlap=0.8, jump=1.0, share=1.0, alike=0.95, flash=0.0)


@pytest.mark.parametrize("sought", [False, True])
def test_nothing_speaks_against_a_fine_mask(sought: bool) -> None:
    assert rejection(FINE, BARS, sought) is None and warnings(FINE, BARS, sought) == []


@pytest.mark.parametrize(
    ("change", "lost", "doubt"),
    [
        ({"score": 0.4}, "score 0.40", "score 0.40"),
        ({"score": 0.55}, None, "score 0.55"),
        ({"overlap": 0.2}, "overlap with the moved mask 0.20", "overlap with the moved mask 0.20"),
        ({"overlap": 0.4}, None, "overlap with the moved mask 0.40"),
        ({"jump": 2.0}, None, "area jumped 2 times"),
        ({"share": 0.05}, "no more than 5% of it is seen", "only 5% of it is seen"),
        ({"share": 0.5}, None, "only 50% of it is seen"),
        ({"alike": 0.4}, "likeness to the subject 0.40", "likeness to the subject 0.40"),
        ({"alike": 0.7}, None, "likeness to the subject 0.70"),
        ({"alike": 0.7, "share": 0.5}, "no more than 50% of it would be seen", "only 50%"),
    ],
)
def test_each_number_has_a_bar_for_doubt_and_one_for_being_lost(
    change: dict[str, float], lost: str | None, doubt: str
) -> None:
    seen = replace(FINE, **change)
    reason = rejection(seen, BARS, sought=False)
    assert (reason or "").startswith(lost) if lost else reason is None
    assert warnings(seen, BARS, sought=False)[0].startswith(doubt)


def test_what_comes_back_must_look_like_the_subject_and_may_have_jumped() -> None:
    assert warnings(replace(FINE, jump=5.0, overlap=0.1), BARS, sought=True) == []
    assert rejection(replace(FINE, overlap=0.1), BARS, sought=True) is None
    assert "likeness" in (rejection(replace(FINE, alike=0.7), BARS, sought=True) or "")
    assert "3.5 times the area" in (rejection(replace(FINE, share=3.5), BARS, sought=True) or "")


def test_in_a_flash_colours_and_overlap_lose_nothing() -> None:
    burnt = replace(FINE, overlap=0.1, alike=0.3, flash=-0.5)
    assert rejection(burnt, BARS, sought=False) is None
    assert warnings(burnt, BARS, sought=False)


def test_a_part_taken_off_again_is_no_news_until_it_has_been_away_for_a_while() -> None:
    memory = WarningMemory()
    said = []
    for frame in range(20):
        reasons = [TAKEN_OFF] if frame in (3, 4, 8, 15) else []
        said.append(bool(memory.news(reasons, FINE, BARS, parted=False)))
        memory.keep(reasons)
    assert [frame for frame, news in enumerate(said) if news] == [3, 15]


def test_a_look_alike_that_has_parted_is_no_news_and_other_doubts_still_are() -> None:
    assert WarningMemory().news([TOUCHED], FINE, BARS, parted=False) == [TOUCHED]
    low = "score 0.55 is below 0.6"
    assert WarningMemory().news([low, TOUCHED], FINE, BARS, parted=True) == [low]


@pytest.mark.parametrize(("share", "looked_at"), [(0.5, False), (0.3, True)])
def test_a_hidden_part_is_said_and_a_cause_to_look_where_little_is_left(share: float, looked_at: bool) -> None:
    seen = replace(FINE, share=share)
    said = warnings(seen, BARS, sought=False)
    assert said == [f"only {share:.0%} of it is seen"]
    assert WarningMemory().news(said, seen, BARS, parted=False) == (said if looked_at else [])


def test_what_is_half_seen_may_be_learnt_from_and_what_was_just_mended_not() -> None:
    assert safe_to_learn([]) and safe_to_learn(["only 40% of it is seen", TOUCHED])
    assert not safe_to_learn([TAKEN_OFF]) and not safe_to_learn(["only 40% of it is seen", "area jumped 2 times"])
