"""Assess masks against what is known of one subject: its area, its colours, the light and the distractors around it."""

from __future__ import annotations

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame, Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import TrackSettings
from mam_video.tracking.appearance import Appearance, CandidateRegion, ColourHistogram, Light, histogram_of
from mam_video.tracking.confidence import MaskEvidence, ReviewHistory, rejection, warnings
from mam_video.tracking.distractors import DistractorMemory, surroundings_of
from mam_video.tracking.mask_ops import mask_area
from mam_video.tracking.selection import Selection
from mam_video.tracking.types import Prediction, TrackStep

_SHRINK, _GROW = 1.02, 1.08  # by which the full area may change a frame beyond what the motion says


class AreaModel:
    """The subject's area, as a share of the frame.

    last      when it was last seen
    full      what it would be if all of it were seen
    full_box  its box when it was last seen without any finding
    """

    def __init__(self) -> None:
        self.last = 0.0
        self.full = 0.0
        self.full_box: Box | None = None

    def predict(self, scale: float) -> None:
        """Grow with the motion: a subject that comes nearer grows, one that goes behind a pole does not shrink."""
        self.full *= scale**2

    def update(self, record: Record, logits: np.ndarray, crop: Crop, frame_size: tuple[int, int]) -> None:
        """Take over a frame. `logits`: its mask; of a lost frame, where the subject is assumed to be."""
        if record.state is State.LOST:
            if self.last == 0.0:
                self.last = self.full = mask_area(logits, crop, frame_size)
            return
        self.last = record.area
        prompted = record.state is State.PROMPTED
        self.full = record.area if prompted else float(np.clip(record.area, self.full / _SHRINK, self.full * _GROW))
        if record.state is not State.RECOVERED and not record.findings:
            self.full_box = record.box


class SubjectModel:
    """Area, colours, light and distractors of one subject, frame by frame.

    lost  frames since it was last seen
    """

    def __init__(self, settings: TrackSettings) -> None:
        self.settings = settings
        self.areas = AreaModel()
        self.light = Light()
        self.appearance = Appearance()
        self.distractors = DistractorMemory()
        self.review = ReviewHistory()
        self.lost = 0
        self._histograms: dict[tuple[int, Crop, float, bytes], ColourHistogram] = {}  # of the current frame

    def next_frame(self, step: TrackStep) -> None:
        """Begin a frame: follow the light."""
        self.light.update(step.frame, step.motion)
        self.distractors.next_frame()
        self._histograms.clear()

    def _histogram(self, frame: Frame, crop: Crop, logits: np.ndarray, gain: float) -> ColourHistogram:
        """Return the histogram of a mask, as `histogram_of`; each is measured once, though several steps ask for it."""
        key = frame.index, crop, gain, (logits > 0).tobytes()
        if key not in self._histograms:
            self._histograms[key] = histogram_of(frame, crop, logits, gain)
        return self._histograms[key]

    def evidence(self, frame: Frame, found: Selection, crop: Crop) -> MaskEvidence:
        """Measure a mask that is not empty against what is known of the subject."""
        area = mask_area(found.logits, crop, frame.size)
        jump, share = area / max(self.areas.last, 1e-9), area / max(self.areas.full, 1e-9)
        similarity = max(
            self.appearance.similarity(self._histogram(frame, crop, found.logits, gain)) for gain in self.light.gains
        )
        return MaskEvidence(found.score, found.overlap, jump, share, similarity, self.light.step)

    def rejection(
        self, frame: Frame, found: Selection, crop: Crop, prediction: Prediction | None
    ) -> tuple[Finding, ...]:
        """Say why a mask is not the subject's; empty where it may be. `prediction` None: it is elsewhere."""
        if found.box is None or not (found.logits > 0).any():
            exiting = prediction is not None and prediction.exiting
            return (Finding(Reason.LEFT_FRAME if exiting else Reason.NOTHING_FOUND),)
        searching = self.lost > 0 or prediction is None
        return rejection(self.evidence(frame, found, crop), self.settings, searching)

    def assess(
        self, frame: Frame, found: Selection, box: Box, crop: Crop, removed: bool, speed: tuple[float, float]
    ) -> Record:
        """Turn an accepted mask, tight in `box`, into a record with its state and findings.

        `removed`: a static part was removed from it. `speed`: of the box before this frame, frame pixels a frame.
        """
        area = mask_area(found.logits, crop, frame.size)
        evidence = self.evidence(frame, found, crop)
        findings = warnings(evidence, self.settings, searching=self.lost > 0)
        if self.touches_distractor(frame, box, area, speed):
            findings.append(Finding(Reason.DISTRACTOR_CONTACT))
        if removed:
            findings.append(Finding(Reason.STATIC_PART_REMOVED))
        flagged = self.review.needs_review(findings, evidence, self.settings, self.distractors.contact_resolved)
        state = State.RECOVERED if self.lost else State.UNCERTAIN if flagged else State.TRACKED
        if self.lost:
            findings.insert(0, self.found_again())
        return Record(frame.index, frame.pts, state, box, found.score, area, tuple(findings))

    def found_again(self) -> Finding:
        """Return the finding of a recovered frame."""
        return Finding(Reason.FOUND_AGAIN, float(self.lost)) if self.lost else Finding(Reason.FOUND_ELSEWHERE)

    def regions_elsewhere(self, frame: Frame) -> list[CandidateRegion]:
        """Return where else in the frame a lost subject may be. Known distractors are followed, and left out."""
        box = self.areas.full_box
        if not self.settings.search or box is None:
            return []
        small = self.light.small
        regions = [
            region
            for gain in self.light.gains
            for region in self.appearance.candidate_regions(frame, gain, box, small=small)
        ]
        return self.distractors.separate(regions, self.areas.full, self.settings)

    def touches_distractor(self, frame: Frame, box: Box, area: float, speed: tuple[float, float]) -> bool:
        """Update the distractors; return whether one touches the subject, or has and has not been seen apart since.

        `box`, `area` and `speed` are the subject's: frame pixels, share of the frame, frame pixels a frame.
        """
        around = surroundings_of(box)
        regions = self.appearance.candidate_regions(
            frame, self.light.gain, box, apart_from=around, small=self.light.small
        )
        return self.distractors.update(
            regions, box, area, self.areas.full, speed=speed, pixels=frame.size[0] * frame.size[1],
            min_similarity=self.settings.review_similarity,
        )  # fmt: skip

    def update(
        self, frame: Frame, record: Record, logits: np.ndarray, crop: Crop, prediction: Prediction | None
    ) -> None:
        """Take over a frame. `logits`: (m, m) float32, its mask; of a lost frame, where the subject may be."""
        self.review.add(record.findings)
        self.lost = self.lost + 1 if record.state is State.LOST else 0
        if prediction is not None and record.state is State.RECOVERED:
            self.distractors.subject_recovered(record.box)
        self.areas.update(record, logits, crop, frame.size)
        if record.state not in (State.LOST, State.RECOVERED) and not record.findings:
            histogram = self._histogram(frame, crop, logits, self.light.gain)
            self.appearance.learn(histogram, record.index, record.state is State.PROMPTED)
