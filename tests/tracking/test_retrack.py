"""Correct a saved track: the frames around a new prompt are tracked again, all others stay as they are, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mam_video.cli import main
from mam_video.core.errors import UsageError
from mam_video.core.frames import Frame, State
from mam_video.core.reasons import Reason
from mam_video.core.settings import Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.models.base import Candidates, Embedding, ViewPrompt
from mam_video.models.colour_model import ColourModel
from mam_video.prompts.prompt import Prompts
from mam_video.tracking.retrack import Stretch, find_stretches, retrack
from mam_video.tracking.track_file import Track, TrackWriter
from mam_video.tracking.types import MaskObservation
from tests.motion import test_shot_detection as shots
from tests.synthetic import write_movie
from tests.tracking.test_bidirectional import (
    SETTINGS,
    SIZE,
    Clip,
    found_of,
    frame_of,
    iou,
    pixels,
    plate,
    prompts_on,
)

COUNT = 40


class Counting(ColourModel):
    """Notes which frames are segmented: a pixel in the corner of each picture holds the frame's number."""

    def __init__(self) -> None:
        super().__init__(view_size=128)
        self.numbers: dict[int, tuple[Embedding, list[int]]] = {}
        self.segmented: list[int] = []

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        embedding = super().embed(pictures)
        self.numbers[id(embedding)] = embedding, [int(view[0, 0, 0]) for view in pictures]
        return embedding

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        self.segmented.append(self.numbers[id(embedding)][1][index])
        return super().segment(embedding, index, prompt)


def numbered(i: int) -> Frame:
    frame = frame_of(i)
    frame.rgb[:] = np.maximum(frame.rgb, 1)
    frame.rgb[:, :8] = i  # grey: not the subject's colour
    return frame


WHOLE = Settings().with_values({"view": {"roi": "frame"}}, "test")  # the corner is in every crop


def saved(folder: Path, found: Sequence[MaskObservation], model: ColourModel | None = None) -> Track:
    path = folder / "old.track"
    with TrackWriter(path, SIZE, model or ColourModel(view_size=128)) as writer:
        for observation in found:
            writer.write_observation(observation)
    return Track.load(path)


def same(a: MaskObservation, b: MaskObservation) -> bool:
    return a.record == b.record and a.crop == b.crop and np.array_equal(a.logits, b.logits)


def again(folder: Path, track: Track, prompts: Prompts, model: ColourModel | None = None) -> list[MaskObservation]:
    folder.mkdir()
    return list(retrack(Clip(COUNT, numbered), track, prompts, model or Counting(), WHOLE, folder))


def old_track(tmp_path: Path, prompts: Prompts) -> tuple[list[MaskObservation], Track]:
    (tmp_path / "old").mkdir()
    found = found_of(Clip(COUNT, numbered), prompts, tmp_path / "old", settings=WHOLE)
    return found, saved(tmp_path, found)


def test_only_the_stretch_between_the_neighbours_is_tracked_again(tmp_path: Path) -> None:
    _, track = old_track(tmp_path, prompts_on(0, 10, 30))
    with track:
        assert find_stretches(track, [20]) == [Stretch(11, 30, (20,), 10, 30)]
        model = Counting()
        new = again(tmp_path / "new", track, prompts_on(20), model)
        assert len(new) == COUNT and [found.record.index for found in new] == list(range(COUNT))
        assert set(model.segmented) == set(range(11, 30))  # the neighbours themselves are taken over
        for index, found in enumerate(new):
            if not 11 <= index < 30:
                assert same(found, track.frame(index)), index
        assert new[20].record.state is State.PROMPTED
        assert min(iou(found) for found in new) > 0.8


def test_a_correction_equals_a_run_with_all_prompts(tmp_path: Path) -> None:
    """Where the stretch has no more than the kept neighbours to know, it is what the whole run would have found."""
    _, track = old_track(tmp_path, prompts_on(0))
    with track:
        assert find_stretches(track, [15]) == [Stretch(1, COUNT, (15,), 0, None)]
        new = again(tmp_path / "new", track, prompts_on(15))
    (tmp_path / "whole").mkdir()
    whole = found_of(Clip(COUNT, numbered), prompts_on(0, 15), tmp_path / "whole", settings=WHOLE)
    assert all(same(a, b) for a, b in zip(new, whole, strict=True))


def test_several_corrections_and_one_on_a_prompted_frame(tmp_path: Path) -> None:
    _, track = old_track(tmp_path, prompts_on(0, 10, 20, 30))
    with track:
        assert find_stretches(track, [35, 22, 25, 10]) == [
            Stretch(1, 20, (10,), 0, 20),
            Stretch(21, 30, (22, 25), 20, 30),
            Stretch(31, COUNT, (35,), 30, None),
        ]
        model = Counting()
        new = again(tmp_path / "new", track, prompts_on(10, 22, 25), model)
        assert set(model.segmented) == {*range(1, 20), *range(21, 30)}
        kept = [index for index in range(COUNT) if index not in model.segmented]
        assert all(same(new[index], track.frame(index)) for index in kept)


