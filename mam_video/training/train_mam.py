"""Train M2M by the published recipe of Matting Anything: on composites, with a frozen SAM.

Half of the samples are composites of foregrounds with alpha over backgrounds. The other half are pictures with an alpha
of their own (RefMatte). The loss of each output is L1 plus a five-level Laplacian loss. A schedule says where it
counts: first everywhere; then, by a coin toss, inside the mask or in the trimap's unknown region; at last, by a coin
toss, in that unknown region or in the one of the prediction.

Source: Li, Jain and Shi, "Matting Anything", arXiv 2306.05399, and its public code. The box comes from the truth, as
there, and the best scored of SAM's three masks is used. Differs: our own pyramid and averages; the widths of the
unknown regions come from this module's random numbers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mam_video.core.errors import MamVideoError
from mam_video.models.m2m import M2M, STRIDE, Alphas
from mam_video.models.merge import unknown_from_alpha
from mam_video.models.sam import VARIANTS, Sam, normalised
from mam_video.models.weights import read_tensors
from mam_video.training.batches import NumberedSamples
from mam_video.training.checkpoints import save_run
from mam_video.training.data.composites import composite, over
from mam_video.training.data.pictures import read_rgb
from mam_video.training.losses import l1, laplacian_loss
from mam_video.training.synth.layers import box_of
from mam_video.training.trainer_base import Trainer, TrainerConfig

LEVEL_WEIGHTS = {"os1": 2 / 5, "os4": 1 / 5, "os8": 1 / 5}
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, kw_only=True)
class MamConfig(TrainerConfig):
    """The settings of a training; configs/training/mam.toml explains each."""

    variant: str = "vit-b"
    sam_weights: str = ""
    foregrounds: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    whole: str = ""
    backgrounds: tuple[str, ...] = ()
    out: str = "runs/mam"
    size: int = 1024
    batch: int = 10
    steps: int = 20_000
    warm_up: int = 4_000
    log_every: int = 50
    save_every: int = 2_000
    workers: int = 2

    def __post_init__(self) -> None:
        for name in ("foregrounds", "backgrounds", "shares"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.size % STRIDE or not 64 <= self.size <= 1024:
            raise MamVideoError(f"size must be a multiple of {STRIDE} from 64 to 1024, is {self.size}")
        if self.shares and len(self.shares) != len(self.foregrounds):
            raise MamVideoError("`shares` must have one number per folder in `foregrounds`")
        if self.variant not in VARIANTS:
            raise MamVideoError(f"variant must be one of {', '.join(VARIANTS)}, is {self.variant}")


class Samples(torch.utils.data.Dataset[dict[str, np.ndarray]]):
    """Samples by number: picture (S, S, 3) uint8, alpha and unknown (1, S, S) float32, box (4,) float32 in pixels.

    Each folder of foregrounds holds `fg/NAME` and `alpha/NAME.png`. The folder of whole pictures holds `img/` and
    `alpha/`. A folder of backgrounds holds pictures.
    """

    def __init__(self, config: MamConfig) -> None:
        self.config = config
        self.foregrounds = [_paired(Path(f), "fg") for f in config.foregrounds]
        self.whole = _paired(Path(config.whole), "img") if config.whole else []
        self.backgrounds = [_pictures_in(Path(b)) for b in config.backgrounds]
        if not self.foregrounds or not self.backgrounds:
            raise MamVideoError("`foregrounds` and `backgrounds` must name at least one folder each")
        self.shares = list(config.shares) or [1.0] * len(self.foregrounds)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        cv2.setNumThreads(0)
        rng = random.Random(f"{self.config.seed}/{index}")
        if self.whole and rng.random() < 0.5:
            colour_path, alpha_path = rng.choice(self.whole)
            picture, alpha = _read_pair(colour_path, alpha_path)
            picture, alpha = self._cropped(rng, *_augmented(rng, picture, alpha))
        else:
            pool = rng.choices(self.foregrounds, self.shares)[0]
            colour, alpha = _augmented(rng, *_read_pair(*rng.choice(pool)))
            if rng.random() < 0.5:
                other, second = _read_pair(*rng.choice(pool))
                h, w = alpha.shape
                alpha, joined = over(alpha, colour, cv2.resize(second, (w, h)), cv2.resize(other, (w, h)))
                colour = joined.astype(np.float32)
            colour, alpha = self._cropped(rng, _jittered(rng, colour), alpha)
            background = read_rgb(rng.choice(rng.choice(self.backgrounds)))
            side = self.config.size
            picture = composite(alpha, colour, cv2.resize(background, (side, side), interpolation=cv2.INTER_LINEAR))
        alpha = np.clip(alpha, 0, 1).astype(np.float32)
        side = self.config.size
        box = box_of(alpha > 0.5)
        if box is None:
            x, y = (rng.uniform(0, side / 2) for _ in range(2))
            box = np.array([x, y, x + side / 2, y + side / 2])
        return {
            "picture": np.rint(np.clip(picture, 0, 255)).astype(np.uint8),
            "alpha": alpha[None],
            "unknown": trimap_unknown(rng, alpha)[None].astype(np.float32),
            "box": box.astype(np.float32),
        }

    def _cropped(self, rng: random.Random, picture: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Crop a square of the config's size around a random unknown pixel. A smaller picture is enlarged first."""
        side = self.config.size
        h, w = alpha.shape
        scale = max(side / min(h, w), 1.0)
        if scale > 1:
            size = (max(round(w * scale), side), max(round(h * scale), side))
            picture, alpha = (cv2.resize(x, size, interpolation=cv2.INTER_LINEAR) for x in (picture, alpha))
            h, w = alpha.shape
        ys, xs = np.nonzero((alpha > 0.01) & (alpha < 0.99))
        if len(xs) >= 10:
            i = rng.randrange(len(xs))
            y, x = int(ys[i]) - side // 2, int(xs[i]) - side // 2
        else:
            y, x = rng.randint(0, h - side), rng.randint(0, w - side)
        y, x = min(max(y, 0), h - side), min(max(x, 0), w - side)
        return picture[y : y + side, x : x + side], alpha[y : y + side, x : x + side]


