"""`mam-video matte`: a clip and a prompt in, mattes out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mam_video.cli.engine_options import EngineOptions, add_engine
from mam_video.cli.matte_lines import print_end, print_start
from mam_video.cli.names import guard_of
from mam_video.cli.options import Groups, add_config, add_debug, add_edges, add_knobs, settings_from
from mam_video.cli.parser import Parser
from mam_video.cli.progress import end_line, print_line, show_progress
from mam_video.cli.prompts import add_prompts, entries_of
from mam_video.cli.rerun import rerun_of
from mam_video.cli.say import say
from mam_video.cli.subject import Once, SubjectOptions, add_subject
from mam_video.cli.which_frame import range_of
from mam_video.core.errors import MediaError, UsageError
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings

if TYPE_CHECKING:
    from mam_video.cli.progress import OnFrame
    from mam_video.core.frames import Matted
    from mam_video.media import ClipInfo, Reader
    from mam_video.report.run import RunReport
    from mam_video.report.thumbnails import Thumbnails


_DESCRIPTION = """\
Matte the subject that a box or points on the first frame show.

examples:
  mam-video matte plate.mov --box 412,96,890,1010 -o matte.mov
  mam-video matte plate.mov --box 20%,10%,60%,95% -o matte.mov -o alpha.mov:alpha -o look.mp4
  mam-video matte plate.mov --box 20%,10%,60%,95% -o comp.mp4 --bg street.mov
  mam-video matte plate.mov --point 640,400 --point 100,80,0 -o 'frames/matte.####.png'
  mam-video matte plate.mov --prompt 0:box=412,96,890,1010 --prompt '120:box=380,90,850,1000' -o matte.mov
  mam-video matte plate.mov --prompt dancer@0:box=412,96,890,1010 --prompt drummer@0:box=20,96,300,800 \\
      -o '{subject}.mov' -o both.mp4 -o layers/:exr-layers
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatteOptions:
    """What `matte` is to do, as checked values."""

    input: str
    outputs: tuple[str, ...]
    subject: SubjectOptions
    settings: Settings
    range: str | None
    handles: int
    backward: bool
    resume: bool
    save_track: str | None
    report: str | None
    strict: bool
    engine: EngineOptions
    dry_run: bool
    progress: str
    quiet: bool
    verbose: bool
    configs: tuple[str, ...]
    command: tuple[str, ...]
    parser: Parser

    @property
    def talks(self) -> bool:
        """Whether lines for people are printed."""
        return not self.quiet and self.progress == "bar"

    @classmethod
    def of(cls, options: argparse.Namespace) -> MatteOptions:
        """From the command line. Raises: UsageError."""
        settings = settings_from(options)
        outputs = tuple(options.output or ())
        if not outputs:
            raise UsageError("no output: give -o NAME, as in -o matte.mov")
        if options.handles < 0 or (options.handles and not options.range):
            raise UsageError("--handles N widens a --range by N frames on both sides; give both")
        return cls(
            input=options.input,
            outputs=outputs,
            subject=SubjectOptions.of(options),
            settings=settings,
            range=options.range,
            handles=options.handles,
            backward=options.backward,
            resume=options.resume,
            save_track=options.save_track,
            report=options.report,
            strict=options.strict,
            engine=EngineOptions.of(options),
            dry_run=options.dry_run,
            progress=options.progress,
            quiet=options.quiet,
            verbose=options.verbose,
            configs=tuple(options.config or ()),
            command=("mam-video", *options.given),
            parser=options.parser,
        )


def configure(parser: Parser) -> None:
    """Add the options of `mam-video matte`."""
    parser.usage = "mam-video matte INPUT --box X0,Y0,X1,Y1 -o NAME [options]"
    parser.description = _DESCRIPTION
    parser.epilog = output_kinds
    parser.set_defaults(run=run, parser=parser)
    groups = add_shot(parser)
    _add_job(groups["job"])


def add_shot(parser: argparse.ArgumentParser) -> Groups:
    """Add what says which clip is matted, where the subjects are, how, and into which files."""
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="the clip: anything that FFmpeg decodes, or a sequence: name.%%04d.exr, name.####.png, a folder",
    )
    parser.add_argument(
        "-o", "--output", action="append", metavar="NAME[:KIND]", help="an output; may be repeated; kinds are below"
    )
    groups = Groups(parser)
    add_subject(groups)
    add_knobs(groups)
    add_edges(groups["matte"])
    add_prompts(groups["prompts on any frame"])
    _add_backward(groups["prompts on any frame"])
    _add_range(groups["job"])
    return groups


