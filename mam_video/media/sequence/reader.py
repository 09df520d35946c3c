"""Sequences of pictures: a reader for EXR, DPX, TIFF, PNG and JPEG, and a writer for EXR, DPX, TIFF and PNG.

Same contracts as movies. What differs between formats stands in one small class each: how a file is read (`FORMATS`),
and how a matted frame becomes one (the encoders below). What each file promises of colour and alpha: docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.frames import Frame
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import InputSettings, OutputSettings
from mam_video.core.timecode import Timecode, nominal_rate
from mam_video.media.atomic_output import Numbers
from mam_video.media.base import XYXY, ClipInfo, Colour, Windows
from mam_video.media.plate_alpha import IGNORED, alpha_notes, settled, straight_picture
from mam_video.media.sequence.dpx import Dpx
from mam_video.media.sequence.exr import Exr
from mam_video.media.sequence.image_header import ImageHeader, ImageReader, check_size, refuse
from mam_video.media.sequence.pattern import find_sequence
from mam_video.media.sequence.png_tiff_jpeg import Jpeg, Png, Tiff
from mam_video.media.view_transforms import make_view_transform
from mam_video.runtime.lifecycle import Closeable
from mam_video.runtime.streams import ordered_map

READS_AHEAD: Final = 2  # pictures read at a time beside the one in use
DEFAULT_RATE: Final = Fraction(24)
FIRST_OF_A_MOVIE: Final = 1001  # number of a movie's first frame where it is written as a sequence
SUFFIXES: Final = frozenset({".exr", ".dpx", ".tif", ".tiff", ".png", ".jpg", ".jpeg"})
_SHOWN_GAPS: Final = 6


def _format_of(suffix: str, settings: InputSettings) -> ImageReader:
    kind = suffix.lower()
    if settings.layer and kind != ".exr":
        raise UsageError(f"--layer {settings.layer}: only EXR has layers, not {suffix}")
    formats: dict[str, ImageReader] = {".exr": Exr(settings.layer), ".dpx": Dpx(), ".png": Png()}
    return formats.get(kind) or (Tiff() if kind in (".tif", ".tiff") else Jpeg())


class SequenceReader(Closeable):
    """Frames of one sequence; see `Reader` for the promises. pts is the index, the time base one frame.

    A missing frame stops at once, or (on_gap: repeat) is the frame before it again, under its own index and number; so
    is a damaged one (on_error: repeat), which stops when it is come to. A frame unlike the first always stops.
    The canvas of an EXR sequence is its display window and all its data windows together, so that overscan is matted
    and frames cropped each in their own way are of one size; black lies where a frame's file has nothing.

    broken  indices of the frames that the one before stands in for: missing ones, and as far as frames() has come
            damaged ones, in that order
    """

    def __init__(self, text: str, settings: InputSettings | None = None) -> None:
        """Find the files, read their first, and of EXR every header.

        Raises: MediaError or UsageError, in one line.
        """
        settings = settings or InputSettings()
        self._closed = False
        self._repeat = settings.on_error == "repeat"
        self._damaged: set[int] = set()  # numbers of files that could not be read
        self._files = find_sequence(text, SUFFIXES)
        present = set(self._files.present)
        self._missing = [k for k, number in enumerate(self._files.numbers) if number not in present]
        self._format = _format_of(self._files.tail, settings)
        self.broken = list(self._missing)
        notes = self._gaps(settings)
        first = self._files.file(self._files.numbers[0])
        self._first = self._format.facts(first)
        if self._first.pictures > 1:
            notes.append(
                f"{first.name} holds {self._first.pictures} pictures (pages, or an animation): the first is read"
            )
        self._look = make_view_transform(settings.transform, self._first.own)
        self._windows = self._find_windows()
        canvas = self._windows.canvas if self._windows else (0, 0, self._first.width, self._first.height)
        self._canvas = canvas
        self._size = (canvas[3] - canvas[1], canvas[2] - canvas[0])
        picture, alpha = self._format.picture(first)
        asked = settings.alpha
        self._alpha, basis = self._first.alpha, self._first.alpha_basis
        if asked != "auto":
            self._alpha, basis = (IGNORED if asked == "ignore" else asked), "as asked"
        notes += alpha_notes(None if alpha is None else settled(alpha), self._alpha, basis)
        self._alpha_basis = basis
        self._dtype = picture.dtype
        if self._windows is None:
            self._size = (picture.shape[0], picture.shape[1])  # upright, which a header may not be
        self.info = self._describe(settings, notes)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames start <= index < stop; see `Reader.frames`.

        Raises: MediaError where a file cannot be read, or is unlike the first, naming it.
        """
        if self._closed:
            raise ValueError("frames() of a closed reader")
        count = len(self._files.numbers)
        return self._noted(range(start, count if stop is None else min(stop, count)))

    def index_for_random_access(self) -> None:
        """Any frame is read by itself."""

    def close(self) -> None:
        self._closed = True

    def _noted(self, indices: range) -> Iterator[Frame]:
        """The frames, and in `broken` those of them that are damaged."""
        self.broken[:] = self._missing
        missing = set(self._missing)
        with closing(ordered_map(self._read, indices, READS_AHEAD)) as frames:
            for frame in frames:
                if frame.index not in missing and self._files.numbers[frame.index] in self._damaged:
                    self.broken.append(frame.index)
                yield frame

    def _note_damage(self, number: int, error: MediaError) -> None:
        """Raises: the error, where it stops the run."""
        if number == self._files.numbers[0]:
            raise error
        if not self._repeat:
            raise MediaError(f"{error}; --on-error repeat goes on where single frames are damaged") from error
        self._damaged.add(number)

    def _whole(self, number: int) -> tuple[int, ImageHeader, np.ndarray, np.ndarray | None]:
        """The frame of this number, or where it is missing or damaged the last one before it that is not."""
        number = self._files.nearest(number)
        while True:
            path = self._files.file(number)
            try:
                if number in self._damaged:  # that is known already
                    raise refuse(path, "it is damaged")
                if self._alpha == IGNORED:
                    return number, self._format.facts(path), self._format.pixels(path), None
                return number, self._format.facts(path), *self._format.picture(path)
            except MediaError as error:
                self._note_damage(number, error)
                number = self._files.nearest(number - 1)

    def _read(self, index: int) -> Frame:
        number = self._files.numbers[index]
        stands_in, still, picture, alpha = self._whole(number)
        path, window = self._files.file(stands_in), None
        self._check_alike(path, still)
        if self._windows is not None:
            picture, window = self._on_canvas(path, picture, still)
            if alpha is not None:
                alpha, _ = self._on_canvas(path, alpha, still)
        if picture.dtype != self._dtype:
            raise refuse(path, f"its pixels are {picture.dtype}, those of the first frame {self._dtype}")
        if (picture.shape[0], picture.shape[1]) != self._size:
            raise refuse(path, f"it is turned otherwise than the first frame, {_by(self._size)}")
        label = still.timecode
        if label is not None and stands_in != number:
            moved = _timecode(label, self.info.rate)
            label = None if moved is None else str(moved + (number - stands_in))
        picture, alpha = straight_picture(picture, None if alpha is None else settled(alpha), self._alpha)
        return Frame(index, index, self.info.time_base, picture, self._look, window, label, alpha)

    def _check_alike(self, path: Path, still: ImageHeader) -> None:
        first = self._first
        size, wanted = (still.height, still.width), (first.height, first.width)
        if self._windows is None and size != wanted:
            raise refuse(path, f"it is {_by(size)}, the first frame {_by(wanted)}; all frames must be of one size")
        self._check_alike_display(path, still)
        for what in ("pixel_format", "own", "sample_aspect"):
            if getattr(still, what) != getattr(first, what):
                told = what.replace("_", " ").replace("own", "encoding")
                raise refuse(path, f"its {told} is {getattr(still, what)}, that of the first {getattr(first, what)}")

    def _on_canvas(self, path: Path, picture: np.ndarray, still: ImageHeader) -> tuple[np.ndarray, XYXY | None]:
        """The picture at its place, and where that is; None where it fills the canvas."""
        left, top = still.window[0] - self._canvas[0], still.window[1] - self._canvas[1]
        height, width = picture.shape[:2]
        if (height, width) == self._size and left == top == 0:
            return picture, None
        if left < 0 or top < 0 or top + height > self._size[0] or left + width > self._size[1]:
            raise refuse(path, "its data window changed while it was read")
        whole = np.zeros((*self._size, *picture.shape[2:]), picture.dtype)
        whole[top : top + height, left : left + width] = picture
        return whole, (left, top, left + width, top + height)

    def _gaps(self, settings: InputSettings) -> list[str]:
        """Stop at missing frames, or say what is repeated."""
        gaps = self._files.missing()
        if not gaps:
            return []
        shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in gaps[:_SHOWN_GAPS])
        shown += f", ... ({len(gaps)} gaps)" if len(gaps) > _SHOWN_GAPS else ""
        if settings.on_gap == "stop":
            raise MediaError(
                f"{self._files.path}: frames {shown} are missing; --on-gap repeat repeats the one before each, and a "
                "pattern with a step, as name.1-100x5.exr, takes every fifth"
            )
        return [f"frames {shown} are missing: the one before each is repeated"]

    def _find_windows(self) -> Windows | None:
        """The canvas of all frames; None where every picture is just what a viewer shows."""
        display = self._first.display
        if display is None:
            return None
        x0, y0, x1, y1 = display
        for number in self._files.present:
            path = self._files.file(number)
            try:
                still = self._format.facts(path)
            except MediaError as error:
                self._note_damage(number, error)
                continue
            self._check_alike_display(path, still)
            left, top, right, bottom = still.window
            x0, y0, x1, y1 = min(x0, left), min(y0, top), max(x1, right), max(y1, bottom)
        check_size(self._files.path, y1 - y0, x1 - x0)
        return Windows(display, (x0, y0, x1, y1))

    def _check_alike_display(self, path: Path, still: ImageHeader) -> None:
        if still.display != self._first.display:
            raise refuse(path, f"its display window is {still.display}, that of the first frame {self._first.display}")

    def _describe(self, settings: InputSettings, notes: list[str]) -> ClipInfo:
        first, files = self._first, self._files
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
        look = self._look.name if self._look else "srgb"
        if look in ("linear", "log") and settings.transform == "auto":
            notes.append(
                f"the plate is {look}: models look at it through the sRGB curve; --input-transform sets another"
            )
        if self._windows and self._windows.overscan:
            d, c = self._windows.display, self._windows.canvas
            notes.append(
                f"data window unlike display window: all of {_by(self._size)} is matted, and coordinates count from "
                f"its corner; the display window begins at {d[0] - c[0]},{d[1] - c[1]}"
            )
        seen = Colour("pc", "gbr", "unknown", "unknown", True)
        floats = {np.float16: ("half", 16), np.float32: ("float", 32)}
        pixel_format, bits = floats.get(self._dtype.type, (first.pixel_format, first.bits))
        if self._dtype.kind == "f" and look == "linear":
            seen = Colour("pc", "gbr", "bt709", "iec61966-2-1", True)  # of what integer files are given of it
        return ClipInfo(
            codec=first.codec or files.tail.lstrip(".").upper(),
            layers=first.layers,
            path=files.path,
            width=self._size[1],
            height=self._size[0],
            rate=rate,
            time_base=1 / rate,
            frames_in_header=len(files.numbers),
            pixel_format=pixel_format,
            bits=bits,
            sample_aspect=first.sample_aspect,
            colour=seen,
            has_alpha=first.has_alpha,
            alpha=self._alpha if first.has_alpha else "",
            alpha_basis=self._alpha_basis if first.has_alpha else "",
            numbers=files.numbers,
            padding=files.padding,
            padding_below=files.below if files.numbers[0] < 0 else None,
            look=look,
            windows=self._windows,
            chromaticities=first.chromaticities,
            timecode=_timecode(first.timecode, rate),
            reel=first.reel,
            notes=tuple(notes),
        )


def _timecode(label: str | None, rate: Fraction) -> Timecode | None:
    """The label of the first frame; None where there is none, or it is none at this rate."""
    try:
        return Timecode.parse(label, nominal_rate(rate)) if label else None
    except UsageError:
        return None


def _by(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def number_of(info: ClipInfo, start_number: int | None, index: int) -> int:
    """The number that frame `index` of a clip is written under; `start_number` as in `OutputSettings`."""
    if start_number is not None:
        return start_number + index
    if info.numbers is not None:
        return info.numbers[index]
    return FIRST_OF_A_MOVIE + index


def numbers_of(info: ClipInfo, settings: OutputSettings, frames: FrameRange | None) -> Numbers:
    """First and last number that a range of frames is written under; its last one is None where that is not known.

    `frames` are the first and last index of the range; None: the whole clip.
    """
    part = frames or FrameRange()
    first, last = part.start, part.last
    if info.numbers is not None:
        end = len(info.numbers) - 1
        first, last = min(first, end), end if last is None else min(last, end)
    numbers = [None if index is None else number_of(info, settings.start_number, index) for index in (first, last)]
    assert numbers[0] is not None
    return numbers[0], numbers[1]
