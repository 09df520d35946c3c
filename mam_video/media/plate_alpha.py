"""The alpha that a plate brings along: straight colour on the way in, colour times the new alpha on the way out.

`Frame.rgb` is straight colour always. Where the plate's alpha is 0 there is no straight colour: the stored one is kept.
Of a premultiplied plate that is light without coverage (a glow, a flame), and EXR outputs keep it, times the matte.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mam_video.core.frames import Matted
from mam_video.media.base import ClipInfo
from mam_video.media.pixel_formats import as_16_bit

IGNORED: Final = "ignored"  # of `ClipInfo.alpha`
_LEAST: Final = np.float32(2.0**-24)  # the smallest half float; what lies below counts as 0


def settled(alpha: np.ndarray) -> np.ndarray:
    """Return (H, W) float32 in [0, 1] of an alpha channel as stored.

    Args:
        alpha: (H, W); uint8 or uint16 over their whole range, or floating: above 1 counts as 1, not-a-number as 0.
    """
    if alpha.dtype.kind == "u":
        return alpha.astype(np.float32) / np.float32(np.iinfo(alpha.dtype).max)
    with np.errstate(invalid="ignore"):
        found = np.clip(np.nan_to_num(alpha.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
    found[found < _LEAST] = 0
    return found


def straight_picture(
    rgb: np.ndarray, alpha: np.ndarray | None, association: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a picture and its alpha as a `Frame` takes them: straight colour, and no alpha where it is 1 everywhere.

    Args:
        rgb: (H, W, 3) as stored.
        alpha: (H, W) float32 in [0, 1], or None.
        association: straight or premultiplied: how `rgb` is stored.
    """
    if alpha is None or alpha.min() >= 1:
        return rgb, None
    return (unpremultiplied(rgb, alpha) if association == "premultiplied" else rgb), alpha


def unpremultiplied(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return colour divided by alpha where alpha lies between 0 and 1; elsewhere colour as stored.

    Args:
        rgb: (H, W, 3); uint8 or uint16 over their whole range, or floating.
        alpha: (H, W) float32 in [0, 1].
    Returns: `rgb` itself where nothing is divided; else uint16, rounded and cut at white, or of floats float32.
    """
    soft = (alpha > 0) & (alpha < 1)
    if not soft.any():
        return rgb
    divisor = np.where(soft, alpha, np.float32(1))[..., None]
    if rgb.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            quotient: np.ndarray = rgb.astype(np.float32) / divisor
        return quotient
    codes = as_16_bit(rgb).astype(np.float32)
    codes /= divisor
    np.rint(codes, out=codes)
    np.minimum(codes, np.float32(65535), out=codes)
    return codes.astype(np.uint16)


def light_weight(matted: Matted, info: ClipInfo) -> np.ndarray:
    """Return (H, W) float32: what scene-linear colour is multiplied by in a premultiplied output.

    It is the alpha. Of a premultiplied plate's pixels of alpha 0 it is the matte: their colour is light without
    coverage, which covers nothing in the output either.
    """
    own = matted.frame.alpha
    if own is None or matted.matte is None or info.alpha != "premultiplied":
        return matted.alpha
    return np.where(own > 0, matted.alpha, matted.matte)


def alpha_notes(alpha: np.ndarray | None, association: str, basis: str) -> list[str]:
    """Return the notes on a plate's alpha, by that of its first frame; nothing where that is 1 everywhere."""
    if alpha is None or alpha.min() >= 1:
        return []
    if association == IGNORED:
        return ["the plate's own alpha is left out, as set"]
    if alpha.max() <= 0:
        return ["the plate's own alpha is 0 everywhere in its first frame, and so is the result's; see --ignore-alpha"]
    return [f"the plate's alpha ({association}, {basis}) is multiplied into the matte; --ignore-alpha leaves it out"]