def output_kinds() -> str:
    """What can be written, for the long help."""
    from mam_video.media import kinds

    return "output kinds:\n" + "".join(f"  {kind.name:15}{kind.says}\n" for kind in kinds())


def _add_backward(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--backward",
        action="store_true",
        help="where the first prompt is on a later frame, track from there back to the first frame",
    )


def _add_range(job: argparse._ActionsContainer) -> None:
    job.add_argument(
        "--range",
        metavar="FIRST-LAST",
        help="only these frames, both included: 20-39, 20- or 20, counted from 0; file numbers of a sequence: "
        "1001-1050; or timecodes: 00:00:04:12- (default: the whole clip)",
    )
    job.add_argument(
        "--handles",
        type=int,
        default=0,
        metavar="N",
        help="also write N frames before and after --range; the box then refers to the first of those frames "
        "(default: 0)",
    )
    job.add_argument("--save-track", metavar="FILE", help="save where the subject was found")
    job.add_argument(
        "--track", action=Once, metavar="FILE", help="use a saved track; with --prompt, track again around that alone"
    )  # fmt: skip
    job.add_argument("--report", metavar="DIR", help="write run.json, with one record a frame, and report.html")
    add_config(job)


def _add_job(job: argparse._ActionsContainer) -> None:
    job.add_argument(
        "--resume",
        action="store_true",
        help="keep finished frames (of sequences always), and go on after those that a stop has left",
    )
    add_engine(job)
    job.add_argument(
        "--dry-run", action="store_true", help="only print what would be read, assumed and written; write nothing"
    )
    job.add_argument("--strict", action="store_true", help="exit with code 3 if frames were flagged")
    add_talk(job)


def add_talk(job: argparse._ActionsContainer, *, verbose: bool = True) -> None:
    """Add what says how much is printed, and in which form."""
    job.add_argument(
        "--progress",
        choices=("bar", "json"),
        default="bar",
        help="json prints a line of JSON about once a second and nothing else (default: bar)",
    )
    job.add_argument("--quiet", action="store_true", help="print nothing but errors")
    if verbose:
        job.add_argument(
            "-v", "--verbose", action="store_true", help="also print the time of each stage and what was checked"
        )
    add_debug(job)


def run(options: argparse.Namespace) -> int:
    return _matte(MatteOptions.of(options))


def _matte(job: MatteOptions) -> int:
    from mam_video.media import open_clip

    check_options(job)
    with open_clip(job.input, job.settings.input) as reader:
        return _matte_opened(job, reader)


def check_options(job: MatteOptions) -> None:
    """Check what needs no clip. Raises: UsageError."""
    from mam_video.media import parse_output
    from mam_video.media.atomic_output import SUBJECT
    from mam_video.media.open import check_resumable

    if job.engine.name is not None:
        from mam_video.farm.engine import check_engine

        check_engine(job.engine.name)
    if job.report:
        from mam_video.report.page import check_folder  # brings torch, which takes seconds

        check_folder(job.report)
    for output in job.outputs:
        parse_output(output)
        if job.resume and job.engine.name is None:
            check_resumable(output)
    track = job.subject.track
    if track and SUBJECT not in track and not Path(track).exists():  # before torch is loaded, which takes seconds
        raise UsageError(f"{track}: no such track file")


