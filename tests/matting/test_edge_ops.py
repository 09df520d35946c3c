"""Choke, grow, feather, levels, invert: known shapes, the order, and that nothing asked for is nothing done."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

from mam_video.core.errors import UsageError
from mam_video.core.frames import Frame, Matted
from mam_video.core.settings import FinishSettings, Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.matting.edge_ops import Overrides, apply_edge_ops, finish, within_trimap
from mam_video.matting.foreground import with_foreground
from mam_video.media.mask_reader import Masks
from tests.clips import matted
from tests.matting.test_pipeline import first_box, moving_disc, read_png, settings_of
from tests.synthetic import disc, picture

SIZE = (120, 140)
CENTRE = (70.3, 59.6)


def radii(alpha: np.ndarray, level: float = 0.5) -> np.ndarray:
    """How far from CENTRE alpha falls below `level`, in 72 directions."""
    way = np.arange(2, 58, 0.01, dtype=np.float32)
    found = []
    for angle in np.arange(72) * np.pi / 36:
        x, y = CENTRE[0] + way * np.cos(angle) - 0.5, CENTRE[1] + way * np.sin(angle) - 0.5
        along = cv2.remap(alpha, x.astype(np.float32)[None], y.astype(np.float32)[None], cv2.INTER_LINEAR)[0]
        found.append(float(way[int(np.argmax(along < level))]))
    return np.array(found)


@pytest.mark.parametrize("soft", [0.0, 2.5])
@pytest.mark.parametrize("pixels", [0.25, 0.5, 1, 2, 3.7, 12])
def test_a_disc_grows_and_shrinks_by_so_many_pixels(pixels: float, soft: float) -> None:
    """In every direction, and its edge stays as soft as it was (of a hard one: to half a pixel)."""
    alpha = disc(SIZE, CENTRE, 30)
    alpha = cv2.GaussianBlur(alpha, (0, 0), soft) if soft else alpha
    width = (radii(alpha, 0.1) - radii(alpha, 0.9)).mean()
    for name, sign in (("grow", 1), ("choke", -1)):
        moved = finish(alpha, FinishSettings(**{name: pixels}))
        error = radii(moved) - radii(alpha) - sign * pixels
        assert abs(error.mean()) < 0.06 and np.abs(error).max() < 0.2, name
        new_width = (radii(moved, 0.1) - radii(moved, 0.9)).mean()
        assert new_width == pytest.approx(width, abs=0.15 if soft else 0.55), name
        assert moved.dtype == np.float32 and moved.min() >= 0 and moved.max() <= 1


def test_a_faint_hair_grows_too() -> None:
    alpha = np.zeros(SIZE, np.float32)
    alpha[:, 70] = 0.3
    wide = finish(alpha, FinishSettings(grow=2))
    np.testing.assert_allclose(wide[60, 66:75], [0, 0, 0.3, 0.3, 0.3, 0.3, 0.3, 0, 0], atol=1e-6)


def test_choke_then_grow_takes_specks_away_and_leaves_the_rest() -> None:
    alpha = disc(SIZE, CENTRE, 30)
    alpha[5:8, 5:8] = 1
    done = finish(alpha, FinishSettings(choke=3, grow=3))
    assert done[:20, :20].max() == 0
    assert np.abs(radii(done) - radii(alpha)).max() < 0.25


def test_nothing_is_choked_at_the_edge_of_the_frame_or_of_its_window() -> None:
    alpha = np.zeros(SIZE, np.float32)
    alpha[20:100, 30:] = 1
    assert (finish(alpha, FinishSettings(choke=4, feather=3))[60, 100:] > 0.999).all()
    window = (10, 20, 120, 100)
    alpha[:, 120:] = 0
    done = finish(alpha, FinishSettings(choke=4), window)
    assert (done[20:100, 40:120] == 1).all() and done[:20].max() == done[100:].max() == done[:, 120:].max() == 0


@pytest.mark.parametrize("width", [1.0, 4.0, 9.0])
def test_feather_keeps_the_half_and_is_as_wide_as_asked(width: float) -> None:
    alpha = np.zeros(SIZE, np.float32)
    alpha[:, :70] = 1
    along = finish(alpha, FinishSettings(feather=width))[60]
    x = np.arange(SIZE[1]) + 0.5
    at = [float(np.interp(-level, -along, x)) for level in (0.9, 0.5, 0.1)]
    assert at[1] == pytest.approx(70, abs=0.01) and at[2] - at[0] == pytest.approx(width, abs=0.45)


def test_feather_keeps_the_half_of_a_disc() -> None:
    assert np.abs(radii(finish(disc(SIZE, CENTRE, 40), FinishSettings(feather=4))) - 40).max() < 0.1


def test_levels_are_exact() -> None:
    alpha = np.linspace(0, 1, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)
    got = finish(alpha, FinishSettings(black=0.2, white=0.7))
    np.testing.assert_allclose(got, np.clip((alpha.astype(np.float64) - 0.2) / 0.5, 0, 1), atol=1e-6)
    assert (got[alpha <= 0.2] == 0).all() and (got[alpha >= 0.7] == 1).all()


def matted_disc() -> Matted:
    return matted(_frame_of(picture(disc(SIZE, CENTRE, 30))), disc(SIZE, CENTRE, 30))


def _frame_of(rgb: np.ndarray, **more: Any) -> Frame:
    return Frame(0, 0, Fraction(1, 24), rgb, **more)


def test_nothing_asked_for_is_nothing_done() -> None:
    one = matted_disc()
    out = apply_edge_ops(one, FinishSettings())
    assert out is one


def test_invert_is_of_the_picture_alone_and_shows_the_background() -> None:
    window = (10, 20, 120, 100)
    alpha = disc(SIZE, CENTRE, 30)
    one = matted(_frame_of(picture(alpha), window=window), alpha)
    out = apply_edge_ops(one, FinishSettings(invert=True))
    assert (out.alpha[20:100, 10:120] == 1 - alpha[20:100, 10:120]).all()
    assert out.alpha[:20].max() == out.alpha[100:].max() == out.alpha[:, :10].max() == 0
    coloured = with_foreground(out)
    soft = (alpha > 0.2) & (alpha < 0.8)
    grey = np.abs(coloured.frame.rgb[soft].astype(int) - [128, 120, 136]).mean()
    assert grey < 0.5 * np.abs(one.frame.rgb[soft].astype(int) - [128, 120, 136]).mean()


def test_colour_under_a_grown_matte_comes_from_the_matte_before() -> None:
    """The rim that is solid now holds background in the plate; the subject is a plain green."""
    one = matted_disc()
    grown = apply_edge_ops(one, FinishSettings(grow=1))
    assert grown.coverage is not None and (grown.coverage == one.alpha).all()
    rim = (one.alpha > 0.2) & (one.alpha < 0.8)
    assert (grown.alpha[rim] > 0.95).mean() > 0.7
    shot = np.abs(one.frame.rgb[rim].astype(int) - [0, 255, 0]).mean()
    assert np.abs(with_foreground(grown).frame.rgb[rim].astype(int) - [0, 255, 0]).mean() < 0.25 * shot


class Held:
    """Masks that are the same for every frame."""

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask

    def at(self, index: int) -> np.ndarray:
        return self.mask


def test_forced_masks_have_the_last_word_after_growing() -> None:
    include, exclude = np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    include[:10] = 1
    exclude[:, 70:] = 1
    exclude[:, 65:70] = 0.25
    one = matted_disc()
    forced = Overrides(include=cast(Masks, Held(include)), exclude=cast(Masks, Held(exclude)))
    out = apply_edge_ops(one, FinishSettings(grow=6, feather=3), forced)
    assert (out.alpha[:10, :65] == 1).all() and out.alpha[:, 70:].max() == 0
    np.testing.assert_allclose(out.alpha[60, 65:70], 0.75, atol=1e-6)


def test_a_trimap_is_final_where_it_is_sure() -> None:
    trimap = np.full(SIZE, 0.5, np.float32)
    trimap[:40], trimap[80:] = 0.01, 0.99
    alpha = np.full(SIZE, 0.3, np.float32)
    out = within_trimap(alpha, trimap)
    assert (out[:40] == 0).all() and (out[80:] == 1).all() and (out[40:80] == alpha[40:80]).all()


@pytest.mark.parametrize(("values", "says"), [
    ({"grow": -1}, "finish.grow must be between 0 and 100"), ({"choke": float("nan")}, "finish.choke"),
    ({"black": 0.5, "white": 0.5}, "must lie below"), ({"white": 1.5}, "finish.white"), ({"feather": 101}, "feather"),
])  # fmt: skip
def test_settings_that_cannot_be(values: dict[str, float], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Settings().with_values({"finish": values}, "test")


def test_a_second_run_from_a_saved_track_shows_them(tmp_path: Path) -> None:
    """The area grows by circumference times pixels in each frame; without settings every bit is the same."""
    size = (180, 240)
    plate, track = moving_disc(tmp_path, size, 3), tmp_path / "t.track"
    for kind, values in (("plain", {}), ("same", {"black": 0.0}), ("grown", {"grow": 2.0})):
        settings, way = settings_of(finish=values), {"track_to": track} if kind == "plain" else {"track_from": track}
        prompt = first_box(size) if kind == "plain" else None
        matte_clip(plate, f"{tmp_path}/{kind}.####.png:alpha", prompt, settings, **way)
    for number in (1001, 1002, 1003):
        files = [tmp_path / f"{kind}.{number}.png" for kind in ("plain", "same", "grown")]
        assert files[0].read_bytes() == files[1].read_bytes()
        plain, grown = read_png(files[0]), read_png(files[2])
        radius = np.sqrt(plain.sum() / np.pi)
        assert np.sqrt(grown.sum() / np.pi) - radius == pytest.approx(2, abs=0.25)


def test_a_cut_off_run_is_not_gone_on_with_under_another_look(tmp_path: Path) -> None:
    size = (96, 128)
    plate = moving_disc(tmp_path, size, 6)

    def stop(m: Matted, report: Any) -> None:
        if m.frame.index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matte_clip(plate, tmp_path / "m.mov", first_box(size), settings_of(), resume=True, on_frame=stop)
    with pytest.raises(UsageError, match=r"finish: grow changed from 0.0 to 2.0"):
        matte_clip(plate, tmp_path / "m.mov", first_box(size), settings_of(finish={"grow": 2.0}), resume=True)
