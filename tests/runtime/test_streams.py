"""Streams: order is kept, queues are bounded, and whatever ends first ends all."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mam_video.runtime.streams import ahead, closing_iter, ordered_map


def _threads() -> set[str]:
    return {t.name for t in threading.enumerate()}


def test_all_items_arrive_in_order() -> None:
    assert list(ahead(range(100), 3, "count")) == list(range(100))
    assert list(ordered_map(lambda x: x * x, range(100), 4)) == [x * x for x in range(100)]


def test_the_producer_runs_only_so_far_ahead() -> None:
    made: list[int] = []

    def produce() -> Iterator[int]:
        for i in range(1000):
            made.append(i)
            yield i

    stream = ahead(produce(), 3, "bounded")
    assert next(stream) == 0
    time.sleep(0.3)
    assert len(made) <= 1 + 3 + 1  # given, queued, in hand
    stream.close()


def test_the_first_item_may_tell_how_far() -> None:
    made: list[int] = []

    def produce() -> Iterator[int]:
        for i in range(6, 1000):
            made.append(i)
            yield i

    stream = ahead(produce(), lambda first: first, "told")
    assert next(stream) == 6
    deadline = time.time() + 60
    while time.time() < deadline and len(made) < 1 + 6 + 1:
        time.sleep(0.05)
    time.sleep(0.3)
    assert len(made) == 1 + 6 + 1  # given, queued, in hand
    stream.close()
    assert list(ahead(range(100), lambda first: 3, "count")) == list(range(100))
    assert list(ahead([], lambda first: 1 // 0, "none")) == []


def test_an_error_of_the_producer_is_raised_in_the_consumer_after_what_came_before() -> None:
    def produce() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    got = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in ahead(produce(), 2, "failing"):
            got.append(item)
    assert got == [1, 2]
    assert "failing" not in _threads()


def test_closing_early_closes_the_source_and_joins_the_thread() -> None:
    closed = threading.Event()

    def produce() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    stream = ahead(produce(), 1, "early")
    next(stream)
    stream.close()
    assert closed.is_set()
    assert "early" not in _threads()


def test_nested_streams_end_together_when_the_consumer_fails() -> None:
    def consume() -> None:
        inner = ahead(range(1000), 2, "inner")
        outer = ahead((x + 1 for x in ordered_map(lambda x: x, inner, 2)), 2, "outer")
        for item in outer:
            if item == 5:
                raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        consume()
    deadline = time.time() + 60
    while time.time() < deadline and {"inner", "outer"} & _threads():
        time.sleep(0.05)
    assert not {"inner", "outer"} & _threads()


def test_an_error_in_the_work_is_raised_in_its_turn() -> None:
    def work(x: int) -> int:
        if x == 3:
            raise ValueError("three")
        return x

    got = []
    with pytest.raises(ValueError, match="three"):
        for item in ordered_map(work, range(10), 2):
            got.append(item)
    assert got == [0, 1, 2]


@pytest.mark.parametrize("fails", [False, True])
def test_closing_iter_closes_what_can_be_closed_however_the_block_ends(fails: bool) -> None:
    closed = []

    def produce() -> Iterator[int]:
        try:
            yield from range(3)
        finally:
            closed.append(True)

    with suppress(RuntimeError), closing_iter(produce()) as items:
        assert next(items) == 0
        if fails:
            raise RuntimeError
    assert closed == [True]
    with closing_iter([1, 2]) as items:
        assert list(items) == [1, 2]
