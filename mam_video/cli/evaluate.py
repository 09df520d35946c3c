"""`mam-video evaluate`: score mattes against ground truth and print a table."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TextIO

from mam_video.cli.options import add_debug
from mam_video.cli.say import say
from mam_video.core.errors import UsageError
from mam_video.core.untrusted import printable

if TYPE_CHECKING:
    from rich.table import Table

    from mam_video.jobs.evaluate import Evaluation, InstanceEvaluation

_STDOUT = Path("-")  # as a file's name: standard output
_WIDTH = 240  # of a table at most: a terminal may wrap it, but no name is cut off

_DESCRIPTION = """\
Score mattes against ground truth: movies, sequences, folders of pictures or folders of clips.

examples:
  mam-video evaluate matte.mov truth/ --plot error.png
  mam-video evaluate 'frames/matte.####.png' truth.mov --json scores.json
  mam-video evaluate masks/ DAVIS/Annotations --masks --skip-ends
  mam-video evaluate mattes/ AM-2K/validation/mask --stills
  mam-video evaluate mattes/ HIM2K/alphas/natural --instances
"""
_EPILOG = """\
An alpha is a file's alpha channel where it has one, else its grey value. Pictures are paired by name, or where no name
is the same by the number it ends with; a movie's frames by their order; the clips of two folders by name.

