"""Several subjects from the command line: outputs of each, of all, in layers; and what is refused in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mam_video.cli import main
from mam_video.cli.prompts import clip_of
from mam_video.core.frames import Matted
from mam_video.core.settings import Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.media import open_clip
from mam_video.media.atomic_output import of_subjects
from mam_video.prompts.parse import PromptClip, by_subject, parse_entry
from mam_video.report.run import RunReport
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
    assert "all.####.png:alpha holds dancer and drummer together" in said
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
    assert "lost drummer" in page and '"prefix": "drummer@"' in page


@pytest.mark.parametrize("name", ["{subject}.mov", "matte.mov"])
def test_one_subject_needs_no_name(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, said = run(capsys, "matte", plate, "--box", "18,28,42,52", *MODEL, "-o", tmp_path / name)
    assert code == 0, said
    assert (tmp_path / name.replace("{subject}", "subject")).is_file()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--prompt", "singer@2:box=18,28,42,52"), "subject 'singer': the first prompt is on frame 2"),
        (("--prompt", "dancer@0:box=18,28,42,52"), "its frame has a prompt already"),
        (("--prompt", "dancer@9:box=18,28,42,52"), "the clip has 4 frames"),
        (("--save-track", "one.track"), "one file for 2 tracks; put {subject} in its name"),
        (("--prompt", "../evil@0:box=1,1,20,20"), "'../evil' cannot be part of a file's name"),
        (("--prompt", "DANCER@0:box=1,1,20,20"), "differ in case alone"),
        (("--prompt", "1st@0:box=1,1,20,20", "-o", "layers/:exr-layers"), "'1st' cannot be a layer's name"),
        (("--prompt", "@0:box=1,1,20,20"), "names no subject before the @"),
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


ALONE = ("--smooth", 0, "--set", "view.subjects=own")


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_invert_is_of_each_and_of_all(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, more in (("plain", ()), ("other", ("--invert",))):
        (tmp_path / folder).mkdir()
        names = (
            "-o",
            f"{tmp_path}/{folder}/{{subject}}.%04d.png:alpha",
            "-o",
            f"{tmp_path}/{folder}/all.%04d.png:alpha",
        )
        assert run(capsys, "matte", plate, *PROMPTS, *MODEL, *ALONE, *names, *more)[0] == 0
    for name in written(tmp_path / "plain"):
        plain, other = (read_png(tmp_path / folder / name) for folder in ("plain", "other"))
        assert np.abs(plain + other - 1).max() < 1e-4


def test_what_is_included_is_shared(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is 1 for all together; a pixel of one subject alone is that one's, and one of nobody is shared evenly."""
    mask = np.zeros(SIZE, np.uint8)
    mask[30:50, 20:64] = 255
    Image.fromarray(mask).save(tmp_path / "include.png")
    names = ("-o", f"{tmp_path}/{{subject}}.%04d.png:alpha", "-o", f"{tmp_path}/all.%04d.png:alpha")
    more = ("--include", tmp_path / "include.png")
    assert run(capsys, "matte", plate, *PROMPTS, *MODEL, *ALONE, *names, *more)[0] == 0
    dancer, drummer, both = (read_png(tmp_path / f"{name}.1001.png") for name in ("dancer", "drummer", "all"))
    assert (both[30:50, 20:64] > 0.9999).all() and np.abs(dancer + drummer - both).max() < 1e-4
    x, y = (round(v) for v in PLACES["dancer"])
    assert dancer[y, x] == 1 and drummer[y, x] == 0
    assert dancer[40, 60] == pytest.approx(0.5, abs=1e-4) == drummer[40, 60]


def test_prompts_on_several_frames_of_several_subjects(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is tracked by itself, in both directions, as in a run of its own."""
    more = ("--prompt", "dancer@3:box=24,28,48,52", "--smooth", 0)
    (tmp_path / "alone").mkdir()
    for name, prompts in (("dancer", (*PROMPTS[:2], *more)), ("drummer", PROMPTS[2:])):
        output = f"{tmp_path}/alone/{name}.%04d.png:alpha"
        assert run(capsys, "matte", plate, *prompts, *MODEL, "--smooth", 0, "-o", output)[0] == 0
    (tmp_path / "both").mkdir()
    names = ("-o", f"{tmp_path}/both/{{subject}}.%04d.png:alpha", "--save-track", f"{tmp_path}/{{subject}}.track")
    code, said = run(capsys, "matte", plate, *PROMPTS, *more, *MODEL, *names)
    assert code == 0 and "prompts on frames 0, 3" in said
    assert written(tmp_path / "both") == written(tmp_path / "alone")
    late = ("--prompt", "dancer@2:box=22,28,46,52", "--prompt", "drummer@0:box=83,38,107,62", "--backward")
    assert run(capsys, "matte", plate, *late, *MODEL, *names, "--overwrite")[0] == 0
    for name in PLACES:
        assert near(read_png(tmp_path / "both" / f"{name}.1001.png"), truth(name, 0))


@pytest.mark.parametrize("late", [(), ("--prompt", "dancer@3:box=24,28,48,52")])
def test_a_run_of_several_that_was_cut_off_goes_on(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], late: tuple[str, ...]
) -> None:
    """The outputs, the tracks and the records are those of a run that was not cut off."""
    told = []
    for folder, stops in (("whole", ()), ("cut", (1, 2))):
        (tmp_path / folder).mkdir()
        outputs = [f"{tmp_path}/{folder}/{{subject}}.%04d.png", f"{tmp_path}/{folder}/all.%04d.exr"]
        with open_clip(plate) as clip:
            prompts = by_subject(parse_entry(text, clip_of(clip.info)) for text in (*PROMPTS, *late) if "@" in text)
            settings = Settings().with_values({"model": {"name": "fake-colour", "batch": 2}}, "test")
            for stop in stops:
                with pytest.raises(KeyboardInterrupt, match=f"frames done: {stop}"):
                    matte_clip(clip, outputs, list(prompts.values()), settings, resume=True, on_frame=stop_after(stop))
            report = matte_clip(
                clip, outputs, list(prompts.values()), settings, resume=bool(stops),
                track_to=f"{tmp_path}/{folder}/{{subject}}.track",
            )  # fmt: skip
        told.append((report.records, report.parts, report.flagged))
        assert not report.failed_checks and bool(stops) == any("resumed after 2" in note for note in report.notes)
    assert told[0] == told[1] and len(told[0][0]) == COUNT
    assert written(tmp_path / "whole") == written(tmp_path / "cut")


def stop_after(count: int) -> Callable[[Matted, RunReport], None]:
    def stop(matted: Matted, report: RunReport) -> None:
        if len(report.records) == count:
            raise KeyboardInterrupt

    return stop
