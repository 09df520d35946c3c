"""DPX (SMPTE ST 268-1): RGB of 8, 10, 12 or 16 bits in, mattes of 10 bits out.

Our own small reader, since a DPX's values mean nothing without its transfer tag, which FFmpeg does not pass on, and
since FFmpeg widens nothing: codes are scaled here to 16 bits and rounded.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from mam_video.media.sequence.image_header import ImageHeader, check_size, read_head, read_whole, refuse

_HEADER: Final = 2048
_SAMPLES: Final = {50: 3, 51: 4, 52: 4}  # descriptor: R,G,B / R,G,B,A / A,B,G,R
_TRANSFERS: Final = {1: "log", 3: "log", 2: "linear", **dict.fromkeys(range(4, 11), "srgb")}
_FPS: Final = {23.976: (24000, 1001), 29.97: (30000, 1001), 59.94: (60000, 1001)}


class Dpx:
    """One picture element, RGB or RGBA, not run-length coded. Transfer tags: printing density and logarithmic are log,
    linear is linear, the video ones are display-referred; a file without one is taken as log if it has 10 bits."""

    def facts(self, path: Path) -> ImageHeader:
        head = read_head(path, _HEADER)
        order = {b"SDPX": ">", b"XPDS": "<"}.get(head[:4])
        if order is None or len(head) < 1408:
            raise refuse(path, "it is not a DPX")
        head = head.ljust(_HEADER, b"\xff")
        orientation, elements, width, height = struct.unpack_from(f"{order}HHII", head, 768)
        sign, descriptor, transfer, bits = head[783 if order == ">" else 780], head[800], head[801], head[803]
        packing, encoding = struct.unpack_from(f"{order}HH", head, 804)
        check_size(path, height, width)
        if elements != 1 or descriptor not in _SAMPLES:
            raise refuse(path, f"only one element of RGB or RGBA is read, not {elements} of descriptor {descriptor}")
        if bits not in (8, 10, 12, 16) or (bits in (10, 12) and packing not in (1, 2)) or encoding == 1 or sign == 1:
            raise refuse(path, f"{bits} bits in packing {packing}, encoding {encoding} are not read; convert it")
        if orientation not in (0, 0xFFFF):
            raise refuse(path, f"its orientation {orientation} is not read; write it from left to right, top to bottom")
        own, assumed = _TRANSFERS.get(transfer, ""), ""
        if not own:
            own = "log" if bits == 10 else "srgb"
            assumed = f"the DPX says nothing of its transfer: {'log (printing density)' if own == 'log' else own}"
        return ImageHeader(
            width, height, f"dpx{bits}", bits, has_alpha=descriptor != 50, own=own, assumed=assumed,
            rate=_rate(head, order), timecode=_timecode(head, order), sample_aspect=_aspect(head, order),
            transfer=str(transfer),
        )  # fmt: skip

    def pixels(self, path: Path) -> np.ndarray:
        return self.picture(path)[0]

    def picture(self, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """See `StillFormat.picture`."""
        still = self.facts(path)
        height, width, bits = still.height, still.width, still.bits
        data = read_whole(path, width * height * 8)
        order = ">" if data[:4] == b"SDPX" else "<"
        (offset,) = struct.unpack_from(f"{order}I", data, 808)
        if offset in (0, 0xFFFFFFFF):
            (offset,) = struct.unpack_from(f"{order}I", data, 4)
        (padding,) = struct.unpack_from(f"{order}I", data, 812)
        descriptor, packing = data[800], struct.unpack_from(f"{order}H", data, 804)[0]
        samples = _SAMPLES[descriptor]
        dtype = np.dtype(np.uint8 if bits == 8 else f"{order}u4" if bits == 10 else f"{order}u2")
        items = -(-width * samples // 3) if bits == 10 else width * samples
        row = items * dtype.itemsize
        stride = row + (padding if padding != 0xFFFFFFFF else 0)
        end = offset + stride * (height - 1) + row
        if offset < 1408 or stride > 16 * row or end > len(data):
            raise refuse(path, f"the file is cut off: its pixels end at {end:,} of {len(data):,} bytes")
        rows = np.ndarray((height, items), dtype, data, offset, (stride, dtype.itemsize))
        if bits == 10:
            top = 22 if packing == 1 else 20
            codes = np.stack([(rows >> shift) & 1023 for shift in (top, top - 10, top - 20)], -1)
            codes = codes.reshape(height, -1)[:, : width * samples].astype(np.uint16)
        elif bits == 12:
            codes = rows.astype(np.uint16) >> 4 if packing == 1 else rows.astype(np.uint16) & 4095
        else:
            codes = rows.astype(np.uint8 if bits == 8 else np.uint16)
        picture = codes.reshape(height, width, samples)
        rgb = picture[..., :3] if descriptor != 52 else picture[..., :0:-1]
        alpha = None if descriptor == 50 else picture[..., 3 if descriptor == 51 else 0]
        if bits in (8, 16):
            return np.ascontiguousarray(rgb), alpha
        table = np.rint(np.arange(1 << bits) * (65535 / ((1 << bits) - 1))).astype(np.uint16)
        return table[rgb], None if alpha is None else table[alpha]


def _rate(head: bytes, order: str) -> Fraction | None:
    """From the television header, else the film header; None where neither has one."""
    for place in (1940, 1724):
        (value,) = struct.unpack_from(f"{order}f", head, place)
        if 1 <= value <= 1000:
            for short, (over, under) in _FPS.items():
                if abs(value - short) < 0.005:
                    return Fraction(over, under)
            return Fraction(round(value * 1000), 1000)
    return None


def _timecode(head: bytes, order: str) -> str | None:
    """HH:MM:SS:FF from eight decimal digits of four bits; None where it is unset or is none."""
    (value,) = struct.unpack_from(f"{order}I", head, 1920)
    digits = f"{value:08x}"
    if not digits.isdigit() or int(digits[:2]) > 23 or int(digits[2:4]) > 59 or int(digits[4:6]) > 59:
        return None
    return f"{digits[:2]}:{digits[2:4]}:{digits[4:6]}:{digits[6:]}" if value else None


def _aspect(head: bytes, order: str) -> Fraction:
    across, down = struct.unpack_from(f"{order}II", head, 1628)
    fine = 0 < across < 1 << 16 and 0 < down < 1 << 16 and Fraction(1, 16) < Fraction(across, down) < 16
    return Fraction(across, down) if fine else Fraction(1)


def encode_dpx(gray: np.ndarray, number: int, rate: Fraction, name: str) -> bytes:
    """Return a big-endian DPX of 10 bits, filled words (method A), R = G = B, tagged linear, since coverage is linear.

    Args:
        gray: (H, W) uint16, codes of 10 bits.
        number: of the frame; `rate` frames a second; `name` of the file, kept in its header.
    """
    height, width = gray.shape
    size = _HEADER + height * width * 4
    head = bytearray(b"\xff" * _HEADER)  # all bits set means: not said

    def put(place: int, form: str, *values: object) -> None:
        struct.pack_into(f">{form}", head, place, *values)

    put(0, "4sI8sIIIII", b"SDPX", _HEADER, b"V2.0", size, 1, 1664, 384, 0)
    put(36, "100s24s100s200s200sI", name.encode("ascii", "replace")[-99:], b"", b"mam_video", b"", b"", 0xFFFFFFFF)
    put(768, "HHII", 0, 1, width, height)
    put(780, "IIfIfBBBBHHIII32s", 0, 0, 0.0, 1023, 1.0, 50, 2, 0, 10, 1, 0, _HEADER, 0, 0, b"matte")
    put(1408, "II", 0, 0)
    put(1416, "ffII", width / 2, height / 2, width, height)
    put(1628, "II", 1, 1)
    put(1712, "I", number if number >= 0 else 0xFFFFFFFF)
    put(1724, "f", float(rate))
    put(1940, "f", float(rate))
    words = gray.astype(np.uint32) * np.uint32((1 << 22) | (1 << 12) | (1 << 2))
    return bytes(head) + words.astype(">u4").tobytes()
