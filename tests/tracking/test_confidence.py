"""Findings about a mask, by numbers alone."""

from dataclasses import replace

import pytest

from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import TrackSettings
from mam_video.tracking.confidence import MaskEvidence, ReviewHistory, rejection, safe_to_learn, warnings

BOUNDS = TrackSettings()
FINE = MaskEvidence(score=0.9, overlap=0.8, jump=1.0, share=1.0, similarity=0.95, flash=0.0)
REMOVED = Finding(Reason.STATIC_PART_REMOVED)
CONTACT = Finding(Reason.DISTRACTOR_CONTACT)
HALF_SEEN = Finding(Reason.PARTLY_SEEN, 0.4, 0.8)


def kinds(findings: object) -> list[tuple[Reason, float | None]]:
    return [(finding.reason, finding.value) for finding in findings]  # type: ignore[attr-defined]


@pytest.mark.parametrize("searching", [False, True])
def test_nothing_speaks_against_a_fine_mask(searching: bool) -> None:
    assert rejection(FINE, BOUNDS, searching) == () and warnings(FINE, BOUNDS, searching) == []


@pytest.mark.parametrize(
    ("change", "rejected", "warned"),
    [
        ({"score": 0.4}, Reason.LOW_SCORE, Reason.LOW_SCORE),
        ({"score": 0.55}, None, Reason.LOW_SCORE),
        ({"overlap": 0.2}, Reason.LOW_OVERLAP, Reason.LOW_OVERLAP),
        ({"overlap": 0.4}, None, Reason.LOW_OVERLAP),
        ({"jump": 2.0}, None, Reason.AREA_JUMP),
        ({"share": 0.05}, Reason.PARTLY_SEEN, Reason.PARTLY_SEEN),
        ({"share": 0.5}, None, Reason.PARTLY_SEEN),
        ({"similarity": 0.4}, Reason.COLOURS_DIFFER, Reason.COLOURS_DIFFER),
        ({"similarity": 0.7}, None, Reason.COLOURS_DIFFER),
    ],
)
def test_each_measurement_has_a_bound_for_warnings_and_one_for_rejection(
    change: dict[str, float], rejected: Reason | None, warned: Reason
) -> None:
    seen = replace(FINE, **change)
    (value,) = change.values()
    assert kinds(rejection(seen, BOUNDS, searching=False)) == ([] if rejected is None else [(rejected, value)])
    assert kinds(warnings(seen, BOUNDS, searching=False)) == [(warned, value)]
    for finding in (*rejection(seen, BOUNDS, searching=False), *warnings(seen, BOUNDS, searching=False)):
        assert finding.bound is not None


def test_a_small_mask_of_other_colours_is_rejected_for_both() -> None:
    seen = replace(FINE, similarity=0.7, share=0.5)
    assert kinds(rejection(seen, BOUNDS, searching=False)) == [(Reason.PARTLY_SEEN, 0.5), (Reason.COLOURS_DIFFER, 0.7)]


def test_what_comes_back_must_look_like_the_subject_and_may_have_jumped() -> None:
    assert warnings(replace(FINE, jump=5.0, overlap=0.1), BOUNDS, searching=True) == []
    assert rejection(replace(FINE, overlap=0.1), BOUNDS, searching=True) == ()
    differs = rejection(replace(FINE, similarity=0.7), BOUNDS, searching=True)
    assert kinds(differs) == [(Reason.COLOURS_DIFFER, 0.7)]
    assert kinds(rejection(replace(FINE, share=3.5), BOUNDS, searching=True)) == [(Reason.TOO_LARGE, 3.5)]


def test_in_a_flash_colours_and_overlap_lose_nothing() -> None:
    burnt = replace(FINE, overlap=0.1, similarity=0.3, flash=-0.5)
    assert rejection(burnt, BOUNDS, searching=False) == ()
    assert warnings(burnt, BOUNDS, searching=False)


def test_a_static_part_removed_again_needs_no_review_until_it_has_been_away_for_a_while() -> None:
    history = ReviewHistory()
    flagged = []
    for frame in range(20):
        findings = [REMOVED] if frame in (3, 4, 8, 15) else []
        flagged.append(bool(history.needs_review(findings, FINE, BOUNDS, contact_resolved=False)))
        history.add(findings)
    assert [frame for frame, needs in enumerate(flagged) if needs] == [3, 15]


def test_a_resolved_contact_needs_no_review_and_other_warnings_still_do() -> None:
    assert ReviewHistory().needs_review([CONTACT], FINE, BOUNDS, contact_resolved=False) == [CONTACT]
    low = Finding(Reason.LOW_SCORE, 0.55, 0.6)
    assert ReviewHistory().needs_review([low, CONTACT], FINE, BOUNDS, contact_resolved=True) == [low]


@pytest.mark.parametrize(("share", "needs_review"), [(0.5, False), (0.3, True)])
def test_a_hidden_part_is_reported_and_needs_review_where_little_is_left(share: float, needs_review: bool) -> None:
    seen = replace(FINE, share=share)
    found = warnings(seen, BOUNDS, searching=False)
    assert found == [Finding(Reason.PARTLY_SEEN, share, BOUNDS.review_share)]
    assert ReviewHistory().needs_review(found, seen, BOUNDS, contact_resolved=False) == (found if needs_review else [])


def test_the_segmenter_learns_from_a_partly_seen_subject_but_not_from_a_mask_just_mended() -> None:
    assert safe_to_learn([]) and safe_to_learn([HALF_SEEN, CONTACT])
    assert not safe_to_learn([REMOVED]) and not safe_to_learn([HALF_SEEN, Finding(Reason.AREA_JUMP, 2.0)])