def test_frames_that_the_run_does_not_need_are_left(tmp_path: Path) -> None:
    _, track = old_track(tmp_path, prompts_on(0))
    with track:
        model = Counting()
        (tmp_path / "new").mkdir()
        new = list(retrack(Clip(COUNT, numbered), track, prompts_on(8), model, WHOLE, tmp_path / "new", stop=12))
        assert set(model.segmented) == set(range(1, 12))
        assert all(same(new[index], track.frame(index)) for index in range(12, COUNT))


def test_a_track_of_another_model_is_refused(tmp_path: Path) -> None:
    _, track = old_track(tmp_path, prompts_on(0))
    (tmp_path / "new").mkdir()
    with track, pytest.raises(UsageError, match="was made with --model fake-colour, and is corrected by the same"):
        next(retrack(Clip(COUNT), track, prompts_on(8), ColourModel(view_size=256), WHOLE, tmp_path / "new"))


# ------------------------------------------------------------------------------------------------- whole jobs


def test_a_correction_stays_in_its_shot_and_fills_one_without_a_prompt(tmp_path: Path) -> None:
    shown = [(shot, i) for shot in (0, 1) for i in range(8)]
    movie = write_movie(tmp_path / "plate.mov", 16, lambda k: shots.picture(*shown[k]))
    old, new = tmp_path / "old.track", tmp_path / "new.track"
    first = matte_clip(movie, f"{tmp_path}/a/:alpha", shots.prompt(0), SETTINGS, track_to=old)
    assert [record.state for record in first.records[8:]] == [State.CUT] * 8
    there = Prompts.of({11: shots.prompt(1, 3)})
    report = matte_clip(movie, f"{tmp_path}/b/:alpha", there, SETTINGS, track_from=old, track_to=new)
    assert any("old.track: frames 8-15 were tracked again; the others are as they were" in n for n in report.notes)
    with Track.load(old) as was, Track.load(new) as now:
        assert all(same(was.frame(index), now.frame(index)) for index in range(8))
        assert [now.record(index).cut for index in range(16)] == [index == 8 for index in range(16)]
        assert now.record(11).state is State.PROMPTED
        assert all(now.record(index).state in (State.TRACKED, State.PROMPTED) for index in range(8, 16))
    assert pixels(tmp_path / "a")[:8] == pixels(tmp_path / "b")[:8]
    assert not any(finding.reason is Reason.NO_PROMPT_IN_SHOT for r in report.records for finding in r.findings)


def test_the_command_line_corrects_a_track(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    movie, old, new = plate(tmp_path), tmp_path / "old.track", tmp_path / "new.track"

    def box(i: int) -> str:
        return str(prompts_on(i)[i])

    run = ["matte", str(movie), "--model", "fake-colour"]
    assert main([*run, "--prompt", f"0:{box(0)}", "--prompt", f"9:{box(9)}", "-o", f"{tmp_path}/a/:alpha",
                 "--save-track", str(old)]) == 0  # fmt: skip
    capsys.readouterr()
    corrected = [*run, "--track", str(old), "--prompt", f"5:{box(5)}", "-o", f"{tmp_path}/b/:alpha"]
    assert main([*corrected, "--save-track", str(new)]) == 0
    assert "old.track: frames 1-8 were tracked again" in capsys.readouterr().out
    with Track.load(old) as was, Track.load(new) as now:
        kept = [0, *range(9, 14)]
        assert all(same(was.frame(index), now.frame(index)) for index in kept)
        assert [index for index in range(14) if now.record(index).state is State.PROMPTED] == [0, 5, 9]
    assert main([*corrected, "--range", "7-", "--overwrite"]) == 2
    assert "prompt on frame 5: lies outside the range 7-" in capsys.readouterr().err
    assert main([*run, "--track", str(old), "--box", "1,2,30,40", "-o", f"{tmp_path}/c/:alpha"]) == 2
    assert "--track FILE --prompt FRAME:box=..." in capsys.readouterr().err
    assert main(["preview", *corrected[1:-2], "-o", str(tmp_path / "p.png")]) == 0
    assert "frame 5, prompted" in capsys.readouterr().out


def test_one_of_two_subjects_is_corrected(tmp_path: Path) -> None:
    movie = plate(tmp_path)
    both = [Prompts(prompts_on(0).entries, name) for name in ("a", "b")]
    matte_clip(movie, f"{tmp_path}/m/{{subject}}.####.png:alpha", both, SETTINGS, track_to=tmp_path / "{subject}.track")
    before = {name: (tmp_path / f"{name}.track").read_bytes() for name in "ab"}
    with pytest.raises(UsageError, match="no track of subject 'c', only of a, b"):
        matte_clip(
            movie, f"{tmp_path}/n/:alpha", Prompts(prompts_on(7).entries, "c"), SETTINGS,
            track_from=tmp_path / "{subject}.track",
        )  # fmt: skip
    report = matte_clip(
        movie, f"{tmp_path}/n/{{subject}}.####.png:alpha", Prompts(prompts_on(7).entries, "b"), SETTINGS,
        track_from=tmp_path / "{subject}.track", track_to=tmp_path / "new_{subject}.track",
    )  # fmt: skip
    assert [part[1].state for part in report.parts if part[1].index == 7] == [State.PROMPTED]
    with Track.load(tmp_path / "a.track") as was, Track.load(tmp_path / "new_a.track") as now:
        assert all(same(was.frame(index), now.frame(index)) for index in range(14))
    assert {name: (tmp_path / f"{name}.track").read_bytes() for name in "ab"} == before
