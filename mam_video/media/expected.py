"""What a written movie or sequence should hold, and the checks that compare it with what is there.

A writer states it for its own file (`WholeWriter.expected`); `movie/verify.py` and `sequence/verify.py` state it for
the matte of a plate, read files back and compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Final, Self

from mam_video.core.timecode import Timecode
from mam_video.media.atomic_output import Pattern
from mam_video.media.base import XYXY, Colour

FLOAT_SLACK: Final = 1e-6  # largest error of an alpha in a float EXR
AlphaRanges = Sequence[tuple[float, float]]  # least and largest alpha of each frame, as given to the writer


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison: its subject, whether it passed, and a line that says so."""

    what: str
    good: bool
    says: str

    def __str__(self) -> str:
        return f"{self.what}: {self.says}"


@dataclass(frozen=True, slots=True)
class ExpectedMedia:
    """What a movie should hold. None: this is not compared.

    times        presentation time of each frame, in seconds, exact
    shown        tags of what a display shows, accepted as well as those of `colour`
    sound        number of audio streams
    shows_alpha  whether its alpha, or its gray where it has none, is the matte
    alpha        least and largest alpha of each frame
    alpha_slack  largest error of those after reading back; None: not compared, the codec is lossy
    shows        index of the frame given to the writer that each one shows; None: all, in order
    """

    size: tuple[int, int]
    times: Sequence[Fraction]
    rate: Fraction | None = None
    aspect: Fraction = Fraction(1)
    timecode: Timecode | None = None
    colour: Colour | None = None
    shown: Colour | None = None
    sound: int | None = None
    has_alpha: bool | None = None
    shows_alpha: bool = True
    alpha: AlphaRanges | None = None
    alpha_slack: float | None = None
    shows: Sequence[int] | None = None

    def with_alpha(self, alpha: AlphaRanges) -> Self:
        """Add the alphas that were given to the writer, where its pictures show them."""
        if not self.shows_alpha:
            return self
        return replace(self, alpha=alpha if self.shows is None else [alpha[k] for k in self.shows])


@dataclass(frozen=True, slots=True)
class ExpectedSequence:
    """What a sequence should hold. None: this is not compared.

    size      (H, W) of the picture as matted
    display   EXR's display window
    canvas    union of EXR's data windows and the display window
    depth     "16 bits", "10 bits", "half" or "float"
    channels  names of EXR's channels; for other formats RGBA or the matte alone
    rate, labels, reel  attributes, where the format has a place for them; a label for each frame
    alpha     least and largest alpha of each frame
    alpha_slack  largest error of those after reading back
    pattern   name that it was written under
    """

    numbers: Sequence[int]
    size: tuple[int, int]
    display: XYXY
    canvas: XYXY
    depth: str | None = None
    channels: str | None = None
    rate: Fraction | None = None
    labels: Sequence[str | None] | None = None
    reel: str = ""
    alpha: AlphaRanges | None = None
    alpha_slack: float | None = None
    pattern: Pattern | None = None

    def with_alpha(self, alpha: AlphaRanges) -> Self:
        """Add the alphas that were given to the writer."""
        return replace(self, alpha=alpha)


def rate_of(times: Sequence[Fraction], rate: Fraction) -> Fraction:
    """Return the rate that a header has of frames at these times: that of their step where it is always the same.

    Ticks may not hold the clip's own rate: 24 a second in ticks of 1/100000 s are 100000/4167.
    """
    steps = {b - a for a, b in pairwise(times)}
    return 1 / steps.pop() if len(steps) == 1 else rate
