"""The trainers learn, go on where they stopped, and say what is wrong with a config."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mam_video.core.errors import MamVideoError
from mam_video.models.lite_backbone import LITE0, LITE2
from mam_video.models.lite_net import LiteNet
from mam_video.training import lite_trainer, train_matte_head
from mam_video.training.__main__ import main
from mam_video.training.checkpoints import architecture_in, load_weights, save_weights
from mam_video.training.data.composites import Composites
from mam_video.training.data.pictures import read_backgrounds, read_cutouts, read_labelled, read_manifest
from mam_video.training.synth.scene import SceneGenerator
from mam_video.training.train_matte_head import MatteConfig, MatteTrainer
from mam_video.training.train_segmenter import SegmenterConfig, SegmenterTrainer
from mam_video.training.trainer_base import rate_share, read_config
from tests.training.conftest import blob

RECIPES = Path(__file__).resolve().parents[2] / "configs" / "training"

# One thread: for pictures this small two mostly wait for each other, on a busy machine for minutes. And the precision
# is not the machine's choice: what is learnt in 60 steps depends on it.


@pytest.fixture(autouse=True)
def no_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ImageNet weights are a package of the extra `train`: tests start from chance, at a scale that carries."""

    def by_chance(net: LiteNet) -> None:
        for name, weight in net.backbone.named_parameters():
            if name.endswith("weight"):
                torch.nn.init.kaiming_normal_(weight)

    monkeypatch.setattr(lite_trainer, "load_imagenet", by_chance)


def batch_of(samples: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(np.stack([s[k] for s in samples])) for k in samples[0]}


def test_four_pictures_can_be_learnt_by_heart(training_set: Path) -> None:
    sources = read_manifest(training_set, allow="masks/blobs|backgrounds")
    items = read_labelled(training_set, sources, held=False)[:4]
    scenes = batch_of([SceneGenerator(items, [], 64, 0).scene(i) for i in range(4)])
    trainer = SegmenterTrainer(
        SegmenterConfig(
            size=64, batch=4, rate=4e-3, backbone_rate=1e-3, warm_up=5, average=0.9, threads=1, precision="float32"
        )
    )
    first = trainer.learn(scenes)
    for _ in range(60):
        last = trainer.learn(scenes)
    assert last[0] < 0.4 * first[0], (first, last)
    assert min(last[1:]) > 0.75, last


def test_the_matte_head_learns_four_composites(training_set: Path) -> None:
    sources = read_manifest(training_set)
    subjects = read_cutouts(training_set, sources, held=False)
    composites = Composites(subjects, read_backgrounds(training_set, sources, held=False), 128, 1)
    batch = batch_of([composites.sample(i) for i in range(4)])
    trainer = MatteTrainer(MatteConfig(size=128, rate=5e-3, warm_up=5, threads=1, precision="float32"))
    first = trainer.learn(batch)
    for _ in range(60):
        last = trainer.learn(batch)
    assert last[1] < 0.25 * first[1], (first, last)


def test_a_resumed_run_is_the_same_run(training_set: Path, tmp_path: Path) -> None:
    config = SegmenterConfig(
        data=str(training_set), out=str(tmp_path / "whole"), size=64, batch=2, steps=4, save_every=2, log_every=1,
        check_every=100, workers=0, threads=1,
    )  # fmt: skip
    SegmenterTrainer(config).run()
    halves = replace(config, out=str(tmp_path / "halves"), steps=2)
    SegmenterTrainer(halves).run()
    resumed = SegmenterTrainer(replace(halves, steps=4))
    resumed.run(resume=True)
    assert resumed.step == 4
    state = torch.load(tmp_path / "whole" / "run.pt", weights_only=True)
    # The entries of every run.pt: with others, runs of before would not resume. Older ones lack `elapsed`.
    assert set(state) == {"step", "net", "average", "count", "optimizer", "draw", "config", "elapsed"}
    one = state["average"]
    other = torch.load(tmp_path / "halves" / "run.pt", weights_only=True)["average"]
    assert all(torch.equal(one[k], other[k]) for k in one)


