"""Columns of rows go through stages in step."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterable, Iterator

import pytest

from mam_video.runtime.rows import map_columns


def pairs(closed: list[str], count: int = 5) -> Generator[tuple[int, int], None, None]:
    try:
        for k in range(count):
            yield k, 10 * k
    finally:
        closed.append("closed")


def negated(items: Iterable[int]) -> Iterator[int]:
    return (-item for item in items)


def late(items: Iterable[int]) -> Iterator[int]:
    """Holds one item back, as a filter over time does."""
    held: list[int] = []
    for item in items:
        held.append(item)
        if len(held) > 1:
            yield held.pop(0)
    yield from held


def test_each_column_has_its_stage() -> None:
    closed: list[str] = []
    rows = list(map_columns(pairs(closed), [negated, late]))
    assert rows == [(-k, 10 * k) for k in range(5)] and closed == ["closed"]
    assert list(map_columns([(k,) for k in range(3)], [late])) == [(0,), (1,), (2,)]


def test_the_source_is_closed_where_reading_stops() -> None:
    closed: list[str] = []
    rows = map_columns(pairs(closed), [negated, negated])
    assert next(rows) == (0, 0)
    rows.close()
    assert closed == ["closed"]


def test_stages_that_give_another_count_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        list(map_columns([(1, 2), (3, 4)], [negated, lambda items: [next(iter(items))]]))


class Item:
    """Something large."""


@pytest.mark.parametrize("columns", [1, 2])
def test_no_row_is_held_that_every_stage_has_read(columns: int) -> None:
    """Memory of a run would hold as many frames."""
    alive: weakref.WeakSet[Item] = weakref.WeakSet()

    def rows() -> Generator[tuple[Item, ...], None, None]:
        for _ in range(40):
            row = tuple(Item() for _ in range(columns))
            for item in row:
                alive.add(item)
            yield row

    most = 0
    for _row in map_columns(rows(), [iter] * columns):
        most = max(most, len(alive))
    assert most <= 3 * columns  # the one that is shown, the one that is read, and one in the loops between
