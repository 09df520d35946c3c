"""Progress on a terminal, as plain lines or as JSON."""

from __future__ import annotations

import json
import math
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


@contextmanager
def show_progress(
    count: int | None, *, progress: str, quiet: bool
) -> Iterator[tuple[OnFrame | None, Callable[[], None] | None]]:
    """Show a bar with frames, speed, time left and flagged frames, or print lines of JSON.

    Yields the functions to call after each matted frame and after each frame that is tracked ahead; None where quiet.
    """
    if progress == "json":
        yield _lines(count), None
        return
    if quiet:
        yield None, None
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


def _lines(count: int | None) -> OnFrame:
    """Print a line of JSON at the first frame and then about once a second."""
    states: Counter[str] = Counter()
    seen = 0
    printed = -math.inf

    def shown(matted: Matted, report: RunReport) -> None:
        nonlocal seen, printed
        states.update(str(record.state) for record in report.records[seen:])
        seen = len(report.records)
        now = time.monotonic()
        if now - printed >= _LINE_SECONDS:
            printed = now
            print_line(progress_line(report, matted.frame.index, count, states))

    return shown


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
