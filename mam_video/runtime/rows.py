"""Streams of rows: one item for each of several subjects, which go through the same stages side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar

from mam_video.runtime.streams import closing_iter

A = TypeVar("A")
B = TypeVar("B")


def map_columns(
    rows: Iterable[tuple[A, ...]], stages: Sequence[Callable[[Iterator[A]], Iterable[B]]]
) -> Generator[tuple[B, ...], None, None]:
    """Run a stage over each column of `rows`, and give rows of what comes out.

    The stages read in step, in one thread: an item is held until the stage of its column has read it, and no longer.
    (`itertools.tee` would hold up to 57 rows more.) `rows` is closed at the end.
    """
    with closing_iter(rows) as source:
        waiting: list[deque[A]] = [deque() for _ in stages]
        columns = [stage(_column(source, waiting, k)) for k, stage in enumerate(stages)]
        yield from zip(*columns, strict=True)


def _column(rows: Iterator[tuple[A, ...]], waiting: Sequence[deque[A]], k: int) -> Iterator[A]:
    """Give the items of column `k`. Rows that are read for it wait for the other columns."""
    while True:
        while not waiting[k]:
            row = next(rows, None)
            if row is None:
                return
            for queue, item in zip(waiting, row, strict=True):
                queue.append(item)
            del row, item
        yield waiting[k].popleft()
