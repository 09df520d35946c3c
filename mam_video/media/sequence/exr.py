"""OpenEXR through its own library: half and float, every compression, layers and parts, data and display windows.

Values are never touched on the way in: half stays half, float stays float, whatever lies above 1 or below 0. FFmpeg and
OpenCV would cut half at 1, lose overscan and know no layers.

Deep pictures and luminance/chroma files are refused. The library prints lines of its own for damaged files; ours is
the error.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import OpenEXR

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.timecode import nominal_rate
from mam_video.media.base import XYXY
from mam_video.media.sequence.exr_chunks import LINES, ZIP_LEVEL, head_of, library_deflate, write_chunks
from mam_video.media.sequence.image_header import ImageHeader, check_size, read_head, refuse, size_of_file
from mam_video.runtime.cores import cores
from mam_video.runtime.os_errors import reason

COMPRESSIONS: Final = {
    "none": OpenEXR.NO_COMPRESSION,
    "zips": OpenEXR.ZIPS_COMPRESSION,
    "zip": OpenEXR.ZIP_COMPRESSION,
    "piz": OpenEXR.PIZ_COMPRESSION,
    "dwaa": OpenEXR.DWAA_COMPRESSION,
    "dwab": OpenEXR.DWAB_COMPRESSION,
}
_IN_PAIRS: Final = (48, 50, 60)  # rates whose time code counts pairs of frames
_MOST_CHANNELS: Final = 1024
_MOST_SAMPLES: Final = 1 << 30  # 120 channels at 4K; 4 GB as float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture stands in a file: its part and the full names of its channels, R G B, or Y alone."""

    part: int
    channels: tuple[str, ...]


