"""Times of a movie that is written: its ticks, where its first frame is moved to, where its last one ends."""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Final

from mam_video.core.errors import UsageError
from mam_video.core.timecode import nominal_rate
from mam_video.media.base import ClipInfo
from mam_video.media.movie.retime import at_rate

MOV_SUFFIXES: Final = (".mov", ".mp4", ".m4v")  # containers of QuickTime's family
MATROSKA_SUFFIXES: Final = (".mkv", ".webm")
_MOST_TICKS: Final = 1 << 31  # a second, in MOV and MP4


class OutputClock:
    """Time stamps of one movie, exact, in ticks of `unit` seconds.

    A clip that starts before time 0 is moved to start there: MOV would hide its first frames behind an edit list. A
    part of a clip is moved to start at 0 too.

    info         of the clip, at the constant rate where there is one
    rate         that rate; None: frames keep their own times
    unit         seconds a tick
    frame_ticks  ticks of one frame at the clip's rate
    shift        ticks added to every time
    first        time of the first frame before that
    last         time of the last frame so far; None before the first
    """

    def __init__(self, path: Path, info: ClipInfo, rate: Fraction | None, *, part: bool, resumable: bool) -> None:
        """`rate`: constant frames a second; None: frames keep their own times.

        Raises: UsageError, this rate cannot be written in the clip's ticks, or in a run that can be resumed.
        """
        self.unit = tick_of(path, info)
        self._last_takes = max(1, round(1 / (info.rate * self.unit))) * self.unit
        self.rate = rate
        if rate is not None:
            self.unit = Fraction(1, lcm(self.unit.denominator, rate.numerator))  # both count whole ticks of it
            self._last_takes = 1 / info.rate
            info = at_rate(info, rate)
            if self.unit.denominator >= _MOST_TICKS or resumable:
                other = "--resume" if resumable else f"times in {info.time_base} s"
                raise UsageError(f"{path}: --rate {rate} does not go with {other}; leave --rate out")
        self.info = info
        self.frame_ticks = max(1, round(1 / (info.rate * self.unit)))
        self.part = part
        self.shift = self.first = 0
        self.last: int | None = None
        self._ticks_per_source_tick = int(info.time_base / self.unit)

    def ticks(self, pts: int) -> int:
        """Convert a source time to ticks of this clock."""
        return pts * self._ticks_per_source_tick

    def place(self, ticks: int) -> int:
        """Return the output time of the next frame, and remember it. Times must grow."""
        if self.last is None:
            self.shift = -ticks if self.part else max(0, -ticks)
            self.first = ticks
        placed = ticks + self.shift
        if self.last is not None and placed <= self.last:
            raise ValueError(f"frame at {placed} comes after one at {self.last}")
        self.last = placed
        return placed

    def resume(self, placed: int, shift: int) -> None:
        """Take over a frame of an earlier run, which has this output time."""
        if self.last is None:
            self.shift, self.first = shift, placed - shift
        self.last = placed

    def end(self) -> Fraction:
        """Return the seconds at which the last frame ends."""
        assert self.last is not None
        return self.last * self.unit + self._last_takes

    def source_seconds(self, ticks: int) -> Fraction:
        """Convert an output time to seconds of the source."""
        return (ticks - self.shift) * self.unit


def tick_of(path: Path, info: ClipInfo) -> Fraction:
    """Return seconds a tick of the output: the clip's own, or finer where FFmpeg needs it to write the timecode.

    FFmpeg counts a MOV's labels at the rate of one frame in whole ticks: 17 of 1/1000 s are 59 a second, not 59.94.
    """
    own = Fraction(1, info.time_base.denominator)
    if info.timecode is None or path.suffix.lower() not in MOV_SUFFIXES:
        return own
    step = max(1, round(1 / (info.rate * own))) * own
    finer = lcm(own.denominator, info.rate.numerator)
    return own if nominal_rate(1 / step) == nominal_rate(info.rate) or finer >= _MOST_TICKS else Fraction(1, finer)
