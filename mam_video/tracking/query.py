"""Query: build the prompts for the segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mam_video.core.crop import Crop
from mam_video.models.base import Candidates, Model, Reference, ViewPrompt, wants_motion
from mam_video.prompts.prompt import Prompt
from mam_video.tracking.embeddings import FrameEmbedding
from mam_video.tracking.mask_ops import carried_logits, relative_motion
from mam_video.tracking.position import PositionModel
from mam_video.tracking.types import Prediction, TrackStep


@dataclass(frozen=True, slots=True)
class Query:
    """The prompt for the segmenter in one frame.

    predicted  (m, m) float32 logits over the crop's square: the last mask, moved by the motion
    """

    predicted: np.ndarray = field(repr=False)
    prompt: ViewPrompt


def segment(model: Model, source: FrameEmbedding, prompt: ViewPrompt) -> Candidates:
    """Run the segmenter on an embedded frame, without gradients."""
    import torch

    with torch.inference_mode():
        return model.segment(source.embedding, source.index, prompt)


def build_query(
    model: Model,
    step: TrackStep,
    position: PositionModel,
    prediction: Prediction,
    crop: Crop,
    references: tuple[Reference, ...],
) -> Query:
    """Build the query for a frame after the prompted one."""
    assert position.crop is not None and step.motion is not None
    m = model.mask_size
    predicted = carried_logits(position.logits, position.crop, crop, step.motion, m)
    motion = relative_motion(step.motion, prediction.query_box, crop, m) if wants_motion(model) else None
    prompt = ViewPrompt(crop.to_view(prediction.query_box), logits=predicted, motion=motion, references=references)
    return Query(predicted, prompt)


def first_prompts(
    model: Model,
    step: TrackStep,
    prompt: Prompt,
    position: PositionModel,
    crop: Crop,
    references: tuple[Reference, ...],
) -> Sequence[ViewPrompt]:
    """Build the prompts for a frame with box or points; the best answer to any of them is selected.

    Where the prompt corrects what was tracked until here, there are prompts with and without the last mask, and one
    without references: what was tracked may be what has to be corrected.
    """
    box = prompt.box.clipped(step.frame.size) if prompt.box is not None else None
    points = np.array([crop.point_to_view(p.x, p.y) for p in prompt.points], np.float32).reshape(-1, 2)
    labels = np.array([int(p.subject) for p in prompt.points], np.int64)
    m = model.mask_size
    motion = None
    if step.next_motion is not None and wants_motion(model):
        motion = relative_motion(step.next_motion, box, crop, m, ahead=True)
    plain = ViewPrompt(
        crop.to_view(box) if box else None, points, labels, motion=motion, references=references, prompted=True
    )
    prompts = [plain]
    if position.crop is not None and step.motion is not None and (position.logits > 0).any():
        predicted = carried_logits(position.logits, position.crop, crop, step.motion, m)
        prompts.append(replace(plain, logits=predicted))
        if references:
            prompts.append(replace(plain, references=()))
    return prompts
