"""Cuts: found to the frame, not in flashes; each shot comes out as if it were alone."""

import json
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.cli import main
from mam_video.core.errors import UsageError
from mam_video.core.frames import Frame, Matted, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.matting.pipeline import matte_frames
from mam_video.models.colour_model import ColourModel
from mam_video.motion.flow import with_motion
from mam_video.motion.shot_detection import CutFinder
from mam_video.prompts.prompt import Prompt, Prompts
from mam_video.report.run import RunReport
from tests.synthetic import GREEN, disc, write_movie

SIZE = (120, 200)
LENGTHS = (7, 6, 8)  # frames of three shots
CUTS = [7, 13]


@cache
def ground(shot: int) -> np.ndarray:
    """A ground of grey shapes, other ones for each shot; wide enough for a pan."""
    rng = np.random.default_rng(45 + shot)
    grey = np.full((200, 600), 60 + 60 * shot, np.float32)
    for _ in range(60):
        x, y, w, h = (int(rng.integers(low, high)) for low, high in ((0, 600), (0, 200), (8, 50), (8, 50)))
        value = float(rng.integers(20, 240))
        if shot % 2:
            cv2.circle(grey, (x, y), w // 2, value, -1)
        else:
            cv2.rectangle(grey, (x, y), (x + w, y + h), value, -1)
    return grey


def centre(shot: int, i: int) -> tuple[float, float]:
    return 60.0 + 40 * shot + 2 * i, 50.0 + 10 * shot + i


def picture(shot: int, i: int, pan: int = 1) -> np.ndarray:
    """Frame `i` of a shot: a green disc that moves over a ground that moves by `pan` pixels a frame."""
    grey = ground(shot)[: SIZE[0], i * pan : i * pan + SIZE[1], None]
    alpha = disc(SIZE, centre(shot, i), 18)[..., None]
    return np.rint(GREEN * alpha + grey * (1 - alpha)).astype(np.uint8)


def prompt(shot: int, i: int = 0) -> Prompt:
    x, y = centre(shot, i)
    return Prompt(Box(x - 18, y - 18, x + 18, y + 18))


def edited() -> list[np.ndarray]:
    return [picture(shot, i) for shot, length in enumerate(LENGTHS) for i in range(length)]


def as_frames(pictures: list[np.ndarray], first: int = 0) -> Iterator[Frame]:
    for k, rgb in enumerate(pictures):
        yield Frame(first + k, first + k, Fraction(1, 24), rgb)


def settings_of(on_cut: str, **more: dict[str, object]) -> Settings:
    values = {"model": {"name": "fake-colour", "batch": 4}, "cuts": {"on_cut": on_cut}, "smooth": {"radius": 2}}
    return Settings().with_values({**values, **more}, "test")


def found(pictures: list[np.ndarray]) -> list[int]:
    settings = settings_of("continue")
    finder = CutFinder(settings.cuts, settings.motion)
    assert [f.index for f, _ in finder.watch(with_motion(as_frames(pictures), settings.motion))] == list(
        range(len(pictures))
    )
    return finder.found


def matted(pictures: list[np.ndarray], on_cut: str, first: int = 0) -> list[Matted]:
    return list(matte_frames(as_frames(pictures, first), prompt(0), ColourModel(), settings_of(on_cut)))


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = edited()
    return write_movie(tmp_path_factory.mktemp("edited") / "plate.mov", len(pictures), lambda k: pictures[k])


def read_png(path: Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None
    return found


def pictures_in(folder: Path) -> list[bytes]:
    found = [path.read_bytes() for path in sorted(folder.glob("*.png"))]
    assert found
    return found


def states(report: RunReport) -> str:
    """A letter a frame: p, t, c and so on."""
    return "".join(str(record.state)[0] for record in report.records)


def test_hard_cuts_are_found_to_the_frame() -> None:
    assert found(edited()) == CUTS


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_no_cut(length: int) -> None:
    pictures = [picture(0, i) for i in range(12)]
    for k in range(5, 5 + length):
        pictures[k] = np.clip(pictures[k].astype(np.float32) * 2 + 120, 0, 255).astype(np.uint8)
    assert found(pictures) == []


def test_a_fast_pan_is_no_cut() -> None:
    assert found([picture(1, i, pan=16) for i in range(12)]) == []


def test_one_picture_and_flat_pictures_hold_no_cut() -> None:
    black = np.zeros((*SIZE, 3), np.uint8)
    assert found([black]) == found([black] * 3) == found([]) == []


def test_the_way_to_a_cut_is_not_smoothed_over() -> None:
    """With the cut unseen, the frames beside it come out otherwise: the tests of shots alone can fail."""
    unseen = settings_of("continue", cuts={"on_cut": "continue", "threshold": -2})
    seen = matted(edited(), "continue")
    blind = list(matte_frames(as_frames(edited()), prompt(0), ColourModel(), unseen))
    assert any((a.alpha != b.alpha).any() for a, b in zip(seen, blind, strict=True))


@pytest.mark.parametrize("batch", [1, 4])
def test_the_first_shot_comes_out_as_if_it_were_alone(batch: int) -> None:
    settings = settings_of("reprompt", model={"name": "fake-colour", "batch": batch})
    together = list(matte_frames(as_frames(edited()), prompt(0), ColourModel(), settings))
    alone = list(matte_frames(as_frames(edited()[:7]), prompt(0), ColourModel(), settings))
    assert [m.frame.index for m in together] == list(range(21)) and len(alone) == 7
    for whole, part in zip(together, alone, strict=False):
        np.testing.assert_array_equal(whole.alpha, part.alpha)
        assert whole.record == part.record
    assert [m.record.state for m in together[7:]] == [State.CUT] * 14
    assert [m.record.index for m in together if m.record.cut] == CUTS
    assert not any(m.alpha.any() for m in together[7:])
    assert together[8].record.findings == (Finding(Reason.NO_PROMPT_IN_SHOT, 7.0),)
    assert together[14].record.findings == (Finding(Reason.NO_PROMPT_IN_SHOT, 13.0),)


def test_continue_tracks_on_and_flags_the_frame() -> None:
    result = matted(edited(), "continue")
    assert [m.frame.index for m in result if m.record.state is State.CUT] == CUTS
    assert [m.frame.index for m in result if m.record.cut] == CUTS
    assert all(m.alpha.any() for m in result)


def test_stop_ends_before_the_cut(plate: Path, tmp_path: Path) -> None:
    report = matte_clip(plate, f"{tmp_path}/m/:alpha", prompt(0), settings_of("stop"))
    assert len(report.records) == len(list((tmp_path / "m").glob("*.png"))) == 7
    assert any("stopped before frame 7" in note and "--range" in note for note in report.notes)


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ((0, 7, 13), "pttttttptttttpttttttt"),  # the first frame of each shot
        ((0, 10, 13), "ptttttttttpttpttttttt"),
        ((0, 16), "pttttttcccccctttptttt"),  # none for the second shot
        ((0, 3), "pttptttcccccccccccccc"),
    ],
)
def test_prompts_of_each_shot_in_one_command(
    plate: Path, tmp_path: Path, places: tuple[int, ...], expected: str
) -> None:
    """By the command line: every frame of a shot that is prompted anywhere has its subject, others are empty."""
    shot_of = {i: (shot, i - start) for shot, start in enumerate([0, *CUTS]) for i in range(start, 21)}
    asked = []
    for place in places:
        box = prompt(*shot_of[place]).box
        assert box is not None
        asked += ["--prompt", f"{place}:box={','.join(f'{v:g}' for v in box.xyxy)}"]
    out, run = tmp_path / "m" / "alpha.%04d.png:alpha", tmp_path / "report"
    command = [
        "matte", str(plate), *asked, "-o", str(out), "--report", str(run), "--model", "fake-colour", "--smooth", "0.6"
    ]  # fmt: skip
    (tmp_path / "m").mkdir()
    assert main(command) == 0
    frames = json.loads((run / "run.json").read_text())["frames"]
    assert "".join(f["state"][0] for f in frames) == expected
    assert [f["index"] for f in frames if f.get("cut")] == CUTS
    for index, path in enumerate(sorted((tmp_path / "m").glob("*.png"))):
        alpha = read_png(path) / 65535
        truth = disc(SIZE, centre(*shot_of[index]), 18) if expected[index] != "c" else 0
        assert np.abs(alpha - truth).mean() < 0.01, index


