"""The only ways of arrays to a model's device and back, counted.

On a GPU an upload is pinned and does not wait; a download waits for all work before it, so each costs a pause. What a
frame may cost is one upload of its picture, one read of its masks by the tracker and one download of its alpha; small
ones beside them are counted by their names. On a CPU nothing is copied, and the same calls are counted.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

_LOCK = threading.Lock()
_UPLOADS: Counter[str] = Counter()
_DOWNLOADS: Counter[str] = Counter()
_ALIGNED = 16  # bytes; a view of another type must begin at a multiple of its size


def counted() -> tuple[dict[str, int], dict[str, int]]:
    """Return how often anything was uploaded and downloaded in this process so far, by what it was."""
    with _LOCK:
        return dict(_UPLOADS), dict(_DOWNLOADS)


def upload(array: np.ndarray, device: torch.device, what: str) -> torch.Tensor:
    """Copy an array to a device; on a CPU it may be shared. `what` names it for the count."""
    with _LOCK:
        _UPLOADS[what] += 1
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def on_device(pictures: Sequence[np.ndarray | torch.Tensor], device: torch.device, what: str) -> torch.Tensor:
    """Stack arrays and upload them, or stack tensors that are there already."""
    there = [each for each in pictures if isinstance(each, torch.Tensor)]
    if there:
        return torch.stack(there)
    return upload(np.stack([np.asarray(each) for each in pictures]), device, what)


class Layout:
    """Where arrays of several shapes and types lie in one buffer of bytes.

    size  of the buffer, in bytes
    """

    def __init__(self, arrays: Sequence[tuple[Sequence[int], torch.dtype]]) -> None:
        """`arrays`: shape and type of each."""
        self._arrays = [(tuple(shape), dtype, math.prod(shape) * dtype.itemsize) for shape, dtype in arrays]
        self._starts = []
        self.size = 0
        for *_, length in self._arrays:
            self._starts.append(self.size)
            self.size += -(-length // _ALIGNED) * _ALIGNED

    def views(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        """Return each array as a view of a buffer, (size,) uint8 on any device."""
        return [
            buffer[start : start + length].view(dtype).view(shape)
            for start, (shape, dtype, length) in zip(self._starts, self._arrays, strict=True)
        ]


def upload_together(arrays: Sequence[np.ndarray], device: torch.device, what: str) -> list[torch.Tensor]:
    """Copy arrays to a device in one copy; on a CPU they may be shared. uint16 comes as int16 of the same bits.

    (PyTorch knows few operations on uint16.)
    """
    with _LOCK:
        _UPLOADS[what] += 1
    given = [np.ascontiguousarray(each) for each in arrays]
    given = [each.view(np.int16) if each.dtype == np.uint16 else each for each in given]
    if device.type != "cuda":
        return [torch.from_numpy(each if each.flags.writeable else each.copy()).to(device) for each in given]
    layout = Layout([(each.shape, torch.from_numpy(np.empty(0, each.dtype)).dtype) for each in given])
    buffer = torch.empty(layout.size, dtype=torch.uint8, pin_memory=True)
    for view, each in zip(layout.views(buffer), given, strict=True):
        np.copyto(view.numpy(), each)
    return layout.views(buffer.to(device, non_blocking=True))


def download(tensor: torch.Tensor, what: str) -> np.ndarray:
    """Copy a tensor to an array, and wait for it; of a CPU's tensor the memory may be shared."""
    with _LOCK:
        _DOWNLOADS[what] += 1
    return np.ascontiguousarray(tensor.cpu().numpy())


class Download:
    """Tensors on their way from a device, in one copy that is begun now and waited for when the arrays are read."""

    def __init__(self, tensors: Sequence[torch.Tensor], what: str) -> None:
        """Begin the copy after the work of the current stream. `what` names it for the count."""
        with _LOCK:
            _DOWNLOADS[what] += 1
        self._tensors = [each.contiguous() for each in tensors]
        self._layout: Layout | None = None
        if not self._tensors or self._tensors[0].device.type != "cuda":
            return
        self._layout = Layout([(tuple(each.shape), each.dtype) for each in self._tensors])
        there = torch.empty(self._layout.size, dtype=torch.uint8, device=self._tensors[0].device)
        for view, each in zip(self._layout.views(there), self._tensors, strict=True):
            view.copy_(each)
        self._here = torch.empty(self._layout.size, dtype=torch.uint8, pin_memory=True)
        self._here.copy_(there, non_blocking=True)
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._done.record()

    def arrays(self) -> list[np.ndarray]:
        """Wait for the copy, and return an array for each tensor; of a CPU's tensors the memory is shared."""
        if self._layout is None:
            return [each.cpu().numpy() for each in self._tensors]
        self._done.synchronize()
        return [view.numpy() for view in self._layout.views(self._here)]


class Ready:
    """A moment of the current stream after which its tensors may be used on other streams; of a CPU nothing waits."""

    def __init__(self, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def wait(self, *tensors: torch.Tensor) -> None:
        """Let the current stream wait for it, the CPU not; their memory is kept until that stream has used them."""
        if self._event is None:
            return
        stream = torch.cuda.current_stream()
        stream.wait_event(self._event)
        for tensor in tensors:
            tensor.record_stream(stream)