def _pictures_in(folder: Path) -> list[Path]:
    try:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)
    except OSError as e:
        raise MamVideoError(f"{folder}: cannot read this folder of pictures ({e.strerror})") from e
    if not paths:
        raise MamVideoError(f"{folder}: contains no pictures")
    return paths


def _paired(folder: Path, kind: str) -> list[tuple[Path, Path]]:
    alphas = {p.stem: p for p in _pictures_in(folder / "alpha")}
    pairs = [(p, alphas[p.stem]) for p in _pictures_in(folder / kind) if p.stem in alphas]
    if not pairs:
        raise MamVideoError(f"{folder}: no picture in {kind}/ has an alpha of the same name in alpha/")
    return pairs


def _read_pair(colour: Path, alpha: Path) -> tuple[np.ndarray, np.ndarray]:
    picture, grey = read_rgb(colour), cv2.imread(str(alpha), cv2.IMREAD_GRAYSCALE)
    if grey is None or grey.shape != picture.shape[:2]:
        raise MamVideoError(f"{alpha}: cannot be read, or its size is not that of {colour}")
    return picture.astype(np.float32), grey.astype(np.float32) / 255


def _augmented(rng: random.Random, picture: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotate (large pictures only), scale, shear and flip at random, with a random resampling filter."""
    h, w = alpha.shape
    angle = np.deg2rad(rng.uniform(-30, 30)) if max(h, w) >= 1024 else 0.0
    sx, sy = (rng.uniform(0.8, 1.5) * rng.choice([-1, 1]) for _ in range(2))
    shear = np.tan(np.deg2rad(rng.uniform(-10, 10)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([sx, sy])
    middle = np.array([w / 2, h / 2])
    matrix = np.hstack([a, (middle - a @ middle)[:, None]])
    flags = rng.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4])
    moved = cv2.warpAffine(picture, matrix, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.clip(moved, 0, 255), np.clip(cv2.warpAffine(alpha, matrix, (w, h), flags=flags), 0, 1)


def _jittered(rng: random.Random, colour: np.ndarray) -> np.ndarray:
    """Vary hue, saturation and value a little. (H, W, 3) float32 0..255 in and out."""
    hsv = cv2.cvtColor(np.clip(colour, 0, 255).astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(-40, 40)) % 360
    for channel in (1, 2):
        mean = float(hsv[..., channel].mean())
        hsv[..., channel] = np.clip(hsv[..., channel] + (1.1 - mean) * rng.uniform(-0.1, 0.1), 0, 1)
    out: np.ndarray = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
    return out


def trimap_unknown(rng: random.Random, alpha: np.ndarray) -> np.ndarray:
    """Make a random trimap: True between the eroded subject and the eroded background. Returns: (H, W) bool."""
    largest_kernel = max(30, 30 * min(alpha.shape) // 2048) - 1
    subject, background = (alpha > 1 - 1e-5).astype(np.uint8), (alpha < 1e-5).astype(np.uint8)
    certain_masks = []
    for mask in (subject, background):
        k = rng.randint(1, largest_kernel)
        certain_masks.append(cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (k, k))))
    out: np.ndarray = (certain_masks[0] | certain_masks[1]) == 0
    return out


def level_loss(prediction: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Compute L1 plus the five-level Laplacian loss, both weighted by `weight`."""
    return l1(prediction, truth, weight) + laplacian_loss(prediction, truth, weight, levels=5)


def weight_maps(
    alphas: Alphas, mask: Tensor, unknown: Tensor, step: int, warm_up: int, rng: random.Random
) -> dict[str, Tensor]:
    """Compute where the loss of each output counts at `step`: the schedule of self-refinement.

    Args:
        mask: the guide mask at the picture's size, 0..1.
        unknown: the unknown region of the trimap, 0 or 1.
    Returns: weights (B, 1, S, S) float32 by output.
    """
    ones = torch.ones_like(unknown)
    if step < warm_up:
        return {"os8": ones, "os4": ones, "os1": ones}
    coin = rng.random() < 0.5
    if step < 3 * warm_up:
        chosen = (mask >= 1).float() if coin else unknown
        return {"os8": ones, "os4": chosen, "os1": chosen}
    if coin:
        return {"os8": ones, "os4": unknown, "os1": unknown}
    return {
        "os8": ones,
        "os4": _unknown_of_prediction(alphas.os8, rng.randint(2, 29)),
        "os1": _unknown_of_prediction(alphas.os4, rng.randint(2, 14)),
    }


def _unknown_of_prediction(alpha: Tensor, width: int) -> Tensor:
    maps = [unknown_from_alpha(a[0].detach(), width, two_sided=True) for a in alpha]
    return torch.stack([torch.as_tensor(m) for m in maps])[:, None].to(alpha).float()


class MamTrainer(Trainer[MamConfig]):
    """Trains M2M; SAM stays as it is."""

    prefetch = 2
    net: M2M

    def __init__(self, config: MamConfig, sam: Sam | None = None) -> None:
        """Set up a training. `sam` is used unchanged; without it SAM is read from the config's `sam_weights`."""
        super().__init__(config)
        if sam is None:
            if not config.sam_weights:
                raise MamVideoError("`sam_weights` must name the file of SAM's weights; see `mam-video weights get`")
            sam = Sam.from_state(VARIANTS[config.variant], read_tensors(Path(config.sam_weights))).accelerate()
        self.sam = sam.to(self.device)
        self.net = M2M().to(self.device).train()
        trained = [p for p in self.net.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=config.rate, betas=(0.5, 0.999))
        self.usual_norm = 0.0  # running mean of the gradient's norm; 0 before the first step

    def open_data(self) -> NumberedSamples:
        return NumberedSamples({self.config.size: Samples(self.config).__getitem__})

    def inputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Leave the batch on the host: SAM's pictures are prepared there."""
        return batch

    def rate(self) -> float:
        """Return the learning rate: a linear warm-up, then a cosine decay."""
        c = self.config
        if self.step < c.warm_up:
            return c.rate * (self.step + 1) / c.warm_up
        share = (self.step - c.warm_up) / max(c.steps - c.warm_up, 1)
        return c.rate * 0.5 * (1 + float(np.cos(np.pi * min(share, 1.0))))

    def rates(self) -> list[float]:
        return [self.rate()]

    @torch.no_grad()
    def guided(self, pictures: Sequence[np.ndarray], boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run SAM on a batch. Returns embeddings, normalised pictures and guide masks, cropped to the pictures."""
        side = self.config.size
        cells = side // STRIDE
        square = torch.stack([normalised(p) for p in pictures]).to(self.device)
        embedding = self.sam.image_encoder(square)
        masks = []
        for i in range(len(pictures)):
            logits, scores = self.sam.decode(embedding[i : i + 1], box=boxes[i : i + 1].to(self.device))
            masks.append((logits[scores.argmax()] > 0).float())
        small = side // 4
        mask = torch.stack(masks)[:, None, :small, :small]
        return embedding[:, :, :cells, :cells].float(), square[:, :, :side, :side], mask

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch of samples. There are no other measures."""
        embedding, picture, mask = self.guided(list(batch["picture"].numpy()), batch["box"])
        truth, unknown = batch["alpha"].to(self.device), batch["unknown"].to(self.device)
        alphas = self.net(embedding, picture, mask)
        rng = random.Random(f"{self.config.seed}/{self.step}/weights")
        large = F.interpolate(mask, size=truth.shape[-2:], mode="bilinear", align_corners=False)
        weights = weight_maps(alphas, large, unknown, self.step, self.config.warm_up, rng)
        loss = truth.new_zeros(())
        for name, share in LEVEL_WEIGHTS.items():
            loss = loss + share * level_loss(getattr(alphas, name), truth, weights[name])
        return loss, loss.new_zeros(0)

    def clip_gradients(self, parameters: list[Tensor]) -> None:
        """Limit the gradient's norm to twice its running mean."""
        bound = 2 * self.usual_norm if self.usual_norm else 1e9
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, bound))
        self.usual_norm = 0.999 * self.usual_norm + 0.001 * norm if self.usual_norm else norm

    def log_text(self, means: np.ndarray) -> str:
        return f"loss {means[0]:.4f} rate {self.rate():.2e}"

    def export(self) -> None:
        """Write mam.pth in the layout of the published checkpoints."""
        save_run(self.out / "mam.pth", iter=self.step, state_dict=self.net.state_dict())

    def extra_state(self) -> dict[str, Any]:
        return {"usual_norm": self.usual_norm}

    def restore_extra(self, parts: dict[str, Any]) -> None:
        self.usual_norm = parts["usual_norm"]