def test_each_prompted_shot_comes_out_as_if_it_were_alone(plate: Path, tmp_path: Path) -> None:
    """The bits of every frame, those beside the cuts above all; and again from the saved track."""
    settings = settings_of("reprompt")
    prompts = Prompts.of({0: prompt(0), 7: prompt(1), 13: prompt(2)})
    report = matte_clip(plate, f"{tmp_path}/m/:alpha", prompts, settings, track_to=tmp_path / "t.track")
    assert [r.index for r in report.records if r.cut] == CUTS
    assert not report.flagged and not any("shot" in note for note in report.notes)
    again = matte_clip(plate, f"{tmp_path}/n/:alpha", None, settings, track_from=tmp_path / "t.track")
    assert again.records == report.records
    ends = [*CUTS, 21]
    for shot, (start, end) in enumerate(zip([0, *CUTS], ends, strict=True)):
        matte_clip(plate, f"{tmp_path}/{shot}/:alpha", prompt(shot), settings, frames=(start, end - 1))
    assert pictures_in(tmp_path / "m") == pictures_in(tmp_path / "n")
    alone = [picture for shot in range(3) for picture in pictures_in(tmp_path / str(shot))]
    assert pictures_in(tmp_path / "m") == alone


def test_backward_stops_at_the_cut_before_the_prompt(plate: Path, tmp_path: Path) -> None:
    report = matte_clip(
        plate, f"{tmp_path}/m/:alpha", Prompts.of({15: prompt(2, 2)}), settings_of("reprompt"), backward=True
    )
    assert states(report) == "c" * 13 + "ttptt" + "ttt"
    assert [r.index for r in report.records if r.cut] == CUTS
    assert any("begins at frame 7 has no prompt" in note for note in report.notes)
    on = matte_clip(
        plate, f"{tmp_path}/n/:alpha", Prompts.of({15: prompt(2, 2)}), settings_of("continue"), backward=True
    )
    assert [r.index for r in on.records if r.state is State.CUT] == CUTS


