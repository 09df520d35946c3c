"""One frame over a checker, and an honest guess of what the whole clip takes."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mam_video.cli import main
from mam_video.jobs import preview as room
from mam_video.jobs.matte_clip import matte_clip
from mam_video.jobs.preview import checker, preview
from mam_video.models.colour_model import ColourModel
from tests.jobs.test_external_masks import write_masks
from tests.matting.test_pipeline import RADIUS, centre_of, first_box, moving_disc, settings_of
from tests.synthetic import disc

SIZE = (120, 160)
SLOW = 0.12  # seconds a frame


class SlowModel(ColourModel):
    def matte(self, *arguments: Any) -> Any:
        time.sleep(SLOW)
        return super().matte(*arguments)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["preview", *map(str, arguments), "--model", "fake-colour"])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_frame_in_the_middle_over_a_checker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plate = moving_disc(tmp_path, SIZE, 12)
    monkeypatch.chdir(tmp_path)
    x, y = centre_of(4, SIZE)
    box = f"{x - RADIUS},{y - RADIUS},{x + RADIUS},{y + RADIUS}"
    code, said = run(capsys, plate, "--box", box, "--frame", 4, "--for", "m.mov", "--for", "look.mp4")
    assert code == 0 and "frame 4, prompted" in said and "time for all 12 frames: about" in said
    assert re.search(r"disk for m\.mov: about [\d.]+ KB, .* a frame by 6 frames", said)
    assert re.search(r"disk for look\.mp4: about .* from a table", said)
    got = cv2.imread(str(tmp_path / "plate.preview.png"))[..., ::-1].astype(int)
    alpha = disc(SIZE, (x, y), RADIUS)
    assert (got[alpha == 0] == checker(SIZE)[alpha == 0]).mean() > 0.99
    assert np.abs(got[disc(SIZE, (x, y), RADIUS - 2) == 1] - [0, 255, 0]).max() <= 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plate.mov", "plate.preview.png"]
    code, said = run(capsys, plate, "--box", box)
    assert code == 2 and "exists already" in said


@pytest.mark.parametrize("name", ["m.mov", "m.mkv", "f/m.%04d.png", "folder/:alpha"])
def test_what_it_says_of_the_disk_is_what_is_written(tmp_path: Path, name: str) -> None:
    plate = moving_disc(tmp_path, SIZE, 16)
    (tmp_path / "f").mkdir()
    seen = preview(plate, [f"{tmp_path}/{name}"], first_box(SIZE), settings_of())
    assert not list((tmp_path / "f").iterdir()) and seen.measured == 6 and seen.sizes[0].measured
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    matte_clip(plate, f"{tmp_path}/{name}", first_box(SIZE), settings_of())
    written = sum(p.stat().st_size for p in set(tmp_path.rglob("*")) - before if p.is_file())
    assert seen.sizes[0].bytes_a_frame * 16 == pytest.approx(written, rel=0.15)


def test_the_pace_is_that_of_the_slowest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames come out at the end faster than the model makes them, since it was ahead: that must not be believed."""
    monkeypatch.setattr(room, "load_model", lambda settings: SlowModel())
    plate = moving_disc(tmp_path, SIZE, 10)
    start = time.monotonic()
    seen = preview(plate, [tmp_path / "m.mov"], first_box(SIZE), settings_of())
    whole = time.monotonic() - start
    # A sleep is never shorter; and no more time can have passed than did, however busy the machine.
    assert seen.pace is not None and 0.95 * SLOW < seen.pace <= whole / (seen.measured - 1)
    seconds = seen.seconds(10)
    assert seconds is not None and seconds == pytest.approx(seen.load + 10 * seen.pace)


def test_one_frame_has_no_pace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plate = moving_disc(tmp_path, SIZE, 1)
    code, said = run(capsys, plate, "--box", first_box(SIZE).box, "-o", tmp_path / "p.png")
    assert code == 0 and "its speed cannot be measured" in said


def test_masks_and_edges_are_seen_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plate = moving_disc(tmp_path, SIZE, 9)
    masks = write_masks(tmp_path / "masks", 9)
    code, _ = run(capsys, plate, "--masks", masks, "--frame", 3, "--grow", 3, "-o", tmp_path / "p.png")
    red = cv2.imread(str(tmp_path / "p.png"))[..., 2].astype(np.float64)
    alpha = 1 - red / checker(SIZE)[..., 0]  # there is no red in the subject
    rim = disc(SIZE, centre_of(3, SIZE), RADIUS + 2) == 1  # beyond, the plate's own grey ground shows
    assert code == 0 and alpha[disc(SIZE, centre_of(3, SIZE), RADIUS) == 1].min() > 0.95
    assert (red[rim] != checker(SIZE)[..., 0][rim]).all()
    assert np.abs(alpha[disc(SIZE, centre_of(3, SIZE), RADIUS + 5) == 0]).max() < 0.01


@pytest.mark.parametrize(("arguments", "says"), [
    ("--frame 99 --box 1,1,50,50", "holds no frame 99"), ("", "no prompt"),
    ("--box 1,1,50,50 -o x.gif", ".png or .jpg"),
    ("--box 1,1,50,50 --for m.gif", "no kind is known"), ("--box 1,1,50,50 -o no/x.png", "does not exist"),
])  # fmt: skip
def test_what_cannot_be_is_told_in_a_line(
    tmp_path: Path,
    arguments: str,
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    plate = moving_disc(tmp_path, SIZE, 3)
    code, said = run(capsys, plate, *arguments.split())
    assert code == 2 and says in said and len(said.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["plate.mov"]
