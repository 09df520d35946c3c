"""`mam-video preview`: matte one frame, and estimate time and disk for the whole clip."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mam_video.cli.inspect import write_picture
from mam_video.cli.names import guard_of
from mam_video.cli.options import Groups, add_config, add_debug, add_edges, add_knobs, settings_from
from mam_video.cli.prompts import add_prompts, prompts_of
from mam_video.cli.say import say
from mam_video.cli.subject import SubjectOptions, add_subject
from mam_video.cli.which_frame import add_frame, count_of, find_index, output_of, range_of, requested_frame
from mam_video.core.errors import UsageError
from mam_video.core.settings import Settings
from mam_video.core.units import readable
from mam_video.report.sentences import sentences

if TYPE_CHECKING:
    from mam_video.core.frames import Matted
    from mam_video.jobs.preview import Preview
    from mam_video.media import ClipInfo, Reader
    from mam_video.prompts.prompt import Prompts

_DESCRIPTION = """\
Matte one frame and a few after it: see the frame's matte over a checker, and how much time and disk the whole clip
will take. A box, points or a mask belong to that frame. Without --frame it is the last one that has a --prompt, else
the first of the range.

examples:
  mam-video preview plate.mov --box 412,96,890,1010
  mam-video preview plate.mov --frame 40 --box 20%,10%,60%,95% --for matte.mov --for 'exr/m.%04d.exr'
  mam-video preview plate.mov --prompt 0:box=412,96,890,1010 --prompt '120:box=380,90,850,990;point=300,80,0'
"""
# A few frames around one say nothing about shots.
_FORCED = {"cuts": {"on_cut": "continue"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewOptions:
    """What `preview` is to do, as checked values.

    planned  the outputs that the whole clip would be written to
    """

    input: str
    frame: str | None
    range: str | None
    output: str | None
    planned: tuple[str, ...]
    overwrite: bool
    subject: SubjectOptions
    settings: Settings
    configs: tuple[str, ...]

    @classmethod
    def of(cls, options: argparse.Namespace) -> PreviewOptions:
        """From the command line. Raises: UsageError."""
        return cls(
            input=options.input,
            frame=requested_frame(options),
            range=options.range,
            output=options.output,
            planned=tuple(options.planned or ("matte.mov",)),
            overwrite=options.overwrite,
            settings=settings_from(options, _FORCED),
            configs=tuple(options.config or ()),
            subject=SubjectOptions.of(options),
        )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video preview`."""
    parser.usage = "mam-video preview INPUT --box X0,Y0,X1,Y1 [options]"
    parser.description = _DESCRIPTION
    parser.set_defaults(run=run)
    parser.add_argument("input", metavar="INPUT", help="the clip, as for `matte`")
    add_frame(parser)
    parser.add_argument("-o", "--output", metavar="NAME", help="a .png or .jpg (default: CLIP.preview.png)")
    parser.add_argument(
        "--for", dest="planned", action="append", metavar="NAME[:KIND]", help="an output whose size is estimated; may "
        "be repeated (default: matte.mov)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace a picture that exists")
    groups = Groups(parser)
    add_subject(groups)
    add_knobs(groups, without=("output.audio", "output.verify", "output.overwrite", "cuts.on_cut"))
    add_edges(groups["matte"])
    add_prompts(groups["prompts on any frame"])
    job = groups["job"]
    job.add_argument(
        "--range",
        metavar="FIRST-LAST",
        help="the range that the run will have: its first frame is shown, and time and disk are those of the range "
        "(default: the whole clip)",
    )
    job.add_argument("--track", metavar="FILE", help="use a saved track in place of a prompt")
    add_config(job)
    add_debug(job)


