"""The fake model's answers are known beforehand, to a fraction of a pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mam_video.core.crop import Crop
from mam_video.core.geometry import Box
from mam_video.models.base import Model, ViewPrompt
from mam_video.models.colour_model import ColourModel

COLOUR = (20, 220, 40)


def disc(h: int, w: int, x: float, y: float, radius: float) -> np.ndarray:
    yy, xx = np.mgrid[:h, :w] + 0.5
    return np.clip(radius - np.hypot(xx - x, yy - y) + 0.5, 0, 1)


def picture(alpha: np.ndarray, grey: np.ndarray | float = 120) -> np.ndarray:
    ground = np.broadcast_to(np.asarray(grey, np.float64), alpha.shape)[..., None]
    return np.rint(alpha[..., None] * np.array(COLOUR) + (1 - alpha[..., None]) * ground).astype(np.uint8)


def test_it_fulfils_the_contract() -> None:
    assert isinstance(ColourModel(), Model)


def test_alpha_is_exact_over_greys_of_any_brightness() -> None:
    alpha = disc(128, 128, 60.3, 70.8, 30)
    grey = np.tile(np.linspace(0, 255, 128), (128, 1))
    model = ColourModel(COLOUR, 128)
    embedding = model.embed([picture(alpha, grey)])
    candidates = model.segment(embedding, 0, ViewPrompt())
    found = model.matte(embedding, candidates.logits)[0, 0].numpy()
    assert np.abs(found - alpha).max() < 0.01  # 8-bit rounding of the picture
    assert candidates.logits.shape == (1, 32, 32) and candidates.logits.dtype == np.float32


@pytest.mark.parametrize("rectangle", [(0, 0, 320, 240), (30, 20, 200, 200), (10, 40, 111, 57), (77, 3, 60, 201)])
def test_masks_and_mattes_land_within_half_a_pixel(rectangle: tuple[int, int, int, int]) -> None:
    view = Crop(*rectangle, 256)
    x, y = view.x0 + view.width * 0.45, view.y0 + view.height * 0.55
    radius = min(view.width, view.height) * 0.3
    truth = disc(240, 320, x, y, radius)
    model = ColourModel(COLOUR)
    embedding = model.embed([view.cut(picture(truth))])
    logits = model.segment(embedding, 0, ViewPrompt(box=Box(0, 0, 1, 1))).logits
    alpha = view.to_rectangle(model.matte(embedding, logits))[0, 0].numpy()
    mask = view.to_rectangle(torch.from_numpy(logits)[None])[0, 0].numpy() > 0
    for part in (alpha, mask.astype(np.float32)):
        laid = view.paste(part, (240, 320))
        yy, xx = np.mgrid[:240, :320] + 0.5
        centre = (laid * xx).sum() / laid.sum(), (laid * yy).sum() / laid.sum()
        assert centre == pytest.approx((x, y), abs=0.25)
        assert np.sqrt(laid.sum() / np.pi) == pytest.approx(radius, abs=0.5)


def test_nothing_of_the_colour_is_an_empty_mask_without_score() -> None:
    model = ColourModel()
    embedding = model.embed([np.full((256, 100, 3), 90, np.uint8)] * 2)
    candidates = model.segment(embedding, 1, ViewPrompt())
    assert not (candidates.logits > 0).any() and candidates.scores[0] == 0
    assert model.matte(embedding, np.zeros((2, 64, 64), np.float32) - 1).abs().max() == 0


def test_only_what_the_mask_holds_is_matted() -> None:
    both = np.maximum(disc(256, 256, 60, 60, 30), disc(256, 256, 190, 190, 30))
    model = ColourModel()
    embedding = model.embed([picture(both)])
    logits = model.segment(embedding, 0, ViewPrompt()).logits.copy()
    logits[:, 32:] = -1
    alpha = model.matte(embedding, logits)[0, 0].numpy()
    assert alpha[60, 60] == pytest.approx(1, abs=0.01) and alpha[190, 190] == 0


def test_a_grey_is_no_colour() -> None:
    with pytest.raises(ValueError, match="grey"):
        ColourModel((100, 101, 99))
    with pytest.raises(ValueError, match="multiple of 4"):
        ColourModel(view_size=130)
