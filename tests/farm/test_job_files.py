"""Job files: what render managers run makes what one run makes; tasks refuse what does not fit."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mam_video.cli import main
from mam_video.core.errors import MediaError, MissingFileError, UsageError
from mam_video.core.ranges import FrameRange
from mam_video.farm.job_files import inline_plan, job_file, plan_of_text
from mam_video.farm.plan import VERSION, JobPlan, chunks_of
from mam_video.farm.task import JOIN, MATTE, TRACK, Task, run_task
from mam_video.media import open_clip
from mam_video.prompts.prompt import Prompt, Prompts
from mam_video.report.page import save_report
from tests.farm.shots import contents, plan_of, plate_in, settings_of, single_run, two
from tests.farm.test_engines import COMMON, refused
from tests.synthetic import disc, picture

NO_OPENJD = importlib.util.find_spec("openjd") is None or sys.platform == "win32"


def test_a_plan_survives_its_text(tmp_path: Path) -> None:
    mask = disc((96, 128), (48, 48), 21).astype("float32")
    prompts = (Prompts.of({0: Prompt.of_mask(mask)}, "one"), *two()[:1])
    plan = plan_of(plate_in(tmp_path), [f"{tmp_path}/{{subject}}.mov"], prompts=prompts, part=FrameRange(0, 9))
    again = JobPlan.from_text(plan.text(), "here")
    assert again.as_dict() == plan.as_dict() and again.id == plan.id
    assert again.settings == plan.settings and again.frames == FrameRange(0, 9)
    assert (again.prompts[0][0].mask == mask).all()
    assert plan_of_text(inline_plan(plan)).as_dict() == plan.as_dict()
    assert replace(plan, chunk=16).id == plan.id  # other chunks give the same frames
    assert replace(plan, threads=2).id != plan.id


def test_chunks_begin_at_multiples_of_their_size() -> None:
    assert [str(each) for each in chunks_of(FrameRange(3, 21), 8)] == ["3-7", "8-15", "16-20"]
    assert [str(each) for each in chunks_of(FrameRange(8, 16), 8)] == ["8-15"]
    assert [str(each) for each in chunks_of(FrameRange(0, 5), 240)] == ["0-4"]


def test_chunks_grow_while_one_worker_tracks(tmp_path: Path) -> None:
    """Others begin after 16 frames, and not after a whole chunk; a script of Slurm, whose tasks wait, has even ones."""
    grown = [str(each) for each in chunks_of(FrameRange(0, 300), 120, first=16)]
    assert grown == ["0-15", "16-47", "48-111", "112-231", "232-299"]
    assert [str(each) for each in chunks_of(FrameRange(3, 60), 24, first=16)] == ["3-15", "16-39", "40-59"]
    assert [str(each) for each in chunks_of(FrameRange(0, 16), 24, first=16)] == ["0-15"]
    assert chunks_of(FrameRange(0, 24), 8, first=16) == chunks_of(FrameRange(0, 24), 8)
    plan = plan_of(plate_in(tmp_path), [f"{tmp_path}/m.mov"], chunk=24)
    assert [str(each) for each in plan.chunks] == ["0-15", "16-23"]
    assert 'chunks="0-23"' in job_file(plan, "slurm")
    assert [str(each) for each in replace(plan, files={"track": "t.track"}).chunks] == ["0-23"]


@pytest.mark.parametrize("by_track", [False, True])
def test_the_report_of_a_job_has_a_command_for_corrections(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], by_track: bool
) -> None:
    """It is the command that made the job, its prompts apart; of a saved track they are the boxes that were found."""
    plate, track = plate_in(tmp_path), tmp_path / "t.track"
    single_run(plate, [f"{tmp_path}/first.mov"], track_to=track)
    subject = ["--track", str(track), *COMMON[2:]] if by_track else [*COMMON]
    more = ["-o", f"{tmp_path}/m.mov", "--report", f"{tmp_path}/r", "--for", "slurm", "--threads", "1"]
    given = ["job", str(plate), *subject, *more]
    assert main(given) == 0
    text = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("{"))
    plan = JobPlan.from_text(text, "the script")
    for task in [*([] if by_track else [Task(TRACK)]), *(Task(MATTE, each) for each in plan.chunks), Task(JOIN)]:
        joined = run_task(plan, task)
    assert joined is not None and joined.report.rerun is not None
    rerun = joined.report.rerun
    assert rerun.command == ("mam-video", "job", str(plate), *COMMON[2:], *more) and rerun.folder == str(Path.cwd())
    (prompt,) = rerun.prompts
    assert prompt.index == 0 and prompt.options[0] == ("--prompt" if by_track else "--box")
    save_report(joined.report, joined.thumbnails, tmp_path / "r")
    assert '"--for", "slurm"' in (tmp_path / "r/report.html").read_text()


def openjd(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", "from openjd.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(NO_OPENJD, reason="openjd-cli is not installed")
def test_openjd_runs_a_shot_and_one_failed_chunk_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """OpenJD evens out chunks. 12-23 fails once; it is run again alone, then the join: bytes are those of one run."""
    plate = plate_in(tmp_path)
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    names = ["m.%04d.exr", "m.mov"]
    single_run(plate, [f"{tmp_path}/one/{name}" for name in names])
    outputs = [word for name in names for word in ("-o", f"{tmp_path}/many/{name}")]
    made = ["job", str(plate), *COMMON, *outputs, "--for", "openjd", "--chunk", "16", "--threads", "1"]
    assert main(made) == 0
    template, broken = tmp_path / "shot.yaml", tmp_path / "broken"
    template.write_text(capsys.readouterr().out)
    broken.touch()
    program = tmp_path / "program"
    program.write_text(
        f'#!/bin/sh\nif [ "$4" = 12-23 ] && [ -e {broken} ]; then exit 1; fi\nexec {sys.executable} -m mam_video "$@"\n'
    )
    program.chmod(0o755)
    assert "passes validation" in openjd("check", str(template)).stdout
    run = ("run", str(template), "-p", f"Program={program}", "--step")
    first = openjd(*run, "Matte", "--run-dependencies")
    assert first.returncode != 0 and "Progress: 100" in first.stdout.replace("openjd_progress", "Progress"), (
        first.stdout
    )
    broken.unlink()
    alone = openjd(*run, "Matte", "--tasks", json.dumps([{"Frames": "12-23"}]))
    assert alone.returncode == 0, alone.stdout
    last = openjd(*run, "Join")
    assert last.returncode == 0 and "24 frames, alpha, sound" in last.stdout, last.stdout
    for path in (tmp_path / "many").glob(".*.job/*"):
        path.unlink()
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_slurm_s_script_is_a_shell_script_with_every_chunk(tmp_path: Path) -> None:
    plan = plan_of(plate_in(tmp_path), [f"{tmp_path}/m.mov"])
    script = tmp_path / "shot.sh"
    script.write_text(job_file(plan, "slurm", strict=True))
    sbatch = tmp_path / "sbatch"
    sbatch.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> "$(dirname "$0")/calls"\necho 7\n')
    sbatch.chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", str(script)], env=path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "submitted: track 7, matte 7, join 7" in done.stdout, done.stderr
    track, matte, join = (tmp_path / "calls").read_text().splitlines()
    assert track.endswith("shot.plan.json track") and "--cpus-per-task=1" in track
    assert "--array=0-2" in matte and "set -- 0-7 8-15 16-23;" in matte and "--dependency=afterok:7" in matte
    assert join.endswith("shot.plan.json join --strict")
    assert JobPlan.load(tmp_path / "shot.plan.json").id == plan.id


def test_opencue_s_specification_has_three_layers_that_wait(tmp_path: Path) -> None:
    plan = plan_of(plate_in(tmp_path), [f"{tmp_path}/m.mov"])
    spec = ElementTree.fromstring(job_file(plan, "opencue"))
    layers = {layer.get("name"): layer for layer in spec.iter("layer")}
    assert list(layers) == ["track", "matte", "join"]
    program, task, inline, step, frames = (layers["matte"].findtext("cmd") or "").split()
    assert (program, task, step, frames) == ("mam-video", "task", "matte", "#FRAME_START#-#FRAME_END#")
    assert plan_of_text(inline).id == plan.id
    assert (layers["matte"].findtext("range"), layers["matte"].findtext("chunk")) == ("0-23", "8")
    waits = {(d.findtext("deplayer"), d.findtext("onlayer")) for d in spec.iter("depend")}
    assert waits == {("matte", "track"), ("join", "matte")}


def saved(plan: JobPlan, path: Path) -> str:
    path.write_text(plan.text())
    return str(path)


def test_tasks_refuse_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line each: no plan, another version, a chunk outside the clip, steps out of order, other weights."""
    plan = plan_of(plate_in(tmp_path), [f"{tmp_path}/m.mov"])
    file = saved(plan, tmp_path / "plan.json")
    assert "chunk 20-30 lies outside the job, which has the frames 0-23" in refused(
        capsys, ["task", file, "matte", "20-30"]
    )
    assert "is not of the form FIRST-LAST, as in 0-23" in refused(capsys, ["task", file, "matte", "abc"])
    assert "matte needs the frames of its chunk" in refused(capsys, ["task", file, "matte"])
    assert "STEP must be one of track, matte, join" in refused(capsys, ["task", file, "bake"])
    assert "the track step of this job is not done" in refused(capsys, ["task", file, "matte", "0-7"])
    assert "no such job file" in refused(capsys, ["task", f"{tmp_path}/none.json", "track"])
    assert "cannot read this job file" in refused(capsys, ["task", str(tmp_path / "plate.mov"), "track"])
    (tmp_path / "text.json").write_text('{"kind": "other"}')
    assert "is no job file of mam-video" in refused(capsys, ["task", str(tmp_path / "text.json"), "track"])
    newer = tmp_path / "newer.json"
    newer.write_text(json.dumps({**plan.as_dict(), "version": VERSION + 1}))
    assert f"is a job file of version {VERSION + 1}, this program reads version {VERSION}" in refused(
        capsys, ["task", str(newer), "track"]
    )
    for key, value in (("version of torch", "1.0"), ("weights", {"lite": "0000"})):
        other = saved(replace(plan, fingerprint={**plan.fingerprint, key: value}), tmp_path / "other.json")
        line = refused(capsys, ["task", other, "track"])
        assert f"machine {socket.gethostname()} differs from the job: {key}" in line, line
    assert not list(tmp_path.glob(".*.job"))


