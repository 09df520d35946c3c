"""`mam-video prompts`, and prompts on several frames given to `matte`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.cli import main
from tests.synthetic import disc, picture, write_movie

SIZE = (96, 128)


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 frames, a disc of radius 18 that moves by 3 pixels a frame."""
    folder = tmp_path_factory.mktemp("plates")
    return write_movie(folder / "plate.mov", 10, lambda i: picture(disc(SIZE, (40 + 3 * i, 45), 18)))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    path = tmp_path / "shot.toml"
    path.write_text(
        "version = 1\n[[prompt]]\nframe = 6\nbox = [40, 27, 76, 63]\npoints = [[58, 45], [10, 48, 0]]\n"
        "[[prompt]]\nframe = '00:00:00:00'\nbox = [22, 27, 58, 63]\n"
    )
    return path


def test_prompts_are_printed_and_drawn(
    plate: Path, shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(capsys, "prompts", shot)
    assert code == 0
    assert said.splitlines() == [
        "frame 6  subject  box=40,27,76,63;point=58,45;point=10,48,0",
        "frame 00:00:00:00  subject  box=22,27,58,63",
        "2 prompts; name the clip too to check them against it",
    ]
    code, said = run(capsys, "prompts", shot, plate, "-o", tmp_path / "sheet.png")
    assert code == 0
    assert said.splitlines() == [
        "frame 6  subject  box=40,27,76,63;point=58,45;point=10,48,0",
        "frame 0  subject  box=22,27,58,63",
        "2 prompts",
        f"wrote {tmp_path / 'sheet.png'}",
    ]
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]
    assert sheet.shape == (364, 968, 3)
    blue = (np.abs(sheet.astype(int) - (90, 220, 255)).sum(2) < 30) & (np.arange(364) > 60)[:, None]
    for left, (x0, x1) in ((0, (22, 58)), (484, (40, 76))):  # in the frames' order
        columns = np.flatnonzero(blue[:, left : left + 480].any(0)) / (480 / 128)
        assert abs(columns.min() - x0) < 1 and abs(columns.max() - x1) < 1


def test_mistakes_are_one_line(plate: Path, shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "prompts", shot, "-o", tmp_path / "sheet.png")
    assert code == 2 and "name the clip too" in said
    code, said = run(capsys, "prompts", shot, plate, "-o", tmp_path / "sheet.jpg")
    assert code == 2 and "drawn as .png" in said
    code, said = run(capsys, "prompts", shot, plate, "-o", shot)
    assert code == 2
    shot.write_text(shot.read_text().replace("frame = 6", "frame = 10"))
    code, said = run(capsys, "prompts", shot, plate)
    assert code == 2 and "shot.toml: prompt 1 (frame 10): the clip has 10 frames, counted from 0" in said
    shot.write_text(shot.read_text() + "subject = 'b'\n")
    matte = ("matte", plate, "--model", "fake-colour", "-o", tmp_path / "m.mov")
    code, said = run(capsys, *matte, "--prompts", shot)
    assert code == 2 and "prompt 1 (frame 10)" in said and said.count("\n") == 1
    shot.write_text(shot.read_text().replace("frame = 10", "frame = 6"))
    code, said = run(capsys, *matte, "--prompts", shot)
    assert code == 2 and "subject 'subject': the first prompt is on frame 6" in said
    code, said = run(capsys, *matte, "--box", "22,27,58,63", "--prompt", "0:box=22,27,58,63")
    assert code == 2 and "its frame has a prompt already: --box of the first frame" in said
    code, said = run(capsys, *matte, "--prompt", "5:box=37,27,73,63")
    assert code == 2 and "--backward to track from 5 back to 0" in said
    code, said = run(capsys, *matte, "--prompt", "0:box=22,27,58,63", "--track", "none.track")
    assert code == 2 and "none.track: no such track file" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shot.toml"]


def test_matte_takes_prompts_on_several_frames(
    plate: Path, shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matte = ("matte", plate, "--model", "fake-colour")
    code, said = run(capsys, *matte, "--prompts", shot, "-o", tmp_path / "a.####.png:png-alpha")
    assert code == 0 and "note: prompts on frames 0, 6" in said and "no frame was flagged" in said
    flags = ("--box", "22,27,58,63", "--prompt", "6:box=40,27,76,63;point=58,45;point=10,48,0")
    assert run(capsys, *matte, *flags, "-o", tmp_path / "b.####.png:png-alpha")[0] == 0
    assert (
        run(capsys, *matte, "--prompt", "9:box=49,27,85,63", "--backward", "-o", tmp_path / "c.####.png:alpha")[0] == 0
    )
    a, b, c = ([p.read_bytes() for p in sorted(tmp_path.glob(f"{kind}.*.png"))] for kind in "abc")
    assert a == b and len(a) == len(c) == 10


def test_frames_of_a_sequence_are_called_by_their_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(6):
        cv2.imwrite(str(tmp_path / f"p.{1001 + i}.png"), picture(disc(SIZE, (40 + 3 * i, 45), 18))[..., ::-1])
    (tmp_path / "shot.toml").write_text("version = 1\n[[prompt]]\nframe = 1004\nbox = [31, 27, 67, 63]\n")
    code, said = run(capsys, "prompts", tmp_path / "shot.toml", tmp_path / "p.####.png")
    assert code == 0 and "frame 1004  subject  box=31,27,67,63" in said
    (tmp_path / "shot.toml").write_text("version = 1\n[[prompt]]\nframe = 3\nbox = [31, 27, 67, 63]\n")
    code, said = run(capsys, "prompts", tmp_path / "shot.toml", tmp_path / "p.####.png")
    assert (
        code == 2
        and "prompt 1 (frame 3): frame 3: there is no such frame; give a number of its files, 1001 to 1006" in said
    )
