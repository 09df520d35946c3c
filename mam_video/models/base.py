"""The model contract: three calls. A mask model has the first two, a matte model the first and the last.

    embed(pictures)                     -> Embedding       # a batch of crops; independent of prompts
    segment(embedding, i, prompt)       -> Candidates      # one frame: box, points, previous mask
    matte(embedding, logits)            -> alpha maps      # the whole batch, one mask per picture

Models know crops and tensors, never files, frames or the terminal. A model loads, folds and moves its weights to their
device and precision once, when it is built. The three calls never change them. A model is a file in this folder and a
line in `catalogue.py`. `pair.py` makes one model of a mask model and a matte model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np

from mam_video.core.geometry import Box

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Embedding:
    """The features of a batch of crops. Only the model that made it reads `data`."""

    count: int
    content: tuple[int, int]  # (h, w) of the picture inside the square; the rest is padding
    data: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reference:
    """A frame with a reliable mask. It shows the model the subject (inside the mask) and the background (outside).

    Its crop may differ from the crop of the current frame. So pixel positions do not correspond, only appearance does.

    logits    (m, m) float32 over its own square; above 0 is subject
    prompted  whether the user prompted the subject in this frame; such a reference is never dropped
    """

    embedding: Embedding
    index: int
    logits: np.ndarray = field(repr=False)
    prompted: bool = False


@dataclass(frozen=True, slots=True)
class ViewPrompt:
    """The prompt of the segmenter, in crop pixels. A model uses what it can and ignores the rest.

    box         box of the subject, or None
    points      (n, 2) float32, x and y
    labels      (n,) int64, 1 subject and 0 background
    logits      (m, m) float32, the previous low-resolution mask warped to the current frame; above 0 is subject. None
                if there is no previous mask
    motion      (m, m, 2) float32, crop pixels per frame: motion of each mask cell relative to the camera, or None
    references  reference frames, the prompted one first, then recent confident ones; at most as many as the model's
                attribute `references`
    prompted    whether the user points at the subject in this picture: a model may take more time for a better mask
    """

    box: Box | None = None
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: np.ndarray = field(default_factory=lambda: np.zeros((0,), np.int64))
    logits: np.ndarray | None = None
    motion: np.ndarray | None = None
    references: tuple[Reference, ...] = ()
    prompted: bool = False


@dataclass(frozen=True, slots=True)
class Candidates:
    """The masks a segmenter offers for one prompt.

    logits  (k, m, m) float32 over the whole square; above 0 is subject
    scores  (k,) float32, the IoU that the segmenter predicts for each mask, about 0..1
    """

    logits: np.ndarray
    scores: np.ndarray


@runtime_checkable
class MaskModel(Protocol):
    """A model that finds the subject: pictures and a prompt in, masks out.

    A mask model may have six more attributes, read by the functions below. `references: int` is the number of
    reference frames it uses; the tracker keeps their embeddings. `motion: bool` says whether it uses motion relative to
    the camera. `shared_crop: bool` says that several subjects share a crop, because embedding is slow. `in_memory:
    bool` says that it follows subjects through a clip with a memory of its own (`VideoModel`). `takes_tensors: bool`
    says that pictures may be on its device already. `side_by_side: bool` says that on a CPU frames are tracked and
    matted at once, in two threads. A model without them gets none of these.
    """

    name: str
    view_size: int  # side of the square that a crop fills, in pixels
    mask_size: int  # side of the low-resolution mask over that square
    weights: dict[str, str]  # file name -> SHA-256, for the report; empty for a model without weights

    def embed(self, pictures: Sequence[Any]) -> Embedding:
        """Embed a batch of pictures, each (h, w, 3) uint8 RGB of one `Crop.content` size, h, w <= view_size.

        They are arrays; with `takes_tensors` all may be tensors on the model's device instead.
        """
        ...

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        """Return the candidate masks for picture `index` of the batch."""
        ...


@runtime_checkable
class MatteModel(Protocol):
    """A model that mattes: pictures and their masks in, alpha out.

    With an attribute `at_plate_size = True` it is given each crop in the plate's own pixels, whatever `view_size` says,
    and masks of the mask model's own size.
    """

    name: str
    view_size: int
    mask_size: int
    weights: dict[str, str]

    def embed(self, pictures: Sequence[Any]) -> Embedding:
        """Embed a batch of pictures, as `MaskModel.embed`."""
        ...

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        """Matte the batch: alpha maps (count, levels, size, size) float32 in [0, 1], on the CPU or the model's device.

        `logits` is (count, m, m) float32, the chosen mask of each picture. One level is the alpha itself. Three levels
        are MAM's os8, os4 and os1, which `merge.py` merges at the frame's resolution.
        """
        ...


@runtime_checkable
class Model(MaskModel, MatteModel, Protocol):
    """What a run works with: a mask model and a matte model in one.

    All calls run under `torch.inference_mode()` and are deterministic on a CPU.

    A pair of two models (`pair.py`) has an attribute `matte_model`, the second one; `matte_model_of` reads it.
    """


@runtime_checkable
class Recogniser(Protocol):
    """A mask model that recognises a subject: it finds it from its references, without box and previous mask."""

    def recognise(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        """Return the masks of picture `index` that the references alone lead to; the rest of the prompt is ignored.

        The scores tell how sure the model is that it is the subject, about 0..1.
        """
        ...


class VideoSession(Protocol):
    """The memory of one clip in a `VideoModel`. It does not grow with the clip."""

    def step(self, picture: np.ndarray, prompts: Sequence[ViewPrompt | np.ndarray | None]) -> VideoMasks:
        """Find every subject in the next frame.

        Args:
            picture: (H, W, 3) uint8 RGB, the whole frame.
            prompts: for each subject a prompt in frame pixels, a mask (H, W) bool of it, or None. On the first frame
                each needs one.
        """
        ...


@dataclass(frozen=True, slots=True)
class VideoMasks:
    """What a `VideoModel` found in one frame.

    logits    (n, m, m) float32 over the whole frame, stretched to a square; above 0 is subject
    presence  (n,) float32, the model's probability that the subject is in sight
    """

    logits: np.ndarray = field(repr=False)
    presence: np.ndarray


@runtime_checkable
class VideoModel(Protocol):
    """A mask model that follows subjects through a clip with a memory of its own; `in_memory` is True."""

    name: str
    in_memory: bool

    def session(self, subjects: int) -> VideoSession:
        """Begin a clip with that many subjects."""
        ...


def matte_model_of(model: Model) -> MatteModel:
    """Return the model that mattes: the second one of a pair, else the model itself."""
    found: MatteModel = getattr(model, "matte_model", model)
    return found


def at_plate_size(model: MatteModel) -> bool:
    """Return whether the matte model is given crops in the plate's own pixels; False if it has no such attribute."""
    return bool(getattr(model, "at_plate_size", False))


