"""Timecode arithmetic, against a slow obvious counter."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest

from mam_video.core.errors import UsageError
from mam_video.core.ranges import FrameRange
from mam_video.core.timecode import Timecode, frame_range, nominal_rate


def labels(rate: int, drop: bool, hours: int = 1) -> Iterator[str]:
    """Every label in order, written down one by one; those that drop-frame leaves out are not."""
    mark = ";" if drop else ":"
    for hour, minute, second, frame in itertools.product(range(hours), range(60), range(60), range(rate)):
        if drop and second == 0 and minute % 10 and frame < 2 * rate // 30:
            continue
        yield f"{hour:02d}:{minute:02d}:{second:02d}{mark}{frame:02d}"


@pytest.mark.parametrize(("rate", "drop"), [(30, True), (60, True), (24, False), (25, False), (30, False)])
def test_every_label_of_an_hour(rate: int, drop: bool) -> None:
    for count, label in enumerate(labels(rate, drop)):
        if count % 7 and 20 < count % 1798 < 1780:  # all around the minutes, a seventh of the rest
            continue
        timecode = Timecode(count, rate, drop)
        assert str(timecode) == label
        assert Timecode.parse(label, rate) == timecode


@pytest.mark.parametrize(("rate", "drop", "day"), [
    (24, False, 2_073_600), (25, False, 2_160_000), (30, False, 2_592_000), (30, True, 2_589_408),
    (60, True, 5_178_816), (50, False, 4_320_000), (48, False, 4_147_200), (120, True, 10_357_632),
])  # fmt: skip
def test_a_day_and_around_midnight(rate: int, drop: bool, day: int) -> None:
    """30 drop: 107 892 frames an hour (SMPTE ST 12-1)."""
    zero = Timecode(0, rate, drop)
    last = zero + -1
    assert zero.a_day == day and last.count == day - 1
    assert str(zero) == ("00:00:00;00" if drop else "00:00:00:00") if rate <= 100 else True
    assert str(last).startswith("23:59:59") and int(str(last)[9:]) == rate - 1
    assert last + 1 == zero and last + (day + 1) == zero
    assert zero.frames_since(last) == 1 and last.frames_since(zero) == -1
    with pytest.raises(ValueError, match="count"):
        Timecode(day, rate, drop)


def test_known_drop_frame_labels() -> None:
    one = Timecode.parse("00:00:59;29", 30)
    assert str(one + 1) == "00:01:00;02"
    assert str(Timecode.parse("00:09:59;29", 30) + 1) == "00:10:00;00"
    assert Timecode.parse("01:00:00;02", 30).count == 107_894
    assert str(Timecode.parse("00:00:59;59", 60) + 1) == "00:01:00;04"
    # an hour of labels is an hour of the clock, to within 4 ms
    hour = Timecode.parse("01:00:00;00", 30).count * Fraction(1001, 30000)
    assert abs(hour - 3600) < Fraction(4, 1000)


@pytest.mark.parametrize("count", [0, 1, 1799, 1800, 17981, 17982, 17983, 107_892, 2_589_407])
def test_adding_is_counting(count: int) -> None:
    start = Timecode(count, 30, True)
    for step in (-100_000, -1, 0, 1, 1798, 1800, 17982, 2_000_000):
        there = start + step
        assert there.count == (count + step) % start.a_day
        assert there + -step == start
        assert (there.frames_since(start) - step) % start.a_day == 0


@pytest.mark.parametrize(("text", "rate"), [
    ("", 24), ("1:2:3", 24), ("00:00:00:24", 24), ("24:00:00:00", 24), ("00:60:00:00", 24), ("00:00:60:00", 24),
    ("00:01:00;00", 30), ("00:01:00;01", 30), ("00:59:00;03", 60), ("00:00:00;00", 25), ("aa:00:00:00", 24),
    ("00:00:00:-1", 24), ("00:00:00:00:00", 24), ("٠٠:00:00:99", 24),
])  # fmt: skip
def test_what_is_no_timecode(text: str, rate: int) -> None:
    with pytest.raises(UsageError) as caught:
        Timecode.parse(text, rate)
    assert "\n" not in str(caught.value)


def test_separators() -> None:
    assert Timecode.parse("00:00:01;00", 30).drop and Timecode.parse("00:00:01.00", 30).drop
    assert not Timecode.parse("00:00:01:00", 30).drop
    assert Timecode.parse("00:00:01:00", 30, drop=True).drop and not Timecode.parse("00:00:01;00", 25, drop=False).drop


@pytest.mark.parametrize(("rate", "nominal"), [
    (Fraction(24000, 1001), 24), (Fraction(30000, 1001), 30), (Fraction(60000, 1001), 60), (Fraction(25), 25),
    (Fraction(2997, 100), 30), (Fraction(1, 10), 1), (Fraction(120000, 1001), 120),
])  # fmt: skip
def test_nominal_rates(rate: Fraction, nominal: int) -> None:
    assert nominal_rate(rate) == nominal


def test_another_rate() -> None:
    for count in (0, 1, 1799, 1800, 17982, 2_589_407):
        slow = Timecode(count, 30, True)
        fast = slow.at_rate(60)
        assert fast.drop and fast.at_rate(30) == slow and str(fast)[:8] == str(slow)[:8]
    assert str(Timecode.parse("10:11:12:12", 24).at_rate(48)) == "10:11:12:24"
    assert str(Timecode.parse("10:11:12:12", 24).at_rate(25)) == "10:11:12:12"
    assert str(Timecode.parse("10:11:12;15", 30).at_rate(25)) == "10:11:12:12"


RANGES: list[tuple[str, str | None, Fraction, tuple[int, int | None]]] = [
    ("20-39", None, Fraction(24), (20, 39)),
    ("20-", None, Fraction(24), (20, None)),
    ("20", None, Fraction(24), (20, 20)),
    ("00:00:04:12", None, Fraction(24), (108, 108)),
    (" 0-0 ", "01:00:00:00", Fraction(24), (0, 0)),
    ("00:00:04:12-", None, Fraction(24), (108, None)),
    ("00:00:04:12-00:00:05:00", None, Fraction(24000, 1001), (108, 120)),
    ("01:00:00:00-01:00:00:09", "01:00:00:00", Fraction(25), (0, 9)),
    ("00:00:00:00-00:00:01:00", "23:59:59:00", Fraction(25), (25, 50)),
    ("00:01:00;02-", "00:00:59;29", Fraction(30000, 1001), (1, None)),
    ("00:01:00:02-", "00:00:59;29", Fraction(30000, 1001), (1, None)),  # a colon will do
]


@pytest.mark.parametrize(("text", "start", "rate", "expected"), RANGES)
def test_ranges(text: str, start: str | None, rate: Fraction, expected: tuple[int, int | None]) -> None:
    first = None if start is None else Timecode.parse(start, nominal_rate(rate))
    assert frame_range(text, first, rate) == FrameRange.inclusive(*expected)


@pytest.mark.parametrize("text", [
    "", "-", "-5", "9-2", "a-b", "1-2-3", "00:00:04:12-3", "00:00:05:00-00:00:04:00",
    "00:00:00:30-", "00:00:04;12-",
])  # fmt: skip
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"no timecode|--range"):
        frame_range(text, None, Fraction(24))


def test_a_range_before_the_clip_starts() -> None:
    with pytest.raises(UsageError, match="starts at 01:00:00:00"):
        frame_range("00:59:59:00-", Timecode.parse("01:00:00:00", 24), Fraction(24))


@pytest.mark.parametrize(("text", "numbers", "expected"), [
    ("1001-1050", range(1001, 1101), (0, 49)),
    ("1003-", range(1001, 1101), (2, None)),
    ("1090-2000", range(1001, 1101), (89, 99)),
    ("1002-1009", (1001, 1004, 1007, 1010), (1, 2)),
    ("0-0", range(0, 5), (0, 0)),
    ("00:00:01:00-", range(1001, 1101), (24, None)),
])  # fmt: skip
def test_ranges_by_the_numbers_of_files(text: str, numbers: Sequence[int], expected: tuple[int, int | None]) -> None:
    assert frame_range(text, None, Fraction(24), numbers) == FrameRange.inclusive(*expected)


@pytest.mark.parametrize("text", ["0-10", "1000-1010", "1101-1200", "1005-1003", "1002-1003", "20"])
def test_ranges_that_no_file_has(text: str) -> None:
    with pytest.raises(UsageError, match="--range") as caught:
        frame_range(text, None, Fraction(24), (1001, 1004, 1007))
    assert "\n" not in str(caught.value)
