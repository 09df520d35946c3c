"""What is asked wrongly gets one line, a code that is not 0, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from mam_video.cli import main
from mam_video.models.devices import cpu_has_bfloat16
from tests.synthetic import disc, picture, write_movie

SIZE = (96, 128)
BOX = "30,20,80,70"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of clips, good and bad."""
    folder = tmp_path_factory.mktemp("clips")
    good = write_movie(folder / "good.mov", 12, lambda i: picture(disc(SIZE, (55 + i, 45), 20)))
    write_movie(folder / "other.mov", 12, lambda i: picture(disc((64, 64), (30, 30), 20)))
    (folder / "text.mov").write_text("this is no film\n" * 100)
    (folder / "empty.mov").write_bytes(b"")
    (folder / "cut.mov").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (folder / "junk.pth").write_bytes(b"\x80\x02not a checkpoint at all")
    (folder / "typo.toml").write_text("[smooth]\nstrenght = 0.5\n")
    (folder / "no_track.zip").write_bytes(b"PK nonsense")
    for number in (1, 2, 4):
        cv2.imwrite(str(folder / f"s.{number:04d}.png"), picture(disc(SIZE, (55, 45), 20)))
    (folder / "d.0001.png").write_bytes((folder / "s.0001.png").read_bytes()[:-20])
    torch.save({"a": torch.zeros(3)}, folder / "wrong.pth")
    with av.open(str(folder / "sound.m4a"), "w") as sound:
        stream = sound.add_stream("aac", rate=48000)
        for i in range(4):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 48000, 1024 * i
            sound.mux(stream.encode(silence))
        sound.mux(stream.encode(None))
    with av.open(str(folder / "none.mkv"), "w") as movie:  # a video track that holds no frame
        track = movie.add_stream("ffv1", rate=24)
        track.width = track.height = 64
        movie.start_encoding()
    code = main(["matte", str(good), "--box", BOX, "--model", "fake-colour", "-o", str(folder / "t.mov"), "--quiet",
                 "--save-track", str(folder / "good.track")])  # fmt: skip
    assert code == 0
    return folder


