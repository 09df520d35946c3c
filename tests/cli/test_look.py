"""`mam-video info`, `frame` and `verify`, and what `matte` says about ranges and reading back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.cli import main
from mam_video.core.frames import Frame
from mam_video.core.settings import OutputSettings
from mam_video.core.timecode import Timecode
from mam_video.media import ClipInfo, open_clip, open_writer
from tests.clips import make_clip, matted
from tests.synthetic import disc, picture

SIZE = (96, 128)
NTSC = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 frames at 29.97 drop-frame from 01:00:00;02, a disc that moves by a pixel a frame."""
    path = tmp_path_factory.mktemp("plates") / "plate.mkv"
    info = ClipInfo(Path("none"), 128, 96, NTSC, 1 / NTSC, timecode=Timecode.parse("01:00:00;02", 30))
    with open_writer(f"{path}:ffv1", info, OutputSettings()) as writer:
        for k in range(12):
            rgb = picture(disc(SIZE, (55 + k, 45), 20))
            writer.write(matted(Frame(k, k, 1 / NTSC, rgb), np.ones(SIZE, np.float32)))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_info(plate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "info", plate, "--decode")
    lines = dict(line.split("  ", 1) for line in said.splitlines())
    lines = {name.strip(): value.strip() for name, value in lines.items()}
    assert code == 0 and lines["size"] == "128x96" and lines["timecode"] == "01:00:00;02"
    assert lines["frames decoded"] == "12" and lines["audio"] == "none" and "alpha" in lines["pixels"]


def test_info_says_what_is_assumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_clip(tmp_path / "a.mkv", [np.zeros((48, 64, 3), np.uint8)] * 2, codec="mpeg4", pixel_format="yuv420p")
    code, said = run(capsys, "info", tmp_path / "a.mkv")
    assert code == 0 and "limited (tv), smpte170m (assumed" in said and "00:00:00:00" in said


@pytest.mark.parametrize("which", ["5", "01:00:00;07", "01:00:00:07"])
def test_a_frame_by_number_and_by_label(
    plate: Path, tmp_path: Path, which: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(capsys, "frame", plate, which, "-o", tmp_path / "f.png", "--box", "40,25,80,65")
    assert code == 0 and "frame 5, 01:00:00;07" in said
    got = cv2.imread(str(tmp_path / "f.png"))[..., ::-1]
    expected = picture(disc(SIZE, (60, 45), 20))
    assert (got[30:60, 45:75] == expected[30:60, 45:75]).all()  # inside the box
    assert (got[25, 40:80] == [90, 220, 255]).all() and (got[64, 40:80] == [90, 220, 255]).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.png"]


@pytest.mark.parametrize(("arguments", "code", "says"), [
    ("99 -o {out}/f.png", 2, "no frame 99"), ("x -o {out}/f.png", 2, "neither"),
    ("00:58:00:10 -o {out}/f.png", 2, "starts at"), ("1 -o {out}/f.gif", 2, ".png"),
    ("1 -o {out}/deep/f.png", 1, "deep"), ("1 -o {out}/f.png --box 1,2,3", 2, "x0,y0,x1,y1"),
])  # fmt: skip
def test_frames_that_cannot_be(
    plate: Path, tmp_path: Path, arguments: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    got, said = run(capsys, "frame", plate, *arguments.format(out=tmp_path).split())
    assert got == code and says in said and len(said.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_a_range_by_timecode_with_handles_is_verified(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matte = ["matte", plate, "--box", "34,24,80,68", "--model", "fake-colour"]
    out = tmp_path / "m.mov"
    code, said = run(capsys, *matte, "-o", out, "--range", "01:00:00;06-01:00:00:09", "--handles", "2")
    assert code == 0 and "8 frames, alpha" in said and "checked" in said and "8 frames, from 01:00:00;04" in said
    info = open_clip(out).info
    assert str(info.timecode) == "01:00:00;04" and info.frames_in_header == 8
    code, said = run(capsys, "verify", out, "--against", plate, "--range", "2-9")
    assert code == 0 and "01:00:00;04" in said and "WRONG" not in said
    code, said = run(capsys, "verify", out, "--against", plate, "--quick")
    assert code == 1 and "frames" in said and "timecode" in said


def test_a_constant_rate_is_told_of_and_verified(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.mov"
    box = ("--box", "34,24,80,68", "--model", "fake-colour")
    code, said = run(capsys, "matte", plate, *box, "-o", out, "--rate", "24")
    assert code == 0 and "at 24 frames a second: 2 frames dropped, 0 repeated" in said
    code, said = run(capsys, "verify", out, "--against", plate, "--rate", "24")
    assert code == 0 and "WRONG" not in said and "01:00:00:01" in said
    code, said = run(capsys, "verify", out, "--against", plate)
    assert code == 1 and "frames: 10, should be 12" in said


def test_verify_says_what_is_as_promised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plate = make_clip(tmp_path / "plate.mov", [picture(disc(SIZE, (55 + k, 45), 20)) for k in range(4)], rate=NTSC)
    out = tmp_path / "m.mov"
    code, said = run(capsys, "matte", plate, "--box", "34,24,80,68", "--model", "fake-colour", "-o", out, "--no-verify")
    assert code == 0 and "read back" not in said
    code, said = run(capsys, "verify", out, "--against", plate)
    assert code == 0 and said.count("ok ") == len(said.splitlines()) >= 6


@pytest.mark.parametrize("arguments", ["--handles 3", "--range 2-3 --handles -1"])
def test_handles_need_a_range(plate: Path, tmp_path: Path, arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "matte", plate, "--box", "34,24,80,68", "-o", tmp_path / "m.mov", *arguments.split())
    assert code == 2 and "--handles" in said
