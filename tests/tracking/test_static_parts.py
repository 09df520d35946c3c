"""Static parts on masks and motions made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mam_video.core.crop import Crop
from mam_video.core.geometry import Box
from mam_video.core.settings import TrackSettings
from mam_video.motion.flow import Motion
from mam_video.tracking.static_parts import StaticParts
from mam_video.tracking.types import Prediction

M = 64
CROP = Crop.whole((256, 256), 256)
SETTINGS = TrackSettings(stand=3)
LEFT, RIGHT = np.s_[24:40, 8:20], np.s_[20:44, 36:60]  # cells of 4 pixels: a small part and the main one
BOX = Box(20, 60, 250, 200)
PREDICTION = Prediction(BOX, BOX, BOX, False, None, 1.0)


def mask(*parts: tuple[slice, slice]) -> np.ndarray:
    logits = np.full((M, M), -8, np.float16)
    for part in parts:
        logits[part] = 4
    return logits


def motion(right: float, left: float = 0.0) -> Motion:
    """The right half of the picture moves by so many pixels, the left one by others; the ground between stands."""
    forward = np.zeros((256, 256, 2), np.float32)
    forward[60:200, 136:250, 0] = right
    forward[60:200, 20:96, 0] = left
    return Motion(0, 1, (256, 256), forward, -forward)


def static_after(frames: int, right: float, left: float = 0.0, settings: TrackSettings = SETTINGS) -> np.ndarray:
    parts = StaticParts()
    found = np.zeros((M, M), bool)
    for _ in range(frames):
        found = parts.update(mask(LEFT, RIGHT), CROP, CROP, motion(right, left), PREDICTION, settings)
    return found


def test_a_part_that_stands_while_the_main_one_moves_is_static_after_some_frames() -> None:
    assert not static_after(2, right=8).any()
    found = static_after(3, right=8)
    assert found[LEFT].all() and found.sum() == found[LEFT].sum()


@pytest.mark.parametrize(("right", "left"), [(8, 8), (0, 0), (8, 5)])
def test_nothing_is_static_where_both_move_or_neither(right: float, left: float) -> None:
    assert not static_after(6, right, left).any()


def test_a_static_part_is_never_the_main_one_even_if_it_is_larger() -> None:
    """It was smaller for a while; then the moving part has left the picture but for a little."""
    parts = StaticParts()
    for _ in range(2):
        parts.update(mask(LEFT, RIGHT), CROP, CROP, motion(8), PREDICTION, SETTINGS)
    rest = np.s_[20:44, 54:60]
    found = parts.update(mask(LEFT, rest), CROP, CROP, motion(8), PREDICTION, SETTINGS)
    assert mask(LEFT)[LEFT].size > mask(rest)[rest].size
    assert found[LEFT].all() and not found[rest].any()


def test_ages_are_forgotten_and_can_be_turned_off() -> None:
    parts = StaticParts()
    parts.update(mask(LEFT, RIGHT), CROP, CROP, motion(8), PREDICTION, SETTINGS)
    assert parts.age[LEFT].min() == 1 and parts.age[RIGHT].max() == 0
    parts.reset(M)
    assert not parts.age.any()
    assert not static_after(9, right=8, settings=TrackSettings(stand=0)).any()


def test_one_part_alone_is_never_static() -> None:
    parts = StaticParts()
    for _ in range(5):
        assert not parts.update(mask(LEFT), CROP, CROP, motion(8), PREDICTION, SETTINGS).any()
