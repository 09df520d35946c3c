"""Reading back sequences: is every file there under its number, and does it hold what it should?

What `verify.py` is for movies. The quick way lists the files and reads the first, the middle and the last; the thorough
one reads all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from mam_video.core.errors import MediaError
from mam_video.core.ranges import FrameRange
from mam_video.core.timecode import nominal_rate
from mam_video.media.atomic_output import Pattern
from mam_video.media.base import XYXY, Reader
from mam_video.media.movie.verify import Check
from mam_video.media.sequence.dpx import Dpx
from mam_video.media.sequence.encoders import DpxEncoder, ExrEncoder, IntegerEncoder
from mam_video.media.sequence.exr import Exr, read_channels, time_code
from mam_video.media.sequence.image_header import ImageReader, refuse
from mam_video.media.sequence.pattern import find_sequence
from mam_video.media.sequence.png_tiff_jpeg import Png, Tiff
from mam_video.media.sequence.reader import FIRST_OF_A_MOVIE, SUFFIXES
from mam_video.media.sequence.writer import SequenceWriter
from mam_video.media.still_images import read_alpha

_SLACK: Final = {"16 bits": 0.51 / 65535, "10 bits": 0.51 / 1023, "half": 2.0**-12, "float": 1e-6}
_DEPTHS: Final = {".png": "16 bits", ".tif": "16 bits", ".tiff": "16 bits", ".dpx": "10 bits"}
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class SequencePromise:
    """What a sequence should hold. None: nothing is promised about it.

    size     (H, W) of the picture as matted
    display  EXR's display window
    canvas   what EXR's data windows lie in
    depth    16 bits, 10 bits, half or float
    channels names of EXR's; elsewhere RGBA or the matte alone
    rate, labels, reel  attributes, where the format has a place for them; a label for each frame
    alpha    least and largest alpha of each frame, as given to the writer
    pattern  where it was written
    """

    numbers: Sequence[int]
    size: tuple[int, int]
    display: XYXY
    canvas: XYXY
    depth: str | None = None
    channels: str | None = None
    rate: Fraction | None = None
    labels: Sequence[str | None] | None = None
    reel: str = ""
    alpha: Sequence[tuple[float, float]] | None = None
    pattern: Pattern | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one file holds; `exr` says whether it has attributes at all, `holds_rate` whether a place for a rate."""

    size: tuple[int, int]
    depth: str
    channels: str
    alpha: np.ndarray
    exr: bool = False
    rate: Fraction | None = None
    holds_rate: bool = False
    label: str | None = None
    reel: str = ""
    counter: int | None = None
    display: XYXY | None = None
    data: XYXY | None = None


def promise_of_sequence(writer: SequenceWriter) -> SequencePromise:
    """What the files of a writer should hold, given the frames it was handed."""
    info, encoder = writer.info, writer.encoder
    whole = (0, 0, info.width, info.height)
    depth, channels = "16 bits", "RGBA"
    if isinstance(encoder, IntegerEncoder) and encoder.alpha_only:
        channels = "the matte alone"
    elif isinstance(encoder, DpxEncoder):
        depth, channels = "10 bits", "the matte alone"
    elif isinstance(encoder, ExrEncoder):
        asked, layer = encoder.settings.exr_type, encoder.settings.exr_layer
        depth = ("float" if info.pixel_format == "float" else "half") if asked == "auto" else asked
        channels = "A B G R" if not encoder.alpha_only else f"{layer}.A" if layer else "A"
        if encoder.layers:
            channels = " ".join(sorted(f"{name}.A" for name in encoder.layers))
    # Frames that an earlier run left are held to everything but their labels, which are not known any more.
    known = all(number in writer.labels for number in writer.numbers)
    return SequencePromise(
        numbers=writer.numbers,
        size=info.size,
        display=info.windows.display if info.windows else whole,
        canvas=info.windows.canvas if info.windows else whole,
        depth=depth,
        channels=channels,
        rate=info.rate,
        labels=[_kept(writer.labels[number], info.rate) for number in writer.numbers] if known else None,
        reel=info.reel,
        pattern=writer.pattern,
    )