def test_a_prompt_after_the_cut_where_the_run_stops(plate: Path, tmp_path: Path) -> None:
    prompts = Prompts.of({0: prompt(0), 9: prompt(1, 2)})
    with pytest.raises(UsageError, match="prompt on frame 9: lies after the cut before frame 7"):
        matte_clip(plate, tmp_path / "m.mov", prompts, settings_of("stop"))
    assert not (tmp_path / "m.mov").exists()
    report = matte_clip(plate, tmp_path / "m.mov", Prompts.of({0: prompt(0), 3: prompt(0, 3)}), settings_of("stop"))
    assert states(report) == "pttpttt"


def test_several_subjects_wait_together(plate: Path, tmp_path: Path) -> None:
    both = [Prompts.of({0: prompt(0)}, "a"), Prompts.of({0: Prompt(Box(150, 80, 180, 110))}, "b")]
    report = matte_clip(plate, f"{tmp_path}/{{subject}}/:alpha", both, settings_of("reprompt"))
    assert [len(row) for row in report.parts] == [2] * 21
    assert all(record.state is State.CUT for row in report.parts[7:] for record in row)
    assert [record.subject for record in report.parts[20]] == ["a", "b"]
    assert not any(read_png(p).any() for p in sorted((tmp_path / "a").glob("*.png"))[7:])


def test_masks_from_elsewhere_are_not_smoothed_over_a_cut(plate: Path, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for shot, (start, length) in enumerate(zip([0, *CUTS], LENGTHS, strict=True)):
        for i in range(length):
            mask = np.rint(disc(SIZE, centre(shot, i), 18) * 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "masks" / f"m.{start + i:04d}.png"), mask)
    settings = settings_of("reprompt")
    masks = tmp_path / "masks" / "m.%04d.png"
    report = matte_clip(plate, f"{tmp_path}/m/:alpha", None, settings, masks=masks)
    assert [r.index for r in report.records if r.cut] == CUTS and not report.flagged
    assert not any("shot" in note for note in report.notes)
    assert len(matte_clip(plate, f"{tmp_path}/s/:alpha", None, settings_of("stop"), masks=masks).records) == 7


@pytest.mark.parametrize("on_cut", ["reprompt", "continue"])
def test_a_run_cut_off_after_a_cut_goes_on(plate: Path, tmp_path: Path, on_cut: str) -> None:
    settings = settings_of(on_cut)
    whole = matte_clip(plate, f"{tmp_path}/whole/:alpha", prompt(0), settings)

    def interrupt(matted: Matted, report: RunReport) -> None:
        if matted.frame.index == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matte_clip(plate, f"{tmp_path}/m/:alpha", prompt(0), settings, resume=True, on_frame=interrupt)
    report = matte_clip(plate, f"{tmp_path}/m/:alpha", prompt(0), settings, resume=True)
    assert [(r.index, r.state, r.cut, r.findings) for r in report.records] == [
        (r.index, r.state, r.cut, r.findings) for r in whole.records
    ]
    assert pictures_in(tmp_path / "m") == pictures_in(tmp_path / "whole")


def test_the_run_names_shots_without_prompts(plate: Path, tmp_path: Path) -> None:
    report = matte_clip(plate, tmp_path / "m.mov", prompt(0), settings_of("reprompt"))
    assert states(report) == "ptttttt" + 14 * "c"
    assert any("begin at frames 7, 13 have no prompt" in note for note in report.notes)
    assert [(r.first, r.last, r.state) for r in report.flagged] == [(7, 12, State.CUT), (13, 20, State.CUT)]


def test_an_unknown_way_is_named() -> None:
    with pytest.raises(UsageError, match=r"cuts\.on_cut must be one of stop, reprompt, continue"):
        settings_of("jump")
