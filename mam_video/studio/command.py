"""The command line that does in a terminal what a run of a shot does."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mam_video.media import ClipInfo, parse_output
from mam_video.media.atomic_output import SUBJECT
from mam_video.studio.state import Output, State
from mam_video.studio.versions import Version

PROGRAM: Final = "mam-video"


def run_span(state: State, count: int) -> tuple[int, int]:
    """Return the first and last frame of a run, both inclusive."""
    return state.span or (0, max(count - 1, 0))


def default_stem(clip: Path) -> str:
    """Return what outputs of a clip are called: its name without its ending and frame numbers."""
    name = clip.name.partition("%")[0].partition("#")[0]
    stem = name if name != clip.name else clip.stem if clip.suffix else clip.name
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in stem).strip("._-") or "clip"


def default_outputs(clip: Path, subjects: Sequence[str]) -> tuple[Output, ...]:
    """Return the output of a run where none is chosen: ProRes 4444 beside the clip."""
    own = f".{SUBJECT}" if len(subjects) > 1 else ""
    return (Output(f"{default_stem(clip)}{own}.matte.mov", "prores", 0),)


def command_of(
    clip: str,
    folder: Path,
    info: ClipInfo,
    state: State,
    outputs: Sequence[Output],
    places: Sequence[Path],
    version: Version | None,
) -> list[str]:
    """Return the arguments, program first. With a `version` its tracks are followed, else the prompts are tracked.

    Paths are absolute, so that the command does the same from any folder.
    """
    where = ["--track", version.track] if version is not None else ["--prompts", str(folder / "prompts.toml")]
    first = 0 if state.span is None else state.span[0]
    if version is None and any(frames[0] > first for frames in state.prompted.values()):
        where.append("--backward")
    command = [PROGRAM, "matte", str(Path(clip).absolute()), *where, "--config", str(folder / "settings.toml")]
    if state.span is not None:
        a, b = (info.frame_number(k) for k in state.span)
        command += ["--range", f"{a}-{b}"]
    for output in outputs:
        command += ["-o", f"{places[output.place] / output.name}:{output.kind}"]
    if all(parse_output(f"{o.name}:{o.kind}")[1].resumable for o in outputs):
        command.append("--resume")
    return [*command, "--report", str(folder / "report")]


def command_text(command: Sequence[str]) -> str:
    """Return the command as one types it in a shell of this system."""
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)
