"""Engines: the same bytes as one run, also when a worker is killed; what goes wrong is one line."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mam_video.cli import main
from mam_video.farm.engine import Ended
from mam_video.farm.folder import JobFolder
from mam_video.farm.plan import JobPlan
from mam_video.farm.scheduler import JobRun, run_jobs
from mam_video.farm.start import start_job
from mam_video.farm.task import MATTE, Task, fingerprinted, run_task
from mam_video.media import open_clip
from tests.farm.shots import contents, plan_of, plate_in, single_run

BOX = "26,26,70,70"
NO_RAY = importlib.util.find_spec("ray") is None
COMMON = [
    "--box", BOX, "--model", "fake-colour", "--set", "model.batch=4", "--set", "smooth.strength=0.7",
    "--set", "smooth.radius=2",
]  # fmt: skip


def kill_first_chunk(folder: Path, killed: list[int]) -> None:
    """Kill the first worker that mattes a chunk of a job in `folder`, as soon as it has begun."""
    until = time.monotonic() + 120
    while not killed and time.monotonic() < until:
        for note in folder.glob(".*.job/running/*.json"):
            try:
                found = json.loads(note.read_text())
                if found["task"].startswith("matte"):
                    os.kill(found["pid"], signal.SIGKILL)
                    killed.append(found["pid"])
                    return
            except (OSError, ValueError):
                continue
        time.sleep(0.005)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill -9")
@pytest.mark.parametrize(
    "engine", ["local", pytest.param("ray", marks=pytest.mark.skipif(NO_RAY, reason="the extra ray is not installed"))]
)
def test_a_killed_worker_s_chunk_is_done_again(tmp_path: Path, engine: str) -> None:
    """Three workers, one killed in mid-chunk: every frame is that of one run, and the end says what was done again."""
    plate = plate_in(tmp_path)
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    names = ["m.%04d.exr", "m.mov"]
    single_run(plate, [f"{tmp_path}/one/{name}" for name in names])
    outputs = [word for name in names for word in ("-o", f"{tmp_path}/many/{name}")]
    command = ["matte", str(plate), *COMMON, *outputs, "--engine", engine, "--workers", "3", "--progress", "json"]
    killed: list[int] = []
    killer = threading.Thread(target=kill_first_chunk, args=(tmp_path / "many", killed))
    killer.start()
    done = subprocess.run(
        [sys.executable, "-m", "mam_video", *command, "--chunk", "8"], capture_output=True, text=True, timeout=300
    )
    killer.join()
    assert done.returncode == 0 and killed, done.stdout + done.stderr
    end = json.loads(done.stdout.splitlines()[-1])
    assert end["event"] == "end" and end["done"] == 24
    assert len(end["again"]) == 1 and "done again" in end["again"][0], end
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_the_program_that_shares_a_shot_out_loads_no_pytorch(tmp_path: Path) -> None:
    """A worker completes the plan, workers compute, and the join of a movie and a sequence needs no model."""
    outputs = ["-o", f"{tmp_path}/m.mov", "-o", f"{tmp_path}/m.%04d.png", "--report", f"{tmp_path}/r"]
    shared = ["--engine", "local", "--workers", "1", "--threads", "1"]
    command = ["matte", str(plate_in(tmp_path)), *COMMON, "--range", "0-7", *outputs, *shared]
    program = f"import sys; from mam_video.cli import main; print(main({command!r}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1:] == ["0 False"], done.stdout + done.stderr
    assert (tmp_path / "m.mov").exists() and len(list(tmp_path.glob("m.*.png"))) == 8


def test_what_a_worker_finds_wrong_with_a_plan_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAM_VIDEO_WEIGHTS", str(tmp_path / "none"))
    plate = str(plate_in(tmp_path))
    matte = ["matte", plate, "--box", BOX, "--model", "mam-vit-b", "-o", f"{tmp_path}/m.mov", "--quiet"]
    alone = refused(capsys, matte)
    assert refused(capsys, [*matte, "--engine", "local", "--workers", "1"]) == alone and "sam-vit-b" in alone
    assert not list(tmp_path.glob(".*"))


class Here:
    """An engine that runs tasks in this process, one at a time; `fails` says what becomes of each."""

    workers = 1

    def __init__(self, fails: Any = None) -> None:
        self._fails, self._ended, self.started = fails, list[Ended](), list[Task]()

    def fingerprint(self, draft: JobPlan) -> JobPlan:
        with open_clip(draft.source) as reader:
            return fingerprinted(draft, reader)

    def start(self, key: int, folder: JobFolder, task: Task) -> None:
        self.started.append(task)
        end = None if self._fails is None else self._fails(key, task)
        if end is None:
            run_task(folder.plan, task)
            end = Ended(key)
        self._ended.append(end)

    def wait(self, seconds: float) -> list[Ended]:
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None: ...


def job_in(tmp_path: Path, *, resume: bool = False, **more: Any) -> JobRun:
    plate = tmp_path / "plate.mov"
    plan = plan_of(plate if plate.exists() else plate_in(tmp_path), [f"{tmp_path}/out/m.%04d.png"], **more)
    with open_clip(plan.source) as reader:
        return JobRun(start_job(plan, reader, resume=resume))


def test_lost_workers_are_bounded_and_missing_frames_named(tmp_path: Path) -> None:
    """The chunk 8-15 loses its worker each time: after three times the shot fails; --resume does that chunk alone."""
    job = job_in(tmp_path)

    def lost(key: int, task: Task) -> Ended | None:
        return Ended(key, "its worker was killed (SIGKILL)", lost=True) if _first(task) == 8 else None

    engine = Here(lost)
    run_jobs([job], engine)
    assert sum(_first(task) == 8 for task in engine.started) == 3
    assert len(job.again) == 2 and job.joined is None
    assert "frames 8-15, 16-23 are missing" in str(job.failure()) or "frames 8-15 are missing" in str(job.failure())
    assert "--resume goes on" in str(job.failure())
    with pytest.raises(Exception, match="was cut off here: --resume goes on with it"):
        job_in(tmp_path)
    again = Here()
    rest = job_in(tmp_path, resume=True)
    run_jobs([rest], again)
    assert rest.joined is not None and rest.error is None
    assert 0 not in [_first(task) for task in again.started if task.step == MATTE]  # those that are done stay
    assert len(list((tmp_path / "out").glob("m.*.png"))) == 24


def test_an_error_is_not_tried_again(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    engine = Here(lambda key, task: Ended(key, "no space left on the disk") if _first(task) == 0 else None)
    run_jobs([job], engine)
    assert job.error == "matte 0-7: no space left on the disk" and not job.again


def _first(task: Task) -> int | None:
    return None if task.chunk is None else task.chunk.start


def test_a_job_runs_once_at_a_time(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    job.folder.claim()
    with job.folder.running_here(), pytest.raises(Exception, match="a job writes this output now"):
        job_in(tmp_path, resume=True)


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line that a command is refused with."""
    assert main(arguments) in (1, 2)
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_engines_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    plate = plate_in(tmp_path)
    matte = ["matte", str(plate), *COMMON, "-o", f"{tmp_path}/m.mov"]
    line = refused(capsys, [*matte, "--engine", "rai"])
    assert "--engine rai: no such engine; did you mean 'ray'? choose one of: local, ray" in line
    assert "a head is written ray://HOST:PORT" in refused(capsys, [*matte, "--engine", "ray://head"])
    assert "--workers must be 1 at least" in refused(capsys, [*matte, "--engine", "local", "--workers", "0"])
    assert "--threads must be 1 at least" in refused(capsys, [*matte, "--engine", "local", "--threads", "0"])
    assert "--threads shares a shot out; give --engine too" in refused(capsys, [*matte, "--threads", "1"])
    assert "give --engine too" in refused(capsys, [*matte, "--chunk", "8"])
    monkeypatch.setattr("mam_video.core.errors.find_spec", lambda name: None)
    assert "pip install 'mam-video[ray]'" in refused(capsys, [*matte, "--engine", "ray"])
    assert not list(tmp_path.glob("*.job"))


