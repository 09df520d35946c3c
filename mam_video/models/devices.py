"""Which device and which precision a model runs in: what was asked for, or the best that is really there."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

import torch

from mam_video.core.errors import DeviceError

_CPUINFO = Path("/proc/cpuinfo")
_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(asked: str = "auto") -> torch.device:
    """The device for `asked`: auto (cuda, else mps, else cpu), cpu, cuda or mps. Raises DeviceError if it is absent."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return torch.device(next(name for name, present in here.items() if present))
    if not here.get(asked, False):
        others = ", ".join(name for name, present in here.items() if present)
        raise DeviceError(f"device {asked} is not available here; choose one of: auto, {others}")
    return torch.device(asked)


def resolve_precision(asked: str, device: torch.device) -> torch.dtype:
    """The precision for `asked` (auto, float32, bfloat16, float16) on `device`.

    Half precision is taken by itself only where the device computes in it: CUDA, and CPUs with native bfloat16. A CPU
    without it emulates bfloat16 about a hundred times slower than float32, so there it is refused. On MPS half
    precision is not taken by itself: nobody has compared its results yet.
    Raises: DeviceError, the device cannot do what was asked.
    """
    if asked == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        if device.type == "cpu" and cpu_has_bfloat16():
            return torch.bfloat16
        return torch.float32
    if asked not in _PRECISIONS:
        raise DeviceError(f"precision {asked} is not known; choose one of: auto, {', '.join(_PRECISIONS)}")
    if device.type == "cpu" and asked == "float16":
        raise DeviceError("precision float16 is not for a CPU; use --precision auto or float32")
    if device.type == "cpu" and asked == "bfloat16" and not cpu_has_bfloat16():
        raise DeviceError("this CPU has no native bfloat16 and would take minutes a frame; use --precision float32")
    return _PRECISIONS[asked]


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16 itself (AVX512-BF16, AMX, Armv8.6), as far as Linux tells; else False."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return has_bfloat16_flag(text)


def has_bfloat16_flag(cpuinfo: str) -> bool:
    """Whether the text of /proc/cpuinfo names a native bfloat16 among the flags (x86) or features (Arm)."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(value.split())
    return False


def cpu_name() -> str:
    """The CPU as Linux names it, for reports."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "unknown CPU"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


@functools.cache
def keep_memory() -> bool:
    """Tells glibc to keep freed memory instead of handing it back to the system; False where there is no glibc.

    A network on a CPU frees and asks for the same megabytes at every layer. By default each large piece is mapped anew
    and its pages are zeroed when first touched, which took a fifth of a frame's time (docs/measurements.md).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    mmap_max, trim_threshold, top_pad = -4, -1, -2  # of malloc.h
    return all(mallopt(what, value) for what, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**26)))
