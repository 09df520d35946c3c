"""Train the embedded model's segmenter on short roll-outs of its own predictions; see `roll_out`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from mam_video.training.batches import NumberedSamples
from mam_video.training.choices import Choices, draw_choices
from mam_video.training.data.pictures import (
    LabelledPicture,
    Source,
    labelled_cutouts,
    read_backgrounds,
    read_cutouts,
    read_labelled,
    read_manifest,
    read_rendered,
)
from mam_video.training.lite_trainer import LiteConfig, LiteTrainer, rendered_root
from mam_video.training.roll_out import FramePrediction, roll_out, scene_loss
from mam_video.training.synth.scene import SceneGenerator
from mam_video.training.trainer_base import save_samples


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig(LiteConfig):
    """The settings of a training; configs/training/lite-segmenter.toml explains each."""

    cutout_share: float = 0.35
    out: str = "runs/lite-segmenter"
    batch: int = 5
    backbone_rate: float = 2.5e-4


class SegmenterTrainer(LiteTrainer[SegmenterConfig]):
    """Trains the segmenter and the deep stages of the backbone."""

    part = "segmenter"

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__(config)
        for p in [*self.net.backbone.frozen(), *self.net.matte.parameters()]:
            p.requires_grad_(False)
        deep = [p for p in self.net.backbone.parameters() if p.requires_grad]
        groups = [(deep, config.backbone_rate), (list(self.net.segmenter.parameters()), config.rate)]
        self._train(groups, averaged=self.net)
        self.net.segmenter.train(not config.freeze_norm)
        self._held_out: dict[str, SceneGenerator] = {}  # the scenes to check with, by their name in the log

    def open_data(self) -> NumberedSamples:
        config, root = self.config, Path(self.config.data)
        sources = read_manifest(root, config.allow, config.deny)
        pictures, backgrounds = read_labelled(root, sources, held=False), read_backgrounds(root, sources, held=False)
        held_out = read_labelled(root, sources, held=True)
        cutouts, held_out_cutouts = (self._cutouts(sources, held) for held in (False, True))
        print(
            f"{len(pictures)} pictures, {len(cutouts)} cut-outs and {len(backgrounds)} backgrounds to train on, "
            f"{len(held_out)} and {len(held_out_cutouts)} held out",
            flush=True,
        )
        held_out_backgrounds = read_backgrounds(root, sources, held=True)
        self._held_out = {"": SceneGenerator(held_out, held_out_backgrounds, config.size, 0)}
        if held_out_cutouts:
            # The subjects are cut-outs only; other pictures serve as backgrounds and as other subjects.
            stills = [m for m in held_out if m.clip is None]
            self._held_out[" of cut-outs"] = SceneGenerator(
                stills, held_out_backgrounds, config.size, 0, held_out_cutouts, 1.0
            )

        def generator(side: int) -> SceneGenerator:
            return SceneGenerator(pictures, backgrounds, side, config.seed, cutouts, config.cutout_share)

        return NumberedSamples({side: generator(side).scene for side in set(self.sides())})

    def _cutouts(self, sources: list[Source], held: bool) -> list[LabelledPicture]:
        cutouts = read_cutouts(Path(self.config.data), sources, held=held)
        if self.config.rendered:
            cutouts += read_rendered(rendered_root(self.config), held=held)
        return labelled_cutouts(cutouts)

    def inputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        scenes, frames = batch["picture"].shape[:2]
        return super().inputs({**batch, "choices": draw_choices(self.generator, scenes, frames)})

    def compute(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch of scenes, and the mean IoU of each prediction."""
        with self.autocast():
            predictions = roll_out(self.net, inputs, Choices(inputs["choices"], inputs["picture"].shape[1]))
        loss, ious = scene_loss(inputs, predictions, self.net.segmenter.target_scale)
        return loss, torch.stack([iou.mean() for iou in ious])

    def log_text(self, means: np.ndarray) -> str:
        ious = " ".join(f"{v:.3f}" for v in means[1:])
        return f"loss {means[0]:.4f} iou {ious} rate {self.rate_share():.3f}"

    def checks(self) -> Iterator[str]:
        for what, scenes in self._held_out.items():
            ious = " ".join(f"{v:.4f}" for v in self.check(scenes, name=f"{self.step:06d}{what}"))
            yield f"held-out iou{what} {ious}"

    @torch.no_grad()
    def check(self, scenes: SceneGenerator, count: int = 80, name: str = "") -> list[float]:
        """Measure the averaged weights on `count` held-out scenes, each prompted with one box.

        Writes samples/NAME.jpg. Returns: the mean IoU of each prediction.
        """
        net = self.averaged_net()
        ious, rows = [], []
        for first in range(0, count, 8):
            drawn = [scenes.scene(i) for i in range(first, first + 8)]
            batch = {k: torch.from_numpy(np.stack([s[k] for s in drawn])).to(self.device) for k in drawn[0]}
            scene_count, frames = batch["picture"].shape[:2]
            predictions = roll_out(net, batch, Choices.usual(scene_count, frames, self.device))
            ious.append(torch.stack(scene_loss(batch, predictions, net.segmenter.target_scale)[1], 1))
            if first < 16:
                rows += [_sample(drawn[i], predictions, i) for i in range(0, 8, 2)]
        save_samples(rows, self.out / "samples" / f"{name or f'{self.step:06d}'}.jpg")
        return [float(v) for v in torch.cat(ious).mean(0)]

    def averaged(self) -> dict[str, Tensor]:
        return self.average.state


def _sample(scene: dict[str, np.ndarray], predictions: list[FramePrediction], index: int) -> list[np.ndarray]:
    """Draw each frame with the true outline in red, and beside it the predicted mask, (S/2, S/2[, 3]) uint8."""
    row = []
    for p in predictions:
        mask = (p.logits[index, 0].sigmoid() * 255).byte().cpu().numpy()
        picture = cv2.resize(np.ascontiguousarray(scene["picture"][p.frame].transpose(1, 2, 0)), mask.shape[::-1])
        true = (scene["truth"][p.frame, 0] > 0.5).astype(np.uint8)
        outline = cv2.findContours(true, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        row += [cv2.drawContours(picture, outline, -1, (255, 0, 0), 1), mask]
    return row
