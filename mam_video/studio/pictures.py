"""Pictures for the page: plates as JPEG or PNG, mattes as PNG whose alpha channel is the matte."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from mam_video.core.arrays import RGB8, Alpha
from mam_video.core.frames import Frame

VIEW_WIDTH: Final = 1100  # pixels; plates are halved until they are no wider, for scrubbing
_QUALITY: Final = 88
_FAST: Final = [cv2.IMWRITE_PNG_COMPRESSION, 1]


def view_size(width: int, height: int) -> tuple[int, int]:
    """Return (width, height) of a plate for scrubbing: halved until it is at most `VIEW_WIDTH` wide."""
    parts = 1
    while width / parts > VIEW_WIDTH:
        parts *= 2
    return max(round(width / parts), 1), max(round(height / parts), 1)


def plate_view(frame: Frame) -> bytes:
    """Encode a plate for scrubbing, as JPEG."""
    h, w = frame.size
    return view_jpeg(_resized(frame.rgb8, view_size(w, h)))


def view_jpeg(picture: RGB8) -> bytes:
    """Encode a picture that has its size for scrubbing already, (H, W, 3) uint8 RGB."""
    return _encoded(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])


def plate_full(frame: Frame) -> bytes:
    """Encode a plate with every pixel as it is shown, as PNG of 8 bits."""
    return _encoded(".png", cv2.cvtColor(frame.rgb8, cv2.COLOR_RGB2BGR), _FAST)


def matte_picture(alpha: Alpha, *, full: bool) -> bytes:
    """Encode a matte as a white PNG whose alpha channel is the matte, in 8 bits; `full` or for scrubbing."""
    codes = np.rint(alpha * 255).astype(np.uint8)
    if not full:
        codes = _resized(codes, view_size(alpha.shape[1], alpha.shape[0]))
    picture = np.full((*codes.shape, 4), 255, np.uint8)
    picture[..., 3] = codes
    return _encoded(".png", picture, _FAST)


def codes_png(alpha: Alpha) -> bytes:
    """Encode an alpha to keep it: PNG, gray of 16 bits, rounded."""
    return _encoded(".png", np.rint(alpha * 65535).astype(np.uint16), _FAST)


def alpha_of_png(data: bytes) -> Alpha:
    """Decode what `codes_png` gave. Raises: ValueError, it is damaged."""
    codes = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if codes is None or codes.dtype != np.uint16 or codes.ndim != 2:
        raise ValueError("not a matte of 16 bits")
    return np.asarray(codes, np.float32) / np.float32(65535)


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _encoded(kind: str, picture: np.ndarray, options: list[int]) -> bytes:
    good, data = cv2.imencode(kind, picture, options)
    if not good:
        raise ValueError(f"a picture of {picture.shape} {picture.dtype} cannot be encoded")
    return data.tobytes()