# arguments ({clips} and {out} are folders), exit code, what the line must say
CASES: dict[str, tuple[str, int, str]] = {
    "no such file": ("{clips}/absent.mov --box {box} -o {out}/m.mov", 2, "absent.mov"),
    "a folder": ("{clips} --box {box} -o {out}/m.mov", 1, "folder"),
    "not a video": ("{clips}/text.mov --box {box} -o {out}/m.mov", 1, "text.mov"),
    "an empty file": ("{clips}/empty.mov --box {box} -o {out}/m.mov", 1, "empty.mov"),
    "audio only": ("{clips}/sound.m4a --box {box} -o {out}/m.mov", 1, "sound.m4a"),
    "truncated": ("{clips}/cut.mov --box {box} -o {out}/m.mov", 1, "cut.mov"),
    "zero frames": ("{clips}/none.mkv --box 1,1,60,60 -o {out}/m.mov", 1, "none.mkv"),
    "box outside": ("{good} --box 500,10,600,90 -o {out}/m.mov", 2, "outside the frame, which is 128x96"),
    "inverted box": ("{good} --box 80,70,30,20 -o {out}/m.mov", 2, "empty or inverted"),
    "empty box": ("{good} --box 30,20,30,70 -o {out}/m.mov", 2, "empty or inverted"),
    "box of three": ("{good} --box 30,20,30 -o {out}/m.mov", 2, "x0,y0,x1,y1"),
    "NaN in the box": ("{good} --box nan,20,80,70 -o {out}/m.mov", 2, "finite"),
    "point outside": ("{good} --point 300,20 -o {out}/m.mov", 2, "outside the frame"),
    "only background points": ("{good} --point 3,2,0 -o {out}/m.mov", 2, "no prompt"),
    "no prompt": ("{good} -o {out}/m.mov", 2, "no prompt"),
    "no output": ("{good} --box {box}", 2, "no output"),
    "unknown flag": ("{good} --box {box} -o {out}/m.mov --fast", 2, "--fast"),
    "unknown model": ("{good} --box {box} -o {out}/m.mov --model magic", 2, "classic"),
    "missing weights": ("{good} --box {box} -o {out}/m.mov --model mam-vit-b", 1, "mam-video weights get sam-vit-b"),
    "weights that are not there": (
        "{good} --box {box} -o {out}/m.mov --model mam-vit-b --sam-weights {clips}/absent.pth", 1, "absent.pth",
    ),
    "damaged checkpoint": (
        "{good} --box {box} -o {out}/m.mov --model mam-vit-b --sam-weights {clips}/junk.pth --mam-weights random:1",
        1, "junk.pth",
    ),
    "wrong checkpoint": (
        "{good} --box {box} -o {out}/m.mov --model mam-vit-b --sam-weights {clips}/wrong.pth --mam-weights random:1",
        1, "wrong.pth",
    ),
    "output below a file": ("{good} --box {box} -o {clips}/good.mov/m.mov", 1, "is a file, not a folder"),
    "output exists": ("{good} --box {box} -o {clips}/good.track:prores -o {clips}/t.mov", 2, "good.track"),
    "output exists without --overwrite": ("{good} --box {box} -o {clips}/t.mov", 2, "--overwrite"),
    "output is the input": ("{good} --box {box} -o {good} --overwrite", 2, "input"),
    "output named twice": ("{good} --box {box} -o {out}/m.mov -o {out}/m.mov", 2, "twice"),
    "unsupported kind": ("{good} --box {box} -o {out}/m.avi", 2, ".avi"),
    "unknown kind": ("{good} --box {box} -o {out}/m.mov:gif", 2, "gif"),
    "NaN in a flag": ("{good} --box {box} -o {out}/m.mov --smooth nan", 2, "--smooth must be between 0 and 1"),
    "not a number in a flag": ("{good} --box {box} -o {out}/m.mov --smooth much", 2, "--smooth"),
    "out of range": ("{good} --box {box} -o {out}/m.mov --smooth 3", 2, "between 0 and 1"),
    "unknown choice": ("{good} --box {box} -o {out}/m.mov --guidance magic", 2, "mask, alpha"),
    "config typo": ("{good} --box {box} -o {out}/m.mov --config {clips}/typo.toml", 2, "strenght"),
    "unknown preset": ("{good} --box {box} -o {out}/m.mov --config fancy", 2, "default, fast, quality"),
    "setting that is none": ("{good} --box {box} -o {out}/m.mov --set smooth", 2, "SECTION.KEY=VALUE"),
    "range of nothing": ("{good} --box {box} -o {out}/m.mov --range 9-2", 2, "the first frame comes after the last"),
    "range of no timecode": ("{good} --box {box} -o {out}/m.mov --range 00:00:99:00-", 2, "no timecode"),
    "timecode beyond the end": ("{good} --box {box} -o {out}/m.mov --range 00:00:40:00-", 2, "has the frames 0-11"),
    "unknown way with damage": ("{good} --box {box} -o {out}/m.mov --on-error ignore", 2, "stop, repeat"),
    "unknown colour": ("{good} --box {box} -o {out}/m.mov --foreground guess", 2, "estimate, plate"),
    "handles without a range": ("{good} --box {box} -o {out}/m.mov --handles 8", 2, "--range"),
    "range beyond the end": ("{good} --box {box} -o {out}/m.mov --range 90-99", 2, "90-99"),
    "no such track": ("{good} --track {clips}/absent.track -o {out}/m.mov", 2, "absent.track"),
    "damaged track": ("{good} --track {clips}/no_track.zip -o {out}/m.mov", 2, "no_track.zip"),
    "track of another clip": ("{clips}/other.mov --track {clips}/good.track -o {out}/m.mov", 2, "128x96"),
    "report below a file": ("{good} --box {box} -o {out}/m.mov --report {clips}/good.mov/report", 2, "good.mov"),
    "a rate that is none": ("{clips}/s.%04d.png --fps fast --box {box} -o {out}/m.mov", 2, "fast"),
    "a rate for a movie": ("{good} --fps 24 --box {box} -o {out}/m.mov", 2, "--fps"),
    "a gap in a sequence": ("{clips}/s.%04d.png --box {box} -o {out}/m.mov", 1, "frames 3 are missing"),
    "a sequence that is not there": ("{clips}/t.%04d.exr --box {box} -o {out}/m.mov", 2, "t.%04d.exr"),
    "a layer of a PNG": ("{clips}/s.0001.png --layer x --box {box} -o {out}/m.mov", 2, "layer"),
    "an unknown colour space": ("{good} --input-transform Bogus --box {box} -o {out}/m.mov", 2, "Bogus"),
    "a damaged picture": ("{clips}/d.0001.png --box {box} -o {out}/m.mov", 1, "d.0001.png"),
    "a sequence over its source": ("{clips}/s.0001-0002.png --box {box} -o {clips}/s.%04d.png --overwrite", 2, "input"),
    "no such background": ("{good} --box {box} -o {out}/m.mp4 --background {clips}/absent.jpg", 2, "absent.jpg"),
    "a background that is no colour": ("{good} --box {box} -o {out}/m.mp4 --background #12", 2, "#12"),
    "a constant rate that is none": ("{good} --box {box} -o {out}/m.mov --rate 0", 2, "rate"),
    "a constant rate of a sequence": ("{good} --box {box} -o {out}/m.%04d.png --rate 24", 2, "--rate is for movies"),
    "a constant rate and resume": ("{good} --box {box} -o {out}/m.mov --rate 24 --resume", 2, "leave --rate out"),
    "a background that is no clip": ("{good} --box {box} -o {out}/m.mp4 --bg {clips}/absent.mov", 2, "absent.mov"),
    "a folder that takes no files": ("{good} --box {box} -o /sys/m.mov", 1, "/sys/m.mov"),
}  # fmt: skip
if not torch.cuda.is_available():
    CASES["GPU asked for and absent"] = ("{good} --box {box} -o {out}/m.mov --device cuda", 1, "cuda")
