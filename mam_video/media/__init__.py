"""Reading clips and writing mattes: `open_clip` gives frames, `open_writer` and `open_writers` take mattes."""

from mam_video.media.base import ClipInfo, Colour, Reader, Writer
from mam_video.media.formats import OutputFormat, expected_bytes, kinds, parse_output
from mam_video.media.open import open_clip, open_for_viewing, open_writer, open_writers, verify_output
from mam_video.media.output_notes import notes
from mam_video.media.writer_group import WriterGroup

__all__ = [
    "ClipInfo",
    "Colour",
    "OutputFormat",
    "Reader",
    "Writer",
    "WriterGroup",
    "expected_bytes",
    "kinds",
    "notes",
    "open_clip",
    "open_for_viewing",
    "open_writer",
    "open_writers",
    "parse_output",
    "verify_output",
]
