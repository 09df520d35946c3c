"""`mam-video info`, `frame` and `verify`: what a clip is, one of its frames, and whether a matte is as promised."""

from __future__ import annotations

import argparse
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mam_video.cli.say import say
from mam_video.core.errors import MediaError, UsageError
from mam_video.core.settings import InputSettings, Settings, parse_rate
from mam_video.core.timecode import Timecode, frame_range, nominal_rate

if TYPE_CHECKING:
    import numpy as np

    from mam_video.media import ClipInfo


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    info = commands.add_parser("info", help="what is understood of a clip, and what will be assumed")
    info.set_defaults(run=_info)
    info.add_argument("input")
    info.add_argument("--decode", action="store_true", help="decode every frame: count them, look at their times")

    frame = commands.add_parser("frame", help="show one frame, as a picture to read coordinates from")
    frame.set_defaults(run=_frame)
    frame.add_argument("input")
    frame.add_argument("frame", help="its number (counted from 0; of a sequence, its file's) or its timecode")
    frame.add_argument("-o", "--output", required=True, metavar="NAME", help="a .png or .jpg")
    frame.add_argument("--box", metavar="X0,Y0,X1,Y1", help="a box to draw into it")
    frame.add_argument("--overwrite", action="store_true", help="replace an output that exists")

    verify = commands.add_parser("verify", help="read a matte back and compare it with its plate")
    verify.set_defaults(run=_verify)
    verify.add_argument("input", metavar="FILE")
    verify.add_argument("--against", metavar="PLATE", required=True, help="the clip that it is a matte of")
    verify.add_argument("--range", metavar="FIRST-LAST", help="the range that it is a matte of")
    verify.add_argument("--rate", metavar="RATE", help="of a movie, as given to matte")
    verify.add_argument("--start-number", type=int, default=-1, metavar="N", help="of a sequence, as given to matte")
    verify.add_argument("--quick", action="store_true", help="headers, index and three frames only")
    for parser in (info, frame, verify):
        add_reading(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """How a plate is read."""
    parser.add_argument("--fps", metavar="RATE", help="of a sequence: 24, 24000/1001, 23.976 (which means it)")
    parser.add_argument("--layer", metavar="NAME", help="of an EXR plate: the layer or part that is the picture")
    parser.add_argument("--on-gap", metavar="WHAT", help="where frames of a sequence are missing: stop or repeat")
    parser.add_argument("--on-error", metavar="WHAT", help="where a frame is damaged: stop or repeat")
    add_plate_alpha(parser)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def add_plate_alpha(parser: argparse._ActionsContainer) -> None:
    """What the plate's own alpha means."""
    parser.add_argument(
        "--plate-alpha",
        dest="alpha",
        metavar="HOW",
        help="the plate's own alpha: auto (by the file's kind and tags), straight, premultiplied or ignore",
    )
    parser.add_argument(
        "--ignore-alpha",
        dest="alpha",
        action="store_const",
        const="ignore",
        help="leave the plate's own alpha out, in place of multiplying the matte into it",
    )


def reading(options: argparse.Namespace) -> InputSettings:
    """How the plate is read, as `matte` has it."""
    names = ("fps", "layer", "on_gap", "on_error", "alpha")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return Settings().with_values({"input": given}, "command line").input


def _info(options: argparse.Namespace) -> int:
    from mam_video.media import open_clip

    with open_clip(options.input, reading(options)) as reader:
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
    width = max(map(len, lines))
    for name, value in lines.items():
        say(f"{name:{width}}  {value}")
    for note in reader.info.notes:
        say(f"note: {note}")
    return 0


def describe(info: ClipInfo) -> dict[str, str]:
    """What is understood of a clip, by name, in the order to print it."""
    tags = info.colour
    assumed = "" if tags.tagged else " (assumed: the file does not say)"
    rate = f"{info.rate}" + (f" ({float(info.rate):.3f})" if info.rate.denominator != 1 else "")
    lines = {
        "size": f"{info.width}x{info.height}" + (f", turned by {info.rotation} degrees" if info.rotation else ""),
        "rate": f"{rate} frames a second, times in {info.time_base} s",
        "frames in header": str(info.frames_in_header) if info.frames_in_header is not None else "not said",
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
    """What the codes are, and what EXR makes of them."""
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
    """How the plate's alpha is taken, where it has one."""
    if not info.has_alpha:
        return {}
    if info.alpha == "ignored":
        return {"alpha": "left out, as asked"}
    return {"alpha": f"{info.alpha} ({info.alpha_basis}); the matte is multiplied into it"}


_RANGES = {"tv": "limited (tv)", "pc": "full (pc)"}


def _frame(options: argparse.Namespace) -> int:
    import cv2

    from mam_video.media import open_for_viewing
    from mam_video.media.name_guard import NameGuard
    from mam_video.prompts.prompt import Prompt

    output = Path(options.output)
    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{output}: a frame is written as .png or .jpg")
    with open_for_viewing(options.input, reading(options)) as reader:
        info = reader.info
        guard = NameGuard()
        guard.reads("the clip", options.input)
        guard.writes("the frame", output)
        index = frame_index(options.frame, info)
        box = Prompt.parse(options.box, [], info.size).box if options.box else None
        frame = next(iter(reader.frames(index, index + 1)), None)
        if frame is None:
            raise UsageError(f"{options.input}: holds no frame {options.frame}; frames are counted from 0")
    picture = frame.rgb8.copy()
    if box is not None:
        x0, y0, x1, y1 = (round(v) for v in box.xyxy)
        thick = max(round(info.width / 640), 1)
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), (90, 220, 255), thick)
    write_picture(output, info.path, picture, options.overwrite)
    label = f", {info.timecode + index}" if info.timecode else ""
    number = info.frame_number(index)
    say(f"wrote {output}: frame {number}{label}, {info.width}x{info.height}")
    return 0


