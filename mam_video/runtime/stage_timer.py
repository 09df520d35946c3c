"""Measure the seconds of each stage, added up over threads.

Stages overlap, so their sum is more than the run's own time. The largest one limits the speed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, NamedTuple, TypeVar

from mam_video.runtime.streams import closing_iter

T = TypeVar("T")


class Span(NamedTuple):
    """One piece of work of a stage, from `start` to `end` in seconds of `time.perf_counter`, in a thread."""

    stage: str
    thread: str
    start: float
    end: float


class StageTimer:
    """Add up seconds by stage. Thread-safe.

    on_span  called with each piece of work when it ends, in its thread, by every timer of the process; to draw how
             stages overlap
    """

    on_span: ClassVar[Callable[[Span], None] | None] = None

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def seconds(self) -> dict[str, float]:
        """A copy of the seconds so far, the largest first."""
        with self._lock:
            return dict(sorted(self._seconds.items(), key=lambda item: -item[1]))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            end = time.perf_counter()
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + end - start
            if StageTimer.on_span is not None:
                StageTimer.on_span(Span(name, threading.current_thread().name, start, end))

    def timed(self, items: Iterable[T], name: str) -> Generator[T, None, None]:
        """Yield `items`, and count the time that each takes to come for stage `name`."""
        with closing_iter(items) as source:
            while True:
                with self.stage(name):
                    try:
                        item = next(source)
                    except StopIteration:
                        return
                yield item
