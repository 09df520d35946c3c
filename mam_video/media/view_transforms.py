"""View transforms: from a plate's own values to what a display shows (for the models) and to scene-linear light.

Models are trained on display-referred sRGB, so a linear or log plate is shown to them through a look. What is written
out is made from the plate's own values, never from what the models saw, except where a float plate is
written as whole numbers. Kinds of values (`--input-transform`):

    srgb    display-referred; 1 is white
    linear  scene-linear; shown through the sRGB curve, cut at 0 and 1
    log     Cineon printing density: black 95, white 685 of 1023, 0.002 a code, gamma 0.6; shown through the sRGB curve
    none    shown as they are, and linear as they are
    pq, hlg, gamma22, gamma28, dci, log100, log316
            transfer functions of video (`transfers.py`), as movies are tagged with; shown in Rec. 709 through the sRGB
            curve, PQ and HLG tone-mapped
    else    a colour space of OpenColorIO: shown through the default display and view of the configuration, linear in
            its role scene_linear

Not-a-number is shown black, infinity white. Curves: IEC 61966-2-1 (sRGB); Kodak, Grayscale Transformation from Cineon
Image Data to Linear (the log curve).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, Final

import cv2
import numpy as np

from mam_video.core.errors import UsageError
from mam_video.core.frames import ViewTransform
from mam_video.media import transfers
from mam_video.media.base import ClipInfo, Colour
from mam_video.media.transfers import PRIMARIES, Chromaticities

_BUILT_IN: Final = "ocio://studio-config-latest"  # knows the cameras' log curves; ocio://default does not
_HALF = np.dtype(np.float16)
_STRIP: Final = 16  # rows
_STEPS: Final = 65535  # of the tables that are entered by the square root of light


def encode_srgb(light: np.ndarray) -> np.ndarray:
    """Return float32 in [0, 1]: the sRGB code of linear light; not-a-number becomes 0, what lies outside is cut."""
    light = np.clip(np.nan_to_num(light, nan=0.0, posinf=1.0, neginf=0.0), 0, 1).astype(np.float32)
    high = np.power(light, np.float32(1 / 2.4)) * np.float32(1.055) - np.float32(0.055)
    return np.where(light <= 0.0031308, light * np.float32(12.92), high).astype(np.float32)


def decode_srgb(code: np.ndarray) -> np.ndarray:
    """Return float32: linear light of an sRGB code; the curve goes on above 1, and mirrored below 0."""
    size = np.abs(code).astype(np.float32)
    high = np.power((size + np.float32(0.055)) / np.float32(1.055), np.float32(2.4))
    light: np.ndarray = np.copysign(np.where(size <= 0.04045, size / np.float32(12.92), high), code).astype(np.float32)
    return light


def decode_log(code: np.ndarray) -> np.ndarray:
    """Return float32: linear light of a Cineon code in [0, 1]; white (685/1023) is 1, black (95/1023) is 0."""
    gain = np.float32(1023 * 0.002 / 0.6)
    black = 10 ** ((95 - 685) * 0.002 / 0.6)
    exponent = (code.astype(np.float32) - np.float32(685 / 1023)) * gain
    with np.errstate(over="ignore"):  # of float pixels, which no log code is
        power = np.power(np.float32(10), exponent)
    light: np.ndarray = ((power - black) / (1 - black)).astype(np.float32)
    return light


def _as_is(code: np.ndarray) -> np.ndarray:
    return code.astype(np.float32)


class CurveTransform:
    """A look that is one curve for all channels. Whole numbers and half floats go through tables, so they are quick."""

    def __init__(self, name: str, to_linear: Callable[[np.ndarray], np.ndarray], *, shows_linear: bool = True) -> None:
        """Args:
        to_linear: from file values (whole numbers scaled to [0, 1]) to scene-linear, both float32.
        shows_linear: whether the sRGB curve of that light is shown; else the values themselves.
        """
        self.name = name
        self._to_linear = to_linear
        self._shows_linear = shows_linear

    def display(self, rgb: np.ndarray) -> np.ndarray:
        """See `ViewTransform.display`."""
        if rgb.dtype == np.float32:
            return self._shown(rgb)
        table = self._display_tables[rgb.dtype.itemsize, rgb.dtype.kind]
        return table[rgb.view(np.uint16) if rgb.dtype == _HALF else rgb]

    def linear(self, rgb: np.ndarray) -> np.ndarray:
        """See `ViewTransform.linear`."""
        if rgb.dtype.kind == "f":
            return self._to_linear(rgb.astype(np.float32))
        return self._linear_tables[rgb.dtype.itemsize][rgb]

    def _shown(self, values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            if self._shows_linear:
                codes = encode_srgb(self._to_linear(values))
            else:
                codes = np.clip(np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
        return np.rint(codes * np.float32(65535)).astype(np.uint16)

    @cached_property
    def _display_tables(self) -> dict[tuple[int, str], np.ndarray]:
        halves = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
        return {(1, "u"): self._shown(_scaled(8)), (2, "u"): self._shown(_scaled(16)), (2, "f"): self._shown(halves)}

    @cached_property
    def _linear_tables(self) -> dict[int, np.ndarray]:
        return {1: self._to_linear(_scaled(8)), 2: self._to_linear(_scaled(16))}


def _scaled(bits: int) -> np.ndarray:
    return (np.arange(1 << bits) / ((1 << bits) - 1)).astype(np.float32)


class VideoTransform:
    """A movie's own transfer function and primaries; see `ViewTransform`.

    It is shown in Rec. 709's primaries through the sRGB curve. PQ, and HLG as its reference display of 1000 cd/m2 shows
    it, are tone-mapped on the way, all three channels by the same factor, which keeps hues. What is still outside
    Rec. 709 is cut. Linear light keeps the movie's primaries.

    chromaticities  of the primaries, for EXR
    """

    def __init__(self, name: str, primaries: str, peak: float = transfers.USUAL_PEAK) -> None:
        """Args:
        name: srgb (ordinary video in a wide gamut), or one of `transfers.CURVES`.
        primaries: one of `transfers.PRIMARIES`.
        peak: cd/m2 of the brightest light, for PQ; what is brighter is shown white.
        """
        self.name = name
        self.chromaticities: Chromaticities = PRIMARIES[primaries]
        to_linear = decode_srgb if name == "srgb" else transfers.CURVES[name].to_linear
        self._curve = CurveTransform(name, to_linear)
        self._matrix = None if primaries == "bt709" else transfers.to_rec709(primaries)
        self._peak = (transfers.HLG_PEAK if name == "hlg" else peak) / transfers.REFERENCE_WHITE
        self._weights = transfers.luminance_weights(primaries).astype(np.float32) if name == "hlg" else None
        self._mapped = name in transfers.HDR

    def display(self, rgb: np.ndarray) -> np.ndarray:
        """See `ViewTransform.display`."""
        if self._matrix is None and not self._mapped:
            return self._curve.display(rgb)
        shown = np.empty(rgb.shape, np.uint16)
        for top in range(0, len(rgb), _STRIP):  # what a strip needs fits into the processor's cache
            shown[top : top + _STRIP] = self._displayed(rgb[top : top + _STRIP])
        return shown

    def _displayed(self, rgb: np.ndarray) -> np.ndarray:
        light = self.linear(rgb)
        if rgb.dtype.kind == "f":
            light = np.nan_to_num(light, nan=0.0, posinf=transfers.PQ_PEAK, neginf=0.0)
        if self._weights is not None:  # BT.2100: the display's light is scene light times luminance to gamma - 1
            luminance = np.maximum(light @ self._weights, 0) * np.float32(transfers.HLG_WHITE)
            light *= cv2.pow(luminance, transfers.HLG_GAMMA - 1)[..., None]
            light *= np.float32(self._peak * transfers.HLG_WHITE)
        if self._matrix is not None:
            light = cv2.transform(light, self._matrix)
        if self._mapped:
            brightest = np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2])
            factor = self._factors[_root_places(brightest / np.float32(self._peak))]
            beyond = brightest > self._peak
            if beyond.any():
                factor[beyond] = 1 / brightest[beyond]
            light *= factor[..., None]
        return _srgb_of_root()[_root_places(light)]

    def linear(self, rgb: np.ndarray) -> np.ndarray:
        """See `ViewTransform.linear`."""
        return self._curve.linear(rgb)

    @cached_property
    def _factors(self) -> np.ndarray:
        """(65536,) float32: what tone mapping multiplies light by, by the square root of its share of the peak."""
        light = np.square(np.arange(_STEPS + 1) / _STEPS) * self._peak
        light[0] = light[1]
        return (transfers.tone_mapped(light, self._peak) / light).astype(np.float32)


def _root_places(light: np.ndarray) -> np.ndarray:
    """Return uint16: places of light, cut at 0 and 1, in tables that are entered by its square root."""
    root = np.sqrt(np.maximum(light, 0))
    root *= np.float32(_STEPS)
    root += np.float32(0.5)
    return np.minimum(root, np.float32(_STEPS)).astype(np.uint16)


@lru_cache(maxsize=1)
def _srgb_of_root() -> np.ndarray:
    """Return (65536,) uint16: the sRGB code of light, by its square root, so that dark steps are fine."""
    light = np.square(np.arange(_STEPS + 1) / _STEPS)
    return np.rint(encode_srgb(light).astype(np.float64) * 65535).astype(np.uint16)


SRGB: Final = CurveTransform("srgb", decode_srgb, shows_linear=False)
LINEAR: Final = CurveTransform("linear", _as_is)
LOG: Final = CurveTransform("log", decode_log)
NONE: Final = CurveTransform("none", _as_is, shows_linear=False)
BY_NAME: Final[dict[str, ViewTransform]] = {look.name: look for look in (SRGB, LINEAR, LOG, NONE)}


class OcioTransform:
    """A colour space of an OpenColorIO configuration: the user's ($OCIO), else the ACES one that OCIO brings along."""

    def __init__(self, space: str) -> None:
        """Raises: UsageError, where OpenColorIO is not installed, or does not know the space, or has no view for it."""
        try:
            import PyOpenColorIO as ocio
        except ImportError:
            known = ", ".join(dict.fromkeys(("auto", *BY_NAME, *transfers.CURVES)))
            raise UsageError(
                f"input transform '{space}' is none of {known}, and colour spaces need OpenColorIO: "
                "pip install 'mam-video[ocio]'"
            ) from None
        self.name = space
        source = os.environ.get("OCIO") or _BUILT_IN
        try:
            config: Any = ocio.Config.CreateFromFile(source)
            if config.getColorSpace(space) is None:
                near = [name for name in config.getColorSpaceNames() if space.lower() in name.lower()]
                shown = ", ".join((near or list(config.getColorSpaceNames()))[:8])
                raise UsageError(f"input transform '{space}': not in the configuration {source}; it knows {shown}, ...")
            display = config.getDefaultDisplay()
            view = config.getDefaultView(display, space)
            to_display = ocio.DisplayViewTransform(src=space, display=display, view=view)
            self._display = config.getProcessor(to_display).getDefaultCPUProcessor()
            self._linear = config.getProcessor(space, "scene_linear").getDefaultCPUProcessor()
        except (ocio.Exception, ocio.ExceptionMissingFile) as error:
            text = " ".join(str(error).split())
            raise UsageError(f"input transform '{space}': OpenColorIO cannot use {source} ({text})") from None

    def display(self, rgb: np.ndarray) -> np.ndarray:
        """See `ViewTransform.display`."""
        with np.errstate(invalid="ignore"):
            seen = np.nan_to_num(self._applied(self._display, rgb), nan=0.0, posinf=1.0, neginf=0.0)
            return np.rint(np.clip(seen, 0, 1) * np.float32(65535)).astype(np.uint16)

    def linear(self, rgb: np.ndarray) -> np.ndarray:
        """See `ViewTransform.linear`."""
        return self._applied(self._linear, rgb)

    @staticmethod
    def _applied(processor: Any, rgb: np.ndarray) -> np.ndarray:
        scale = np.float32(1 if rgb.dtype.kind == "f" else 1 / np.iinfo(rgb.dtype).max)
        values = np.ascontiguousarray(rgb.astype(np.float32) * scale)
        processor.applyRGB(values)
        return values


