"""Which rectangle of the frame the model looks at, and in what size; exact both ways.

A `Crop` is a rectangle of whole frame pixels, scaled so that its longer side fills the model's square of `size`
pixels; the square's rest, to the right and below, is padding that the model adds. Whole pixels make the way back exact:
a map of the view is resized to the rectangle and laid down without another resampling.

Geometry is that of pixel centres everywhere (half-pixel centres, `align_corners=False`): frame coordinate x is view
coordinate (x - x0) * scale_x, for edges and positions alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mam_video.core.arrays import RGB8
from mam_video.core.geometry import Box

if TYPE_CHECKING:  # PyTorch takes seconds to load, and not every process computes with it
    import torch


@dataclass(frozen=True, slots=True)
class Crop:
    """x0, y0, width, height in whole frame pixels; `size` is the side of the model's square."""

    x0: int
    y0: int
    width: int
    height: int
    size: int

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.size) < 1 or min(self.x0, self.y0) < 0:
            raise ValueError(f"not a rectangle inside a frame: {self}")

    @classmethod
    def whole(cls, frame_size: tuple[int, int], size: int) -> Crop:
        """The whole frame of `frame_size` (H, W): what SAM does."""
        return cls(0, 0, frame_size[1], frame_size[0], size)

    @classmethod
    def around(cls, box: Box, frame_size: tuple[int, int], size: int, grow: float) -> Crop:
        """A square of `grow` times the longer side of `box` about its centre, kept inside the frame.

        Where the square does not fit it is shifted, and where the frame is narrower it takes the frame's whole width.
        """
        h, w = frame_size
        side = max(math.ceil(max(box.width, box.height) * grow), 16)
        view_w, view_h = min(side, w), min(side, h)
        cx, cy = box.centre
        x0 = min(max(round(cx - view_w / 2), 0), w - view_w)
        y0 = min(max(round(cy - view_h / 2), 0), h - view_h)
        return cls(x0, y0, view_w, view_h, size)

    @property
    def box(self) -> Box:
        return Box(self.x0, self.y0, self.x0 + self.width, self.y0 + self.height)

    @property
    def content(self) -> tuple[int, int]:
        """(h, w) of the picture inside the square, in view pixels; the longer one is `size`.

        Source: SAM's resize of the longest side, which rounds halves up.
        """
        scale = self.size / max(self.width, self.height)
        return max(int(self.height * scale + 0.5), 1), max(int(self.width * scale + 0.5), 1)

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y): view pixels a frame pixel. They differ slightly, since `content` is rounded."""
        h, w = self.content
        return w / self.width, h / self.height

    def cut(self, picture: RGB8) -> RGB8:
        """The view's picture (h, w, 3) uint8 of `content` size, from a frame's (H, W, 3) uint8.

        Pillow's bilinear on 8 bits, antialiased when shrinking: what SAM and MAM were trained on.
        """
        part = np.ascontiguousarray(picture[self.y0 : self.y0 + self.height, self.x0 : self.x0 + self.width])
        h, w = self.content
        if (h, w) == part.shape[:2]:
            return part
        return np.asarray(Image.fromarray(part).resize((w, h), Image.Resampling.BILINEAR))

    def to_view(self, box: Box) -> Box:
        """A box of frame pixels in view pixels."""
        sx, sy = self.scale
        return Box((box.x0 - self.x0) * sx, (box.y0 - self.y0) * sy, (box.x1 - self.x0) * sx, (box.y1 - self.y0) * sy)

    def point_to_view(self, x: float, y: float) -> tuple[float, float]:
        sx, sy = self.scale
        return (x - self.x0) * sx, (y - self.y0) * sy

    def to_frame(self, box: Box) -> Box:
        """A box of view pixels in frame pixels."""
        sx, sy = self.scale
        return Box(box.x0 / sx + self.x0, box.y0 / sy + self.y0, box.x1 / sx + self.x0, box.y1 / sy + self.y0)

    def to_rectangle(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps of the square, (N, C, size, size) or any smaller square (a coarse mask), at the rectangle's size.

        Enlarged to the square first where smaller, then cropped to the content, then resized to (N, C, height, width):
        the order of SAM's and MAM's own post-processing, bilinear with half-pixel centres and no antialias.
        """
        import torch.nn.functional as F

        if maps.shape[-1] != self.size:
            maps = F.interpolate(maps, size=(self.size, self.size), mode="bilinear", align_corners=False)
        h, w = self.content
        maps = maps[..., :h, :w]
        if (h, w) == (self.height, self.width):
            return maps
        return F.interpolate(maps, size=(self.height, self.width), mode="bilinear", align_corners=False)

    def paste(self, part: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
        """A map of the rectangle, (height, width), in a frame of zeros of `frame_size` (H, W)."""
        if part.shape == frame_size:
            return part
        whole = np.zeros(frame_size, part.dtype)
        whole[self.y0 : self.y0 + self.height, self.x0 : self.x0 + self.width] = part
        return whole
