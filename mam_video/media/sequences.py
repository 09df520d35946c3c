"""Sequences of pictures: a reader for EXR, DPX, TIFF, PNG and JPEG, and a writer for EXR, DPX, TIFF and PNG.

Same contracts as movies. What differs between formats stands in one small class each: how a file is read (`FORMATS`),
and how a matted frame becomes one (the encoders below). What each file promises of colour and alpha: docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np

from mam_video.closing import Closes, TwoSteps
from mam_video.errors import MediaError, UsageError
from mam_video.frames import Frame, Matted
from mam_video.media import colour
from mam_video.media.base import XYXY, ClipInfo, Colour, Windows
from mam_video.media.dpx import Dpx, encode_dpx
from mam_video.media.edge import writing
from mam_video.media.exr import Exr, time_code, write_exr
from mam_video.media.kept import flushed
from mam_video.media.looks import REC709_CHROMATICITIES, SRGB, make_look
from mam_video.media.ordinary import Jpeg, Png, Tiff, encode_png, encode_tiff
from mam_video.media.outputs import Pattern, SequenceOutput
from mam_video.media.patterns import find_sequence
from mam_video.media.still import Still, StillFormat, check_size, refuse
from mam_video.settings import InputSettings, OutputSettings, parse_rate
from mam_video.streams import ordered_map
from mam_video.timecode import Timecode, nominal_rate

READS_AHEAD: Final = 2  # pictures read at a time beside the one in use
DEFAULT_RATE: Final = Fraction(24)
FIRST_OF_A_MOVIE: Final = 1001  # number of a movie's first frame where it is written as a sequence
SUFFIXES: Final = frozenset({".exr", ".dpx", ".tif", ".tiff", ".png", ".jpg", ".jpeg"})
_SHOWN_GAPS: Final = 6


def _format_of(suffix: str, settings: InputSettings) -> StillFormat:
    kind = suffix.lower()
    if settings.layer and kind != ".exr":
        raise UsageError(f"--layer {settings.layer}: only EXR has layers, not {suffix}")
    formats: dict[str, StillFormat] = {".exr": Exr(settings.layer), ".dpx": Dpx(), ".png": Png()}
    return formats.get(kind) or (Tiff() if kind in (".tif", ".tiff") else Jpeg())


class SequenceReader(Closes):
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
        self._look = make_look(settings.transform, self._first.own)
        self._windows = self._find_windows()
        canvas = self._windows.canvas if self._windows else (0, 0, self._first.width, self._first.height)
        self._canvas = canvas
        self._size = (canvas[3] - canvas[1], canvas[2] - canvas[0])
        picture = self._format.pixels(first)
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

    def go_back_later(self) -> None:
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

    def _whole(self, number: int) -> tuple[int, Still, np.ndarray]:
        """The frame of this number, or where it is missing or damaged the last one before it that is not."""
        number = self._files.nearest(number)
        while True:
            path = self._files.file(number)
            try:
                if number in self._damaged:  # that is known already
                    raise refuse(path, "it is damaged")
                return number, self._format.facts(path), self._format.pixels(path)
            except MediaError as error:
                self._note_damage(number, error)
                number = self._files.nearest(number - 1)

    def _read(self, index: int) -> Frame:
        number = self._files.numbers[index]
        stands_in, still, picture = self._whole(number)
        path, window = self._files.file(stands_in), None
        self._check_alike(path, still)
        if self._windows is not None:
            picture, window = self._on_canvas(path, picture, still)
        if picture.dtype != self._dtype:
            raise refuse(path, f"its pixels are {picture.dtype}, those of the first frame {self._dtype}")
        if (picture.shape[0], picture.shape[1]) != self._size:
            raise refuse(path, f"it is turned otherwise than the first frame, {_by(self._size)}")
        label = still.timecode
        if label is not None and stands_in != number:
            moved = _timecode(label, self.info.rate)
            label = None if moved is None else str(moved + (number - stands_in))
        return Frame(index, index, self.info.time_base, picture, self._look, window, label)

    def _check_alike(self, path: Path, still: Still) -> None:
        first = self._first
        size, wanted = (still.height, still.width), (first.height, first.width)
        if self._windows is None and size != wanted:
            raise refuse(path, f"it is {_by(size)}, the first frame {_by(wanted)}; all frames must be of one size")
        self._check_alike_display(path, still)
        for what in ("pixel_format", "own", "sample_aspect"):
            if getattr(still, what) != getattr(first, what):
                told = what.replace("_", " ").replace("own", "encoding")
                raise refuse(path, f"its {told} is {getattr(still, what)}, that of the first {getattr(first, what)}")

    def _on_canvas(self, path: Path, picture: np.ndarray, still: Still) -> tuple[np.ndarray, XYXY | None]:
        """The picture at its place, and where that is; None where it fills the canvas."""
        left, top = still.window[0] - self._canvas[0], still.window[1] - self._canvas[1]
        height, width = picture.shape[:2]
        if (height, width) == self._size and left == top == 0:
            return picture, None
        if left < 0 or top < 0 or top + height > self._size[0] or left + width > self._size[1]:
            raise refuse(path, "its data window changed while it was read")
        whole = np.zeros((*self._size, 3), picture.dtype)
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

    def _check_alike_display(self, path: Path, still: Still) -> None:
        if still.display != self._first.display:
            raise refuse(path, f"its display window is {still.display}, that of the first frame {self._first.display}")

    def _describe(self, settings: InputSettings, notes: list[str]) -> ClipInfo:
        first, files = self._first, self._files
        if settings.fps:
            rate = parse_rate(settings.fps)
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
            numbers=files.numbers,
            padding=files.padding,
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


class Encoder(Protocol):
    """How a matted frame becomes a file. Pure but for that file, so that threads can share it."""

    def write(self, matted: Matted, number: int, path: Path) -> None:
        """Raises: MediaError or OSError, where the file cannot be written."""
        ...


@dataclass(frozen=True, slots=True)
class IntegerEncoder:
    """PNG and TIFF of 16 bits: RGBA, straight unless asked otherwise, or alpha alone. A float plate is shown here."""

    tiff: bool
    alpha_only: bool
    premultiply: bool

    def write(self, matted: Matted, number: int, path: Path) -> None:
        alpha = colour.alpha_codes(matted.alpha, 16)
        if self.alpha_only:
            picture = alpha
        else:
            rgb = colour.as_16_bit(matted.frame.codes)
            if self.premultiply:
                rgb = colour.premultiplied(rgb, matted.alpha)
            picture = cv2.merge([*cv2.split(rgb), alpha])
        data = encode_tiff(picture, premultiplied=self.premultiply) if self.tiff else encode_png(picture)
        path.write_bytes(data)


@dataclass(frozen=True, slots=True)
class DpxEncoder:
    """The matte alone, 10 bits."""

    rate: Fraction

    def write(self, matted: Matted, number: int, path: Path) -> None:
        path.write_bytes(encode_dpx(colour.alpha_codes(matted.alpha, 10), number, self.rate, path.name))


@dataclass(frozen=True, slots=True)
class ExrEncoder:
    """RGBA in scene-linear light, premultiplied in it, as EXR asks; or the matte alone as channel A, or LAYER.A.

    With `layers`, the names of several subjects, each one's matte alone is a layer: NAME.A.

    Float plates are written as they came: where alpha is 1 their bits do not change (in float, or in half from half,
    with lossless compression). Others are brought to linear light through their look, else from sRGB. Data and display
    windows stay as they were.
    """

    info: ClipInfo
    alpha_only: bool
    settings: OutputSettings
    layers: tuple[str, ...] = ()

    def write(self, matted: Matted, number: int, path: Path) -> None:
        frame = matted.frame
        height, width = frame.size
        x0, y0, x1, y1 = frame.window or (0, 0, width, height)
        inside = (slice(y0, y1), slice(x0, x1))
        alpha = matted.alpha[inside]
        dtype = self._dtype(frame)
        if self.layers:
            channels = {f"{name}.A": matted.of(name).alpha[inside].astype(dtype) for name in self.layers}
        elif self.alpha_only:
            layer = self.settings.exr_layer
            channels = {f"{layer}.A" if layer else "A": alpha.astype(dtype)}
        else:
            rgb = frame.rgb[inside]
            if rgb.dtype.kind != "f":
                rgb = (frame.look or SRGB).linear(rgb)
            narrow = dtype is np.float16 and rgb.dtype != np.float16
            planes = [_times(rgb[..., k], alpha) for k in range(3)]
            channels = {
                name: _in_half(plane) if narrow else plane.astype(dtype)
                for name, plane in zip("RGB", planes, strict=True)
            }
            channels["A"] = alpha.astype(dtype)
        write_exr(path, channels, self._header(frame, number, (x0, y0, x1, y1)))

    def _dtype(self, frame: Frame) -> type[np.float16] | type[np.float32]:
        if self.settings.exr_type == "auto":
            return np.float32 if frame.rgb.dtype == np.float32 else np.float16
        return np.float32 if self.settings.exr_type == "float" else np.float16

    def _header(self, frame: Frame, number: int, inside: XYXY) -> dict[str, Any]:
        height, width = frame.size
        windows = self.info.windows or Windows((0, 0, width, height), (0, 0, width, height))
        left, top = windows.canvas[:2]
        header: dict[str, Any] = {
            "data": (inside[0] + left, inside[1] + top, inside[2] + left, inside[3] + top),
            "display": windows.display,
            "compression": self.settings.exr_compression,
            "framesPerSecond": self.info.rate,
            "imageCounter": number,
            "pixelAspectRatio": float(self.info.sample_aspect),
            "software": "mam_video",
        }
        chromaticities = self.info.chromaticities
        if chromaticities is None and not self.info.floating and self.info.look in ("srgb", "linear"):
            chromaticities = REC709_CHROMATICITIES
        if chromaticities is not None and not self.alpha_only:
            header["chromaticities"] = chromaticities
        if frame.timecode is not None:
            code = time_code(frame.timecode, nominal_rate(self.info.rate))
            if code is not None:
                header["timeCode"] = code
        if self.info.reel:
            header["reelName"] = self.info.reel
        return header


def _times(plane: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """float32: plane times alpha; 0 where alpha is 0, whatever stands in the plane."""
    with np.errstate(invalid="ignore"):
        product: np.ndarray = plane.astype(np.float32) * alpha
    product[alpha == 0] = 0
    return product


def _in_half(plane: np.ndarray) -> np.ndarray:
    """float16 of float32; beyond its largest number, 65504, that."""
    top = np.float32(np.finfo(np.float16).max)
    return np.clip(plane, -top, top).astype(np.float16)


class SequenceWriter(TwoSteps):
    """A file for every frame, in a hidden folder until all are whole. Two steps, as with movies: prepare and put.

    Numbers are those of the source where it is a sequence, else they begin at 1001 (`OutputSettings.start_number`).
    Timestamps have no place here: a sequence of a variable-rate clip keeps its frames, not their times.

    numbers  of the frames written so far
    labels   their timecodes, by number; not of those that an earlier run left
    """

    def __init__(
        self, pattern: Pattern, encoder: Encoder, info: ClipInfo, settings: OutputSettings, *, keep: Path | None = None
    ) -> None:
        """With `keep`, a hidden folder, the frames lie there and are left there by `abort`.

        Raises: UsageError or MediaError, before anything is written, where the output is not possible."""
        self.path: Path = pattern.path
        self.encoder = encoder
        self.info = info
        self.numbers: list[int] = []
        self.labels: dict[int, str | None] = {}
        self._start = settings.start_number
        self._keep = keep is not None
        self._before: list[str] = []
        self._output = SequenceOutput(pattern, info.path, settings.overwrite, keep)

    def number(self, index: int) -> int:
        """The number that the frame `index` is written under."""
        if self._start >= 0:
            return self._start + index
        if self.info.numbers is not None:
            return self.info.numbers[index]
        return FIRST_OF_A_MOVIE + index

    def prepare(self, matted: Matted) -> str:
        """Write the frame into the hidden folder and give its name. Any thread, any order."""
        if matted.frame.size != self.info.size:
            raise ValueError(f"frame {matted.frame.index} is {matted.frame.size}, the clip {self.info.size}")
        number = self.number(matted.frame.index)
        self.labels[number] = matted.frame.timecode
        name = self._output.pattern.name(number)
        with writing(self._output.pattern.folder / name):
            try:
                self.encoder.write(matted, number, self._output.partial / name)
                if self._keep:
                    flushed(self._output.partial / name)
            except MediaError as error:
                raise MediaError(f"{self._output.pattern.folder / name}: {error}") from error
        return name

    def kept(self, first: int, most: int, *, named: bool = False) -> int:
        """How many frames an earlier run left, from the index `first` on, `most` at most.

        `named`: it was cut off while it gave them their final names.
        """
        pattern, hidden = self._output.pattern, self._output.partial
        for k in range(most):
            name = pattern.name(self.number(first + k))
            if not (hidden / name).exists() and not (named and (pattern.folder / name).exists()):
                return k
        return most

    def go_on(self, first: int, count: int) -> None:
        """Take over the first `count` frames of those; before the first `put`."""
        self._before = [self._output.pattern.name(self.number(first + k)) for k in range(count)]
        self.numbers = [self.number(first + k) for k in range(count)]
        ours = set(self._before)
        with writing(self.path):
            for entry in list(self._output.partial.iterdir()):
                if entry.name not in ours:
                    entry.unlink()

    def put(self, name: str) -> None:
        """Count a prepared frame in."""
        number = self._output.pattern.number(name)
        assert number is not None
        self.numbers.append(number)

    def write(self, matted: Matted) -> None:
        """Raises: MediaError, where the disk is full."""
        self.put(self.prepare(matted))

    def finish(self) -> None:
        if not self.numbers:
            raise MediaError(f"{self.path}: no frame was written to it")

    def publish(self) -> None:
        """Move the frames to their final names."""
        self._output.publish(self._before)

    def abort(self) -> None:
        self._output.discard()
