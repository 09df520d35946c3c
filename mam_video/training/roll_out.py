"""Roll out the segmenter on a scene: prompt the first frame as a user would, and the others as the tracker would.

The first frame is prompted with a box or points, and once more with its own mask. The others are prompted with the
network's last mask, moved as far as the motion is known, and sometimes with the box of that mask. They are compared
with the first frame and its mask; the third frame also with the second, as a recent reference. So the network sees its
own mistakes. In part of the samples the truth, a degraded truth or nothing takes their place. This happens in every
frame, so that batch norm sees one mixture throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mam_video.models.lite_layers import FEATURES, Features
from mam_video.models.lite_net import RECENT_WEIGHT, LiteNet
from mam_video.models.lite_prompts import prompt_maps
from mam_video.training.choices import Choices
from mam_video.training.layouts import layout_of
from mam_video.training.losses import mask_loss


@dataclass(frozen=True, slots=True)
class FramePrediction:
    """The segmenter's output for one frame of a batch of scenes."""

    frame: int
    logits: Tensor  # (B, 1, S/2, S/2)
    score: Tensor  # (B,) logit of the IoU
    matches: Tensor  # (B, MATCH_MAPS, S/8, S/8)
    has_anchor: Tensor  # (B,) 1 where the frame was compared with a prompted frame


@dataclass(frozen=True, slots=True)
class Reference:
    """A frame to compare with. Its mask is (B, 1, S/2, S/2); `valid` (B, 1, S/8, S/8) is 0 in padding."""

    features: Features
    mask: Tensor
    valid: Tensor
    use: Tensor  # (B,) 0 or 1


@dataclass(frozen=True, slots=True)
class _Prompt:
    """The prompts of one frame of a batch of scenes. `has_` and `use_` are (B,), 0 or 1."""

    box: Tensor  # (B, 4) shares of the side
    has_box: Tensor
    mask: Tensor  # (B, 1, S/2, S/2)
    has_mask: Tensor
    points: Tensor  # (B, POINTS, 2) shares of the side
    labels: Tensor  # (B, POINTS), -1 where there is no point

    def maps(self) -> Tensor:
        """Draw the prompts as input maps of the segmenter."""
        size = self.mask.shape[-1]
        return prompt_maps(size, self.box, self.has_box, self.mask, self.has_mask, self.points, self.labels)


def roll_out(net: LiteNet, batch: Mapping[str, Tensor], choices: Choices) -> list[FramePrediction]:
    """Predict all frames of a batch of scenes in turn, the first one twice.

    Nothing is read back from the device, and no result depends on Python's view of a tensor's values.

    Args:
        batch: the arrays of `SceneGenerator.scene`, stacked, on the network's device.
        choices: on the same device. `Choices.usual` prompts as in use: one box, then the network's own masks.
    """
    return _RollOut(net, batch, choices).run()


