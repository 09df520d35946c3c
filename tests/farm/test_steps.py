"""Steps of a job, run in any order, make what one run makes, byte for byte."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mam_video.core.geometry import Box
from mam_video.core.ranges import FrameRange
from mam_video.farm.folder import JobFolder
from mam_video.farm.plan import JobPlan
from mam_video.farm.steps import Joined
from mam_video.farm.task import JOIN, MATTE, TRACK, Task, outputs_of, run_task
from mam_video.jobs.matte_clip import matte_clip
from mam_video.media import open_clip
from mam_video.prompts.prompt import Prompt, Prompts
from mam_video.report.thumbnails import Thumbnails
from mam_video.runtime import cores
from tests.farm.shots import PROMPTS, contents, plan_of, plate_in, settings_of, single_run, two
from tests.synthetic import disc


def run_steps(plan: JobPlan, order: int = 0) -> Joined:
    """Run every task of a job, its chunks in an order of their own."""
    if plan.tracks:
        run_task(plan, Task(TRACK))
    chunks = list(plan.chunks)
    random.Random(order).shuffle(chunks)
    for chunk in chunks:
        run_task(plan, Task(MATTE, chunk))
    joined = run_task(plan, Task(JOIN))
    assert joined is not None
    return joined


@pytest.mark.parametrize("part", [None, FrameRange(3, 21)])
def test_two_subjects_of_every_kind_equal_one_run(tmp_path: Path, part: FrameRange | None) -> None:
    plate = plate_in(tmp_path)
    first = 0 if part is None else part.start
    names = ["{subject}.%04d.exr", "both.mov", "a.mkv:alpha", "look.mp4", "f/", "web.webp"]
    for folder in ("one", "many"):
        (tmp_path / folder).mkdir()
    single_run(plate, [f"{tmp_path}/one/{name}" for name in names], prompts=two(first), frames=part)
    plan = plan_of(plate, [f"{tmp_path}/many/{name}" for name in names], prompts=two(first), part=part)
    assert len(plan.chunks) >= 3
    joined = run_steps(plan)
    for hidden in (tmp_path / "many").glob(".*.job"):  # of the first output, with the mark that it is joined
        assert sorted(p.name for p in hidden.iterdir()) == ["joined", "plan.json"]
        for path in hidden.iterdir():
            path.unlink()
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert not joined.report.failed_checks and len(joined.report.checks) == 6
    assert len(joined.report.records) == (24 if part is None else 18)


def masks_in(folder: Path, grey: int = 255) -> str:
    """A mask of every frame, as PNG; `grey` on its rim makes it a trimap."""
    folder.mkdir()
    for k in range(24):
        mask = (disc((96, 128), (48 + 1.5 * k, 48 + k), 21) * 255).astype(np.uint8)
        rim = cv2.dilate(mask, np.ones((7, 7))) - cv2.erode(mask, np.ones((7, 7)))
        cv2.imwrite(str(folder / f"k.{k:04d}.png"), np.where(rim > 0, np.uint8(grey), mask))
    return f"{folder}/k.%04d.png"


@pytest.mark.parametrize("way", ["masks", "trimaps", "track", "include", "backward"])
def test_every_way_to_say_where_the_subject_is(tmp_path: Path, way: str) -> None:
    plate = plate_in(tmp_path)
    for folder in ("one", "many"):
        (tmp_path / folder).mkdir()
    prompts, files, backward = PROMPTS, dict[str, str](), way == "backward"
    if way in ("masks", "trimaps"):
        prompts, files = (), {way: masks_in(tmp_path / "k", 128 if way == "trimaps" else 255)}
    elif way == "include":
        files = {"include": masks_in(tmp_path / "k"), "exclude": str(tmp_path / "k" / "k.0000.png")}
    elif way == "track":
        single_run(plate, [f"{tmp_path}/t.mov"], track_to=tmp_path / "t.track")
        prompts, files = (), {"track": f"{tmp_path}/t.track"}
    else:
        prompts = (Prompts.of({12: Prompt(Box(42, 36, 90, 86), placed=True)}),)
    given: dict[str, Any] = {{"track": "track_from"}.get(name, name): path for name, path in files.items()}
    matte_clip(plate, f"{tmp_path}/one/m.%04d.png", list(prompts) or None, settings_of(), backward=backward, **given)
    plan = plan_of(plate, [f"{tmp_path}/many/m.%04d.png"], prompts=prompts, files=files, backward=backward)
    run_steps(plan)
    for path in (tmp_path / "many").glob(".*.job/*"):
        path.unlink()
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_records_and_the_track_equal_those_of_one_run(tmp_path: Path) -> None:
    plate = plate_in(tmp_path)
    thumbnails = Thumbnails()
    one = matte_clip(
        plate, f"{tmp_path}/one.mov", list(PROMPTS), settings_of(), track_to=tmp_path / "one.track",
        on_frame=lambda matted, _: thumbnails.add(matted),
    )  # fmt: skip
    plan = plan_of(plate, [f"{tmp_path}/many.mov"], save_track=f"{tmp_path}/many.track", report=f"{tmp_path}/r")
    joined = run_steps(plan, 1)
    many = joined.report
    assert joined.thumbnails.found == thumbnails.found and joined.thumbnails.even == thumbnails.even
    assert many.records == one.records
    assert (tmp_path / "many.track").read_bytes() == (tmp_path / "one.track").read_bytes()
    assert [str(check) for check in many.checks[tmp_path / "many.mov"]] == [
        str(check) for check in one.checks[tmp_path / "one.mov"]
    ]


def test_chunks_are_matted_while_tracking_goes_on(tmp_path: Path) -> None:
    """The first chunk is matted as soon as the track has passed it, and comes out as after the whole track."""
    plate = plate_in(tmp_path)
    for folder in ("one", "many"):
        (tmp_path / folder).mkdir()
    single_run(plate, [f"{tmp_path}/one/{{subject}}.%04d.exr"], prompts=two())
    plan = plan_of(plate, [f"{tmp_path}/many/{{subject}}.%04d.exr"], prompts=two())
    with open_clip(plate) as reader:
        folder_of_job = JobFolder.of(plan, reader.info, outputs_of(plan).names)
    matted: list[int] = []

    def tracked(total: int | None) -> None:
        for chunk in plan.chunks:
            if chunk.start not in matted and folder_of_job.tracks_for(chunk) is not None:
                assert folder_of_job.tracked is None  # the track step is not over
                matted.append(chunk.start)
                run_task(plan, Task(MATTE, chunk))

    run_task(plan, Task(TRACK), tracked)
    assert matted == [0, 8]
    run_task(plan, Task(MATTE, plan.chunks[2]))
    run_task(plan, Task(JOIN))
    for path in (tmp_path / "many").glob(".*.job/*"):
        path.unlink()
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_a_task_of_one_thread_uses_no_other(tmp_path: Path) -> None:
    """PyTorch, OpenCV and every stage keep to the plan's cores in track and matte, and have theirs back afterwards."""
    plan = plan_of(plate_in(tmp_path), [f"{tmp_path}/m.%04d.png", f"{tmp_path}/m.mov"])
    before, seen = cv2.getNumThreads(), list[tuple[int, int, int, set[str]]]()
    stages = {"decode", "motion", "track", "model", "refine", "smooth", "convert"}

    def look(_: int | None) -> None:
        names = {thread.name.partition("_")[0] for thread in threading.enumerate()}
        seen.append((torch.get_num_threads(), cv2.getNumThreads(), cores.cores(), names & stages))

    run_task(plan, Task(TRACK), look)
    run_task(plan, Task(MATTE, plan.chunks[1]), look)
    assert len(seen) == 24 + 8 and all(each == (1, 1, 1, set()) for each in seen), seen[:3]
    assert cv2.getNumThreads() == before and not cores.one_thread()


def test_tasks_may_be_run_again_and_twice(tmp_path: Path) -> None:
    plate = plate_in(tmp_path)
    plan = plan_of(plate, [f"{tmp_path}/m.%04d.png", f"{tmp_path}/m.mov"])
    run_task(plan, Task(TRACK))
    for chunk in [*plan.chunks, plan.chunks[1], FrameRange(4, 13)]:  # the last one as an engine cut it
        run_task(plan, Task(MATTE, chunk))
    run_task(plan, Task(TRACK))
    assert run_task(plan, Task(JOIN)) is not None
    before = contents(tmp_path)
    for task in (Task(TRACK), Task(MATTE, plan.chunks[0]), Task(JOIN)):
        assert run_task(plan, task) is None
    assert contents(tmp_path) == before
