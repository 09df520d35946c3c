"""Matte one picture: a frame's way through model and merge, without a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from mam_video.core.crop import Crop
from mam_video.core.settings import MatteSettings
from mam_video.models.base import MatteModel, Model, ViewPrompt, at_plate_size, matte_model_of
from mam_video.models.merge import compose_alpha
from mam_video.prompts.prompt import Prompt
from mam_video.tracking.mask_ops import resized_logits


def matte_picture(
    model: Model, picture: np.ndarray, prompt: Prompt, settings: MatteSettings | None = None, view: Crop | None = None
) -> np.ndarray:
    """Matte the subject that `prompt` shows in a picture.

    Args:
        model: any; see `mam_video.models.registry.load_model`.
        picture: (H, W, 3) uint8 RGB.
        prompt: box, points or both, in the picture's pixels.
        settings: of the merge.
        view: the crop that the model sees; None: the whole picture, as Matting Anything does. Outside it alpha is 0.
    Returns: (H, W) float32 in [0, 1], of the best-scored mask that the model offers.
    Raises: UsageError, the prompt lies outside the picture; TypeError, the picture has another shape or type.
    """
    return matte_subjects(model, picture, [prompt], settings, view)[0]


@torch.inference_mode()
def matte_subjects(
    model: Model,
    picture: np.ndarray,
    prompts: Sequence[Prompt],
    settings: MatteSettings | None = None,
    view: Crop | None = None,
) -> list[np.ndarray]:
    """Matte several prompts from one embedding of the picture; return an alpha for each. Else as `matte_picture`."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise TypeError(f"picture must be (H, W, 3) uint8, is {picture.shape} {picture.dtype}")
    size = (picture.shape[0], picture.shape[1])
    prompts = [prompt.in_pixels(size) for prompt in prompts]
    view = view or Crop.whole(size, model.view_size)
    embedding, mattes = model.embed([view.cut(picture)]), matte_model_of(model)
    seen = view if mattes is model else fitted_crop(view, mattes)
    looked_at = embedding if mattes is model else mattes.embed([seen.cut(picture)])
    alphas = []
    for prompt in prompts:
        offered = model.segment(embedding, 0, view_prompt(prompt, view))
        logits = offered.logits[int(offered.scores.argmax())]
        if not at_plate_size(mattes):
            logits = resized_logits(logits, mattes.mask_size)
        levels = mattes.matte(looked_at, logits[None])
        alphas.append(seen.paste(compose_alpha(levels[0], logits, seen, settings or MatteSettings()), size))
    return alphas


def fitted_crop(view: Crop, mattes: MatteModel) -> Crop:
    """Return the same rectangle in the size that the matte model works in."""
    return replace(view, size=max(view.width, view.height) if at_plate_size(mattes) else mattes.view_size)


def view_prompt(prompt: Prompt, view: Crop) -> ViewPrompt:
    """Convert a prompt from frame pixels to pixels of the crop `view`."""
    points = [view.point_to_view(p.x, p.y) for p in prompt.points]
    return ViewPrompt(
        box=view.to_view(prompt.box) if prompt.box is not None else None,
        points=np.array(points, np.float32).reshape(-1, 2),
        labels=np.array([int(p.subject) for p in prompt.points], np.int64),
        prompted=True,
    )