class _RollOut:
    """One pass over the frames of a batch of scenes. Keeps the mask of each frame for those that follow."""

    def __init__(self, net: LiteNet, batch: Mapping[str, Tensor], choices: Choices) -> None:
        self.net, self.batch, self.choices = net, batch, choices
        picture = batch["picture"]
        self.size = picture.shape[3]
        self.features = _features_by_frame(net, picture)
        self.masks: list[Tensor] = []  # the mask of each frame as it was when the next frame was predicted

    def run(self) -> list[FramePrediction]:
        """Predict the frames in order."""
        predictions = []
        for t in range(len(self.features)):
            prompt = self._user_prompt() if t == 0 else self._tracker_prompt(t)
            anchor, recent = self._first_references() if t == 0 else self._references(t)
            has_anchor = anchor.use if anchor is not None else torch.zeros_like(prompt.has_box)
            predictions.append(self._predict(t, prompt, anchor, recent, has_anchor))
            if t == 0:
                predictions.append(self._refine(prompt, predictions[0].logits))
            self.masks.append(predictions[-1].logits.detach().sigmoid())
        return predictions

    def _predict(
        self, t: int, prompt: _Prompt, anchor: Reference | None, recent: Reference | None, has_anchor: Tensor
    ) -> FramePrediction:
        matches = match_maps(self.net, self.features[t], anchor, recent)
        logits, score = self.net.segmenter.decode(self.features[t], prompt.maps(), matches)
        return FramePrediction(t, logits, score, matches, has_anchor)

    def _refine(self, prompt: _Prompt, logits: Tensor) -> FramePrediction:
        """Predict the first frame again, with its own mask as prompt and as reference."""
        mask, ones = logits.detach().sigmoid(), torch.ones_like(prompt.has_box)
        again = _Prompt(prompt.box, prompt.has_box, mask, ones, prompt.points, prompt.labels)
        itself = Reference(self.features[0], mask, self.batch["valid"][:, 0], ones)
        return self._predict(0, again, itself, None, ones)

    # ------------------------------------------------------------------------------------------------------ prompts
    def _user_prompt(self) -> _Prompt:
        """Prompt the first frame with a box, mostly drawn with care, or with points."""
        choices = self.choices
        inaccuracy = 0.02 + 0.12 * choices(0, "inaccurate")
        inaccuracy = torch.where(choices(0, "accurate") > 0, torch.full_like(inaccuracy, 0.005), inaccuracy)
        box = self._jittered_box(0, inaccuracy)
        has_box = choices(0, "has_box")
        if choices.random:
            has_points = torch.where(has_box > 0, choices(0, "has_points"), torch.ones_like(has_box))
        else:
            has_points = torch.zeros_like(has_box)
        return _Prompt(box, has_box, self.batch["bad"][:, 0], choices(0, "has_mask"), *self._points(0, has_points))

    def _tracker_prompt(self, t: int) -> _Prompt:
        """Prompt a frame with the last mask, moved, and with a box around it or around the truth."""
        choices = self.choices
        present = (self.batch["truth"][:, t].flatten(1).sum(1) != 0).float()
        box = self._jittered_box(t, 0.04 + 0.1 * choices(t, "inaccurate"))
        moved = self._moved_mask(t)
        mask_box, found = _boxes(moved)
        mask_box = mask_box + choices(t, "mask_jitter") * 0.02
        use_mask_box = found * torch.maximum(choices(t, "use_mask_box"), 1 - present)
        box = torch.where(use_mask_box[:, None] > 0, mask_box, box)
        # Mostly no box: it says that the subject fills it, and so passes on a leak of the mask.
        has_box = choices(t, "has_box") * choices(t, "keep_box")
        # An absent subject has no true box.
        has_box = has_box * torch.where(present > 0, torch.ones_like(use_mask_box), use_mask_box)
        use_bad_mask = choices(t, "use_bad_mask").view(-1, 1, 1, 1) > 0
        mask = torch.where(use_bad_mask, self.batch["bad"][:, t], moved)
        has_mask = choices(t, "has_mask")
        has_points = choices(t, "has_points") * present
        # There is always a prompt, unless the subject is absent.
        has_box = torch.maximum(has_box, (1 - has_mask) * present)
        return _Prompt(box, has_box, mask, has_mask, *self._points(t, has_points))

    def _jittered_box(self, t: int, inaccuracy: Tensor) -> Tensor:
        """Move the sides of the true box at random, by about `inaccuracy` (B,) of its width and height."""
        true = self.batch["box"][:, t]
        jitter = self.choices(t, "jitter") * inaccuracy[:, None]
        return true + jitter * (true[:, 2:] - true[:, :2]).repeat(1, 2)

    def _moved_mask(self, t: int) -> Tensor:
        """Move the last frame's mask to frame t. Sometimes add a leak: a shifted mask of another scene of the batch."""
        moved = moved_mask(self.masks[t - 1], self.batch["move"][:, t - 1])
        leak = torch.roll(self.batch["bad"][:, t], (1, self.size // 2 // 3 * (-1) ** t), (0, 3))
        use_leak = self.choices(t, "leak") * float(self.choices.random)
        return torch.maximum(moved, leak * use_leak.view(-1, 1, 1, 1))

    def _points(self, t: int, has_points: Tensor) -> tuple[Tensor, Tensor]:
        """Return the points of frame t and their labels; -1, no point, in the samples without points."""
        labels = self.batch["labels"][:, t]
        return self.batch["points"][:, t], torch.where(has_points[:, None] > 0, labels, torch.full_like(labels, -1))

    # --------------------------------------------------------------------------------------------------- references
    def _first_references(self) -> tuple[Reference | None, None]:
        """Choose another frame with its truth in a quarter of the samples, as if the user came back to a subject."""
        if not self.choices.random:
            return None, None
        truth, valid = self.batch["truth"][:, -1], self.batch["valid"][:, -1]
        return Reference(self.features[-1], truth, valid, self.choices(0, "other_frame")), None

    def _references(self, t: int) -> tuple[Reference, Reference | None]:
        """Choose the first frame, sometimes with its truth as mask, and the last frame if that is another one."""
        truth, valid, choices = self.batch["truth"], self.batch["valid"], self.choices
        use_truth = choices(t, "use_truth").view(-1, 1, 1, 1) * float(choices.random)
        mask = truth[:, 0] * use_truth + self.masks[0] * (1 - use_truth)
        anchor = Reference(self.features[0], mask, valid[:, 0], choices(t, "has_anchor"))
        if t == 1:
            return anchor, None
        return anchor, Reference(self.features[t - 1], self.masks[t - 1], valid[:, t - 1], choices(t, "has_recent"))


def _features_by_frame(net: LiteNet, picture: Tensor) -> list[Features]:
    """Compute the segmenter's features of pictures (B, T, 3, S, S) uint8."""
    b, frames = picture.shape[:2]
    # Frame by frame, so that each frame's share of the batch is contiguous.
    x = picture.transpose(0, 1).flatten(0, 1).float().div(127.5).sub(1).contiguous(memory_format=layout_of(net))
    with torch.no_grad():
        _, f4 = net.backbone.low(x)
    features = net.segmenter.features(f4, *net.backbone.deep(f4))
    parts = [getattr(features, k).split(b) for k in FEATURES]
    return [Features(*(p[t] for p in parts)) for t in range(frames)]


def match_maps(net: LiteNet, now: Features, anchor: Reference | None, recent: Reference | None) -> Tensor:
    """Compare a frame with its references. Returns: (B, MATCH_MAPS, S/8, S/8)."""
    b, _, h, w = now.key.shape
    maps, evidence = [], None
    for frame, weight in ((anchor, 1.0), (recent, RECENT_WEIGHT)):
        if frame is None:
            maps.append(now.key.new_zeros(b, 3, h, w))
            continue
        inside = F.avg_pool2d(frame.mask, 4)
        matches = net.segmenter.match(now.key, frame.features.key, inside, frame.valid)
        use = frame.use.view(-1, 1, 1, 1)
        maps.append(torch.cat([matches * use, use.expand_as(matches[:, :1])], 1))
        added = net.segmenter.evidence(frame.features.look, inside, frame.valid).times(weight * frame.use)
        evidence = added if evidence is None else evidence.plus(added)
    maps.append(now.key.new_zeros(b, 1, h, w) if evidence is None else net.segmenter.target(now.look, evidence))
    return torch.cat(maps, 1)


def moved_mask(mask: Tensor, move: Tensor) -> Tensor:
    """Warp a mask (B, 1, h, h) to the next crop. `move` (B, 2, 3) maps points of that crop back, in shares."""
    # grid_sample counts from -1 to 1: x' = 2 x - 1.
    a, shift = move[:, :, :2], move[:, :, 2:]
    theta = torch.cat([a, a.sum(2, keepdim=True) + 2 * shift - 1], 2)
    grid = F.affine_grid(theta, list(mask.shape), align_corners=False)
    return F.grid_sample(mask, grid, align_corners=False)


def _boxes(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tight boxes (B, 4) of masks (B, 1, h, h) in shares, and (B,) 1 where the mask has an inside."""
    n = mask.shape[-1]
    inside = mask[:, 0] > 0.5
    columns, rows = inside.any(1), inside.any(2)
    index = torch.arange(n, device=mask.device)

    def ends(line: Tensor) -> tuple[Tensor, Tensor]:
        low = torch.where(line, index, torch.full_like(index, n)).amin(1)
        high = torch.where(line, index, torch.full_like(index, -1)).amax(1) + 1
        return low, high

    x0, x1 = ends(columns)
    y0, y1 = ends(rows)
    found = ((x1 - x0) > 1) & ((y1 - y0) > 1)
    return torch.stack([x0, y0, x1, y1], 1).float() / n, found.float()


def scene_loss(
    batch: Mapping[str, Tensor], predictions: list[FramePrediction], target_scale: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Average the losses of all predictions. Returns the loss and each prediction's IoUs (B,).

    Args:
        target_scale: the segmenter's factor from target map to logits.
    """
    total, ious = batch["truth"].new_zeros(()), []
    for p in predictions:
        truth, weight = batch["truth"][:, p.frame], batch["weight"][:, p.frame]
        loss, iou = mask_loss(p.logits, truth, weight)
        total = total + loss + 0.2 * (p.score.sigmoid() - iou).pow(2).mean()
        # The matches alone must tell the subject: the keys' by inside against outside, and the target map. Samples
        # without a prompted frame do not count; to skip a frame without any, the host would have to wait for it.
        use, cells = p.has_anchor.view(-1, 1, 1, 1) * F.avg_pool2d(weight, 4), F.avg_pool2d(truth, 4)
        for evidence in (8 * (p.matches[:, :1] - p.matches[:, 1:2]), target_scale * p.matches[:, -1:]):
            entropy = F.binary_cross_entropy_with_logits(evidence, cells, reduction="none")
            total = total + 0.2 * (entropy * use).sum() / use.sum().clamp(min=1)
        ious.append(iou)
    return total / len(predictions), ious
