"""`mam-video info` and `verify`: describe a clip, compare a matte with its plate."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from mam_video.cli.options import READING, Groups, add_debug, add_knobs, reading_from
from mam_video.cli.say import say
from mam_video.core.errors import MediaError
from mam_video.core.settings import parse_rate
from mam_video.core.timecode import frame_range

if TYPE_CHECKING:
    import numpy as np

    from mam_video.media import ClipInfo
    from mam_video.media.expected import Check

_INFO = """\
Print what is known of a clip, and what is assumed where its file says nothing.

example:
  mam-video info plate.mov --decode
"""
_VERIFY = """\
Read a matte back and compare its frames, times, size, timecode and colour tags with its plate.

example:
  mam-video verify matte.mov --against plate.mov --range 20-39
"""


def configure_info(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video info`."""
    parser.description = _INFO
    parser.set_defaults(run=_info)
    parser.add_argument(
        "input", metavar="INPUT", help="a movie, or a sequence: name.%%04d.exr, name.####.png, a folder"
    )
    parser.add_argument("--decode", action="store_true", help="decode every frame: count them and check their times")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_reading(parser)


def configure_verify(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video verify`."""
    parser.description = _VERIFY
    parser.set_defaults(run=_verify)
    parser.add_argument("input", metavar="FILE", help="the matte: a movie or a sequence")
    parser.add_argument("--against", metavar="PLATE", required=True, help="the clip that it is a matte of")
    parser.add_argument("--range", metavar="FIRST-LAST", help="the range that was matted (default: the whole clip)")
    parser.add_argument("--rate", metavar="RATE", help="the constant rate of a movie, if one was given to `matte`")
    parser.add_argument(
        "--start-number", type=int, metavar="N", help="the first number of a sequence, if one was given to `matte`"
    )
    parser.add_argument("--quick", action="store_true", help="check headers, index and three frames only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_reading(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a plate is read."""
    add_knobs(Groups(parser), only=READING)
    add_debug(parser)


def _info(options: argparse.Namespace) -> int:
    from mam_video.media import open_clip

    with open_clip(options.input, reading_from(options)) as reader:
        lines = describe(reader.info)
        if options.decode:
            times = [frame.pts for frame in reader.frames()]
            steps = {b - a for a, b in pairwise(times)}
            lines["frames decoded"] = str(len(times))
            unit = reader.info.time_base
            if len(steps) > 1:
                shortest, longest = (float(step * unit) for step in (min(steps), max(steps)))
                lines["times"] = f"variable: {shortest:.6f} to {longest:.6f} s apart"
            else:
                lines["times"] = "regular" if times else "none"
            lines["first frame at"] = f"{float(times[0] * unit):.6f} s"
    if options.json:
        print(json.dumps(_as_json(reader.info, lines), indent=1))
        return 0
    width = max(map(len, lines))
    for name, value in lines.items():
        say(f"{name:{width}}  {value}")
    for note in reader.info.notes:
        say(f"note: {note}")
    return 0


def _as_json(info: ClipInfo, lines: dict[str, str]) -> dict[str, object]:
    """What `info --json` prints: numbers as numbers, exact rates as texts, then the lines for people."""
    count = info.frames_in_header
    first, last = (info.frame_number(0), info.frame_number(count - 1)) if count else (None, None)
    return {
        "path": str(info.path),
        "codec": info.codec,
        "width": info.width,
        "height": info.height,
        "rate": str(info.rate),
        "time_base": str(info.time_base),
        "frames": count,
        "first_frame": first,
        "last_frame": last,
        "duration": None if count is None else float(count / info.rate),
        "timecode": None if info.timecode is None else str(info.timecode),
        "pixel_format": info.pixel_format,
        "bits": info.bits,
        "alpha": info.alpha or None,
        "rotation": info.rotation,
        "sample_aspect": str(info.sample_aspect),
        "interlaced": info.interlaced,
        "layers": list(info.layers),
        "sound": list(info.sound),
        "said": lines,
        "notes": list(info.notes),
    }


def _frames_said(info: ClipInfo) -> str:
    """How many frames there are, as the header says, with their numbers and the clip's length."""
    count = info.frames_in_header
    if not count:
        return "not said"
    length = float(count / info.rate)
    return f"{count}, numbered {info.frame_number(0)}-{info.frame_number(count - 1)}, {length:.3f} s long"


def describe(info: ClipInfo) -> dict[str, str]:
    """Describe a clip: values by name, in the order in which they are printed."""
    tags = info.colour
    assumed = "" if tags.tagged else " (assumed: the file does not say)"
    rate = f"{info.rate}" + (f" ({float(info.rate):.3f})" if info.rate.denominator != 1 else "")
    lines = {
        "size": f"{info.width}x{info.height}" + (f", turned by {info.rotation} degrees" if info.rotation else ""),
        "rate": f"{rate} frames a second, times in {info.time_base} s",
        "frames in header": _frames_said(info),
        "codec": info.codec or "not known",
        "timecode": str(info.timecode) if info.timecode else "none; labels are counted from 00:00:00:00",
        "pixels": f"{info.pixel_format}, {info.bits} bits" + (", with alpha" if info.has_alpha else ""),
        **_alpha(info),
        "range and matrix": f"{_RANGES.get(tags.range, tags.range)}, {tags.matrix}{assumed}",
        "primaries, transfer": f"{tags.primaries}, {tags.transfer}",
        "linear light": _meaning(info),
        "sample aspect": str(info.sample_aspect),
        "fields": "interlaced" if info.interlaced else "progressive",
        "audio": "; ".join(info.sound) or "none",
    }
    levels = info.light.levels
    more = {
        "layers": ", ".join(info.layers),
        "chroma": info.siting,
        "mastering display": str(info.light.mastering or ""),
        "light levels": f"MaxCLL {levels[0]}, MaxFALL {levels[1]} cd/m2" if levels else "",
        "dynamic metadata": f"{', '.join(info.light.dynamic)} (not read)" if info.light.dynamic else "",
        "reel": info.reel,
        "created": info.created,
    }
    for name, value in more.items():
        if value:
            lines[name] = value
    return lines


def _meaning(info: ClipInfo) -> str:
    """Describe what the pixel values mean, and what they become in EXR."""
    from mam_video.media.transfers import CURVES

    if info.floating:
        return "the file's own values"
    if info.look in CURVES:
        return CURVES[info.look].says
    known = {
        "srgb": "of display-referred codes, by the sRGB curve: 1.0 is code 1",
        "log": "of Cineon codes: 1.0 is code 685 of 1023",
        "none": "the codes themselves",
    }
    return known.get(info.look, f"of {info.look}, by OpenColorIO")


def _alpha(info: ClipInfo) -> dict[str, str]:
    """Describe how the plate's alpha is read, where it has one."""
    if not info.has_alpha:
        return {}
    if info.alpha == "ignored":
        return {"alpha": "left out, as the options say"}
    return {"alpha": f"{info.alpha} ({info.alpha_basis}); the matte is multiplied into it"}


_RANGES = {"tv": "limited (tv)", "pc": "full (pc)"}


def write_picture(output: Path, source: Path, rgb: np.ndarray, overwrite: bool) -> None:
    """Write a picture, (H, W, 3) uint8 RGB, of the clip `source`, or nothing. Raises: UsageError or MediaError."""
    import cv2

    from mam_video.media.atomic_output import FileOutput

    file = FileOutput(output, source, overwrite)
    try:
        done, data = cv2.imencode(output.suffix.lower(), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        if not done:
            raise MediaError(f"{output}: the picture could not be encoded")
        file.partial.write_bytes(data.tobytes())
        file.publish()
    except OSError as error:
        raise MediaError(f"{output}: cannot be written ({error.strerror or error})") from error
    finally:
        file.discard()


def _difference(options: argparse.Namespace, wrong: Sequence[Check]) -> str:
    """Say in a line what does not match, and which option may be missing."""
    hints = {
        "frames": "" if options.range else "if it is a part of the clip, add --range FIRST-LAST",
        "rate": "if another rate was asked for, repeat its --rate or --fps",
    }
    said = [f"{options.input} does not match {options.against}: {'; '.join(str(check) for check in wrong)}"]
    return "; ".join([*said, *(hint for check in wrong if (hint := hints.get(check.what)))])


def _verify(options: argparse.Namespace) -> int:
    from mam_video.media import open_clip
    from mam_video.media.movie.verify import expected_of_plate, verify_movie
    from mam_video.media.sequence.image_formats import SUFFIXES
    from mam_video.media.sequence.pattern import is_sequence
    from mam_video.media.sequence.verify import expected_sequence_of_plate, files_of_name, verify_sequence

    rate = None if options.rate is None else parse_rate(options.rate)
    files = files_of_name(options.input) if is_sequence(options.input, SUFFIXES) else {}
    with open_clip(options.against, reading_from(options)) as plate:
        info = plate.info
        frames = None if options.range is None else frame_range(options.range, info.timecode, info.rate, info.numbers)
        if files:
            suffix = next(iter(files.values())).suffix
            promised = expected_sequence_of_plate(plate, frames, suffix, options.start_number)
            checks = verify_sequence(files, promised, every_frame=not options.quick)
        else:
            promise = expected_of_plate(plate, frames, rate)
            checks = verify_movie(Path(options.input), promise, every_frame=not options.quick)
    if options.json:
        told = [{"what": check.what, "good": check.good, "says": str(check)} for check in checks]
        print(json.dumps({"matte": options.input, "plate": options.against, "checks": told}, indent=1))
    for check in checks if not options.json else ():
        say(f"{'ok   ' if check.good else 'WRONG'} {check}")
    wrong = [check for check in checks if not check.good]
    if wrong:
        raise MediaError(_difference(options, wrong))
    return 0