def test_a_file_that_this_machine_does_not_see(tmp_path: Path) -> None:
    plan = plan_of(plate_in(tmp_path), [f"{tmp_path}/m.mov"])
    gone = replace(plan, source="/nowhere/plate.mov")
    with pytest.raises(MissingFileError, match=f"/nowhere/plate.mov: machine {socket.gethostname()} does not see"):
        run_task(gone, Task(TRACK))


def test_two_jobs_over_one_output(tmp_path: Path) -> None:
    plate = plate_in(tmp_path)
    one = plan_of(plate, [f"{tmp_path}/m.%04d.png"])
    other = plan_of(plate, [f"{tmp_path}/m.%04d.png"], settings=settings_of(finish={"choke": 1.0}))
    run_task(one, Task(TRACK))
    with pytest.raises(UsageError, match="another job writes this output: its fingerprint: settings: finish: choke"):
        run_task(other, Task(TRACK))


def test_join_names_the_frames_that_are_missing(tmp_path: Path) -> None:
    plan = plan_of(plate_in(tmp_path), [f"{tmp_path}/m.mov"])
    run_task(plan, Task(TRACK))
    run_task(plan, Task(MATTE, plan.chunks[1]))
    with pytest.raises(MediaError, match="frames 0-7, 16-23 are missing; run these chunks"):
        run_task(plan, Task(JOIN))
    assert not (tmp_path / "m.mov").exists()


