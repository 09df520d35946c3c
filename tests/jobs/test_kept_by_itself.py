"""Runs of image sequences are kept without --resume: after Ctrl-C and after kill -9 the same command can go on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from mam_video.cli import main
from mam_video.core.errors import UsageError
from mam_video.jobs.checkpoint import begin_anew
from mam_video.jobs.matte_clip import matte_clip
from tests.jobs.test_checkpoint import BOX, COUNT, PROMPT, plate_in, settings_of, stop_at

MATTE = ("--box", BOX, "--model", "fake-colour", "--set", "model.batch=4")


def pictures(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The folder of a plate and of a run that was cut off at frame 9, without having asked to keep anything."""
    plate = plate_in(tmp_path)
    with pytest.raises(KeyboardInterrupt, match="frames done: 10; the same command with --resume goes on after them"):
        matte_clip(plate, f"{tmp_path}/m.%04d.png", PROMPT, settings_of(), keep=True, on_frame=stop_at(9))
    assert not pictures(tmp_path) and hidden(tmp_path) == [".m.%04d.png.resume"]
    return tmp_path


def test_it_goes_on_with_resume(stopped: Path) -> None:
    (stopped / "whole").mkdir()
    matte_clip(stopped / "plate.mov", f"{stopped}/whole/m.%04d.png", PROMPT, settings_of())
    done: list[int] = []
    matte_clip(
        stopped / "plate.mov", f"{stopped}/m.%04d.png", PROMPT, settings_of(), resume=True, on_resume=done.append
    )
    assert done == [10] and len(pictures(stopped)) == COUNT and not hidden(stopped)
    assert pictures(stopped) == pictures(stopped / "whole")


def test_the_same_run_without_resume_is_refused_and_another_begins_anew(stopped: Path) -> None:
    """What was done of the same run must not be lost by a forgotten option; of another one nobody asked to keep it."""
    plate, output = stopped / "plate.mov", f"{stopped}/m.%04d.png"
    with pytest.raises(UsageError, match="this same run was cut off: add --resume to go on"):
        matte_clip(plate, output, PROMPT, settings_of(), keep=True)
    assert hidden(stopped)
    choked = settings_of(finish={"choke": 1.0})
    with pytest.raises(UsageError, match="choke changed"):
        matte_clip(plate, output, PROMPT, choked, resume=True)
    matte_clip(plate, output, PROMPT, choked, keep=True)
    assert len(pictures(stopped)) == COUNT and not hidden(stopped)


def test_what_was_kept_on_request_is_not_replaced(tmp_path: Path) -> None:
    plate, output = plate_in(tmp_path), f"{tmp_path}/m.%04d.png"
    with pytest.raises(KeyboardInterrupt):
        matte_clip(plate, output, PROMPT, settings_of(), resume=True, on_frame=stop_at(9))
    for changed in ({"finish": {"choke": 1.0}}, {}):
        with pytest.raises(UsageError, match="--overwrite"):
            matte_clip(plate, output, PROMPT, settings_of(**changed), keep=True)
    with pytest.raises(UsageError, match="--overwrite"):
        begin_anew([tmp_path / ".m.%04d.png.resume"], {}, overwrite=False)
    matte_clip(plate, output, PROMPT, settings_of(output={"overwrite": True}), keep=True)
    assert len(pictures(tmp_path)) == COUNT and not hidden(tmp_path)


def test_a_name_that_is_taken_is_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plate = plate_in(tmp_path, 3)
    (tmp_path / "m.1001.png").write_bytes(b"mine")
    monkeypatch.setattr("mam_video.jobs.matte_clip.load_model", lambda *_: pytest.fail("the model is loaded"))
    for more in ([], ["--resume"]):
        assert main(["matte", str(plate), *MATTE, "-o", f"{tmp_path}/m.%04d.png", *more]) == 2
        assert "1 file of this name exist" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.1001.png", "plate.mov"]


def test_killed_and_gone_on_from_the_command_line(tmp_path: Path) -> None:
    plate = plate_in(tmp_path)
    command = [sys.executable, "-m", "mam_video", "matte", str(plate), *MATTE, "--quiet"]
    (tmp_path / "whole").mkdir()
    assert subprocess.run([*command, "-o", f"{tmp_path}/whole/m.%04d.png"], check=False).returncode == 0
    kept = tmp_path / ".m.%04d.png.resume"
    process = subprocess.Popen([*command, "-o", f"{tmp_path}/m.%04d.png"])
    while process.poll() is None and len(list(kept.glob("frames/*.png"))) < 3:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert process.returncode == 0 or not pictures(tmp_path)  # nothing partial under a final name
    if process.returncode:
        (kept / "lock").unlink(missing_ok=True)
        done = subprocess.run([*command, "-o", f"{tmp_path}/m.%04d.png", "--resume"], check=False)
        assert done.returncode == 0
    assert pictures(tmp_path) == pictures(tmp_path / "whole") and not hidden(tmp_path)


def test_movies_are_kept_on_request_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their pictures would be written twice."""
    asked: list[bool] = []

    def noted(*_: object, keep: bool, **more: object) -> None:
        asked.append(keep)
        raise UsageError("enough")

    monkeypatch.setattr("mam_video.jobs.matte_clip.matte_clip", noted)
    plate = plate_in(tmp_path, 3)
    for names in (["m.%04d.png"], ["m.mov"], ["m.%04d.png", "a/"], ["m.%04d.png", "m.mov"], ["m.mp4"]):
        outputs = [part for name in names for part in ("-o", f"{tmp_path}/{name}")]
        assert main(["matte", str(plate), *MATTE, *outputs]) == 2
    assert asked == [True, False, True, False, False]
