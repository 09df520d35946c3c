"""Pointing at a subject: `frame` with a grid or candidates, which frame is meant, `preview` of prompts; stills."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video import Box, Prompt, matte_image
from mam_video.cli import main
from mam_video.jobs.candidates import find_candidates
from mam_video.media import open_clip
from mam_video.models.colour_model import ColourModel
from mam_video.report.ruler import grid_step, with_boxes, with_grid
from tests.clips import make_clip
from tests.synthetic import disc, picture

SIZE = (96, 128)
BOX = "34,24,80,68"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pictures = [picture(disc(SIZE, (55 + k, 45), 20)) for k in range(6)]
    return make_clip(tmp_path / "plate.mkv", pictures, rate=Fraction(24))


@pytest.mark.parametrize(("text", "index"), [
    ("", 0), ("3", 3), ("last", 5), ("-1", 5), ("-6", 0), ("0.1s", 2), ("0s", 0), ("00:00:00:04", 4),
    ("00:00:00.125", 3),
])  # fmt: skip
@pytest.mark.parametrize("option", [(), ("--frame",)])
def test_a_frame_is_named(
    clip: Path, text: str, index: int, option: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run(capsys, "frame", clip, *((*option, text) if text else ()))
    assert code == 0 and f"wrote plate.frame{index}.png: frame {index}," in said, said


@pytest.mark.parametrize(("text", "says"), [
    ("6", "the frames 0-5"), ("-7", "0-5"), ("9s", "0-5"), ("nine", "a time such as 1.5s"), ("1 --frame 2", "twice"),
])  # fmt: skip
def test_a_frame_that_is_not_there(clip: Path, text: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "frame", clip, *text.split())
    assert code == 2 and says in said and "--range" not in said and len(list(clip.parent.iterdir())) == 1


def test_a_grid_keeps_size_and_places() -> None:
    rgb = np.full((480, 640, 3), 60, np.uint8)
    drawn = with_grid(rgb)
    assert drawn.shape == rgb.shape and (rgb == 60).all()
    step = grid_step(640)
    assert step == 100 and (drawn[350, 100] > 100).all() and (drawn[250, 130] == 60).all()
    boxed = with_boxes(rgb, [Box(100, 100, 200, 300)])
    assert (boxed[100, 120:180] == boxed[100, 120]).all() and (boxed[100, 120] != 60).any()


def test_candidates_are_found_once_each() -> None:
    mask = disc((360, 480), (120, 150), 60) + disc((360, 480), (350, 220), 80)
    found = find_candidates(ColourModel(), picture(np.clip(mask, 0, 1)))
    assert all(a.box.iou(b.box) < 0.9 for k, a in enumerate(found) for b in found[:k])


def test_preview_shows_the_corrected_frame(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = ("--prompt", f"0:box={BOX}", "--prompt", "4:box=38,24,84,68", "--model", "fake-colour")
    code, said = run(capsys, "preview", clip, *prompts)
    assert code == 0 and "wrote plate.preview.png: frame 4, prompted" in said, said
    code, said = run(capsys, "preview", clip, *prompts, "--frame", "2", "--overwrite")
    assert code == 2 and "prompts are on frame 0, 4" in said
    code, said = run(capsys, "preview", clip, "--box", BOX, "--range", "2-3", "--model", "fake-colour", "--overwrite")
    assert code == 0 and "frame 2, prompted" in said and "the range's 2 frames" in said


def test_one_picture_is_written_under_its_plain_name(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rgb = picture(disc(SIZE, (55, 45), 20))
    for name in ("photo.png", "photo7.png"):
        cv2.imwrite(name, rgb[..., ::-1])
        out = f"cut-{name}"
        made = out.replace("7", "")  # a number is no place for a frame's
        code, said = run(capsys, "matte", name, "--box", BOX, "-o", made, "--model", "fake-colour", "--overwrite")
        assert code == 0 and f"wrote {made}" in said and Path(made).is_file() and "%" not in said, said
    alpha = matte_image(rgb, Prompt(Box(34, 24, 80, 68)), model="fake-colour")
    assert alpha.shape == SIZE and alpha.dtype == np.float32 and alpha[45, 55] == 1 and alpha[5, 5] == 0
    assert (matte_image("photo.png", Prompt(Box(34, 24, 80, 68)), model="fake-colour") == alpha).all()


def test_a_folder_of_stills(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos").mkdir()
    for k, scale in ((1, 1), (2, 2)):
        rgb = picture(disc((96 * scale, 128 * scale), (55 * scale, 45 * scale), 20 * scale))
        cv2.imwrite(f"photos/shot{k}.png", rgb[..., ::-1])
    asked = ("still", "photos", "--box", "26%,25%,63%,71%", "--model", "fake-colour", "-o")
    code, said = run(capsys, *asked, "cut/")
    assert code == 0 and sorted(p.name for p in Path("cut").iterdir()) == ["shot1.png", "shot2.png"], said
    assert "wrote cut/shot2.png: 256x192" in said
    code, said = run(capsys, *asked, "cut/")
    assert code == 2 and "exists already" in said
    code, said = run(capsys, *asked, "one.png")
    assert code == 2 and "one name for 2 pictures" in said
    Path("photos/bad.png").write_bytes(b"no picture")
    code, said = run(capsys, *asked, "cut/", "--overwrite")
    assert code == 1 and "bad.png" in said and "1 of 3 pictures failed" in said


def test_dry_run_writes_nothing(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "matte", clip, "--box", BOX, "-o", "m.mov", "-o", "f.####.png", "--dry-run")
    assert code == 0 and "write: m.mov" in said and "an unknown number of frames" in said and "box=34,24,80,68" in said
    assert [p.name for p in clip.parent.iterdir()] == ["plate.mkv"]
    code, said = run(capsys, "matte", clip, "--box", BOX, "-o", "plate.mkv", "--dry-run")
    assert code == 2 and "overwrite the input" in said


@pytest.mark.parametrize("dash", [(), ("-",)])
def test_info_as_json(clip: Path, dash: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "info", clip, "--json", *dash)
    told = json.loads(said)
    info = open_clip(clip).info
    assert code == 0 and told["codec"] == info.codec != "" and told["rate"] == "24" and told["width"] == 128
    assert told["layers"] == []
