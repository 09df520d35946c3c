"""Views of one picture, whose masks are averaged where the user points (test-time augmentation).

The segmenter looks at the crop, at its mirror image, and at a closer part around the box and its mirror image. What one
of them gets wrong, the others mostly get right (docs/measurements.md). Only prompted frames are looked at in this way:
each view costs an embedding and a mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from mam_video.core.geometry import Box
from mam_video.models.base import ViewPrompt

CLOSER = 1.25  # side of the closer part, in longer sides of the box
_WORTH = 0.95  # a part with more than this share of the picture's longer side shows nothing new
_OUTSIDE = -8.0  # a logit: beyond a view is background


@dataclass(frozen=True, slots=True)
class PartView:
    """A part of a square of `size` pixels, enlarged to fill such a square, and mirrored or not.

    x0, y0, x1, y1  the part, in pixels of the square
    content         (h, w) of the picture in the view, in pixels; its longer side is `size`, or that of an unscaled part
    """

    x0: int
    y0: int
    x1: int
    y1: int
    size: int
    content: tuple[int, int]
    mirrored: bool

    @classmethod
    def of(cls, part: tuple[int, int, int, int], size: int, mirrored: bool, *, enlarged: bool = True) -> PartView:
        """A view of the part x0, y0, x1, y1."""
        x0, y0, x1, y1 = part
        scale = size / max(x1 - x0, y1 - y0) if enlarged else 1.0
        content = (min(round((y1 - y0) * scale), size), min(round((x1 - x0) * scale), size))
        return cls(x0, y0, x1, y1, size, content, mirrored)

    def is_whole(self, content: tuple[int, int]) -> bool:
        """Whether it shows the picture of the square, (h, w) `content`, as it is."""
        return not self.mirrored and (self.x0, self.y0, self.x1, self.y1) == (0, 0, content[1], content[0])

    def picture(self, square: Tensor) -> Tensor:
        """Its picture (1, 3, h, w) of `content` size, from that of the square (1, 3, size, size)."""
        part = square[..., self.y0 : self.y1, self.x0 : self.x1]
        if tuple(part.shape[2:]) != self.content:
            part = _resized(_resized(part, self.content[0], 2), self.content[1], 3)
        return part.flip(-1) if self.mirrored else part

    def prompt(self, prompt: ViewPrompt) -> ViewPrompt:
        """The prompt in the view's pixels, without mask and motion; references show other pictures and stay."""
        box, points = prompt.box, np.zeros_like(prompt.points)
        if len(points):
            points[:, 0], points[:, 1] = self._to_view(prompt.points[:, 0], prompt.points[:, 1])
        if box is not None:
            x, y = self._to_view(np.array([box.x0, box.x1]), np.array([box.y0, box.y1]))
            box = Box(float(x.min()), float(y[0]), float(x.max()), float(y[1]))
        return replace(prompt, box=box, points=points, logits=None, motion=None)

    def from_square(self, logits: np.ndarray) -> np.ndarray:
        """A mask of the square, (m, m) float32 logits, as one of the view."""
        x, y = _centres(len(logits), self.size)
        if self.mirrored:
            x = self.content[1] - x
        sx, sy = self._scale
        return _sampled(logits, x / sx + self.x0, y / sy + self.y0, self.size)

    def to_square(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A mask of the view, (m, m) float32 logits, as one of the square, and where the view shows it, (m, m) bool."""
        x, y = _centres(len(logits), self.size)
        shown = (x > self.x0) & (x < self.x1) & (y > self.y0) & (y < self.y1)
        return _sampled(logits, *self._to_view(x, y), self.size), shown

    @property
    def _scale(self) -> tuple[float, float]:
        return self.content[1] / (self.x1 - self.x0), self.content[0] / (self.y1 - self.y0)

    def _to_view(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sx, sy = self._scale
        x, y = (x - self.x0) * sx, (y - self.y0) * sy
        return self.content[1] - x if self.mirrored else x, y


def views_of(prompt: ViewPrompt, content: tuple[int, int], size: int, cell: int) -> list[PartView]:
    """The views for a prompt: the picture as it is first, then its mirror image, then closer ones if there is a box.

    Args:
        content: (h, w) of the picture in its square.
        size: the square's side.
        cell: pixels of a mask's cell; parts begin and end between cells, or where the picture ends.
    """
    h, w = content
    whole = (0, 0, w, h)
    found = [PartView.of(whole, size, mirrored, enlarged=False) for mirrored in (False, True)]
    closer = _closer(prompt.box, content, cell) if prompt.box is not None else whole
    if max(closer[2] - closer[0], closer[3] - closer[1]) < _WORTH * max(h, w):
        found += [PartView.of(closer, size, mirrored) for mirrored in (False, True)]
    return found


def mean_logits(views: Sequence[PartView], masks: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the views' masks, (m, m) float32 logits over the square; each counts where it shows the picture."""
    total, count = np.zeros_like(masks[0]), np.zeros_like(masks[0])
    for view, mask in zip(views, masks, strict=True):
        mapped, shown = view.to_square(mask)
        total += np.where(shown, mapped, 0)
        count += shown
    return np.where(count > 0, total / np.maximum(count, 1), np.float32(_OUTSIDE))


def _closer(box: Box, content: tuple[int, int], cell: int) -> tuple[int, int, int, int]:
    margin = (CLOSER - 1) / 2 * max(box.width, box.height)
    h, w = content
    x0, y0 = (max(math.floor((v - margin) / cell) * cell, 0) for v in (box.x0, box.y0))
    x1, y1 = (math.ceil((v + margin) / cell) * cell for v in (box.x1, box.y1))
    return x0, y0, max(min(x1, w), x0 + cell), max(min(y1, h), y0 + cell)


def _resized(x: Tensor, length: int, axis: int) -> Tensor:
    """Resize one axis, bilinear with half-pixel centres.

    `F.interpolate` computes the pixels at the borders of its threads' shares in another way; this depends on no thread.
    """
    before = x.shape[axis]
    place = (torch.arange(length, device=x.device, dtype=torch.float32) + 0.5) * (before / length) - 0.5
    place = place.clamp(0, before - 1)
    low = place.floor()
    share = (place - low).view(-1, *(1,) * (x.ndim - axis - 1))
    first, second = (x.index_select(axis, at.long()) for at in (low, (low + 1).clamp(max=before - 1)))
    return first * (1 - share) + second * share


def _centres(m: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The centres of a square's (m, m) cells in its pixels: x and y."""
    centre = (np.arange(m, dtype=np.float32) + np.float32(0.5)) * np.float32(size / m)
    x, y = np.meshgrid(centre, centre)
    return x, y


def _sampled(logits: np.ndarray, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """A mask, (m, m) logits over a square, at positions in its pixels."""
    to_cells = np.float32(len(logits) / size)
    map_x, map_y = ((v * to_cells - 0.5).astype(np.float32) for v in (x, y))
    return np.asarray(cv2.remap(logits, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
