"""The crop that is held around a subject, and the room in it for a subject that grows."""

from __future__ import annotations

import numpy as np
import pytest

from mam_video.core.crop import Crop
from mam_video.core.frames import Record, State
from mam_video.core.geometry import Box
from mam_video.core.settings import TrackSettings, ViewSettings
from mam_video.motion.flow import Motion
from mam_video.tracking.position import PositionModel
from mam_video.tracking.search_region import fits_crop, held_crop

SIZE = (480, 854)
BOX = Box(350, 190, 450, 290)


def test_a_new_crop_is_larger_for_a_subject_that_grows() -> None:
    settings = ViewSettings()
    still, slow, fast = (held_crop(None, BOX, SIZE, 640, settings, growth).width for growth in (1.0, 1.02, 1.05))
    assert still == slow == 150
    assert fast == 196  # 1.3 times, in whole pixels


@pytest.mark.parametrize(("grow", "fill"), [(1.5, 0.5), (1.5, 0.6), (1.9, 0.5), (1.5, 0.0)])
def test_the_larger_crop_is_one_that_is_held(grow: float, fill: float) -> None:
    settings = ViewSettings(grow=grow, fill=fill)
    crop = held_crop(None, BOX, SIZE, 640, settings, 1.1)
    assert fits_crop(crop, BOX, SIZE, settings)
    assert held_crop(crop, BOX, SIZE, 640, settings, 1.1) == crop


def test_growth_is_what_the_motion_says_after_some_frames() -> None:
    """A square over the middle of a picture that grows by 4 % a frame."""
    h, w = 120, 200
    size = (2 * h, 2 * w)
    y, x = np.mgrid[:h, :w].astype(np.float32)
    away = np.dstack([x - (w - 1) / 2, y - (h - 1) / 2])
    motion = Motion(0, 1, size, np.ascontiguousarray(0.04 * away), np.ascontiguousarray((1 / 1.04 - 1) * away))
    box = Box(140, 60, 260, 180)
    crop = Crop.whole(size, 400)
    logits = np.full((200, 200), -8, np.float32)
    logits[30:90, 70:130] = 8
    position = PositionModel(box)
    position.update(Record(0, 0, State.PROMPTED, box, 1.0, 0.15), logits, crop, None, 0.05)
    grown = []
    for _ in range(12):
        position.predict(motion, size, TrackSettings(), 0)
        grown.append(position.growth)
    assert grown[:4] == [1, 1, 1, 1]
    assert 1.02 < grown[4] < grown[-1] and abs(grown[-1] - 1.04) < 0.005
