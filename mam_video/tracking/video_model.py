"""Track with a video model: it follows subjects with its own memory, and says itself whether each is in sight.

Its masks lie over the whole frame. They are brought to a crop around the subject, as the tracker holds crops, so that
all that comes after works as with any model.

The model's presence score becomes the state. Below one half the subject is LOST, and the first frame in which it is
found again is RECOVERED. Below `review_score`, or where its area jumps, the frame is UNCERTAIN.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.errors import UsageError
from mam_video.core.frames import Frame, Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import Settings
from mam_video.models.base import Model, VideoModel, ViewPrompt, video_model_of
from mam_video.motion.shot_detection import Moved
from mam_video.prompts.prompt import Prompt
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import closing_iter
from mam_video.tracking.mask_ops import (
    BACKGROUND_LOGIT,
    box_of_logits,
    cell_centres_of,
    empty_logits,
    mask_area,
    mask_logits,
)
from mam_video.tracking.search_region import held_crop
from mam_video.tracking.types import MaskObservation, TrackedFrame

_IN_SIGHT = 0.5  # presence from which on the model itself counts a subject as seen
_HIGHEST, _LOWEST = 20.0, BACKGROUND_LOGIT  # logits are stored in half precision; beyond these nothing changes


def track_in_memory(
    moving: Iterable[Moved],
    model: Model,
    prompts: Sequence[Mapping[int, Prompt]],
    settings: Settings,
    clock: StageTimer | None = None,
) -> Generator[tuple[TrackedFrame, ...], None, None]:
    """Track subjects with a video model.

    Args:
        moving: the frames in order, each with the motion that leads to it.
        model: its mask model is a `VideoModel`.
        prompts: of each subject, by frame index.

    Yields a row of one `TrackedFrame` for each subject, in order.
    Raises: UsageError, no subject is prompted on the first frame, or a prompt lies outside the frame.
    """
    follower = video_model_of(model)
    assert follower is not None
    clock = clock or StageTimer()
    session = follower.session(len(prompts))
    subjects = [_Subject(model, settings) for _ in prompts]
    with closing_iter(moving) as source:
        for frame, motion in source:
            given = [own.get(frame.index) for own in prompts]
            with clock.stage("segment"):
                found = session.step(frame.rgb8, [_in_frame(prompt, frame) for prompt in given])
            yield tuple(
                TrackedFrame(frame, motion, subject.observe(frame, given[k], found.logits[k], float(found.presence[k])))
                for k, subject in enumerate(subjects)
            )


def refuse_late_prompt(follower: VideoModel, first: int, start: int) -> None:
    """Raises: UsageError, the first prompt comes after the first frame: a video model tracks forwards alone."""
    if first > start:
        raise UsageError(
            f"model {follower.name} tracks forwards from its prompts alone; prompt the first frame, index {start}, or "
            "use a model without -video"
        )


def _in_frame(prompt: Prompt | None, frame: Frame) -> ViewPrompt | np.ndarray | None:
    """A prompt in frame pixels; a mask as (H, W) bool."""
    if prompt is None:
        return None
    prompt.check_inside(frame.size)
    if prompt.mask is not None:
        return np.asarray(prompt.mask > 0.5)
    return ViewPrompt(
        box=prompt.box.clipped(frame.size) if prompt.box is not None else None,
        points=np.array([(p.x, p.y) for p in prompt.points], np.float32).reshape(-1, 2),
        labels=np.array([int(p.subject) for p in prompt.points], np.int64),
    )


@dataclass(slots=True)
class _Subject:
    """What is remembered of one subject between frames: where it was, how large, for how long it has been lost."""

    model: Model
    settings: Settings
    crop: Crop | None = None
    box: Box | None = None
    area: float = 0.0
    lost: int = 0

    def observe(self, frame: Frame, prompt: Prompt | None, whole: np.ndarray, presence: float) -> MaskObservation:
        """Bring the mask, (m, m) logits over the stretched frame, to a crop, and say what state the subject is in."""
        size, m = frame.size, self.model.mask_size
        seen = presence >= _IN_SIGHT or prompt is not None
        box = _box_of_stretched(whole, size, self.settings.track.speck) if seen else None
        where = box or self.box or (prompt.box if prompt is not None else None) or Box(0, 0, size[1], size[0])
        crop = held_crop(self.crop, where, size, self.model.view_size, self.settings.view)
        self.crop = crop
        if box is None:
            return self._not_found(frame, prompt, where, presence, crop)
        if prompt is not None and prompt.mask is not None:
            logits = mask_logits(prompt.mask, crop, m)
        else:
            logits = _in_crop(whole, crop, size, m).astype(np.float16)
        area = mask_area(logits, crop, size)
        record = Record(frame.index, frame.pts, *self._state(prompt, presence, area, box))
        self.box, self.area, self.lost = box, area, 0
        return MaskObservation(record, crop, logits)

    def _state(
        self, prompt: Prompt | None, presence: float, area: float, box: Box
    ) -> tuple[State, Box, float, float, tuple[Finding, ...]]:
        bounds = self.settings.track
        if prompt is not None:
            return State.PROMPTED, box, presence, area, ()
        if self.lost:
            return State.RECOVERED, box, presence, area, (Finding(Reason.FOUND_AGAIN, float(self.lost)),)
        findings = []
        if presence < bounds.review_score:
            findings.append(Finding(Reason.LOW_SCORE, presence, bounds.review_score))
        jump = area / self.area if self.area > 0 else 1.0
        if not 1 / bounds.review_area <= jump <= bounds.review_area:
            findings.append(Finding(Reason.AREA_JUMP, jump, bounds.review_area))
        return State.UNCERTAIN if findings else State.TRACKED, box, presence, area, tuple(findings)

    def _not_found(
        self, frame: Frame, prompt: Prompt | None, where: Box, presence: float, crop: Crop
    ) -> MaskObservation:
        self.lost += 1
        reason = Reason.NOTHING_FOUND if prompt is None else Reason.NOTHING_AT_PROMPT
        record = Record(frame.index, frame.pts, State.LOST, where, presence, 0.0, (Finding(reason),))
        return MaskObservation(record, crop, empty_logits(self.model.mask_size).astype(np.float16))


def _box_of_stretched(whole: np.ndarray, size: tuple[int, int], speck: float) -> Box | None:
    """Return the tight box of a mask over the stretched frame, in frame pixels; specks do not widen it."""
    m = len(whole)
    box = box_of_logits(whole, Crop.whole((m, m), m), speck)
    if box is None:
        return None
    x, y = size[1] / m, size[0] / m
    return Box(box.x0 * x, box.y0 * y, box.x1 * x, box.y1 * y)


def _in_crop(whole: np.ndarray, crop: Crop, size: tuple[int, int], m: int) -> np.ndarray:
    """Sample a mask over the stretched frame into the square of a crop: (m, m) float32; the padding is background."""
    n = len(whole)
    x, y = cell_centres_of(crop, m)
    places = ((x * (n / size[1]) - 0.5).astype(np.float32), (y * (n / size[0]) - 0.5).astype(np.float32))
    found = cv2.remap(whole.astype(np.float32), *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    found = np.clip(found, _LOWEST, _HIGHEST)
    found[(x > crop.x0 + crop.width) | (y > crop.y0 + crop.height)] = BACKGROUND_LOGIT
    return np.asarray(found)
