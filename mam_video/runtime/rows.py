"""Streams of rows: one item for each of several subjects, which go through the same stages side by side."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import tee
from typing import TypeVar

from mam_video.runtime.streams import closing_iter

A = TypeVar("A")
B = TypeVar("B")


def map_columns(
    rows: Iterable[tuple[A, ...]], stages: Sequence[Callable[[Iterator[A]], Iterable[B]]]
) -> Generator[tuple[B, ...], None, None]:
    """Run a stage over each column of `rows`, and give rows of what comes out.

    The stages read in step: a row is held until every stage has read it. `rows` is closed at the end.
    """
    with closing_iter(rows) as source:
        copies = tee(source, len(stages))
        columns = [stage(_column(copy, k)) for k, (stage, copy) in enumerate(zip(stages, copies, strict=True))]
        yield from zip(*columns, strict=True)


def _column(rows: Iterator[tuple[A, ...]], k: int) -> Iterator[A]:
    return (row[k] for row in rows)
