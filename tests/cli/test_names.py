"""Names on the command line: inputs are never written over, a range touches its own frames, odd names are names."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.cli import main
from mam_video.core.errors import UsageError
from mam_video.core.geometry import Box
from mam_video.core.settings import Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.media import open_clip
from mam_video.prompts.prompt import Prompt
from tests.media.sequence_clips import write_cv
from tests.synthetic import disc, picture, write_movie

SIZE = (48, 64)
COUNT = 6
ASKED = ("--box", "16,10,44,38", "--model", "fake-colour", "--quiet")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    """A folder with everything that a run can read: a movie, a sequence, masks, a track, prompts, settings."""
    write_movie(tmp_path / "plate.mov", COUNT, lambda k: picture(disc(SIZE, (30 + k, 24), 12)))
    shutil.copy(tmp_path / "plate.mov", tmp_path / "street.mov")
    for k in range(COUNT):
        write_cv(tmp_path / f"plate.{1001 + k}.png", picture(disc(SIZE, (30 + k, 24), 12)))
        write_cv(tmp_path / f"mask.{1001 + k}.png", np.rint(disc(SIZE, (30 + k, 24), 12) * 255).astype(np.uint8))
    (tmp_path / "p.toml").write_text("version = 1\n[[prompt]]\nframe = 0\nbox = [16, 10, 44, 38]\n")
    (tmp_path / "p2.toml").write_text((tmp_path / "p.toml").read_text().replace("frame = 0", "frame = 1001"))
    (tmp_path / "s.toml").write_text("[smooth]\nstrength = 0.5\n")
    os.link(tmp_path / "plate.mov", tmp_path / "hard.mov")
    (tmp_path / "soft.mov").symlink_to("plate.mov")
    (tmp_path / "sub").mkdir()
    (tmp_path / "here").symlink_to(tmp_path, target_is_directory=True)
    assert (
        main(
            ["matte", f"{tmp_path}/plate.mov", *ASKED, "-o", f"{tmp_path}/m.mov", "--save-track", f"{tmp_path}/t.track"]
        )
        == 0
    )
    return tmp_path


BOXED = "--box 16,10,44,38"
CLASHES = {
    "a track over the clip": f"plate.mov {BOXED} -o n.mov --save-track plate.mov",
    "a track over the clip, spelt otherwise": f"plate.mov {BOXED} -o n.mov --save-track sub/../plate.mov",
    "a movie over the clip by a hard link": f"plate.mov {BOXED} -o hard.mov",
    "a track over the clip by a soft link": f"plate.mov {BOXED} -o n.mov --save-track soft.mov",
    "a track over the clip by a folder's link": f"plate.mov {BOXED} -o n.mov --save-track here/plate.mov",
    "a track over a frame of the clip": f"plate.%04d.png {BOXED} -o n.mov --save-track plate.1003.png",
    "a movie over the track that is followed": "plate.mov --track t.track -o n.mov --save-track t.track",
    "a sequence over the masks": "plate.mov --masks mask.%04d.png -o mask.####.png",
    "a sequence over the trimaps": "plate.%04d.png --trimaps mask.####.png -o here/mask.$F4.png",
    "a sequence over a garbage matte": f"plate.mov {BOXED} --exclude mask.1002.png -o mask.%04d.png",
    "a sequence over the first frame's mask": "plate.mov --mask mask.1001.png -o mask.%04d.png",
    "a movie over the background": f"plate.mov {BOXED} --bg street.mov -o n.mp4 -o street.mov",
    "a track over the prompts": "plate.mov --prompts p.toml -o n.mov --save-track p.toml",
    "a track over the settings": f"plate.mov {BOXED} --config s.toml -o n.mov --save-track s.toml",
    "a track over the weights": f"plate.mov {BOXED} --sam-weights street.mov -o n.mov --save-track street.mov",
    "a track and a movie": f"plate.mov {BOXED} -o n.mov --save-track n.mov",
    "a track and a movie, spelt otherwise": f"plate.mov {BOXED} -o n.mov --save-track sub/../here/n.mov",
    "two names that differ in capitals": f"plate.mov {BOXED} -o n.mov -o N.mov",
    "a track and a frame": f"plate.mov {BOXED} -o n.####.png --save-track n.1002.png",
    "two patterns": f"plate.mov {BOXED} -o n.####.png -o n.$F3.png:alpha",
    "a report and a movie": f"plate.mov {BOXED} -o n.mov --report n.mov",
    "a track and a report's file": f"plate.mov {BOXED} -o n.mov --report rep --save-track rep/run.json",
    "a subject's movie and a report": "plate.mov --prompt a@0:box=16,10,44,38 --prompt b@0:box=2,2,9,9 "
    "-o {subject}.mov --report a.mov",
}


@pytest.mark.parametrize("line", CLASHES.values(), ids=list(CLASHES))
def test_a_clash_is_refused_before_the_work(
    line: str, shot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, also with --overwrite; and every file is as it was."""
    monkeypatch.chdir(shot)
    monkeypatch.setattr("mam_video.jobs.matte_clip.load_model", lambda settings: pytest.fail("the work has begun"))
    before = {p: p.read_bytes() for p in shot.iterdir() if p.is_file()}
    code, said = run(capsys, "matte", *line.split(), "--model", "fake-colour", "--overwrite", "--quiet")
    assert code == 2 and said.count("\n") == 1, said
    assert "would overwrite" in said or "input" in said or "named twice" in said, said
    assert {p: p.read_bytes() for p in shot.iterdir() if p.is_file()} == before


