"""A range of frames: half-open, counted from 0. Inclusive pairs exist only where a user types them."""

from __future__ import annotations

from dataclasses import dataclass

from mam_video.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class FrameRange:
    """The frames `start <= index < stop` of a clip; `stop` None: to its end. Never empty.

    Raises: UsageError, `start` is negative or `stop` is not beyond it.
    """

    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop <= self.start):
            raise UsageError(f"range {self} is not a range of frames; give FIRST-LAST, counted from 0")

    @classmethod
    def inclusive(cls, first: int, last: int | None) -> FrameRange:
        """Make the range of the frames `first` to `last`, both included; `last` None: to the clip's end."""
        return cls(first, None if last is None else last + 1)

    @classmethod
    def of(cls, frames: FrameRange | tuple[int, int | None] | None) -> FrameRange | None:
        """Take a range as it is, or make one of an inclusive pair."""
        return frames if frames is None or isinstance(frames, FrameRange) else cls.inclusive(*frames)

    @property
    def last(self) -> int | None:
        """Index of the last frame; None: the clip's last."""
        return None if self.stop is None else self.stop - 1

    def __str__(self) -> str:
        """As users type it: FIRST-LAST, both inclusive."""
        return f"{self.start}-{'' if self.stop is None else self.stop - 1}"

    def __contains__(self, index: int) -> bool:
        return self.start <= index and (self.stop is None or index < self.stop)

    def widened(self, frames: int) -> FrameRange:
        """Add so many frames on both sides, as far as there are any before."""
        return FrameRange(max(self.start - frames, 0), None if self.stop is None else self.stop + frames)

    def count(self, clip: int | None) -> int | None:
        """Count the frames of this range in a clip of `clip` frames; None where that is not known."""
        if clip is None:
            return None if self.stop is None else self.stop - self.start
        return max((clip if self.stop is None else min(self.stop, clip)) - self.start, 0)
