"""Batches of numbered samples, drawn by processes beside the trainer, and the log of the steps that learn from them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from torch import Tensor


class NumberedBatches(torch.utils.data.Sampler[list[tuple[int, int]]]):
    """Yield batches of (number, side) without end, of the given sides in turn.

    A number determines its sample for each side, and the count of batches before determines the numbers: a resumed run
    draws the same ones. A batch of another side than `size` has about as many pixels as `batch` samples of `size`.
    """

    def __init__(self, first: int, sides: Sequence[int], batch: int, size: int) -> None:
        super().__init__()
        self.first, self.sides = first, sides
        self.counts = [max(round(batch * (size / side) ** 2), 1) for side in sides]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        whole, rest = divmod(self.first, len(self.sides))
        number, step = whole * sum(self.counts) + sum(self.counts[:rest]), self.first
        while True:
            side, count = self.sides[step % len(self.sides)], self.counts[step % len(self.sides)]
            yield [(i, side) for i in range(number, number + count)]
            number, step = number + count, step + 1


class NumberedSamples(torch.utils.data.Dataset[dict[str, np.ndarray]]):
    """Samples drawn by their number, for each side of their pictures."""

    def __init__(self, draws: Mapping[int, Callable[[int], dict[str, np.ndarray]]]) -> None:
        self.draws = draws

    def __getitem__(self, index: tuple[int, int]) -> dict[str, np.ndarray]:
        cv2.setNumThreads(0)  # the loader's processes would compete with the trainer's threads
        number, side = index
        return self.draws[side](number)


def count_workers(asked: int) -> int:
    """Return how many processes draw samples; `asked` below 0 leaves one core of the machine to the trainer."""
    if asked >= 0:
        return asked
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(available - 1, 1)


def load_batches(
    samples: NumberedSamples, numbers: NumberedBatches, workers: int, prefetch: int, *, pinned: bool
) -> Iterable[dict[str, Tensor]]:
    """Draw batches in `workers` processes, each at most `prefetch` batches ahead; with 0 in this process.

    pinned: into memory from which a GPU copies while the host goes on.
    """
    return torch.utils.data.DataLoader(
        samples,
        batch_sampler=numbers,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pinned,
    )


class StepLog:
    """The measures of some steps, kept on the device until they are asked for, and where the time went."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._waited = 0.0
        self._measures: list[Tensor] = []

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of this block as waiting for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    def add(self, measures: Tensor) -> None:
        """Add the measures of a step (n,)."""
        self._measures.append(measures)

    def means(self) -> np.ndarray:
        """Return the means of the measures (n,). Waits for the device."""
        means: np.ndarray = torch.stack(self._measures).mean(0).cpu().numpy()
        return means

    def times(self) -> str:
        """Write the time of a step, and how much of it was waiting for data."""
        count = len(self._measures)
        whole = time.monotonic() - self._start
        return f"{whole / count * 1e3:.0f} ms a step, {self._waited / count * 1e3:.0f} waiting for data"
