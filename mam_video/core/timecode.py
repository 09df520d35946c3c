"""Timecode: labels HH:MM:SS:FF, counted at a whole rate. A label is neither a time nor a frame index.

At 29.97 frames a second, labels that count 30 to the second run slower than the clock. Drop-frame timecode corrects
this by skipping labels, never frames: 2 at the start of each minute except every tenth, 4 at 59.94. Source: SMPTE ST
12-1.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from mam_video.core.errors import UsageError
from mam_video.core.ranges import FrameRange

MOST_RATE: Final = 1000  # labels a second
_LABEL = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})([:;.,])(\d{2,3})")
_NUMBERS = re.compile(r"(-?\d+)(-(-?\d+|))?")


def nominal_rate(rate: Fraction) -> int:
    """Return the whole rate that labels are counted at: 24 for 24000/1001. At least 1."""
    return max(1, (2 * rate.numerator + rate.denominator) // (2 * rate.denominator))


@dataclass(frozen=True, slots=True)
class Timecode:
    """A label, as the number of frames since 00:00:00:00; it wraps after a day.

    count  0 <= count < a day's frames; labels that drop-frame skips have no count
    rate   labels a second, whole
    drop   drop-frame; for rates that are multiples of 30
    """

    count: int
    rate: int
    drop: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.rate <= MOST_RATE:
            raise UsageError(f"timecode is counted at a whole rate from 1 to {MOST_RATE}, not {self.rate}")
        if self.drop and self.rate % 30:
            raise UsageError(f"drop-frame timecode is for rates of 30, 60 or 120, not {self.rate}")
        if not 0 <= self.count < self.a_day:
            raise ValueError(f"a timecode's count is in 0..{self.a_day - 1}, not {self.count}")

    @classmethod
    def parse(cls, text: str, rate: int, drop: bool | None = None) -> Timecode:
        """Parse 01:00:00:00, or 01:00:00;02 (a semicolon, comma or point means drop-frame).

        Args:
            drop: whether it is drop-frame; None: by the separator.
        Raises: UsageError, the text is no timecode at that rate.
        """
        found = _LABEL.fullmatch(text.strip())
        if found is None:
            raise UsageError(f"'{text}' is no timecode; write HH:MM:SS:FF, as 01:00:00:00")
        hours, minutes, seconds, frames = (int(found[i]) for i in (1, 2, 3, 5))
        if hours > 23 or minutes > 59 or seconds > 59 or frames >= rate:
            raise UsageError(f"'{text}' is no timecode at {rate} frames a second")
        if drop is None:
            drop = found[4] != ":"
        left_out = 0
        if drop:
            each = _dropped_a_minute(rate)
            if minutes % 10 and seconds == 0 and frames < each:
                raise UsageError(
                    f"'{text}' does not exist: drop-frame leaves it out; the label after it ends in {each:02d}"
                )
            left_out = each * (60 * hours + minutes - (6 * hours + minutes // 10))
        return cls(((hours * 60 + minutes) * 60 + seconds) * rate + frames - left_out, rate, drop)

    @property
    def a_day(self) -> int:
        """Frames of a day's labels."""
        return 24 * 3600 * self.rate - (24 * 54 * _dropped_a_minute(self.rate) if self.drop else 0)

    def __str__(self) -> str:
        label = self.count
        if self.drop:
            each = _dropped_a_minute(self.rate)
            minute = 60 * self.rate
            tens, rest = divmod(self.count, 10 * minute - 9 * each)
            minutes = 0 if rest < minute else 1 + (rest - minute) // (minute - each)
            label += each * (9 * tens + minutes)
        seconds, frames = divmod(label, self.rate)
        width = 3 if self.rate > 100 else 2
        mark = ";" if self.drop else ":"
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{frames:0{width}d}"

    def __add__(self, frames: int) -> Timecode:
        """Return the label so many frames later (or earlier); it wraps at midnight."""
        return Timecode((self.count + frames) % self.a_day, self.rate, self.drop)

    def frames_since(self, start: Timecode) -> int:
        """Count the frames from `start` to this label, the shorter way around midnight; negative if it comes before."""
        if (self.rate, self.drop) != (start.rate, start.drop):
            raise ValueError(f"{self} and {start} are counted differently")
        ahead = (self.count - start.count) % self.a_day
        return ahead if ahead <= self.a_day // 2 else ahead - self.a_day

    def at_rate(self, rate: int) -> Timecode:
        """Convert to another whole rate: the label of the same moment.

        It is exact if one rate is a multiple of the other; else hour, minute and second stay, and frames are scaled.
        """
        if rate == self.rate:
            return self
        drop = self.drop and rate % 30 == 0
        if drop == self.drop and (rate % self.rate == 0 or self.rate % rate == 0):
            return Timecode(self.count * rate // self.rate, rate, drop)
        head, frames = str(self)[:8], int(str(self)[9:])
        return Timecode.parse(f"{head}:{frames * rate // self.rate:02d}", rate, drop)


def _dropped_a_minute(rate: int) -> int:
    return 2 * (rate // 30)


def frame_range(text: str, start: Timecode | None, rate: Fraction, numbers: Sequence[int] | None = None) -> FrameRange:
    """Parse FIRST-LAST, both inclusive, as frame numbers or timecodes; one of them alone is a range of one frame.

    Args:
        text: as 20-39, 20-, 00:00:04:12-00:00:06:00 or 00:00:04:12-; numbers count from 0, or are those of the files. A
            timecode may be typed with a colon where the clip's is drop-frame.
        start: the clip's first label; None: 00:00:00:00 at the nominal rate.
        numbers: of a sequence, the number of each frame's file; None: frames count from 0.
    Raises: UsageError, naming the range.
    """
    plain = text.strip()
    counted = "1001-1050 (numbers of the files)" if numbers else "20-39 (counted from 0), 20-"
    wrong = f"--range '{text}' is not of the form FIRST-LAST, as in {counted} or 00:00:04:12-"
    backwards = f"--range '{text}': the first frame comes after the last"
    if found := _NUMBERS.fullmatch(plain):
        first = int(found[1])
        last = first if found[2] is None else int(found[3]) if found[3] else None
        if numbers:
            if last is not None and last < first:
                raise UsageError(backwards)
            return _range_of_numbers(first, last, numbers, text)
        if first < 0:
            raise UsageError(wrong)
    else:
        begin, dash, end = plain.partition("-")
        if ":" not in begin:
            raise UsageError(wrong)
        origin = start or Timecode(0, nominal_rate(rate))
        first = _index(begin, origin, text)
        last = _index(end, origin, text) if end.strip() else None if dash else first
    if last is not None and last < first:
        raise UsageError(backwards)
    return FrameRange.inclusive(first, last)


def _index(label: str, start: Timecode, text: str) -> int:
    if ";" in label and not start.drop:
        raise UsageError(f"--range '{text}': the clip's timecode is not drop-frame; write {label.replace(';', ':')}")
    index = Timecode.parse(label, start.rate, start.drop).frames_since(start)
    if index < 0:
        raise UsageError(f"--range '{text}': the clip starts at {start}, after {label.strip()}")
    return index


def _range_of_numbers(first: int, last: int | None, numbers: Sequence[int], text: str) -> FrameRange:
    """Find the frames whose numbers lie in first..last."""
    if not numbers[0] <= first <= numbers[-1]:
        raise UsageError(f"--range '{text}': the sequence's frames are numbered {numbers[0]} to {numbers[-1]}")
    start = bisect_left(numbers, first)
    stop = None if last is None else bisect_right(numbers, last)
    if stop is not None and stop <= start:
        raise UsageError(f"--range '{text}': the sequence has no frame of these numbers")
    return FrameRange(start, stop)