@pytest.mark.skipif(NO_RAY, reason="the extra ray is not installed")
def test_a_head_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    matte = ["matte", str(plate_in(tmp_path)), *COMMON, "-o", f"{tmp_path}/m.mov"]
    line = refused(capsys, [*matte, "--engine", f"ray://127.0.0.1:{port}", "--quiet"])
    assert f"ray://127.0.0.1:{port}: the head cannot be reached" in line


def _heeds_ctrl_c() -> None:
    """A shell's background jobs ignore Ctrl-C, and their children do."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system sends no signals")
def test_ctrl_c_stops_all_workers_and_resume_goes_on(tmp_path: Path) -> None:
    plate = plate_in(tmp_path)
    (tmp_path / "many").mkdir()
    command = [
        sys.executable, "-m", "mam_video", "matte", str(plate), *COMMON, "-o", f"{tmp_path}/many/m.mov",
        "--engine", "local", "--workers", "1", "--chunk", "8",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heeds_ctrl_c
    ) as process:
        pids = _workers_of(tmp_path / "many", "matte")
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)  # held in mid-chunk, however slow this test is
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "all workers were stopped" in err, err
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (tmp_path / "one").mkdir()
    single_run(plate, [f"{tmp_path}/one/m.mov"])
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def _workers_of(folder: Path, step: str) -> set[int]:
    """Wait until a worker does a step, and return the processes of all that are at work."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        notes = []
        for path in folder.glob(".*.job/running/*.json"):
            try:
                notes.append(json.loads(path.read_text()))
            except (OSError, ValueError):
                continue
        if any(note["task"].startswith(step) for note in notes):
            return {note["pid"] for note in notes}
        time.sleep(0.01)
    raise AssertionError("no worker began")
