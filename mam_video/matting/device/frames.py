"""What travels between the stages on a device: frames and mattes whose maps are tensors."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mam_video.core.frames import Frame, Record
from mam_video.models.resident import ResidentFrame, ResidentMotion
from mam_video.models.transfers import Ready, upload_together
from mam_video.motion.flow import Motion
from mam_video.tracking.types import TrackedFrame


class Part(NamedTuple):
    """A rectangle of a frame in whole pixels, half-open."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.y1 - self.y0, self.x1 - self.x0

    def joined(self, other: Part) -> Part:
        """Return the smallest rectangle around both."""
        return Part(
            min(self.y0, other.y0), max(self.y1, other.y1), min(self.x0, other.x0), max(self.x1, other.x1)
        )  # fmt: skip

    def grown(self, pixels: int, size: tuple[int, int]) -> Part:
        """Return it with `pixels` more on each side, inside a frame of `size` (H, W)."""
        return Part(
            max(self.y0 - pixels, 0), min(self.y1 + pixels, size[0]),
            max(self.x0 - pixels, 0), min(self.x1 + pixels, size[1]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class ResidentMatted:
    """A frame with the alpha of its subject on a device: `Matted` with tensors for arrays.

    alpha      (H, W) float32 in [0, 1]
    record     without agreement and flicker, which are read when the frame is delivered
    part       where alpha may lie between 0 and 1, known without reading it
    coverage   before edge operations; None: as alpha
    parts      of several subjects each one's own
    matte      of a plate with alpha: what that was multiplied with
    colour     (3, H, W) float32: the subject's own colour in the plate's codes; None: the plate's
    agreement  () float32, as in `Record`
    flicker    () float32, as in `Record`; None where no motion leads to the frame
    """

    frame: ResidentFrame
    alpha: Tensor
    record: Record
    part: Part
    coverage: Tensor | None = None
    parts: tuple[ResidentMatted, ...] = ()
    matte: Tensor | None = None
    colour: Tensor | None = None
    agreement: Tensor | None = None
    flicker: Tensor | None = None

    def __post_init__(self) -> None:
        for alpha in (self.alpha, self.coverage, self.matte):
            if alpha is not None and (alpha.dtype != torch.float32 or tuple(alpha.shape) != self.frame.size):
                raise TypeError(f"alpha must be {self.frame.size} float32, is {tuple(alpha.shape)} {alpha.dtype}")


@dataclass(frozen=True, slots=True)
class ResidentCrop:
    """A tracked frame with the alpha of its crop on a device.

    alpha  (height, width) float32 in [0, 1]
    mask   (m, m) float32, the logits over the crop's square
    ready  when both are there
    """

    tracked: TrackedFrame
    alpha: Tensor = field(repr=False)
    mask: Tensor = field(repr=False)
    ready: Ready = field(repr=False)


def upload_frame(frame: Frame, motion: Motion | None, device: torch.device) -> ResidentFrame:
    """Upload a frame and the motion that leads to it, in one copy that the CPU does not wait for."""
    from_plate = frame.look is None and frame.rgb.dtype.kind == "u"
    arrays: list[np.ndarray] = [frame.rgb]
    if not from_plate:
        arrays.append(frame.rgb8)
    if frame.alpha is not None:
        arrays.append(frame.alpha)
    if motion is not None:
        flows = np.stack([motion.backward, motion.forward]).transpose(0, 3, 1, 2)
        arrays += [flows, np.stack([motion.trusted(), motion.trusted(back=True)]).astype(np.float32)]
    plate, *others = upload_together(arrays, device, "frame")
    rest = iter(others)
    return ResidentFrame(
        **{each.name: getattr(frame, each.name) for each in fields(Frame)},
        host=frame,
        plate=plate,
        picture=_display(plate) if from_plate else next(rest),
        own_alpha=None if frame.alpha is None else next(rest),
        motion=None if motion is None else ResidentMotion(next(rest), next(rest)),
        ready=Ready(device),
    )


def _display(plate: Tensor) -> Tensor:
    """Return (H, W, 3) uint8 of whole-number pixels, rounded to nearest: a 16-bit code has 257 steps to one of 8."""
    if plate.dtype == torch.uint8:
        return plate
    return (((plate.int() & 0xFFFF) + 128) // 257).to(torch.uint8)
