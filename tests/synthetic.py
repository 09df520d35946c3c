"""A subject whose truth is known: a saturated green disc that moves over a grey ground."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tests.clips import make_clip

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


def write_movie(path: Path, count: int, picture_of: Callable[[int], np.ndarray], **more: Any) -> Path:
    """A lossless RGB movie at 24000/1001 (PNG in MOV, which keeps any time base exactly); `more` as for `make_clip`."""
    settings: dict[str, Any] = {
        "rate": Fraction(24000, 1001),
        "time_base": Fraction(1, 24000),
        "codec": "png",
        "pixel_format": "rgb24",
    }
    return make_clip(path, [picture_of(i) for i in range(count)], **{**settings, **more})
