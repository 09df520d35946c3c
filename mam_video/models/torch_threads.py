"""How many threads PyTorch computes with, for stages that compute at the same time.

`torch.set_num_threads` sets two numbers: that of the thread which calls it, and the one that each thread takes over
when it computes for the first time. Here the second one stays as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mam_video.runtime.streams import closing_iter

T = TypeVar("T")

_setting = threading.Lock()


def new_thread_count() -> int:
    """Return how many of PyTorch's threads a thread gets that has not computed yet."""
    import torch

    return _in_new_thread(torch.get_num_threads)


def computed_with(items: Iterable[T], count: int) -> Generator[T, None, None]:
    """Yield `items`; what they take of PyTorch is computed with `count` threads.

    All of them must be asked for in one thread. What it computes itself meanwhile is computed with `count` threads too;
    other threads, and those that are started later, keep their numbers. At the end the thread has its own again.
    """
    import torch

    own = torch.get_num_threads()
    _set_for_this_thread(count)
    try:
        with closing_iter(items) as source:
            yield from source
    finally:
        _set_for_this_thread(own)


def _set_for_this_thread(count: int) -> None:
    import torch

    if torch.get_num_threads() == count:
        return
    with _setting:  # or another thread's number is taken for that of new ones
        later = _in_new_thread(torch.get_num_threads)
        torch.set_num_threads(count)
        _in_new_thread(lambda: torch.set_num_threads(later))


def _in_new_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1, thread_name_prefix="threads") as pool:
        return pool.submit(work).result()