OTHERS = {
    "a picture over a frame": "frame plate.%04d.png 1002 -o plate.1001.png --overwrite",
    "a preview over a mask": f"preview plate.mov {BOXED} --include mask.1001.png -o mask.1001.png --overwrite",
    "a drawing over a frame": "prompts p2.toml plate.%04d.png -o plate.1002.png --overwrite",
    "scores over the truth": "evaluate plate.mov m.mov --json m.mov",
    "scores over the prediction": "evaluate soft.mov m.mov --json plate.mov",
    "a plot and scores": "evaluate plate.mov m.mov --json x --plot x",
}


@pytest.mark.parametrize("line", OTHERS.values(), ids=list(OTHERS))
def test_other_commands_refuse_too(
    line: str, shot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shot)
    before = {p: p.read_bytes() for p in shot.iterdir() if p.is_file()}
    code, said = run(capsys, *line.split(), *(["--model", "fake-colour"] if "preview" in line else []))
    assert code == 2 and said.count("\n") == 1, said
    assert {p: p.read_bytes() for p in shot.iterdir() if p.is_file()} == before


def test_python_is_refused_too(shot: Path) -> None:
    settings = Settings().with_values({"model": {"name": "fake-colour"}, "output": {"overwrite": True}}, "test")
    prompt = Prompt(Box(16, 10, 44, 38))
    with pytest.raises(UsageError, match="would overwrite the input"):
        matte_clip(shot / "plate.mov", f"{shot}/n.mov", prompt, settings, track_to=shot / "hard.mov")
    with pytest.raises(UsageError, match=r"mask\.1004\.png"):
        matte_clip(shot / "plate.mov", f"{shot}/mask.%04d.png", prompt, settings, include=shot / "mask.1004.png")


