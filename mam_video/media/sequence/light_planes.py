"""What an EXR holds of a matted frame: linear light times alpha, in half or float, made by all cores band by band.

Only what alpha leaves is looked at: a band's columns outside the subject stay 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mam_video.core.frames import Frame
from mam_video.media.bands import bands
from mam_video.media.view_transforms import SRGB, CurveTransform, VideoTransform
from mam_video.runtime.cores import cores
from mam_video.runtime.streams import ordered_map

Inside = tuple[slice, slice]  # rows and columns


def stored_alpha(alpha: np.ndarray, dtype: type[np.floating[Any]]) -> np.ndarray:
    """Return alpha (h, w) float32 as `dtype`; half floats are made one by one only where it is neither 0 nor 1."""
    stored = np.zeros(alpha.shape, dtype)

    def convert(part: Inside) -> None:
        own = alpha[part]
        if dtype is not np.float16:
            stored[part] = own
            return
        solid = (own == 1).astype(np.uint16)
        solid *= np.float16(1).view(np.uint16)
        halves = solid.view(np.float16)
        soft = np.flatnonzero((own != 0) & (own != 1))
        halves.ravel()[soft] = own.ravel()[soft].astype(np.float16)
        stored[part] = halves

    _in_bands(convert, alpha)
    return stored


def light_planes(
    frame: Frame, inside: Inside, weight: np.ndarray, dtype: type[np.floating[Any]], *, narrow: bool
) -> list[np.ndarray]:
    """Return linear light times `weight` of a part of a frame, as three (h, w) planes of `dtype`.

    Where the weight is 1 a plane is converted as it is, whole numbers by a table; only where it lies between 0 and 1
    is anything multiplied. It is 0 where the weight is 0, whatever stands in the plate.

    narrow  cut what half floats cannot hold, instead of making it infinite
    """

    def stored(light: np.ndarray) -> np.ndarray:
        return _in_half(light) if narrow else light.astype(dtype)

    rgb, look = frame.rgb[inside], frame.look or SRGB
    table: np.ndarray | None = None
    if rgb.dtype.kind != "f":
        if isinstance(look, CurveTransform | VideoTransform):
            table = look.linear(np.arange(np.iinfo(rgb.dtype).max + 1, dtype=rgb.dtype))
        else:
            rgb = look.linear(rgb)
    codes = None if table is None else stored(table)
    planes = list(np.zeros((3, *weight.shape), dtype))

    def convert(part: Inside) -> None:
        own = weight[part]
        clear, soft = own == 0, np.flatnonzero((own != 0) & (own != 1))
        some_clear, share = clear.any(), own.ravel()[soft]
        for whole, values in zip(planes, np.moveaxis(rgb[part], 2, 0), strict=True):
            plane = np.ascontiguousarray(values)
            if 4 * len(soft) > own.size:  # picking would take longer
                whole[part] = stored(_times(plane if table is None else table.take(plane), own))
                continue
            light = stored(plane) if codes is None else codes.take(plane)
            if some_clear:
                np.copyto(light, 0, where=clear)
            mixed = plane.ravel()[soft]
            light.ravel()[soft] = stored(_times(mixed if table is None else table.take(mixed), share))
            whole[part] = light

    _in_bands(convert, weight)
    return planes


def _in_bands(convert: Callable[[Inside], None], weight: np.ndarray) -> None:
    """Call `convert` for the parts of a picture that hold all of its weight (h, w) that is not 0, on all cores."""

    def visit(rows: slice) -> None:
        used = np.flatnonzero(weight[rows].max(axis=0))
        if len(used):
            with np.errstate(invalid="ignore", over="ignore"):
                convert((rows, slice(int(used[0]), int(used[-1]) + 1)))

    if weight.size:
        for _ in ordered_map(visit, bands(*weight.shape), cores(), "light"):
            pass


def _times(plane: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return float32: plane times weight; 0 where that is 0, whatever stands in the plane."""
    product: np.ndarray = plane.astype(np.float32) * weight
    product[weight == 0] = 0
    return product


def _in_half(plane: np.ndarray) -> np.ndarray:
    """float16 of float32; beyond its largest number, 65504, that."""
    top = np.float32(np.finfo(np.float16).max)
    return np.clip(plane, -top, top).astype(np.float16)
