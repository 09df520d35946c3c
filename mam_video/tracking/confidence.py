"""Confidence checks: turn measurements of a mask into warnings, and decide which of them need review.

`warnings` lists all of them; they are saved in the frame's record and decide whether the frame becomes a reference.
`WarningMemory.news` selects those that an artist should review. These never need review: a partial occlusion with a
good mask, a static component that is removed again, and a distractor contact that has been resolved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mam_video.core.settings import TrackSettings

TOUCHED = "a look-alike touches it or has touched it: they may have been swapped"
TAKEN_OFF = "a part that stood still was taken off: look at the frames before"

_SIZE_BACK = 3.0  # what is found again may have grown by this factor
_FLASH = 0.2  # a step of light, as a logarithm, at which colours say nothing
_HALF_SEEN = "only "
_HARMLESS = (_HALF_SEEN, TOUCHED)  # say nothing against the mask: what is seen may be learnt from
_LONG_AGO = 1 << 30  # frames


@dataclass(frozen=True, slots=True)
class MaskEvidence:
    """What is measured of a mask that is not empty.

    score    how good the segmenter thinks it is, 0..1
    overlap  IoU with the mask before, moved, 0..1; 1 where there is none to compare with
    jump     its area over that of the frame before in which the subject was found
    share    its area over that of the whole subject
    alike    likeness of its colours to the subject's, 0..1
    flash    by which factor the light changed from the frame before, as a logarithm
    """

    score: float
    overlap: float
    jump: float
    share: float
    alike: float
    flash: float


def rejection(seen: MaskEvidence, bars: TrackSettings, sought: bool) -> str | None:
    """Why a mask is not the subject's; None where it may be. `sought`: after it was lost, or somewhere else."""
    lit = abs(seen.flash) < _FLASH
    if seen.score < bars.min_score:
        return f"score {seen.score:.2f} is below {bars.min_score:g}"
    if seen.share < bars.min_area:
        return f"no more than {seen.share:.0%} of it is seen"
    if sought:
        if seen.share > _SIZE_BACK:
            return f"what was found has {seen.share:.2g} times the area that was lost"
        if seen.alike < bars.review_similarity:
            return f"likeness of what was found {seen.alike:.2f} is below {bars.review_similarity:g}"
    elif seen.overlap < bars.min_overlap and lit:
        return f"overlap with the moved mask {seen.overlap:.2f} is below {bars.min_overlap:g}"
    elif seen.alike < bars.min_similarity and lit:
        return f"likeness to the subject {seen.alike:.2f} is below {bars.min_similarity:g}"
    elif seen.alike < bars.review_similarity and seen.share < bars.review_share and lit:
        return f"no more than {seen.share:.0%} of it would be seen, and its likeness is {seen.alike:.2f}"
    return None


def warnings(seen: MaskEvidence, bars: TrackSettings, sought: bool) -> list[str]:
    """What speaks against a mask that is followed. `sought`: it was lost in the frame before."""
    found = []
    if not sought:
        if seen.overlap < bars.review_overlap:
            found.append(f"overlap with the moved mask {seen.overlap:.2f} is below {bars.review_overlap:g}")
        if not 1 / bars.review_area <= seen.jump <= bars.review_area:
            found.append(f"area jumped {seen.jump:.2g} times")
    if seen.share < bars.review_share:
        found.append(f"{_HALF_SEEN}{seen.share:.0%} of it is seen")
    if seen.alike < bars.review_similarity:
        found.append(f"likeness to the subject {seen.alike:.2f} is below {bars.review_similarity:g}")
    if seen.score < bars.review_score:
        found.append(f"score {seen.score:.2f} is below {bars.review_score:g}")
    return found


def safe_to_learn(reasons: Sequence[str]) -> bool:
    """Whether the segmenter may learn from a frame in spite of these warnings."""
    return all(reason.startswith(_HARMLESS) for reason in reasons)


class WarningMemory:
    """What of the last frames decides whether a doubt is news. It follows from their records alone."""

    def __init__(self) -> None:
        self._taken_off = _LONG_AGO  # frames since a part that stood still was last taken off

    def news(self, warnings: Sequence[str], seen: MaskEvidence, bars: TrackSettings, parted: bool) -> list[str]:
        """The warnings that are a cause to look. `parted`: the look-alike has been seen apart since it touched."""

        def told(doubt: str) -> bool:
            if doubt == TAKEN_OFF:
                return self._taken_off > bars.stand
            if doubt == TOUCHED:
                return not parted
            return seen.share < bars.hidden_share or not doubt.startswith(_HALF_SEEN)

        return [doubt for doubt in warnings if told(doubt)]

    def keep(self, reasons: Sequence[str]) -> None:
        """The next frame's, whatever its state."""
        self._taken_off = 1 if TAKEN_OFF in reasons else self._taken_off + 1
