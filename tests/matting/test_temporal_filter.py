"""Smoothing: a window filter that calms what flickers, follows what moves, and passes all else."""

from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
import pytest

from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.core.geometry import Box
from mam_video.core.settings import MotionSettings, SmoothSettings
from mam_video.matting.temporal_filter import MovingMatte, smooth
from mam_video.motion.flow import with_motion

H, W, COUNT = 120, 160, 9
RNG = np.random.default_rng(5)
GROUND = cv2.GaussianBlur(RNG.integers(0, 256, (H, W + 80, 3)).astype(np.float32), (0, 0), 2)
SKIN = cv2.GaussianBlur(RNG.integers(0, 256, (H, W, 3)).astype(np.float32), (0, 0), 2)


def disc(x: float) -> np.ndarray:
    """Soft disc of radius 25 around (x, 60), (H, W) float32."""
    yy, xx = np.mgrid[:H, :W].astype(np.float32)
    return np.clip((25 - np.hypot(xx + 0.5 - x, yy + 0.5 - 60)) / 6 + 0.5, 0, 1).astype(np.float32)


def clip(speed: float, noise: float) -> Iterator[tuple[Matted, np.ndarray]]:
    """A textured disc that moves over a textured ground, with noisy alpha in its soft band, and the true alpha."""
    rng = np.random.default_rng(11)
    stretch = 255 / 90  # of the blurred noise, so that motion has something to hold
    for i in range(COUNT):
        true = disc(50 + speed * i)
        skin = np.roll(SKIN, round(speed * i), axis=1)
        rgb = GROUND[:, :W] * (1 - true[..., None]) + skin * true[..., None]
        rgb = np.clip((rgb - 128) * stretch + 128, 0, 255).astype(np.uint8)
        soft = (true > 0.02) & (true < 0.98)
        alpha = np.clip(true + noise * soft * rng.standard_normal(true.shape), 0, 1).astype(np.float32)
        record = Record(i, 2 * i, State.TRACKED, Box(0, 0, 10, 10), 1.0, 0.1)
        yield Matted(Frame(i, 2 * i, Fraction(1, 50), rgb), alpha, record), true


def with_neighbours(mattes: list[Matted]) -> list[MovingMatte]:
    motions = [motion for _, motion in with_motion((m.frame for m in mattes), MotionSettings())]
    return [MovingMatte(*pair) for pair in zip(mattes, motions, strict=True)]


def flicker(alphas: list[np.ndarray], truths: list[np.ndarray]) -> float:
    """dtSSD: how differently from the truth the alpha changes from frame to frame."""
    steps = [(a1 - a0) - (t1 - t0) for a0, a1, t0, t1 in zip(alphas, alphas[1:], truths, truths[1:], strict=False)]
    return float(np.mean([np.sqrt(np.square(s).mean()) for s in steps]))


def test_strength_zero_is_the_identity() -> None:
    pairs = with_neighbours([m for m, _ in clip(2, 0.1)])
    for before, after in zip(pairs, smooth(pairs, SmoothSettings(strength=0)), strict=True):
        assert after is before


@pytest.mark.parametrize("speed", [0.0, 2.0])
@pytest.mark.parametrize("radius", [1, 2])
def test_flicker_falls_and_alpha_does_not_lag(speed: float, radius: int) -> None:
    made = list(clip(speed, 0.12))
    mattes, truths = [m for m, _ in made], [t for _, t in made]
    smoothed = [m.matted for m in smooth(with_neighbours(mattes), SmoothSettings(strength=1, radius=radius))]
    assert [m.frame.pts for m in smoothed] == [m.frame.pts for m in mattes]
    before = [m.alpha for m in mattes]
    after = [m.alpha for m in smoothed]
    assert flicker(after, truths) < 0.75 * flicker(before, truths)
    error = [np.mean([np.abs(a - t).mean() for a, t in zip(x, truths, strict=True)]) for x in (before, after)]
    assert error[1] < error[0]


def test_a_cut_in_the_picture_keeps_neighbours_out() -> None:
    """The alpha of a frame whose picture has nothing to do with its neighbours' stays its own."""
    mattes = [m for m, _ in clip(0, 0.1)]
    other = np.random.default_rng(9).integers(0, 256, (H, W, 3)).astype(np.uint8)
    odd = mattes[4]
    mattes[4] = Matted(Frame(4, 8, Fraction(1, 50), other), odd.alpha[::-1].copy(), odd.record)
    smoothed = [m.matted for m in smooth(with_neighbours(mattes), SmoothSettings(strength=1))]
    assert np.abs(smoothed[4].alpha - mattes[4].alpha).mean() < 0.002


def test_a_frame_depends_on_its_neighbours_within_the_radius_only() -> None:
    """A part of the clip gives the same bits as the whole, but for the frames at its ends."""
    pairs = with_neighbours([m for m, _ in clip(2, 0.1)])
    settings = SmoothSettings(strength=0.7, radius=2)
    whole = [m.matted for m in smooth(pairs, settings)]
    part = [m.matted for m in smooth(pairs[1:8], settings)]
    for i in range(3, 6):
        np.testing.assert_array_equal(whole[i].alpha, part[i - 1].alpha)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_clips_come_out_whole(count: int) -> None:
    pairs = with_neighbours([m for m, _ in clip(1, 0.1)][:count])
    smoothed = [m.matted for m in smooth(pairs, SmoothSettings(strength=1, radius=3))]
    assert [m.frame.index for m in smoothed] == list(range(count))