units: SAD, Grad and Conn are sums / 1000; MSE and MAD means x 1000; dtSSD x 100; J and F in 0..1. The mean over several
clips counts each clip once.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video evaluate`."""
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.set_defaults(run=run)
    parser.add_argument("prediction", metavar="PRED", help="a movie, name.####.png, a folder of pictures, or of clips")
    parser.add_argument("truth", metavar="TRUE", help="the ground truth, in the same form")
    parser.add_argument(
        "--metrics", metavar="NAMES", help="some of sad, mse, mad, grad, conn, dtssd, j, f, with commas (default: all "
        "that apply)",
    )  # fmt: skip
    parser.add_argument("--masks", action="store_true", help="compare masks: region J and boundary F")
    parser.add_argument(
        "--above", type=float, default=0.5, metavar="A", help="values above this belong to a mask (default: 0.5)"
    )
    parser.add_argument("--skip-ends", action="store_true", help="leave out each clip's first and last frame, as DAVIS")
    parser.add_argument(
        "--stills", action="store_true", help="the pictures are not frames of a clip: any sizes, no dtSSD"
    )
    parser.add_argument(
        "--instances", action="store_true", help="each picture has a folder of alphas, one for each subject: IMQ"
    )
    parser.add_argument("--stretch-grad", action="store_true", help="Grad as in VideoMatte's 512x288 sheet")
    parser.add_argument("--partial", action="store_true", help="score the frames that PRED has; TRUE may have more")
    parser.add_argument(
        "--worst", type=int, default=5, metavar="N", help="how many of the worst frames to name (default: 5)"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every number as JSON; - prints it")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="draw the metrics over time")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    add_debug(parser)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions:
    """What `evaluate` is to do; the fields are its options. `metrics` is () where none are named."""

    prediction: str
    truth: str
    metrics: tuple[str, ...]
    masks: bool
    above: float
    skip_ends: bool
    stills: bool
    instances: bool
    stretch_grad: bool
    partial: bool
    worst: int
    json: Path | None
    plot: Path | None
    quiet: bool

    @classmethod
    def of(cls, options: argparse.Namespace) -> EvaluateOptions:
        """From the command line. Raises: UsageError."""
        values = {each.name: getattr(options, each.name) for each in fields(cls)}
        names = tuple(name.strip() for name in options.metrics.split(",")) if options.metrics else ()
        found = cls(**{**values, "metrics": names})
        if found.plot == _STDOUT:
            raise UsageError("--plot -: a picture is not printed; give a file")
        for path in (found.json, found.plot):
            if path is not None and path != _STDOUT and not path.resolve().parent.is_dir():
                raise UsageError(f"{path}: the folder {path.resolve().parent} does not exist")
        found.check_names()
        if found.instances and (found.plot or found.masks or found.stills):
            raise UsageError(
                "--instances compares pictures of several subjects: no --plot, --masks or --stills with it"
            )
        return found

    def check_names(self) -> None:
        """Raises: UsageError, an output would overwrite an input or the other output."""
        from mam_video.media.alphas import MOVIE_SUFFIXES
        from mam_video.media.name_guard import NameGuard
        from mam_video.media.still_images import SUFFIXES

        guard = NameGuard()
        for what, name in (("PRED", self.prediction), ("TRUE", self.truth)):
            guard.reads(what, name, below=(*SUFFIXES, *MOVIE_SUFFIXES))
        for option, path in (("--json", self.json), ("--plot", self.plot)):
            if path is not None and path != _STDOUT:
                guard.writes(option, path)


def run(options: argparse.Namespace) -> int:
    job = EvaluateOptions.of(options)
    return _evaluate_instances(job) if job.instances else _evaluate(job)


def _evaluate(job: EvaluateOptions) -> int:
    from mam_video.jobs.evaluate import Judging, evaluate
    from mam_video.media.alphas import find_alphas, looks_like_plate
    from mam_video.report.plot import need_plot

    if job.plot:
        need_plot()
    clip = next(iter(find_alphas(job.truth).values()))
    if looks_like_plate(clip):
        say(
            f"note: {clip.path} is in colour and has no alpha: is it a plate? its grey values are used", file=sys.stderr
        )
    judging = Judging(
        metrics=job.metrics, masks=job.masks, stills=job.stills, stretch_grad=job.stretch_grad,
        above=job.above, skip_ends=job.skip_ends, partial=job.partial,
    )  # fmt: skip
    with _progress(job.quiet) as progress:
        found = evaluate(job.prediction, job.truth, judging, progress)
    if job.json == _STDOUT:
        _print_json(found)
    else:
        print_evaluation(found, job.worst)
        if job.json:
            found.save(job.json)
    if job.plot:
        beside = sys.stderr if job.json == _STDOUT else None
        _draw(found, job.plot, job.worst, f"{job.prediction} against {job.truth}", beside)
    return 0


def _evaluate_instances(job: EvaluateOptions) -> int:
    from mam_video.jobs.evaluate import evaluate_instances
    from mam_video.metrics.instances import METRICS

    unknown = [name for name in job.metrics if name not in METRICS]
    if unknown:
        raise UsageError(f"--instances has no metric '{unknown[0]}'; choose from {', '.join(METRICS)}")
    with _progress(job.quiet) as progress:
        quality = evaluate_instances(
            job.prediction, job.truth, metrics=job.metrics or METRICS, partial=job.partial, on_frame=progress
        )
    if job.json == _STDOUT:
        _print_json(quality)
        return 0
    print_instances(quality, job.worst)
    if job.json:
        quality.save(job.json)
    return 0


def _print_json(found: Evaluation | InstanceEvaluation) -> None:
    """Print what `--json FILE` writes, and nothing else."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "scores.json"
        found.save(file)
        print(file.read_text(encoding="utf-8").rstrip("\n"))


def print_evaluation(found: Evaluation, worst: int = 5) -> None:
    """The clips' means, the mean over all, and the worst frames, as a table on standard output."""
    from mam_video.metrics import METRICS

    labels = [METRICS[name].label for name in found.metrics]
    table = _table("", "frames", *labels)
    for clip in found.clips if len(found.clips) > 1 else ():
        table.add_row(_cell(clip.name), str(len(clip.frames)), *_numbers(clip.mean()))
    table.add_row("mean", str(sum(len(clip.frames) for clip in found.clips)), *_numbers(found.mean()))
    bad = found.worst(worst)
    if bad:
        table.add_section()
        table.add_row(f"worst by {METRICS[found.judge].label.split()[0]}")
    for clip_name, frame, values in bad:
        table.add_row(_cell(f"{clip_name}/{frame}".lstrip("/")), "", *_numbers(values))
    _show(table)


def print_instances(found: InstanceEvaluation, worst: int = 5) -> None:
    """IMQ, MQ and RQ times 100 by metric, and the worst pictures, as tables on standard output."""
    quality = found.quality
    table = _table("x100", *quality.imq)
    table.add_row("IMQ", *_numbers({n: 100 * v for n, v in quality.imq.items()}))
    table.add_row("MQ", *_numbers({n: 100 * v for n, v in quality.mq.items()}))
    table.add_row("RQ", *_numbers(dict.fromkeys(quality.imq, 100 * quality.rq)))
    table.add_section()
    table.add_row(f"worst by IMQ {next(iter(quality.imq))}")
    for name, value in found.worst(worst):
        table.add_row(_cell(name), f"{100 * value:.4g}")
    _show(table)
    counts = [sum(getattr(m, n) for m in found.pictures.values()) for n in
              ("true_positives", "false_positives", "false_negatives")]  # fmt: skip
    say(f"{len(found.pictures)} pictures: {counts[0]} subjects found, {counts[1]} false, {counts[2]} missed", end="")
    say(f"; nothing was predicted for {len(found.absent)} of them" if found.absent else "")


def _draw(found: Evaluation, path: Path, worst: int, title: str, file: TextIO | None) -> None:
    """Draw the scores; `file` gets the line that says so."""
    from mam_video.metrics import METRICS
    from mam_video.report.plot import draw_scores

    places = {clip.name: {frame: i for i, frame in enumerate(clip.frames)} for clip in found.clips}
    draw_scores(
        path,
        {clip.name: clip.values for clip in found.clips},
        {name: METRICS[name].label for name in found.metrics},
        [(clip, places[clip][frame]) for clip, frame, _ in found.worst(worst)],
        title,
    )
    say(f"wrote {path}", file=file)


def _table(first: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cell(name: str) -> str:
    """Escape a name for rich, which prints it with its brackets."""
    from rich.markup import escape

    return escape(printable(name))


def _show(table: Table) -> None:
    from rich.console import Console

    Console(highlight=False, width=_WIDTH).print(table)


def _numbers(values: dict[str, float]) -> list[str]:
    return ["-" if math.isnan(value) else f"{value:.3f}" for value in values.values()]


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, str], None] | None]:
    """Show how many frames are done; yields None where quiet, or where standard error is no terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    columns = (SpinnerColumn(), TextColumn("{task.completed} frames {task.fields[at]}"), TimeElapsedColumn())
    with Progress(*columns, transient=True, console=console) as bar:
        task = bar.add_task("", total=None, at="")

        def show(clip: str, frame: str) -> None:
            bar.update(task, advance=1, at=_cell(f"{clip}/{frame}".strip("/")))

        yield show
