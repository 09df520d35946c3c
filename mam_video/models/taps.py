"""Resize maps on a device by tables of samples and weights, kept there since sizes and crops change seldom.

Sums are made in a fixed order, so that equal inputs give equal bits on a device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mam_video.models.transfers import Ready, upload_together

_PILLOW_BITS = 22  # of the fraction of Pillow's weights for pictures of 8 bits


@dataclass(frozen=True, slots=True)
class Taps:
    """Along one axis each output is the sum of a few samples times their weights.

    places   (taps, n) int64
    weights  (taps, n) float32, or int32 for whole numbers
    ready    when both are on the device
    exact    whether products are rounded before they are added, so that every device gives the same bits
    """

    places: Tensor
    weights: Tensor
    ready: Ready
    exact: bool = False

    @classmethod
    def of(cls, places: np.ndarray, weights: np.ndarray, device: torch.device, *, exact: bool = False) -> Taps:
        """Upload a table; weights of whole numbers are int32, others become float32."""
        weights = weights if weights.dtype == np.int32 else weights.astype(np.float32)
        there, shares = upload_together([places.astype(np.int64), weights], device, "tables")
        return cls(there, shares, Ready(device), exact)

    def rows(self, values: Tensor) -> Tensor:
        """Resample (C, H, W) to (C, n, W) of the weights' type."""
        return self._along(values, 1)

    def columns(self, values: Tensor) -> Tensor:
        """Resample (C, H, W) to (C, H, n) of the weights' type."""
        return self._along(values, 2)

    def _along(self, values: Tensor, axis: int) -> Tensor:
        self.ready.wait(self.places, self.weights)
        shape = (-1, 1) if axis == 1 else (-1,)
        total: Tensor | None = None
        for places, weight in zip(self.places, self.weights, strict=True):
            some, share = values.index_select(axis, places), weight.view(shape)
            if total is None:
                total = some * share
            else:
                total = total + some * share if self.exact else torch.addcmul(total, some, share)
        assert total is not None
        return total


def resized_as_pillow(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (h, w, 3) uint8 to `size` (h, w) with the bits of Pillow's bilinear filter."""
    planes = picture.permute(2, 0, 1).int()
    if size[1] != picture.shape[1]:
        planes = _to_8_bits(_pillow_taps(picture.shape[1], size[1], picture.device).columns(planes))
    if size[0] != picture.shape[0]:
        planes = _to_8_bits(_pillow_taps(picture.shape[0], size[0], picture.device).rows(planes))
    return planes.to(torch.uint8).permute(1, 2, 0).contiguous()


def _to_8_bits(sums: Tensor) -> Tensor:
    return ((sums + (1 << (_PILLOW_BITS - 1))) >> _PILLOW_BITS).clamp(0, 255)


@lru_cache(maxsize=128)
def _pillow_taps(size: int, wanted: int, device: torch.device) -> Taps:
    """Return the weights of a tent over max(size / wanted, 1) samples to either side, as whole numbers.

    Source: Pillow's `Image.resize`. Its weights are rounded to 22 bits, and rows and columns to 8 bits each.
    """
    scale = size / wanted
    reach = max(scale, 1.0)
    centres = (np.arange(wanted) + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    stop = np.minimum((centres + reach + 0.5).astype(np.int64), size)
    places = first + np.arange(2 * math.ceil(reach) + 1)[:, None]
    tent = np.clip(1 - np.abs((places - centres + 0.5) / reach), 0, None)
    weights = np.where(places < stop, tent, 0)
    weights = weights / weights.sum(0)
    whole = np.floor(weights * (1 << _PILLOW_BITS) + 0.5).astype(np.int32)
    return Taps.of(np.minimum(places, size - 1), whole, device, exact=True)
