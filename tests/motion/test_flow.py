"""Motion of a textured picture whose true displacement is known."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
import pytest

from mam_video.core.frames import Frame
from mam_video.core.geometry import Box
from mam_video.core.settings import MotionSettings
from mam_video.motion.flow import Motion, measure_motion, with_motion


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 grey texture with detail of a few pixels."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    grey = cv2.normalize(smooth, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


GROUND = texture(400, 500)


def frame(index: int, rgb: np.ndarray) -> Frame:
    return Frame(index, index * 1001, Fraction(1, 24000), np.ascontiguousarray(rgb))


def panned(index: int, dx: int, dy: int, height: int = 240, width: int = 320) -> Frame:
    """What the camera sees after `index` steps to the right and down: the picture moves by (-dx, -dy)."""
    x, y = 40 + dx * index, 40 + dy * index
    return frame(index, GROUND[y : y + height, x : x + width])


@pytest.mark.parametrize("side", [640, 160])  # as it is, and measured on pictures of half the size
@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_a_pan_is_measured_both_ways_in_frame_pixels(side: int, preset: str) -> None:
    motion = measure_motion(panned(0, 6, 4), panned(1, 6, 4), MotionSettings(side=side, preset=preset))
    assert motion.size == ((240, 320) if side == 640 else (120, 160))
    y, x = np.mgrid[40:200:20, 40:280:20].astype(np.float32)
    dx, dy = motion.at(x, y, back=True)  # from the source to the target
    assert np.median(dx) == pytest.approx(-6, abs=0.3) and np.median(dy) == pytest.approx(-4, abs=0.3)
    dx, dy = motion.at(x, y)
    assert np.median(dx) == pytest.approx(6, abs=0.3) and np.median(dy) == pytest.approx(4, abs=0.3)
    shift = motion.shift(np.ones((240, 320), bool))
    assert (shift.dx, shift.dy) == pytest.approx((-6, -4), abs=0.3)
    assert shift.spread < 0.5


def test_a_map_is_carried_at_its_own_size() -> None:
    motion = measure_motion(panned(0, 8, 0), panned(1, 8, 0), MotionSettings())
    for size in ((240, 320), (480, 640), (60, 80)):
        before = np.zeros(size, np.float32)
        scale = size[1] / 320
        before[int(60 * scale) : int(180 * scale), int(100 * scale) : int(200 * scale)] = 1
        columns = np.flatnonzero(motion.carry(before)[size[0] // 2] > 0.5)
        assert abs(columns[0] - 92 * scale) <= max(scale, 1)
        assert abs(columns[-1] + 1 - 192 * scale) <= max(scale, 1)
        home = motion.carry(motion.carry(before), back=True)
        inner = slice(size[0] // 3, 2 * size[0] // 3), slice(size[1] // 5, 4 * size[1] // 5)
        assert np.abs(home - before)[inner].mean() < 0.02
        assert home.dtype == np.float32 and home.shape == size


def test_what_is_uncovered_is_not_trusted() -> None:
    ground = GROUND[:240, :320]
    patch = texture(120, 120, seed=5)
    first, second = ground.copy(), ground.copy()
    first[60:180, 60:180] = patch
    second[60:180, 72:192] = patch  # moved by 12: the columns 60..72 come to light
    motion = measure_motion(frame(0, first), frame(1, second), MotionSettings())
    trusted = motion.trusted()
    assert trusted[75:165, 62:70].mean() < 0.5  # uncovered: it has no counterpart in the first frame
    assert trusted[90:150, 100:170].mean() > 0.9
    assert trusted[10:45].mean() > 0.9
    assert motion.disagreement()[75:165, 62:70].mean() > 4 * motion.disagreement()[10:45].mean()
    region = np.zeros((240, 320), bool)
    region[60:180, 60:180] = True
    shift = motion.shift(region)
    assert (shift.dx, shift.dy) == pytest.approx((12, 0), abs=0.5)


def test_the_camera_is_told_from_the_subject() -> None:
    """The camera's pan moves the ground by (-5, -3), a patch moves by (6, -8): apart from the camera by (11, -5)."""
    first, second = panned(0, 5, 3).rgb.copy(), panned(1, 5, 3).rgb.copy()
    patch = texture(120, 120, seed=9)
    first[70:190, 100:220] = patch
    second[62:182, 106:226] = patch
    motion = measure_motion(frame(0, first), frame(1, second), MotionSettings())
    box = Box(95, 57, 231, 195)
    ahead = motion.apart(box, back=True)
    assert np.median(ahead[100:160, 130:190].reshape(-1, 2), axis=0) == pytest.approx((11, -5), abs=0.5)
    assert np.abs(np.median(ahead[10:45].reshape(-1, 2), axis=0)).max() < 0.3
    come = motion.apart(box)
    assert np.median(come[92:152, 136:196].reshape(-1, 2), axis=0) == pytest.approx((11, -5), abs=0.5)