def _matte_opened(job: MatteOptions, reader: Reader) -> int:
    """Matte an opened clip; print what the run will take and what came of it. Return the exit code."""
    from mam_video.media.atomic_output import SUBJECT
    from mam_video.prompts.parse import by_subject

    info = reader.info
    frames = frames_of(job, info)
    first = frames.start if frames is not None else 0
    check_shot_names(job, info, frames)
    entries = entries_of(job.subject, reader, first, job.settings)
    prompts = list(by_subject(entries).values()) if entries else []
    if any(SUBJECT in name for name in (*job.outputs, job.save_track or "")):
        check_shot_names(job, info, frames, [each.subject for each in prompts])
    count = (frames or FrameRange()).count(info.frames_in_header)
    if job.dry_run:
        from mam_video.cli.dry_run import plan_lines

        for line in plan_lines(job, info, frames, count, prompts):
            say(line)
        return 0

    if job.engine.name is not None:
        from mam_video.cli.on_engine import matte_on_engine

        return matte_on_engine(job, reader, frames, entries, count)

    from mam_video.jobs.matte_clip import matte_clip
    from mam_video.media.open import keeps_by_itself
    from mam_video.report.page import save_report
    from mam_video.report.thumbnails import Thumbnails

    thumbnails = Thumbnails(stand=job.settings.track.stand) if job.report else None
    printed = print_start(job, info, first, count, prompts) if job.talks else []
    with show_progress(count, progress=job.progress, quiet=job.quiet) as (shown, tracked), _tell_how_to_resume(job):
        report = matte_clip(
            reader,
            list(job.outputs),
            prompts or None,
            job.settings,
            backward=job.backward,
            track_from=job.subject.track,
            track_to=job.save_track,
            masks=job.subject.masks,
            trimaps=job.subject.trimaps,
            include=job.subject.include,
            exclude=job.subject.exclude,
            frames=frames,
            resume=job.resume,
            keep=all(map(keeps_by_itself, job.outputs)),
            on_frame=_each(shown, thumbnails),
            on_tracked=tracked,
            on_resume=_print_resume(info, first) if job.talks and job.resume else None,
        )
    report.command = list(job.command)
    if thumbnails is not None:
        report.repeated_by(rerun_of(job.command, job.parser, job.subject, entries, info))
        save_report(report, thumbnails, Path(job.report or ""))
    if job.talks:
        print_end(report, job.report, printed, verbose=job.verbose)
    elif job.progress == "json":
        print_line(end_line(report))
    if report.failed_checks:
        raise MediaError(f"written, but not as it should be: {'; '.join(report.failed_checks)}")
    return 3 if job.strict and report.flagged else 0


def check_shot_names(
    job: MatteOptions, info: ClipInfo, frames: FrameRange | None, subjects: Sequence[str] = ()
) -> None:
    """Raises: UsageError, an output would overwrite an input or another output. No `subjects`: not known yet."""
    from mam_video.media.atomic_output import of_subjects
    from mam_video.media.open import check_names

    def named(template: str) -> list[str]:
        return list(of_subjects(template, subjects).values()) if subjects else [template]

    guard = guard_of(job.input, job.subject, job.settings, job.configs)
    outputs = [name for template in job.outputs for name in named(template)]
    tracks = named(job.save_track) if job.save_track else []
    check_names(guard, outputs, info, job.settings.output, frames, tracks=tracks)
    if job.report:
        from mam_video.report.page import FILES

        guard.writes_folder("--report", job.report, FILES)


def frames_of(job: MatteOptions, info: ClipInfo) -> FrameRange | None:
    """Return the range with its handles; None for the whole clip."""
    if job.range is None:
        return None
    return range_of(job.range, info).widened(job.handles)


def _print_resume(info: ClipInfo, first: int) -> Callable[[int], None]:
    """Make the function that says whether there is something to resume; `first` is the range's first frame."""

    def report_start(done: int) -> None:
        if done:
            say(f"resuming: {done} frames are done, going on at frame {info.frame_number(first + done)}")
        else:
            say(f"nothing to resume, starting at frame {info.frame_number(first)}")

    return report_start


@contextmanager
def _tell_how_to_resume(job: MatteOptions) -> Iterator[None]:
    """Give an interrupt a message that says how to go on."""
    from mam_video.media.open import is_resumable, keeps_by_itself

    try:
        yield
    except KeyboardInterrupt as error:
        if str(error):
            raise
        if job.resume:
            hint = "no frame was done yet; the same command starts anew"
        elif all(map(keeps_by_itself, job.outputs)):
            hint = "no frame was done yet"
        elif all(map(is_resumable, job.outputs)):
            hint = "add --resume from the start to be able to go on after a stop"
        else:
            hint = "a .mov or a sequence with --resume from the start can go on after a stop"
        raise KeyboardInterrupt(f"stopped; no files were written; {hint}") from None


def _each(shown: OnFrame | None, thumbnails: Thumbnails | None) -> OnFrame:
    """Make the function that is called with each written frame."""

    def each(matted: Matted, report: RunReport) -> None:
        if thumbnails is not None:
            thumbnails.add(matted)
        if shown is not None:
            shown(matted, report)

    return each
