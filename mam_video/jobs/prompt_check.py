"""Judge what was found at a prompt: a box over bare floor gives a mask too, and the user should hear of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from mam_video.core.frames import Matted, Record, State
from mam_video.core.reasons import Finding, Reason
from mam_video.prompts.prompt import Prompt
from mam_video.tracking.types import worst_of

_LEAST_SCORE: Final = 0.78  # subjects of test clips reach 0.81 at the least; half of the bare boxes lie below 0.74
_LEAST_INSIDE: Final = 0.6  # of what was found, by its box; subjects 0.95, floor 0 to 0.9
_LEAST_FILLED: Final = 0.15  # of the prompted box; a box of twice the subject's width and height is filled by 0.25


def judged(record: Record, prompt: Prompt | None) -> Record:
    """Return the record of a prompted frame with findings where its mask does not fit the prompt; else as it is."""
    if prompt is None or prompt.mask is not None or record.state is not State.PROMPTED:
        return record
    findings = []
    if record.score < _LEAST_SCORE:
        findings.append(Finding(Reason.LOW_SCORE, record.score, _LEAST_SCORE))
    if prompt.box is not None:
        shared = record.box.shared_area(prompt.box)
        if shared < _LEAST_INSIDE * record.box.area:
            findings.append(Finding(Reason.OUTSIDE_PROMPT, shared / record.box.area, _LEAST_INSIDE))
        elif shared < _LEAST_FILLED * prompt.box.area:
            findings.append(Finding(Reason.SMALL_IN_PROMPT, shared / prompt.box.area, _LEAST_FILLED))
    return replace(record, findings=(*record.findings, *findings)) if findings else record


def judged_frame(matted: Matted, prompts: Sequence[Prompt | None]) -> Matted:
    """Return a frame with each subject's record judged by its prompt, in the subjects' order."""
    if not any(prompts):
        return matted
    if not matted.parts:
        record = judged(matted.record, prompts[0])
        return matted if record is matted.record else replace(matted, record=record)
    parts = tuple(
        replace(part, record=judged(part.record, prompt)) for part, prompt in zip(matted.parts, prompts, strict=True)
    )
    return replace(matted, record=worst_of([part.record for part in parts]), parts=parts)