def run(options: argparse.Namespace) -> int:
    job = PreviewOptions.of(options)

    from mam_video.media import open_clip, parse_output

    for planned in job.planned:
        parse_output(planned)
    with open_clip(job.input, job.settings.input) as reader:
        info = reader.info
        part = None if job.range is None else range_of(job.range, info)
        index, prompt = _shown(job, reader, 0 if part is None else part.start)
        output = _output_of(job, info)

        from mam_video.jobs.preview import over_checker, preview

        def show(matted: Matted) -> None:
            write_picture(output, info.path, over_checker(matted), job.overwrite)
            say(_first_line(matted, info.frame_number(index), output), flush=True)

        seen = preview(
            reader,
            list(job.planned),
            prompt,
            job.settings,
            index=index,
            part=part,
            on_first=show,
            track_from=job.subject.track if prompt is None else None,
            masks=job.subject.masks,
            trimaps=job.subject.trimaps,
            include=job.subject.include,
            exclude=job.subject.exclude,
        )
    count = info.frames_in_header if part is None else part.count(info.frames_in_header)
    for line in _lines(seen, list(job.planned), count, whole=part is None):
        say(line)
    return 0


def _shown(job: PreviewOptions, reader: Reader, first: int) -> tuple[int, Prompts | Sequence[Prompts] | None]:
    """The frame that is shown, and what points at the subjects in it; `first` of the range stands in for --frame.

    Raises: UsageError, prompts are given and the frame has none.
    """
    index = first if job.frame is None else find_index(job.frame, reader)
    known = reader.info.frames_in_header
    if known is not None and index >= known:
        raise UsageError(f"{reader.info.path}: holds no frame {index}; it has the frames 0-{count_of(reader) - 1}")
    corrected = bool(job.subject.prompts or job.subject.prompts_file)
    if job.frame is None and corrected:
        index = max(each.frames[-1] for each in prompts_of(job.subject, reader, first, job.settings))
    subjects = prompts_of(job.subject, reader, first if corrected else index, job.settings)
    if not subjects:
        return index, None
    from mam_video.prompts.prompt import Prompts

    there = [Prompts.of({index: each[index]}, each.subject) for each in subjects if index in each.frames]
    if not there:
        frames = sorted({reader.info.frame_number(k) for each in subjects for k in each.frames})
        raise UsageError(
            f"frame {reader.info.frame_number(index)} has no prompt to preview; prompts are on frame "
            f"{', '.join(map(str, frames))}"
        )
    return index, there


def _output_of(job: PreviewOptions, info: ClipInfo) -> Path:
    """The picture's file. Raises: UsageError, it cannot be written there."""
    output = output_of(job.output, info, "preview.png", "a preview")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{output}: the folder {output.absolute().parent} does not exist")
    guard_of(job.input, job.subject, job.settings, job.configs).writes("the preview", output)
    if output.exists() and not job.overwrite:
        raise UsageError(f"{output}: exists already; give another name with -o, or --overwrite")
    return output


def _first_line(matted: Matted, number: int, output: Path) -> str:
    """Say what was found in the frame, which users call `number`."""
    record = matted.record
    reasons = f" ({'; '.join(sentences(record.findings))})" if record.findings else ""
    return f"wrote {output}: frame {number}, {record.state}{reasons}, {record.area:.1%} of the picture"


def _lines(seen: Preview, planned: list[str], count: int | None, *, whole: bool) -> list[str]:
    """Say how much time and disk so many frames will take."""
    lines = []
    known = "all" if whole else "the range's"
    frames = f"{known} {count} frames" if count is not None else "the whole clip, whose length is not known"
    if seen.pace is None:
        lines.append("the clip has one frame: its speed cannot be measured")
    else:
        pace = f"{seen.pace:.3g} s a frame by {seen.measured} frames, file to file"
        seconds = seen.seconds(count) if count is not None else None
        lines.append(f"time for {frames}: " + (f"about {_time(seconds)} ({pace})" if seconds is not None else pace))
    for name, size in zip(planned, seen.sizes, strict=True):
        how = f"by {seen.measured} frames" if size.measured else "from a table of real plates; grain can double it"
        each = f"{readable(round(size.bytes_a_frame))} a frame {how}"
        total = "" if count is None else f"about {readable(round(size.bytes_a_frame * count))}, "
        lines.append(f"disk for {name}: {total}{each}")
    return lines


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{max(whole, 1)} s"
    minutes, left = divmod(whole, 60)
    return f"{minutes} min {left} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
