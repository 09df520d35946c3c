"""Describe a sequence: its rate, pixels, windows, labels, and notes for the user."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.frames import ViewTransform
from mam_video.core.settings import InputSettings
from mam_video.core.timecode import Timecode, nominal_rate
from mam_video.media.base import ClipInfo, Colour, Windows
from mam_video.media.sequence.image_header import ImageHeader
from mam_video.media.sequence.pattern import SequencePattern

DEFAULT_RATE: Final = Fraction(24)
_SHOWN_GAPS: Final = 6


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening a sequence found.

    size         (H, W) of its canvas
    dtype        of its pixels
    look         transform that shows them; None: they are display-referred
    alpha        how it is taken, and on what basis; see `ClipInfo`
    """

    size: tuple[int, int]
    dtype: np.dtype[Any]
    look: ViewTransform | None
    windows: Windows | None
    alpha: str
    alpha_basis: str


def gap_notes(files: SequencePattern, settings: InputSettings) -> list[str]:
    """List what is repeated for missing frames. Raises: MediaError, frames are missing and `on_gap` is "stop"."""
    gaps = files.missing()
    if not gaps:
        return []
    shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in gaps[:_SHOWN_GAPS])
    shown += f", ... ({len(gaps)} gaps)" if len(gaps) > _SHOWN_GAPS else ""
    if settings.on_gap == "stop":
        raise MediaError(
            f"{files.path}: frames {shown} are missing; --on-gap repeat repeats the one before each, and a "
            "pattern with a step, as name.1-100x5.exr, takes every fifth"
        )
    return [f"frames {shown} are missing: the one before each is repeated"]


def describe_sequence(
    files: SequencePattern, first: ImageHeader, opened: Opened, settings: InputSettings, notes: list[str]
) -> ClipInfo:
    """Describe a sequence by the header of its first file and what was found when it was opened.

    `notes` of the opening come first in those of the clip.
    """
    if settings.frame_rate is not None:
        rate = settings.frame_rate
    elif first.rate is not None:
        rate = first.rate
    else:
        rate = DEFAULT_RATE
        if len(files.numbers) > 1:
            notes.append("the files do not say their rate: 24 frames a second are taken; --fps gives another")
    if settings.transform == "auto" and first.assumed:
        notes.append(f"{first.assumed}; --input-transform says otherwise")
    look = opened.look.name if opened.look else "srgb"
    if look in ("linear", "log") and settings.transform == "auto":
        notes.append(f"the plate is {look}: models look at it through the sRGB curve; --input-transform sets another")
    if opened.windows and opened.windows.overscan:
        d, c = opened.windows.display, opened.windows.canvas
        notes.append(
            f"data window unlike display window: all of {size_text(opened.size)} is matted, and coordinates count from "
            f"its corner; the display window begins at {d[0] - c[0]},{d[1] - c[1]}"
        )
    seen = Colour("pc", "gbr", "unknown", "unknown", True)
    floats = {np.float16: ("half", 16), np.float32: ("float", 32)}
    pixel_format, bits = floats.get(opened.dtype.type, (first.pixel_format, first.bits))
    if opened.dtype.kind == "f" and look == "linear":
        seen = Colour("pc", "gbr", "bt709", "iec61966-2-1", True)  # of what integer files are given of it
    return ClipInfo(
        codec=first.codec or files.tail.lstrip(".").upper(),
        layers=first.layers,
        path=files.path,
        width=opened.size[1],
        height=opened.size[0],
        rate=rate,
        time_base=1 / rate,
        frames_in_header=len(files.numbers),
        pixel_format=pixel_format,
        bits=bits,
        sample_aspect=first.sample_aspect,
        colour=seen,
        has_alpha=first.has_alpha,
        alpha=opened.alpha if first.has_alpha else "",
        alpha_basis=opened.alpha_basis if first.has_alpha else "",
        numbers=files.numbers,
        padding=files.padding,
        padding_below=files.below if files.numbers[0] < 0 else None,
        look=look,
        windows=opened.windows,
        chromaticities=first.chromaticities,
        timecode=timecode_of(first.timecode, rate),
        reel=first.reel,
        notes=tuple(notes),
    )


def timecode_of(label: str | None, rate: Fraction) -> Timecode | None:
    """Parse a label; None where there is none, or it is none at this rate."""
    try:
        return Timecode.parse(label, nominal_rate(rate)) if label else None
    except UsageError:
        return None


def size_text(size: tuple[int, int]) -> str:
    """Write (H, W) as users read it: WIDTHxHEIGHT."""
    return f"{size[1]}x{size[0]}"
