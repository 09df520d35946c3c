"""Resolve the device and the precision of a model: the requested one, or the best one available."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

import torch

from mam_video.core.errors import DeviceError

_CPUINFO = Path("/proc/cpuinfo")
_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(requested: str = "auto") -> torch.device:
    """Resolve a device name: auto (cuda, else mps, else cpu), cpu, cuda or mps.

    Raises: DeviceError, the device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        return torch.device(next(name for name, present in available.items() if present))
    if not available.get(requested, False):
        others = ", ".join(name for name, present in available.items() if present)
        raise DeviceError(f"device {requested} is not available on this machine; choose one of: auto, {others}")
    return torch.device(requested)


def resolve_precision(requested: str, device: torch.device) -> torch.dtype:
    """Resolve a precision name (auto, float32, bfloat16, float16) for `device`.

    `auto` chooses half precision only on devices where it is faster: CUDA, and CPUs that compute bfloat16 at more than
    the speed of float32. A CPU without native bfloat16 emulates it about a hundred times slower, so that it is refused
    there. On MPS `auto` chooses
    float32, because its results in half precision have not been compared yet.
    Raises: DeviceError, the device does not support the precision.
    """
    if requested == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        if device.type == "cpu" and cpu_prefers_bfloat16():
            return torch.bfloat16
        return torch.float32
    if requested not in _PRECISIONS:
        raise DeviceError(f"unknown precision {requested}; choose one of: auto, {', '.join(_PRECISIONS)}")
    if device.type == "cpu" and requested == "float16":
        raise DeviceError("a CPU does not support precision float16; use --precision auto or float32")
    if device.type == "cpu" and requested == "bfloat16" and not cpu_has_bfloat16():
        raise DeviceError("this CPU has no native bfloat16 and would take minutes per frame; use --precision float32")
    return _PRECISIONS[requested]


@functools.cache
def cpu_has_bfloat16() -> bool:
    """Return whether the CPU has native bfloat16 (AVX512-BF16, AMX, Armv8.6). False if Linux does not report it."""
    return has_bfloat16_flag(_cpuinfo())


@functools.cache
def cpu_prefers_bfloat16() -> bool:
    """Return whether the CPU is faster in bfloat16 than in float32. False if Linux does not report it."""
    return has_fast_bfloat16(_cpuinfo())


def has_bfloat16_flag(cpuinfo: str) -> bool:
    """Return whether the text of /proc/cpuinfo lists native bfloat16 in its flags (x86) or features (Arm)."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(_values(cpuinfo, "flags", "Features"))


def has_fast_bfloat16(cpuinfo: str) -> bool:
    """Return whether the CPU of this /proc/cpuinfo multiplies matrices in bfloat16 faster than in float32.

    AVX512-BF16 of Intel's cores does not where AMX is missing, or hidden by a virtual machine: the encoder of SAM ViT-B
    took 7.8 s, and 5.7 s in float32 (docs/performance.md).
    """
    flags = _values(cpuinfo, "flags", "Features")
    intel = "GenuineIntel" in _values(cpuinfo, "vendor_id")
    return not {"amx_bf16", "bf16"}.isdisjoint(flags) or ("avx512_bf16" in flags and not intel)


def _values(cpuinfo: str, *keys: str) -> set[str]:
    """The words of the first line of /proc/cpuinfo that has one of the keys; empty where there is none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return set(value.split())
    return set()


def _cpuinfo() -> str:
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def cpu_name() -> str:
    """Return the name of the CPU from Linux, for reports."""
    lines = _cpuinfo().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def device_name(device: torch.device) -> str:
    """Return the name of a device, for reports."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {cpu_name()}"


@functools.cache
def keep_memory() -> bool:
    """Make glibc keep freed memory instead of returning it to the system. Returns False without glibc.

    A network on a CPU frees and allocates the same megabytes at every layer. By default glibc maps each large block
    anew, and its pages are zeroed at the first access. This took a fifth of a frame's time (docs/measurements.md).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has no mallopt
        return False
    mmap_max, trim_threshold, top_pad = -4, -1, -2  # values from malloc.h
    return all(mallopt(what, value) for what, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**26)))
