"""Trains the embedded model's matte head on composites, beside a segmenter that stays as it is.

The mask handed to the head is the segmenter's own, asked with a box, where that fits the truth; else, and for the rest,
the truth rounded and moved as a segmenter would.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam_video.models.devices import resolve_precision
from mam_video.models.lite_net import MATCH_MAPS, Features, LiteNet, prompt_maps
from mam_video.training.data.composites import Composites, read_rendered
from mam_video.training.data.pictures import read_backgrounds, read_cutouts, read_manifest, read_masked
from mam_video.training.depthwise import quicken
from mam_video.training.losses import l1, laplacian_loss
from mam_video.training.synth.scene import WEIGHTS
from mam_video.training.train_segmenter import Compared, load_imagenet, match_maps
from mam_video.training.trainer_base import (
    MovingAverage,
    Numbers,
    chosen_architecture,
    load_run,
    load_weights,
    optimizer_to,
    rate_share,
    save_run,
    save_samples,
    save_weights,
)


@dataclass(frozen=True, kw_only=True)
class MatteConfig:
    """See configs/training/lite-matte.toml, which explains each."""

    data: str = "../shared/data/train"
    rendered: str = "runs/rendered"
    allow: str = ".*"
    deny: str = ""
    out: str = "runs/lite-matte"
    architecture: str = ""
    segmenter: str = ""
    start: str = ""
    seed: int = 1
    size: int = 512
    batch: int = 4
    steps: int = 100_000
    warm_up: int = 50
    cool_down: int = 0
    seconds: float = 0.0
    rate: float = 2e-3
    weight_decay: float = 1e-4
    average: float = 0.995
    clip_gradient: float = 1.0
    freeze_norm: bool = False
    own_masks: float = 0.5
    least_iou: float = 0.6
    hard: float = 0.0
    solidity: float = 0.0
    log_every: int = 25
    save_every: int = 100
    check_every: int = 300
    threads: int = 2
    workers: int = 1
    device: str = "cpu"
    precision: str = "auto"


class _Samples(torch.utils.data.Dataset[dict[str, np.ndarray]]):
    def __init__(self, composites: Composites) -> None:
        self.composites = composites

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        cv2.setNumThreads(0)
        return self.composites.sample(index)


def scaled(logits: Tensor) -> Tensor:
    """The head's alpha without its clamp, which would stop the gradient; see `lite.to_alpha`."""
    return logits.sigmoid() * 1.02 - 0.01


def matte_loss(logits: Tensor, coarse: Tensor, truth: Tensor, valid: Tensor, solidity: float = 0.0) -> Tensor:
    """L1 everywhere and once more in the unknown band, the Laplacian pyramid's, and a coarse L1, of alpha logits.

    `solidity` weighs one term more: the L1 where the truth is 1 or 0 away from the band, each of the two by its area.
    """
    alpha = scaled(logits)
    soft = ((truth > 0.01) & (truth < 0.99)).float()
    band = F.max_pool2d(soft, 9, 1, 4) * valid
    whole = l1(alpha, truth, valid)
    # In a hard-edged picture the band is thin: no division by next to nothing.
    narrow = ((alpha - truth).abs() * band).sum() / band.sum().clamp(min=0.01 * truth.numel())
    pyramid = laplacian_loss(alpha, truth, valid, levels=4)
    small = F.avg_pool2d(truth, 4)
    rough = l1(scaled(coarse), small, F.avg_pool2d(valid, 4))
    loss = whole + narrow + 0.5 * pyramid + 0.5 * rough
    if solidity:
        error, away = (alpha - truth).abs(), (1 - band) * valid
        for sure in (truth > 0.99, truth < 0.01):
            where = sure.float() * away
            loss = loss + solidity * (error * where).sum() / where.sum().clamp(min=0.01 * truth.numel())
    return loss


@torch.no_grad()
def own_masks(net: LiteNet, features: Features, box: Tensor, valid: Tensor, looks: int = 2) -> Tensor:
    """The segmenter's logits (B, 1, S/2, S/2) for boxes (B, 4) in shares; valid is (B, 1, S/8, S/8)."""
    b, size = len(box), 4 * features.key.shape[-1]
    ones, zeros = box.new_ones(b), box.new_zeros(b)
    nothing = box.new_zeros(b, 1, size, size)
    none = [(box.new_zeros(0, 2), box.new_zeros(0))] * b
    maps = prompt_maps(size, box, ones, nothing, zeros, none)
    matches = box.new_zeros(b, MATCH_MAPS, *features.key.shape[2:])
    logits: Tensor = net.segmenter.decode(features, maps, matches)[0]
    for _ in range(looks - 1):
        first = logits.sigmoid()
        maps = prompt_maps(size, box, ones, first, ones, none)
        compared = Compared(features, first, valid, ones)
        logits = net.segmenter.decode(features, maps, match_maps(net, features, compared, None))[0]
    return logits