def test_weights_in_half_precision_come_back(tmp_path: Path) -> None:
    trainer = SegmenterTrainer(SegmenterConfig(size=64, threads=1))
    save_weights(trainer.net.state_dict(), tmp_path / "half.safetensors", half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 8e6
    other = SegmenterTrainer(SegmenterConfig(size=64, seed=9, threads=1)).net
    load_weights(other, tmp_path / "half.safetensors")
    ours, theirs = trainer.net.state_dict(), other.state_dict()
    assert all(torch.allclose(ours[k], theirs[k], rtol=1e-3, atol=1e-6) for k in ours if ours[k].is_floating_point())
    save_weights({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(MamVideoError, match="another network"):
        load_weights(other, tmp_path / "other.safetensors")


def test_the_recipes_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_config(SegmenterConfig, RECIPES / "lite-segmenter.toml").batch == 6
    assert read_config(MatteConfig, RECIPES / "lite-matte.toml").size == 512
    bad = tmp_path / "bad.toml"
    bad.write_text('recipe = "lite-segmenter"\nbach = 3\n')
    assert main([str(bad)]) == 1
    assert "unknown key 'bach'" in capsys.readouterr().err
    bad.write_text('recipe = "lite-segmenter"\nbatch = "three"\n')
    assert main([str(bad)]) == 1
    assert "'batch' must be of the kind int" in capsys.readouterr().err
    bad.write_text('recipe = "sauce"\n')
    assert main([str(bad)]) == 1
    assert "unknown recipe 'sauce'" in capsys.readouterr().err
    assert main([str(tmp_path / "none.toml")]) == 1


def test_the_trainers_follow_the_architecture_of_what_they_start_from(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    save_weights(LiteNet(LITE2).state_dict(), path, half=True)
    assert SegmenterTrainer(SegmenterConfig(architecture="lite2")).net.architecture == LITE2
    assert SegmenterTrainer(SegmenterConfig(start=str(path))).net.architecture == LITE2
    assert MatteTrainer(MatteConfig(segmenter=str(path))).net.architecture == LITE2
    with pytest.raises(MamVideoError, match="not of the architecture lite0"):
        MatteTrainer(MatteConfig(architecture="lite0", start=str(path)))
    with pytest.raises(MamVideoError, match="no such architecture; known: lite0, lite2"):
        SegmenterTrainer(SegmenterConfig(architecture="lite9"))


def test_the_rate_falls_by_steps_or_by_the_clock() -> None:
    steps = [rate_share(i, warm_up=2, steps=10, cool_down=4) for i in range(10)]
    assert steps == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    times = (0.0, 0.2, 0.4, 4.0, 7.0, 10.0, 20.0)
    clock = [rate_share(0, warm_up=2, steps=9, cool_down=4, seconds=10, elapsed=t) for t in times]
    assert clock == [0.01, 0.5, 1, 1, 0.5, 0.01, 0.01]


def test_a_run_by_the_clock_ends_and_is_kept(training_set: Path, tmp_path: Path) -> None:
    SegmenterTrainer(
        SegmenterConfig(data=str(training_set), out=str(tmp_path), size=64, batch=2, seconds=0.01, workers=0, threads=1)
    ).run()
    assert torch.load(tmp_path / "run.pt", weights_only=True)["step"] >= 1
    assert architecture_in(tmp_path / "average.safetensors") == LITE0


def test_a_run_is_kept_by_the_clock_and_its_time_goes_on(training_set: Path, tmp_path: Path) -> None:
    config = SegmenterConfig(
        data=str(training_set), out=str(tmp_path), size=64, batch=2, steps=2, seconds=1000.0, workers=0, threads=1,
        save_every=0, save_seconds=1e-3,
    )  # fmt: skip
    first = SegmenterTrainer(config)
    steps: list[int] = []
    first.export = lambda: steps.append(first.step)  # type: ignore[method-assign]
    first.run()
    assert steps == [1, 2]
    kept = torch.load(tmp_path / "run.pt", weights_only=True)
    assert 0 < kept["elapsed"] < 1000
    second = SegmenterTrainer(replace(config, steps=3))
    second.restore(kept)
    assert second.elapsed() == kept["elapsed"]
    # A run that is late ends at once, whatever its steps.
    late = SegmenterTrainer(replace(config, steps=50, seconds=0.0, within=1e-3))
    late.restore(kept)
    assert late.seconds() == pytest.approx(kept["elapsed"] + 1.0)


def test_solidity_counts_holes_and_specks() -> None:
    truth = torch.zeros(1, 1, 64, 64)
    truth[..., 16:48, 16:48] = 1
    right, hole, speck = (8 * (2 * truth - 1) for _ in range(3))
    hole[..., 28:36, 28:36] *= -1
    speck[..., 0:10, 0:24] *= -1
    small, valid = torch.full((1, 1, 16, 16), 0.0), torch.ones_like(truth)
    for wrong in (hole, speck):
        more = [
            train_matte_head.matte_loss(x, small, truth, valid, 1.0)
            - train_matte_head.matte_loss(x, small, truth, valid)
            for x in (right, wrong)
        ]
        assert more[0] < 0.03 < more[1]


def test_blobs_are_blobs() -> None:
    picture, mask = blob(3)
    assert cv2.connectedComponents(mask)[0] == 2 and picture[mask > 0].min() >= 120


def test_checks_leave_pictures_to_look_at(training_set: Path, tmp_path: Path) -> None:
    sources = read_manifest(training_set)
    items = read_labelled(training_set, sources, held=False)
    grounds = read_backgrounds(training_set, sources, held=False)
    of_masks = SegmenterTrainer(SegmenterConfig(size=64, out=str(tmp_path), threads=1))
    ious = of_masks.check(SceneGenerator(items, grounds, 64, 0), count=8)
    assert len(ious) == 4 and all(0 <= v <= 1 for v in ious)
    sheet = cv2.imread(str(tmp_path / "samples" / "000000.jpg"))
    assert sheet is not None and sheet.shape == (
        4 * 32,
        8 * 32,
        3,
    )  # four scenes; each of four answers beside its frame
    of_alphas = MatteTrainer(MatteConfig(size=128, out=str(tmp_path / "matte"), threads=1))
    composites = Composites(read_cutouts(training_set, sources, held=False), grounds, 128, 1)
    whole, band, mask = of_alphas.check(composites, count=8)
    assert 0 <= whole <= 1 and 0 <= band <= 1 and 0 <= mask <= 1
    sheet = cv2.imread(str(tmp_path / "matte" / "samples" / "000000.jpg"))
    assert sheet is not None and sheet.shape == (8 * 128, 4 * 128, 3)


def test_weights_of_a_network_that_has_grown_still_say_the_same(tmp_path: Path) -> None:
    class Small(torch.nn.Module):
        def __init__(self, inputs: int = 3) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(inputs, 4, 3)

    class Large(Small):
        def __init__(self) -> None:
            super().__init__(5)
            self.added = torch.nn.Linear(2, 2)

    old, new = Small(), Large()
    save_weights(old.state_dict(), tmp_path / "old.safetensors", note="")
    before = new.added.weight.clone()
    load_weights(new, tmp_path / "old.safetensors", grown=True)
    x = torch.rand(1, 5, 6, 6)
    # Weights are kept in half precision.
    assert torch.allclose(new.conv(x), old.conv(x[:, :3]), atol=2e-3)
    assert torch.equal(new.added.weight, before)
    with pytest.raises(MamVideoError, match="another network"):
        load_weights(new, tmp_path / "old.safetensors")
