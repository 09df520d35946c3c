"""`mam-video matte --dry-run`: what a run would read, assume and write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mam_video.core.ranges import FrameRange

if TYPE_CHECKING:
    from mam_video.cli.matte import MatteOptions
    from mam_video.media import ClipInfo
    from mam_video.prompts.prompt import Prompts


def plan_lines(
    job: MatteOptions, info: ClipInfo, frames: FrameRange | None, count: int | None, prompts: list[Prompts]
) -> Iterator[str]:
    """What a run would do, a line each; names and prompts have been checked before."""
    from mam_video.media import notes

    part = frames or FrameRange()
    length = "an unknown number of frames" if count is None else f"{count} frame{'' if count == 1 else 's'}"
    first = info.frame_number(part.start)
    last = f"-{info.frame_number(part.start + count - 1)}" if count else ""
    yield f"read: {job.input}, {info.width}x{info.height}, {float(info.rate):.6g} fps, {length} ({first}{last})"
    for option, name in job.subject.files.items():
        if name is not None:
            yield f"read: {name} ({option})"
    for each in prompts:
        for index, prompt in each.entries:
            yield f"prompt: {each.subject} on frame {info.frame_number(index)}: {prompt or 'a mask'}"
    settings = job.settings
    yield f"model: {settings.model.name} on {settings.model.device}"
    for note in notes(list(job.outputs), info, settings.output.audio):
        yield f"assumed: {note}"
    yield from _written(job, info, count, [each.subject for each in prompts])
    yield "nothing was written (--dry-run)"


def _written(job: MatteOptions, info: ClipInfo, count: int | None, subjects: list[str]) -> Iterator[str]:
    """Each output by its final name, with its kind and about its size; then the other files."""
    from mam_video.core.units import readable
    from mam_video.media import expected_bytes, parse_output
    from mam_video.media.atomic_output import of_subjects
    from mam_video.media.formats import pattern_of

    for template in job.outputs:
        for output in of_subjects(template, subjects).values() if subjects else [template]:
            name, kind = parse_output(output)
            shown = str(pattern_of(name, kind, info).path) if kind.writer == "sequence" else name
            size = expected_bytes(output, info, count)
            about = "" if size is None else f", about {readable(size)}"
            yield f"write: {shown} ({kind.says}{about})"
    if job.save_track:
        for name in of_subjects(job.save_track, subjects).values() if subjects else [job.save_track]:
            yield f"write: {name} (the track)"
    if job.report:
        yield f"write: {job.report}/run.json and report.html (the report)"
