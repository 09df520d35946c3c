"""A training step waits for nothing: no value is read back, draws are made before it, and two sizes compile twice."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mam_video.core.errors import MamVideoError
from mam_video.models.lite_net import LiteNet, click_maps
from mam_video.training import lite_trainer
from mam_video.training.batches import NumberedBatches, count_workers
from mam_video.training.checkpoints import save_weights
from mam_video.training.choices import Choices, draw_choices
from mam_video.training.data.composites import Composites
from mam_video.training.data.pictures import LabelledPicture
from mam_video.training.layouts import layout_of, quickest
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


@pytest.mark.parametrize(
    ("trainer_of", "batch_of", "sides"),
    [
        (lambda: MatteTrainer(MATTE), composites, (128, 256)),
        pytest.param(lambda: SegmenterTrainer(SEGMENTER), scenes, (64, 96), marks=pytest.mark.slow),
    ],
)
def test_a_step_is_one_graph_and_two_sizes_are_compiled_once_each(
    trainer_of: Any, batch_of: Any, sides: tuple[int, int]
) -> None:
    """A break in the graph, or a guard on a value, would compile more often; so would sizes that vary at random."""
    graphs = []

    def backend(module: torch.fx.GraphModule, _: Sequence[Any]) -> Any:
        graphs.append(module)
        return module.forward

    trainer = trainer_of()
    step = torch.compile(trainer.compute, backend=backend, dynamic=False)
    batches = {side: batch_of(side) for side in sides}
    for _ in range(2):
        for batch in batches.values():
            state = trainer.generator.get_state()
            found = step(trainer.inputs(batch))
            found[0].backward()
            trainer.generator.set_state(state)
    assert len(graphs) == 2
    plain = trainer.compute(trainer.inputs(batch))
    # The backend runs the same operators; only the statistics of the batch norms differ by then, and not in training.
    assert torch.allclose(found[0], plain[0], rtol=1e-5)


def test_the_quicker_layout_is_found_and_nothing_else_changes(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = SegmenterTrainer(replace(SEGMENTER, layout="measure", sizes=(64, 96)))
    trainer.learn(scenes(64))  # so that the optimizer has a state, as in a resumed run
    before = {k: v.clone() for k, v in trainer.net.state_dict().items()}
    random_state = trainer.generator.get_state()
    trainer.warm({64: scenes(64), 96: scenes(96)})
    line = capsys.readouterr().out
    assert "channels_last" in line and "contiguous" in line and line.count("ms a step") == 2
    after = trainer.net.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert torch.equal(trainer.generator.get_state(), random_state)
    for name, layout in (("contiguous", torch.contiguous_format), ("channels_last", torch.channels_last)):
        trainer.set_layout(name)
        assert layout_of(trainer.net) == layout
        strides = {k: v.stride() for k, v in trainer.net.state_dict().items()}
        assert strides == {k: v.stride() for k, v in trainer.average.state.items()}
        moments = [s["exp_avg"].stride() == p.stride() for p, s in trainer.optimizer.state.items()]
        assert moments and all(moments)


def test_both_layouts_give_the_same_loss() -> None:
    losses = []
    for name in ("channels_last", "contiguous"):
        trainer = SegmenterTrainer(replace(SEGMENTER, layout=name))
        trainer.set_layout(name)
        losses.append(float(trainer.learn(scenes(64))[0]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # the order of float32 sums differs


def test_what_does_not_work_here_is_told_and_left_out() -> None:
    told: list[str] = []

    def seconds(name: str) -> float:
        if name == "b":
            raise OSError("no compiler\nand more")
        return {"a": 0.2, "c": 0.1}[name]

    assert quickest(["a", "b", "c"], seconds, told.append) == "c"
    assert told == ["b does not work here: OSError: no compiler", "a 200 ms a step, c 100 ms a step: c"]
    with pytest.raises(OSError, match="no compiler"):
        quickest(["b", "a"], seconds, told.append)
    with pytest.raises(MamVideoError, match="layout = 'sideways': choose one of channels_last, contiguous, measure"):
        SegmenterTrainer(replace(SEGMENTER, layout="sideways"))


def test_batches_go_on_where_a_run_stopped() -> None:
    def first(step: int, count: int) -> list[list[tuple[int, int]]]:
        batches = iter(NumberedBatches(step, (256, 256, 320), 64, 256))
        return [next(batches) for _ in range(count)]

    whole = first(0, 9)
    assert [len(b) for b in whole[:3]] == [64, 64, 41] and {side for _, side in whole[2]} == {320}
    assert [n for batch in whole for n, _ in batch] == list(range(3 * (64 + 64 + 41)))
    for step in range(6):
        assert first(step, 3) == whole[step : step + 3]
    assert count_workers(0) == 0 and count_workers(3) == 3 and count_workers(-1) >= 1


@pytest.mark.slow
def test_a_compiled_step_learns_as_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `compile = "measure"` does, with a compiler that records forward and backward, and computes nothing anew."""
    monkeypatch.setattr("mam_video.training.layouts.COMPILERS", {"inductor": {"backend": "aot_eager"}})
    losses, weights = [], []
    for compiler in ("off", "inductor"):
        trainer = SegmenterTrainer(replace(SEGMENTER, compile=compiler, rate=1e-4, backbone_rate=1e-4))
        trainer.warm({64: scenes(64)})
        losses.append([float(trainer.learn(scenes(64))[0]) for _ in range(2)])
        weights.append(trainer.net.segmenter.out.weight.detach().clone())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    # Adam moves a weight by about the rate, whatever its gradient: half a step may differ where that is almost 0.
    assert torch.allclose(weights[0], weights[1], atol=1e-4)
