"""View transforms: from a plate's own values to what a display shows (for the models) and to scene-linear light.

Models are trained on display-referred sRGB, so a linear or log plate is shown to them through a look. What is written
out is made from the plate's own values, never from what the models saw, except where a file of whole numbers is asked
of a float plate. Kinds of values (`--input-transform`):

    srgb    display-referred; 1 is white
    linear  scene-linear; shown through the sRGB curve, cut at 0 and 1
    log     Cineon printing density: black 95, white 685 of 1023, 0.002 a code, gamma 0.6; shown through the sRGB curve
    none    shown as they are, and linear as they are
    else    a colour space of OpenColorIO: shown through the default display and view of the configuration, linear in
            its role scene_linear

Not-a-number is shown black, infinity white. Curves: IEC 61966-2-1 (sRGB); Kodak, Grayscale Transformation from Cineon
Image Data to Linear (the log curve).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import numpy as np

from mam_video.core.errors import UsageError
from mam_video.core.frames import ViewTransform

_BUILT_IN: Final = "ocio://studio-config-latest"  # knows the cameras' log curves; ocio://default does not
_HALF = np.dtype(np.float16)
REC709_CHROMATICITIES: Final = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)


def encode_srgb(light: np.ndarray) -> np.ndarray:
    """float32 in [0, 1]: the sRGB code of linear light; not-a-number becomes 0, what lies outside is cut."""
    light = np.clip(np.nan_to_num(light, nan=0.0, posinf=1.0, neginf=0.0), 0, 1).astype(np.float32)
    high = np.power(light, np.float32(1 / 2.4)) * np.float32(1.055) - np.float32(0.055)
    return np.where(light <= 0.0031308, light * np.float32(12.92), high).astype(np.float32)


def decode_srgb(code: np.ndarray) -> np.ndarray:
    """float32: linear light of an sRGB code; the curve goes on above 1, and mirrored below 0."""
    size = np.abs(code).astype(np.float32)
    high = np.power((size + np.float32(0.055)) / np.float32(1.055), np.float32(2.4))
    light: np.ndarray = np.copysign(np.where(size <= 0.04045, size / np.float32(12.92), high), code).astype(np.float32)
    return light


def decode_log(code: np.ndarray) -> np.ndarray:
    """float32: linear light of a Cineon code in [0, 1]; white (685/1023) is 1, black (95/1023) is 0."""
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
            known = ", ".join(("auto", *BY_NAME))
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
    """The look of a clip; None where pixels are display-referred.

    Args:
        transform: as the user asks (`InputSettings.transform`).
        own: what the file is by itself: srgb, linear or log; taken where `transform` is auto.
    Raises: UsageError, for a name that is neither ours nor OpenColorIO's.
    """
    name = own if transform == "auto" else transform
    if name == "srgb":
        return None
    return BY_NAME.get(name) or OcioTransform(name)
