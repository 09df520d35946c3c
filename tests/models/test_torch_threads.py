"""How many of PyTorch's threads compute: each stage has its own number, and nobody else's changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from mam_video.models.torch_threads import computed_with, new_thread_count
from mam_video.runtime.streams import ahead


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def counts(times: int = 100) -> Iterator[int]:
    for _ in range(times):
        torch.ones(1).add(1)
        yield torch.get_num_threads()


def test_a_stage_has_its_own_number_and_no_other_thread_s_changes() -> None:
    stage = ahead(computed_with(counts(), 5), 1, "stage")
    assert next(stage) == 5
    assert (torch.get_num_threads(), new_thread_count()) == (3, 3)
    stage.close()
    assert (torch.get_num_threads(), new_thread_count()) == (3, 3)


def test_the_thread_has_its_own_number_again_at_the_end() -> None:
    assert list(computed_with(counts(2), 5)) == [5, 5]
    assert (torch.get_num_threads(), new_thread_count()) == (3, 3)
    early = computed_with(counts(), 1)
    assert next(early) == 1 and torch.get_num_threads() == 1 and new_thread_count() == 3
    early.close()
    assert torch.get_num_threads() == 3

    def failing() -> Iterator[int]:
        yield from counts(1)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(computed_with(failing(), 2))
    assert (torch.get_num_threads(), new_thread_count()) == (3, 3)


def test_stages_that_begin_and_end_at_once_do_not_take_each_other_s_number() -> None:
    seen: list[set[int]] = []

    def stage(count: int) -> None:
        for _ in range(40):
            seen.append({count, *computed_with(counts(2), count)})

    threads = [threading.Thread(target=stage, args=(count,)) for count in (1, 2, 4, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 160 and all(len(each) == 1 for each in seen)
    assert (torch.get_num_threads(), new_thread_count()) == (3, 3)
