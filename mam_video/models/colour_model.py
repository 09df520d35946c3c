"""A model without weights and with a predictable result: every pixel of a given colour is subject.

It implements the contract of `base.py` and is public. It tests geometry, tracking, files and whole jobs without a
trained model. On a clip of greys and one saturated colour its alpha is exact, soft edges included.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from mam_video.models.base import Candidates, Embedding, ViewPrompt


class ColourModel:
    """Segment by colour.

    A pixel's alpha is its chroma (RGB minus its mean) projected on the chroma of `colour`. Greys of any brightness have
    alpha 0, `colour` has 1, and a blend of the two has the share of `colour` in it.

    The mask holds everything of the colour in the crop and ignores the prompt. Like a real segmenter the model does not
    clip to the box. The score is 0.95 if the mask has any cell, else 0.

    Args:
        colour: the subject's RGB, 0..255; not a grey.
        view_size: side of the square that a crop fills, in pixels; a multiple of 4. The mask's side is a quarter of it.
    Raises: ValueError, `colour` is a grey, or `view_size` is not a multiple of 4.
    """

    def __init__(self, colour: tuple[int, int, int] = (20, 220, 40), view_size: int = 256) -> None:
        if view_size < 4 or view_size % 4:
            raise ValueError(f"view_size must be a multiple of 4, is {view_size}")
        chroma = np.array(colour, np.float32) - np.float32(np.mean(colour))
        if float(np.abs(chroma).max()) < 16:
            raise ValueError(f"colour must not be a grey, is {colour}")
        self.name = "fake-colour"
        self.view_size = view_size
        self.mask_size = view_size // 4
        self.weights: dict[str, str] = {}
        self._axis = chroma / np.float32(np.square(chroma).sum())

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        h, w = pictures[0].shape[:2]
        alphas = np.zeros((len(pictures), self.view_size, self.view_size), np.float32)
        for alpha, picture in zip(alphas, pictures, strict=True):
            if picture.shape[:2] != (h, w):
                raise ValueError(f"pictures of one batch differ in size: {picture.shape[:2]} and {(h, w)}")
            # The axis sums to zero, so the picture's mean cancels in the product.
            alpha[:h, :w] = np.clip(picture.astype(np.float32) @ self._axis, 0, 1)
        return Embedding(len(pictures), (h, w), alphas)

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        m = self.mask_size
        coarse = cv2.resize(embedding.data[index], (m, m), interpolation=cv2.INTER_AREA)
        logits = (coarse - np.float32(0.5)) * np.float32(20)
        score = 0.95 if bool((logits > 0).any()) else 0.0
        return Candidates(logits[None], np.array([score], np.float32))

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        """Return the alpha of the colour within four cells of the mask, and 0 elsewhere."""
        side = self.view_size
        alphas = np.zeros((embedding.count, 1, side, side), np.float32)
        for alpha, colour_alpha, mask in zip(alphas, embedding.data, logits, strict=True):
            near = cv2.dilate((mask > 0).astype(np.uint8), np.ones((9, 9), np.uint8))
            alpha[0] = colour_alpha * cv2.resize(near, (side, side), interpolation=cv2.INTER_NEAREST)
        return torch.from_numpy(alphas)