def write_picture(output: Path, source: Path, rgb: np.ndarray, overwrite: bool) -> None:
    """A picture, (H, W, 3) uint8 RGB, of the clip `source`; whole or not at all. Raises: UsageError or MediaError."""
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


def frame_index(text: str, info: ClipInfo) -> int:
    """The index of the frame that the user calls so: by its number, or by its timecode. Raises: UsageError."""
    counted = "counted from 0"
    if info.numbers is not None:
        counted = f"of its files, {info.numbers[0]} to {info.numbers[-1]},"
        number = re.fullmatch(r"-?\d+", text)
        if number and int(text) in info.numbers:
            return info.numbers.index(int(text))
        if number:
            raise UsageError(f"frame {text}: there is none; give a number {counted} or a timecode")
    if text.isdigit():
        return int(text)
    start = info.timecode or Timecode(0, nominal_rate(info.rate))
    try:
        return frame_range(f"{text}-", start, info.rate).start
    except UsageError as error:
        raise UsageError(f"frame '{text}' is neither a number {counted} nor a timecode of the clip ({error})") from None


def _verify(options: argparse.Namespace) -> int:
    from mam_video.media import open_clip
    from mam_video.media.movie.verify import expected_of_plate, verify_movie
    from mam_video.media.sequence.image_formats import SUFFIXES
    from mam_video.media.sequence.pattern import is_sequence
    from mam_video.media.sequence.verify import expected_sequence_of_plate, files_of_name, verify_sequence

    rate = None if options.rate is None else parse_rate(options.rate)
    files = files_of_name(options.input) if is_sequence(options.input, SUFFIXES) else {}
    with open_clip(options.against, reading(options)) as plate:
        info = plate.info
        frames = None if options.range is None else frame_range(options.range, info.timecode, info.rate, info.numbers)
        if files:
            suffix = next(iter(files.values())).suffix
            promised = expected_sequence_of_plate(plate, frames, suffix, options.start_number)
            checks = verify_sequence(files, promised, every_frame=not options.quick)
        else:
            promise = expected_of_plate(plate, frames, rate)
            checks = verify_movie(Path(options.input), promise, every_frame=not options.quick)
    for check in checks:
        say(f"{'ok   ' if check.good else 'WRONG'} {check}")
    wrong = [check.what for check in checks if not check.good]
    if wrong:
        raise MediaError(f"{options.input}: not as promised by {options.against}: {', '.join(wrong)}")
    return 0
