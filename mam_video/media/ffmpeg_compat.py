"""Where PyAV's values and errors become ours: the one place that knows how its versions differ.

PyAV 18 gives rationals as Fraction and unset ones as None; PyAV 19 gives its own AVRational, falsy where unset (0/1,
n/0). Both go through `fraction`. Enumerations come as plain ints or IntEnums; both go through int().
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.sidedata.sidedata import Type as SideDataType

from mam_video.core.errors import MediaError
from mam_video.runtime.os_errors import reason


def fraction(value: Any) -> Fraction | None:
    """A rational of PyAV 18 or 19 (Fraction, AVRational, int) as a Fraction; None where it is unset or not positive."""
    if value is None:
        return None
    numerator, denominator = int(value.numerator), int(value.denominator)
    if numerator <= 0 or denominator <= 0:
        return None
    return Fraction(numerator, denominator)


def ticks(value: Any) -> int | None:
    """Return a timestamp or duration as an int, or None where it is unset (None, or FFmpeg's NOPTS)."""
    if value is None or int(value) == -(1 << 63):
        return None
    return int(value)


def _unnamed(kind: type[SideDataType], value: object) -> SideDataType:
    """Return a kind of side data that FFmpeg has and this PyAV does not name.

    Without it `frame.side_data` raises ValueError for every frame that carries such data, as EXIF.
    """
    member: Any = object.__new__(kind)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


SideDataType._missing_ = classmethod(_unnamed)  # type: ignore[assignment]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of PyAV and the system while writing become one MediaError that names the file."""
    try:
        yield
    except (av.FFmpegError, OSError, MemoryError) as error:
        raise MediaError(f"{path}: cannot be written ({reason(error)})") from error


def url(path: Path) -> str:
    """Return a path as FFmpeg takes it: a colon in a relative name must not look like a protocol."""
    return f"file:{path}"
