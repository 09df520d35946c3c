"""Between the pixel formats of files and the 16-bit full-range RGB that frames travel in.

All conversions are pure functions of one picture, so they can run in any thread, several at a time. They are our own
because swscale's 16-bit RGB is up to 254/65535 off (it widens by shifting, not by scaling) and truncates alpha; these
stay within 2/65535 of a float64 computation where chroma is not subsampled, and OpenCV runs them faster.

The arithmetic rests on `cv2.transform`: one pass with a 3 x 4 matrix, in float32, rounded and saturated to uint16.

A later home for view transforms and scene-linear plates is beside this module: here a code value stays a code value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import av
import cv2
import numpy as np
from av.video.format import VideoFormat
from av.video.plane import VideoPlane

from mam_video.core.errors import MediaError
from mam_video.media.bands import bands
from mam_video.media.base import Colour
from mam_video.media.chroma import SAMPLING, SITINGS, halved, shifted, upsampled

# FFmpeg's numbers and names (libavutil/pixfmt.h, ITU-T H.273). Numbers that are not here are "unknown" to us.
RANGES: Final = {0: "unknown", 1: "tv", 2: "pc"}
MATRICES: Final = {
    0: "gbr", 1: "bt709", 2: "unknown", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco",
    9: "bt2020nc", 10: "bt2020c", 11: "smpte2085", 12: "chroma-derived-nc", 13: "chroma-derived-c", 14: "ictcp",
}  # fmt: skip
PRIMARIES: Final = {
    1: "bt709", 2: "unknown", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020",
    10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
TRANSFERS: Final = {
    1: "bt709", 2: "unknown", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "linear", 9: "log100",
    10: "log316", 11: "iec61966-2-4", 12: "bt1361e", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12",
    16: "smpte2084", 17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip

# Luma weights Kr and Kb (H.273, table 4). bt2020c (constant luminance) is read as bt2020nc, as all players do.
_WEIGHTS: Final = {
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "bt470bg": (0.299, 0.114),
    "smpte170m": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
    "bt2020c": (0.2627, 0.0593),
}

_YUV = re.compile(r"yuv[aj]?(?P<sampling>4\d\d)p(?P<bits>\d+le)?")
_GRAY = re.compile(r"gray(?P<bits>\d+le)?")
_GBR = re.compile(r"gbra?p(?P<bits>\d+le)?")
_PLANAR_ALPHA = re.compile(r"(?:yuva4\d\dp|gbrap)(?P<bits>\d+le)?")
_PACKED: Final = {  # name -> dtype, samples a pixel, places of R, G, B
    "rgb24": (np.uint8, 3, (0, 1, 2)),
    "bgr24": (np.uint8, 3, (2, 1, 0)),
    "rgba": (np.uint8, 4, (0, 1, 2)),
    "bgra": (np.uint8, 4, (2, 1, 0)),
    "rgb0": (np.uint8, 4, (0, 1, 2)),
    "bgr0": (np.uint8, 4, (2, 1, 0)),
    "rgb48le": (np.uint16, 3, (0, 1, 2)),
    "rgba64le": (np.uint16, 4, (0, 1, 2)),
}
_PACKED_ALPHA: Final[dict[str, tuple[Any, int, int]]] = {  # name -> dtype, samples a pixel, place of A
    "rgba": (np.uint8, 4, 3),
    "bgra": (np.uint8, 4, 3),
    "argb": (np.uint8, 4, 0),
    "abgr": (np.uint8, 4, 0),
    "ya8": (np.uint8, 2, 1),
    "rgba64le": ("<u2", 4, 3),
    "rgba64be": (">u2", 4, 3),
    "bgra64le": ("<u2", 4, 3),
    "bgra64be": (">u2", 4, 3),
    "ya16le": ("<u2", 2, 1),
    "ya16be": (">u2", 2, 1),
}


def number(name: str, names: dict[int, str]) -> int:
    """FFmpeg's number of a tag's name; that of "unknown" where the name is not known."""
    by_name = {known: value for value, known in names.items()}
    return by_name.get(name, by_name["unknown"])


def colour_of(frame: av.VideoFrame, codec: str) -> Colour:
    """Return the colour tags of a decoded frame, with what is assumed where they are absent.

    Untagged YUV is taken as BT.2020 where its primaries or its transfer function are BT.2020's or BT.2100's, else as
    BT.709 from 1280 x 720 upwards (or above 576 lines) and as BT.601 below, and as limited range unless its pixel
    format is one of JPEG's. RGB is always full range. Gray is full range unless tagged, or from a video codec whose
    standard says limited.
    """
    tagged_range = RANGES.get(int(frame.color_range), "unknown")
    tagged_matrix = MATRICES.get(int(frame.colorspace), "unknown")
    primaries = PRIMARIES.get(int(frame.color_primaries), "unknown")
    transfer = TRANSFERS.get(int(frame.color_trc), "unknown")
    pixel_format = frame.format
    if pixel_format.name.startswith("xyz"):
        return Colour("pc", "gbr", tagged=True)  # swscale makes Rec. 709 of it, whatever its tags say
    if pixel_format.is_rgb or pixel_format.has_palette:
        return Colour("pc", "gbr", primaries, transfer, True)
    if _is_gray(pixel_format):
        by_rule = "tv" if codec in ("h264", "hevc", "vp9", "av1", "mpeg2video") else "pc"
        known = tagged_range != "unknown"
        return Colour(tagged_range if known else by_rule, "gbr", primaries, transfer, known)
    by_rule = "pc" if pixel_format.name.startswith("yuvj") or codec == "mjpeg" else "tv"
    range_ = by_rule if tagged_range == "unknown" else tagged_range
    readable = is_readable(tagged_matrix)
    by_size = "bt709" if frame.width >= 1280 or frame.height > 576 else "smpte170m"
    if primaries == "bt2020" or transfer in ("smpte2084", "arib-std-b67"):
        by_size = "bt2020nc"
    tagged = readable and (tagged_range != "unknown" or by_rule == "pc")
    return Colour(range_, tagged_matrix if readable else by_size, primaries, transfer, tagged)


def is_readable(matrix: str) -> bool:
    """Return whether YUV of this matrix (FFmpeg's name) can be made RGB of."""
    return matrix in _WEIGHTS or matrix == "ycgco"


def _is_gray(pixel_format: VideoFormat) -> bool:
    return len(pixel_format.components) == 1 + pixel_format_has_alpha(pixel_format) and not pixel_format.is_rgb


def pixel_format_has_alpha(pixel_format: VideoFormat) -> bool:
    """Return whether a format of PyAV has an alpha component."""
    return any(component.is_alpha for component in pixel_format.components)


@lru_cache(maxsize=64)
def yuv_to_rgb(matrix: str, full_range: bool, bits: int) -> np.ndarray:
    """3 x 4: from YUV codes of `bits` bits, widened to 16 bits by shifting, to RGB in 0..65535.

    Source: H.273, equations 11 to 56.
    """
    shift = 1 << (16 - bits)
    if full_range:
        luma = chroma = ((1 << bits) - 1) * shift
        black = 0
    else:
        luma, chroma, black = 219 << 8, 224 << 8, 16 << 8
    if matrix == "ycgco":
        rows = np.array([[1.0, -1, 1], [1, 1, 0], [1, -1, -1]])
    else:
        kr, kb = _WEIGHTS[matrix]
        kg = 1 - kr - kb
        red, blue = 2 * (1 - kr), 2 * (1 - kb)
        rows = np.array([[1, 0, red], [1, -blue * kb / kg, -red * kr / kg], [1, blue, 0]])
    linear = rows * (65535 / np.array([luma, chroma, chroma]))
    offset = -linear @ np.array([black, 1 << 15, 1 << 15])
    return np.column_stack([linear, offset])


@lru_cache(maxsize=64)
def rgb_to_yuv(matrix: str, bits: int) -> np.ndarray:
    """3 x 4: from RGB in 0..65535 to limited-range YUV codes of `bits` bits."""
    inverse = yuv_to_rgb(matrix, False, 16)
    linear = np.linalg.inv(inverse[:, :3])
    offset = -linear @ inverse[:, 3]
    return np.column_stack([linear, offset]) / (1 << (16 - bits))


def writable_matrix(colour: Colour, height: int, width: int) -> str:
    """Return the matrix that limited-range YUV outputs use: the source's own where the codecs know it, else by size."""
    same = {"bt709": "bt709", "smpte170m": "smpte170m", "bt470bg": "smpte170m", "bt2020nc": "bt2020nc"}
    by_size = "bt709" if width >= 1280 or height > 576 else "smpte170m"
    return same.get(colour.matrix, "bt2020nc" if colour.matrix == "bt2020c" else by_size)


@dataclass(frozen=True)
class Decoding:
    """How one clip's pictures become RGB. Calling it is pure: any thread, any number at a time.

    full_range  whether codes span the whole range (of YUV and gray; RGB always does)
    siting      where subsampled chroma sits: one of `SITINGS`
    """

    matrix: str
    full_range: bool
    siting: str = "left"

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """Return (H, W, 3) uint16, RGB in 0..65535, a new array, as stored (not yet upright)."""
        frame = _in_a_layout_we_read(frame)
        name = frame.format.name
        if found := _YUV.fullmatch(name):
            return self._yuv(frame, _bits(found), SAMPLING[found["sampling"]])
        if found := _GRAY.fullmatch(name):
            return self._gray(_plane(frame, 0, _bits(found)), _bits(found))
        if found := _GBR.fullmatch(name):
            bits = _bits(found)
            green, blue, red = (_plane(frame, i, bits) for i in range(3))
            return _widened(cv2.merge([red, green, blue]), bits)
        dtype, samples, places = _PACKED[name]
        rows = _rows(frame.planes[0], dtype)[:, : frame.width * samples].reshape(frame.height, frame.width, samples)
        rgb = np.ascontiguousarray(rows) if places == (0, 1, 2) and samples == 3 else rows[..., list(places)]
        return _widened(rgb, 8 * np.dtype(dtype).itemsize)

    def _yuv(self, frame: av.VideoFrame, bits: int, sampling: tuple[int, int]) -> np.ndarray:
        planes = [_plane(frame, i, bits) for i in range(3)]
        matrix = yuv_to_rgb(self.matrix, self.full_range, bits)
        straight = sampling == (1, 1) and bits > 8  # nothing to interpolate: the matrix widens, with the same result
        if straight:
            matrix = matrix * ([1 << (16 - bits)] * 3 + [1])
        rgb = np.empty((frame.height, frame.width, 3), np.uint16)
        for rows in bands(frame.height, frame.width):
            parts = [plane[rows] for plane in planes]
            if not straight:
                parts = [shifted(parts[0], bits)]
                parts += [upsampled(plane, sampling, rows, frame.width, self.siting, bits) for plane in planes[1:]]
            cv2.transform(cv2.merge(parts), matrix, rgb[rows])
        return rgb

    def _gray(self, codes: np.ndarray, bits: int) -> np.ndarray:
        if self.full_range:
            gray = _widened(codes, bits)
        else:
            low, span = 16 << (bits - 8), 219 << (bits - 8)
            gray = cv2.transform(codes.astype(np.uint16), np.array([[65535 / span, -low * 65535 / span]]))
        return np.asarray(cv2.merge([gray, gray, gray]))


def _bits(found: re.Match[str]) -> int:
    return int(found["bits"][:-2]) if found["bits"] else 8


def _rows(plane: VideoPlane, dtype: Any) -> np.ndarray:
    """Return a plane's memory as rows of samples, padding included."""
    return np.frombuffer(memoryview(plane), dtype).reshape(plane.height, plane.line_size // np.dtype(dtype).itemsize)


def _plane(frame: av.VideoFrame, index: int, bits: int) -> np.ndarray:
    plane = frame.planes[index]
    return _rows(plane, np.uint8 if bits == 8 else np.uint16)[:, : plane.width]


def _widened(codes: np.ndarray, bits: int) -> np.ndarray:
    """Full-range codes of `bits` bits scaled to 0..65535 and rounded."""
    if bits == 16:
        return codes.copy()
    if bits == 8:
        wide = codes.astype(np.uint16)
        wide *= 257
        return wide
    table = np.rint(np.arange(1 << bits) * (65535 / ((1 << bits) - 1))).astype(np.uint16)
    scaled: np.ndarray = table[codes & ((1 << bits) - 1)]
    return scaled


def siting_of(frame: av.VideoFrame) -> str:
    """Return where the chroma of a decoded frame sits, by its tag: one of `SITINGS`; "center" also where it has no tag.

    PyAV does not pass the tag on, but swscale follows it: a ramp in both chroma planes is widened to 4:4:4, and where
    its steps come to lie says it. The frame's pixels are lost by this; its side data must not be looked at any more.
    """
    found = _YUV.fullmatch(frame.format.name)
    if found is None or found["sampling"] not in SAMPLING:
        return "center"
    (across, down), bits = SAMPLING[found["sampling"]], _bits(found)
    zero = 128 << (bits - 8)  # of chroma: a change of range leaves it where it is
    step = 8 << (bits - 8)  # half the way between two luma samples is a code at least
    try:
        frame.make_writable()
        for index, axis in ((1, 1), (2, 0)):
            plane = _plane(frame, index, bits)
            ramp = (np.minimum(np.arange(plane.shape[axis]), 7) - 4) * step + zero
            plane[:] = ramp if axis == 1 else ramp[:, None]
        wide = frame.reformat(
            format="yuv444p" + ("" if bits == 8 else f"{bits}le"), interpolation="BILINEAR", threads=1
        )
    except (av.FFmpegError, ValueError):
        return "center"
    sits = []
    for index, axis, cells in ((1, 1, across), (2, 0, down)):
        codes = np.take(_plane(wide, index, bits), 0, 1 - axis).astype(float)
        if len(codes) <= 6 * cells or codes[5 * cells] <= codes[4 * cells]:
            sits.append(0.5)
            continue
        # Away from the ends the code at luma place p is that of the chroma place (p - offset) / cells.
        offset = (zero - codes[4 * cells]) / (codes[5 * cells] - codes[4 * cells]) * cells
        sits.append(0.5 if cells == 1 else min((0.0, 0.5, 1.0), key=lambda share: abs(share * (cells - 1) - offset)))
    return next((name for name, place in SITINGS.items() if place == tuple(sits)), "center")


def _in_a_layout_we_read(frame: av.VideoFrame) -> av.VideoFrame:
    """Return the frame itself, or its samples rearranged by swscale (planes apart, little endian), values unchanged."""
    name = frame.format.name
    readable = _GRAY.fullmatch(name) or _GBR.fullmatch(name) or name in _PACKED
    if found := _YUV.fullmatch(name):
        readable = found["sampling"] in SAMPLING
    flipped = any(plane.line_size < 0 for plane in frame.planes)
    if readable and not flipped:
        return frame
    target = _nearest_layout(frame.format)
    if flipped and target == name:
        target = "bgr24" if name == "rgb24" else "rgb24"
    try:
        return frame.reformat(format=target, threads=1)
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"pixel format {name} cannot be read ({error}); convert the clip first") from error


def _nearest_layout(pixel_format: VideoFormat) -> str:
    bits = max(component.bits for component in pixel_format.components if not component.is_alpha)
    if pixel_format.is_rgb or pixel_format.has_palette or pixel_format.name.startswith(("xyz", "bayer")):
        return "rgb24" if bits <= 8 else "rgb48le"
    if _is_gray(pixel_format) or pixel_format.name.startswith("mono"):
        return "gray" if bits <= 8 else f"gray{bits if bits in (9, 10, 12, 14, 16) else 16}le"
    across = 16 // pixel_format.chroma_width(16)
    down = 16 // pixel_format.chroma_height(16)
    sampling = {cell: name for name, cell in SAMPLING.items()}.get((across, down), "444")
    return f"yuv{sampling}p" + ("" if bits <= 8 else f"{bits if bits in (9, 10, 12, 14, 16) else 16}le")


def alpha_of(frame: av.VideoFrame) -> np.ndarray | None:
    """Return (H, W) float32 in [0, 1]: the picture's own alpha as stored (not yet upright), or None where it has none.

    A palette has one where any of its colours is transparent.
    """
    if frame.format.has_palette:
        alpha = np.ascontiguousarray(frame.reformat(format="rgba", threads=1).to_ndarray()[..., 3])
        return None if alpha.min() == 255 else alpha.astype(np.float32) / np.float32(255)
    bits = max((component.bits for component in frame.format.components if component.is_alpha), default=0)
    if not bits:
        return None
    packed = _PACKED_ALPHA.get(frame.format.name)
    if packed is not None and frame.planes[0].line_size > 0:  # swscale's alpha of 16 bits is up to 3 codes off
        dtype, samples, place = packed
        own = _rows(frame.planes[0], dtype)[:, place : frame.width * samples : samples]
        return own.astype(np.float32) / np.float32((1 << bits) - 1)
    found = _PLANAR_ALPHA.fullmatch(frame.format.name)
    if not found:
        frame = frame.reformat(format="gbrap" if bits <= 8 else "gbrap16le", threads=1)  # alpha keeps its codes
        bits = 8 if bits <= 8 else 16
    return _plane(frame, 3, bits).astype(np.float32) / np.float32((1 << bits) - 1)


def grey_of(rgb: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [0, 1]: the grey value of (H, W, 3) uint16 RGB, by BT.601's weights; of a grey, itself."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / np.float32(65535))


def alpha_codes(alpha: np.ndarray, bits: int) -> np.ndarray:
    """(H, W) uint16: alpha (float32, clipped to [0, 1]) in full-range codes of `bits` bits, rounded to nearest."""
    top = np.float32((1 << bits) - 1)
    codes = alpha * top
    np.rint(codes, out=codes)
    np.clip(codes, 0, top, out=codes)
    return codes.astype(np.uint16)


def as_16_bit(rgb: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint16 of a frame's uint8 or uint16 pixels."""
    return rgb if rgb.dtype == np.uint16 else _widened(rgb, 8)


def premultiplied(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint16 RGB times alpha, in code values (not in linear light), rounded."""
    weight = cv2.merge([alpha, alpha, alpha])
    return np.asarray(cv2.multiply(rgb.astype(np.float32), weight, dtype=cv2.CV_16U))


def composite(rgb: np.ndarray, alpha: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint16: rgb over background (both uint16), F * a + B * (1 - a) in code values, rounded."""
    weight = cv2.merge([alpha, alpha, alpha])
    back = background.astype(np.float32)
    return np.asarray(cv2.add((rgb.astype(np.float32) - back) * weight, back, dtype=cv2.CV_16U))


def yuv444(rgb: np.ndarray, matrix: str, bits: int) -> list[np.ndarray]:
    """Return three (H, W) uint16 planes of limited-range YUV codes of `bits` bits, rounded."""
    return list(cv2.split(cv2.transform(rgb, rgb_to_yuv(matrix, bits))))


def yuv420(rgb: np.ndarray, matrix: str) -> list[np.ndarray]:
    """Y, U, V as uint8, limited range, 4:2:0 with MPEG's siting; odd sizes have one more chroma sample, repeated."""
    luma, *chroma = yuv444(rgb, matrix, 16)
    planes = [cv2.convertScaleAbs(luma, alpha=1 / 256)]
    planes += [cv2.convertScaleAbs(halved(plane), alpha=1 / 256) for plane in chroma]
    return planes


def writable_planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """Return views of the frame's planes, (H, W) each; each plane holds one component."""
    bits = max(component.bits for component in frame.format.components)
    return [_plane(frame, index, bits) for index in range(len(frame.planes))]


def fill(frame: av.VideoFrame, planes: list[np.ndarray]) -> av.VideoFrame:
    """Copy (H, W) arrays into the frame's planes and return it. Each plane's size and depth must be the frame's."""
    for plane, codes in zip(writable_planes(frame), planes, strict=True):
        plane[:] = codes
    return frame
