"""Sentences for users: what each reason code means and, where it helps, what to do. All wording of findings is here."""

from __future__ import annotations

from collections.abc import Sequence

from mam_video.core.reasons import Finding, Reason

_PLAIN = {
    Reason.DISTRACTOR_CONTACT: "touches something that looks like it: from here on check that they have not traded "
    "places",
    Reason.STATIC_PART_REMOVED: "something that does not move had been matted as well and is dropped from here on: "
    "check the frames before",
    Reason.STATIC_PART_HELD: "holds something that does not move and is dropped later: it may not be the subject",
    Reason.NOTHING_FOUND: "nothing was found",
    Reason.NOTHING_AT_PROMPT: "nothing was found where the prompt points",
    Reason.LEFT_FRAME: "it has left the picture",
    Reason.FOUND_ELSEWHERE: "found in another place by its colours: check that it is the same subject",
    Reason.TRACKED_THROUGH_CUT: "a hard cut lies before this frame, and tracking went on through it",
}


def sentences(findings: Sequence[Finding]) -> list[str]:
    """Return one sentence for each kind of finding, in the order in which the kinds first occur.

    Findings that differ only in their numbers share one sentence, which then holds the range of the values.
    """
    return [sentence(group) for group in grouped(findings)]


def grouped(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Group findings that share a sentence: those of one code, one subject and one other subject."""
    return [[findings[k] for k in group] for group in positions(findings)]


def positions(findings: Sequence[Finding]) -> list[list[int]]:
    """Return the positions of the findings of each group of `grouped`."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for k, finding in enumerate(findings):
        key = (finding.reason, finding.subject, finding.other, finding.text)
        groups.setdefault(key, []).append(k)
    return list(groups.values())


def sentence(group: list[Finding]) -> str:
    """Return the sentence for findings of one kind."""
    first = group[0]
    values = [finding.value for finding in group if finding.value is not None]
    owner = f"{first.subject}: " if first.subject else ""
    return owner + (first.text or _sentence_of_code(first, values))


def _sentence_of_code(finding: Finding, values: list[float]) -> str:
    if plain := _PLAIN.get(finding.reason):
        return plain
    if finding.reason is Reason.MEETS_SUBJECT:
        return (
            f"touches '{finding.other}', which has similar colours: from here on check that the two have not traded "
            "places"
        )
    if not values:
        return str(finding.reason).replace("_", " ")
    if finding.reason is Reason.SHARES_PIXELS:
        return (
            f"the masks of it and of '{finding.other}' share {_percent(min(values), max(values))} of the smaller one, "
            "which is divided between them: draw tighter boxes"
        )
    return _measured(finding.reason, min(values), max(values), finding.bound)


def _measured(reason: Reason, low: float, high: float, bound: float | None) -> str:
    """Return the sentence for values from `low` to `high`."""
    least = "" if bound is None else f", at least {bound:g} expected"
    match reason:
        case Reason.LOW_SCORE:
            return f"the model is unsure of the mask: score {_span(low, high)}{least}"
        case Reason.LOW_OVERLAP:
            return (
                "the mask changed shape suddenly, it may be on something else: overlap with the frame before "
                f"{_span(low, high)}{least}"
            )
        case Reason.AREA_JUMP:
            return _jump(low, high)
        case Reason.PARTLY_SEEN:
            return f"the mask has only {_percent(low, high)} of its usual size: partly hidden, or partly missed"
        case Reason.TOO_LARGE:
            return f"what was found is {_times(high)} times larger than the subject was"
        case Reason.COLOURS_DIFFER:
            return f"its colours are not the subject's: similarity {_span(low, high)}{least}"
        case Reason.FOUND_AGAIN:
            frames = f"{high:.0f} lost frame{'s' if high > 1 else ''}"
            return f"found again after {frames}: check that it is the same subject"
        case Reason.NO_PROMPT_IN_SHOT:
            return f"no prompt shows the subject in the shot that begins at frame {high:.0f}"
        case Reason.OUTSIDE_PROMPT:
            return f"{_percent(low, high)} of what was found lies in the prompted box: check that it is the subject"
        case Reason.VAGUE_OUTLINE:
            return (
                f"the mask has no clear outline, {_percent(low, high)} of it is sure: check that the prompt shows the "
                "subject"
            )
        case Reason.SMALL_IN_PROMPT:
            return (
                f"something was found in only {_percent(low, high)} of the prompted box: check that it is the subject"
            )
        case Reason.PASSES_DIFFER:
            return (
                "tracking from the prompts before and after differs here, a prompt near this frame helps: overlap "
                f"{_span(low, high)}{least}"
            )
        case Reason.NOT_CONFIRMED:
            return (
                "tracked back, the mask does not lead to the prompted subject: check that it has not slipped to "
                f"something else: overlap {_span(low, high)}{least}"
            )
    return str(reason).replace("_", " ")


def _span(low: float, high: float) -> str:
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"


def _percent(low: float, high: float) -> str:
    return f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{100 * low:.0f}-{high:.0%}"


def _times(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}".removesuffix(".0")


def _jump(low: float, high: float) -> str:
    """Return the sentence for a jump of the area; several may go either way."""
    ways = [f"{_times(high)} times larger"] if high > 1 else []
    ways += [f"{_times(1 / max(low, 1e-9))} times smaller"] if low < 1 else []
    return f"the mask is suddenly {' or '.join(ways)}: it may be on something else"
