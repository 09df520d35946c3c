"""Measure seconds by stage, summed over threads.

Stages overlap, so their sum exceeds the time of the run. The largest stage limits the speed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class StageTimer:
    """A timer of seconds by stage. Thread-safe."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @property
    def seconds(self) -> dict[str, float]:
        """Return a copy of the seconds by stage, the largest first."""
        with self._lock:
            return dict(sorted(self._seconds.items(), key=lambda item: -item[1]))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + spent

    def timed(self, items: Iterable[T], name: str) -> Generator[T, None, None]:
        """Pass `items` on, and count the wait for each as time of stage `name`."""
        iterator = iter(items)
        try:
            while True:
                with self.stage(name):
                    try:
                        item = next(iterator)
                    except StopIteration:
                        return
                yield item
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
