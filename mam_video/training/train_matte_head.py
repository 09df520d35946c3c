"""Train the embedded model's matte head on composites, beside a frozen segmenter.

The input mask of the head is the segmenter's own prediction for a box, where that fits the truth. Otherwise, and in the
remaining samples, it is the truth, smoothed and moved as a segmenter would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam_video.models.lite_layers import Features
from mam_video.models.lite_net import MATCH_MAPS, LiteNet
from mam_video.models.lite_prompts import prompt_maps
from mam_video.training.batches import NumberedSamples
from mam_video.training.data.composites import Composites, unknown_band
from mam_video.training.data.pictures import (
    read_backgrounds,
    read_cutouts,
    read_labelled,
    read_manifest,
    read_rendered,
)
from mam_video.training.layouts import layout_of
from mam_video.training.lite_trainer import LiteConfig, LiteTrainer, rendered_root
from mam_video.training.losses import l1, laplacian_loss
from mam_video.training.roll_out import Reference, match_maps
from mam_video.training.synth.scene import WEIGHTS
from mam_video.training.trainer_base import save_samples


@dataclass(frozen=True, kw_only=True)
class MatteConfig(LiteConfig):
    """The settings of a training; configs/training/lite-matte.toml explains each."""

    rendered: str = "runs/rendered"
    out: str = "runs/lite-matte"
    segmenter: str = ""
    size: int = 512
    warm_up: int = 50
    rate: float = 2e-3
    average: float = 0.995
    own_masks: float = 0.5
    least_iou: float = 0.6
    hard: float = 0.0
    solidity: float = 0.0
    check_every: int = 300


def unclamped_alpha(logits: Tensor) -> Tensor:
    """Return the head's alpha without its clamp, which would stop the gradient; see `lite.to_alpha`."""
    return logits.sigmoid() * 1.02 - 0.01


def matte_loss(logits: Tensor, coarse: Tensor, truth: Tensor, valid: Tensor, solidity: float = 0.0) -> Tensor:
    """Compute the loss of alpha logits (B, 1, S, S): L1 everywhere and again in the unknown band, and Laplacian.

    Args:
        coarse: the head's coarse alpha logits (B, 1, S/4, S/4); their L1 is added.
        valid: 1 in the picture, 0 in padding.
        solidity: weight of the L1 outside the band where the truth is 1, and of that where it is 0, each by its area.
    """
    alpha = unclamped_alpha(logits)
    soft = ((truth > 0.01) & (truth < 0.99)).float()
    band = F.max_pool2d(soft, 9, 1, 4) * valid
    whole = l1(alpha, truth, valid)
    # The band of a hard-edged picture is thin: do not divide by almost nothing.
    narrow = ((alpha - truth).abs() * band).sum() / band.sum().clamp(min=0.01 * truth.numel())
    pyramid = laplacian_loss(alpha, truth, valid, levels=4)
    small = F.avg_pool2d(truth, 4)
    rough = l1(unclamped_alpha(coarse), small, F.avg_pool2d(valid, 4))
    loss = whole + narrow + 0.5 * pyramid + 0.5 * rough
    if solidity:
        error, outside = (alpha - truth).abs(), (1 - band) * valid
        for certain in (truth > 0.99, truth < 0.01):
            area = certain.float() * outside
            loss = loss + solidity * (error * area).sum() / area.sum().clamp(min=0.01 * truth.numel())
    return loss


@torch.no_grad()
def segmenter_logits(net: LiteNet, features: Features, box: Tensor, valid: Tensor, passes: int = 2) -> Tensor:
    """Predict masks for boxes: logits (B, 1, S/2, S/2). Each further pass takes the last mask as a prompt.

    Args:
        box: (B, 4) in shares of the side.
        valid: (B, 1, S/8, S/8), 1 in the picture, 0 in padding.
    """
    b, size = len(box), 4 * features.key.shape[-1]
    ones, zeros = box.new_ones(b), box.new_zeros(b)
    empty = box.new_zeros(b, 1, size, size)
    no_points = (box.new_zeros(b, 0, 2), box.new_zeros(b, 0))
    maps = prompt_maps(size, box, ones, empty, zeros, *no_points)
    matches = box.new_zeros(b, MATCH_MAPS, *features.key.shape[2:])
    logits: Tensor = net.segmenter.decode(features, maps, matches)[0]
    for _ in range(passes - 1):
        mask = logits.sigmoid()
        maps = prompt_maps(size, box, ones, mask, ones, *no_points)
        reference = Reference(features, mask, valid, ones)
        logits = net.segmenter.decode(features, maps, match_maps(net, features, reference, None))[0]
    return logits


def _mask_logits(mask: Tensor) -> Tensor:
    return torch.logit(mask.clamp(1e-5, 1 - 1e-5))


