"""Matting Anything as a `Model`: SAM segments, M2M mattes.

Source: Li, Jain and Shi, "Matting Anything", 2023, arXiv 2306.05399.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from mam_video.core.errors import UsageError, WeightsError
from mam_video.models.base import Candidates, Embedding, ViewPrompt
from mam_video.models.batches import ComputeParts
from mam_video.models.devices import resolve_device, resolve_precision
from mam_video.models.m2m import M2M, REACH, STRIDE
from mam_video.models.random_source import RANDOM, is_random, seeded
from mam_video.models.sam import GRID, IMAGE_SIDE, MASK_SIDE, VARIANTS, Sam, Variant, normalised
from mam_video.models.transfers import download, on_device, upload
from mam_video.models.weights import hash_of, read_tensors

_TIMES = MASK_SIDE // GRID  # mask pixels per cell of the embedding


@dataclass(frozen=True, slots=True)
class _Batch:
    """Features (B, 256, 64, 64) float32 and pictures (B, 3, 1024, 1024) float32, both on the device."""

    features: torch.Tensor
    pictures: torch.Tensor


class MamModel:
    """SAM and M2M, loaded, folded and on their device; `models/base.py` documents the three calls.

    Build one with `load` (from files), `from_states` (from state dicts of the official layouts) or `random`.
    """

    view_size = IMAGE_SIDE
    mask_size = MASK_SIDE
    shared_crop = True
    takes_tensors = True

    def __init__(
        self,
        name: str,
        sam: Sam,
        m2m: M2M,
        device: str | torch.device = "auto",
        precision: str = "auto",
        *,
        fold: bool = True,
        weights: Mapping[str, str] | None = None,
    ) -> None:
        """Take over `sam` and `m2m` (float32, on the CPU). `fold=False` leaves M2M as trained: slower, for comparison.

        Raises: DeviceError, the device is not available or does not support the precision.
        """
        self.name = name
        self.weights = dict(weights or {})
        self.device = resolve_device(device) if isinstance(device, str) else device
        self.precision = resolve_precision(precision, self.device)
        self._parts = ComputeParts(self.device)
        self._sam = sam.accelerate(self.precision).to(self.device)
        network = m2m.fold() if fold else m2m.eval().requires_grad_(False)
        self._m2m = network.in_precision(self.precision).to(self.device)

    @classmethod
    def load(
        cls,
        variant: str,
        sam_weights: str | Path,
        mam_weights: str | Path,
        device: str | torch.device = "auto",
        precision: str = "auto",
    ) -> Self:
        """Load the model of `variant` (vit-b, vit-l, vit-h) from files of the official layouts, .pth or .safetensors.

        `random:SEED` instead of a file gives untrained weights.
        Raises: WeightsError, a file is damaged, is no such checkpoint or belongs to another variant; DeviceError.
        """
        variant_sizes = _variant(variant)
        hashes = {}
        for source in (sam_weights, mam_weights):
            if not is_random(source):
                hashes[Path(source).name] = hash_of(Path(source))
        if is_random(sam_weights):
            with seeded(sam_weights):
                sam = Sam(variant_sizes)
        else:
            with _name_file_in_errors(sam_weights):
                sam = Sam.from_state(variant_sizes, read_tensors(Path(sam_weights)))
        with seeded(mam_weights if is_random(mam_weights) else f"{RANDOM}:0"):
            m2m = M2M()
        if not is_random(mam_weights):
            with _name_file_in_errors(mam_weights):
                m2m.load(read_tensors(Path(mam_weights), inside="state_dict"))
        return cls(f"mam-{variant}", sam, m2m, device, precision, weights=hashes)

    @classmethod
    def from_states(
        cls,
        variant: str,
        sam_state: Mapping[str, torch.Tensor],
        mam_state: Mapping[str, torch.Tensor],
        device: str | torch.device = "auto",
        precision: str = "auto",
        *,
        fold: bool = True,
    ) -> Self:
        """Build the model from state dicts: SAM's as published, and the `state_dict` of a MAM checkpoint."""
        m2m = M2M()
        m2m.load(mam_state)
        sam = Sam.from_state(_variant(variant), sam_state)
        return cls(f"mam-{variant}", sam, m2m, device, precision, fold=fold)

    @classmethod
    def random(cls, variant: str, seed: int = 0, device: str | torch.device = "auto", precision: str = "auto") -> Self:
        """Build the model with untrained weights, for tests and speed measurements."""
        name = f"{RANDOM}:{seed}"
        return cls.load(variant, name, name, device, precision)

    @torch.inference_mode()
    def embed(self, pictures: Sequence[np.ndarray | torch.Tensor]) -> Embedding:
        if not pictures:
            raise ValueError("no pictures to embed")
        content = pictures[0].shape[:2]
        if any(p.shape[:2] != content for p in pictures):
            raise ValueError("the pictures of a batch must have one size")
        squares = normalised(on_device(pictures, self.device, "pictures"))
        with self._float32_without_tf32():
            features = torch.cat(self._parts.run(lambda part: self._sam.image_encoder(squares[part]), len(squares)))
        return Embedding(len(pictures), (content[0], content[1]), _Batch(features, squares))

    @torch.inference_mode()
    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        batch = _batch_of(embedding)
        box = points = labels = logits = None
        if prompt.box is not None:
            box = upload(np.array([prompt.box.xyxy], np.float32), self.device, "prompt")
        if len(prompt.points):
            points = upload(prompt.points.astype(np.float32)[None], self.device, "prompt")
            labels = upload(prompt.labels.astype(np.int64)[None], self.device, "prompt")
        if prompt.logits is not None:
            logits = upload(prompt.logits.astype(np.float32)[None, None], self.device, "prompt")
        if box is None and points is None and logits is None:
            raise ValueError("the prompt is empty: give a box, points or logits")
        with self._float32_without_tf32():
            masks, scores = self._sam.decode(batch.features[index : index + 1], box, points, labels, logits)
        read = download(torch.cat([masks.float().flatten(), scores.float()]), "candidates")  # at once
        return Candidates(read[: -len(scores)].reshape(masks.shape), read[-len(scores) :])

    @torch.inference_mode()
    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        batch = _batch_of(embedding)
        if logits.shape != (embedding.count, MASK_SIDE, MASK_SIDE):
            raise ValueError(f"logits must be ({embedding.count}, {MASK_SIDE}, {MASK_SIDE}), are {logits.shape}")
        # M2M was trained with hard masks.
        masks = (upload(logits, self.device, "masks")[:, None] > 0).float()
        # Matte the padding only as far as it affects the picture: a third less work for 16:9. Alpha is 0 beyond. The
        # network is convolutional, so the values in the picture equal those of the whole square.
        h, w = (min(-(-side // STRIDE) + REACH, GRID) for side in embedding.content)
        features = batch.features[..., :h, :w]
        pictures, masks = batch.pictures[..., : h * STRIDE, : w * STRIDE], masks[..., : h * _TIMES, : w * _TIMES]
        levels = torch.zeros(embedding.count, 3, IMAGE_SIDE, IMAGE_SIDE, device=self.device)

        def work(part: slice) -> torch.Tensor:
            alphas = torch.cat(self._m2m(features[part], pictures[part], masks[part]), dim=1)
            levels[part, :, : h * STRIDE, : w * STRIDE] = alphas
            return levels[part]

        with self._float32_without_tf32():
            self._parts.run(work, embedding.count)
        return levels

    @property
    def notes(self) -> list[str]:
        """What users should know of the device, a line each."""
        return self._parts.notes

    @contextlib.contextmanager
    def _float32_without_tf32(self) -> Iterator[None]:
        """Forbid TF32 in CUDA convolutions, whose error is about a thousandth."""
        if self.device.type != "cuda":
            yield
            return
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield


def _batch_of(embedding: Embedding) -> _Batch:
    assert isinstance(embedding.data, _Batch), "the embedding belongs to another model"
    return embedding.data


def _variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise UsageError(f"unknown variant of SAM: {name}; choose one of: {', '.join(VARIANTS)}")
    return VARIANTS[name]


@contextlib.contextmanager
def _name_file_in_errors(path: str | Path) -> Iterator[None]:
    """Add the file's name to the message of a WeightsError."""
    try:
        yield
    except WeightsError as error:
        text = str(error)
        raise WeightsError(text if text.startswith(str(path)) else f"{path}: {text}") from None
