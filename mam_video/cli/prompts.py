"""`mam-video prompts`: a file of prompts printed, checked and drawn over its frames; how `matte` is given prompts."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mam_video.cli.inspect import add_reading, frame_index, reading
from mam_video.cli.say import say
from mam_video.core.errors import MediaError, UsageError
from mam_video.core.geometry import Box, point_of
from mam_video.prompts.parse import PromptClip, PromptEntry, by_subject, parse_entry, read_entries
from mam_video.prompts.prompt import Prompt, Prompts

if TYPE_CHECKING:
    from mam_video.core.settings import Settings
    from mam_video.media import ClipInfo, Reader

_COLUMNS = 3  # of the sheet

_EPILOG = """\
a file of prompts (TOML):
  version = 1

  [[prompt]]
  frame = 0                            # counted from 0; of a sequence its file's number; or "00:00:04:12"
  box = [412, 96, 890, 1010]           # pixels, or percentages as texts: "20%"

  [[prompt]]
  frame = 120
  points = [[640, 400], [100, 80, 0]]  # on the subject; with a third value 0, on the background
  subject = "dancer"                   # whom it shows; "subject" where it is left out
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "prompts",
        help="print, check and draw a file of prompts",
        description="Print a file of prompts, check it, against its clip where one is given, and draw it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("input", nargs="?", help="the clip that they are for")
    parser.add_argument("-o", "--output", metavar="NAME", help="a .png of the prompted frames with what is prompted")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    add_reading(parser)


def clip_of(info: ClipInfo) -> PromptClip:
    """What has to be known of a clip to read prompts for it."""
    return PromptClip(info.size, lambda text: frame_index(text, info), info.frames_in_header)


def prompt_of(options: argparse.Namespace, reader: Reader, first: int, settings: Settings) -> Prompt | None:
    """What --box, --point, --mask or --text say of frame `first`; None where none is given."""
    if options.text is not None:
        points = tuple(point_of(text.split(","), reader.info.size) for text in options.point or [])
        prompt = Prompt(_box_of_text(options.text, reader, first, settings), points)
        prompt.check_inside(reader.info.size)
        return prompt
    if options.mask:
        from mam_video.jobs.external_masks import prompt_of_mask

        return prompt_of_mask(options.mask, reader)
    if options.box or options.point:
        return Prompt.parse(options.box, options.point or [], reader.info.size)
    return None


def _box_of_text(text: str, reader: Reader, first: int, settings: Settings) -> Box:
    """What `--box` would be for the words; said, so that it can be repeated and set right."""
    from mam_video.prompts.text import find_by_text

    frame = next(iter(reader.frames(first, first + 1)), None)
    if frame is None:
        raise UsageError(f"--text: the clip ends before frame {first}, counted from 0")
    found = find_by_text(frame.rgb8, text, settings.text, settings.model.device)
    more = f"; {found.others} more would do" if found.others else ""
    say(f"--text '{text}' is --box {found.box} (score {found.score:.2f}{more})", file=sys.stderr)
    return found.box


def prompts_of(options: argparse.Namespace, reader: Reader, first: int, settings: Settings) -> list[Prompts]:
    """What `prompt_of` (on frame `first`), --prompt and --prompts say together, of each subject; empty: nothing."""
    clip = clip_of(reader.info)
    entries = read_entries(options.prompts, clip) if options.prompts else []
    entries += [parse_entry(text, clip) for text in options.prompt or []]
    prompt = prompt_of(options, reader, first, settings)
    if prompt is not None:
        given = " and ".join(f"--{name}" for name in ("text", "box", "point", "mask") if getattr(options, name))
        entries.insert(0, PromptEntry(f"{given} of the first frame", first, prompt))
    return list(by_subject(entries).values()) if entries else []


def _run(options: argparse.Namespace) -> int:
    if options.input is None:
        if options.output:
            raise UsageError(f"{options.output}: prompts are drawn over their frames; name the clip too")
        _print(read_entries(options.file, _any_clip()), None)
        return 0

    from mam_video.media import open_for_viewing
    from mam_video.media.atomic_output import FileOutput
    from mam_video.media.name_guard import NameGuard
    from mam_video.report.sheet import prompted, save_grid

    if options.output is not None:
        guard = NameGuard()
        guard.reads("the prompts", options.file)
        guard.reads("the clip", options.input)
        guard.writes("-o", options.output)
    with open_for_viewing(options.input, reading(options)) as reader:
        info = reader.info
        entries = read_entries(options.file, clip_of(info))
        _print(entries, info)
        if options.output is None:
            return 0
        output = Path(options.output)
        if output.suffix.lower() != ".png":
            raise UsageError(f"{output}: prompts are drawn as .png")
        file = FileOutput(output, info.path, options.overwrite)
        try:
            pictures = []
            for entry in sorted(entries, key=lambda each: each.index):
                frame = next(iter(reader.frames(entry.index, entry.index + 1)), None)
                if frame is None:
                    raise UsageError(f"{entry.where}: the clip ends before this frame")
                pictures.append(prompted(frame, entry.prompt, f"{_called(entry, info)} {entry.subject}"))
            save_grid(pictures, _COLUMNS, file.partial)
            file.publish()
        except OSError as error:
            raise MediaError(f"{output}: cannot be written ({error.strerror or error})") from error
        finally:
            file.discard()
    say(f"wrote {output}")
    return 0


def _print(entries: list[PromptEntry], info: ClipInfo | None) -> None:
    subjects = by_subject(entries)
    for entry in entries:
        said = str(entry.prompt) if info is not None else entry.given
        say(f"frame {_called(entry, info)}  {entry.subject}  {said}")
    named = "" if len(subjects) == 1 else f", {len(subjects)} subjects"
    unchecked = "" if info is not None else "; name the clip too to have them checked against it"
    say(f"{len(entries)} prompt{'s' if len(entries) > 1 else ''}{named}{unchecked}")


def _called(entry: PromptEntry, info: ClipInfo | None) -> str:
    if info is None:
        return entry.frame
    return str(info.frame_number(entry.index))


def _any_clip() -> PromptClip:
    """For a file's form alone: a clip so large that every frame and place is in it."""
    labels: dict[str, int] = {}

    def index_of(text: str) -> int:
        if text.isdigit():
            return int(text)
        if not re.fullmatch(r"\d\d:\d\d:\d\d[:;]\d\d", text):
            raise UsageError(f"frame '{text}' is neither a number nor a timecode")
        return labels.setdefault(text, 10**12 + len(labels))

    return PromptClip((10**9, 10**9), index_of)
