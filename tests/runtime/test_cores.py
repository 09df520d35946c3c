"""A share of a machine's cores: pools heed it, and with one core nothing runs in another thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from mam_video.runtime import cores
from mam_video.runtime.cores import at_most, codec_threads, one_thread, worker_count
from mam_video.runtime.streams import ahead, ordered_map


def test_a_share_holds_inside_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_available", lambda: 12)
    assert (cores.cores(), worker_count(), codec_threads(), one_thread()) == (12, 6, 0, False)
    with at_most(4):
        assert (cores.cores(), worker_count(), codec_threads(), one_thread()) == (4, 2, 4, False)
        with at_most(1):
            assert (cores.cores(), worker_count(), codec_threads(), one_thread()) == (1, 1, 1, True)
        assert cores.cores() == 4
    with at_most(64):  # more than there are
        assert (cores.cores(), worker_count()) == (12, 6)
    with pytest.raises(RuntimeError), at_most(2):
        raise RuntimeError
    assert cores.cores() == 12


def test_with_one_core_streams_produce_when_asked_in_the_caller_s_thread() -> None:
    made: list[tuple[int, str]] = []
    closed: list[bool] = []

    def produce() -> Iterator[int]:
        try:
            for k in range(100):
                made.append((k, threading.current_thread().name))
                yield k
        finally:
            closed.append(True)

    here = threading.current_thread().name
    with at_most(1):
        stream = ordered_map(lambda k: (k * k, threading.current_thread().name), ahead(produce(), 3, "count"), 4)
        assert [next(stream) for _ in range(3)] == [(0, here), (1, here), (4, here)]
        assert made == [(0, here), (1, here), (2, here)] and not closed
        stream.close()
        assert closed == [True]
        assert list(ordered_map(lambda k: k + 1, ahead(range(5), 2, "few"), 2)) == [1, 2, 3, 4, 5]


def test_with_one_core_errors_come_in_their_turn() -> None:
    def produce() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    got = []
    with at_most(1), pytest.raises(OSError, match="the disk is gone"):
        for item in ahead(produce(), 2, "failing"):
            got.append(item)
    assert got == [1]
