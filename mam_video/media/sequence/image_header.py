"""What every reader of single pictures answers: the facts of a file's header, then its pixels.

A header is read and judged before anything of its size is allocated, so that a damaged or hostile one costs nothing.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from mam_video.core.errors import MediaError
from mam_video.media.base import XYXY
from mam_video.runtime.os_errors import reason

MAX_SIDE: Final = 65536
MAX_PIXELS: Final = 1 << 27  # 16384 x 8192, a picture of 1.5 GB as float32
_ROOM_FOR_METADATA: Final = 64 << 20  # bytes by which a file may be larger than its pixels


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The facts of one picture file.

    width, height  as stored, in pixels
    alpha          how colour is stored with the alpha: straight or premultiplied
    alpha_basis    why that is so, or is assumed, in a few words
    own            what its values are by themselves: srgb, linear or log
    assumed        what `own` rests on where the file does not say, for the user; else empty
    rate           frames a second, where the file says so
    pictures       how many are in the file; the first is read
    codec          format and compression, as "EXR, zip"; "" where only the format is known
    layers         of an EXR: names of its layers and parts
    display, data  windows in EXR's pixel space; None where the picture is all there is
    """

    width: int
    height: int
    pixel_format: str
    bits: int
    has_alpha: bool = False
    alpha: str = "straight"
    alpha_basis: str = "assumed"
    own: str = "srgb"
    assumed: str = ""
    rate: Fraction | None = None
    timecode: str | None = None
    sample_aspect: Fraction = Fraction(1)
    display: XYXY | None = None
    data: XYXY | None = None
    chromaticities: tuple[float, ...] | None = None
    reel: str = ""
    transfer: str = field(default="unknown")
    pictures: int = 1
    codec: str = ""
    layers: tuple[str, ...] = ()

    @property
    def window(self) -> XYXY:
        """The data window, or the whole picture."""
        return self.data or (0, 0, self.width, self.height)


class ImageReader(Protocol):
    """One file format. Both calls are pure functions of the file: any thread, any number at a time."""

    def facts(self, path: Path) -> ImageHeader:
        """Raises: MediaError, in one line, where the file is not what its name says or its header is no good."""
        ...

    def pixels(self, path: Path) -> np.ndarray:
        """(H, W, 3) uint8, uint16, float16 or float32, upright. Raises: MediaError, where the pixels cannot be read."""
        ...

    def picture(self, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """The pixels as stored, and the alpha, (H, W) of any type and as stored; None where the file has none."""
        ...


def refuse(path: Path, why: str) -> MediaError:
    """Return the one line for a picture that cannot be read."""
    return MediaError(f"{path}: cannot be read ({why})")


def check_size(path: Path, height: int, width: int) -> None:
    """Raises: MediaError, where a header claims a picture that is empty or beyond all reason."""
    if height < 1 or width < 1 or height > MAX_SIDE or width > MAX_SIDE or height * width > MAX_PIXELS:
        raise refuse(path, f"its header claims {width}x{height} pixels, more than {MAX_PIXELS >> 20} million or none")


def size_of_file(path: Path) -> int:
    """Bytes of a regular file. Raises: MediaError for anything else: missing, a folder, a pipe, a loop of links."""
    try:
        status = os.stat(path)  # noqa: PTH116 - Path.stat would hide nothing, but this says what is queried
    except (OSError, ValueError) as error:
        raise refuse(path, reason(error)) from error
    if not stat.S_ISREG(status.st_mode):
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe or device"
        raise refuse(path, f"is a {kind}, not a file")
    if status.st_size == 0:
        raise refuse(path, "the file is empty")
    return status.st_size


def read_whole(path: Path, raw_bytes: int) -> bytes:
    """Return all of a file whose header promises `raw_bytes` of pixels. Raises: MediaError, where it is far larger."""
    size = size_of_file(path)
    if size > 2 * raw_bytes + _ROOM_FOR_METADATA:
        raise refuse(path, f"the file has {size:,} bytes for a picture of {raw_bytes:,}")
    try:
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise refuse(path, reason(error)) from error


def read_head(path: Path, length: int) -> bytes:
    """Return the first bytes of a regular file, as many as there are up to `length`."""
    size_of_file(path)
    try:
        with path.open("rb") as file:
            return file.read(length)
    except OSError as error:
        raise refuse(path, reason(error)) from error
