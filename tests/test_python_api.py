"""Python as a newcomer writes it: names, tuples and arrays where they are natural, and a line where they are not."""

from __future__ import annotations

from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mam_video
from mam_video import Box, Frame, Point, Prompt, Settings, UsageError, load_model, matte_clip, matte_frames
from mam_video.core.settings import ModelSettings
from tests.synthetic import disc, picture, write_movie

SIZE = (96, 128)
BOX = (18, 28, 42, 52)


def pictures(count: int = 3) -> list[np.ndarray]:
    return [picture(disc(SIZE, (30 + 3 * i, 40), 12)) for i in range(count)]


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return write_movie(tmp_path / "plate.mov", 3, lambda i: picture(disc(SIZE, (30 + 3 * i, 40), 12)))


def test_names_of_the_package() -> None:
    assert set(dir(mam_video)) == {*mam_video.__all__, "__version__"}
    assert mam_video.__version__ == version("mam-video")


def test_a_model_by_name() -> None:
    lite = load_model("lite")
    assert lite.name == load_model().name == load_model(Settings()).name == load_model(ModelSettings()).name
    with pytest.raises(UsageError, match="unknown model 'light'"):
        load_model("light")
    with pytest.raises(UsageError, match="load_model takes a name"):
        load_model(3)  # type: ignore[arg-type]


def test_arrays_and_tuples_are_taken() -> None:
    by_values = [Frame(i, i, Fraction(1, 24), rgb) for i, rgb in enumerate(pictures())]
    prompt = Prompt(Box(*BOX))
    expected = [matted.alpha for matted in matte_frames(by_values, prompt, load_model("fake-colour"))]
    for found in (
        matte_frames(pictures(), BOX, "fake-colour"),
        matte_frames(np.stack(pictures()), Box(*BOX), "fake-colour"),
        matte_frames(iter(pictures()), Prompt(BOX), "fake-colour"),  # type: ignore[arg-type]
        matte_frames(pictures(), Prompt(Box(18 / 128, 28 / 96, 42 / 128, 52 / 96)), "fake-colour"),
    ):
        alphas = [matted.alpha for matted in found]
        assert len(alphas) == 3 and all(np.array_equal(a, b) for a, b in zip(alphas, expected, strict=True))
    (one,) = matte_frames(pictures(1)[0], BOX, "fake-colour")
    assert np.array_equal(one.alpha, next(matte_frames(pictures(1), BOX, "fake-colour")).alpha)
    assert repr(one) == "Matted(frame 0, 128x96, prompted)" and repr(one.frame) == "Frame(0, 128x96 uint8, at 0.000 s)"


def test_a_clip_from_file_to_file(plate: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    report = matte_clip(
        plate, tmp_path / "m.mov", BOX, "fast", model="fake-colour", progress=lambda *now: calls.append(now)
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert len(repr(report)) < 200 and "3 frames" in repr(report) and report.model == "fake-colour"
    assert report.results()[0].startswith(f"{tmp_path / 'm.mov'}: 3 frames, alpha, ")
    matte_clip(str(plate), str(tmp_path / "n.mov"), Prompt(Box(0.15, 0.3, 0.33, 0.54)), model="fake-colour")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Prompt("412,96,890,1010"), "box must be Box"),
        (lambda: Prompt((1, 2, 3)), "box must be Box"),
        (lambda: Prompt((30, 2, 10, 40)), "is empty or inverted"),
        (lambda: Prompt(points=[(1, 2, 5)]), "a point must be Point"),
        (lambda: Prompt(points="1,2"), "points must be a list"),
        (lambda: Prompt(mask="mask.png"), "mask must be an array"),
        (lambda: Prompt(Box(20, 20, 21, 60)).in_pixels(SIZE), "under 2 pixels"),
        (lambda: Prompt(Box(0.5, 0.5, 0.501, 0.9)).in_pixels(SIZE), "under 2 pixels"),
        (lambda: matte_clip("a.mov", "b.mov", "box"), "no such file"),
        (lambda: matte_clip("a.mov", "b.mov", BOX, {"choke": 1}), "settings must be Settings"),
        (lambda: matte_clip("a.mov", "b.mov", BOX, "qualty"), "no such preset"),
    ],
)
def test_what_is_not_natural_is_told_in_a_line(make: Any, says: str) -> None:
    with pytest.raises(mam_video.MamVideoError) as told:
        make()
    assert says in str(told.value) and "\n" not in str(told.value)


def test_points_as_tuples() -> None:
    meant = (Point(1, 2), Point(3, 4, subject=False))
    assert Prompt(points=[(1, 2), (3, 4, 0)]).points == meant  # type: ignore[arg-type]
    assert Prompt(points=(5, 6)).points == (Point(5, 6),)  # type: ignore[arg-type]
    placed = Prompt(points=(Point(0.5, 0.25),)).in_pixels(SIZE)
    assert placed.points == (Point(64, 24),) == placed.in_pixels(SIZE).points


def test_a_prompt_of_another_kind_is_refused(plate: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="prompt must be a Prompt, a box"):
        matte_clip(plate, tmp_path / "m.mov", "the dancer")  # type: ignore[arg-type]


def test_frames_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match=r"frames must be Frame values or \(H, W, 3\) arrays, is str"):
        list(matte_frames(["a.png"], BOX, "fake-colour"))  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"rgb must be \(H, W, 3\)"):
        list(matte_frames([np.zeros((4, 4), np.uint8)], BOX, "fake-colour"))
    with pytest.raises(TypeError, match="rgb must be an array"):
        Frame(0, 0, Fraction(1, 24), "a.png")  # type: ignore[arg-type]


def test_settings_show_the_right_form() -> None:
    with pytest.raises(TypeError, match=r"no section 'choke'.*with_values\(\{\"finish\": \{\"choke\": VALUE"):
        Settings(choke=1.5)  # type: ignore[call-arg]
    assert Settings.load("quality") == Settings().with_file("quality")
