"""`mam-video matte`: a clip and a prompt in, mattes out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mam_video.cli.options import add_shared, settings_from
from mam_video.cli.progress import end_line, print_line, show_progress
from mam_video.cli.prompts import prompts_of
from mam_video.cli.say import say
from mam_video.core.errors import MediaError, UsageError
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings, presets
from mam_video.core.timecode import frame_range

if TYPE_CHECKING:
    from mam_video.cli.progress import OnFrame
    from mam_video.core.frames import Matted
    from mam_video.media import ClipInfo, Reader
    from mam_video.media.name_guard import NameGuard
    from mam_video.report.run import RunReport
    from mam_video.report.thumbnails import Thumbnails


_SHOWN_RANGES = 8
_EPILOG = """\
output kinds:
{kinds}
examples:
  mam-video matte plate.mov --box 412,96,890,1010 -o matte.mov
  mam-video matte plate.mov --box 20%,10%,60%,95% -o matte.mov -o alpha.mov:alpha -o look.mp4
  mam-video matte plate.mov --box 20%,10%,60%,95% -o comp.mp4 --bg street.mov
  mam-video matte plate.mov --point 640,400 --point 100,80,0 -o frames/matte.####.png
  mam-video matte plate.mov --prompt 0:box=412,96,890,1010 --prompt "120:box=380,90,850,1000" -o matte.mov
  mam-video matte plate.mov --prompt dancer@0:box=412,96,890,1010 --prompt drummer@0:box=20,96,300,800 \
      -o {{subject}}.mov -o both.mp4 -o layers/:exr-layers
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    from mam_video.media import kinds

    lines = "".join(f"  {kind.name:15}{kind.says}\n" for kind in kinds())
    parser = commands.add_parser(
        "matte",
        help="matte a clip",
        description="Matte the subject that a box or points on the first frame show.",
        epilog=_EPILOG.format(kinds=lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "input", help="the clip: anything FFmpeg decodes; or a sequence: name.%%04d.exr, name.####.png, a folder"
    )
    parser.add_argument(
        "-o", "--output", action="append", metavar="NAME[:KIND]", help="where to write; may be repeated"
    )
    parser.add_argument(
        "--audio", metavar="WHAT", help="the sound of movies: copy it, pcm (decode it to linear PCM), or none"
    )
    parser.add_argument("--no-audio", dest="audio", action="store_const", const="none", help="as --audio none")
    parser.add_argument(
        "--no-verify", dest="verify", action="store_false", default=None, help="do not read back what was written"
    )
    parser.add_argument("--overwrite", action="store_true", default=None, help="replace outputs that exist")

    add_shared(parser)
    _add_job(parser)


def _add_job(parser: argparse.ArgumentParser) -> None:
    more = parser.add_argument_group("more prompts", "on any frame: what is between two is tracked from both sides")
    more.add_argument(
        "--prompt",
        action="append",
        metavar="[SUBJECT@]FRAME:WHAT",
        help="on any frame, by its number or timecode: 120:box=X0,Y0,X1,Y1;point=X,Y;point=X,Y,0; may be repeated, and "
        "of several subjects names each: dancer@0:box=X0,Y0,X1,Y1",
    )
    more.add_argument("--prompts", metavar="FILE", help="the same from a file; see `mam-video prompts --help`")
    more.add_argument(
        "--backward",
        action="store_true",
        help="track back to the first frame from the first prompt, where that is on a later frame",
    )

    job = parser.add_argument_group("job")
    job.add_argument(
        "--range",
        metavar="FIRST-LAST",
        help="only these frames, both inclusive: 20-39, 20- (counted from 0; of a sequence, by its files' numbers: "
        "1001-1050), or timecodes: 00:00:04:12-",
    )
    job.add_argument(
        "--handles",
        type=int,
        default=0,
        metavar="N",
        help="frames more before and after the range; the prompt is of the first frame written",
    )
    job.add_argument(
        "--on-cut",
        metavar="WHAT",
        help="at a hard cut: reprompt (the new shot needs a prompt of its own, empty without one), stop, or continue",
    )
    job.add_argument(
        "--resume", action="store_true", help="keep what is done; where the same run was cut off, go on there"
    )
    job.add_argument("--save-track", metavar="FILE", help="keep where the subject was found")
    job.add_argument("--track", metavar="FILE", help="follow a saved track: nothing is tracked again")
    job.add_argument("--report", metavar="DIR", help="write run.json, one record a frame, and report.html")
    job.add_argument("--config", action="append", metavar="NAME|FILE", help=f"settings: {', '.join(presets())} or TOML")
    job.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", help="one setting, as in the TOML files")
    job.add_argument("--strict", action="store_true", help="exit code 3 where frames were flagged")
    job.add_argument(
        "--progress", choices=("bar", "json"), default="bar", help="json: a line of JSON a second, and no other output"
    )
    job.add_argument("--quiet", action="store_true", help="print nothing but errors")
    job.add_argument("--debug", action="store_true", help="show tracebacks")


def run(options: argparse.Namespace) -> int:
    settings = settings_from(options)
    outputs = options.output or []
    if not outputs:
        raise UsageError("no output: give -o NAME, as in -o matte.mov")
    if options.handles < 0 or (options.handles and not options.range):
        raise UsageError("--handles N widens a --range by N frames on both sides; give both")
    check_subject(options)

    from mam_video.media import open_clip, parse_output
    from mam_video.media.open import check_resumable
    from mam_video.report.page import check_folder

    if options.report:
        check_folder(options.report)
    for output in outputs:
        parse_output(output)
        if options.resume:
            check_resumable(output)
    with open_clip(options.input, settings.input) as reader:
        return _matte(options, outputs, settings, reader)


def _matte(options: argparse.Namespace, outputs: list[str], settings: Settings, reader: Reader) -> int:
    """Matte an opened clip, and print what lies ahead and what came of it."""
    from mam_video.jobs.matte_clip import matte_clip
    from mam_video.media.atomic_output import SUBJECT
    from mam_video.report.page import save_report
    from mam_video.report.thumbnails import Thumbnails

    info = reader.info
    frames = _frames_of(options, info)
    first = frames.start if frames is not None else 0
    _check_names(options, info, settings, frames)
    prompts = prompts_of(options, reader, first, settings)
    if any(SUBJECT in name for name in (*outputs, options.save_track or "")):
        _check_names(options, info, settings, frames, [each.subject for each in prompts])
    count = (frames or FrameRange()).count(info.frames_in_header)

    looks = Thumbnails()
    told: list[str] = []
    spoken = not options.quiet and options.progress == "bar"
    with show_progress(options, count) as (shown, tracked):
        if spoken:
            told = _print_start(info, outputs, settings, first, count, len(prompts))
        report = matte_clip(
            reader,
            outputs,
            prompts or None,
            settings,
            backward=options.backward,
            track_from=options.track,
            track_to=options.save_track,
            masks=options.masks,
            trimaps=options.trimaps,
            include=options.include,
            exclude=options.exclude,
            frames=frames,
            resume=options.resume,
            on_frame=_each(shown, looks if options.report else None),
            on_tracked=tracked,
        )
    report.command = ["mam-video", *options.given]
    if options.report:
        save_report(report, looks, Path(options.report))
    if spoken:
        _print_end(report, options, told)
    elif options.progress == "json":
        print_line(end_line(report))
    if report.failed_checks:
        raise MediaError(f"written, but not as promised: {'; '.join(report.failed_checks)}")
    return 3 if options.strict and report.flagged else 0


def _print_start(
    info: ClipInfo, outputs: list[str], settings: Settings, first: int, count: int | None, subjects: int
) -> list[str]:
    """Print what lies ahead, and return the notes that were printed."""
    from mam_video.media import expected_bytes, notes
    from mam_video.media.atomic_output import SUBJECT

    told = notes(outputs, info, settings.output.audio)
    for note in told:
        say(f"note: {note}")
    sizes = [
        size and size * (subjects or 1 if SUBJECT in output else 1)
        for output in outputs
        for size in [expected_bytes(output, info, count)]
    ]
    say(_announcement(info, first, count, sizes))
    return told


def guard_of(options: argparse.Namespace, settings: Settings) -> NameGuard:
    """A guard that knows every file that is named on the command line to be read."""
    from mam_video.media.name_guard import NameGuard

    guard = NameGuard()
    guard.reads("the clip", options.input)
    for name in ("mask", "masks", "trimaps", "include", "exclude", "track", "prompts"):
        guard.reads(f"--{name}", getattr(options, name))
    for name in options.config or []:
        guard.reads("--config", name)
    guard.reads("--model", settings.model.name.partition(":")[2])
    guard.reads("--sam-weights", settings.model.sam_weights)
    guard.reads("--mam-weights", settings.model.mam_weights)
    if options.text is not None:
        guard.reads("--text-model", settings.text.model, below=("",))
    guard.reads("OCIO", os.environ.get("OCIO"))
    return guard


def _check_names(
    options: argparse.Namespace,
    info: ClipInfo,
    settings: Settings,
    frames: FrameRange | None,
    subjects: Sequence[str] = (),
) -> None:
    """Raises: UsageError, an output would overwrite an input or another output. No `subjects`: not known yet."""
    from mam_video.media.atomic_output import of_subjects
    from mam_video.media.open import check_names
    from mam_video.report.page import FILES

    def named(template: str) -> list[str]:
        return list(of_subjects(template, subjects).values()) if subjects else [template]

    guard = guard_of(options, settings)
    outputs = [name for template in options.output for name in named(template)]
    tracks = named(options.save_track) if options.save_track else []
    check_names(guard, outputs, info, settings.output, frames, tracks=tracks)
    if options.report:
        guard.writes_folder("--report", options.report, FILES)


def check_subject(options: argparse.Namespace) -> None:
    """Raises: UsageError, where it is not said where the subject is, or twice."""
    if options.mask and (options.box or options.point):
        raise UsageError("--mask stands in place of --box and --point; give one of them")
    for name in ("box", "mask", "prompt", "prompts", "track", "masks", "trimaps"):
        if options.text is not None and getattr(options, name):
            raise UsageError(f"--text finds the subject by itself; leave out --{name}, or --text")
    prompting = (
        options.text is not None or options.box or options.point or options.mask or options.prompt or options.prompts
    )
    if options.track and prompting:
        raise UsageError("--track follows what was found before; give it, or prompts")
    if not (prompting or options.track or options.masks or options.trimaps):
        raise UsageError("no prompt: give --box x0,y0,x1,y1 or --point x,y on the subject in the first frame")


def _frames_of(options: argparse.Namespace, info: ClipInfo) -> FrameRange | None:
    """Return the range with its handles; None for the whole clip."""
    if options.range is None:
        return None
    return frame_range(options.range, info.timecode, info.rate, info.numbers).widened(options.handles)


def _each(shown: OnFrame | None, looks: Thumbnails | None) -> OnFrame:
    """What is done for each frame that is written."""

    def each(matted: Matted, report: RunReport) -> None:
        if looks is not None:
            looks.add(matted)
        if shown is not None:
            shown(matted, report)

    return each


def _announcement(info: ClipInfo, first: int, count: int | None, sizes: list[int | None]) -> str:
    """What lies ahead from frame `first` on, in a line, before a long run."""
    frames = f"{count} frames" if count is not None else "an unknown number of frames"
    known = [size for size in sizes if size is not None]
    disk = f"; expect about {readable(sum(known))} on disk" if known else ""
    start = f", from {info.timecode + first}" if info.timecode else ""
    return f"{info.path.name}: {info.width}x{info.height}, {float(info.rate):.6g} fps, {frames}{start}{disk}"


def _print_end(report: RunReport, options: argparse.Namespace, told: Collection[str]) -> None:
    """What came of a run; `told` are the notes that were printed before it."""
    say(report.summary())
    for path in report.outputs:
        kept = report.checks.get(path)
        say(f"wrote {path}" + (f" (read back: {'; '.join(map(str, kept))})" if kept else ""))
    for note in report.notes:
        if note not in told and note not in report.clip.notes:
            say(f"note: {note}")
    flagged = report.flagged
    if not flagged:
        say("no frame was flagged")
        return
    say(f"look at {'this range' if len(flagged) == 1 else f'these {len(flagged)} ranges'}:")
    for found in flagged[:_SHOWN_RANGES]:
        say(f"  {found.message(report.clip.numbers, report.clip.timecode)}")
    if len(flagged) > _SHOWN_RANGES:
        hint = f"; all of them are in {options.report}" if options.report else "; --report DIR lists them all"
        say(f"  and {len(flagged) - _SHOWN_RANGES} more{hint}")


def readable(size: int) -> str:
    """Bytes in three digits."""
    value = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
