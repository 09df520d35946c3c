"""Progress on a terminal, as plain lines or as JSON."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mam_video.cli.say import say

if TYPE_CHECKING:
    from mam_video.core.frames import Matted
    from mam_video.report.run import RunReport

    OnFrame = Callable[[Matted, RunReport], None]


_LINE_SECONDS = 1.0  # between two lines of --progress json
_TEXT_SECONDS = 10.0  # between two lines where the output is no terminal


@contextmanager
def show_progress(
    count: int | None, *, progress: str, quiet: bool
) -> Iterator[tuple[OnFrame | None, Callable[[], None] | None]]:
    """Show a bar with frames, speed, time left and flagged frames, or print lines, of JSON or where piped of text.

    Yields the functions to call after each matted frame and after each frame that is tracked ahead; None where quiet.
    """
    if progress == "json":
        yield _lines(count)
        return
    if quiet:
        yield None, None
        return
    if not sys.stdout.isatty():
        yield _text_lines(count)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("matting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[flagged]}"),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("matting", total=count, fps="", flagged="")
        flagged = seen = found = 0

        def shown(matted: Matted, report: RunReport) -> None:
            nonlocal flagged, seen
            flagged += sum(record.flagged for record in report.records[seen:])
            seen = len(report.records)
            recent = report.frame_seconds[-20:]
            speed = len(recent) / max(sum(recent), 1e-9)
            note = f"{flagged} flagged" if flagged else ""
            bar.update(task, completed=seen, fps=f"{speed:.2f} fps", flagged=note)

        def tracked() -> None:
            nonlocal found
            found += 1
            bar.update(task, fps=f"tracked ahead: {found}")

        yield shown, tracked


def _text_lines(count: int | None) -> tuple[OnFrame, Callable[[], None]]:
    """Make the functions that print a line for people about every 10 seconds, the first after 10."""
    flagged = seen = found = 0
    printed = time.monotonic()

    def due() -> bool:
        nonlocal printed
        now = time.monotonic()
        if now - printed < _TEXT_SECONDS:
            return False
        printed = now
        return True

    def shown(matted: Matted, report: RunReport) -> None:
        nonlocal flagged, seen
        flagged += sum(record.flagged for record in report.records[seen:])
        seen = len(report.records)
        if due():
            recent = report.frame_seconds[-20:]
            fps = len(recent) / max(sum(recent), 1e-9)
            of = f" of {count}" if count is not None else ""
            left = f", {_minutes((count - seen) / fps)} left" if count is not None and count > seen else ""
            flags = f", {flagged} flagged" if flagged else ""
            say(f"{seen}{of} frames, {fps:.2f} fps{left}{flags}", flush=True)

    def tracked() -> None:
        nonlocal found
        found += 1
        if due():
            say(f"tracked ahead: {found} frames", flush=True)

    return shown, tracked


def _minutes(seconds: float) -> str:
    whole = math.ceil(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def _lines(count: int | None) -> tuple[OnFrame, Callable[[], None]]:
    """Make the functions that print a line of JSON at the first frame and then about once a second."""
    states: Counter[str] = Counter()
    seen = found = 0
    printed = -math.inf

    def due() -> bool:
        nonlocal printed
        now = time.monotonic()
        if now - printed < _LINE_SECONDS:
            return False
        printed = now
        return True

    def shown(matted: Matted, report: RunReport) -> None:
        nonlocal seen, printed
        states.update(str(record.state) for record in report.records[seen:])
        if seen == 0 or len(report.records) == count:
            printed = -math.inf
        seen = len(report.records)
        if due():
            print_line(progress_line(report, matted.frame.index, count, states))

    def tracked() -> None:
        nonlocal found
        found += 1
        if due():
            print_line({"event": "progress", "tracked": found, "done": 0, "total": count})

    return shown, tracked


def progress_line(report: RunReport, frame: int, count: int | None, states: Mapping[str, int]) -> dict[str, Any]:
    """Describe the progress of a run; docs/report.md names the fields. `frame` is the index of the last one written."""
    recent = report.frame_seconds[-20:]
    fps = len(recent) / max(sum(recent), 1e-9)
    done = len(report.records)
    left = None if count is None else max(count - done, 0)
    return {
        "event": "progress",
        "frame": frame,
        "done": done,
        "total": count,
        "fps": round(fps, 3),
        "eta": None if left is None else round(left / fps, 1),
        "states": dict(states),
        "stages": {name: round(seconds, 2) for name, seconds in report.stage_seconds.items()},
    }


def end_line(report: RunReport) -> dict[str, Any]:
    """Describe a finished run; docs/report.md names the fields."""
    return {
        "event": "end",
        "done": len(report.records),
        "seconds": round(report.wall, 3),
        "fps": round(report.fps, 3),
        "states": report.states(),
        "outputs": [str(path) for path in report.outputs],
        "flagged": [found.as_dict() for found in report.flagged],
    }


def print_line(content: dict[str, Any]) -> None:
    say(json.dumps(content), flush=True)
