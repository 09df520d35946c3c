"""The only ways of arrays to a model's device and back, counted.

On a GPU an upload is pinned and does not wait; a download waits for all work before it, so each costs a pause. What a
frame may cost is one upload of its picture, one read of its masks by the tracker and one download of its alpha; small
ones beside them are counted by their names. On a CPU nothing is copied, and the same calls are counted.
"""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import torch

_LOCK = threading.Lock()
_UPLOADS: Counter[str] = Counter()
_DOWNLOADS: Counter[str] = Counter()


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


def download(tensor: torch.Tensor, what: str) -> np.ndarray:
    """Copy a tensor to an array, and wait for it; of a CPU's tensor the memory may be shared."""
    with _LOCK:
        _DOWNLOADS[what] += 1
    return np.ascontiguousarray(tensor.cpu().numpy())
