"""`mam-video evaluate` prints a table, writes what it is asked for, and refuses in one line."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.cli import main
from tests.clips import soft_disc


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    disc = np.rint(soft_disc(48, 64) * 255).astype(np.uint8)
    for i in range(4):
        for kind, codes in (("pred", disc if i != 2 else disc // 2), ("true", disc)):
            (tmp_path / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / kind / f"{i:04d}.png"), codes)
    return tmp_path


def test_the_table_the_json_and_the_picture(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    given = ["evaluate", str(folders / "pred"), str(folders / "true"), "--worst", "1"]
    assert main([*given, "--json", str(folders / "o.json"), "--plot", str(folders / "o.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[-1] == "dtSSD x1e2" and "MAD x1e3" in lines[0]
    assert lines[1].split()[:2] == ["mean", "4"]
    assert lines[2].strip() == "worst by MAD" and lines[3].split()[0] == "0002"
    assert json.loads((folders / "o.json").read_text())["worst"][0]["frame"] == "0002"
    drawn = cv2.imread(str(folders / "o.png"))
    assert drawn is not None and drawn.shape[1] > 600


def test_masks_and_chosen_metrics(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folders / "pred"), str(folders / "true"), "--masks", "--worst", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["mean", "4", "0.750", "0.750"]
    assert main(["evaluate", str(folders / "pred"), str(folders / "true"), "--metrics", "mad, j"]) == 0
    assert capsys.readouterr().out.split("\n")[0].split() == ["frames", "MAD", "x1e3", "J"]


def test_instances(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("scipy")
    assert main(["evaluate", str(folders / "true"), str(folders / "true"), "--instances", "--metrics", "mad,iou"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["x100", "mad", "iou"] and lines[1].split() == ["IMQ", "100.000", "100.000"]
    assert lines[-1] == "4 pictures: 4 subjects found, 0 false, 0 missed"


def test_what_is_missing_is_named_before_the_work(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("mam_video.core.errors.find_spec", lambda n: None if n in ("matplotlib", "scipy") else real(n))
    given = ["evaluate", str(folders / "pred"), str(folders / "true")]
    assert main([*given, "--plot", str(folders / "o.png")]) == 2
    assert "drawing needs matplotlib" in (said := capsys.readouterr()).err and not said.out
    assert "pip install 'mam-video[evaluate]'" in said.err
    assert main([*given, "--instances"]) == 2
    assert "needs scipy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--metrics", "mad,sda"], "no metric is called 'sda'"),
        (["--json", "{}/absent/o.json"], "does not exist"),
        (["--instances", "--masks"], "no --plot, --masks or --stills"),
        (["--instances", "--metrics", "sad"], "no metric 'sad'"),
        (["--above", "2"], "not 2"),
    ],
)
def test_asked_wrongly(folders: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str) -> None:
    given = ["evaluate", str(folders / "pred"), str(folders / "true"), *(m.format(folders) for m in more)]
    assert main(given) == 2
    said = capsys.readouterr()
    assert says in said.err and said.err.count("\n") == 1 and not said.out
