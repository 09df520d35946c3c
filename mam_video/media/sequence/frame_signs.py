"""The signs for the frame number in a sequence's name, for inputs and outputs alike: %04d, ####, @@@@, $F4.

A sign that says how many digits a number has (`explicit`) is the frame number before one that does not: one # or @, %d,
%4d or $F. A lone @ in an output's name is a letter, as in hero@2x.png; in an input's name files decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MOST_DIGITS: Final = 9
_SIGN: Final = re.compile(r"%(?P<printf>\d*)d|(?P<repeated>#+|@+)|\$F(?P<houdini>\d*)")


@dataclass(frozen=True, slots=True)
class FrameSign:
    """A sign in a name, from `start` up to `end`.

    digits    that numbers are padded to; 1 where it does not say
    explicit  whether it says how many
    """

    text: str
    start: int
    end: int
    digits: int
    explicit: bool


def frame_signs(name: str) -> list[FrameSign]:
    """Find the signs in a name, in order."""
    found = []
    for match in _SIGN.finditer(name):
        printf, repeated, houdini = match["printf"] or "", match["repeated"] or "", match["houdini"] or ""
        written = printf or houdini
        digits = len(repeated) or (int(written or 1) if len(written) <= MOST_DIGITS else MOST_DIGITS + 1) or 1
        explicit = len(repeated) > 1 or (len(printf) > 1 and printf[0] == "0") or bool(houdini)
        found.append(FrameSign(match[0], *match.span(), digits, explicit))
    return found


def written_number(number: int, padding: int, below: int | None) -> str:
    """Write a frame's number as in its file's name.

    Args:
        padding: digits that it is padded to.
        below: likewise of numbers below zero, without the sign; None: the sign takes the place of one, as in printf.
    """
    if number < 0 and below is not None:
        return f"-{-number:0{below}d}"
    return f"{number:0{padding}d}"


def takes_sign(head: str) -> bool:
    """Return whether a dash behind this beginning of a name is a number's sign."""
    return not head or head[-1] in "._"
