"""What would be short or wrong is said before the work; what came of a run is printed plainly, the result first."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mam_video.cli import main
from mam_video.cli import progress as progress_module
from mam_video.core.frames import Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Reason
from mam_video.jobs.prompt_check import judged
from mam_video.prompts.prompt import Prompt
from tests.synthetic import disc, picture, write_movie

SIZE = (96, 128)
COUNT = 10
MODEL = ("--model", "fake-colour")
BOX = ("--box", "18,28,42,52")


def truth(i: int) -> np.ndarray:
    return disc(SIZE, (30 + 3 * i, 40), 12)


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_movie(tmp_path_factory.mktemp("plates") / "plate.mov", COUNT, lambda i: picture(truth(i)))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


# Before the work


def test_a_track_that_lacks_frames_of_the_run_is_refused(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    track, out = tmp_path / "t.track", tmp_path / "m.mov"
    matte = ("matte", plate, *MODEL, "-o", out)
    assert run(capsys, *matte, *BOX, "--range", "0-5", "--save-track", track)[0] == 0
    out.unlink()
    kept = sorted(tmp_path.iterdir())  # the track has one frame more, which smoothing looks at
    monkeypatch.setattr("mam_video.jobs.matte_clip.load_model", lambda settings: pytest.fail("the work has begun"))
    for frames, says in {
        "3-8": "t.track covers frames 0-6; you asked for 3-8",
        "7-8": "t.track covers frames 0-6; you asked for 7-8",
        "2-": "t.track covers frames 0-6; you asked for 2-9",
        "": "t.track covers frames 0-6; the clip has frames 0-9: give --range 0-6",
    }.items():
        code, said = run(capsys, *matte, "--track", track, *(("--range", frames) if frames else ()))
        assert code == 2 and says in said
        assert sorted(tmp_path.iterdir()) == kept
    monkeypatch.undo()
    code, said = run(capsys, *matte, "--track", track, "--range", "2-5")
    assert code == 0 and "m.mov: 4 frames" in said


def test_tracks_of_subjects_are_read_back_as_they_were_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    both = [np.maximum(truth(i), disc(SIZE, (100, 70), 12)) for i in range(4)]
    write_movie(tmp_path / "plate.mov", 4, lambda i: picture(both[i]))
    prompts = ("--prompt", "dancer@0:box=18,28,42,52", "--prompt", "drummer@0:box=88,58,112,82")
    matte = ("matte", "plate.mov", *MODEL, "--set", "view.subjects=own")
    first = (*prompts, "-o", "a/{subject}.####.png:alpha", "--save-track", "tracks/p_{subject}.track")
    assert run(capsys, *matte, *first)[0] == 0
    assert sorted(p.name for p in Path("tracks").iterdir()) == ["p_dancer.track", "p_drummer.track"]
    again = ("--track", "tracks/p_{subject}.track", "-o", "b/{subject}.####.png:alpha")
    code, said = run(capsys, *matte, *again)
    assert code == 0 and "tracks: tracks/p_dancer.track, tracks/p_drummer.track\n" in said
    for name in ("dancer", "drummer"):
        one, other = (sorted(Path(folder).glob(f"{name}.*.png")) for folder in "ab")
        assert len(one) == 4 and [p.read_bytes() for p in one] == [p.read_bytes() for p in other]
    code, said = run(capsys, *matte, "--track", "q_{subject}.track", "-o", "c.mov")
    assert code == 2 and "no such track file; {subject} stands for the subjects' names" in said


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("--box 1,2,30,40 --box 3,4,50,60", "--box was given twice; for two subjects: --prompt NAME@0:box=1,2,30,40"),
        ("--mask a.png --mask b.png", "--mask was given twice; give it once"),
        ("--track a.track --track b.track", "--track was given twice"),
        ("--box 17,30,35,78%", "box '17,30,35,78%' mixes pixels and percent"),
        ("--point 50%,7", "point '50%,7' mixes pixels and percent"),
        ("--box 5,5,6.5,9", "under 2 pixels"),
    ],
)
def test_what_would_be_taken_wrongly_is_refused(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, says: str
) -> None:
    code, said = run(capsys, "matte", plate, *MODEL, *given.split(), "-o", tmp_path / "m.mov")
    assert code == 2 and says in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_masks_of_the_range_alone(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "masks").mkdir()
    for k in range(4):
        cv2.imwrite(str(tmp_path / "masks" / f"m.{k:04d}.png"), np.rint(truth(3 + k) * 255).astype(np.uint8))
    masks = ("--masks", tmp_path / "masks" / "m.%04d.png", *MODEL)
    code, said = run(capsys, "matte", plate, *masks, "--range", "3-6", "-o", f"{tmp_path}/m/:alpha")
    assert code == 0 and "its 4 masks are taken for frames 3-6, in order" in said
    alphas = [cv2.imread(str(p), cv2.IMREAD_UNCHANGED) / 65535 for p in sorted((tmp_path / "m").iterdir())]
    assert len(alphas) == 4
    for k, alpha in enumerate(alphas):
        alpha = alpha if alpha.ndim == 2 else alpha[..., 0]
        assert np.minimum(alpha, truth(3 + k)).sum() / np.maximum(alpha, truth(3 + k)).sum() > 0.8
    code, said = run(capsys, "matte", plate, *masks, "--range", "3-7", "-o", f"{tmp_path}/n/:alpha")
    assert code == 2 and "holds 4 masks, the clip 10 frames and the range 5" in said


def test_masks_of_a_range_are_previewed(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "masks").mkdir()
    for k in range(4):
        cv2.imwrite(str(tmp_path / "masks" / f"m.{k:04d}.png"), np.rint(truth(3 + k) * 255).astype(np.uint8))
    command = ("preview", plate, "--masks", tmp_path / "masks" / "m.%04d.png", *MODEL, "-o", tmp_path / "p.png")
    code, said = run(capsys, *command, "--range", "3-6")
    assert code == 0 and "p.png: frame 3" in said and "time for the range's 4 frames" in said
    code, said = run(capsys, *command, "--range", "3-7", "--overwrite")
    assert code == 2 and "holds 4 masks, the clip 10 frames and the range 5" in said


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("--range 9-5", "--range '9-5': the first frame comes after the last"),
        ("--range 30-40", "plate.mov has the frames 0-9"),
        ("--range x", "is not of the form FIRST-LAST"),
        ("--track none.track", "none.track: no such track file"),
    ],
)
def test_what_is_wrong_with_a_range_or_a_track_is_told_before_torch_is_loaded(
    plate: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    says: str,
) -> None:
    monkeypatch.setattr("mam_video.jobs.matte_clip.load_model", lambda settings: pytest.fail("the work has begun"))
    box = () if "track" in given else BOX
    code, said = run(capsys, "matte", plate, *MODEL, *box, *given.split(), "-o", tmp_path / "m.mov")
    assert code == 2 and says in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def test_one_frame_is_a_range_and_a_plus_separates_a_prompt(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = ("--prompt", "4:box=30,28,54,52+point=42,40")
    code, said = run(capsys, "matte", plate, *MODEL, *prompt, "--range", "4", "-o", tmp_path / "m.mov", "-v")
    assert code == 0 and "m.mov: 1 frame," in said and "box=30,28,54,52;point=42,40" in said
    assert "milliseconds a frame by stage" in said  # -v is --verbose


def test_verify_says_which_option_may_be_missing(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "matte", plate, *MODEL, *BOX, "--range", "0-3", "-o", tmp_path / "m.mov")[0] == 0
    code, said = run(capsys, "verify", tmp_path / "m.mov", "--against", plate)
    assert code == 1 and "frames: 4, should be 10; if it is a part of the clip, add --range FIRST-LAST" in said
    assert run(capsys, "verify", tmp_path / "m.mov", "--against", plate, "--range", "0-3")[0] == 0


def test_a_plate_in_place_of_the_truth_is_noted(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matte = tmp_path / "m.mov"
    assert run(capsys, "matte", plate, *MODEL, *BOX, "-o", matte)[0] == 0
    code, said = run(capsys, "evaluate", matte, plate, "--metrics", "mad", "--quiet")
    assert code == 0 and "plate.mov is in colour and has no alpha: is it a plate?" in said
    code, said = run(capsys, "evaluate", matte, matte, "--metrics", "mad", "--quiet")
    assert code == 0 and "is it a plate?" not in said


def test_weights_that_are_none_are_refused_in_one_line(plate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "weights", "add", plate)
    assert code == 2 and "say with --name NAME what they are" in said and said.count("\n") == 1


def test_help_may_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for words in (("help", "matte"), ("matte", "--help")):
        with pytest.raises(SystemExit) as stopped:
            main(list(words))
        assert stopped.value.code == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and "usage: mam-video matte" in said[0]


@pytest.mark.parametrize(
    ("found", "score", "codes"),
    [
        (Box(20, 20, 60, 60), 0.9, []),
        (Box(30, 30, 50, 50), 0.9, []),
        (Box(20, 20, 60, 60), 0.5, [Reason.LOW_SCORE]),
        (Box(70, 20, 90, 60), 0.9, [Reason.OUTSIDE_PROMPT]),
        (Box(10, 10, 90, 90), 0.9, [Reason.OUTSIDE_PROMPT]),
        (Box(20, 20, 24, 24), 0.9, [Reason.SMALL_IN_PROMPT]),
    ],
)
def test_a_mask_that_does_not_fit_its_box_is_flagged(found: Box, score: float, codes: list[Reason]) -> None:
    record = Record(0, 0, State.PROMPTED, found, score, 0.1)
    seen = judged(record, Prompt(Box(20, 20, 60, 60)))
    assert [finding.reason for finding in seen.findings] == codes and seen.flagged == bool(codes)
    lost = Record(0, 0, State.LOST, found, 0.1, 0.0)
    assert judged(lost, Prompt(Box(20, 20, 60, 60))) is lost


# What is printed


def test_the_result_comes_first_and_timings_on_request(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    movie, frames = tmp_path / "new" / "deep" / "m.mov", tmp_path / "other" / "f.####.png"
    options = ("--box", "15%,30%,33%,54%", "-o", movie, "-o", frames, "--report", tmp_path / "far" / "report")
    code, said = run(capsys, "matte", plate, *MODEL, *options)
    lines = said.splitlines()
    assert code == 0
    assert lines[1] == "prompt: frame 0: box=19.2,28.8,42.24,51.84"
    assert re.fullmatch(rf"wrote {re.escape(str(movie))}: 10 frames, alpha, [\d.]+ [KM]?B, checked", lines[2])
    first = tmp_path / "other" / "f.1001.png"
    assert re.fullmatch(rf"wrote {re.escape(str(first))} to f.1010.png: 10 frames, [\d.]+ [KM]?B, checked", lines[3])
    assert re.match(r"done: 10 frames in [\d.]+ s \([\d.]+ fps\); report: .*report\.html$", lines[4])
    assert "milliseconds" not in said and (tmp_path / "far" / "report" / "report.html").exists()
    code, said = run(capsys, "matte", plate, *MODEL, *options, "--overwrite", "--verbose")
    assert code == 0 and "milliseconds a frame by stage" in said and f"read back {movie}: frames: 10;" in said


def test_folders_that_a_failed_run_made_are_removed(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(settings: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("mam_video.jobs.matte_clip.load_model", fails)
    code, _ = run(capsys, "matte", plate, *BOX, "-o", tmp_path / "a" / "b" / "m.mov", "-o", f"{tmp_path}/c/d/")
    assert code == 1 and list(tmp_path.iterdir()) == []
    code, said = run(capsys, "matte", plate, *BOX, "-o", tmp_path / "shot.%04d" / "m.png")
    assert code == 2 and "the frame number belongs into the file's name" in said and list(tmp_path.iterdir()) == []


def test_failed_checks_are_spelled_out(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mam_video.media.expected import Check

    faults = [Check("frames", False, "9, should be 10"), Check("alpha channel", True, "True")]
    monkeypatch.setattr("mam_video.jobs.matte_clip.verify_output", lambda *_: faults)
    code, said = run(capsys, "matte", plate, *MODEL, *BOX, "-o", tmp_path / "m.mov")
    assert code == 1
    assert "NOT as it should be: frames: 9, should be 10" in said
    assert f"written, but not as it should be: {tmp_path / 'm.mov'}: frames: 9, should be 10" in said


def test_resume_says_on_start_what_it_does(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    matte = ("matte", plate, *MODEL, *BOX, "--resume", "-o", f"{tmp_path}/m/")
    shown = progress_module._text_lines

    def stops(count: int | None) -> Any:
        def each(matted: Any, report: Any) -> None:
            if len(report.records) == 4:
                raise KeyboardInterrupt

        return each, shown(count)[1]

    monkeypatch.setattr(progress_module, "_text_lines", stops)
    code, said = run(capsys, *matte)
    assert code == 130
    assert "nothing to resume, starting at frame 0\n" in said
    assert re.search(r"frames done: \d+; the same command with --resume goes on", said)
    monkeypatch.setattr(progress_module, "_text_lines", shown)
    code, said = run(capsys, *matte)
    assert code == 0 and re.search(r"resuming: \d frames are done, going on at frame \d", said)


def test_a_line_every_10_seconds_where_piped(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "_TEXT_SECONDS", 0.0)
    code, said = run(capsys, "matte", plate, *MODEL, *BOX, "-o", tmp_path / "m.mov")
    assert code == 0 and len(re.findall(r"^\d+ of 10 frames, [\d.]+ fps", said, flags=re.MULTILINE)) == 10
    assert "\n\n" not in said


def test_words_without_a_network_fail_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[text]'")
    from mam_video.core.errors import WeightsError
    from mam_video.core.settings import TextSettings
    from mam_video.prompts.text import find_by_text

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    with pytest.raises(WeightsError, match="where there is no network, fetch it elsewhere"):
        find_by_text(np.zeros((*SIZE, 3), np.uint8), "a dancer", TextSettings(model="mam-video/no-such"), "cpu")
