"""Reason codes: why a frame has its state, as stable codes with the measured value and its bound.

The tracker decides by codes alone. `report/sentences.py` makes the sentences that users read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """The codes. They stand in track files and in run.json, so that a code never changes its meaning."""

    LOW_SCORE = "low_score"  # value: the segmenter's score, 0..1
    LOW_OVERLAP = "low_overlap"  # value: IoU with the previous mask, warped by the motion
    AREA_JUMP = "area_jump"  # value: area divided by that of the last frame in which the subject was found
    PARTLY_SEEN = "partly_seen"  # value: share of the subject's full area
    TOO_LARGE = "too_large"  # value: likewise, of a candidate after the subject was lost
    COLOURS_DIFFER = "colours_differ"  # value: similarity to the subject's colours, 0..1
    DISTRACTOR_CONTACT = "distractor_contact"  # something that looks alike touches it or has touched it
    STATIC_PART_REMOVED = "static_part_removed"  # a part that does not move was removed from the mask
    STATIC_PART_HELD = "static_part_held"  # holds a part that does not move, and that is removed in a later frame
    NOTHING_FOUND = "nothing_found"
    NOTHING_AT_PROMPT = "nothing_at_prompt"  # the prompt shows nothing that the segmenter can find
    OUTSIDE_PROMPT = "outside_prompt"  # value: share of what was found that lies in the prompted box
    VAGUE_OUTLINE = (
        "vague_outline"  # value: area of the sure part of the prompted frame's mask, divided by the possible one
    )
    SMALL_IN_PROMPT = "small_in_prompt"  # value: share of the prompted box that is filled
    LEFT_FRAME = "left_frame"
    FOUND_AGAIN = "found_again"  # value: number of frames in which it was lost
    FOUND_ELSEWHERE = "found_elsewhere"  # lost and found by its colours within one frame
    NO_PROMPT_IN_SHOT = "no_prompt_in_shot"  # value: index of the shot's first frame
    TRACKED_THROUGH_CUT = "tracked_through_cut"
    PASSES_DIFFER = "passes_differ"  # value: IoU of the masks tracked from the prompts before and after
    NOT_CONFIRMED = "not_confirmed"  # value: IoU of the mask tracked back and the one it came from
    MEETS_SUBJECT = "meets_subject"  # other: the name of the subject it may have been swapped with
    SHARES_PIXELS = "shares_pixels"  # value: share of the smaller mask; other: the subject whose mask holds them too
    OTHER = "other"  # text: a sentence of a track file that holds no codes


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason with its numbers.

    value    what was measured; the codes say of what
    bound    what the value was compared with
    other    name of the other subject that is involved
    subject  whose finding it is, in the record of several subjects together
    text     a sentence that was read from a file without codes
    """

    reason: Reason
    value: float | None = None
    bound: float | None = None
    other: str = ""
    subject: str = ""
    text: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; fields that are not set are left out."""
        more = {
            "value": self.value,
            "bound": self.bound,
            "other": self.other or None,
            "subject": self.subject or None,
            "text": self.text or None,
        }
        return {"code": str(self.reason), **{name: value for name, value in more.items() if value is not None}}

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Finding:
        """Read what `as_dict` gave. Raises: KeyError, TypeError or ValueError, the entry is damaged."""
        if not isinstance(entry, dict):
            raise TypeError("a finding is not a table")
        value, bound = (None if entry.get(name) is None else float(entry[name]) for name in ("value", "bound"))
        if not all(math.isfinite(number) for number in (value, bound) if number is not None):
            raise ValueError("a number is not finite")
        names = (str(entry.get(name, "")) for name in ("other", "subject", "text"))
        return cls(Reason(entry["code"]), value, bound, *names)

    @classmethod
    def from_text(cls, text: str) -> Finding:
        """Read a sentence of a track file that was written before there were codes.

        Three of these decide how tracking goes on when a run is resumed, so that they get their codes.
        """
        code = next((reason for start, reason in _LEGACY if text.startswith(start)), Reason.OTHER)
        return cls(code, text=text)


_LEGACY = (
    ("only ", Reason.PARTLY_SEEN),
    ("a look-alike touches it or has touched it", Reason.DISTRACTOR_CONTACT),
    ("a part that stood still was taken off", Reason.STATIC_PART_REMOVED),
)
