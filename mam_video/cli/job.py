"""`mam-video job`: write a shot as a job file for a render manager."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mam_video.cli.engine_options import add_chunk
from mam_video.cli.matte import MatteOptions, add_shot, check_options, check_shot_names, frames_of
from mam_video.cli.on_engine import shot_of
from mam_video.cli.options import add_debug
from mam_video.cli.parser import Parser
from mam_video.cli.prompts import entries_of
from mam_video.cli.say import say
from mam_video.core.errors import UsageError

_DESCRIPTION = """\
Write a shot as a job file: a render manager runs its tasks on many machines.

examples:
  mam-video job plate.mov --box 412,96,890,1010 -o matte.mov --for openjd > shot.yaml
  mam-video job plate.mov --box 412,96,890,1010 -o 'm.####.exr' --for slurm > shot.sh
"""


def configure(parser: Parser) -> None:
    """Add the options of `mam-video job`."""
    parser.usage = "mam-video job INPUT --box X0,Y0,X1,Y1 -o NAME --for openjd|slurm|opencue [options]"
    parser.description = _DESCRIPTION
    parser.set_defaults(run=_run, parser=parser, resume=False, dry_run=False, progress="bar", quiet=True, verbose=False)
    groups = add_shot(parser)
    job = groups["job"]
    job.add_argument(
        "--for",
        dest="manager",
        required=True,
        metavar="NAME",
        help="render manager: openjd (`openjd run`, AWS Deadline Cloud), slurm (a script of sbatch) or opencue (XML)",
    )
    add_chunk(job)
    job.add_argument(
        "--threads", type=int, default=4, metavar="N", help="threads, and so cores, of each task (default: 4)"
    )
    job.add_argument("--strict", action="store_true", help="the join exits with code 3 if frames were flagged")
    add_debug(job)


def _run(options: argparse.Namespace) -> int:
    from mam_video.farm.job_files import MANAGERS, job_file
    from mam_video.farm.plan import chunks_of
    from mam_video.farm.start import check_outputs
    from mam_video.farm.task import make_plan
    from mam_video.media import open_clip

    if options.manager not in MANAGERS:
        raise UsageError(f"--for must be one of {', '.join(MANAGERS)}, is '{options.manager}'")
    if options.threads < 1:
        raise UsageError(f"--threads must be 1 at least, is {options.threads}")
    job = MatteOptions.of(options)
    check_options(job)
    with open_clip(job.input, job.settings.input) as reader:
        frames = frames_of(job, reader.info)
        entries = entries_of(job.subject, reader, frames.start if frames is not None else 0, job.settings)
        check_shot_names(job, reader.info, frames, list(dict.fromkeys(each.subject for each in entries)))
        shot = shot_of(job, reader.info, frames, entries)
        plan = make_plan(shot, reader, workers=8, chunk=job.engine.chunk, threads=options.threads)
        check_outputs(plan, reader)
    chunks = len(chunks_of(plan.frames, plan.chunk))
    say(f"{Path(job.input).name}: {chunks} chunks of {plan.chunk} frames at most", file=sys.stderr)
    print(job_file(plan, options.manager, job.strict), end="")
    return 0