def video_model_of(model: MaskModel) -> VideoModel | None:
    """Return the model as one with a memory of its own; None if it has none."""
    return cast(VideoModel, model) if getattr(model, "in_memory", False) else None


def takes_tensors(model: MaskModel | MatteModel) -> bool:
    """Return whether `embed` takes pictures that are on the model's device; False if it has no such attribute."""
    return bool(getattr(model, "takes_tensors", False))


def recogniser_of(model: MaskModel) -> Recogniser | None:
    """Return the model as one that recognises subjects; None if it cannot."""
    return model if isinstance(model, Recogniser) else None


def wants_references(model: MaskModel) -> int:
    """Return how many reference frames the model uses; 0 if it has no such attribute."""
    return int(getattr(model, "references", 0))


def shares_crop(model: MaskModel) -> bool:
    """Return whether embedding is so slow that subjects share a crop; False if it has no such attribute."""
    return bool(getattr(model, "shared_crop", False))


def side_by_side(model: Model) -> bool:
    """Return whether on a CPU the model tracks and mattes at once, in two threads; False if it has no such attribute.

    It has it where tracking and matting take about the same time, and where no bit of its results depends on the number
    of PyTorch's threads. A pair of two models has it not: nobody knows how their times compare.
    """
    return matte_model_of(model) is model and bool(getattr(model, "side_by_side", False))


def wants_motion(model: MaskModel) -> bool:
    """Return whether the model uses motion relative to the camera; False if it has no such attribute."""
    return bool(getattr(model, "motion", False))