class Exr:
    """One EXR file of a plate; see `StillFormat`. `layer` as `InputSettings.layer` says."""

    def __init__(self, layer: str = "") -> None:
        self._layer = layer

    def facts(self, path: Path) -> ImageHeader:
        parts = _parts(path)
        place = find_place(path, tuple((p.name() or "", _channel_names(p)) for p in parts), self._layer)
        header = parts[place.part].header
        data, display = _window(header["dataWindow"]), _window(header["displayWindow"])
        check_size(path, data[3] - data[1], data[2] - data[0])
        check_size(path, display[3] - display[1], display[2] - display[0])
        colours = header.get("chromaticities")
        return ImageHeader(
            width=data[2] - data[0],
            height=data[3] - data[1],
            pixel_format="exr",  # half or float: only the pixels tell
            bits=32,
            has_alpha=_alpha_of(place, _channel_names(parts[place.part])) is not None,
            alpha="premultiplied",
            alpha_basis="as EXR has it",
            own="linear",
            rate=(rate := _rate(header.get("framesPerSecond"))),
            timecode=_label(header.get("timeCode"), rate),
            sample_aspect=_aspect(header.get("pixelAspectRatio", 1.0)),
            display=display,
            data=data,
            chromaticities=tuple(float(value) for value in colours) if colours is not None else None,
            reel=str(header.get("reelName", ""))[:64],
            codec=_codec(header),
            layers=_layer_names(parts),
        )

    @staticmethod
    def windows_of(path: Path) -> tuple[XYXY, XYXY]:
        """Return data and display window of the first part, whatever its channels are."""
        header = _parts(path)[0].header
        data, display = _window(header["dataWindow"]), _window(header["displayWindow"])
        check_size(path, display[3] - display[1], display[2] - display[0])
        return data, display

    def pixels(self, path: Path) -> np.ndarray:
        """Of the data window alone; see `StillFormat.pixels`."""
        return self._read(path)[0]

    def picture(self, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """Of the data window alone; see `StillFormat.picture`."""
        rgb, alpha = self._read(path)
        if alpha is not None and (alpha.shape != rgb.shape[:2] or alpha.dtype.kind != "f"):
            raise refuse(path, "its alpha is of another size than its colour, or of whole numbers; see --ignore-alpha")
        return rgb, alpha

    def _read(self, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
        """Colour, and the alpha channel where there is one, as stored."""
        self.facts(path)
        parts = _parts(path)
        place = find_place(path, tuple((p.name() or "", _channel_names(p)) for p in parts), self._layer)
        _, channels = _read_part(path, len(parts), place.part)
        planes = [channels[name] for name in place.channels]
        if len({plane.shape for plane in planes}) != 1:
            raise refuse(path, "its channels have several sizes (luminance and chroma?); write plain RGB")
        if any(plane.dtype.kind != "f" for plane in planes):
            raise refuse(path, "its channels hold whole numbers (ids?), not a picture; choose another --layer")
        dtype = np.float16 if all(plane.dtype == np.float16 for plane in planes) else np.float32
        rgb = np.empty((*planes[0].shape, 3), dtype)
        for k in range(3):
            rgb[..., k] = planes[k % len(planes)]
        name = _alpha_of(place, tuple(channels))
        return rgb, None if name is None else channels[name]


def read_channels(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and channels of the first part. Raises: MediaError, where the file is damaged."""
    return _read_part(path, len(_parts(path)), 0)


def _read_part(path: Path, parts: int, part: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and channels of one of the file's parts."""
    try:
        with _utf8_name(path) as name:
            read = OpenEXR.File(name, separate_channels=True)
        # A part whose pixels are damaged is left out, with a word on stdout only.
        if len(read.parts) != parts:
            raise refuse(path, "its pixels are damaged or cut off")
        channels = {name: channel.pixels for name, channel in read.parts[part].channels.items()}
        return dict(read.parts[part].header), channels
    except MediaError:
        raise
    except Exception as error:  # the library throws what it likes
        raise refuse(path, reason(error)) from error


@contextmanager
def _utf8_name(path: Path) -> Iterator[str]:
    """Yield a name of the file that is UTF-8, as OpenEXR asks: its own, or a link's that lasts as long as this."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="mam-video-") as folder:
            link = Path(folder) / "picture.exr"
            link.symlink_to(path.absolute())
            yield str(link)
    else:
        yield str(path)


def _parts(path: Path) -> list[Any]:
    """Return the file's parts, their headers alone."""
    size_of_file(path)
    if read_head(path, 4) != b"\x76\x2f\x31\x01":
        raise refuse(path, "it is not an EXR")
    try:
        with _utf8_name(path) as name:
            parts = list(OpenEXR.File(name, header_only=True).parts)
    except Exception as error:  # the library throws what it likes
        raise refuse(path, f"its header is damaged: {reason(error)}") from error
    if not parts or sum(len(part.header.get("channels", ())) for part in parts) > _MOST_CHANNELS:
        raise refuse(path, "its header names no picture, or too many")
    samples = 0  # the library reads all channels of all parts
    for part in parts:
        if "dataWindow" not in part.header or "displayWindow" not in part.header:
            raise refuse(path, "its header is damaged: a window is missing")
        if part.type() in (OpenEXR.deepscanline, OpenEXR.deeptile):
            raise refuse(path, "it holds deep pixels; flatten them first")
        x0, y0, x1, y1 = _window(part.header["dataWindow"])
        check_size(path, y1 - y0, x1 - x0)
        samples += (y1 - y0) * (x1 - x0) * len(part.header["channels"])
    if samples > _MOST_SAMPLES:
        raise refuse(path, f"its header claims {samples:,} samples in all its channels, more than {_MOST_SAMPLES:,}")
    return parts


def _channel_names(part: Any) -> tuple[str, ...]:
    return tuple(channel.name for channel in part.header["channels"])


def _alpha_of(place: Place, names: Sequence[str]) -> str | None:
    """The channel that is the alpha of a picture's own layer; None where there is none, or where it is the picture."""
    layer, dot, _ = place.channels[0].rpartition(".")
    found = (f"{layer}{dot}{end}" for end in ("A", "a", "alpha"))
    return next((name for name in found if name in names and name not in place.channels), None)


def find_place(path: Path, parts: tuple[tuple[str, tuple[str, ...]], ...], layer: str) -> Place:
    """Return which channels of which part are the picture.

    A layer is what stands before the last dot of channels that end in R, G, B (or in Y alone), or the name of the part
    that holds plain ones. Without a choice it is the plain ones of the first part that has some, else the only layer.
    Where there is no such picture at all, or a matte is chosen by its layer, channels that end in A will do.

    Raises: UsageError, naming the layers there are, where the wanted one is not among them, or none is the only one.
    """
    pictures = _layers(parts, (("R", "G", "B"), ("r", "g", "b"), ("red", "green", "blue"), ("Y",)))
    mattes = _layers(parts, (("A",),))
    if layer:
        place = pictures.get(layer) or mattes.get(layer)
        if place is None:
            names = [name for name in {**pictures, **mattes} if name]
            raise UsageError(f"{path}: has no layer '{layer}' with R, G and B, or A; it has {_listed(names)}")
        return place
    found = pictures or mattes
    if "" in found:
        return found[""]
    places = set(found.values())
    if len(places) == 1:
        return places.pop()
    if not places:
        raise refuse(path, "it has no channels R, G, B, Y or A")
    raise UsageError(
        f"{path}: has several layers and no plain R, G, B; choose one with --layer: {_listed(list(found))}"
    )


def _layers(parts: tuple[tuple[str, tuple[str, ...]], ...], wanted: tuple[tuple[str, ...], ...]) -> dict[str, Place]:
    """Return every layer by its names: without its part's, and with it."""
    found: dict[str, Place] = {}
    for index, (part, names) in enumerate(parts):
        for prefix in dict.fromkeys(name.rpartition(".")[0] for name in names):
            dot = f"{prefix}." if prefix else ""
            whole = [tuple(dot + end for end in ends) for ends in wanted]
            channels = next((each for each in whole if set(each) <= set(names)), None)
            chroma = channels == (f"{dot}Y",) and {f"{dot}RY", f"{dot}BY"} & set(names)
            if channels is not None and not chroma:
                for key in (prefix, f"{part}.{prefix}".strip(".")):
                    found.setdefault(key, Place(index, channels))
    return found


def _layer_names(parts: list[Any]) -> tuple[str, ...]:
    """Names of the layers in all parts: what stands before the last dot of a channel, and names of parts."""
    found: dict[str, None] = {}
    for part in parts:
        if name := part.name() or "":
            found.setdefault(str(name))
        for channel in _channel_names(part):
            if layer := channel.rpartition(".")[0]:
                found.setdefault(layer)
    return tuple(found)


def _codec(header: Any) -> str:
    """The format with its compression, where the library tells that."""
    told = str(getattr(header.get("compression"), "name", "")).removesuffix("_COMPRESSION").lower()
    return f"EXR, {told}" if told else "EXR"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "only plain R, G, B"


def _window(box: Any) -> XYXY:
    """Return EXR's inclusive window, half-open."""
    (x0, y0), (x1, y1) = box
    return int(x0), int(y0), int(x1) + 1, int(y1) + 1


def _rate(value: Any) -> Fraction | None:
    if isinstance(value, Fraction):
        return value if Fraction(1, 1000) <= value <= 1000 else None
    return None


def _aspect(value: float) -> Fraction:
    aspect = Fraction(float(value)).limit_denominator(10_000) if np.isfinite(value) else Fraction(1)
    return aspect if Fraction(1, 16) < aspect < 16 else Fraction(1)


def _label(code: Any, rate: Fraction | None) -> str | None:
    """HH:MM:SS:FF of EXR's time code, with ; before the frames where they drop; above 30 frames a second see there."""
    if code is None:
        return None
    sign, frame = ";" if code.dropFrame else ":", int(code.frame)
    if rate is not None and nominal_rate(rate) in _IN_PAIRS:
        frame = 2 * frame + bool(code.fieldPhase)
    return f"{code.hours:02}:{code.minutes:02}:{code.seconds:02}{sign}{frame:02}"


def time_code(label: str, rate: int) -> Any:
    """Return EXR's time code of HH:MM:SS:FF, counted at a whole rate; None where it cannot be written.

    Its frames go to 29. At 48, 50 and 60 a second pairs of frames are counted, and the field mark says which of two a
    frame is. Source: SMPTE ST 12-1, on rates above 30.
    """
    hours, minutes, seconds, frame = (int(label[k : k + 2]) for k in (0, 3, 6, 9))
    drop, second = int(label[8] == ";"), 0
    if rate in _IN_PAIRS:
        frame, second = divmod(frame, 2)
    elif rate > 30 or frame > 29:
        return None
    return OpenEXR.TimeCode(hours, minutes, seconds, frame, drop, 0, second, *[0] * 11)


def exr_label(label: str | None, rate: Fraction) -> str | None:
    """Return a label as far as EXR can hold it; None where it cannot."""
    return label if label is not None and time_code(label, nominal_rate(rate)) is not None else None


@cache
def _prepare_library(threads: int) -> None:
    """Let the library use so many threads, and compress quickly where it can be told so.

    Its default are no threads but the caller's. The level is known to its C interface alone, which not every build of
    the package shows.
    """
    OpenEXR.set_global_thread_count(threads)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(OpenEXR.__file__).exr_set_default_zip_compression_level(ZIP_LEVEL)


def write_exr(path: Path, channels: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    """A single-part scan-line file of (H, W) float16 or float32 channels.

    Args:
        header: attributes; data and display windows half-open under the keys `data` and `display`, compression by
            its name under `compression`.
    Raises: MediaError, where the file cannot be written.
    """
    data, display = header["data"], header["display"]
    fields = {key: value for key, value in header.items() if key not in ("data", "display", "compression")}
    fields |= {
        "compression": COMPRESSIONS[header["compression"]],
        "type": OpenEXR.scanlineimage,
        "dataWindow": ((data[0], data[1]), (data[2] - 1, data[3] - 1)),
        "displayWindow": ((display[0], display[1]), (display[2] - 1, display[3] - 1)),
    }
    planes = {name: np.ascontiguousarray(plane) for name, plane in channels.items()}
    _prepare_library(cores())
    lines, deflate = LINES.get(header["compression"]), library_deflate()
    try:
        with _utf8_name(path) as name:
            if lines is None or deflate is None:
                OpenEXR.File(fields, planes).write(name)
                return
            corner = {"dataWindow": ((data[0], data[1]), (data[0], data[1]))}
            OpenEXR.File(fields | corner, {each: plane[:1, :1].copy() for each, plane in planes.items()}).write(name)
        write_chunks(path, head_of(path.read_bytes()), data, planes, lines, deflate)
    except Exception as error:
        text = reason(error)
        if "space" in text or "write" in text.lower():
            text = f"{text}; is there room on the disk?"
        raise MediaError(f"{path}: cannot be written ({text})") from error
