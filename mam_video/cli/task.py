"""`mam-video task`: run one task of a job. Render managers call it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mam_video.cli.matte_lines import print_end
from mam_video.cli.options import add_debug
from mam_video.cli.progress import end_line, print_line
from mam_video.cli.say import say
from mam_video.core.errors import MediaError, UsageError

if TYPE_CHECKING:
    from mam_video.farm.plan import JobPlan
    from mam_video.farm.steps import Joined

_STEPS = ("track", "matte", "join")
_SECONDS = 1.0  # between two lines of progress
_DESCRIPTION = """\
Run one task of a job. Render managers call it, with a job file that `mam-video job` wrote, or its plan.

examples:
  mam-video task plan.json track
  mam-video task plan.json matte 1001-1048
  mam-video task plan.json join
"""
_EPILOG = """\
A task may be run again at any time. It needs no terminal. MAM_VIDEO_WEIGHTS names the folder of weight files.

exit codes: 0 done, 1 failed, 2 wrong usage or another version, 3 done with flagged frames (--strict)
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video task`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.set_defaults(run=_run)
    parser.add_argument("plan", metavar="PLAN", help="the plan that a job file carries")
    parser.add_argument("step", metavar="STEP", help="track, matte or join")
    parser.add_argument("frames", metavar="FRAMES", nargs="?", help="of matte: FIRST-LAST, both included")
    parser.add_argument(
        "--progress",
        choices=("text", "json", "openjd"),
        default="text",
        help="form of the lines: `progress: 40%%`, JSON, or `openjd_progress: 40` (default: text)",
    )
    parser.add_argument("--strict", action="store_true", help="join exits with code 3 if frames were flagged")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_debug(parser)


def _run(options: argparse.Namespace) -> int:
    from mam_video.farm.job_files import plan_of_text
    from mam_video.farm.task import Task, run_task

    if options.step not in _STEPS:
        raise UsageError(f"STEP must be one of {', '.join(_STEPS)}, is '{options.step}'")
    if (options.step == "matte") is not (options.frames is not None):
        raise UsageError("matte needs the frames of its chunk, as in matte 0-47; track and join take none")
    plan = plan_of_text(options.plan)
    task = Task(options.step, plan.chunk_of(options.frames) if options.frames is not None else None)
    joined = run_task(plan, task, None if options.quiet else _lines(options.progress))
    if not options.quiet:
        _line(options.progress, 100.0)
    if options.step != "join":
        return 0
    if joined is None:
        if not options.quiet:
            say("joined before; nothing to do")
        return 0
    return _joined(plan, joined, options)


def _joined(plan: JobPlan, joined: Joined, options: argparse.Namespace) -> int:
    """Save and print what came of a job; return the exit code."""
    from mam_video.report.page import save_report

    report = joined.report
    if plan.report:
        save_report(report, joined.thumbnails, Path(plan.report))
    if options.progress == "json" and not options.quiet:
        print_line(end_line(report))
    elif not options.quiet:
        print_end(report, plan.report, (), verbose=False)
    if report.failed_checks:
        raise MediaError(f"written, but not as it should be: {'; '.join(report.failed_checks)}")
    return 3 if options.strict and report.flagged else 0


def _lines(form: str) -> Callable[[int | None], None]:
    """Make the function that counts a frame and prints a line about once a second."""
    done, printed = 0, -_SECONDS

    def count(total: int | None) -> None:
        nonlocal done, printed
        done += 1
        now = time.monotonic()
        if now - printed >= _SECONDS and total:
            printed = now
            _line(form, 100.0 * min(done, total) / total, f"{done} of {total} frames")

    return count


def _line(form: str, percent: float, says: str = "done") -> None:
    if form == "openjd":
        say(f"openjd_progress: {percent:.1f}")
        say(f"openjd_status: {says}", flush=True)
    elif form == "json":
        print_line({"event": "progress", "percent": round(percent, 1)})
    else:
        say(f"progress: {percent:.0f}%", flush=True)
    sys.stdout.flush()
