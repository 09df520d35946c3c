"""The table of picture formats that sequences are read from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mam_video.core.errors import UsageError
from mam_video.media.sequence.dpx import Dpx
from mam_video.media.sequence.exr import Exr
from mam_video.media.sequence.image_header import ImageReader
from mam_video.media.sequence.png_tiff_jpeg import Jpeg, Png, Tiff


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """One picture format.

    suffixes  of its files
    reader    makes its reader, for a layer by name ("": the picture itself)
    layers    whether its files can hold several
    """

    suffixes: tuple[str, ...]
    reader: Callable[[str], ImageReader]
    layers: bool = False


IMAGE_FORMATS: Final = (
    ImageFormat((".exr",), Exr, layers=True),
    ImageFormat((".dpx",), lambda layer: Dpx()),
    ImageFormat((".tif", ".tiff"), lambda layer: Tiff()),
    ImageFormat((".png",), lambda layer: Png()),
    ImageFormat((".jpg", ".jpeg"), lambda layer: Jpeg()),
)
_BY_SUFFIX: Final = {suffix: each for each in IMAGE_FORMATS for suffix in each.suffixes}
SUFFIXES: Final = frozenset(_BY_SUFFIX)


def image_reader(suffix: str, layer: str = "") -> ImageReader:
    """Return the reader of files with one of `SUFFIXES`.

    Raises: UsageError, a layer of a format without layers.
    """
    chosen = _BY_SUFFIX[suffix.lower()]
    if layer and not chosen.layers:
        raise UsageError(f"--layer {layer}: only EXR has layers, not {suffix}")
    return chosen.reader(layer)
