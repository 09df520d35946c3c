"""A frame whose pixels are on the model's device too: uploaded once, and used there by every later stage.

On the CPU it is a frame as any other, so that motion, tracking and the report take it as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mam_video.core.arrays import RGB8
from mam_video.core.crop import Crop
from mam_video.core.frames import Frame
from mam_video.models.base import Embedding, MaskModel, MatteModel, takes_tensors

if TYPE_CHECKING:  # PyTorch takes seconds to load, and not every process computes with it
    from torch import Tensor

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
        """(3, H, W) float32, a new tensor: the plate's codes or floats."""
        import torch

        return plate_values(self.plate).permute(2, 0, 1).clone(memory_format=torch.contiguous_format)

    def wait(self) -> None:
        """Let the current stream wait for the upload."""
        motion = self.motion or ()
        own = () if self.own_alpha is None else (self.own_alpha,)
        self.ready.wait(self.plate, self.picture, *own, *motion)


def views_of(model: MatteModel | MaskModel, frames: Sequence[Frame], crop: Crop) -> Sequence[np.ndarray | Tensor]:
    """Cut the pictures of a crop, (h, w, 3) uint8 each: on the model's device where all are there, else on the CPU."""
    import torch

    resident = [frame for frame in frames if isinstance(frame, ResidentFrame)]
    if takes_tensors(model) and len(resident) == len(frames):
        with torch.inference_mode():
            return [_cut(frame, crop) for frame in resident]
    return [crop.cut(frame.rgb8) for frame in frames]


def embed_views(model: MatteModel | MaskModel, frames: Sequence[Frame], crop: Crop) -> Embedding:
    """Embed a crop of frames as one batch, without gradients."""
    import torch

    with torch.inference_mode():
        return model.embed(views_of(model, frames, crop))


def _cut(frame: ResidentFrame, crop: Crop) -> Tensor:
    """Return the crop's picture (h, w, 3) uint8, bit for bit that of `Crop.cut`."""
    from mam_video.models.taps import resized_as_pillow

    frame.ready.wait(frame.picture)
    part = frame.picture[crop.y0 : crop.y0 + crop.height, crop.x0 : crop.x0 + crop.width]
    return resized_as_pillow(part, crop.content)


def plate_values(plate: Tensor) -> Tensor:
    """Return the numbers of uploaded pixels as float32: int16 holds the bits of uint16."""
    import torch

    if plate.dtype == torch.int16:
        return (plate.int() & 0xFFFF).float()
    return plate.float()