if not cpu_has_bfloat16():
    CASES["half precision that the CPU has not"] = (
        "{good} --box {box} -o {out}/m.mov --device cpu --precision bfloat16 --model mam-vit-b "
        "--sam-weights random:1 --mam-weights random:1", 1, "bfloat16",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("MAM_VIDEO_WEIGHTS", str(tmp_path_factory.mktemp("weights")))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.replace(" ", "-"))
def test_one_line_and_nothing_left(case: str, clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    template, expected, says = CASES[case]
    if "/sys/" in template and not Path("/sys").is_dir():
        pytest.skip("no /sys here")
    names = {"clips": str(clips), "good": str(clips / "good.mov"), "out": str(tmp_path), "box": BOX}
    arguments = ["matte", *(part.format(**names) for part in template.split())]
    if "--model" not in arguments:
        arguments += ["--model", "fake-colour"]
    before = sorted(p.name for p in clips.iterdir())
    code = main(arguments)
    said = capfd.readouterr().err
    lines = [line for line in said.splitlines() if line.strip()]
    assert code == expected, said
    assert len(lines) == 1 and lines[0].startswith("mam-video: "), said
    assert says in lines[0]
    assert list(tmp_path.iterdir()) == []
    assert sorted(p.name for p in clips.iterdir()) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 16 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True, check=False
    ) if sys.platform == "linux" else None  # fmt: skip
    if mounted is None or mounted.returncode != 0:
        pytest.skip("a small tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["m.mov", "m.mkv", "m.####.png", "m.####.exr"])
def test_a_full_disk(name: str, clips: Path, small_disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = str(small_disk / name)
    code = main(["matte", str(clips / "good.mov"), "--box", BOX, "--model", "fake-colour", "-o", out, "--quiet"])
    said = capfd.readouterr().err.splitlines()
    assert code == 1
    assert len(said) == 1 and "space" in said[0], said
    assert list(small_disk.iterdir()) == []


def wait_for(what: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


def test_ctrl_c(clips: Path, tmp_path: Path) -> None:
    """A run in the middle of a long clip, interrupted as a terminal does it."""
    plate = write_movie(tmp_path / "long.mov", 250, lambda i: picture(disc((360, 640), (100 + i, 150), 60)))
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "mam_video", "matte", str(plate), "--box", "40,90,160,210", "--quiet"]
    command += ["--model", "fake-colour", "-o", str(out / "m.mov")]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": ""},
        # a test run in the background of a shell may have inherited that interrupts are ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert wait_for(lambda: any(p.stat().st_size > 0 for p in out.iterdir()), 180), "nothing was begun"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == 130
    hint = "add --resume from the start to be able to go on after a stop"
    assert said.splitlines() == [f"mam-video: stopped; no files were written; {hint}"]
    assert list(out.iterdir()) == []


def test_debug_shows_the_traceback(clips: Path, tmp_path: Path) -> None:
    from mam_video.core.errors import UsageError

    with pytest.raises(UsageError):
        main(["matte", str(clips / "good.mov"), "--box", "1,2,3", "-o", str(tmp_path / "m.mov"), "--debug"])
