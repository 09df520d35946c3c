"""Run generators concurrently: threads work ahead through bounded queues and stop together.

An error in a producer is raised in the consumer. A consumer that stops early, fails or is interrupted stops its
producers. A thread ends with the generator that started it. A thread in a long call, such as a large model on a CPU, is
waited for only a few seconds; it ends after that call.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_POLL_INTERVAL = 0.1  # seconds between two checks whether the consumer has stopped
_JOIN_TIMEOUT = 5.0  # seconds to wait for a thread to end


class _End:
    """Marks the end of the items in the queue."""


def ahead(items: Iterable[T], depth: int, name: str) -> Generator[T, None, None]:
    """Produce `items` in a thread that runs at most `depth` items ahead.

    The order is preserved. An exception of `items` is raised here. Closing this generator closes `items` in its thread.
    """
    items_queue: queue.Queue[T | type[_End]] = queue.Queue(maxsize=depth)
    stop = threading.Event()
    failure: list[BaseException] = []

    def put(item: T | type[_End]) -> bool:
        while not stop.is_set():
            try:
                items_queue.put(item, timeout=_POLL_INTERVAL)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(item):
                    break
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            failure.append(error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                try:
                    close()
                except BaseException as error:  # noqa: BLE001
                    failure.append(error)
            put(_End)

    thread = threading.Thread(target=produce, name=name, daemon=True)
    thread.start()
    try:
        while True:
            item = items_queue.get()
            if item is _End:
                break
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        thread.join(_JOIN_TIMEOUT)
    if failure:
        raise failure[0]


def ordered_map(work: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R, None, None]:
    """Apply `work` to each item in `threads` threads and yield the results in order.

    At most `threads` + 1 items are in work.
    """
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="work") as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            close = getattr(items, "close", None)
            if close is not None:
                close()