class MatteTrainer:
    def __init__(self, config: MatteConfig) -> None:
        self.config = config
        self.device = torch.device(config.device)
        torch.manual_seed(config.seed)
        # Numbers next to nothing, as the averages of idle gradients become, take a CPU many times as long.
        torch.set_flush_denormal(True)
        torch.set_num_threads(config.threads)
        self.half = resolve_precision(config.precision, self.device) is torch.bfloat16
        self.net = LiteNet(chosen_architecture(config.architecture, config.start or config.segmenter))
        if self.half and self.device.type == "cpu":
            quicken(self.net)
        if config.start:
            load_weights(self.net, Path(config.start), grown=True)
        if config.segmenter:
            self._take_segmenter(Path(config.segmenter))
        elif not config.start:
            load_imagenet(self.net)
        self.net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.net.eval().requires_grad_(False)
        self.net.matte.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            self.net.matte.parameters(), lr=config.rate, weight_decay=config.weight_decay
        )
        self.average = MovingAverage(self.net.matte, config.average)
        self.step = 0
        self.began: float | None = None  # by time.monotonic, when the first batch was there
        self.draw = torch.Generator().manual_seed(config.seed)

    def _take_segmenter(self, path: Path) -> None:
        load_weights(self.net, path, parts=("backbone.", "segmenter."))

    def run(self, *, resume: bool = False) -> None:
        config, out = self.config, Path(self.config.out)
        if resume:
            self.restore(load_run(out / "run.pt"))
        train, kept = (self._composites(held) for held in (False, True))
        loader = torch.utils.data.DataLoader(
            _Samples(train),
            config.batch,
            sampler=Numbers(self.step * config.batch),
            num_workers=config.workers,
            prefetch_factor=4 if config.workers else None,
        )
        began, seen = time.monotonic(), []
        for batch in loader:
            if self.began is None:
                self.began = time.monotonic()
            if self.step >= config.steps or (config.seconds and self._elapsed() >= config.seconds):
                self.save()
                break
            seen.append(self.learn(batch))
            if self.step % config.log_every == 0:
                loss, mad = np.mean(seen, 0)
                pace = (time.monotonic() - began) / len(seen)
                print(f"step {self.step} loss {loss:.4f} mad {mad * 1e3:.2f}e-3 {pace:.2f} s", flush=True)
                began, seen = time.monotonic(), []
            if self.step % config.save_every == 0:
                self.save()
            if self.step % config.check_every == 0:
                whole, band, mask = self.check(kept)
                line = f"check {self.step} held-out mad {whole:.5f} in the band {band:.5f}, the mask's own {mask:.5f}"
                print(line, flush=True)
                with (out / "checks.txt").open("a") as f:
                    f.write(line + "\n")
                began = time.monotonic()

    def _composites(self, held: bool) -> Composites:
        root = Path(self.config.data)
        sources = read_manifest(root, self.config.allow, self.config.deny)
        subjects = read_cutouts(root, sources, held=held) + read_rendered(Path(self.config.rendered), held=held)
        grounds = read_backgrounds(root, sources, held=held)
        if not held:
            # The backgrounds are few; photographs of all kinds stand in, subjects and all.
            some = read_manifest(root, r"masks/(ecssd|pascal_s|coco_person|animals_polygons)")
            grounds = grounds + [m.picture for m in read_masked(root, some, held=False)][::3]
        print(f"{len(subjects)} subjects, {len(grounds)} backgrounds, held out: {held}", flush=True)
        # Checks are of the same composites whatever a config trains on.
        seed, hard = (0, 0.0) if held else (self.config.seed, self.config.hard)
        return Composites(subjects, grounds, self.config.size, seed, WEIGHTS, hard)

    def learn(self, batch: dict[str, Tensor]) -> list[float]:
        """One step: the loss and the mean absolute difference."""
        batch = {k: v.to(self.device) for k, v in batch.items()}
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate * self._pace()
        self.net.matte.train(not self.config.freeze_norm)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            picture, f2, f4, features = self._prepared(batch)
        logits = torch.logit(batch["mask"].clamp(1e-5, 1 - 1e-5))
        if self.config.own_masks and (self.config.segmenter or self.config.start):
            jitter = torch.randn(batch["box"].shape, generator=self.draw).to(self.device) * 0.01
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                own = own_masks(self.net, features, batch["box"] + jitter, F.avg_pool2d(batch["valid"], 16))
            hard, true = own > 0, F.avg_pool2d(batch["alpha"], 4) > 0.5
            iou = (hard & true).sum((1, 2, 3)) / (hard | true).sum((1, 2, 3)).clamp(min=1)
            wanted = torch.rand(len(own), generator=self.draw).to(self.device) < self.config.own_masks
            use = (wanted & (iou > self.config.least_iou)).view(-1, 1, 1, 1)
            logits = torch.where(use, own, logits)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            alpha, coarse = (v.float() for v in self.net.matte(picture, f2, f4, features, logits))
        loss = matte_loss(alpha, coarse, batch["alpha"], batch["valid"], self.config.solidity)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.matte.parameters(), self.config.clip_gradient)
        self.optimizer.step()
        self.step += 1
        self.average.update(self.net.matte)
        with torch.no_grad():
            mad = l1(scaled(alpha).clamp(0, 1), batch["alpha"], batch["valid"])
        return [float(loss.detach()), float(mad)]

    @torch.no_grad()
    def _prepared(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Features]:
        """The picture, f2, f4 and the segmenter's features."""
        picture = batch["picture"].float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
        f2, f4 = self.net.backbone.low(F.avg_pool2d(picture, 2))
        return picture, f2, f4, self.net.segmenter.features(f4, *self.net.backbone.deep(f4))

    def _pace(self) -> float:
        """The rate's share, by steps or by the clock."""
        c = self.config
        return rate_share(
            self.step,
            warm_up=c.warm_up,
            steps=c.steps,
            cool_down=c.cool_down,
            seconds=c.seconds,
            elapsed=self._elapsed(),
        )

    def _elapsed(self) -> float:
        """Seconds since the first step of this call of the trainer."""
        return time.monotonic() - self.began if self.began is not None else 0.0

    @torch.no_grad()
    def check(self, composites: Composites, count: int = 40) -> tuple[float, float, float]:
        """MAD of the averaged weights on held-out composites: whole, in the band, and there of the mask handed over.

        Writes samples/STEP.jpg: picture, the mask handed over, true alpha, the head's.
        """
        from mam_video.training.data.composites import unknown_band

        net = LiteNet(self.net.architecture)
        net.load_state_dict(self.net.state_dict())
        net.matte.load_state_dict(self.average.state)
        net.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        whole, band, mask, rows = [], [], [], []
        for i in range(count):
            batch = {k: torch.from_numpy(v)[None].to(self.device) for k, v in composites.sample(i).items()}
            picture, f2, f4, features = self._prepared(batch)
            alpha, _ = net.matte(picture, f2, f4, features, torch.logit(batch["mask"].clamp(1e-5, 1 - 1e-5)))
            error = (scaled(alpha).clamp(0, 1) - batch["alpha"]).abs()[0, 0].cpu().numpy()
            given = F.interpolate(batch["mask"], scale_factor=4, mode="bilinear", align_corners=False)
            if i < 8:
                maps = (given, batch["alpha"], scaled(alpha).clamp(0, 1))
                shown = [(m[0, 0] * 255).round().byte().cpu().numpy() for m in maps]
                rows.append([batch["picture"][0].permute(1, 2, 0).cpu().numpy(), *shown])
            where = unknown_band(batch["alpha"][0, 0].cpu().numpy(), 3)
            whole.append(float(error.mean()))
            band.append(float(error[where].mean()))
            mask.append(float(((given > 0.5).float() - batch["alpha"]).abs()[0, 0].cpu().numpy()[where].mean()))
        save_samples(rows, Path(self.config.out) / "samples" / f"{self.step:06d}.jpg")
        return float(np.mean(whole)), float(np.mean(band)), float(np.mean(mask))

    def averaged(self) -> dict[str, Tensor]:
        """All weights, the matte head's averaged."""
        state = dict(self.net.state_dict())
        state.update({f"matte.{k}": v for k, v in self.average.state.items()})
        return state

    def save(self) -> None:
        out = Path(self.config.out)
        note = f"matte head, {self.step} steps, seed {self.config.seed}"
        form = self.net.architecture.to_text()
        save_weights(self.averaged(), out / "average.safetensors", note=note, architecture=form)
        save_run(
            out / "run.pt",
            step=self.step,
            net=self.net.state_dict(),
            average=self.average.state,
            count=self.average.count,
            optimizer=self.optimizer.state_dict(),
            draw=self.draw.get_state(),
            config=asdict(self.config),
        )

    def restore(self, parts: dict[str, Any]) -> None:
        """From a run. A segmenter named in the config takes the place of the run's own."""
        self.step = parts["step"]
        self.net.load_state_dict(parts["net"])
        if self.config.segmenter:
            self._take_segmenter(Path(self.config.segmenter))
        self.average.state = {k: v.to(self.device) for k, v in parts["average"].items()}
        self.average.count = parts["count"]
        self.optimizer.load_state_dict(parts["optimizer"])
        optimizer_to(self.optimizer, self.device)
        self.draw.set_state(parts["draw"])