def make_view_transform(transform: str, own: str) -> ViewTransform | None:
    """Return the look of a clip; None where pixels are display-referred.

    Args:
        transform: as the user asks (`InputSettings.transform`).
        own: what the file is by itself: srgb, linear or log; taken where `transform` is auto.
    Raises: UsageError, for a name that is neither ours nor OpenColorIO's.
    """
    name = own if transform == "auto" else transform
    if name == "srgb":
        return None
    if name in transfers.CURVES and name not in BY_NAME:
        return VideoTransform(name, assumed_primaries(name, "unknown"))
    return BY_NAME.get(name) or OcioTransform(name)


def movie_transform(transform: str, tags: Colour, peak: float) -> ViewTransform | None:
    """Return the look of a movie, by its colour tags where `transform` is auto; None where pixels are display-referred.

    Args:
        peak: cd/m2 of the brightest light, for PQ.
    Raises: as `make_view_transform`.
    """
    name = transfers.BY_TAG.get(tags.transfer, "srgb") if transform == "auto" else transform
    primaries = assumed_primaries(name, tags.primaries)
    by_curve = name in transfers.CURVES and (transform == "auto" or name not in BY_NAME)
    if by_curve or (transform == "auto" and primaries in transfers.WIDE):
        return VideoTransform(name, primaries, peak)
    return make_view_transform(name, "srgb")


