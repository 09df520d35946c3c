"""A frame whose pixels are on the model's device too: uploaded once, and used there by every later stage.

On the CPU it is a frame as any other, so that motion, tracking and the report take it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from mam_video.core.arrays import RGB8
from mam_video.core.frames import Frame
from mam_video.models.transfers import Ready


class ResidentMotion(NamedTuple):
    """The motion that leads to a frame, on its device. Where `back` indexes, 0 leads to the frame and 1 from it.

    flows    (2, 2, h, w) float32: by `back`, then x and y: where each pixel is sampled from, in motion-picture pixels
    trusted  (2, h, w) float32, 0 or 1: by `back`, where both flows agree
    """

    flows: Tensor
    trusted: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the motion pictures."""
        return self.trusted.shape[-2], self.trusted.shape[-1]


@dataclass(frozen=True, repr=False, eq=False)
class ResidentFrame(Frame):
    """A frame with its pixels on a device.

    host       the frame as it was decoded, without the device's memory
    plate      (H, W, 3): `rgb`; uint16 as int16 of the same bits
    picture    (H, W, 3) uint8: `rgb8`
    own_alpha  (H, W) float32: `alpha`; None where the plate has none
    motion     from the frame before to this one; None where none leads to it
    ready      when the upload is done
    """

    host: Frame = field(kw_only=True)
    plate: Tensor = field(kw_only=True)
    picture: Tensor = field(kw_only=True)
    own_alpha: Tensor | None = field(default=None, kw_only=True)
    motion: ResidentMotion | None = field(default=None, kw_only=True)
    ready: Ready = field(kw_only=True)

    @cached_property
    def rgb8(self) -> RGB8:
        """As of any frame, made once for both."""
        return self.host.rgb8

    @property
    def values(self) -> Tensor:
        """(3, H, W) float32: the plate's codes or floats."""
        return plate_values(self.plate).permute(2, 0, 1).contiguous()

    def wait(self) -> None:
        """Let the current stream wait for the upload."""
        motion = self.motion or ()
        own = () if self.own_alpha is None else (self.own_alpha,)
        self.ready.wait(self.plate, self.picture, *own, *motion)


def plate_values(plate: Tensor) -> Tensor:
    """Return the numbers of uploaded pixels as float32: int16 holds the bits of uint16."""
    if plate.dtype == torch.int16:
        return (plate.int() & 0xFFFF).float()
    return plate.float()
