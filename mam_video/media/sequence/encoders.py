"""Encode one matted frame as the bytes of an image file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np

from mam_video.core.frames import Frame, Matted
from mam_video.core.settings import OutputSettings
from mam_video.core.timecode import nominal_rate
from mam_video.media import pixel_formats
from mam_video.media.base import XYXY, ClipInfo, Windows
from mam_video.media.plate_alpha import light_weight
from mam_video.media.sequence.dpx import encode_dpx
from mam_video.media.sequence.exr import time_code, write_exr
from mam_video.media.sequence.light_planes import light_planes, stored_alpha
from mam_video.media.sequence.png_tiff_jpeg import encode_png, encode_tiff
from mam_video.media.transfers import REFERENCE_WHITE
from mam_video.media.view_transforms import chromaticities_of

MATTE_ALONE: Final = "the matte alone"


class Encoder(Protocol):
    """How a matted frame becomes a file. Pure but for that file, so that threads can share it."""

    @property
    def depth(self) -> str:
        """Depth of its files, as `ExpectedSequence.depth` names it."""
        ...

    @property
    def channels(self) -> str:
        """Channels of its files, as `ExpectedSequence.channels` names them."""
        ...

    def write(self, matted: Matted, number: int, path: Path) -> None:
        """Raises: MediaError or OSError, where the file cannot be written."""
        ...


class EncoderFactory(Protocol):
    """How a row of the table of formats makes its encoder."""

    def __call__(self, info: ClipInfo, settings: OutputSettings, *, alpha_only: bool, layers: Sequence[str]) -> Encoder:
        """`layers`: subjects that get a layer each; none: all together."""
        ...


def png_encoder(info: ClipInfo, settings: OutputSettings, *, alpha_only: bool, layers: Sequence[str]) -> Encoder:
    """See `EncoderFactory`."""
    return IntegerEncoder(False, alpha_only, settings.premultiply, shown=info.coded)


def tiff_encoder(info: ClipInfo, settings: OutputSettings, *, alpha_only: bool, layers: Sequence[str]) -> Encoder:
    """See `EncoderFactory`."""
    return IntegerEncoder(True, alpha_only, settings.premultiply, shown=info.coded)


def dpx_encoder(info: ClipInfo, settings: OutputSettings, *, alpha_only: bool, layers: Sequence[str]) -> Encoder:
    """See `EncoderFactory`."""
    return DpxEncoder(info.rate)


def exr_encoder(info: ClipInfo, settings: OutputSettings, *, alpha_only: bool, layers: Sequence[str]) -> Encoder:
    """See `EncoderFactory`."""
    return ExrEncoder(info, alpha_only, settings, tuple(layers))


@dataclass(frozen=True, slots=True)
class IntegerEncoder:
    """PNG and TIFF of 16 bits: RGBA, straight unless set otherwise, or alpha alone.

    A float plate is written as a display shows it. With `shown` every plate is: its codes mean nothing without tags,
    which these files do not have.
    """

    tiff: bool
    alpha_only: bool
    premultiply: bool
    shown: bool = False

    @property
    def depth(self) -> str:
        return "16 bits"

    @property
    def channels(self) -> str:
        return MATTE_ALONE if self.alpha_only else "RGBA"

    def write(self, matted: Matted, number: int, path: Path) -> None:
        alpha = pixel_formats.alpha_codes(matted.alpha, 16)
        if self.alpha_only:
            picture = alpha
        else:
            rgb = pixel_formats.as_16_bit(matted.frame.shown if self.shown else matted.frame.codes)
            if self.premultiply:
                rgb = pixel_formats.premultiplied(rgb, matted.alpha)
            picture = cv2.merge([*cv2.split(rgb), alpha])
        data = encode_tiff(picture, premultiplied=self.premultiply) if self.tiff else encode_png(picture)
        path.write_bytes(data)


@dataclass(frozen=True, slots=True)
class DpxEncoder:
    """The matte alone, 10 bits."""

    rate: Fraction

    @property
    def depth(self) -> str:
        return "10 bits"

    @property
    def channels(self) -> str:
        return MATTE_ALONE

    def write(self, matted: Matted, number: int, path: Path) -> None:
        path.write_bytes(encode_dpx(pixel_formats.alpha_codes(matted.alpha, 10), number, self.rate, path.name))


@dataclass(frozen=True, slots=True)
class ExrEncoder:
    """RGBA in scene-linear light, premultiplied in it, as EXR asks; or the matte alone as channel A, or LAYER.A.

    With `layers`, the names of several subjects, each one's matte alone is a layer: NAME.A.

    Float plates are written as they came: where alpha is 1 their bits do not change (in float, or in half from half,
    with lossless compression). Others are brought to linear light through their look, else from sRGB. Data and display
    windows stay as they were.
    """

    info: ClipInfo
    alpha_only: bool
    settings: OutputSettings
    layers: tuple[str, ...] = ()

    @property
    def depth(self) -> str:
        if self.settings.exr_type == "auto":
            return "float" if self.info.pixel_format == "float" else "half"
        return self.settings.exr_type

    @property
    def channels(self) -> str:
        if self.layers:
            return " ".join(sorted(f"{name}.A" for name in self.layers))
        layer = self.settings.exr_layer
        return "A B G R" if not self.alpha_only else f"{layer}.A" if layer else "A"

    def write(self, matted: Matted, number: int, path: Path) -> None:
        frame = matted.frame
        height, width = frame.size
        x0, y0, x1, y1 = frame.window or (0, 0, width, height)
        inside = (slice(y0, y1), slice(x0, x1))
        alpha = matted.alpha[inside]
        dtype = self._dtype(frame)
        if self.layers:
            channels = {f"{name}.A": stored_alpha(matted.of(name).alpha[inside], dtype) for name in self.layers}
        elif self.alpha_only:
            layer = self.settings.exr_layer
            channels = {f"{layer}.A" if layer else "A": stored_alpha(alpha, dtype)}
        else:
            narrow = dtype is np.float16 and frame.rgb.dtype != np.float16 and self.info.pixel_format != "half"
            planes = light_planes(frame, inside, light_weight(matted, self.info)[inside], dtype, narrow=narrow)
            channels = dict(zip("RGB", planes, strict=True))
            channels["A"] = stored_alpha(alpha, dtype)
        write_exr(path, channels, self._header(frame, number, (x0, y0, x1, y1)))

    def _dtype(self, frame: Frame) -> type[np.float16] | type[np.float32]:
        if self.settings.exr_type == "auto":
            # Straight colour of a premultiplied half plate is float32, and its file half as before.
            half = frame.rgb.dtype != np.float32 or self.info.pixel_format == "half"
            return np.float16 if half else np.float32
        return np.float32 if self.settings.exr_type == "float" else np.float16

    def _header(self, frame: Frame, number: int, inside: XYXY) -> dict[str, Any]:
        height, width = frame.size
        windows = self.info.windows or Windows((0, 0, width, height), (0, 0, width, height))
        left, top = windows.canvas[:2]
        header: dict[str, Any] = {
            "data": (inside[0] + left, inside[1] + top, inside[2] + left, inside[3] + top),
            "display": windows.display,
            "compression": self.settings.exr_compression,
            "framesPerSecond": self.info.rate,
            "imageCounter": number,
            "pixelAspectRatio": float(self.info.sample_aspect),
            "software": "mam_video",
        }
        chromaticities = self.info.chromaticities
        if chromaticities is None and not self.info.floating:
            chromaticities = chromaticities_of(self.info.look)
        if chromaticities is not None and not self.alpha_only:
            header["chromaticities"] = chromaticities
        if self.info.look == "pq" and not self.info.floating and not self.alpha_only:
            header["whiteLuminance"] = REFERENCE_WHITE
        if frame.timecode is not None:
            code = time_code(frame.timecode, nominal_rate(self.info.rate))
            if code is not None:
                header["timeCode"] = code
        if self.info.reel:
            header["reelName"] = self.info.reel
        return header
