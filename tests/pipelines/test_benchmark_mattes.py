"""Each benchmark's runner on a folder of its layout: the fake model's mattes are all but exact, and so its scores."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.core.geometry import Box
from mam_video.matting.still import matte_picture, matte_subjects
from mam_video.models.colour_model import ColourModel
from mam_video.prompts.prompt import Prompt
from pipelines.measure.benchmark_mattes import BENCHMARKS, main, prompt_of, settings_from
from tests.synthetic import disc, picture

SIZE = (72, 256)
LEFT, RIGHT = disc(SIZE, (40.5, 36.5), 20), disc(SIZE, (210.5, 36.5), 18)  # too far apart for one view
MAD_BAR = 3  # x1e3: JPEG, rounding, and resizing to the view and back
IMQ_BAR = 0.85  # the same, but over the union of the two alphas alone, times ten


def save(path: Path, values: np.ndarray) -> None:
    """An alpha (float) or RGB (uint8)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = np.rint(values * 255).astype(np.uint8) if values.ndim == 2 else values[..., ::-1]
    fine = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    assert cv2.imwrite(str(path), out, fine if path.suffix == ".jpg" else [])


def lay_out(root: Path, benchmark: str) -> None:
    """Two pictures (or two clips) as the benchmark lays them out, JPEG plates and PNG alphas (PPM-100: JPEG too)."""
    known = BENCHMARKS[benchmark]
    if known.clips:
        for clip in ("0000", "0001"):
            for t in range(3):
                alpha = disc(SIZE, (60.5 + 2 * t, 36.5), 20)
                if (clip, t) == ("0001", 0):
                    alpha = np.zeros(SIZE, np.float32)  # the subject enters later
                save(root / "videomatte_motion" / clip / "com" / f"{t:04d}.png", picture(alpha))
                save(root / "videomatte_motion" / clip / "fgr" / f"{t:04d}.png", picture(np.ones(SIZE, np.float32)))
                save(root / "videomatte_motion" / clip / "pha" / f"{t:04d}.png", alpha)
        return
    pictures, alphas = known.places[0]
    several = benchmark.startswith("him2k")
    for name, subjects in (("a", [LEFT, RIGHT] if several else [LEFT]), ("b", [RIGHT])):
        save(root / pictures / f"{name}.jpg", picture(np.maximum.reduce(subjects)))
        for i, alpha in enumerate(subjects):
            ending = ".jpg" if benchmark == "ppm-100" else ".png"
            save(root / alphas / (f"{name}/{i:02d}.png" if several else f"{name}{ending}"), alpha)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_one_command_makes_the_mattes_and_the_table(
    tmp_path: Path, benchmark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known = BENCHMARKS[benchmark]
    if known.instances:
        pytest.importorskip("scipy")
    lay_out(tmp_path / "data", benchmark)
    given = [benchmark, str(tmp_path / "data"), "--model", "fake-colour", "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*given, "--json", str(tmp_path / "scores.json")]) == 0
    shown = capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["benchmark"] == benchmark and scores["model"] == "fake-colour"
    if known.instances:
        assert list(scores["imq"]) == list(known.metrics)
        assert scores["rq"] == pytest.approx(1, abs=1e-5) and scores["imq"]["mad"] > IMQ_BAR, scores
        assert f"{3 if benchmark.startswith('him2k') else 2} subjects found, 0 false, 0 missed" in shown
    else:
        assert set(scores["mean"]) == set(known.metrics)
        assert scores["mean"]["mad"] < MAD_BAR, scores["mean"]
        assert "worst by MAD" in shown
    # nothing is made twice, and nothing is mistaken for another run's
    assert main(given) == 2
    assert "--reuse" in capsys.readouterr().err
    assert main([*given, "--reuse"]) == 0
    assert capsys.readouterr().out == shown


def test_a_part_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_out(tmp_path, "am-2k")
    given = ["am-2k", str(tmp_path), "--model", "fake-colour", "--out", str(tmp_path / "out"), "--limit", "1"]
    assert main([*given, "--prompt", "point"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["mean", "1"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_folder_of_another_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay_out(tmp_path, "am-2k")
    for benchmark, says in (("pm-10k", "with validation/P3M-500-NP/original_image/"), ("videomatte", "CLIP/com/")):
        assert main([benchmark, str(tmp_path), "--model", "fake-colour", "--out", str(tmp_path / "out")]) == 2
        assert says in capsys.readouterr().err
    (tmp_path / "validation/mask/b.png").unlink()
    assert main(["am-2k", str(tmp_path), "--model", "fake-colour", "--out", str(tmp_path / "out")]) == 2
    assert "b.jpg: has no alpha of its name" in capsys.readouterr().err
    save(tmp_path / "validation/mask/b.png", RIGHT[:, :99])
    assert main(["am-2k", str(tmp_path), "--model", "fake-colour", "--out", str(tmp_path / "out")]) == 2
    assert "another size" in capsys.readouterr().err


def test_prompts_are_those_of_the_authors_scripts() -> None:
    alpha = np.zeros((20, 30), np.float32)
    alpha[5:9, 10:21] = 128 / 255
    alpha[0, 0] = 127 / 255
    exact, whole = prompt_of(alpha, "box", inclusive=True), prompt_of(alpha, "box", inclusive=False)
    assert exact is not None and exact.box is not None and exact.box.xyxy == (10, 5, 20, 8)
    assert whole is not None and whole.box is not None and whole.box.xyxy == (10, 5, 21, 9)
    point = prompt_of(alpha, "point", inclusive=True)
    assert point is not None and point.box is None and (point.points[0].x, point.points[0].y) == (15, 6.5)
    assert prompt_of(np.zeros((4, 4), np.float32), "box", inclusive=True) is None


def test_mam_merges_as_the_paper_has_it() -> None:
    given = {
        "config": None,
        "device": None,
        "precision": "float32",
        "sam_weights": None,
        "mam_weights": None,
        "guidance": None,
    }
    expected = dict.fromkeys(("ppm-100", "am-2k", "pm-10k", "rwp-636"), "alpha")
    expected |= dict.fromkeys(("him2k-natural", "him2k-comp", "refmatte-rw100"), "mask")
    for benchmark, guidance in expected.items():
        settings = settings_from(argparse.Namespace(model="mam-vit-b", **given), BENCHMARKS[benchmark])
        matte = settings.matte
        assert settings.model.precision == "float32"
        assert (matte.guidance, matte.box_clean, matte.scale_widths) == (guidance, True, False)


def test_several_subjects_of_one_embedding() -> None:
    plate = picture(np.maximum(LEFT, RIGHT))
    model = ColourModel()
    prompts = [Prompt(Box(10, 10, 80, 70)), Prompt(Box(180, 10, 240, 70))]
    for one, prompt in zip(matte_subjects(model, plate, prompts), prompts, strict=True):
        np.testing.assert_array_equal(one, matte_picture(model, plate, prompt))
