"""Several subjects from the command line: outputs of each, of all, in layers; and what is refused in a line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mam_video.cli import main
from mam_video.media.atomic_output import of_subjects
from mam_video.prompts.parse import PromptClip, parse_entry
from mam_video.tracking.track_file import Track
from tests.media.sequence_clips import read_exr
from tests.synthetic import disc, picture, write_movie

SIZE = (96, 128)
COUNT = 4
PLACES = {"dancer": (30.0, 40.0), "drummer": (95.0, 50.0)}
MODEL = ("--model", "fake-colour")
PROMPTS = (
    *("--prompt", "dancer@0:box=18,28,42,52"),
    *("--prompt", "drummer@0:box=83,38,107,62"),
)


def truth(name: str, i: int) -> np.ndarray:
    x, y = PLACES[name]
    return disc(SIZE, (x + 2 * i if name == "dancer" else x, y), 12)


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two green discs that never meet; the fake model's mask holds both where both are in its view."""
    folder = tmp_path_factory.mktemp("plates")
    return write_movie(
        folder / "plate.mov", COUNT, lambda i: picture(np.maximum(truth("dancer", i), truth("drummer", i)))
    )


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


def read_png(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), np.float32) / 65535


def near(alpha: np.ndarray, meant: np.ndarray) -> bool:
    return bool(((alpha > 0.5) ^ (meant > 0.5)).sum() < 24)


