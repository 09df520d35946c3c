"""Every reader and every writer, for the suites that hold them to their contracts."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mam_video.core.frames import Frame, Matted
from mam_video.core.settings import InputSettings, OutputSettings
from mam_video.core.timecode import Timecode
from mam_video.media import ClipInfo, Colour, open_writer
from mam_video.media.base import WholeWriter
from mam_video.media.formats import FORMATS, OutputFormat
from tests.clips import make_clip, matted, ramp, soft_disc
from tests.media.sequence_clips import write_cv

SIZE = (34, 46)
RATE = Fraction(24)
TAGS = Colour("tv", "bt709", "bt709", "bt709", True)
SUBJECTS = ("dancer", "dog")


def named(row: OutputFormat, name: str, suffix: str = "") -> str:
    """An output of a format as users type it."""
    suffix = suffix or row.suffixes[0]
    number = ".%04d" if row.writer == "sequence" and suffix != "/" else ""
    return f"{name}{number}{suffix}:{row.name}"


def clip(folder: Path) -> ClipInfo:
    """A movie of 24 frames a second that need not exist."""
    return ClipInfo(
        folder / "plate.mov", SIZE[1], SIZE[0], RATE, 1 / RATE, colour=TAGS, timecode=Timecode.parse("01:00:00:00", 24)
    )


def matte(k: int) -> Matted:
    """Frame k of that clip with its matte: of two subjects, whose alphas are halves of the whole."""
    label = str(Timecode.parse("01:00:00:00", 24) + k)
    frame = Frame(k, k, 1 / RATE, ramp(*SIZE, k), timecode=label)
    whole = matted(frame, soft_disc(*SIZE) * np.float32(0.6 + 0.1 * k))
    half = whole.alpha / np.float32(2)
    parts = tuple(replace(whole, alpha=half, record=replace(whole.record, subject=name)) for name in SUBJECTS)
    return replace(whole, parts=parts)


def alphas(row: OutputFormat, count: int) -> list[tuple[float, float]]:
    """Least and largest alpha of each of the first frames, as a format holds them."""
    of = SUBJECTS[0] if row.layers else None
    each = [matte(k).of(of).alpha for k in range(count)]
    return [(float(alpha.min()), float(alpha.max())) for alpha in each]


def writer_of(row: OutputFormat, folder: Path, keep: Path | None = None, **settings: Any) -> WholeWriter[Any]:
    """A writer of a format into a folder, for `clip`."""
    subjects = SUBJECTS if row.layers else ()
    return open_writer(
        named(row, f"{folder}/m"), clip(folder), OutputSettings(**settings), keep=keep, subjects=subjects
    )


READERS = ("ffv1.mkv", "prores.mov", "alpha.webm", "h264.mp4", "pq.mov", "png", "tif", "exr", "dpx", "jpg", "one.png")
COUNT = 5


def source(kind: str, folder: Path) -> tuple[str, InputSettings]:
    """A clip of `COUNT` frames (one of one.png) for a reader of this kind, and how it is read."""
    if kind in ("ffv1.mkv", "h264.mp4", "pq.mov"):
        options = {"codec": "libx264", "pixel_format": "yuv420p"} if kind == "h264.mp4" else {}
        path = make_clip(folder / kind, [ramp(*SIZE, k) for k in range(COUNT)], **options)
        return str(path), InputSettings(transform="pq" if kind == "pq.mov" else "auto")
    row = FORMATS.get({"prores.mov": "prores", "alpha.webm": "vp9", "tif": "tiff", "dpx": "dpx-alpha"}.get(kind, kind))
    if row is not None:
        with writer_of(row, folder) as writer:
            for k in range(COUNT):
                writer.write(matte(k))
        return str(writer.path), InputSettings()
    if kind == "jpg":
        for k in range(COUNT):
            write_cv(folder / f"p.{k:04d}.jpg", (ramp(*SIZE, k) >> 8).astype(np.uint8))
        return f"{folder}/p.%04d.jpg", InputSettings()
    return str(write_cv(folder / "one.png", ramp(*SIZE))), InputSettings()
