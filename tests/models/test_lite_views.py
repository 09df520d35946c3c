"""Views of a picture for test-time augmentation: what they show, and how prompts and masks go to them and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mam_video.core.geometry import Box
from mam_video.models.base import Embedding, Reference, ViewPrompt
from mam_video.models.lite import LiteModel
from mam_video.models.lite_views import PartView, mean_logits, views_of
from tests.models.test_lite import pictures, shaken

SIZE, M = 640, 160
CELL = SIZE // M
PROMPT = ViewPrompt(
    Box(150, 120, 330, 410), np.array([[200, 300]], np.float32), np.array([1], np.int64), prompted=True
)  # fmt: skip


def bump(x: float, y: float) -> np.ndarray:
    """A mask, (M, M) float32 logits: a smooth hill over the pixel (x, y)."""
    centre = (np.arange(M, dtype=np.float32) + 0.5) * CELL
    across, down = np.meshgrid(centre - x, centre - y)
    return np.asarray(8 * np.exp(-(across**2 + down**2) / 2 / 40**2) - 4, np.float32)


def peak(logits: np.ndarray) -> tuple[float, float]:
    """The centre of a mask's highest tenth, in pixels of its square."""
    y, x = np.nonzero(logits > np.float32(3.2))
    return float((x.mean() + 0.5) * CELL), float((y.mean() + 0.5) * CELL)


def test_views_are_whole_and_closer_and_mirrored_each() -> None:
    views = views_of(PROMPT, (500, 637), SIZE, CELL)
    assert [view.mirrored for view in views] == [False, True, False, True]
    assert views[0].is_whole((500, 637)) and not any(view.is_whole((500, 637)) for view in views[1:])
    assert views[2].x0 <= PROMPT.box.x0 and views[2].x1 >= PROMPT.box.x1  # type: ignore[union-attr]
    assert max(views[2].content) == SIZE


def test_no_closer_view_without_a_box_or_where_it_would_show_the_same() -> None:
    assert len(views_of(replace(PROMPT, box=None), (500, 637), SIZE, CELL)) == 2
    assert len(views_of(replace(PROMPT, box=Box(5, 5, 630, 490)), (500, 637), SIZE, CELL)) == 2


@pytest.mark.parametrize("which", range(4))
def test_prompts_and_masks_meet_the_picture(which: int) -> None:
    """A red spot in the picture lies where the prompt's point lies, and a mask over it goes there and back."""
    x, y = 200.0, 300.0
    square = torch.zeros(1, 3, SIZE, SIZE)
    square[0, 0, int(y) - 4 : int(y) + 4, int(x) - 4 : int(x) + 4] = 1
    view = views_of(PROMPT, (500, 637), SIZE, CELL)[which]
    rows, columns = np.nonzero(view.picture(square)[0, 0].numpy() > 0.5)
    seen = view.prompt(PROMPT)
    assert np.abs(seen.points[0] - [columns.mean() + 0.5, rows.mean() + 0.5]).max() < 0.6
    there = view.from_square(bump(x, y))
    assert np.abs(np.array(peak(there)) - seen.points[0]).max() < 1.5
    back, shown = view.to_square(there)
    assert np.abs(np.array(peak(back)) - [x, y]).max() < 1.0
    assert shown[int(y) // CELL, int(x) // CELL]
    assert np.abs(back - bump(x, y))[shown & (bump(x, y) > 0)].max() < 0.15


def test_the_closer_picture_is_resized_as_pytorch_does() -> None:
    square = torch.rand(1, 3, SIZE, SIZE)
    view = views_of(PROMPT, (500, 637), SIZE, CELL)[2]
    part = square[..., view.y0 : view.y1, view.x0 : view.x1]
    theirs = torch.nn.functional.interpolate(part, view.content, mode="bilinear", align_corners=False)
    assert (view.picture(square) - theirs).abs().max() < 1e-4


def test_a_mirrored_box_stays_in_order() -> None:
    view = PartView.of((0, 0, 637, 500), SIZE, True, enlarged=False)
    assert view.prompt(PROMPT).box == Box(637 - 330, 120, 637 - 150, 410)


def test_the_mean_counts_each_view_where_it_shows_the_picture() -> None:
    whole, _, closer, _ = views_of(PROMPT, (500, 637), SIZE, CELL)
    mean = mean_logits([whole, closer], [np.full((M, M), 2, np.float32), np.full((M, M), 4, np.float32)])
    inside = np.zeros((M, M), bool)
    inside[closer.y0 // CELL : closer.y1 // CELL, closer.x0 // CELL : closer.x1 // CELL] = True
    content = np.zeros((M, M), bool)
    content[: 500 // CELL, : 637 // CELL] = True
    assert np.allclose(mean[inside & content], 3)
    assert np.allclose(mean[~inside & content], 2)
    assert mean[-1, -1] == -8  # padding


@pytest.fixture(scope="module")
def model() -> LiteModel:
    return LiteModel(shaken(), "cpu")


def test_only_where_the_user_points_are_there_several_views(model: LiteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    squares = 0
    embed = LiteModel._embedding

    def counted(self: LiteModel, square: torch.Tensor, content: tuple[int, int]) -> Embedding:
        nonlocal squares
        squares += len(square)
        return embed(self, square, content)

    monkeypatch.setattr(LiteModel, "_embedding", counted)
    with torch.inference_mode():
        embedding = model.embed(pictures(1, 500, 640))
        model.segment(embedding, 0, replace(PROMPT, prompted=False))
        assert squares == 1
        found = model.segment(embedding, 0, PROMPT)
        assert squares == 4
        itself = Reference(embedding, 0, found.logits[0], prompted=True)
        model.segment(embedding, 0, replace(PROMPT, logits=found.logits[0], references=(itself,)))
        assert squares == 4