class MatteTrainer(LiteTrainer[MatteConfig]):
    """Trains the matte head; backbone and segmenter stay as they are."""

    part = "matte head"

    def __init__(self, config: MatteConfig) -> None:
        super().__init__(config, config.segmenter)
        self.net.eval().requires_grad_(False)
        self.net.matte.requires_grad_(True)
        self.net.matte.train(not config.freeze_norm)
        self._train([(list(self.net.matte.parameters()), config.rate)], averaged=self.net.matte)
        self._held_out: Composites | None = None

    def open_data(self) -> NumberedSamples:
        self._held_out = self._composites(held=True)[self.config.size]
        return NumberedSamples({side: drawn.sample for side, drawn in self._composites(held=False).items()})

    def _composites(self, held: bool) -> dict[int, Composites]:
        """Read the subjects and backgrounds. Returns: what draws composites of each side."""
        root = Path(self.config.data)
        sources = read_manifest(root, self.config.allow, self.config.deny)
        subjects = read_cutouts(root, sources, held=held) + read_rendered(rendered_root(self.config), held=held)
        backgrounds = read_backgrounds(root, sources, held=held)
        if not held:
            # There are few backgrounds; photographs of all kinds are added, with their subjects.
            photographs = read_manifest(root, r"masks/(ecssd|pascal_s|coco_person|animals_polygons)")
            backgrounds = backgrounds + [m.picture for m in read_labelled(root, photographs, held=False)][::3]
        print(f"{len(subjects)} subjects, {len(backgrounds)} backgrounds, held out: {held}", flush=True)
        # All configs are checked on the same composites.
        seed, hard = (0, 0.0) if held else (self.config.seed, self.config.hard)
        sides = {self.config.size, *self.sides()}
        return {side: Composites(subjects, backgrounds, side, seed, WEIGHTS, hard) for side in sides}

    def inputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self._predicts_masks:
            return super().inputs(batch)
        jitter = torch.randn(batch["box"].shape, generator=self.generator) * 0.01
        own = torch.rand(len(jitter), generator=self.generator) < self.config.own_masks
        return super().inputs({**batch, "jitter": jitter, "own": own})

    @property
    def _predicts_masks(self) -> bool:
        return self.config.own_masks > 0 and bool(self.config.segmenter or self.config.start)

    def compute(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch of composites, and the mean absolute difference of the alphas."""
        with self.autocast():
            picture, f2, f4, features = self._features(inputs)
        logits = _mask_logits(inputs["mask"])
        if self._predicts_masks:
            logits = self._with_predicted_masks(logits, features, inputs)
        with self.autocast():
            alpha, coarse = (v.float() for v in self.net.matte(picture, f2, f4, features, logits))
        loss = matte_loss(alpha, coarse, inputs["alpha"], inputs["valid"], self.config.solidity)
        with torch.no_grad():
            mad = l1(unclamped_alpha(alpha).clamp(0, 1), inputs["alpha"], inputs["valid"])
        return loss, mad[None]

    def _with_predicted_masks(self, logits: Tensor, features: Features, inputs: Mapping[str, Tensor]) -> Tensor:
        """Replace a share of the mask logits by the segmenter's, where those have the least IoU with the truth."""
        with self.autocast():
            valid = F.avg_pool2d(inputs["valid"], 16)
            predicted = segmenter_logits(self.net, features, inputs["box"] + inputs["jitter"], valid)
        hard, true = predicted > 0, F.avg_pool2d(inputs["alpha"], 4) > 0.5
        iou = (hard & true).sum((1, 2, 3)) / (hard | true).sum((1, 2, 3)).clamp(min=1)
        use = (inputs["own"] & (iou > self.config.least_iou)).view(-1, 1, 1, 1)
        return torch.where(use, predicted, logits)

    @torch.no_grad()
    def _features(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Features]:
        """Return the picture, f2, f4 and the segmenter's features."""
        picture = batch["picture"].float().div(127.5).sub(1).contiguous(memory_format=layout_of(self.net))
        f2, f4 = self.net.backbone.low(F.avg_pool2d(picture, 2))
        return picture, f2, f4, self.net.segmenter.features(f4, *self.net.backbone.deep(f4))

    def log_text(self, means: np.ndarray) -> str:
        return f"loss {means[0]:.4f} mad {means[1] * 1e3:.2f}e-3"

    def checks(self) -> Iterator[str]:
        if self._held_out is not None:
            whole, band, mask = self.check(self._held_out)
            yield f"held-out mad {whole:.5f} in the band {band:.5f}, the mask's own {mask:.5f}"

    @torch.no_grad()
    def check(self, composites: Composites, count: int = 40) -> tuple[float, float, float]:
        """Measure the averaged weights on `count` held-out composites.

        Writes samples/STEP.jpg: picture, input mask, true alpha, predicted alpha. Returns: the mean absolute
        difference of the alpha in the whole picture and in the unknown band, and of the input mask in that band.
        """
        net = self.averaged_net()
        whole, band, of_mask, rows = [], [], [], []
        for i in range(count):
            batch = {k: torch.from_numpy(v)[None].to(self.device) for k, v in composites.sample(i).items()}
            picture, f2, f4, features = self._features(batch)
            logits, _ = net.matte(picture, f2, f4, features, _mask_logits(batch["mask"]))
            alpha = unclamped_alpha(logits).clamp(0, 1)
            mask = F.interpolate(batch["mask"], scale_factor=4, mode="bilinear", align_corners=False)
            if i < 8:
                maps = [(m[0, 0] * 255).round().byte().cpu().numpy() for m in (mask, batch["alpha"], alpha)]
                rows.append([batch["picture"][0].permute(1, 2, 0).cpu().numpy(), *maps])
            error = (alpha - batch["alpha"]).abs()[0, 0].cpu().numpy()
            unknown = unknown_band(batch["alpha"][0, 0].cpu().numpy(), 3)
            whole.append(float(error.mean()))
            band.append(float(error[unknown].mean()))
            of_mask.append(float(((mask > 0.5).float() - batch["alpha"]).abs()[0, 0].cpu().numpy()[unknown].mean()))
        save_samples(rows, self.out / "samples" / f"{self.step:06d}.jpg")
        return float(np.mean(whole)), float(np.mean(band)), float(np.mean(of_mask))

    def averaged(self) -> dict[str, Tensor]:
        state = dict(self.net.state_dict())
        state.update({f"matte.{k}": v for k, v in self.average.state.items()})
        return state

    def restore_extra(self, parts: dict[str, Any]) -> None:
        """Restore the run. A segmenter in the config replaces that of the run."""
        if self.config.segmenter:
            self.load_segmenter(self.config.segmenter)
        super().restore_extra(parts)
