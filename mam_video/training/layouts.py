"""How a step is computed: the memory layout of the network, and whether the step is compiled; measured if asked for.

Compiling: `graphs` records a step's kernels once and replays them, so that no kernel waits for Python (CUDA only).
`inductor` writes kernels of its own, which fuse small operations. `inductor-graphs` does both. Each picture size is
compiled once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

LAYOUTS: Mapping[str, torch.memory_format] = {
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}
COMPILERS: Mapping[str, Mapping[str, Any]] = {
    "graphs": {"backend": "cudagraphs"},
    "inductor": {"backend": "inductor"},
    "inductor-graphs": {"backend": "inductor", "mode": "reduce-overhead"},
}
"""The arguments of `torch.compile` by the names that a config uses."""
MEASURE: Literal["measure"] = "measure"
MEASURE_ALL: Literal["measure-all"] = "measure-all"
OFF: Literal["off"] = "off"

Function = TypeVar("Function", bound=Callable[..., Any])


def layout_of(net: nn.Module) -> torch.memory_format:
    """Return the memory layout of a network, as its first convolution with several channels has it."""
    for weight in net.parameters():
        if weight.ndim == 4 and weight.shape[1] > 1 and weight.shape[2] > 1:
            last = weight.is_contiguous(memory_format=torch.channels_last)
            return torch.channels_last if last else torch.contiguous_format
    return torch.contiguous_format


def candidates(name: str, device: torch.device) -> list[str]:
    """Return which compilers to measure, for MEASURE those that start within seconds, for MEASURE_ALL all."""
    if device.type != "cuda":
        return [OFF, "inductor"]
    return [OFF, "graphs"] if name == MEASURE else [OFF, *COMPILERS]


def compiled(function: Function, name: str) -> Function:
    """Compile a function of tensors, for one of `COMPILERS` or "off". Each shape is compiled by itself, and once."""
    if name == OFF:
        return function
    # Without this each new size would make PyTorch guess that all sizes vary, and compile for that.
    return cast(Function, torch.compile(function, dynamic=False, **COMPILERS[name]))


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_per_call(call: Callable[[], object], device: torch.device, *, warm: int = 2, count: int = 4) -> float:
    """Time calls that end on the device, after `warm` others."""
    for _ in range(warm):
        call()
    wait_for(device)
    start = time.perf_counter()
    for _ in range(count):
        call()
    wait_for(device)
    return (time.perf_counter() - start) / count


def quickest(names: Sequence[str], measure: Callable[[str], float], say: Callable[[str], None]) -> str:
    """Return the name whose measure, in seconds, is least. One that fails is told and left out; the first must work."""
    found: dict[str, float] = {}
    for name in names:
        try:
            found[name] = measure(name)
        except Exception as e:  # what a compiler lacks on this machine shows in errors of many kinds
            if not found:
                raise
            say(f"{name} does not work here: {type(e).__name__}: {str(e).strip().splitlines()[0] if str(e) else ''}")
    best = min(found, key=lambda n: found[n])
    say(", ".join(f"{n} {s * 1e3:.0f} ms a step" for n, s in found.items()) + f": {best}")
    return best


class KeptBuffers:
    """The buffers of a network (the statistics of its batch norms), to be put back after steps that only measure."""

    def __init__(self, net: nn.Module) -> None:
        self._kept = [(b, b.detach().clone()) for b in net.buffers()]

    @torch.no_grad()
    def put_back(self) -> None:
        for buffer, kept in self._kept:
            buffer.copy_(kept)


def match_layout(tensor: Tensor, like: Tensor) -> Tensor:
    """Return `tensor` with the strides of `like`, a tensor of the same shape; a copy if they differ."""
    if tensor.shape != like.shape or tensor.stride() == like.stride():
        return tensor
    return torch.empty_like(like, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
