"""Notes of a run: the sentences that tell users what was done and what to do about it. One function a note.

Frames are given as users call them: by a sequence's file numbers, by a movie's indices. No function knows how a run
works; each takes plain values and returns no line or one.
"""

from __future__ import annotations

from collections.abc import Sequence

_MAX_LISTED = 20  # frames listed by number; further ones are counted


def broken_frames(frames: Sequence[int], *, of_sequence: bool) -> list[str]:
    """Tell which frames could not be decoded."""
    if not frames:
        return []
    which = "frame {} is" if len(frames) == 1 else "frames {} are"
    damaged = "missing or damaged" if of_sequence else "damaged"
    return [f"{which.format(_list(frames))} {damaged} in the clip; the frame before stands in"]


def stopped_at_cut(frame: int) -> list[str]:
    """Tell that the run ended before a cut."""
    return [
        f"stopped before frame {frame}, where a new shot begins; matte it by itself with --range and a prompt of its "
        "own, or go on with --on-cut reprompt or continue"
    ]


def tracked_through_cuts(frames: Sequence[int]) -> list[str]:
    """Tell before which frames tracking went on through a cut."""
    return [f"tracking went on through hard cuts before {_frames(frames)}: look there"] if frames else []


def shots_without_prompt(frames: Sequence[int]) -> list[str]:
    """Tell at which frames shots begin in which no prompt shows the subject."""
    if not frames:
        return []
    add = f"add --prompt {frames[0]}:box=..."
    if len(frames) == 1:
        what = f"the shot that begins at {_frames(frames)} has no prompt, so its alpha is empty; {add}"
    else:
        what = f"the shots that begin at {_frames(frames)} have no prompt, so their alpha is empty; {add} and so on"
    return [f"{what}, or pass --on-cut continue if this is not a cut"]


def prompted_frames(frames: Sequence[int]) -> list[str]:
    """Tell which frames have prompts, where there are several."""
    return [f"prompts on frames {', '.join(map(str, frames))}"] if len(frames) > 1 else []


def subjects_together(outputs: Sequence[str], subjects: Sequence[str], placeholder: str) -> list[str]:
    """Tell which outputs hold several subjects together, and that `placeholder` in a name separates them."""
    if not outputs or len(subjects) < 2:
        return []
    hold = "holds" if len(outputs) == 1 else "hold"
    names = f"{', '.join(subjects[:-1])} and {subjects[-1]}"
    return [
        f"{', '.join(outputs)} {hold} {names} together; for one file each, put {placeholder} in the name: "
        f"-o '{placeholder}.mov'"
    ]


def resumed(frames: int) -> list[str]:
    """Tell after how many frames the run went on."""
    return [f"resumed after {frames} frames; times by stage are of the others"] if frames else []


def _frames(frames: Sequence[int]) -> str:
    return f"frame{'s' if len(frames) > 1 else ''} {_list(frames)}"


def _list(frames: Sequence[int]) -> str:
    more = f" and {len(frames) - _MAX_LISTED} more" if len(frames) > _MAX_LISTED else ""
    return ", ".join(map(str, frames[:_MAX_LISTED])) + more
