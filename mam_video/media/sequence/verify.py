"""Read sequences back: is every file there under its number, and does it hold what it should?

The quick way lists the files and reads the first, the middle and the last; the thorough way reads all of them.
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
from mam_video.media.base import XYXY, Reader, windows_of
from mam_video.media.expected import Check, ExpectedSequence
from mam_video.media.formats import depth_of
from mam_video.media.sequence.encoders import MATTE_ALONE
from mam_video.media.sequence.exr import Exr, exr_label, read_channels
from mam_video.media.sequence.image_formats import SUFFIXES, image_reader
from mam_video.media.sequence.image_header import refuse
from mam_video.media.sequence.numbers import number_of
from mam_video.media.sequence.pattern import find_sequence
from mam_video.media.still_images import read_alpha

_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class _Seen:
    """Contents of one file. `exr`: whether it has attributes; `holds_rate`: whether it has a place for a rate."""

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


def expected_sequence_of_plate(
    plate: Reader, frames: FrameRange | None, suffix: str, start_number: int | None = None
) -> ExpectedSequence:
    """State what a matte of this plate, or of a range of it, should hold as a sequence. Decodes the plate."""
    part = frames or FrameRange()
    info = plate.info
    numbers, labels = [], []
    for frame in plate.frames(part.start, part.stop):
        numbers.append(number_of(info, start_number, frame.index))
        labels.append(exr_label(frame.timecode, info.rate))
    if not numbers:
        raise MediaError(f"{info.path}: holds no frame of this range")
    display, canvas = windows_of(info)
    return ExpectedSequence(
        numbers=numbers,
        size=info.size,
        display=display,
        canvas=canvas,
        depth=depth_of(suffix),
        rate=info.rate,
        labels=labels,
        reel=info.reel,
    )


def files_of_output(expected: ExpectedSequence) -> dict[int, Path]:
    """Find the files that a run has written, by number. Frames of other runs beside them do not count."""
    assert expected.pattern is not None
    own = set(expected.numbers)
    return {number: path for number, path in expected.pattern.standing().items() if number in own}


def files_of_name(text: str) -> dict[int, Path]:
    """Find the files of a sequence as a user names it. Raises: as `find_sequence`."""
    found = find_sequence(text, SUFFIXES)
    return {number: found.file(number) for number in found.present}


def verify_sequence(files: Mapping[int, Path], expected: ExpectedSequence, *, every_frame: bool = False) -> list[Check]:
    """Compare the files of a sequence, by number, with what they should hold. Every fault is a check of its own."""
    there, wanted = sorted(files), list(expected.numbers)
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
            seen[number] = _read_file(files[number])
        except MediaError as error:
            return [*checks, Check("pictures", False, str(error))]
    place = {number: k for k, number in enumerate(wanted)}
    one = next(iter(seen.values()))
    checks += [
        _check_sizes(seen, expected),
        _each("depth", dict.fromkeys(seen, expected.depth or one.depth), {n: s.depth for n, s in seen.items()}),
        _each(
            "channels", dict.fromkeys(seen, expected.channels or one.channels), {n: s.channels for n, s in seen.items()}
        ),
    ]
    if expected.rate is not None and one.holds_rate:
        # DPX has a float of 32 bits, of which rates from 1 to 1000 are read, the usual ones where it is near them.
        slack = Fraction(0) if one.exr else Fraction(6, 1000)
        fits = all(s.rate is not None and abs(s.rate - expected.rate) <= slack for s in seen.values())
        fits = fits or (not one.exr and not 1 <= expected.rate <= 1000)
        checks.append(Check("rate", fits, str(one.rate) if fits else f"{one.rate}, should be {expected.rate}"))
    if one.exr:
        found = {n: s.label for n, s in seen.items()}
        meant = {n: expected.labels[place[n]] if expected.labels is not None else found[n] for n in seen}
        if any(meant.values()) or any(found.values()):
            checks.append(_each("timecode", meant, found))
        if expected.reel or one.reel:
            checks.append(_each("reel", dict.fromkeys(seen, expected.reel), {n: s.reel for n, s in seen.items()}))
        checks.append(_each("frame counter", {n: n for n in seen}, {n: s.counter for n, s in seen.items()}))
    checks.append(_check_alpha(seen, expected, place))
    return checks


def _read_file(path: Path) -> _Seen:
    """Read one file, all of its pixels. Raises: MediaError, where it is damaged."""
    suffix = path.suffix.lower()
    if suffix == ".exr":
        return _read_exr(path)
    if depth_of(suffix) is None:
        raise refuse(path, f"sequences of {suffix} are not written, and not compared")
    reader = image_reader(suffix)
    still, pixels = reader.facts(path), reader.pixels(path)
    size = (pixels.shape[0], pixels.shape[1])
    if suffix == ".dpx":
        alpha = pixels[..., 0].astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
        return _Seen(size, f"{still.bits} bits", MATTE_ALONE, alpha, rate=still.rate, holds_rate=True)
    channels = "RGBA" if still.has_alpha else MATTE_ALONE
    return _Seen(size, f"{still.bits} bits", channels, read_alpha(path))


def _read_exr(path: Path) -> _Seen:
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


def _check_sizes(seen: Mapping[int, _Seen], expected: ExpectedSequence) -> Check:
    height, width = expected.size
    wrong = []
    for number, one in seen.items():
        if one.display is not None and one.data is not None:
            x0, y0, x1, y1 = expected.canvas
            inside = x0 <= one.data[0] and y0 <= one.data[1] and one.data[2] <= x1 and one.data[3] <= y1
            if one.display != expected.display or not inside:
                wrong.append(f"frame {number}: display window {one.display}, data window {one.data}")
        elif one.size != expected.size:
            wrong.append(f"frame {number}: {one.size[1]}x{one.size[0]}")
    if wrong:
        return Check("size", False, f"{'; '.join(wrong[:_NAMED])}, should be {width}x{height}")
    return Check("size", True, f"{width}x{height}")


def _each(what: str, meant: Mapping[int, object], found: Mapping[int, object]) -> Check:
    """Compare one fact of every frame that was read, by number."""
    wrong = [f"frame {n}: {found[n]}, should be {meant[n]}" for n in meant if found[n] != meant[n]]
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        return Check(what, False, "; ".join(wrong[:_NAMED]) + more)
    values = list(dict.fromkeys(str(value) for value in found.values()))
    return Check(what, True, values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}")


def _check_alpha(seen: Mapping[int, _Seen], expected: ExpectedSequence, place: Mapping[int, int]) -> Check:
    wrong, ranges = [], []
    slack = 1 if expected.alpha_slack is None else expected.alpha_slack
    for number, one in seen.items():
        low, high = float(one.alpha.min()), float(one.alpha.max())
        ranges.append((low, high))
        if not (low >= 0 and high <= 1):  # not-a-number fails too
            wrong.append(f"frame {number}: {low:.4f} to {high:.4f}, should lie in 0 to 1")
        elif expected.alpha is not None and (one.data is None or one.data == expected.canvas):
            meant = expected.alpha[place[number]]
            if max(abs(low - meant[0]), abs(high - meant[1])) > slack:
                wrong.append(f"frame {number}: {low:.4f} to {high:.4f}, should be {meant[0]:.4f} to {meant[1]:.4f}")
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        return Check("alpha", False, "; ".join(wrong[:_NAMED]) + more)
    low, high = min(pair[0] for pair in ranges), max(pair[1] for pair in ranges)
    return Check("alpha", True, f"{low:.4f} to {high:.4f} in {len(ranges)} files read")
