"""A constant rate from a variable one: which frame each picture shows. Exact, and holding nothing.

Picture k stands at k / rate. A frame takes over at the picture that is nearest to its own time (of two equally near
ones, at the later) and stays until the next frame does, so that rounded times of a camera or a container neither
drop nor repeat any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Generic, TypeVar

from mam_video.core.timecode import nominal_rate
from mam_video.media.base import ClipInfo

P = TypeVar("P")


class Retimer:
    """Say which pictures show each frame, given the times of the frames in growing order.

    dropped, repeated  frames shown in no picture; pictures that show a frame once more
    """

    def __init__(self, rate: Fraction) -> None:
        self.dropped = self.repeated = 0
        self._rate = rate
        self._next: int | None = None  # the first picture that is not given away
        self._any = False

    def until(self, time: Fraction) -> range:
        """Return the pictures of the frame before, now that one comes at `time` seconds; none before the first."""
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
        """Return the pictures of the last frame, shown until `time`; one at least where no other frame has any."""
        assert self._next is not None
        one = Fraction(0) if self._any else (self._next + 1) / self._rate
        return self.until(max(time, one))

    def message(self) -> str:
        """Say in one line how many frames were dropped and repeated."""
        frames = "frame" if self.dropped == 1 else "frames"
        rate = str(self._rate) if self._rate.denominator == 1 else f"{self._rate} ({float(self._rate):.3f})"
        return f"at {rate} frames a second: {self.dropped} {frames} dropped, {self.repeated} repeated"


class FrameRetimer(Generic[P]):
    """Frames at a constant rate: holds the last one, and gives it once for each picture that shows it.

    shows  which of the frames handed over each picture shows
    """

    def __init__(self, rate: Fraction) -> None:
        self.shows: list[int] = []
        self._retimer = Retimer(rate)
        self._held: P | None = None
        self._given = 0

    def add(self, frame: P, time: Fraction) -> Iterator[tuple[P, int]]:
        """Take the frame at `time` seconds; yield the one before with each picture that shows it."""
        yield from self._show(self._retimer.until(time))
        self._held, self._given = frame, self._given + 1

    def end(self, time: Fraction) -> Iterator[tuple[P, int]]:
        """Yield the last frame with each picture that shows it; it is shown until `time` seconds."""
        yield from self._show(self._retimer.end(time))

    def _show(self, pictures: range) -> Iterator[tuple[P, int]]:
        for picture in pictures:
            assert self._held is not None
            yield self._held, picture
            self.shows.append(self._given - 1)

    def message(self) -> str:
        """Say in one line how many frames were dropped and repeated."""
        return self._retimer.message()


def at_rate(info: ClipInfo, rate: Fraction) -> ClipInfo:
    """Return the same clip at a constant rate; its first label is that of the same moment."""
    label = info.timecode
    if label is not None:
        label = label.at_rate(nominal_rate(rate))
    return replace(info, rate=rate, timecode=label)
