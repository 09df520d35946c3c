"""Ranges of frames are half-open inside and inclusive where users type them."""

from __future__ import annotations

import pytest

from mam_video.core.errors import UsageError
from mam_video.core.ranges import FrameRange


def test_what_a_range_holds() -> None:
    part = FrameRange.inclusive(3, 5)
    assert part == FrameRange(3, 6) == FrameRange.of((3, 5)) and FrameRange.of(part) is part
    assert [index for index in range(9) if index in part] == [3, 4, 5]
    assert (part.last, str(part)) == (5, "3-5")
    rest = FrameRange.of((3, None))
    assert rest == FrameRange(3) and (rest.last, str(rest)) == (None, "3-") and 10**9 in rest and 2 not in rest
    assert FrameRange.of(None) is None


def test_counts_and_handles() -> None:
    assert [FrameRange(3, 6).count(clip) for clip in (None, 9, 5, 2)] == [3, 3, 2, 0]
    assert [FrameRange(3).count(clip) for clip in (None, 9)] == [None, 6]
    assert FrameRange(3, 6).widened(2) == FrameRange(1, 8) and FrameRange(1).widened(2) == FrameRange(0)


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (5, 5), (5, 2)])
def test_ranges_that_are_none(start: int, stop: int | None) -> None:
    with pytest.raises(UsageError, match="is not a range of frames"):
        FrameRange(start, stop)
