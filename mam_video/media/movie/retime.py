"""A constant rate from a variable one: which frame each picture shows. Exact, and holding nothing.

Picture k stands at k / rate. A frame takes over at the picture that is nearest to its own time (of two equally near
ones, at the later) and stays until the next frame does, so that rounded times of a camera or a container neither
drop nor repeat any.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import floor

from mam_video.core.timecode import nominal_rate
from mam_video.media.base import ClipInfo


class Retimer:
    """Told the times of frames in growing order, says which pictures each is shown in.

    dropped, repeated  frames shown in no picture; pictures that show a frame once more
    """

    def __init__(self, rate: Fraction) -> None:
        self.dropped = self.repeated = 0
        self._rate = rate
        self._next: int | None = None  # the first picture that is not given away
        self._any = False

    def until(self, time: Fraction) -> range:
        """The pictures of the frame before, now that a frame comes at `time` seconds; none before the first frame."""
        picture = floor(time * self._rate + Fraction(1, 2))
        if self._next is None:
            self._next = picture
            return range(0)
        shown = range(self._next, picture)
        self._next = picture
        self._any = self._any or bool(shown)
        self.dropped += not shown
        self.repeated += max(len(shown) - 1, 0)
        return shown

    def end(self, time: Fraction) -> range:
        """The pictures of the last frame, which is shown until `time`; one at least where no other frame has any."""
        assert self._next is not None
        one = Fraction(0) if self._any else (self._next + 1) / self._rate
        return self.until(max(time, one))

    def message(self) -> str:
        """One line for the user."""
        frames = "frame" if self.dropped == 1 else "frames"
        rate = str(self._rate) if self._rate.denominator == 1 else f"{self._rate} ({float(self._rate):.3f})"
        return f"at {rate} frames a second: {self.dropped} {frames} dropped, {self.repeated} repeated"


def at_rate(info: ClipInfo, rate: Fraction) -> ClipInfo:
    """The same clip at a constant rate; its first label is that of the same moment."""
    label = info.timecode
    if label is not None:
        label = label.at_rate(nominal_rate(rate))
    return replace(info, rate=rate, timecode=label)