def sequence_promise_of_plate(
    plate: Reader, frames: FrameRange | None, suffix: str, start_number: int = -1
) -> SequencePromise:
    """What a matte of this plate, or of a range of it, should hold as a sequence. Decodes the plate."""
    part = frames or FrameRange()
    info = plate.info
    own = info.numbers
    numbers, labels = [], []
    for frame in plate.frames(part.start, part.stop):
        if start_number >= 0:
            numbers.append(start_number + frame.index)
        else:
            numbers.append(FIRST_OF_A_MOVIE + frame.index if own is None else own[frame.index])
        labels.append(_kept(frame.timecode, info.rate))
    if not numbers:
        raise MediaError(f"{info.path}: holds no frame of this range")
    whole = (0, 0, info.width, info.height)
    return SequencePromise(
        numbers=numbers,
        size=info.size,
        display=info.windows.display if info.windows else whole,
        canvas=info.windows.canvas if info.windows else whole,
        depth=_DEPTHS.get(suffix.lower()),
        rate=info.rate,
        labels=labels,
        reel=info.reel,
    )


def _kept(label: str | None, rate: Fraction) -> str | None:
    """A label as far as EXR can hold it."""
    return label if label is not None and time_code(label, nominal_rate(rate)) is not None else None


def files_of_output(promise: SequencePromise) -> dict[int, Path]:
    """The files that a run has written, by number. Frames of other runs beside them are none of its own."""
    assert promise.pattern is not None
    own = set(promise.numbers)
    return {number: path for number, path in promise.pattern.standing().items() if number in own}


def files_of_name(text: str) -> dict[int, Path]:
    """The files of a sequence as a user names it. Raises: as `find_sequence`."""
    found = find_sequence(text, SUFFIXES)
    return {number: found.file(number) for number in found.present}


def verify_sequence(files: Mapping[int, Path], promise: SequencePromise, *, every_frame: bool = False) -> list[Check]:
    """Compare the files of a sequence, by number, with what they should hold. Every fault is a check of its own."""
    there, wanted = sorted(files), list(promise.numbers)
    checks = [
        _equal_counts(len(wanted), len(there)),
        _check_numbers(wanted, there),
    ]
    common = [number for number in wanted if number in files]
    if not common:
        return checks
    chosen: Iterable[int] = common
    if not every_frame:
        chosen = sorted({common[0], common[len(common) // 2], common[-1]})
    seen: dict[int, _Seen] = {}
    for number in chosen:
        try:
            seen[number] = _look(files[number])
        except MediaError as error:
            return [*checks, Check("pictures", False, str(error))]
    place = {number: k for k, number in enumerate(wanted)}
    one = next(iter(seen.values()))
    checks += [
        _check_sizes(seen, promise),
        _each("depth", dict.fromkeys(seen, promise.depth or one.depth), {n: s.depth for n, s in seen.items()}),
        _each(
            "channels", dict.fromkeys(seen, promise.channels or one.channels), {n: s.channels for n, s in seen.items()}
        ),
    ]
    if promise.rate is not None and one.holds_rate:
        # DPX has a float of 32 bits, of which rates from 1 to 1000 are read, the usual ones where it is near them.
        slack = Fraction(0) if one.exr else Fraction(6, 1000)
        fits = all(s.rate is not None and abs(s.rate - promise.rate) <= slack for s in seen.values())
        fits = fits or (not one.exr and not 1 <= promise.rate <= 1000)
        checks.append(Check("rate", fits, str(one.rate) if fits else f"{one.rate}, should be {promise.rate}"))
    if one.exr:
        found = {n: s.label for n, s in seen.items()}
        meant = {n: promise.labels[place[n]] if promise.labels is not None else found[n] for n in seen}
        if any(meant.values()) or any(found.values()):
            checks.append(_each("timecode", meant, found))
        if promise.reel or one.reel:
            checks.append(_each("reel", dict.fromkeys(seen, promise.reel), {n: s.reel for n, s in seen.items()}))
        checks.append(_each("frame counter", {n: n for n in seen}, {n: s.counter for n, s in seen.items()}))
    checks.append(_check_alpha(seen, promise, place))
    return checks


def _look(path: Path) -> _Seen:
    """Read one file, all of its pixels. Raises: MediaError, where it is damaged."""
    suffix = path.suffix.lower()
    if suffix == ".exr":
        return _look_at_exr(path)
    formats: dict[str, ImageReader] = {".png": Png(), ".tif": Tiff(), ".tiff": Tiff(), ".dpx": Dpx()}
    if suffix not in formats:
        raise refuse(path, f"sequences of {suffix} are not written, and not compared")
    still, pixels = formats[suffix].facts(path), formats[suffix].pixels(path)
    size = (pixels.shape[0], pixels.shape[1])
    if suffix == ".dpx":
        alpha = pixels[..., 0].astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
        return _Seen(size, f"{still.bits} bits", "the matte alone", alpha, rate=still.rate, holds_rate=True)
    channels = "RGBA" if still.has_alpha else "the matte alone"
    return _Seen(size, f"{still.bits} bits", channels, read_alpha(path))


def _look_at_exr(path: Path) -> _Seen:
    header, planes = read_channels(path)
    mattes = [name for name in planes if name.rpartition(".")[2] == "A"]
    if not mattes:
        raise refuse(path, "it has no channel A")
    still = Exr(mattes[0].rpartition(".")[0] if len(mattes) > 1 else "").facts(path)
    alpha = planes[mattes[0]] if len(mattes) == 1 else np.concatenate([planes[name] for name in mattes])
    height, width = planes[mattes[0]].shape
    counter = header.get("imageCounter")
    return _Seen(
        (height, width),
        "half" if alpha.dtype == np.float16 else "float",
        " ".join(sorted(planes)),
        alpha.astype(np.float32),
        exr=True,
        rate=still.rate,
        holds_rate=True,
        label=still.timecode,
        reel=still.reel,
        counter=int(counter) if counter is not None else None,
        display=still.display,
        data=still.data,
    )


def _equal_counts(meant: int, found: int) -> Check:
    return Check("frames", meant == found, str(found) if meant == found else f"{found}, should be {meant}")


def _check_numbers(wanted: Sequence[int], there: Sequence[int]) -> Check:
    missing, extra = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
    faults = [f"{what} {_listed(numbers)}" for what, numbers in (("missing", missing), ("extra", extra)) if numbers]
    return Check("numbers", not faults, "; ".join(faults) or f"{there[0]} to {there[-1]}")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:_NAMED])) + (f" and {len(numbers) - _NAMED} more" if numbers[_NAMED:] else "")


