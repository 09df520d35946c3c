"""The published recipe runs on a tiny SAM, and its loss falls."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mam_video.core.errors import MamVideoError
from mam_video.models.m2m import M2M, Alphas
from mam_video.models.sam import VARIANTS, Sam
from mam_video.models.weights import read_tensors
from mam_video.training.train_mam import MamConfig, MamTrainer, Samples, trimap_unknown, weight_maps
from mam_video.training.trainer_base import read_config
from tests.training.conftest import blob

RECIPES = Path(__file__).resolve().parents[2] / "configs" / "training"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> MamConfig:
    root = tmp_path_factory.mktemp("mam")
    for folder in ("fore/fg", "fore/alpha", "whole/img", "whole/alpha", "back"):
        (root / folder).mkdir(parents=True)
    for i in range(4):
        picture, mask = blob(i)
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2) * 255
        for folder, kind in (("fore", "fg"), ("whole", "img")):
            cv2.imwrite(str(root / folder / kind / f"{i}.png"), picture)
            cv2.imwrite(str(root / folder / "alpha" / f"{i}.png"), soft.astype(np.uint8))
        cv2.imwrite(str(root / "back" / f"{i}.jpg"), np.random.default_rng(i).integers(0, 99, (50, 70, 3)))
    return MamConfig(
        variant="tiny", foregrounds=(str(root / "fore"),), whole=str(root / "whole"), backgrounds=(str(root / "back"),),
        out=str(root / "out"), size=64, batch=2, steps=4, warm_up=2, log_every=1, save_every=2, workers=0, threads=1,
    )  # fmt: skip


def test_it_runs_and_the_loss_falls(config: MamConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    sam = Sam(VARIANTS["tiny"]).accelerate()
    trainer = MamTrainer(replace(config, warm_up=40, rate=3e-3), sam)
    samples = [Samples(config)[i] for i in range(3)]
    batch = {k: torch.from_numpy(np.stack([s[k] for s in samples])) for k in samples[0]}
    before = [v.clone() for v in sam.state_dict().values()]
    # SAM gives the same for these pictures in every step: compute it once.
    guided = trainer.guided(list(batch["picture"].numpy()), batch["box"])
    monkeypatch.setattr(trainer, "guided", lambda *_: guided)
    losses = [trainer.learn(batch)[0] for _ in range(20)]
    assert losses[-1] < 0.6 * losses[0], losses
    assert all(torch.equal(a, b) for a, b in zip(before, sam.state_dict().values(), strict=True))


def test_a_run_goes_on_and_leaves_a_checkpoint_of_the_published_layout(config: MamConfig) -> None:
    torch.manual_seed(0)
    sam = Sam(VARIANTS["tiny"]).accelerate()
    config = replace(config, batch=1)
    MamTrainer(replace(config, steps=2), sam).run()
    trainer = MamTrainer(config, sam)
    trainer.run(resume=True)
    assert trainer.step == 4
    state = torch.load(Path(config.out) / "run.pt", weights_only=True)
    assert set(state) == {"step", "net", "optimizer", "usual_norm", "config", "elapsed"}
    M2M().load(read_tensors(Path(config.out) / "mam.pth", inside="state_dict"))


def test_samples_are_what_they_say(config: MamConfig) -> None:
    samples = Samples(config)
    for i in range(8):
        one, again = samples[i], samples[i]
        assert all(np.array_equal(one[k], again[k]) for k in one)
        assert one["picture"].shape == (64, 64, 3) and one["alpha"].shape == one["unknown"].shape == (1, 64, 64)
        soft = (one["alpha"] > 0.01) & (one["alpha"] < 0.99)
        assert one["unknown"][soft].min(initial=1) == 1


def test_the_trimap_leaves_the_edge_unknown() -> None:
    alpha = np.zeros((100, 100), np.float32)
    alpha[:, 50:] = 1
    unknown = trimap_unknown(random.Random(0), alpha)
    assert not unknown[:, :20].any() and not unknown[:, 80:].any()
    assert unknown[:, 50].all() or unknown[:, 49].all()


def test_the_schedule_counts_ever_less_certain_places() -> None:
    alpha = torch.zeros(1, 1, 32, 32)
    alpha[..., 16:] = 1
    alpha[..., 15] = 0.5
    mask, unknown = (alpha > 0.5).float(), torch.zeros_like(alpha)
    unknown[..., 12:20] = 1
    alphas = Alphas(alpha, alpha, alpha)

    def drawn(step: int) -> list[dict[str, torch.Tensor]]:
        return [weight_maps(alphas, mask, unknown, step, 10, random.Random(s)) for s in range(12)]

    assert all(float(w["os1"].min()) == 1 for w in drawn(9))
    middle = drawn(15)
    assert any(torch.equal(w["os1"], mask) for w in middle) and any(torch.equal(w["os1"], unknown) for w in middle)
    late = drawn(30)
    assert any(torch.equal(w["os4"], unknown) for w in late)
    own = [w["os4"] for w in late if not torch.equal(w["os4"], unknown)]
    assert own and all(float(w[..., 15].min()) == 1 and float(w[..., 0].max()) == 0 for w in own)
    assert all(float(w["os8"].min()) == 1 for w in late)


def test_the_config_says_what_is_wrong(tmp_path: Path) -> None:
    recipe = read_config(MamConfig, RECIPES / "mam.toml")
    assert len(recipe.foregrounds) == len(recipe.shares) == 4 and sum(recipe.shares) == pytest.approx(1)
    with pytest.raises(MamVideoError, match="Human-2K"):
        Samples(recipe)
    with pytest.raises(MamVideoError, match="multiple of 16"):
        MamConfig(size=100)
    with pytest.raises(MamVideoError, match="sam_weights"):
        MamTrainer(MamConfig())
