"""A training step waits for nothing: no value is read back, draws are made before it, and two sizes compile twice."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mam_video.models.lite_net import LiteNet, click_maps
from mam_video.training import lite_trainer
from mam_video.training.checkpoints import save_weights
from mam_video.training.choices import Choices, draw_choices
from mam_video.training.data.composites import Composites
from mam_video.training.data.pictures import LabelledPicture
from mam_video.training.synth.scene import SceneGenerator
from mam_video.training.train_matte_head import MatteConfig, MatteTrainer
from mam_video.training.train_segmenter import SegmenterConfig, SegmenterTrainer
from tests.training.conftest import blob

SEGMENTER = SegmenterConfig(architecture="lite0", size=64, batch=3, threads=1, precision="float32", workers=0)
MATTE = MatteConfig(architecture="lite0", size=128, batch=2, threads=1, precision="float32", own_masks=0.7)


@pytest.fixture(autouse=True)
def no_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite_trainer, "load_imagenet", lambda net: None)


def scenes(size: int, count: int = 3) -> dict[str, torch.Tensor]:
    items = [LabelledPicture("blobs", f"{i}", *blob(i), (1,)) for i in range(6)]
    generator = SceneGenerator(items, [blob(9)[0]], size, 0)
    drawn = [generator.scene(i) for i in range(count)]
    return {k: torch.from_numpy(np.stack([s[k] for s in drawn])) for k in drawn[0]}


def composites(size: int, count: int = 2) -> dict[str, torch.Tensor]:
    subjects = [("blobs", np.dstack([p, m * np.uint8(255)])) for p, m in (blob(i) for i in range(4))]
    maker = Composites(subjects, [blob(9)[0]], size, 1)
    drawn = [maker.sample(i) for i in range(count)]
    return {k: torch.from_numpy(np.stack([s[k] for s in drawn])) for k in drawn[0]}


def test_click_maps_are_those_of_a_loop_over_the_points() -> None:
    noise = torch.Generator().manual_seed(1)
    points = torch.rand(4, 3, 2, generator=noise)
    labels = torch.tensor([[1, 0, -1], [-1, -1, -1], [0, 0, 0], [1, 1, 0]])
    size = 32
    axis = (torch.arange(size) + 0.5) / size
    expected = torch.zeros(2, 4, size, size)
    for i in range(4):
        for (x, y), label in zip(points[i].tolist(), labels[i].tolist(), strict=True):
            if label >= 0:
                spot = torch.exp(-((axis[:, None] - y) ** 2 + (axis[None] - x) ** 2) * (size / 5) ** 2 / 2)
                expected[0 if label else 1, i] = torch.maximum(expected[0 if label else 1, i], spot)
    assert torch.equal(torch.stack(click_maps(size, points, labels)), expected)
    assert not torch.stack(click_maps(size, points[:, :0], labels[:, :0])).any()


def test_choices_are_drawn_by_seed_in_one_order() -> None:
    """Older runs drew each choice where it was used: a resumed one must go on with the same numbers."""
    drawn = Choices(draw_choices(torch.Generator().manual_seed(5), 4, 3), 3)
    noise = torch.Generator().manual_seed(5)
    assert torch.equal(drawn(0, "inaccurate"), (torch.rand(4, generator=noise) < 0.3).float())
    assert torch.equal(drawn(0, "accurate"), (torch.rand(4, generator=noise) < 0.4).float())
    assert torch.equal(drawn(0, "jitter"), torch.randn(4, 4, generator=noise))
    for _ in range(4):
        torch.rand(4, generator=noise)
    assert torch.equal(drawn(1, "inaccurate"), (torch.rand(4, generator=noise) < 0.5).float())
    usual = Choices.usual(2, 3, torch.device("cpu"))
    assert not usual.random and usual(0, "has_box").all() and not usual(2, "leak").any()
    assert not usual(1, "jitter").any() and usual(2, "has_recent").all()


def test_a_step_reads_nothing_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On the device "meta" tensors have shapes but no values: what asks for one fails."""
    with pytest.raises(RuntimeError):
        torch.ones(1, device="meta").item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(1, device="meta").cpu()
    # There is no autocast for this device; it changes precisions only.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    trainer = SegmenterTrainer(replace(SEGMENTER, device="meta"))
    measures = trainer.learn(scenes(64))
    assert measures.is_meta and measures.shape == (5,) and trainer.step == 1
    save_weights(LiteNet().state_dict(), tmp_path / "all.safetensors")
    head = MatteTrainer(replace(MATTE, device="meta", segmenter=str(tmp_path / "all.safetensors"), solidity=0.5))
    measures = head.learn(composites(128))
    assert measures.is_meta and measures.shape == (2,)
