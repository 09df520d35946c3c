"""Generators that work ahead in threads, through bounded queues, and end in order.

An error in a producer is raised in the consumer. A consumer that stops early, fails or is interrupted stops its
producers. A thread ends with the generator that started it. If it is in the middle of long work, such as a large model
on a CPU, it is waited for at most a few seconds, and ends when that work is done.

Where the process has a share of one core (`runtime/cores.py`) there are no threads: items are produced when they are
asked for.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from mam_video.runtime.cores import one_thread

T = TypeVar("T")
R = TypeVar("R")

_POLL = 0.1  # seconds between two checks whether the other side has ended
_PATIENCE = 5.0  # seconds to wait for a thread


@contextmanager
def closing_iter(items: Iterable[T]) -> Generator[Iterator[T], None, None]:
    """Iterate over `items`, and close them at the end of the block if they can be closed.

    A generator that is left early so ends at once, and with it its threads and open files. Lists pass unchanged.
    """
    try:
        yield iter(items)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


class _End:
    """Marks the end of the queue."""


def ahead(items: Iterable[T], depth: int | Callable[[T], int], name: str) -> Generator[T, None, None]:
    """Yield `items` in order, produced in a thread called `name` that runs at most `depth` items ahead.

    An exception of `items` is raised here; closing this generator closes `items` in its thread.

    depth  or what tells it of the first item
    """
    if one_thread():
        with closing_iter(items) as source:
            yield from source
        return
    box: queue.Queue[T | type[_End]] = queue.Queue(maxsize=1 if callable(depth) else depth)
    stop = threading.Event()
    failure: list[BaseException] = []

    def put(item: T | type[_End]) -> bool:
        while not stop.is_set():
            try:
                box.put(item, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            with closing_iter(items) as source:
                for place, item in enumerate(source):
                    if place == 0 and callable(depth):
                        box.maxsize = depth(item)  # nothing is in it, so nobody waits for room
                    if not put(item):
                        break
        except BaseException as error:  # noqa: BLE001 - handed to the consumer
            failure.append(error)
        finally:
            put(_End)

    thread = threading.Thread(target=produce, name=name, daemon=True)
    thread.start()
    try:
        while True:
            item = box.get()
            if item is _End:
                break
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join(_PATIENCE)
    if failure:
        raise failure[0]


def ordered_map(
    work: Callable[[T], R], items: Iterable[T], threads: int, name: str = "work"
) -> Generator[R, None, None]:
    """Yield `work` of each item in order, done in `threads` threads, at most as many items ahead (and one more).

    name  what the threads' names begin with
    """
    if one_thread():
        with closing_iter(items) as source:
            yield from map(work, source)
        return
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool, closing_iter(items) as source:
        try:
            for item in source:
                pending.append(pool.submit(work, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
