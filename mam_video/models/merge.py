"""Merge M2M's three alphas: finer alphas replace the coarse one where it is uncertain.

Everything is computed at the size of the picture, so the widths of unknown regions are in its pixels. Each function
takes NumPy arrays (processed by OpenCV) or torch tensors (processed by convolutions on their device). It returns the
same kind, and both kinds give the same values bit for bit.

Source: the public inference code of "Matting Anything" (arXiv 2306.05399). Differs: nothing is rounded to 8 bits, the
inputs are never changed, and an empty mask gives a result.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from mam_video.core.crop import Crop
from mam_video.core.settings import MatteSettings
from mam_video.models.transfers import download, upload

# A map of one picture: a NumPy array, or a tensor on any device. Input and output are of the same kind.
Map = TypeVar("Map", np.ndarray, torch.Tensor)

# An alpha below the first is certain background, above the second certain subject. Compared strictly, in float32.
SURELY_BACKGROUND = float(np.float32(1 / 255))
SURELY_SUBJECT = float(np.float32(1 - 1 / 255))

# The widths of the settings hold for pictures up to this side, the model's square.
REFERENCE_SIDE = 1024


def kernel_of(width: int) -> np.ndarray:
    """Return the structuring element for an unknown region of `width` pixels, (k, k) uint8 with k = width // 2.

    It is OpenCV's ellipse with the anchor k // 2, so even sizes are lopsided. Widths below 2 give OpenCV's 3x3 default.
    """
    k = width // 2
    if k == 0:
        return np.ones((3, 3), np.uint8)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (k, k))


def dilate(region: Map, width: int) -> Map:
    """Dilate `region` (H, W) bool by the kernel of `width`. Returns: (H, W) bool."""
    kernel = kernel_of(width)
    if isinstance(region, np.ndarray):
        return cv2.dilate(region.view(np.uint8), kernel).view(np.bool_)
    from kornia.filters import filter2d  # here, since a run on the CPU never needs it

    k, anchor = kernel.shape[0], kernel.shape[0] // 2
    weight = _kernel_on(width, region.device)
    padded = F.pad(region.float()[None, None], (anchor, k - 1 - anchor, anchor, k - 1 - anchor))
    # The sums are whole numbers: exact in float32, and in TF32 too. kornia's own dilation is slower (docs/design.md).
    return filter2d(padded, weight, padding="valid")[0, 0] > 0.5


@lru_cache(maxsize=64)
def _kernel_on(width: int, device: torch.device) -> torch.Tensor:
    """Return the kernel of `width` as kornia takes it, (1, k, k) float32; uploaded once."""
    return upload(kernel_of(width).astype(np.float32)[None], device, "tables")


def erode(region: Map, width: int) -> Map:
    """Erode `region` (H, W) bool by the kernel of `width`; pixels beyond the border count as set."""
    return ~dilate(~region, width)


def unknown_from_alpha(alpha: Map, width: int, *, two_sided: bool) -> Map:
    """Find where a finer alpha must replace `alpha` (H, W) float32. Returns: (H, W) bool.

    One-sided: the dilation of all that is not certain background, without certain subject. Two-sided: the dilation of
    all that is neither.
    """
    not_background = ~(alpha < SURELY_BACKGROUND)
    subject = alpha > SURELY_SUBJECT
    if two_sided:
        return dilate(not_background & ~subject, width)
    return dilate(not_background, width) & ~subject


def unknown_from_mask(mask: Map, width: int, *, two_sided: bool) -> Map:
    """Find a band along the edge of `mask` (H, W) bool, outside it or on both sides. Returns: (H, W) bool."""
    near = dilate(mask, width)
    return near & ~(erode(mask, width) if two_sided else mask)


def outside_box(mask: Map) -> Map:
    """Mark the pixels outside the tight box of `mask` (H, W) bool; all pixels if the mask is empty.

    The box's last row and column count as outside, as in the reference. Returns: (H, W) bool.
    """
    if isinstance(mask, torch.Tensor):
        rows, columns = (between(mask.any(axis), whole=False) for axis in (1, 0))
        return ~(rows[:, None] & columns)
    outside = np.ones(mask.shape, np.bool_)
    extent = _extent(mask)
    if extent is not None:
        y0, y1, x0, x1 = extent
        outside[y0 : y1 - 1, x0 : x1 - 1] = False
    return outside


def merge_levels(os8: Map, os4: Map, os1: Map, mask: Map, settings: MatteSettings) -> Map:
    """Merge the three alphas of one picture by progressive refinement.

    Args:
        os8, os4, os1: (H, W) float32 in [0, 1], each already resized to the picture.
        mask: (H, W) bool, the segmenter's mask at that size.
        settings: guidance, box_clean, sides and widths.
    Returns: (H, W) float32 in [0, 1], a new map. With alpha guidance, `box_clean` and an empty mask it is 0
        everywhere, because all pixels lie outside the box. (The reference fails there.)
    Raises: ValueError, the sizes differ.
    """
    if not (os8.shape == os4.shape == os1.shape == mask.shape) or os8.ndim != 2:
        raise ValueError(f"maps differ in size: {os8.shape} {os4.shape} {os1.shape} {mask.shape}")
    two_sided = settings.two_sided
    w8, w4, w1 = widths_for((int(os8.shape[0]), int(os8.shape[1])), settings)

    # Pixels farther from the subject than the kernels reach keep the base alpha. So the refinement runs only on a part
    # of the picture. The result is exact; the tests compare it with the whole picture.
    if settings.guidance == "mask":
        base = _as_alpha(mask)
        part = _part(mask, w8, w4, w1)
    else:
        cleaned = settings.box_clean
        base = _where(outside_box(mask), _as_alpha(mask), os8) if cleaned else _copied(os8)
        part = _part(~(base < SURELY_BACKGROUND), w4, w1)
    if part is None:
        return base
    alpha, os8, os4, os1, mask = base[part], os8[part], os4[part], os1[part], mask[part]
    if settings.guidance == "mask":
        alpha = _where(unknown_from_mask(mask, w8, two_sided=two_sided), os8, alpha)
    alpha = _where(unknown_from_alpha(alpha, w4, two_sided=two_sided), os4, alpha)
    alpha = _where(unknown_from_alpha(alpha, w1, two_sided=two_sided), os1, alpha)
    base[part] = alpha
    return base


def compose_alpha(levels: torch.Tensor, logits: np.ndarray, view: Crop, settings: MatteSettings) -> np.ndarray:
    """Compose the alpha of a crop's rectangle from the levels that the model returned.

    Args:
        levels: (levels, size, size) float32 over the crop's square, as `Model.matte` returns them for one picture. One
            level is the alpha itself; three are os8, os4, os1 and are merged.
        logits: (m, m) float32, the mask chosen for this picture; above 0 is subject.
        view: the crop, which says where the picture lies in the frame.
        settings: settings of the merge.
    Returns: (view.height, view.width) float32 in [0, 1].
    """
    maps = view.to_rectangle(levels[None])[0]
    if maps.shape[0] == 1:
        return download(maps[0], "alpha")
    assert maps.shape[0] == 3, f"a model must return 1 or 3 levels, returned {maps.shape[0]}"
    mask = mask_of(logits, view, maps.device)
    if maps.device.type == "cpu":
        os8, os4, os1 = download(maps, "alpha")
        return merge_levels(os8, os4, os1, mask.numpy(), settings)
    return download(merge_levels(maps[0], maps[1], maps[2], mask, settings), "alpha")


def compose_on_device(levels: torch.Tensor, logits: torch.Tensor, view: Crop, settings: MatteSettings) -> torch.Tensor:
    """Compose the alpha of a crop's rectangle as `compose_alpha`, and leave it on the device: nothing is read.

    Args:
        levels: (levels, size, size) float32; logits: (m, m) float32, on the same device.
    Returns: (view.height, view.width) float32 in [0, 1].
    """
    maps = view.to_rectangle(levels[None])[0]
    if maps.shape[0] == 1:
        return maps[0]
    os8, os4, os1 = maps
    return merge_levels(os8, os4, os1, view.to_rectangle(logits[None, None])[0, 0] > 0, settings)


def mask_of(logits: np.ndarray, view: Crop, device: torch.device | str = "cpu") -> torch.Tensor:
    """Make the hard mask of a crop's rectangle, (view.height, view.width) bool, from (m, m) float32 logits.

    The logits are enlarged first and then compared with 0; the opposite order would make a staircase edge.
    """
    whole = upload(logits, torch.device(device), "guide")
    return view.to_rectangle(whole[None, None])[0, 0] > 0


def widths_for(size: tuple[int, int], settings: MatteSettings) -> tuple[int, int, int]:
    """Compute the widths for os8, os4 and os1 in pixels of a picture of `size` (H, W).

    With `scale_widths` they grow in proportion to the longer side beyond 1024 pixels.
    """
    scale = max(1.0, max(size) / REFERENCE_SIDE) if settings.scale_widths else 1.0
    return round(settings.os8_width * scale), round(settings.os4_width * scale), round(settings.os1_width * scale)


def between(marks: torch.Tensor, *, whole: bool = True) -> torch.Tensor:
    """Return (n,) bool: from the first mark of (n,) bool to the last, or to the one before it; nothing is read."""
    begun = marks.int().cummax(0).values
    left = marks.int().flip(0).cummax(0).values.flip(0)
    if not whole:
        left = F.pad(left[1:], (0, 1))
    return (begun & left) > 0


def _extent(region: np.ndarray) -> tuple[int, int, int, int] | None:
    """Find the tight box of a region as y0, y1, x0, x1, half-open; None if it is empty."""
    x, y, w, h = cv2.boundingRect(region.view(np.uint8))
    return (y, y + h, x, x + w) if w else None


def _part(region: Map, *widths: int) -> tuple[slice, slice] | None:
    """Find the rows and columns that successive dilations of `region` by `widths` can change; None if it is empty.

    Of tensors all: to find them would mean to wait for the device.
    """
    if isinstance(region, torch.Tensor):
        return slice(None), slice(None)
    extent = _extent(region)
    if extent is None:
        return None
    reach = sum(kernel_of(w).shape[0] for w in widths)
    y0, y1, x0, x1 = extent
    return slice(max(y0 - reach, 0), y1 + reach), slice(max(x0 - reach, 0), x1 + reach)


def _where(condition: Map, yes: Map, no: Map) -> Map:
    if isinstance(condition, np.ndarray):
        return np.where(condition, yes, no)
    return torch.where(condition, yes, no)


def _as_alpha(mask: Map) -> Map:
    return mask.astype(np.float32) if isinstance(mask, np.ndarray) else mask.float()


def _copied(alpha: Map) -> Map:
    return alpha.copy() if isinstance(alpha, np.ndarray) else alpha.clone()
