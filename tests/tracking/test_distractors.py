"""Distractors by their boxes alone."""

from __future__ import annotations

import pytest

from mam_video.core.geometry import Box
from mam_video.core.settings import TrackSettings
from mam_video.tracking.appearance import CandidateRegion
from mam_video.tracking.distractors import DistractorMemory, surroundings_of

SUBJECT = Box(100, 100, 160, 160)
PIXELS = 240 * 320
FULL = 0.04  # of the frame: about the area of the subject's box


def touches(memory: DistractorMemory, *regions: CandidateRegion, area: float = FULL) -> bool:
    """Whether there is a contact of the subject with one of these regions."""
    return memory.update(
        regions, SUBJECT, area, FULL, speed=(0, 0), pixels=PIXELS, min_similarity=TrackSettings().review_similarity
    )


def region(x: float, *, similarity: float = 0.9, area: float = FULL) -> CandidateRegion:
    """Something as large as the subject, at the same height."""
    return CandidateRegion(Box(x, 100, x + 60, 160), area, similarity)


def test_a_contact_lasts_until_it_is_surely_over_and_needs_review_until_it_probably_is() -> None:
    memory = DistractorMemory()
    assert not touches(memory, region(40, similarity=0.8))
    assert touches(memory, region(40))
    assert memory.contact is not None and not memory.contact_resolved
    assert touches(memory, region(30, similarity=0.8)) and memory.contact_resolved
    assert touches(memory, region(40)) and not memory.contact_resolved
    assert not touches(memory, region(30)) and memory.contact is None and not memory.contact_resolved


def test_a_contact_that_is_never_seen_apart_is_forgotten() -> None:
    memory = DistractorMemory()
    touches(memory, region(40))
    frames = next(n for n in range(1, 200) if not touches(memory))
    assert frames == 60


@pytest.mark.parametrize(
    "other",
    [region(40, similarity=0.8), region(40, area=0.3 * FULL), region(-200)],
    ids=["other colours", "too small", "far away"],
)
def test_what_is_no_rival_makes_no_contact(other: CandidateRegion) -> None:
    assert not touches(DistractorMemory(), other)


def test_scattered_patches_are_no_rival() -> None:
    """They fill their box less densely than the subject fills its own."""
    wide = CandidateRegion(Box(0, 60, 100, 200), 0.5 * FULL, 0.95)
    assert not touches(DistractorMemory(), wide)


def test_a_distractor_does_not_shrink_with_what_is_left_of_a_subject_that_hides() -> None:
    memory = DistractorMemory()
    other = Box(200, 100, 260, 160)
    touches(memory, CandidateRegion(other, FULL, 0.95))
    assert memory.boxes == [other]
    touches(memory, CandidateRegion(Box(200, 130, 220, 160), 0.2 * FULL, 0.95), area=0.25 * FULL)
    assert memory.boxes == [other]
    touches(memory, CandidateRegion(Box(250, 130, 270, 160), 0.2 * FULL, 0.95), area=0.25 * FULL)
    assert memory.boxes == [Box(200, 100, 270, 160)]


def test_while_the_subject_is_lost_known_distractors_are_followed_and_not_taken_for_it() -> None:
    memory = DistractorMemory()
    memory.boxes = [Box(200, 100, 260, 160), Box(0, 0, 60, 60)]
    moved, free, pale = region(205), region(20), region(280, similarity=0.1)
    assert memory.separate([moved, free, pale], FULL, TrackSettings()) == [free]
    assert memory.boxes == [moved.box, Box(0, 0, 60, 60)]


def test_where_the_subject_was_found_again_there_is_no_distractor() -> None:
    memory = DistractorMemory()
    memory.boxes = [region(110).box, region(300).box]
    touching = memory.boxes
    memory.next_frame()
    memory.boxes = []
    memory.subject_recovered(SUBJECT)
    assert memory.boxes == [touching[1]] and memory.contact is None


def test_the_surroundings_grow_with_the_subject() -> None:
    assert surroundings_of(SUBJECT) == SUBJECT.grown(1.2)
