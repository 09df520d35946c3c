"""Read sequences of pictures: EXR, DPX, TIFF, PNG and JPEG. What files say of colour and alpha: docs/formats.md.

`image_formats.py` has a reader for each format.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np

from mam_video.core.errors import MediaError
from mam_video.core.frames import Frame
from mam_video.core.settings import InputSettings
from mam_video.media.base import XYXY, Windows
from mam_video.media.plate_alpha import IGNORED, alpha_notes, settled, straight_picture
from mam_video.media.sequence.describe import Opened, describe_sequence, gap_notes, size_text, timecode_of
from mam_video.media.sequence.image_formats import SUFFIXES, image_reader
from mam_video.media.sequence.image_header import ImageHeader, check_size, refuse
from mam_video.media.sequence.pattern import find_sequence
from mam_video.media.view_transforms import make_view_transform
from mam_video.runtime.lifecycle import Closeable
from mam_video.runtime.streams import ordered_map

READS_AHEAD: Final = 2  # pictures read at a time beside the one in use


class SequenceReader(Closeable):
    """Frames of one sequence; see `Reader` for the promises. pts is the index, the time base one frame.

    A missing frame raises at once, or (on_gap: repeat) repeats the frame before it, under its own index and number. A
    damaged one (on_error: repeat) does too, else it raises when it is reached. A frame unlike the first always raises.
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
        self._format = image_reader(self._files.tail, settings.layer)
        self.broken = list(self._missing)
        notes = gap_notes(self._files, settings)
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
        choice = settings.alpha
        self._alpha, basis = self._first.alpha, self._first.alpha_basis
        if choice != "auto":
            self._alpha, basis = (IGNORED if choice == "ignore" else choice), "as set"
        notes += alpha_notes(None if alpha is None else settled(alpha), self._alpha, basis)
        self._dtype = picture.dtype
        if self._windows is None:
            self._size = (picture.shape[0], picture.shape[1])  # upright, which a header may not be
        self.info = describe_sequence(
            self._files, self._first, Opened(self._size, self._dtype, self._look, self._windows, self._alpha, basis),
            settings, notes,
        )  # fmt: skip

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Yield frames start <= index < stop; see `Reader.frames`.

        Raises: MediaError where a file cannot be read, or is unlike the first, naming it.
        """
        if self._closed:
            raise ValueError("frames() of a closed reader")
        count = len(self._files.numbers)
        return self._noted(range(start, count if stop is None else min(stop, count)))

    def index_for_random_access(self) -> None:
        """Any frame is read by itself."""

    def index_frames(self) -> Iterator[int]:
        return iter(())

    def close(self) -> None:
        self._closed = True

    def _noted(self, indices: range) -> Iterator[Frame]:
        """Yield the frames, and add the damaged ones to `broken`."""
        self.broken[:] = self._missing
        missing = set(self._missing)
        with closing(ordered_map(self._read, indices, READS_AHEAD)) as frames:
            for frame in frames:
                if frame.index not in missing and self._files.numbers[frame.index] in self._damaged:
                    self.broken.append(frame.index)
                yield frame

    def _note_damage(self, number: int, error: MediaError) -> None:
        """Raise the error where it stops the run, else note the file."""
        if number == self._files.numbers[0]:
            raise error
        if not self._repeat:
            raise MediaError(f"{error}; --on-error repeat goes on where single frames are damaged") from error
        self._damaged.add(number)

    def _whole(self, number: int) -> tuple[int, ImageHeader, np.ndarray, np.ndarray | None]:
        """Read the frame of this number; where it is missing or damaged, the last one before it that is not."""
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
            raise refuse(path, f"it is turned otherwise than the first frame, {size_text(self._size)}")
        label = still.timecode
        if label is not None and stands_in != number:
            moved = timecode_of(label, self.info.rate)
            label = None if moved is None else str(moved + (number - stands_in))
        picture, alpha = straight_picture(picture, None if alpha is None else settled(alpha), self._alpha)
        return Frame(index, index, self.info.time_base, picture, self._look, window, label, alpha)

    def _check_alike(self, path: Path, still: ImageHeader) -> None:
        first = self._first
        size, wanted = (still.height, still.width), (first.height, first.width)
        if self._windows is None and size != wanted:
            raise refuse(
                path, f"it is {size_text(size)}, the first frame {size_text(wanted)}; all frames must be of one size"
            )
        self._check_alike_display(path, still)
        for what in ("pixel_format", "own", "sample_aspect"):
            if getattr(still, what) != getattr(first, what):
                name = what.replace("_", " ").replace("own", "encoding")
                raise refuse(path, f"its {name} is {getattr(still, what)}, that of the first {getattr(first, what)}")

    def _on_canvas(self, path: Path, picture: np.ndarray, still: ImageHeader) -> tuple[np.ndarray, XYXY | None]:
        """Place the picture on the canvas, and return where it lies; None where it fills the canvas."""
        left, top = still.window[0] - self._canvas[0], still.window[1] - self._canvas[1]
        height, width = picture.shape[:2]
        if (height, width) == self._size and left == top == 0:
            return picture, None
        if left < 0 or top < 0 or top + height > self._size[0] or left + width > self._size[1]:
            raise refuse(path, "its data window changed while it was read")
        whole = np.zeros((*self._size, *picture.shape[2:]), picture.dtype)
        whole[top : top + height, left : left + width] = picture
        return whole, (left, top, left + width, top + height)

    def _find_windows(self) -> Windows | None:
        """Find the canvas of all frames; None where every picture is just what a viewer shows."""
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
