"""What holds on every device: alphas near those of the CPU, ranges to the bit, copies that are counted."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from mam_video.core.geometry import Box
from mam_video.core.settings import Settings
from mam_video.matting.pipeline import matte_frames
from mam_video.media import open_clip
from mam_video.models.base import ViewPrompt
from mam_video.models.lite import LiteModel
from mam_video.models.transfers import Download, Layout, counted, download, upload, upload_together
from mam_video.prompts.prompt import Prompt
from tests.synthetic import disc, picture, write_movie

SIZE = (120, 160)
BOX = Box(30, 30, 78, 78)
MODELS = Path(__file__).parents[2] / "mam_video" / "models"


@cache
def noise() -> tuple[list[np.ndarray], np.ndarray]:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (640, 480, 3)).astype(np.uint8) for _ in range(2)]
    return pictures, (random.random((2, 160, 160)) * 20 - 10).astype(np.float32)


def moved_by(work: Callable[[], object]) -> tuple[dict[str, int], dict[str, int]]:
    """What is uploaded and what downloaded while `work` runs."""
    before = counted()
    work()
    ups, downs = (
        {what: count - old.get(what, 0) for what, count in new.items() if count > old.get(what, 0)}
        for old, new in zip(before, counted(), strict=True)
    )
    return ups, downs


def test_each_call_copies_no_more_than_it_must(device: torch.device) -> None:
    model = LiteModel.load(device=device)
    pictures, logits = noise()
    with torch.inference_mode():
        embedding = model.embed(pictures)
        assert moved_by(lambda: model.embed(pictures)) == ({"pictures": 1}, {})
        prompt = ViewPrompt(box=Box(100, 100, 400, 400), logits=logits[0])
        assert moved_by(lambda: model.segment(embedding, 0, prompt)) == ({"prompt": 1}, {"candidates": 1})
        matted = moved_by(lambda: model.matte(embedding, logits))
    assert matted == ({"masks": 1, "limits": 1}, {"cells": 1})  # of the whole batch


def test_alphas_are_those_of_the_cpu(device: torch.device) -> None:
    pictures, logits = noise()
    alphas = []
    for where in (torch.device("cpu"), device):
        model = LiteModel.load(device=where)
        with torch.inference_mode():
            alphas.append(download(model.matte(model.embed(pictures), logits), "alpha"))
    difference = np.abs(alphas[1] - alphas[0])
    assert difference.max() <= 0.03 and (difference > 0.01).mean() <= 2e-5


def test_a_range_has_the_bits_of_the_whole(device: torch.device, tmp_path: Path) -> None:
    """Batches fall on frame numbers, so the first frames alone come out as in the whole run."""
    plate = write_movie(tmp_path / "p.mov", 6, lambda i: picture(disc(SIZE, (54 + 2 * i, 54), 22)))
    settings = Settings().with_values(
        {"model": {"name": "lite", "device": device.type, "batch": 2}, "smooth": {"strength": 0.0}}, "test"
    )
    with open_clip(plate) as clip:
        whole = [m.alpha for m in matte_frames(clip.frames(), Prompt(BOX), None, settings)]
        again = [m.alpha for m in matte_frames(clip.frames(0, 4), Prompt(BOX), None, settings)]
    assert len(whole) == 6 and len(again) == 4
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=False))


def test_an_array_comes_back_as_it_went(device: torch.device) -> None:
    array = np.random.default_rng(1).random((5, 7), np.float32)[:, ::2]
    np.testing.assert_array_equal(download(upload(array, device, "test"), "test"), array)


def test_arrays_share_one_copy(device: torch.device) -> None:
    """Also one that is empty, a number, one that may not be written, and one whose rows lie apart."""
    random = np.random.default_rng(2)
    arrays: list[np.ndarray] = [
        random.integers(0, 65536, (3, 5)).astype(np.uint16),
        random.random((2, 3, 7), np.float32)[:, ::2],
        random.random((5,)).astype(np.float16),
        np.array(0.25, np.float32),
        np.zeros((0, 4), np.uint8),
        np.arange(11, dtype=np.int64),
    ]
    arrays[-1].flags.writeable = False
    before = counted()
    there = upload_together(arrays, device, "test")
    found = Download(there, "test").arrays()
    assert [new["test"] - old.get("test", 0) for old, new in zip(before, counted(), strict=True)] == [1, 1]
    for array, other in zip(arrays, found, strict=True):
        np.testing.assert_array_equal(array, other.view(array.dtype) if array.dtype == np.uint16 else other)


def test_views_of_a_buffer_keep_apart() -> None:
    """How the arrays of one copy lie in it, which no CPU needs."""
    kinds = [
        ((3, 5), torch.int16),
        ((), torch.float32),
        ((7,), torch.uint8),
        ((0, 2), torch.int64),
        ((2, 2), torch.float64),
    ]
    layout = Layout(kinds)
    buffer = torch.zeros(layout.size, dtype=torch.uint8)
    for k, view in enumerate(layout.views(buffer)):
        view.fill_(k + 1)
    for k, (view, (shape, dtype)) in enumerate(zip(layout.views(buffer), kinds, strict=True)):
        assert tuple(view.shape) == shape and view.dtype == dtype and (view == k + 1).all()


@pytest.mark.parametrize("words", [".cpu()", "pin_memory", ".numpy()"])
def test_models_copy_nothing_by_themselves(words: str) -> None:
    """So the count is whole. The classic and the fake model live on the CPU."""
    allowed = {"transfers.py", "classic.py", "colour_model.py", "merge.py" if words == ".numpy()" else ""}
    files = [*MODELS.glob("*.py"), *(MODELS.parent / "matting" / "device").glob("*.py")]
    found = [path.name for path in files if words in path.read_text() and path.name not in allowed]
    assert found == []
