"""Sequences on the command line: ranges by the numbers of files, damaged frames, reading back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mam_video.cli import main
from mam_video.media import open_clip
from tests.media.sequence_clips import write_cv
from tests.synthetic import disc, picture

SIZE = (96, 128)


@pytest.fixture
def plate(tmp_path: Path) -> str:
    """Frames 1001 to 1012, a disc that moves by a pixel a frame."""
    for k in range(12):
        write_cv(tmp_path / f"plate.{1001 + k}.png", picture(disc(SIZE, (55 + k, 45), 20)))
    return str(tmp_path / "plate.%04d.png")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


def matte(plate: str, *more: object) -> tuple[object, ...]:
    return ("matte", plate, "--fps", "24", "--box", "34,24,80,68", "--model", "fake-colour", *more)


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def test_a_range_by_the_numbers_of_files(plate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.%04d.png"
    code, said = run(capsys, *matte(plate, "-o", out, "--range", "1004-1006"))
    assert code == 0 and "3 frames" in said, said
    assert names(tmp_path, "m.*") == ["m.1004.png", "m.1005.png", "m.1006.png"]
    code, said = run(capsys, *matte(plate, "-o", out, "--range", "1011-", "--handles", "2", "--overwrite"))
    assert code == 0 and "still there" not in said
    assert names(tmp_path, "m.*") == [f"m.{n}.png" for n in (1004, 1005, 1006, *range(1009, 1013))]
    code, said = run(capsys, *matte(plate, "-o", out, "--range", "3-6", "--overwrite"))
    assert code == 2 and "1001 to 1012" in said and said.count("\n") == 1


def test_a_range_equals_that_part_of_the_whole(plate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    track = tmp_path / "shot.track"
    assert run(capsys, *matte(plate, "-o", tmp_path / "all.####.png", "--save-track", track))[0] == 0
    part = ("matte", plate, "--track", track, "--model", "fake-colour", "-o", tmp_path / "part.####.png")
    assert run(capsys, *part, "--range", "1005-1008")[0] == 0
    for n in range(1005, 1009):
        assert (tmp_path / f"part.{n}.png").read_bytes() == (tmp_path / f"all.{n}.png").read_bytes()
    assert len(names(tmp_path, "part.*.png")) == 4


def test_a_frame_by_its_files_number(plate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "frame", plate, "1007", "-o", tmp_path / "f.png")
    assert code == 0 and "frame 1007" in said
    (shown,) = open_clip(tmp_path / "f.png").frames()
    (meant,) = open_clip(tmp_path / "plate.1007.png").frames()
    assert (shown.rgb8 == meant.rgb8).all()
    for number in ("6", "1013"):
        code, said = run(capsys, "frame", plate, number, "-o", tmp_path / "g.png")
        assert code == 2 and "1001 to 1012" in said and not (tmp_path / "g.png").exists()


def test_damaged_frames_are_named_by_number(plate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "plate.1005.png"
    bad.write_bytes(bad.read_bytes()[:200])
    out = tmp_path / "m.####.png"
    code, said = run(capsys, *matte(plate, "-o", out))
    assert code == 1 and "plate.1005.png" in said and "--on-error repeat" in said and not names(tmp_path, "m.*")
    report = tmp_path / "report"
    code, said = run(capsys, *matte(plate, "-o", out, "--on-error", "repeat", "--report", report))
    assert code == 0 and "frame 1005 is missing or damaged" in said
    written = json.loads((report / "run.json").read_text())
    assert any("frame 1005" in note for note in written["notes"])
    assert [(f["index"], f["number"]) for f in written["frames"]] == [(k, 1001 + k) for k in range(12)]
    assert len(names(tmp_path, "m.*")) == 12


@pytest.mark.parametrize("suffix", ["png", "exr", "dpx"])
def test_reading_back(plate: str, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"m.####.{suffix}"
    code, said = run(capsys, *matte(plate, "-o", out, "--range", "1003-1006"))
    assert code == 0 and "4 frames" in said and ", checked" in said
    verify = ("verify", out, "--against", plate, "--fps", "24")
    code, said = run(capsys, *verify, "--range", "1003-1006")
    assert code == 0 and "WRONG" not in said and said.count("ok ") == len(said.splitlines()) >= 6
    code, said = run(capsys, *verify, "--quick")
    assert code == 1 and "WRONG frames: 4, should be 12" in said and "1001, 1002, 1007" in said
    bad = tmp_path / f"m.1004.{suffix}"
    bad.write_bytes(bad.read_bytes()[:300])
    code, said = run(capsys, *verify, "--range", "1003-1006")
    assert code == 1 and "m.1004" in said
    movie = tmp_path / "m.mov"
    assert run(capsys, *matte(plate, "-o", movie, "--range", "1003-1006"))[0] == 0
    code, said = run(capsys, "verify", movie, "--against", plate, "--fps", "24", "--range", "1003-1006")
    assert code == 0 and "WRONG" not in said


def test_no_verify(plate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, *matte(plate, "-o", tmp_path / "m.####.png", "--start-number", "5", "--no-verify"))
    assert code == 0 and "read back" not in said and "m.0005.png" in names(tmp_path, "m.*")
    verify = ("verify", tmp_path / "m.####.png", "--against", plate)
    assert run(capsys, *verify, "--start-number", "5")[0] == 0 and run(capsys, *verify)[0] == 1
