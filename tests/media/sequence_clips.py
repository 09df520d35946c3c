"""Sequences made by code: by OpenEXR and OpenCV called plainly, and DPX byte by byte, not by what is under test."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenEXR

HEIGHT, WIDTH = 37, 53


def chart(shift: int = 0) -> np.ndarray:
    """(37, 53, 3) float64 in [0, 1]: a ramp, saturated squares, one-pixel lines; everything moves with `shift`."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    rgb = np.stack([x / (WIDTH - 1), y / (HEIGHT - 1), (x + y) / (WIDTH + HEIGHT - 2)], -1)
    for k, colour in enumerate(((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0))):
        rgb[6:12, 6 * k + 4 : 6 * k + 10] = colour
    rgb[20 + shift] = 0
    rgb[22 + shift] = 1
    rgb[:, 30 + shift] = (1, 1, 1)
    rgb[:, 32 + shift] = (0, 0, 0)
    return rgb


def alpha_ramp() -> np.ndarray:
    """(37, 53) float32: 0 on the left, 1 on the right, every value between, solid and empty borders."""
    x = np.mgrid[0:HEIGHT, 0:WIDTH][1].astype(np.float64)
    return np.clip((x - 8) / (WIDTH - 17), 0, 1).astype(np.float32)


def hdr(shift: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """(37, 53, 3): scene-linear values from -0.5 to 16, with infinity and the smallest half among them."""
    values = chart(shift) * 16
    values[0, :4] = [(-0.5, 1.0, 2.0), (16.0, 0.18, 1.5), (6e-8, 1e-3, 0.99), (np.inf, 1.0, 0.0)]
    return values.astype(dtype)


def write_exr(
    path: Path,
    rgb: np.ndarray,
    *,
    corner: tuple[int, int] = (0, 0),
    display: tuple[int, int, int, int] | None = None,
    compression: Any = None,
    prefix: str = "",
    **attributes: Any,
) -> Path:
    """One EXR of plain R, G, B. corner: (x, y) of the data window; display: inclusive, as EXR has it."""
    height, width = rgb.shape[:2]
    x, y = corner
    header: dict[str, Any] = {
        "compression": OpenEXR.ZIP_COMPRESSION if compression is None else compression,
        "type": OpenEXR.scanlineimage,
        "dataWindow": ((x, y), (x + width - 1, y + height - 1)),
        **attributes,
    }
    if display is not None:
        header["displayWindow"] = (display[:2], display[2:])
    else:
        header["displayWindow"] = header["dataWindow"]
    planes = {prefix + name: np.ascontiguousarray(rgb[..., k]) for k, name in enumerate("RGB")}
    OpenEXR.File(header, planes).write(str(path))
    return path


def read_exr(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and channels, straight from the library."""
    file = OpenEXR.File(str(path), separate_channels=True)
    return file.header(), {name: channel.pixels.copy() for name, channel in file.channels().items()}


def dpx_bytes(
    codes: np.ndarray,
    bits: int = 10,
    *,
    order: str = ">",
    packing: int = 1,
    transfer: int = 1,
    rate: float | None = None,
    timecode: int | None = None,
) -> bytes:
    """A DPX by the book (SMPTE ST 268-1), of (H, W, 3) codes, field by field."""
    height, width = codes.shape[:2]
    undefined = 0xFFFFFFFF
    file = struct.pack(f"{order}4sI8s", b"SDPX" if order == ">" else b"XPDS", 2048, b"V1.0")
    if bits == 10:
        shifts = (22, 12, 2) if packing == 1 else (20, 10, 0)
        words = sum(codes[..., k].astype(np.uint32) << shifts[k] for k in range(3))
        pixels = np.asarray(words).astype(f"{order}u4").tobytes()
    elif bits == 12:
        pixels = (codes.astype(np.uint16) << (4 if packing == 1 else 0)).astype(f"{order}u2").tobytes()
    else:
        pixels = codes.astype("u1" if bits == 8 else f"{order}u2").tobytes()
    file += struct.pack(f"{order}IIIII", 2048 + len(pixels), 1, 1664, 384, 0)
    file += b"plate.dpx".ljust(100, b"\0") + b"\0" * (24 + 100 + 200 + 200)
    file += struct.pack(f"{order}I", undefined) + b"\0" * 104
    assert len(file) == 768
    file += struct.pack(f"{order}HHII", 0, 1, width, height)
    file += struct.pack(f"{order}IIfIf", 0, 0, 0.0, (1 << bits) - 1, 2.047)
    file += struct.pack(f"{order}BBBBHHIII", 50, transfer, 1, bits, packing, 0, 2048, 0, 0) + b"\0" * 32
    file = file.ljust(1628, b"\0") + struct.pack(f"{order}II", 1, 1)
    file = file.ljust(1664, b"\0").ljust(1920, b"\xff")
    file += struct.pack(f"{order}I", undefined if timecode is None else timecode) + b"\xff" * 16
    file += struct.pack(f"{order}f", rate) if rate is not None else b"\xff" * 4
    return file.ljust(2048, b"\xff") + pixels


def write_cv(path: Path, rgb: np.ndarray) -> Path:
    """PNG, TIFF or JPEG of (H, W, 3) by OpenCV."""
    assert cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]))
    return path