def test_each_all_and_layers_in_one_run(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    code, said = run(
        capsys, "matte", plate, *PROMPTS, *MODEL, "--set", "view.subjects=own",
        "-o", f"{out}/{{subject}}.####.png:alpha", "-o", f"{out}/{{subject}}/matte.####.exr",
        "-o", f"{out}/all.####.png:alpha", "-o", f"{out}/layers/:exr-layers", "-o", f"{out}/{{subject}}.mov",
        "--save-track", f"{out}/{{subject}}.track", "--report", tmp_path / "report",
    )  # fmt: skip
    assert code == 0, said
    assert "all.####.png:alpha holds dancer, drummer together" in said
    for i in range(COUNT):
        number = 1001 + i
        _, layers = read_exr(out / f"layers/layers.{number}.exr")
        assert sorted(layers) == ["dancer.A", "drummer.A"]
        total = np.zeros(SIZE, np.float32)
        for name in PLACES:
            alpha = read_png(out / f"{name}.{number}.png")
            assert near(alpha, truth(name, i))
            assert np.abs(layers[f"{name}.A"].astype(np.float32) - alpha).max() < 1e-3
            _, own = read_exr(out / f"{name}/matte.{number}.exr")
            assert np.abs(own["A"].astype(np.float32) - alpha).max() < 1e-3
            total += alpha
        assert np.abs(read_png(out / f"all.{number}.png") - total).max() < 1e-3
    assert (out / "dancer.mov").is_file() and (out / "drummer.mov").is_file()
    told = json.loads((tmp_path / "report" / "run.json").read_text())
    assert [(f["index"], f["subject"]) for f in told["frames"]] == [(i, n) for i in range(COUNT) for n in PLACES]
    assert all(check["good"] for checks in told["read_back"].values() for check in checks.values())
    for name in PLACES:
        with Track.load(out / f"{name}.track", SIZE) as track:
            assert len(track) == COUNT


def test_what_is_flagged_names_the_subject(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = np.zeros(SIZE, np.float32)
    plate = write_movie(
        tmp_path / "plate.mov",
        5,
        lambda i: picture(np.maximum(truth("dancer", i), truth("drummer", 0) if i < 3 else nothing)),
    )
    code, said = run(
        capsys, "matte", plate, *PROMPTS, *MODEL, "--set", "view.subjects=own", "-o", f"{tmp_path}/{{subject}}.mov",
        "--strict", "--report", tmp_path / "report",
    )  # fmt: skip
    assert code == 3
    assert "frames 3-4, drummer: lost" in said and "dancer:" not in said
    told = json.loads((tmp_path / "report" / "run.json").read_text())
    assert [(f["first"], f["last"], f["subject"]) for f in told["flagged"]] == [(3, 4, "drummer")]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "lost drummer" in page and "--prompt drummer@3:box=" in page


@pytest.mark.parametrize("name", ["{subject}.mov", "matte.mov"])
def test_one_subject_needs_no_name(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, said = run(capsys, "matte", plate, "--box", "18,28,42,52", *MODEL, "-o", tmp_path / name)
    assert code == 0, said
    assert (tmp_path / name.replace("{subject}", "subject")).is_file()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--prompt", "dancer@2:box=18,28,42,52"), "subject 'dancer' has prompts on frames 0, 2"),
        (("--resume",), "--resume is for one subject, 2 are named"),
        (("--invert",), "--invert is for one subject, 2 are named"),
        (("--save-track", "one.track"), "one file for 2 tracks; put {subject} in its name"),
        (("--prompt", "../evil@0:box=1,1,20,20"), "'../evil' cannot be part of a file's name"),
        (("--prompt", "DANCER@0:box=1,1,20,20"), "differ in case alone"),
        (("--prompt", "1st@0:box=1,1,20,20", "-o", "layers/:exr-layers"), "'1st' cannot be a layer's name"),
        (("--prompt", "@0:box=1,1,20,20"), "names no subject before the @"),
        (("-o", "nowhere/{subject}/matte.mov"), "there is no folder"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    plate: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    output = "{subject}/matte.mov"
    code, said = run(capsys, "matte", plate, *PROMPTS, *MODEL, "--quiet", "-o", output, *more)
    assert code in (1, 2)
    assert says in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_layers_of_one_subject_are_refused(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "matte", plate, "--box", "18,28,42,52", *MODEL, "-o", f"{tmp_path}/m/:exr-layers")
    assert code == 2 and "exr-layers is for several subjects" in said


def test_names_in_outputs() -> None:
    assert of_subjects("a.mov", ["x", "y"]) == {None: "a.mov"}
    assert of_subjects("{subject}/{subject}.mov", ["x y", "Zoë"]) == {"x y": "x y/x y.mov", "Zoë": "Zoë/Zoë.mov"}
    for bad in ("", ".", "..", "a/b", "a\\b", "a:b", "a%d", "##", "con", "a.", "a ", "\n", "x" * 65):
        with pytest.raises(Exception, match="cannot be part of a file's name"):
            of_subjects("{subject}.mov", ["good", bad])


def test_a_prompt_may_name_its_subject() -> None:
    clip = PromptClip((100, 100), int)
    assert parse_entry("the dancer@3:point=5,5", clip).subject == "the dancer"
    assert parse_entry("3:point=5,5", clip).subject == "subject"


def test_each_has_its_own_look(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is for all, and what is otherwise for one of them; of a subject alone too."""
    for folder in ("plain", "looks", "alone"):
        (tmp_path / folder).mkdir()
    smooth = (*MODEL, "--smooth", 0, "--set", "view.subjects=own")
    assert run(capsys, "matte", plate, *PROMPTS, "-o", f"{tmp_path}/plain/{{subject}}.%04d.png:alpha", *smooth)[0] == 0
    look = ("--grow", 1, "--edge", "drummer:grow=4;feather=2", "--look", "drummer:black=0.1")
    code, said = run(
        capsys, "matte", plate, *PROMPTS, "-o", f"{tmp_path}/looks/{{subject}}.%04d.png:alpha", *smooth, *look
    )
    assert code == 0, said
    options = ("-o", f"{tmp_path}/alone/drummer.%04d.png:alpha", *smooth, *look)
    assert run(capsys, "matte", plate, *PROMPTS[2:], *options)[0] == 0
    for name, moved in (("dancer", 1), ("drummer", 4)):
        before, after = (read_png(tmp_path / folder / f"{name}.1001.png") for folder in ("plain", "looks"))
        radius = [np.sqrt((alpha > 0.5).sum() / np.pi) for alpha in (before, after)]
        assert radius[1] - radius[0] == pytest.approx(moved, abs=0.4)
    assert (tmp_path / "alone/drummer.1001.png").read_bytes() == (tmp_path / "looks/drummer.1001.png").read_bytes()


@pytest.mark.parametrize(
    ("look", "told"),
    [
        ("singer:grow=2", "no such subject; subjects of this run: dancer, drummer"),
        ("dancer:size=2", "unknown key 'size' in [edges.dancer]; known: black, white, choke, grow, feather"),
        ("dancer:grow=much", "--edge dancer:grow must be a number, is 'much'"),
        ("dancer:grow=-1", "--edge dancer:grow must be between 0 and 100, is -1"),
        ("dancer:black=0.9;white=0.2", "--edge dancer:black 0.9 must lie below --edge dancer:white 0.2"),
        ("dancer:white=0", "finish.black 0 must lie below --edge dancer:white 0"),
        ("grow=2", "is not of the form SUBJECT:KEY=VALUE"),
        ("dancer:grow", "is not of the form SUBJECT:KEY=VALUE"),
        ("dancer:invert=true", "unknown key 'invert'"),
    ],
)
def test_a_look_that_cannot_be_is_told_in_a_line(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], look: str, told: str
) -> None:
    code, said = run(capsys, "matte", plate, *PROMPTS, "-o", tmp_path / "m.mov", *MODEL, "--edge", look)
    assert code == 2 and told in said and len(said.strip().splitlines()[-1:]) == 1
    assert not (tmp_path / "m.mov").exists()
