"""Still pictures from disk: colour, and alpha of 8 or 16 bits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from mam_video.core.errors import MediaError
from mam_video.runtime.os_errors import reason

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_NUMBERS = re.compile(r"(\d+)")
_GREY: Final = 0.03  # of the range: mean difference of the channels of grey pictures, coded with loss


def read_rgb(path: Path) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB, upright. Raises: MediaError."""
    rgb: np.ndarray = cv2.cvtColor(_decoded(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return rgb


def read_alpha(path: Path) -> np.ndarray:
    """Return (H, W) float32 in [0, 1]: the picture's alpha channel, or where it has none its grey value.

    Raises: MediaError.
    """
    # A JPEG's grey is its luma as stored, which is what others read too; it has no alpha.
    flags = cv2.IMREAD_GRAYSCALE if path.suffix.lower() in (".jpg", ".jpeg") else cv2.IMREAD_UNCHANGED
    picture = _decoded(path, flags)
    if picture.ndim == 3:
        picture = picture[..., 3] if picture.shape[2] == 4 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    if picture.dtype in (np.uint8, np.uint16):
        return picture.astype(np.float32) / np.float32(np.iinfo(picture.dtype).max)
    if not np.isfinite(picture).all():
        raise MediaError(f"{path}: holds values that are not finite numbers; an alpha is between 0 and 1")
    return np.clip(picture, 0, 1).astype(np.float32)


def is_colour_picture(path: Path) -> bool:
    """Return whether a picture has no alpha and is in colour. Raises: MediaError."""
    picture = _decoded(path, cv2.IMREAD_UNCHANGED)
    return picture.ndim == 3 and picture.shape[2] == 3 and is_coloured(picture)


def is_coloured(picture: np.ndarray) -> bool:
    """Return whether the channels of (H, W, 3) pixels of any range differ by more than coding does."""
    values = picture[::4, ::4].astype(np.float32)
    whole = 1.0 if picture.dtype.kind == "f" else float(np.iinfo(picture.dtype).max)
    return float((values.max(axis=2) - values.min(axis=2)).mean()) > _GREY * whole


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures that lie in a folder, in order: by name, numbers in it as numbers. Raises: MediaError."""
    try:
        found = [p for p in folder.iterdir() if is_picture(p) and not p.name.startswith(".")]
    except OSError as error:
        raise MediaError(f"{folder}: cannot be read ({reason(error)})") from error
    return sorted(found, key=by_number)


def is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def by_number(path: Path) -> list[tuple[int, str]]:
    """Return a sorting key: frame_9 before frame_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBERS.split(path.name)]


def _decoded(path: Path, flags: int) -> np.ndarray:
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({reason(error)})") from error
    picture: np.ndarray | None = cv2.imdecode(data, flags) if data.size else None
    if picture is None:
        raise MediaError(f"{path}: not a picture that can be read; it is damaged, or no PNG, JPEG, TIFF or WebP")
    return picture
