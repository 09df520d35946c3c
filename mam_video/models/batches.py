"""Compute a batch in as large parts as the device's memory takes, and name what goes wrong on a device.

Which frames make a batch is fixed by their numbers. How many of them are computed at once is found out: all of them at
first; where memory runs out half as many, for the rest of the model's life.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from mam_video.core.errors import DeviceError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

_GIB = 1 << 30
_LOST = ("CUDA error", "HIP error", "MPS backend", "device-side assert", "CUBLAS_STATUS", "CUDNN_STATUS")


class ComputeParts:
    """How many pictures of a batch a model computes at once on its device.

    most   none: the whole batch
    notes  what users should know: one line for each time that memory ran out
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.most: int | None = 1 if device.type == "cpu" else None  # on a CPU batches cost memory and save no time
        self.notes: list[str] = []

    def run(self, work: Callable[[slice], T], count: int) -> list[T]:
        """Call `work` with parts that make up a batch of `count` pictures; return its results in order.

        Raises: DeviceError, the device has not enough memory for a single picture.
        """
        import torch

        done: list[T] = []
        start = 0
        while start < count:
            part = slice(start, min(start + (self.most or count), count))
            try:
                done.append(work(part))
            except torch.OutOfMemoryError:
                size = part.stop - part.start
                if size == 1:
                    raise DeviceError(
                        f"{self.device}: not enough memory for one frame; close other programs on it, give more with "
                        "--device-memory, or use --device cpu"
                    ) from None
                self.most = size // 2
                self.notes.append(
                    f"{self.device}: its memory did not hold {size} frames at once; {self.most} at a time from there on"
                )
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
            else:
                start = part.stop
        return done


def limit_memory(device: torch.device, gib: float | None) -> None:
    """Let PyTorch take at most `gib` GiB of a GPU's memory; None: all that is free.

    Raises: DeviceError, the device is a CPU, whose memory is not limited here.
    """
    import torch

    if gib is None:
        return
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(gib * _GIB / total, 1.0), device)
    elif device.type == "mps":
        torch.mps.set_per_process_memory_fraction(min(gib * _GIB / torch.mps.recommended_max_memory(), 1.0))
    else:
        raise DeviceError(f"--device-memory limits a GPU's memory; this run is on {device}; leave it out")


@contextmanager
def naming_device_failures(device: str) -> Iterator[None]:
    """Turn errors of a GPU inside the block into one line that says what to do.

    Raises: DeviceError, for what PyTorch says about the device itself; other errors pass.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise DeviceError(
            f"{device}: out of memory; close other programs on it, take a smaller batch (--set model.batch=1), or use "
            "--device cpu"
        ) from None
    except RuntimeError as error:
        text = str(error)
        if not any(sign in text for sign in _LOST):
            raise
        first = text.splitlines()[0].rstrip(". ")
        raise DeviceError(
            f"{device}: failed in mid-run ({first}); what --resume keeps is whole: run it again"
        ) from error
