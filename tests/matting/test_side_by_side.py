"""Tracking and matting at once, in two threads of a CPU: the same bits, a share for each, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mam_video import Matted, Prompt, Settings, load_model, matte_clip, matte_frames
from mam_video.core.errors import MamVideoError
from mam_video.core.frames import Frame
from mam_video.core.geometry import Box
from mam_video.matting.pipeline import window_rows
from mam_video.models.base import Candidates, Embedding, ViewPrompt, side_by_side
from mam_video.models.colour_model import ColourModel
from mam_video.models.pair import NoMatteModel, PairedModel
from mam_video.models.torch_threads import new_thread_count
from mam_video.runtime.cores import at_most
from mam_video.tracking.track_back import WINDOW
from tests.synthetic import disc, picture, write_movie

SIZE = (120, 160)
SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "rabbit.mp4"


class Observed(ColourModel):
    """Remembers of each call its name, its thread's name and how many of PyTorch's threads it had.

    It recognises what it finds, so that its tracks are checked window by window.
    """

    side_by_side = True

    def __init__(self) -> None:
        super().__init__(view_size=128)
        self.calls: set[tuple[str, str, int]] = set()
        self.mattes = 0

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        self._note("segment")
        return super().segment(embedding, index, prompt)

    def recognise(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        self._note("recognise")
        return super().segment(embedding, index, prompt)

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        self._note("matte")
        self.mattes += 1
        return super().matte(embedding, logits)

    def _note(self, call: str) -> None:
        self.calls.add((call, threading.current_thread().name, torch.get_num_threads()))


class Alone(Observed):
    side_by_side = False


class Failing(Observed):
    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        if self.mattes == 5:
            raise MamVideoError("the model broke")
        return super().matte(embedding, logits)


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Four cores and as many of PyTorch's threads; after each test both numbers are as they were."""
    monkeypatch.setattr("mam_video.runtime.cores._available", lambda: 4)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    assert (torch.get_num_threads(), new_thread_count()) == (4, 4)
    torch.set_num_threads(before)


def frames(count: int) -> list[np.ndarray]:
    return [picture(disc(SIZE, centre(k), 18)) for k in range(count)]


def centre(k: int) -> tuple[float, float]:
    return 40 + 2.5 * k, 50 + k


def prompt() -> Prompt:
    (x, y), r = centre(0), 18
    return Prompt(Box(x - r, y - r, x + r, y + r))


def same(a: Sequence[Matted], b: Sequence[Matted]) -> bool:
    """The same frames, records and alphas, bit for bit."""
    return [m.record for m in a] == [m.record for m in b] and all(
        np.array_equal(one.alpha, other.alpha) for one, other in zip(a, b, strict=True)
    )


def test_each_has_half_of_the_threads_and_matting_all_of_them_at_the_end() -> None:
    model = Observed()
    assert len(list(matte_frames(frames(3 * WINDOW + 2), prompt(), model))) == 3 * WINDOW + 2
    tracked, others = ({call for call in model.calls if (call[1] == "track") is in_track} for in_track in (True, False))
    assert tracked == {("segment", "track", 2)}
    assert others == {("matte", "model", 2), ("segment", "model", 2), ("segment", "model", 4)}  # it checks, too


@pytest.mark.parametrize("given", [1, 3])
def test_of_few_threads_each_has_one(given: int) -> None:
    torch.set_num_threads(given)
    model = Observed()
    list(matte_frames(frames(4), prompt(), model))
    assert {call for call in model.calls if call[0] == "matte"} == {("matte", "model", 1)}
    assert {call[2] for call in model.calls if call[1] == "track"} == {max(given - 1, 1)}
    torch.set_num_threads(4)


def test_with_one_core_there_is_no_second_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    here = threading.current_thread().name
    model = Observed()
    with at_most(1):  # a share of one core
        list(matte_frames(frames(4), prompt(), model))
    assert {name for _, name, _ in model.calls} == {here}
    model = Observed()
    monkeypatch.setattr("mam_video.runtime.cores._available", lambda: 1)
    list(matte_frames(frames(4), prompt(), model))
    assert {call[1:] for call in model.calls} == {("model", 4)}


def test_other_models_take_turns(tmp_path: Path) -> None:
    model = Alone()
    list(matte_frames(frames(4), prompt(), model))
    assert {call[1:] for call in model.calls} == {("model", 4)}
    one = Observed()
    pair = PairedModel("pair", one, NoMatteModel(one.view_size, one.mask_size))
    assert side_by_side(one) and not side_by_side(pair)  # type: ignore[arg-type]


