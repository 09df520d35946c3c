"""Bounds on what float32 may get wrong, from arithmetic: float64 tells the truth and how far float32 lies from it.

A sum in float32 depends on its order, and so on the instruction set, the kernels and the number of threads. A bound
that one machine's result just kept would fail on the next. So a network runs twice where the test runs, in float64 and
in float32; the difference shows how far rounding carries in this network with these inputs. What is tested may lie
`MULTIPLE` times as far from float64: another order of sums has errors of the same size, not the same errors.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

import numpy as np
import torch

# The largest of some ten thousand errors varies by a factor of 2 or 3 between orders of sums; real faults are hundreds
# of times larger than these errors.
MULTIPLE: Final = 8

Module = TypeVar("Module", bound=torch.nn.Module)


def in_double(module: Module) -> Module:
    """Copy a network and its weights to float64."""
    return copy.deepcopy(module).double()


def float64(values: Any) -> np.ndarray:
    """Give a tensor or an array as a float64 array."""
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Truth:
    """What float64 gives, and how far float32 lies from it.

    exact   any shape, float64
    most    the largest difference of float32
    mean    the mean difference of float32; of several results the largest mean
    """

    exact: np.ndarray
    most: float
    mean: float

    @classmethod
    def of(cls, exact: Any, *rounded: Any) -> Self:
        """Take a float64 result and those of the same computation in float32: several where a result has few values.

        Raises: AssertionError, the truth is not float64.
        """
        assert exact.dtype in (torch.float64, np.float64), f"the truth is {exact.dtype}"
        truth = float64(exact)
        differences = [np.abs(float64(each) - truth) for each in rounded]
        # Equal by chance, as zeros are: float32 still cannot tell values closer than its own steps.
        step = float(np.finfo(np.float32).eps * np.abs(truth).max())
        most, mean = (max(float(measure(d)) for d in differences) for measure in (np.max, np.mean))
        return cls(truth, max(most, step), max(mean, step))

    @classmethod
    def run(cls, compute: Callable[[torch.dtype], torch.Tensor]) -> Self:
        """Compute in both precisions; `compute` takes the dtype of its inputs and weights."""
        with torch.inference_mode():
            return cls.of(compute(torch.float64), compute(torch.float32))

    @property
    def bound(self) -> float:
        """How far a float32 result may lie from `exact`. Two such results may lie twice as far from each other."""
        return MULTIPLE * self.most

    def __getitem__(self, place: Any) -> Truth:
        """Keep a part of the values, with the bounds of the whole."""
        return Truth(self.exact[place], self.most, self.mean)

    def check(self, found: Any, what: str = "") -> None:
        """Compare a float32 result: no value further off than `bound`, and the mean within the same multiple."""
        assert found.dtype in (torch.float32, np.float32), f"{what}: the result is {found.dtype}"
        given = float64(found)
        assert given.shape == self.exact.shape, f"{what}: {given.shape} where the truth is {self.exact.shape}"
        differences = np.abs(given - self.exact)
        assert differences.max() <= self.bound, f"{what}: {differences.max():.3g} off, {self.bound:.3g} allowed"
        mean = MULTIPLE * self.mean
        assert differences.mean() <= mean, f"{what}: {differences.mean():.3g} off on average, {mean:.3g} allowed"
