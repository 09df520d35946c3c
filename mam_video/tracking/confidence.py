"""Confidence checks: turn measurements of a mask into findings, and decide which of them need review.

`warnings` lists all of them; they are saved in the frame's record and decide whether the frame becomes a reference.
`ReviewHistory.needs_review` selects those that an artist should review. These never need review: a partial occlusion
with a good mask, a static component that is removed again, and a distractor contact that has been resolved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mam_video.core.frames import Record, State
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import TrackSettings

_LEAST_STABILITY = 0.85  # of a prompted mask: subjects reach 0.90 at the least (pipelines/measure/prompt_boxes.py)
_MAX_GROWTH = 3.0  # a subject that is found again may have grown by this factor
_FLASH = 0.2  # change of light, as a logarithm, from which on colours tell nothing
_SAFE = (Reason.PARTLY_SEEN, Reason.DISTRACTOR_CONTACT)  # the mask itself may be right
_LONG_AGO = 1 << 30  # frames


@dataclass(frozen=True, slots=True)
class MaskEvidence:
    """Measurements of a mask that is not empty.

    score       the segmenter's own estimate of its mask's quality, 0..1
    overlap     IoU with the predicted mask, 0..1; 1 where there is none
    jump        area divided by that of the last frame in which the subject was found
    share       area divided by that of the whole subject
    similarity  of its colours to the subject's, 0..1
    flash       change of light from the previous frame, as a logarithm of the factor
    """

    score: float
    overlap: float
    jump: float
    share: float
    similarity: float
    flash: float


def rejection(evidence: MaskEvidence, bounds: TrackSettings, searching: bool) -> tuple[Finding, ...]:
    """Say why a mask is not the subject's; empty where it may be.

    `searching`: the subject was lost before, or the mask is elsewhere in the frame.
    """
    lit = abs(evidence.flash) < _FLASH
    if evidence.score < bounds.min_score:
        return (Finding(Reason.LOW_SCORE, evidence.score, bounds.min_score),)
    if evidence.share < bounds.min_area:
        return (Finding(Reason.PARTLY_SEEN, evidence.share, bounds.min_area),)
    if searching:
        if evidence.share > _MAX_GROWTH:
            return (Finding(Reason.TOO_LARGE, evidence.share, _MAX_GROWTH),)
        if evidence.similarity < bounds.review_similarity:
            return (Finding(Reason.COLOURS_DIFFER, evidence.similarity, bounds.review_similarity),)
    elif evidence.overlap < bounds.min_overlap and lit:
        return (Finding(Reason.LOW_OVERLAP, evidence.overlap, bounds.min_overlap),)
    elif evidence.similarity < bounds.min_similarity and lit:
        return (Finding(Reason.COLOURS_DIFFER, evidence.similarity, bounds.min_similarity),)
    elif evidence.similarity < bounds.review_similarity and evidence.share < bounds.review_share and lit:
        return (
            Finding(Reason.PARTLY_SEEN, evidence.share, bounds.review_share),
            Finding(Reason.COLOURS_DIFFER, evidence.similarity, bounds.review_similarity),
        )
    return ()


def warnings(evidence: MaskEvidence, bounds: TrackSettings, searching: bool) -> list[Finding]:
    """List all warnings about a mask that is accepted. `searching`: the subject was lost in the previous frame."""
    found = []
    if not searching:
        if evidence.overlap < bounds.review_overlap:
            found.append(Finding(Reason.LOW_OVERLAP, evidence.overlap, bounds.review_overlap))
        if not 1 / bounds.review_area <= evidence.jump <= bounds.review_area:
            found.append(Finding(Reason.AREA_JUMP, evidence.jump, bounds.review_area))
    if evidence.share < bounds.review_share:
        found.append(Finding(Reason.PARTLY_SEEN, evidence.share, bounds.review_share))
    if evidence.similarity < bounds.review_similarity:
        found.append(Finding(Reason.COLOURS_DIFFER, evidence.similarity, bounds.review_similarity))
    if evidence.score < bounds.review_score:
        found.append(Finding(Reason.LOW_SCORE, evidence.score, bounds.review_score))
    return found


def outline_findings(stability: float) -> tuple[Finding, ...]:
    """Say whether a mask that a box gave has no clear outline: over bare ground nothing ends at the mask's edge.

    `stability` is `mask_ops.mask_stability`.
    """
    return (Finding(Reason.VAGUE_OUTLINE, stability, _LEAST_STABILITY),) if stability < _LEAST_STABILITY else ()


def unconfirmed(record: Record, overlap: float, bound: float) -> Record:
    """Make a tracked frame uncertain, since its mask does not lead back; other states stay. See `track_back.py`."""
    if record.state is not State.TRACKED:
        return record
    finding = Finding(Reason.NOT_CONFIRMED, overlap, bound)
    return replace(record, state=State.UNCERTAIN, findings=(*record.findings, finding))


def before_check(record: Record) -> Record:
    """Return the record as the tracker made it, without what `unconfirmed` added."""
    if all(finding.reason is not Reason.NOT_CONFIRMED for finding in record.findings):
        return record
    findings = tuple(finding for finding in record.findings if finding.reason is not Reason.NOT_CONFIRMED)
    return replace(record, state=State.TRACKED, findings=findings)


def safe_to_learn(findings: Iterable[Finding]) -> bool:
    """Return whether a frame with these findings may become a reference: the mask itself may be right."""
    return all(finding.reason in _SAFE for finding in findings)


class ReviewHistory:
    """Which findings were reported in recent frames. It follows from the frames' records alone."""

    def __init__(self) -> None:
        self._removal_age = _LONG_AGO  # frames since a static part was last removed

    def needs_review(
        self, findings: Sequence[Finding], evidence: MaskEvidence, bounds: TrackSettings, contact_resolved: bool
    ) -> list[Finding]:
        """Select the findings that need review.

        `contact_resolved`: the distractor has been seen apart from the subject since it touched it.
        """

        def needs(finding: Finding) -> bool:
            match finding.reason:
                case Reason.STATIC_PART_REMOVED:
                    return self._removal_age > bounds.stand
                case Reason.DISTRACTOR_CONTACT:
                    return not contact_resolved
                case Reason.PARTLY_SEEN:
                    return evidence.share < bounds.hidden_share
            return True

        return [finding for finding in findings if needs(finding)]

    def add(self, findings: Iterable[Finding]) -> None:
        """Remember the findings of the next frame, whatever its state."""
        removed = any(finding.reason is Reason.STATIC_PART_REMOVED for finding in findings)
        self._removal_age = 1 if removed else self._removal_age + 1