@pytest.mark.parametrize("subjects", [1, 2])
@pytest.mark.parametrize("count", [1, WINDOW, 2 * WINDOW + 3])
def test_the_number_of_stages_changes_no_bit(count: int, subjects: int) -> None:
    given = prompt() if subjects == 1 else {"one": prompt(), "two": Prompt(Box(2, 2, 40, 30))}
    found = [list(matte_frames(frames(count), given, model())) for model in (Alone, Observed)]
    assert len(found[0]) == count and same(*found)


def test_each_frame_is_matted_once_and_none_that_is_only_tracked_again(tmp_path: Path) -> None:
    plate = write_movie(tmp_path / "plate.mov", 20, lambda k: frames(20)[k])
    settings = Settings().with_values({"smooth": {"strength": 0.0}}, "test")

    def interrupted(matted: Matted, report: object) -> None:
        if matted.frame.index == 10:
            raise KeyboardInterrupt

    whole, broken, rest = Observed(), Observed(), Observed()
    matte_clip(plate, f"{tmp_path}/whole/:alpha", prompt(), settings, model=whole)
    with pytest.raises(KeyboardInterrupt):
        matte_clip(
            plate, f"{tmp_path}/parts/:alpha", prompt(), settings, model=broken, resume=True, on_frame=interrupted
        )
    matte_clip(plate, f"{tmp_path}/parts/:alpha", prompt(), settings, model=rest, resume=True)
    assert whole.mattes == 20
    assert rest.mattes == 20 - 10  # the last one that was written once more, since motion leads from it
    files = sorted((tmp_path / "whole").iterdir())
    assert len(files) == 20
    for file in files:
        assert file.read_bytes() == (tmp_path / "parts" / file.name.replace("whole", "parts")).read_bytes()


@pytest.mark.parametrize(
    ("shape", "kind", "rows"),
    [((480, 854), np.uint8, WINDOW), ((1620, 2880), np.uint16, 4), ((4320, 7680), np.uint8, 2)],
)
def test_few_rows_wait_where_frames_are_large(shape: tuple[int, int], kind: type, rows: int) -> None:
    frame = Frame(0, 0, Fraction(1, 24), np.zeros((*shape, 3), kind))
    assert window_rows((SimpleNamespace(tracked=SimpleNamespace(frame=frame)),)) == rows


def test_errors_and_early_ends_stop_both_threads(tmp_path: Path) -> None:
    with pytest.raises(MamVideoError, match="the model broke"):
        list(matte_frames(frames(20), prompt(), Failing()))
    mattes = matte_frames(frames(40), prompt(), Observed())
    assert next(mattes).frame.index == 0
    mattes.close()

    def interrupted(matted: Matted, report: object) -> None:
        if matted.frame.index == 3:
            raise KeyboardInterrupt

    plate = write_movie(tmp_path / "plate.mov", 24, lambda k: frames(24)[k])
    with pytest.raises(KeyboardInterrupt):
        matte_clip(plate, tmp_path / "m.mov", prompt(), Settings(), model=Observed(), on_frame=interrupted)
    assert [p.name for p in tmp_path.iterdir()] == ["plate.mov"]
    assert not {thread.name for thread in threading.enumerate()} & {"track", "model", "decode"}


def test_the_shipped_model_gives_the_same_bits_in_one_thread_in_two_and_of_a_saved_track(tmp_path: Path) -> None:
    settings = Settings().with_values({"model": {"name": "lite", "device": "cpu"}}, "test")
    box = Prompt(Box(270, 44, 604, 624))
    model = load_model(settings.model)
    assert side_by_side(model)
    track, part = tmp_path / "rabbit.track", (0, WINDOW + 1)
    found: list[list[Matted]] = [[], [], []]

    def run(k: int, given: Prompt | None, **more: Path) -> None:
        matte_clip(
            SAMPLE, [], given, settings, model=model, frames=part, on_frame=lambda m, _: found[k].append(m), **more
        )

    run(0, box, track_to=track)
    run(1, None, track_from=track)
    with at_most(1):
        torch.set_num_threads(1)
        run(2, box)
    torch.set_num_threads(4)
    assert len(found[0]) == WINDOW + 2
    for other in found[1:]:
        assert same(found[0], other)
