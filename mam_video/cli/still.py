"""`mam-video still`: single pictures in, a matte of each out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mam_video.cli.names import guard_of
from mam_video.cli.options import Groups, add_config, add_debug, add_knobs, settings_from
from mam_video.cli.prompts import prompt_of
from mam_video.cli.say import say
from mam_video.cli.subject import SubjectOptions, add_subject
from mam_video.core.errors import MediaError, UsageError
from mam_video.core.settings import Settings

_DESCRIPTION = """\
Matte single pictures, each by itself: files, or every picture of a folder.

examples:
  mam-video still photo.jpg --box 412,96,890,1010 -o cut.png
  mam-video still photos/ --box 10%,10%,90%,95% -o cut/
  mam-video still a.jpg b.jpg --text 'the dog' -o cut/
"""
# What makes no sense for a picture by itself.
_WITHOUT = (
    "cuts.on_cut", "input.deinterlace", "input.fps", "input.on_error", "input.on_gap", "matte.smooth",
    "output.audio", "output.background", "output.rate", "output.start_number", "smooth.strength",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class StillOptions:
    """What `still` is to do, as checked values."""

    inputs: tuple[str, ...]
    output: str
    subject: SubjectOptions
    settings: Settings
    configs: tuple[str, ...]
    quiet: bool

    @classmethod
    def of(cls, options: argparse.Namespace) -> StillOptions:
        """From the command line. Raises: UsageError."""
        return cls(
            inputs=tuple(options.inputs),
            output=options.output,
            subject=SubjectOptions.of(options),
            settings=settings_from(options),
            configs=tuple(options.config or ()),
            quiet=options.quiet,
        )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video still`."""
    parser.usage = "mam-video still PICTURE|FOLDER ... --box X0,Y0,X1,Y1 -o NAME|FOLDER/ [options]"
    parser.description = _DESCRIPTION
    parser.set_defaults(run=run, edge=None, track=None)
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="pictures, or folders of them")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="NAME[:KIND]",
        help="one picture's matte, such as cut.png; or a folder/ for all, as PNG with alpha: cut/:exr, cut/:png-alpha",
    )
    groups = Groups(parser)
    add_subject(groups)
    add_knobs(groups, without=_WITHOUT)
    job = groups["job"]
    add_config(job)
    job.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_debug(job)


def run(options: argparse.Namespace) -> int:
    job = StillOptions.of(options)

    from mam_video.jobs.stills import find_pictures

    pictures = find_pictures(job.inputs)
    outputs = _outputs_of(job.output, pictures)
    _check_names(job, pictures, outputs)
    failed = _matte(job, pictures, outputs)
    if failed:
        raise MediaError(f"{failed} of {len(pictures)} pictures failed; the others were written")
    return 0


def _outputs_of(output: str, pictures: Sequence[Path]) -> list[str]:
    """The output of each picture, as `matte_clip` takes it. Raises: UsageError, they would share a name."""
    from mam_video.media import parse_output

    name, kind = parse_output(output)
    if kind.writer != "sequence":
        raise UsageError(f"{name}: a picture is written as .png, .exr, .tif or .dpx; or give a folder/")
    folder = name.endswith(("/", "\\")) or Path(name).is_dir()
    if not folder and len(pictures) > 1:
        raise UsageError(f"{name}: one name for {len(pictures)} pictures; give a folder, as -o {Path(name).stem}/")
    if not folder:
        return [f"{name}:{kind.name}"]
    named: dict[str, Path] = {}
    for picture in pictures:
        own = f"{picture.stem}{kind.suffixes[0]}"
        if own.lower() in named:
            raise UsageError(f"{picture}: its matte would have the name of {named[own.lower()]}'s, {own}; rename one")
        named[own.lower()] = picture
    return [f"{Path(name) / (picture.stem + kind.suffixes[0])}:{kind.name}" for picture in pictures]


def _check_names(job: StillOptions, pictures: Sequence[Path], outputs: Sequence[str]) -> None:
    """Raises: UsageError, an output would overwrite an input, or exists."""
    from mam_video.media import parse_output

    guard = guard_of(str(pictures[0]), job.subject, job.settings, job.configs)
    for picture in pictures[1:]:
        guard.reads("a picture", picture)
    standing = []
    for output in outputs:
        path = Path(parse_output(output)[0])
        guard.writes("-o", path)
        if path.exists():
            standing.append(path)
    if standing and not job.settings.output.overwrite:
        more = f" and {len(standing) - 1} more" if len(standing) > 1 else ""
        raise UsageError(f"{standing[0]}{more}: exists already; choose another name, or give --overwrite")


def _matte(job: StillOptions, pictures: Sequence[Path], outputs: Sequence[str]) -> int:
    """Matte each picture; say which failed, and go on with the next. Return how many failed."""
    from mam_video.jobs.matte_clip import matte_clip
    from mam_video.media import open_clip, parse_output
    from mam_video.models.registry import load_model

    subject, settings = job.subject, job.settings
    model = load_model(settings.model)
    failed = 0
    for picture, output in zip(pictures, outputs, strict=True):
        path = Path(parse_output(output)[0])
        try:
            with open_clip(picture, settings.input) as reader:
                path.parent.mkdir(parents=True, exist_ok=True)
                report = matte_clip(
                    reader, output, prompt_of(subject, reader, 0, settings), settings, model=model,
                    masks=subject.masks, trimaps=subject.trimaps, include=subject.include, exclude=subject.exclude,
                )  # fmt: skip
        except OSError as error:
            raise MediaError(f"{path}: cannot be written ({error.strerror or error})") from error
        except MediaError as error:
            if len(pictures) == 1:
                raise
            say(f"mam-video: {error}", file=sys.stderr)
            failed += 1
            continue
        if not job.quiet:
            size = f"{report.clip.width}x{report.clip.height}"
            flagged = "; please check it" if report.flagged else ""
            say(f"wrote {path}: {size}{flagged}")
    return failed