def test_numbers_of_a_sequence_name_its_chunks(tmp_path: Path) -> None:
    import cv2

    for k in range(10):
        rgb = picture(disc((96, 128), (48 + 1.5 * k, 48 + k), 21))
        cv2.imwrite(str(tmp_path / f"p.{1001 + k}.png"), rgb[..., ::-1])
    plan = plan_of(tmp_path / "p.%04d.png", [f"{tmp_path}/m.mov"])
    assert [plan.called(each) for each in plan.chunks] == ["1001-1008", "1009-1010"]
    assert plan.chunk_of("1009-1010") == FrameRange(8, 10) and plan.chunk_of("1001") == FrameRange(0, 1)
    with pytest.raises(UsageError, match="lies outside the job, which has the frames 1001-1010"):
        plan.chunk_of("1-8")


def test_a_clip_without_a_count_needs_a_range(tmp_path: Path) -> None:
    plan = plan_of(plate_in(tmp_path), [f"{tmp_path}/m.mov"])
    with pytest.raises(UsageError, match="does not say how many frames it has; give --range FIRST-LAST"):
        replace(plan, frames=FrameRange(0, None))
    with open_clip(plan.source) as reader:
        assert reader.info.frames_in_header == 24


def test_unknown_managers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job: list[Any] = ["job", str(plate_in(tmp_path)), *COMMON, "-o", f"{tmp_path}/m.mov", "--for", "qube"]
    assert "--for must be one of openjd, slurm, opencue, is 'qube'" in refused(capsys, job)
