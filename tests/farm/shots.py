"""Small shots for the tests of farms: a disc that moves, its job, and what one run makes of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mam_video.core.geometry import Box
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings
from mam_video.farm.plan import JobPlan
from mam_video.farm.task import Shot, make_plan
from mam_video.jobs.matte_clip import matte_clip
from mam_video.media import open_clip
from mam_video.prompts.prompt import Prompt, Prompts
from tests.clips import planes_of
from tests.jobs.test_checkpoint import sound_of, with_label_and_sound

COUNT = 24  # frames of the plate
PROMPTS = (Prompts.of({0: Prompt(Box(26, 26, 70, 70), placed=True)}),)


def two(first: int = 0) -> tuple[Prompts, ...]:
    """Two subjects that share the disc, prompted on frame `first`."""
    return (
        Prompts.of({first: Prompt(Box(26, 26, 70, 70), placed=True)}, "dancer"),
        Prompts.of({first: Prompt(Box(20, 26, 50, 70), placed=True)}, "drummer"),
    )


def settings_of(**values: dict[str, object]) -> Settings:
    """Settings of the model that needs no weights, with smoothing."""
    own: dict[str, Any] = {"model": {"name": "fake-colour", "batch": 4}, "smooth": {"strength": 0.7, "radius": 2}}
    return Settings().with_values({**own, **values}, "test")


def plate_in(folder: Path) -> Path:
    """A movie with a timecode and sound."""
    return with_label_and_sound(folder / "plate.mov", "01:00:00:00")


def plan_of(
    plate: Path,
    outputs: list[str],
    *,
    prompts: tuple[Prompts, ...] = PROMPTS,
    part: FrameRange | None = None,
    settings: Settings | None = None,
    chunk: int = 8,
    **more: Any,
) -> JobPlan:
    """The plan of a job over `plate`, one thread a task."""
    shot = Shot(
        source=str(plate), outputs=tuple(outputs), prompts=prompts, settings=settings or settings_of(), part=part,
        backward=more.pop("backward", False), files=more.pop("files", {}), save_track=more.pop("save_track", None),
        report=more.pop("report", None),
    )  # fmt: skip
    with open_clip(plate) as reader:
        return make_plan(shot, reader, workers=2, chunk=chunk, threads=1, **more)


def single_run(plate: Path, outputs: list[str], **more: Any) -> None:
    """What one run makes of the same shot."""
    several = more.pop("prompts", PROMPTS)
    matte_clip(plate, outputs, list(several), more.pop("settings", None) or settings_of(), **more)


def contents(folder: Path) -> dict[str, Any]:
    """All that a folder's files hold, by name: bytes of pictures; of movies times, planes, timecode and sound."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        name = str(path.relative_to(folder))
        if path.suffix in (".mov", ".mkv", ".mp4", ".webm"):
            frames = [(*each[:3], [plane.tobytes() for plane in each[3]]) for each in planes_of(path)]
            info = open_clip(path).info
            found[name] = (frames, str(info.timecode), info.rate, sound_of(path))
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
