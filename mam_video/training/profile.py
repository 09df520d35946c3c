"""Where the time of a training step goes: by part, and by operator."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from mam_video.training.layouts import wait_for

Phase = Callable[[str], AbstractContextManager[Any]]
"""Marks a part of a step, by its name."""

_SHOWN = 14  # operators in the table
# Operators that only describe memory, or call another operator that is counted itself.
_FREE = """
view reshape as_strided expand expand_as transpose permute slice select unsqueeze squeeze narrow split flatten t pad
split_with_sizes unbind detach detach_ alias empty empty_like empty_strided new_empty resize_ resolve_conj resolve_neg
to _to_copy contiguous clone conv2d convolution _convolution lift_fresh item _local_scalar_dense view_as _unsafe_view
unflatten result_type linear matmul zeros zeros_like ones ones_like full new_zeros new_ones layer_norm chunk reshape_as
scaled_dot_product_attention batch_norm _batch_norm_impl_index numpy_T
"""
_CONVOLUTIONS = ("convolution", "conv2d", "conv_depthwise", "cudnn_conv")


def unmeasured(name: str) -> AbstractContextManager[Any]:
    """Mark a part of a step for profilers."""
    return record_function(f"step: {name}")


@dataclass
class StepProfile:
    """The measures of some steps, in seconds for one step; on a CPU in seconds of processor time of this process.

    whole      without anything that measures within it
    parts      each waited for, so that on a GPU they may add up to more than `whole`
    operators  (calls, seconds of their own on the device) by name; convolutions by kind
    launches   how many kernels ran on a GPU; on a CPU, how many operators that read or write values
    """

    device: str
    whole: float
    parts: dict[str, float]
    operators: dict[str, tuple[float, float]]
    launches: float

    def table(self) -> str:
        """Write the tables in Markdown."""
        lines = [f"A step on {self.device}: {self.whole * 1e3:.1f} ms, {self.launches:.0f} launches", ""]
        lines += ["| part | ms |", "|---|---|"]
        lines += [f"| {name} | {seconds * 1e3:.1f} |" for name, seconds in self.parts.items()]
        total = sum(seconds for _, seconds in self.operators.values())
        lines += ["", "| operator | calls | ms | share |", "|---|---|---|---|"]
        ranked = sorted(self.operators.items(), key=lambda item: -item[1][1])
        for name, (calls, seconds) in ranked[:_SHOWN]:
            lines.append(f"| {name} | {calls:.0f} | {seconds * 1e3:.1f} | {seconds / max(total, 1e-12):.0%} |")
        calls, seconds = (sum(v[i] for _, v in ranked[_SHOWN:]) for i in (0, 1))
        lines.append(f"| {len(ranked[_SHOWN:])} others | {calls:.0f} | {seconds * 1e3:.1f} |"
                     f" {seconds / max(total, 1e-12):.0%} |")  # fmt: skip
        return "\n".join(lines)


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return a clock in seconds: the processor time of all threads on a CPU, which other work disturbs less."""
    return time.process_time if device.type == "cpu" else time.perf_counter


class PartTimer:
    """Times the parts of steps. Waits for the device at both ends of each."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        clock = clock_of(self.device)
        wait_for(self.device)
        start = clock()
        yield
        wait_for(self.device)
        self.seconds[name] += clock() - start


def profile_steps(
    step: Callable[[], object], use_phase: Callable[[Phase], None], device: torch.device, name: str, count: int
) -> StepProfile:
    """Run three times `count` steps: plain, by part, and under PyTorch's profiler.

    Args:
        step: does one step, from waiting for its data on.
        use_phase: makes the steps mark their parts with another `Phase`.
        name: of the device, for the report.
    """
    step()
    wait_for(device)
    clock = clock_of(device)
    start = clock()
    for _ in range(count):
        step()
    wait_for(device)
    whole = (clock() - start) / count
    timer = PartTimer(device)
    use_phase(timer)
    for _ in range(count):
        step()
    use_phase(unmeasured)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities, record_shapes=True) as profiler:
        for _ in range(count):
            step()
        wait_for(device)
    operators, launches = _operators(profiler, device, count)
    return StepProfile(name, whole, {k: v / count for k, v in timer.seconds.items()}, operators, launches)


def _operators(profiler: profile, device: torch.device, count: int) -> tuple[dict[str, tuple[float, float]], float]:
    """Sum calls and seconds by operator, for one step, and count the launches of one step.

    The kernels of a recorded graph belong to no operator: then they are what is summed.
    """
    on_gpu, free = device.type == "cuda", set(_FREE.split())
    operators: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    kernels: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    launches = 0
    for event in profiler.key_averages(group_by_input_shape=True):
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if event.device_type.name != "CPU":
            if event.key.startswith("step: "):
                continue
            launches += event.count
            entry = kernels[event.key[:60]]
        elif own > 0 and event.key.startswith(("aten::", "mam", "triton", "_Depthwise")):
            launches += 0 if on_gpu or event.key.removeprefix("aten::") in free else event.count
            entry = operators[_kind(event.key, event.input_shapes)]
        else:
            continue
        entry[0] += event.count / count
        entry[1] += own / count / 1e6
    of_operators, of_kernels = (sum(v[1] for v in found.values()) for found in (operators, kernels))
    chosen = operators if of_operators >= of_kernels / 2 else kernels
    return {k: (v[0], v[1]) for k, v in chosen.items()}, launches / count


def _kind(key: str, shapes: Any) -> str:
    """Name an operator; a convolution also by its kernel, which stands in the shape of its weight."""
    name = key.removeprefix("aten::")
    if not any(c in name for c in _CONVOLUTIONS):
        return name
    weights = [s for s in shapes or () if isinstance(s, list | tuple) and len(s) == 4]
    weight = weights[2] if "backward" in name and len(weights) > 2 else weights[1] if len(weights) > 1 else None
    if weight is None:
        return name
    what = "depthwise " if weight[1] == 1 and weight[0] > 1 else ""
    return f"{name} {what}{weight[2]}x{weight[3]}"
