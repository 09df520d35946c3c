"""Reading clips and writing mattes: `open_clip` gives frames, `open_writer` and `open_writers` take matted ones."""

from mam_video.media.base import ClipInfo, Colour, Reader, Writer
from mam_video.media.kinds import (
    Kind,
    WriterGroup,
    expected_bytes,
    kinds,
    notes,
    open_clip,
    open_writer,
    open_writers,
    parse_output,
    read_back,
)

__all__ = [
    "ClipInfo",
    "Colour",
    "Kind",
    "Reader",
    "Writer",
    "WriterGroup",
    "expected_bytes",
    "kinds",
    "notes",
    "open_clip",
    "open_writer",
    "open_writers",
    "parse_output",
    "read_back",
]