def _check_sizes(seen: Mapping[int, _Seen], promise: SequencePromise) -> Check:
    height, width = promise.size
    wrong = []
    for number, one in seen.items():
        if one.display is not None and one.data is not None:
            x0, y0, x1, y1 = promise.canvas
            inside = x0 <= one.data[0] and y0 <= one.data[1] and one.data[2] <= x1 and one.data[3] <= y1
            if one.display != promise.display or not inside:
                wrong.append(f"frame {number}: display window {one.display}, data window {one.data}")
        elif one.size != promise.size:
            wrong.append(f"frame {number}: {one.size[1]}x{one.size[0]}")
    if wrong:
        return Check("size", False, f"{'; '.join(wrong[:_NAMED])}, should be {width}x{height}")
    return Check("size", True, f"{width}x{height}")


def _each(what: str, meant: Mapping[int, object], found: Mapping[int, object]) -> Check:
    """One fact of every frame that was looked at, by number."""
    wrong = [f"frame {n}: {found[n]}, should be {meant[n]}" for n in meant if found[n] != meant[n]]
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        return Check(what, False, "; ".join(wrong[:_NAMED]) + more)
    values = list(dict.fromkeys(str(value) for value in found.values()))
    return Check(what, True, values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}")


def _check_alpha(seen: Mapping[int, _Seen], promise: SequencePromise, place: Mapping[int, int]) -> Check:
    wrong, ranges = [], []
    for number, one in seen.items():
        low, high = float(one.alpha.min()), float(one.alpha.max())
        ranges.append((low, high))
        if not (low >= 0 and high <= 1):  # not-a-number fails too
            wrong.append(f"frame {number}: {low:.4f} to {high:.4f}, should lie in 0 to 1")
        elif promise.alpha is not None and (one.data is None or one.data == promise.canvas):
            meant = promise.alpha[place[number]]
            if max(abs(low - meant[0]), abs(high - meant[1])) > _SLACK.get(one.depth, 1):
                wrong.append(f"frame {number}: {low:.4f} to {high:.4f}, should be {meant[0]:.4f} to {meant[1]:.4f}")
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        return Check("alpha", False, "; ".join(wrong[:_NAMED]) + more)
    low, high = min(pair[0] for pair in ranges), max(pair[1] for pair in ranges)
    return Check("alpha", True, f"{low:.4f} to {high:.4f} in {len(ranges)} files read")
