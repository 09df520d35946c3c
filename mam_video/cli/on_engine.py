"""`mam-video matte --engine`: the run that is shared out to workers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mam_video.cli.matte_lines import print_end, print_start
from mam_video.cli.progress import end_line, print_line
from mam_video.cli.rerun import rerun_of
from mam_video.cli.say import say
from mam_video.core.errors import MediaError, UsageError

if TYPE_CHECKING:
    from mam_video.cli.matte import MatteOptions
    from mam_video.core.ranges import FrameRange
    from mam_video.farm.folder import JobFolder
    from mam_video.farm.scheduler import JobRun, Progress
    from mam_video.farm.task import Shot
    from mam_video.media import ClipInfo, Reader
    from mam_video.prompts.parse import PromptEntry

_LINE_SECONDS = 1.0  # between two lines of --progress json
_TEXT_SECONDS = 10.0  # between two lines where the output is no terminal


def shot_of(job: MatteOptions, info: ClipInfo, frames: FrameRange | None, entries: list[PromptEntry]) -> Shot:
    """Return what the user asks for, as the farm takes it."""
    from mam_video.farm.task import Shot
    from mam_video.prompts.parse import by_subject

    given = {name.removeprefix("--"): path for name, path in job.subject.files.items() if path is not None}
    return Shot(
        source=job.input,
        outputs=job.outputs,
        prompts=tuple(by_subject(entries).values()) if entries else (),
        settings=job.settings,
        part=frames,
        backward=job.backward,
        files={name: given[name] for name in ("track", "masks", "trimaps", "include", "exclude") if name in given},
        save_track=job.save_track,
        report=job.report,
        command=job.command,
        rerun=rerun_of(job.command, job.parser, job.subject, entries, info),
    )


def matte_on_engine(
    job: MatteOptions, reader: Reader, frames: FrameRange | None, entries: list[PromptEntry], count: int | None
) -> int:
    """Matte an opened clip on an engine; print what came of it. Return the exit code."""
    from mam_video.farm.engine import default_workers, open_engine, share_of_cores
    from mam_video.prompts.parse import by_subject

    started = time.perf_counter()
    prompts = list(by_subject(entries).values()) if entries else []
    name, device = job.engine.name or "local", job.settings.model.device
    workers = default_workers(job.engine.workers, device)
    threads = job.engine.threads or share_of_cores(workers)
    with closing(open_engine(name, workers, device, threads, tasks=_least_chunks(job, count, workers))) as engine:
        from mam_video.farm.scheduler import JobRun, run_jobs  # workers start meanwhile
        from mam_video.farm.start import start_job
        from mam_video.farm.task import draft_plan

        shot = shot_of(job, reader.info, frames, entries)
        draft = draft_plan(shot, reader, workers=workers, chunk=job.engine.chunk, threads=threads)
        plan = engine.fingerprint(draft)
        folder = start_job(plan, reader, resume=job.resume)
        printed: list[str] = []
        if job.talks:
            printed = print_start(job, reader.info, plan.frames.start, count, prompts)
            say(f"engine {name}: {len(plan.chunks)} chunks on {workers} worker{'s' if workers > 1 else ''}")
            if job.resume:
                left = sum((each.stop or 0) - each.start for each in folder.missing)
                say(f"resuming: {(plan.frames.count(None) or 0) - left} frames are done")
        run = JobRun(folder)
        with (
            _tell_how_to_go_on(folder),
            closing(engine),  # workers end before the folder is looked at
            show_jobs(job.progress, quiet=job.quiet) as shown,
        ):
            run_jobs([run], engine, on_progress=shown)
    if run.joined is None:
        raise run.failure() if run.error else UsageError(f"{folder.main}: this job was joined already")
    folder.discard()
    return _end(job, run, printed, time.perf_counter() - started)


def _least_chunks(job: MatteOptions, count: int | None, workers: int) -> int:
    """Return how many chunks the shot will have, where that is known; else 1."""
    from mam_video.farm.plan import aligned, default_chunk

    return 1 if count is None else -(-count // aligned(job.engine.chunk or default_chunk(count, workers)))


def _end(job: MatteOptions, run: JobRun, printed: list[str], seconds: float) -> int:
    """Print and save what came of a job; return the exit code."""
    from mam_video.report.page import save_report

    assert run.joined is not None
    report = run.joined.report
    report.wall = seconds
    report.notes += run.again
    if job.report:
        save_report(report, run.joined.thumbnails, Path(job.report))
    if job.talks:
        print_end(report, job.report, printed, verbose=job.verbose)
    elif job.progress == "json":
        print_line({**end_line(report), "again": run.again})
    if report.failed_checks:
        raise MediaError(f"written, but not as it should be: {'; '.join(report.failed_checks)}")
    return 3 if job.strict and report.flagged else 0


@contextmanager
def _tell_how_to_go_on(folder: JobFolder) -> Iterator[None]:
    """Give an interrupt a message that says how to go on; leave no folder where nothing is done."""
    try:
        yield
    except BaseException as error:
        done = (folder.plan.frames.count(None) or 0) - sum((e.stop or 0) - e.start for e in folder.missing)
        if not done and folder.tracked is None:
            folder.discard()
        if not isinstance(error, KeyboardInterrupt):
            raise
        more = "; the same command with --resume goes on" if done or folder.tracked is not None else ""
        raise KeyboardInterrupt(f"interrupted; all workers were stopped; frames done: {done}{more}") from None


@contextmanager
def show_jobs(progress: str, *, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Show one bar for all workers, or print lines, of JSON or where piped of text."""
    if progress == "json":
        yield _json_lines()
    elif quiet:
        yield None
    elif not sys.stdout.isatty():
        yield _text_lines()
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[more]}"),
        )  # fmt: skip
        with Bar(*columns, transient=True) as bar:
            task = bar.add_task("tracking", total=None, more="")

            def shown(now: Progress) -> None:
                tracking = now.tracked < now.total
                bar.update(
                    task, description="tracking" if tracking else "matting", total=now.total,
                    completed=now.tracked if tracking else now.matted,
                    more=f"{now.running} at work" + (f", {now.again} done again" if now.again else ""),
                )  # fmt: skip

            yield shown


def _json_lines() -> Callable[[Progress], None]:
    printed = -_LINE_SECONDS

    def shown(now: Progress) -> None:
        nonlocal printed
        if time.monotonic() - printed >= _LINE_SECONDS:
            printed = time.monotonic()
            print_line(
                {
                    "event": "progress", "tracked": now.tracked, "done": now.matted, "total": now.total,
                    "running": now.running, "again": now.again,
                }
            )  # fmt: skip

    return shown


def _text_lines() -> Callable[[Progress], None]:
    printed = time.monotonic()

    def shown(now: Progress) -> None:
        nonlocal printed
        if time.monotonic() - printed >= _TEXT_SECONDS:
            printed = time.monotonic()
            again = f", {now.again} done again" if now.again else ""
            stage = f"{now.matted} of {now.total} frames" if now.tracked >= now.total else f"tracked {now.tracked}"
            say(f"{stage}, {now.running} at work{again}", flush=True)

    return shown