def test_the_camera_is_fitted_once_for_each_box(monkeypatch: pytest.MonkeyPatch) -> None:
    fits: list[int] = []
    find = cv2.findHomography

    def counted(*arguments: object) -> object:
        fits.append(1)
        return find(*arguments)

    monkeypatch.setattr(cv2, "findHomography", counted)
    first, second = panned(0, 5, 3), panned(1, 5, 3)
    motion = measure_motion(first, second, MotionSettings())
    for box in (Box(95, 57, 231, 195), Box(0, 0, 50, 50)):
        for back in (False, True):
            again = measure_motion(first, second, MotionSettings()).camera(box, back=back)
            fits.clear()
            assert (motion.camera(box, back=back) == again).all() and len(fits) == 1
            motion.apart(box, back=back)
            assert motion.camera(box, back=back) is motion.camera(Box(*box.xyxy), back=back) and len(fits) == 1
    with pytest.raises(ValueError, match="read-only"):
        motion.camera(box)[:] = 0


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (16, 16), (65, 30)])
def test_any_size_is_taken(size: tuple[int, int]) -> None:
    picture = texture(*size)
    motion = measure_motion(frame(0, picture), frame(1, picture), MotionSettings())
    assert motion.size == size
    assert np.abs(motion.forward).max() < 1
    assert motion.shift(np.zeros(size, bool)) == (0, 0, 0)


def test_frames_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        measure_motion(frame(0, texture(32, 32)), frame(1, texture(32, 40)), MotionSettings())


def test_threads_change_nothing() -> None:
    """Frames arrive in order, unchanged, with the same motion whatever the number of threads."""
    frames = [panned(i, 3, 2) for i in range(7)]
    alone = [measure_motion(a, b, MotionSettings()) for a, b in pairwise(frames)]
    for threads in (1, 3):
        got = list(with_motion(iter(frames), MotionSettings(), threads))
        assert [f for f, _ in got] == frames
        assert got[0][1] is None
        for (_, motion), expected in zip(got[1:], alone, strict=True):
            assert motion is not None
            assert (motion.source, motion.target) == (expected.source, expected.target)
            np.testing.assert_array_equal(motion.forward, expected.forward)
            np.testing.assert_array_equal(motion.backward, expected.backward)


def test_an_early_end_closes_the_source_and_leaves_no_thread() -> None:
    closed = []

    def source() -> Iterator[Frame]:
        try:
            for i in range(60):
                yield panned(i % 5, 3, 2)
        finally:
            closed.append(True)

    before = threading.active_count()
    stream = with_motion(source(), MotionSettings(side=128), 2)
    next(stream)
    next(stream)
    stream.close()
    assert closed == [True]
    assert threading.active_count() == before


def test_a_motion_checks_itself() -> None:
    flow = np.zeros((4, 6, 2), np.float32)
    with pytest.raises(TypeError, match="float32"):
        Motion(0, 1, (4, 6), flow.astype(np.float64), flow)
    with pytest.raises(TypeError, match="differ"):
        Motion(0, 1, (4, 6), flow, np.zeros((4, 5, 2), np.float32))
