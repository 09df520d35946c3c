"""`mam-video preview`: matte one frame, and estimate time and disk for the whole clip."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mam_video.cli.inspect import frame_index, write_picture
from mam_video.cli.names import guard_of
from mam_video.cli.options import Groups, add_config, add_debug, add_edges, add_knobs, settings_from
from mam_video.cli.prompts import prompt_of
from mam_video.cli.say import say
from mam_video.cli.subject import SubjectOptions, add_subject
from mam_video.core.errors import UsageError
from mam_video.core.settings import Settings
from mam_video.core.units import readable
from mam_video.report.sentences import sentences

if TYPE_CHECKING:
    from mam_video.core.settings import Settings
    from mam_video.jobs.preview import Preview
    from mam_video.media import ClipInfo

_DESCRIPTION = """\
Matte one frame and a few after it: see the frame's matte over a checker, and how much time and disk the whole clip
will take. A box, points or a mask belong to that frame.

example:
  mam-video preview plate.mov --frame 40 --box 20%,10%,60%,95% --for matte.mov --for 'exr/m.%04d.exr'
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
            frame=options.frame,
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
    parser.add_argument("--frame", metavar="N", help="the frame's number or timecode (default: the first)")
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
    job = groups["job"]
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
        index = 0 if job.frame is None else frame_index(job.frame, info)
        prompt = prompt_of(job.subject, reader, index, job.settings)
        output = _output_of(job, info)

        from mam_video.jobs.preview import preview

        seen = preview(
            reader,
            list(job.planned),
            prompt,
            job.settings,
            index=index,
            track_from=job.subject.track,
            masks=job.subject.masks,
            trimaps=job.subject.trimaps,
            include=job.subject.include,
            exclude=job.subject.exclude,
        )
    write_picture(output, info.path, seen.over_checker, job.overwrite)
    for line in _lines(seen, info, index, output, list(job.planned)):
        say(line)
    return 0


def _output_of(job: PreviewOptions, info: ClipInfo) -> Path:
    """The picture's file. Raises: UsageError, it cannot be written there."""
    name = info.path.name
    stem = name.rpartition("%")[0].rstrip("._") if info.numbers is not None and "%" in name else info.path.stem
    output = Path(job.output or f"{stem or 'clip'}.preview.png")
    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{output}: a preview is written as .png or .jpg")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{output}: the folder {output.absolute().parent} does not exist")
    guard_of(job.input, job.subject, job.settings, job.configs).writes("the preview", output)
    if output.exists() and not job.overwrite:
        raise UsageError(f"{output}: exists already; give another name with -o, or --overwrite")
    return output


def _lines(seen: Preview, info: ClipInfo, index: int, output: Path, planned: list[str]) -> list[str]:
    record = seen.matted.record
    number = info.frame_number(index)
    reasons = f" ({'; '.join(sentences(record.findings))})" if record.findings else ""
    lines = [f"wrote {output}: frame {number}, {record.state}{reasons}, {record.area:.1%} of the picture"]
    count = info.frames_in_header
    whole = f"all {count} frames" if count is not None else "the whole clip, whose length is not known"
    if seen.pace is None:
        lines.append("the clip has one frame: its speed cannot be measured")
    else:
        pace = f"{seen.pace:.3g} s a frame by {seen.measured} frames, file to file"
        seconds = seen.seconds(count) if count is not None else None
        lines.append(f"time for {whole}: " + (f"about {_time(seconds)} ({pace})" if seconds is not None else pace))
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
