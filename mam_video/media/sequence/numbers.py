"""Numbers of the frames that are written as a sequence."""

from __future__ import annotations

from typing import Final

from mam_video.core.ranges import FrameRange
from mam_video.core.settings import OutputSettings
from mam_video.media.atomic_output import Numbers
from mam_video.media.base import ClipInfo

FIRST_OF_A_MOVIE: Final = 1001  # number of a movie's first frame where it is written as a sequence


def number_of(info: ClipInfo, start_number: int | None, index: int) -> int:
    """Return the number that frame `index` of a clip is written under; `start_number` as in `OutputSettings`."""
    if start_number is not None:
        return start_number + index
    if info.numbers is not None:
        return info.numbers[index]
    return FIRST_OF_A_MOVIE + index


def numbers_of(info: ClipInfo, settings: OutputSettings, frames: FrameRange | None) -> Numbers:
    """Return first and last number that a range of frames is written under; the last is None where it is not known.

    `frames`: the range; None: the whole clip.
    """
    part = frames or FrameRange()
    first, last = part.start, part.last
    if info.numbers is not None:
        end = len(info.numbers) - 1
        first, last = min(first, end), end if last is None else min(last, end)
    numbers = [None if index is None else number_of(info, settings.start_number, index) for index in (first, last)]
    assert numbers[0] is not None
    return numbers[0], numbers[1]