def assumed_primaries(name: str, primaries: str) -> str:
    """Return primaries by FFmpeg's name; where they are unknown, BT.2020's of PQ and HLG, Rec. 709's of others."""
    return primaries if primaries in PRIMARIES else "bt2020" if name in transfers.HDR else "bt709"


def chromaticities_of(look: str) -> Chromaticities | None:
    """Of the light that a look makes of whole numbers whose file does not say; None where nothing can be assumed."""
    if look in ("srgb", "linear") or (look in transfers.CURVES and look not in BY_NAME):
        return PRIMARIES[assumed_primaries(look, "unknown")]
    return None


def linear_chromaticities(transform: ViewTransform, info: ClipInfo) -> tuple[float, ...] | None:
    """Return the chromaticities of the light that a transform makes of a movie; None where they are not known.

    A transfer function of video has its own. `linear` changes no primaries, so the movie's stay.
    """
    if isinstance(transform, VideoTransform):
        return transform.chromaticities
    return info.chromaticities if transform.name == "linear" else None


def transform_notes(tags: Colour, name: str) -> tuple[str, ...]:
    """Explain what a movie's own transfer function and primaries mean here, by its transform's name, a line each."""
    primaries = assumed_primaries(name, tags.primaries)
    assumed = "" if primaries == tags.primaries else " (assumed: the file does not say)"
    lines = [f"the movie is {transfers.CURVES[name].says}"] if name in transfers.CURVES else []
    mapped = ", tone-mapped," if name in transfers.HDR else ""
    if primaries != "bt709" or name in transfers.CURVES:
        lines.append(
            f"EXR keeps its {primaries} primaries{assumed}; models, previews and files without colour tags get it"
            f"{mapped} in Rec. 709 through the sRGB curve; --input-transform says otherwise"
        )
    return tuple(lines)
