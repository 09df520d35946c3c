"""What `mam-video matte` says to people: before a run what it takes, afterwards what came of it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from mam_video.cli.say import say
from mam_video.core.units import readable

if TYPE_CHECKING:
    from mam_video.cli.matte import MatteOptions
    from mam_video.media import ClipInfo
    from mam_video.prompts.prompt import Prompts
    from mam_video.report.run import RunReport

_SHOWN_RANGES = 8
_SHOWN_PROMPTS = 8


def print_start(job: MatteOptions, info: ClipInfo, first: int, count: int | None, prompts: list[Prompts]) -> list[str]:
    """Print what is assumed of the clip and what the run will take; returns the notes that were printed."""
    from mam_video.media import expected_bytes, notes
    from mam_video.media.atomic_output import SUBJECT

    printed = notes(list(job.outputs), info, job.settings.output.audio)
    for note in printed:
        say(f"note: {note}")
    sizes = [
        size and size * (len(prompts) or 1 if SUBJECT in output else 1)
        for output in job.outputs
        for size in [expected_bytes(output, info, count)]
    ]
    say(_announcement(info, first, count, sizes))
    for line in _prompt_lines(info, prompts):
        say(line)
    if job.subject.track and SUBJECT in job.subject.track:
        from mam_video.jobs.saved_tracks import tracks_by_subject

        say(f"tracks: {', '.join(map(str, tracks_by_subject(job.subject.track).values()))}")
    return printed


def _prompt_lines(info: ClipInfo, prompts: list[Prompts]) -> list[str]:
    """Describe the prompts in pixels, a line each; of many the first."""
    lines = []
    for each in prompts:
        whose = f"{each.subject} " if len(prompts) > 1 else ""
        for index, prompt in each.entries:
            what = f"mask within {prompt}" if prompt.mask is not None else str(prompt)
            lines.append(f"prompt: {whose}frame {info.frame_number(index)}: {what}")
    more = len(lines) - _SHOWN_PROMPTS
    return lines if more <= 0 else [*lines[:_SHOWN_PROMPTS], f"and {more} more prompts"]


def _announcement(info: ClipInfo, first: int, count: int | None, sizes: list[int | None]) -> str:
    """Describe the run from frame `first` on, in one line."""
    frames = f"{count} frame{'' if count == 1 else 's'}" if count is not None else "an unknown number of frames"
    known = [size for size in sizes if size is not None]
    disk = f"; expect about {readable(sum(known))} on disk" if known else ""
    start = f", from {info.timecode + first}" if info.timecode else ""
    return f"{info.path.name}: {info.width}x{info.height}, {float(info.rate):.6g} fps, {frames}{start}{disk}"


def print_end(report: RunReport, folder: str | None, printed: Collection[str], *, verbose: bool) -> None:
    """Print what came of a run; `folder` is that of its report, `printed` are the notes before the run."""
    for line in report.results():
        say(f"wrote {line}")
    say(f"done: {report.summary()}" + (f"; report: {Path(folder) / 'report.html'}" if folder else ""))
    if verbose:
        say(report.timings())
        for path, checks in report.checks.items():
            say(f"read back {path}: {'; '.join(map(str, checks))}")
    for note in report.notes:
        if note not in printed and note not in report.clip.notes:
            say(f"note: {note}")
    flagged = report.flagged
    if not flagged:
        say("no frame was flagged")
        return
    say("please check these frames:")
    for found in flagged[:_SHOWN_RANGES]:
        say(f"  {found.message(report.clip.numbers, report.clip.timecode)}")
    if len(flagged) > _SHOWN_RANGES:
        hint = f"; all of them are in {folder}" if folder else "; --report DIR lists them all"
        say(f"  and {len(flagged) - _SHOWN_RANGES} more{hint}")
