"""The model contract: what the loop asks of anything that segments and mattes.

    embed(pictures)                     -> Embedding       # a batch of views; knows no prompt
    segment(embedding, i, prompt)       -> Candidates      # one frame: box, points, previous mask
    matte(embedding, logits)            -> alpha maps      # the batch again, one mask each

Models know views and tensors, never files, frames or the terminal. Weights are loaded, folded and moved to their device
and precision once, when the model is built; the three calls never change them. A model is a file in this folder and a
line in `registry.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from mam_video.core.geometry import Box


@dataclass(frozen=True, slots=True)
class Embedding:
    """What a model keeps of a batch of views. Only the model that made it looks inside `data`."""

    count: int
    content: tuple[int, int]  # (h, w) of the picture inside the square; the rest is padding
    data: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reference:
    """A frame whose mask can be relied on: what the subject looks like, inside its mask, and what it is not, outside.

    Its view may be another rectangle than that of the frame asked about: places do not correspond, only appearances.

    logits    (m, m) float32 over its own square; above 0 is subject
    prompted  the user pointed at the subject in this frame: an anchor that never fades
    """

    embedding: Embedding
    index: int
    logits: np.ndarray = field(repr=False)
    prompted: bool = False


@dataclass(frozen=True, slots=True)
class ViewPrompt:
    """What the segmenter is asked with, in view pixels. A model uses what it can and ignores the rest.

    box         where the subject is, or None
    points      (n, 2) float32, x and y
    labels      (n,) int64, 1 subject and 0 background
    logits      (m, m) float32, the previous low-resolution mask moved to where it should be now; above 0 is subject.
                None where there is none
    motion      (m, m, 2) float32, view pixels a frame: how each place moves apart from the camera, or None
    references  frames to compare with, the prompted one first, then recent confident ones; at most as many as the
                model's attribute `references` says
    """

    box: Box | None = None
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros((0,), np.int64))
    logits: np.ndarray | None = None
    motion: np.ndarray | None = None
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidates:
    """The masks a segmenter offers for one prompt.

    logits  (k, m, m) float32 over the whole square; above 0 is subject
    scores  (k,) float32, the segmenter's own guess of each mask's IoU, about 0..1
    """

    logits: np.ndarray
    scores: np.ndarray


@runtime_checkable
class Model(Protocol):
    """See the module's text. All calls run under `torch.inference_mode()` and are deterministic on a CPU.

    A model may have three attributes more, read with `wants_references`, `wants_motion` and `shares_crop`:
    `references: int`, how many reference frames it wants to see (their embeddings are kept for it); `motion: bool`,
    whether it wants the motion apart from the camera; and `shared_crop: bool`, whether several subjects share one crop,
    because embedding is slow. Without them it gets none of these.
    """

    name: str
    view_size: int  # side of the square that a view fills, in pixels
    mask_size: int  # side of the low-resolution mask over that square
    weights: dict[str, str]  # file name -> SHA-256, for the report; empty where there are none

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        """Pictures: (h, w, 3) uint8 RGB, all of one `View.content` size: h, w <= view_size."""
        ...

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        """The masks offered for picture `index` of the batch."""
        ...

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        """Alpha maps (count, levels, size, size) float32 in [0, 1], on the CPU or the model's device.

        `logits` is (count, m, m) float32, the mask chosen for each picture. One level is the alpha itself; three are
        MAM's os8, os4, os1, which `merge.py` joins at the frame's resolution.
        """
        ...


def wants_references(model: Model) -> int:
    """How many reference frames the model makes use of; 0 where it does not say."""
    return int(getattr(model, "references", 0))


def shares_crop(model: Model) -> bool:
    """Whether embedding is so slow that several subjects share a crop; False where the model does not say."""
    return bool(getattr(model, "shared_crop", False))


def wants_motion(model: Model) -> bool:
    """Whether the model makes use of the motion apart from the camera; False where it does not say."""
    return bool(getattr(model, "motion", False))