def test_what_only_looks_alike_is_written(shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A garbage matte beside the frames of a range; a folder that the report and frames share; an old matte."""
    plate = shot / "plate.mov"
    garbage = ("--exclude", shot / "mask.1001.png", "--range", "2-4", "-o", shot / "mask.####.exr")
    assert run(capsys, "matte", plate, *ASKED, *garbage)[0] == 0
    assert run(capsys, "matte", plate, *ASKED, "-o", f"{shot}/both/", "--report", shot / "both")[0] == 0
    assert run(capsys, "matte", plate, *ASKED, "-o", shot / "m.mov", "--overwrite")[0] == 0


# A part of a sequence


@pytest.mark.parametrize("suffix", ["png", "exr", "tif", "dpx"])
def test_a_range_replaces_and_adds_its_own_frames(suffix: str, shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plate, out = shot / "plate.mov", shot / f"n.####.{suffix}"
    part = ("matte", plate, "--track", shot / "t.track", "--model", "fake-colour", "--quiet", "-o", out)
    assert run(capsys, *part, "--range", "0-3")[0] == 0
    before = {p.name: p.read_bytes() for p in shot.glob(f"n.*.{suffix}")}
    assert len(before) == 4
    code, said = run(capsys, *part, "--range", "3-5")
    assert code == 2 and "1 file of this name exist (1004)" in said and said.count("\n") == 1
    assert run(capsys, *part, "--range", "4-5")[0] == 0  # added
    code, said = run(capsys, *part, "--range", "1-2", "--choke", "3", "--overwrite", "--resume")
    assert code == 0 and not said, said
    after = {p.name: p.read_bytes() for p in shot.glob(f"n.*.{suffix}")}
    assert len(after) == COUNT
    changed = {name for name, data in before.items() if after[name] != data}
    assert changed == {f"n.1002.{suffix}", f"n.1003.{suffix}"}


def test_only_the_whole_clip_speaks_of_what_is_left_over(shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plate, out = shot / "plate.mov", shot / "n.%04d.png"
    stale = [shot / f"n.{n:04d}.png" for n in (999, 1000, 1007, 2000)]
    for path in stale:
        path.write_text("stale")
    asked = ("matte", plate, "--box", "16,10,44,38", "--model", "fake-colour", "-o", out, "--overwrite")
    code, said = run(capsys, *asked, "--range", "0-2")
    assert code == 0 and "still there" not in said
    code, said = run(capsys, *asked)
    flat = " ".join(said.split())
    assert code == 0 and "4 frames of an earlier run" in flat and "999-1000, 1007, 2000" in flat
    assert all(path.read_text() == "stale" for path in stale)
    assert len(list(shot.glob("n.*.png"))) == COUNT + len(stale)


def test_parts_are_resumed_side_by_side(shot: Path) -> None:
    """One part is cut off; another is made whole; the first goes on."""
    settings = Settings().with_values({"model": {"name": "fake-colour"}}, "test")
    prompt, out = Prompt(Box(12, 8, 48, 40)), f"{shot}/n.%04d.png"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="frames done"):
        matte_clip(shot / "plate.mov", out, prompt, settings, frames=(0, 2), resume=True, on_frame=stop)
    matte_clip(shot / "plate.mov", out, prompt, settings, frames=(3, None), resume=True)
    assert len(list(shot.glob("n.*.png"))) == 3
    matte_clip(shot / "plate.mov", out, prompt, settings, frames=(0, 2), resume=True)
    assert len(list(shot.glob("n.*.png"))) == COUNT and not list(shot.glob(".n*"))


# Names with signs


@pytest.mark.parametrize("folder", ["out#1", "hero@2x", "100%d", "a:b", "{x} y", "%04d"])
def test_signs_in_a_folders_name_are_letters(folder: str, shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = shot / folder
    there.mkdir()
    for k in range(COUNT):
        shutil.copy(shot / f"plate.{1001 + k}.png", there)
        shutil.copy(shot / f"mask.{1001 + k}.png", there)
    outputs = [there / "m.####.png", there / "m.mov", there / "n.%04d.exr:alpha"]
    named = [part for output in outputs for part in ("-o", output)]
    asked = ("matte", there / "plate.%04d.png", "--masks", there / "mask.####.png", "--model", "fake-colour", "--quiet")
    code, said = run(capsys, *asked, *named)
    assert code == 0 and not said, said
    for name in ("m.####.png", "n.%04d.exr"):
        assert open_clip(there / name).info.numbers == range(1001, 1001 + COUNT)
    assert open_clip(there / "m.mov").info.frames_in_header == COUNT


def test_signs_in_a_files_name(shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = shot / "plate.1001.png"
    for name in ("still #7.png", "logo@2x.png", "100%.png", "take %04d.png", "a:b.png", "#1.png"):
        shutil.copy(frame, shot / name)
        reader = open_clip(shot / name)
        assert len(list(reader.frames())) == 1, name
    for name in ("take@2.mov", "100%d.mov", "p#1:x.mov"):
        shutil.copy(shot / "plate.mov", shot / name)
        assert len(list(open_clip(shot / name).frames())) == COUNT, name
    for head in ("hero@2x.", "take#2_", "100%d."):
        for k in range(3):
            shutil.copy(frame, shot / f"{head}{1001 + k}.png")
        for sign in ("%04d", "####", "$F4", "@@@@"):
            assert open_clip(shot / f"{head}{sign}.png").info.numbers == range(1001, 1004), (head, sign)
    outputs = ["w@2.mov", "a:c.mov", "90%.png", "v#2.####.tif", "f#2%d/", "9%d.%04d.exr"]
    named = [part for output in outputs for part in ("-o", f"{shot}/{output}")]
    code, said = run(capsys, "matte", shot / "take@2.mov", *ASKED, *named, "--save-track", shot / "1%d.track")
    assert code == 0 and not said, said
    for name in (
        "w@2.mov",
        "a:c.mov",
        "90%.1001.png",
        "v#2.1006.tif",
        "f#2%d/f#2%d.1001.png",
        "9%d.1001.exr",
        "1%d.track",
    ):
        assert (shot / name).is_file(), name
    code, said = run(capsys, "info", shot / "gone@2.mov")
    assert code == 2 and "no such file" in said


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 can stand on Linux alone")
def test_names_that_are_not_utf8(shot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = os.fsdecode(b"pl\xe9.mov")
    there = shot / os.fsdecode(b"d\xe9")
    there.mkdir()
    shutil.copy(shot / "plate.mov", there / odd)
    suffixes = ("png", "exr", "tif", "dpx")
    named = [part for suffix in suffixes for part in ("-o", there / f"{odd}.####.{suffix}")]
    more = ("-o", there / "m.mov", "--save-track", there / f"{odd}.track", "--report", there / "r")
    code, said = run(
        capsys, "matte", there / odd, "--box", "16,10,44,38", "--model", "fake-colour", *named, *more, "--resume"
    )
    assert code == 0 and "\\xe9" in said, said
    assert json.loads((there / "r/run.json").read_text())["input"]["path"] == str(there / odd)
    for suffix in suffixes:
        assert len(list(open_clip(there / f"{odd}.%04d.{suffix}").frames())) == COUNT
    code, said = run(capsys, "info", there / "none.mov")
    assert code == 2 and said.count("\n") == 1


def test_a_background_may_be_called_like_a_colour(
    shot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shot)
    cv2.imwrite("#00ff00.png", cv2.imread("plate.1001.png"))
    shutil.copy("#00ff00.png", "bg@2.png")
    for name in ("#00ff00.png", "bg@2.png", "#00ff00"):
        code, said = run(capsys, "matte", "plate.mov", *ASKED, "--bg", name, "-o", "c.mp4", "--overwrite")
        assert code == 0, said
