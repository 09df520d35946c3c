"""`mam-video batch`: a list of shots, run on one engine."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mam_video.cli.engine_options import EngineOptions, add_engine
from mam_video.cli.matte import MatteOptions, add_shot, add_talk, check_options, check_shot_names, frames_of
from mam_video.cli.on_engine import shot_of, show_jobs
from mam_video.cli.parser import Parser
from mam_video.cli.progress import print_line
from mam_video.cli.prompts import entries_of
from mam_video.cli.say import say
from mam_video.core.errors import UsageError
from mam_video.core.tables import check_keys, read_toml

if TYPE_CHECKING:
    from mam_video.farm.batch import BatchShot
    from mam_video.farm.task import Shot
    from mam_video.report.batch_page import ShotRow

_NAME = re.compile(r"\w[\w .-]{0,63}")
_VERSION = 1
_DESCRIPTION = """\
Matte a list of shots on one engine. What fails does not stop the others.

example:
  mam-video batch shots.toml --workers 2
"""
_EPILOG = """\
a list of shots (TOML), a line each; keys are the options of `mam-video matte`:
  version = 1
  defaults = { model = "lite", smooth = 0.7 }
  shot = [
    { name = "sh010", input = "sh010.mov", box = "412,96,890,1010", output = "out/sh010.mov" },
    { name = "sh020", input = "sh020.####.exr", range = "1001-1100", point = ["640,400", "100,80,0"],
      output = ["out/sh020.####.exr", "out/sh020.mp4"] },
  ]
Paths count from the current folder. A second call does what is missing.

exit codes: 0 done, 1 a shot failed, 2 wrong usage, 3 a shot has flagged frames, 130 stopped by Ctrl-C
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video batch`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.set_defaults(run=_run)
    parser.add_argument("list", metavar="SHOTS.toml", help="the list of shots")
    add_engine(parser, default="local")
    parser.add_argument(
        "--report",
        default="report",
        metavar="DIR",
        help="folder of index.html and of each shot's report",
    )
    add_talk(parser, verbose=False)


def _run(options: argparse.Namespace) -> int:
    from mam_video.farm.batch import Batch, exit_code
    from mam_video.farm.engine import check_engine, default_workers, open_engine, share_of_cores
    from mam_video.report.batch_page import INDEX, totals

    engine_options = EngineOptions.of(options)
    name = engine_options.name or "local"
    check_engine(name)
    shots = read_shots(options.list)
    folder = Path(options.report)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--report {folder}: cannot be made ({error.strerror or error})") from None
    workers = default_workers(engine_options.workers)
    threads = engine_options.threads or share_of_cores(workers)
    batch = Batch(shots, folder, workers=workers, threads=threads, chunk=engine_options.chunk)
    talks = not options.quiet and options.progress == "bar"
    try:
        with (
            closing(open_engine(name, workers, threads=threads)) as engine,
            show_jobs(options.progress, quiet=options.quiet) as shown,
        ):
            rows = batch.run(engine, on_row=None if options.quiet else _teller(options), on_progress=shown)
    except KeyboardInterrupt:
        done = totals(batch.rows)
        raise KeyboardInterrupt(f"interrupted; all workers were stopped; {done}; the same command goes on") from None
    if talks:
        for line in _table(rows):
            say(line)
        say(f"{totals(rows)}; report: {folder / INDEX}")
    elif options.progress == "json":
        print_line({"event": "end", "shots": {row.name: row.state for row in rows}})
    return exit_code(rows)


def _teller(options: argparse.Namespace) -> Callable[[ShotRow], None]:
    """Make the function that says what came of a shot."""

    def tell(row: ShotRow) -> None:
        if options.progress == "json":
            print_line(
                {"event": "shot", "shot": row.name, "state": row.state, "frames": row.frames, "flagged": row.flagged}
            )
        elif not sys.stdout.isatty() or row.state == "failed":
            say(f"{row.name}: {row.state}{f' ({row.says})' if row.says else ''}", flush=True)

    return tell


def _table(rows: list[ShotRow]) -> list[str]:
    """Lay the rows out as lines of text."""
    wide = max([len("shot"), *(len(row.name) for row in rows)])
    lines = [f"{'shot':{wide}}  frames  flagged  seconds  state"]
    for row in rows:
        frames = "" if row.frames is None else str(row.frames)
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        lines.append(f"{row.name:{wide}}  {frames:>6}  {row.flagged:>7}  {seconds:>7}  {row.state}")
    return lines


def read_shots(path: str) -> list[BatchShot]:
    """Read a list of shots. Options are checked when a shot's turn comes.

    Raises: UsageError, it is no list, or names are missing, unsafe or given twice.
    """
    from mam_video.farm.batch import BatchShot

    content = read_toml(Path(path), path, "shots")
    check_keys(path, content, ("version", "defaults", "shot"))
    if content.get("version") != _VERSION:
        raise UsageError(f"{path}: begin it with version = {_VERSION}; it has {content.get('version')!r}")
    tables, defaults = content.get("shot", []), content.get("defaults", {})
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: has no shot; write shot = [ {{ name = ..., input = ..., output = ... }} ]")
    if not isinstance(defaults, dict):
        raise UsageError(f"{path}: 'defaults' is a table of options")
    shots, seen = [], set[str]()
    for k, table in enumerate(tables, 1):
        name = table.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(f"{path}: shot {k}: needs a name of letters, digits, spaces, dots, _ and -, is {name!r}")
        if name.lower() in seen:
            raise UsageError(f"{path}: shot {k}: the name {name} is given twice")
        seen.add(name.lower())
        shots.append(BatchShot(name, _reader_of(f"{path}: {name}", {**defaults, **table})))
    return shots


def _reader_of(where: str, table: dict[str, Any]) -> Callable[[], Shot]:
    """Make the function that reads a shot when its turn comes."""

    def read() -> Shot:
        from mam_video.media import open_clip

        try:
            job = MatteOptions.of(_parsed(table))
            check_options(job)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
        with open_clip(job.input, job.settings.input) as reader:
            frames = frames_of(job, reader.info)
            entries = entries_of(job.subject, reader, frames.start if frames is not None else 0, job.settings)
            check_shot_names(job, reader.info, frames, list(dict.fromkeys(each.subject for each in entries)))
            return shot_of(job, reader.info, frames, entries)

    return read


def _parsed(table: dict[str, Any]) -> argparse.Namespace:
    """Parse the keys of a shot as the options of `mam-video matte`."""
    parser = Parser(prog="mam-video matte")
    parser.set_defaults(
        parser=parser, resume=False, dry_run=False, strict=False, progress="bar", quiet=True, verbose=False
    )
    add_shot(parser)
    arguments = [str(table["input"])] if "input" in table else []
    for key, value in table.items():
        if key in ("name", "input"):
            continue
        option = f"--{key.replace('_', '-')}"
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, bool):
                arguments += [option] if each else []
            else:
                arguments.append(f"{option}={each}")
    options, extras = parser.parse_known_args(arguments)
    if extras:
        parser.refuse(extras)
    options.given = ["matte", *arguments]
    return options
