"""Distractors: other things in the frame that look like the subject, where they are, and whether one touches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from mam_video.core.geometry import Box, gap_between, union_of
from mam_video.core.settings import TrackSettings
from mam_video.tracking.appearance import CandidateRegion

_MIN_AREA = 0.4  # of the subject's area: a smaller region is no distractor
_SIMILAR = 0.85  # colour similarity from which on a region may be taken for the subject
_DENSITY = 0.7  # of the share of its box that the subject fills: scattered patches of its colours are no distractor
_WHOLE = 0.8  # share of the full area from which on all of the subject is taken to be seen
_FORGET = 60  # frames after which a contact is forgotten that has not been seen resolved
_NEAR = 0.1  # gap between two boxes, in sizes of the second, below which they touch


@dataclass(slots=True)
class DistractorContact:
    """A distractor that touches the subject, or has touched it and has not been seen to part since.

    centre, speed  of the subject when the contact began, in frame pixels
    distractor     box of the distractor when they last touched
    resolved       the distractor has probably been seen apart since: no more need for review
    frames         since the contact began
    """

    centre: tuple[float, float]
    speed: tuple[float, float]
    distractor: Box
    resolved: bool = False
    frames: int = 0

    @property
    def expected(self) -> tuple[float, float]:
        """(x, y) where the subject should be by now."""
        return self.centre[0] + self.frames * self.speed[0], self.centre[1] + self.frames * self.speed[1]

    def subject_is_nearest(self, subject: Box, others: Sequence[Box]) -> bool:
        """Return whether the subject is nearer to the expected place than each of `others`, of which there is one."""
        x, y = self.expected
        distances = [float(np.hypot(b.centre[0] - x, b.centre[1] - y)) for b in (subject, *others)]
        return len(distances) > 1 and distances[0] < min(distances[1:])


class DistractorMemory:
    """The known distractors of one subject.

    boxes    where they were last seen, frame pixels
    contact  with one of them; None where there is none
    """

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.contact: DistractorContact | None = None
        self._boxes_before: list[Box] = []  # as of the previous frame

    @property
    def contact_resolved(self) -> bool:
        return self.contact is not None and self.contact.resolved

    def next_frame(self) -> None:
        """Begin a frame."""
        self._boxes_before = self.boxes

    def update(
        self,
        regions: Sequence[CandidateRegion],
        subject: Box,
        area: float,
        full_area: float,
        *,
        speed: tuple[float, float],
        pixels: int,
        min_similarity: float,
    ) -> bool:
        """Take over what else in the frame has the subject's colours; return whether there is a contact.

        A contact ends where both are seen apart again and the subject is nearer than the distractor to where it was
        heading.

        Args:
            regions: of the subject's colours, outside `surroundings_of` the subject.
            subject: its box; `area`: of its mask, as a share of the frame; `full_area`: were all of it seen.
            speed: of the box, frame pixels a frame.
            pixels: of the frame.
            min_similarity: of a region that is followed.
        """
        alike = [r for r in regions if r.area > _MIN_AREA * area and r.similarity > min_similarity]
        around = surroundings_of(subject)
        self._follow(alike, around, whole=area >= _WHOLE * full_area)
        density = _DENSITY * area * pixels / (subject.width * subject.height)
        rivals = [
            r.box for r in alike if r.similarity > _SIMILAR and r.area * pixels > density * r.box.width * r.box.height
        ]
        touching = next((box for box in rivals if gap_between(around, box) < _NEAR), None)
        if touching is not None:
            self.contact = self.contact or DistractorContact(subject.centre, speed, touching)
            self.contact.distractor, self.contact.resolved = touching, False
            self.contact.frames += 1
            return True
        if self.contact is None:
            return False
        return self._resolve(self.contact, alike, rivals, subject, around)

    def _follow(self, alike: Sequence[CandidateRegion], around: Box, *, whole: bool) -> None:
        """Update the boxes.

        New distractors are added only where the whole subject is seen: what comes out behind a pole is the subject. Of
        the known ones, windows as small as what is left of the subject show only parts: they do not shrink meanwhile.
        """
        known = [
            reduce(union_of, parts, box)
            for box in self.boxes
            if (parts := [r.box for r in alike if gap_between(r.box, box) < _NEAR])
        ]
        self.boxes = [r.box for r in alike if gap_between(around, r.box) >= _NEAR] if whole else known

    def _resolve(
        self,
        contact: DistractorContact,
        alike: Sequence[CandidateRegion],
        rivals: Sequence[Box],
        subject: Box,
        around: Box,
    ) -> bool:
        """Go on with a contact in a frame in which nothing touches; return whether it lasts."""
        contact.frames += 1
        if contact.frames > _FORGET or contact.subject_is_nearest(subject, rivals):
            self.contact = None
        # Apart from the subject, what has touched it is known again by less similarity than began the contact.
        apart = [r.box for r in alike if gap_between(r.box, contact.distractor) < _NEAR <= gap_between(around, r.box)]
        contact.resolved |= contact.subject_is_nearest(subject, apart)
        return self.contact is not None

    def separate(
        self, regions: Sequence[CandidateRegion], full_area: float, settings: TrackSettings
    ) -> list[CandidateRegion]:
        """Follow the distractors while the subject is lost; return the regions where it may be instead."""
        distractors: list[CandidateRegion] = []
        free: list[CandidateRegion] = []
        for region in regions:
            if region.similarity < settings.min_similarity or region.area < settings.min_area * full_area:
                continue
            known = any(gap_between(region.box, box) < _NEAR for box in self.boxes)
            (distractors if known else free).append(region)
        unseen = [box for box in self.boxes if not any(gap_between(r.box, box) < _NEAR for r in distractors)]
        self.boxes = [r.box for r in distractors] + unseen
        return free

    def subject_recovered(self, subject: Box) -> None:
        """Take over where the subject was found again: no distractor is there, and no contact lasts."""
        self.boxes = [box for box in self._boxes_before if gap_between(box, subject) >= 0]
        self.contact = None


def surroundings_of(subject: Box) -> Box:
    """Return the box in which everything counts as the subject itself."""
    return subject.grown(0.02 * max(subject.width, subject.height))
