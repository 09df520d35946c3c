"""One model of two: a mask model finds the subject, a matte model mattes it. And the two halves without a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mam_video.core.errors import UsageError
from mam_video.models.base import Candidates, Embedding, MaskModel, MatteModel, ViewPrompt


class PairedModel:
    """A `Model` that finds with one network and mattes with another.

    Its sizes and attributes are those of the mask model. `matte_model_of` gives the other, which has sizes of its own.
    """

    def __init__(self, name: str, mask_model: MaskModel, matte_model: MatteModel) -> None:
        self.name = name
        self.mask_model, self.matte_model = mask_model, matte_model
        self.view_size, self.mask_size = mask_model.view_size, mask_model.mask_size
        self.weights = {**mask_model.weights, **matte_model.weights}

    def embed(self, pictures: Sequence[Any]) -> Embedding:
        return self.mask_model.embed(pictures)

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        return self.mask_model.segment(embedding, index, prompt)

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        """Not to be called: the crop must fit the other model; `matte_model_of` gives it."""
        raise TypeError(f"{self.name}: matte with its matte_model, and pictures of its size")

    def __getattr__(self, name: str) -> Any:
        if name in ("mask_model", "matte_model"):  # not made yet, as while it is copied
            raise AttributeError(name)
        return getattr(self.mask_model, name)


class NoMatteModel:
    """The mask itself as alpha; guided upsampling sharpens its edge at the plate's resolution."""

    def __init__(self, view_size: int, mask_size: int) -> None:
        """Work in the sizes of the mask model."""
        self.name, self.view_size, self.mask_size = "none", view_size, mask_size
        self.weights: dict[str, str] = {}

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        content = pictures[0].shape[:2]
        return Embedding(len(pictures), (content[0], content[1]), None)

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        masks = torch.from_numpy(np.ascontiguousarray(logits, np.float32))[:, None]
        side = (self.view_size, self.view_size)
        return F.interpolate(masks, size=side, mode="bilinear", align_corners=False).sigmoid()


class NoMaskModel:
    """Finds nothing: for runs whose masks come from files."""

    name = "masks"
    view_size = 1024
    mask_size = 256
    device = torch.device("cpu")

    def __init__(self) -> None:
        self.weights: dict[str, str] = {}

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        raise UsageError("model masks finds nothing itself: give --masks, --trimaps or --track instead of a prompt")

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        raise UsageError("model masks finds nothing itself: give --masks, --trimaps or --track instead of a prompt")
