"""Which frame of a clip is meant: its number, its timecode, a time in seconds, or the last one."""

from __future__ import annotations

import argparse
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mam_video.core.errors import UsageError
from mam_video.core.timecode import Timecode, frame_range, nominal_rate

if TYPE_CHECKING:
    from mam_video.core.frames import Frame
    from mam_video.core.ranges import FrameRange
    from mam_video.media import ClipInfo, Reader

_FORMS: Final = "a number, a timecode, a time such as 1.5s, or last"
_SECONDS: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?s")
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2}):(\d{2}\.\d{3,})")
_MOST_LABELS: Final = 100  # a second, at which a timecode has two digits for its frames


def add_frame(parser: argparse.ArgumentParser) -> None:
    """Add the frame, as --frame N or as an argument of its own."""
    parser.add_argument("at", nargs="?", metavar="FRAME", help="the frame, as with --frame")
    parser.add_argument(
        "--frame",
        metavar="N",
        help="a number from 0, or of a sequence its file's; a timecode; a time such as 1.5s; last; -1 is the last too "
        "(default: the first)",
    )


def requested_frame(options: argparse.Namespace) -> str | None:
    """The frame as the user wrote it; None where none is given. Raises: UsageError, it is given twice."""
    if options.at is not None and options.frame is not None:
        raise UsageError(f"frame given twice, {options.at} and --frame {options.frame}; give one")
    given = options.frame if options.at is None else options.at
    return None if given is None else str(given)


def range_of(text: str, info: ClipInfo) -> FrameRange:
    """Parse the range of a clip. Raises: UsageError, it is none, or the clip ends before it."""
    found = frame_range(text, info.timecode, info.rate, info.numbers)
    if found.count(info.frames_in_header) == 0:
        first, last = info.frame_number(0), info.frame_number((info.frames_in_header or 1) - 1)
        raise UsageError(f"--range '{text}': {info.path} has the frames {first}-{last}")
    return found


def frame_of(text: str | None, reader: Reader) -> Frame:
    """Read the frame that a text names; None is the first. Raises: UsageError, the clip has no such frame."""
    index = find_index(text, reader)
    frame = next(iter(reader.frames(index, index + 1)), None)
    if frame is None:
        raise UsageError(f"{reader.info.path}: holds no frame {text}; {_range_of(reader)}")
    return frame


def find_index(text: str | None, reader: Reader) -> int:
    """Find the index of the frame that a text names; None is the first. A time is compared with the frames' own.

    Raises: UsageError, the text names no frame, or one that the clip does not have.
    """
    info = reader.info
    if text is None:
        return 0
    seconds = seconds_of(text, info)
    if seconds is not None and info.numbers is None:
        return _index_at(seconds, text, reader)
    wanted = text.strip()
    if info.frames_in_header is None and (wanted == "last" or re.fullmatch(r"-\d+", wanted)):
        index = count_of(reader) - (1 if wanted == "last" else -int(wanted))
    else:
        index = frame_index(text, info)
    if index < 0 or (info.frames_in_header is not None and index >= info.frames_in_header):
        raise UsageError(f"{reader.info.path}: holds no frame {text}; {_range_of(reader)}")
    return index


def frame_index(text: str, info: ClipInfo) -> int:
    """Find the index of a frame by what is known of a clip; a time counts at the clip's rate. Raises: UsageError."""
    counted = "counted from 0"
    plain = text.strip()
    count = info.frames_in_header
    if info.numbers is not None:
        counted = f"of its files, {info.numbers[0]} to {info.numbers[-1]},"
        number = re.fullmatch(r"-?\d+", plain)
        if number and int(plain) in info.numbers:
            return info.numbers.index(int(plain))
        if number and plain != "-1":
            raise UsageError(f"frame {text}: there is no such frame; give a number {counted} or a timecode")
        count = len(info.numbers)
    if plain.isdigit():
        return int(plain)
    if plain == "last" or re.fullmatch(r"-\d+", plain):
        if count is None:
            raise UsageError(f"frame {text}: the clip does not say how many frames it has; give a number from 0")
        index = count - (1 if plain == "last" else -int(plain))
        if index < 0:
            raise UsageError(f"frame {text}: the clip has {count} frames, 0-{count - 1}")
        return index
    seconds = seconds_of(plain, info)
    if seconds is not None:
        return int(seconds * info.rate)
    start = info.timecode or Timecode(0, nominal_rate(info.rate))
    try:
        if ";" in plain and not start.drop:
            raise UsageError(f"the clip's timecode is not drop-frame; write {plain.replace(';', ':')}")
        index = Timecode.parse(plain, start.rate, start.drop).frames_since(start)
    except UsageError as error:
        why = f" ({error})" if ":" in plain or ";" in plain else ""
        raise UsageError(f"frame '{text}' is neither {_FORMS}; numbers are {counted.rstrip(',')}{why}") from None
    if index < 0:
        raise UsageError(f"frame '{text}': the clip starts at {start}")
    return index


def seconds_of(text: str, info: ClipInfo) -> Fraction | None:
    """The time that a text names: 1.5s, or 00:00:01.500; None where it is none."""
    if found := _SECONDS.fullmatch(text.strip()):
        return Fraction(found[1].rstrip(".") or "0")
    found = _CLOCK.fullmatch(text.strip())
    if found is None or nominal_rate(info.rate) > _MOST_LABELS:
        return None
    return int(found[1]) * 3600 + int(found[2]) * 60 + Fraction(found[3])


def count_of(reader: Reader) -> int:
    """How many frames a clip has; decodes it where its header does not say."""
    known = reader.info.frames_in_header
    return known if known is not None else sum(1 for _ in reader.frames())


def picture_name(info: ClipInfo, end: str) -> str:
    """A name for a picture of a clip, in the current folder: the clip's own name with another end."""
    name = info.path.name
    stem = name.rpartition("%")[0].rstrip("._") if info.numbers is not None and "%" in name else info.path.stem
    return f"{stem or 'clip'}.{end}"


def output_of(given: str | None, info: ClipInfo, end: str, what: str) -> Path:
    """The picture's file, by the option -o or by `picture_name`. Raises: UsageError, it is no .png or .jpg."""
    output = Path(given or picture_name(info, end))
    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{output}: {what} is written as .png or .jpg")
    return output


def _index_at(seconds: Fraction, text: str, reader: Reader) -> int:
    """The frame that is shown at a time, counted from the first frame's."""
    first: Fraction | None = None
    index = -1
    for frame in reader.frames():
        at = frame.pts * frame.time_base
        first = at if first is None else first
        if at - first > seconds:
            return index
        index, last = frame.index, at - first
    if first is None or seconds > last + 1 / reader.info.rate:
        raise UsageError(f"frame {text}: the clip ends before; {_range_of(reader)}")
    return index


def _range_of(reader: Reader) -> str:
    numbers, count = reader.info.numbers, count_of(reader)
    if numbers is not None and len(numbers):
        return f"it has the frames {numbers[0]}-{numbers[-1]}"
    return f"it has the frames 0-{count - 1}"
