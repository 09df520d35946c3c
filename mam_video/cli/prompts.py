"""`mam-video prompts`: print, check and draw a file of prompts; turn the options of `matte` into prompts."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mam_video.cli.inspect import add_reading
from mam_video.cli.options import reading_from
from mam_video.cli.say import say
from mam_video.cli.which_frame import frame_index
from mam_video.core.errors import MediaError, UsageError

if TYPE_CHECKING:
    from mam_video.cli.subject import SubjectOptions
    from mam_video.core.geometry import Box
    from mam_video.core.settings import Settings
    from mam_video.media import ClipInfo, Reader
    from mam_video.prompts.parse import PromptClip, PromptEntry
    from mam_video.prompts.prompt import Prompt, Prompts

_COLUMNS = 3  # of the sheet

_DESCRIPTION = """\
Print a file of prompts and check it, against its clip if that is given; draw its prompts over their frames.

example:
  mam-video prompts shot.toml plate.mov -o prompts.png
"""
_EPILOG = """\
a file of prompts (TOML):
  version = 1

  [[prompt]]
  frame = 0                            # counted from 0; of a sequence its file's number; or "00:00:04:12"
  box = [412, 96, 890, 1010]           # pixels, or percentages as texts: "20%"

  [[prompt]]
  frame = 120
  points = [[640, 400], [100, 80, 0]]  # on the subject; with a third value 0, on the background
  subject = "dancer"                   # the subject's name; "subject" if it is left out

  [[prompt]]
  frame = 200
  mask = "masks/200.png"               # in place of box and points; found from this file's folder
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video prompts`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.set_defaults(run=_run)
    parser.add_argument("file", metavar="FILE", help="the file of prompts")
    parser.add_argument("input", nargs="?", metavar="INPUT", help="the clip that they are for")
    parser.add_argument("-o", "--output", metavar="NAME", help="a .png of the prompted frames with their prompts")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    add_reading(parser)


def add_prompts(group: argparse._ActionsContainer) -> None:
    """Add --prompt and --prompts, which `matte` and `preview` share."""
    group.add_argument(
        "--prompt",
        action="append",
        metavar="[SUBJECT@]FRAME:WHAT",
        help="a prompt on a frame, which its number or timecode names: '120:box=X0,Y0,X1,Y1;point=X,Y;point=X,Y,0', or "
        "120:mask=FILE; may be repeated; with several subjects it names its own: dancer@0:box=X0,Y0,X1,Y1",
    )
    group.add_argument(
        "--prompts", metavar="FILE", help="prompts from a TOML file; `mam-video prompts --help` shows its form"
    )


def clip_of(info: ClipInfo) -> PromptClip:
    """The facts of a clip that reading prompts needs."""
    from mam_video.prompts.parse import PromptClip

    def mask_of(path: Path) -> Prompt:
        from mam_video.jobs.external_masks import prompt_of_mask

        return prompt_of_mask(path, info, "mask")

    return PromptClip(info.size, lambda text: frame_index(text, info), info.frames_in_header, mask_of)


def prompt_of(subject: SubjectOptions, reader: Reader, first: int, settings: Settings) -> Prompt | None:
    """Make a prompt of --box, --point, --mask or --text for frame `first`; None where none is given."""
    from mam_video.core.geometry import point_of
    from mam_video.prompts.prompt import Prompt

    points = list(subject.points)
    if subject.text is not None:
        on = tuple(point_of(text.split(","), reader.info.size) for text in points)
        found = Prompt(_box_of_text(subject.text, reader, first, settings), on, placed=True)
        return found.in_pixels(reader.info.size)
    if subject.mask:
        from mam_video.jobs.external_masks import prompt_of_mask

        return prompt_of_mask(subject.mask, reader.info)
    if subject.box or points:
        return Prompt.parse(subject.box, points, reader.info.size)
    return None


def _box_of_text(text: str, reader: Reader, first: int, settings: Settings) -> Box:
    """Find the box for the words of --text; print it as --box, to repeat or to correct it."""
    from mam_video.prompts.text import find_by_text

    frame = next(iter(reader.frames(first, first + 1)), None)
    if frame is None:
        raise UsageError(f"--text: the clip ends before frame {first}, counted from 0")
    found = find_by_text(frame.rgb8, text, settings.text, settings.model.device)
    more = f"; {found.others} more boxes are good enough" if found.others else ""
    say(f"--text '{text}' is --box {found.box} (score {found.score:.2f}{more})", file=sys.stderr)
    return found.box


def prompts_of(subject: SubjectOptions, reader: Reader, first: int, settings: Settings) -> list[Prompts]:
    """Collect the prompts of each subject: those of frame `first` (see `prompt_of`), --prompt and --prompts."""
    from mam_video.prompts.parse import by_subject

    entries = entries_of(subject, reader, first, settings)
    return list(by_subject(entries).values()) if entries else []


def entries_of(subject: SubjectOptions, reader: Reader, first: int, settings: Settings) -> list[PromptEntry]:
    """List the prompts: that of frame `first` (see `prompt_of`), those of --prompts, those of --prompt."""
    from mam_video.prompts.parse import PromptEntry, parse_entry, read_entries

    clip = clip_of(reader.info)
    entries = read_entries(subject.prompts_file, clip) if subject.prompts_file else []
    entries += [parse_entry(text, clip) for text in subject.prompts]
    prompt = prompt_of(subject, reader, first, settings)
    if prompt is not None:
        given = " and ".join(f"--{name}" for name in subject.named if name in ("text", "box", "point", "mask"))
        entries.insert(0, PromptEntry(f"{given} of the first frame", first, prompt))
    return entries


def _run(options: argparse.Namespace) -> int:
    from mam_video.prompts.parse import read_entries

    if options.input is None:
        if options.output:
            raise UsageError(f"{options.output}: prompts are drawn over their frames; name the clip too")
        _print(read_entries(options.file, _any_clip()), None)
        return 0

    from mam_video.media import open_for_viewing
    from mam_video.media.name_guard import NameGuard

    if options.output is not None:
        guard = NameGuard()
        guard.reads("the prompts", options.file)
        guard.reads("the clip", options.input)
        guard.writes("-o", options.output)
    with open_for_viewing(options.input, reading_from(options)) as reader:
        info = reader.info
        entries = read_entries(options.file, clip_of(info))
        _print(entries, info)
        if options.output is not None:
            _draw(entries, reader, Path(options.output), options.overwrite)
            say(f"wrote {options.output}")
    return 0


def _draw(entries: list[PromptEntry], reader: Reader, output: Path, overwrite: bool) -> None:
    """Write the prompted frames with their prompts as one picture. Raises: UsageError or MediaError."""
    from mam_video.media.atomic_output import FileOutput
    from mam_video.report.sheet import prompted, save_grid

    info = reader.info
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output}: prompts are drawn as .png")
    file = FileOutput(output, info.path, overwrite)
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


def _print(entries: list[PromptEntry], info: ClipInfo | None) -> None:
    from mam_video.prompts.parse import by_subject

    subjects = by_subject(entries)
    for entry in entries:
        said = str(entry.prompt) if info is not None else entry.given
        say(f"frame {_called(entry, info)}  {entry.subject}  {said}")
    named = "" if len(subjects) == 1 else f", {len(subjects)} subjects"
    unchecked = "" if info is not None else "; name the clip too to check them against it"
    say(f"{len(entries)} prompt{'s' if len(entries) > 1 else ''}{named}{unchecked}")


def _called(entry: PromptEntry, info: ClipInfo | None) -> str:
    if info is None:
        return entry.frame
    return str(info.frame_number(entry.index))


def _any_clip() -> PromptClip:
    """Stand in for a clip where only the form of a file is checked: every frame and place is inside it."""
    from mam_video.core.geometry import Box
    from mam_video.prompts.parse import PromptClip
    from mam_video.prompts.prompt import Prompt

    labels: dict[str, int] = {}

    def index_of(text: str) -> int:
        if text.isdigit():
            return int(text)
        if not re.fullmatch(r"\d\d:\d\d:\d\d[:;]\d\d", text):
            raise UsageError(f"frame '{text}' is neither a number nor a timecode")
        return labels.setdefault(text, 10**12 + len(labels))

    def mask_of(path: Path) -> Prompt:
        if not path.is_file():
            raise UsageError(f"mask {path}: no such file")
        return Prompt(Box(0, 0, 2, 2), placed=True)  # its subject is not looked at

    return PromptClip((10**9, 10**9), index_of, mask_of=mask_of)
