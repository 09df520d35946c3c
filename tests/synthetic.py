"""Clips made by code, whose truth is known: a saturated green disc that moves over a grey ground."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

GREEN = np.array([0, 255, 0], np.float32)
GREY = np.array([128, 120, 136], np.float32)


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    """Alpha of a disc with an edge of one pixel, (H, W) float32; centre (x, y) with pixel centres at .5."""
    yy, xx = np.mgrid[: size[0], : size[1]].astype(np.float32) + np.float32(0.5)
    return np.clip(radius - np.hypot(xx - centre[0], yy - centre[1]) + 0.5, 0, 1).astype(np.float32)


def picture(alpha: np.ndarray) -> np.ndarray:
    """The green subject of `alpha` over the grey ground, (H, W, 3) uint8."""
    laid = GREEN * alpha[..., None] + GREY * (1 - alpha[..., None])
    return np.rint(laid).astype(np.uint8)


def write_movie(
    path: Path,
    count: int,
    picture_of: Callable[[int], np.ndarray],
    *,
    time_base: Fraction = Fraction(1, 24000),
    pts_of: Callable[[int], int] = lambda i: 1001 * i,
) -> Path:
    """A lossless RGB movie (PNG in MOV, which keeps any time base exactly)."""
    with av.open(str(path), "w") as container:
        first = picture_of(0)
        stream = container.add_stream("png", rate=Fraction(24000, 1001))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "rgb24"
        stream.time_base = time_base
        stream.codec_context.time_base = time_base
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(first if i == 0 else picture_of(i), format="rgb24")
            frame.pts, frame.time_base = pts_of(i), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
