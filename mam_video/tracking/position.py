"""Predict where the subject is in the next frame."""

from __future__ import annotations

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.frames import Record, State
from mam_video.core.geometry import Box, gap_between, union_of
from mam_video.core.settings import TrackSettings
from mam_video.motion.flow import Motion
from mam_video.tracking.box_filter import BoxFilter
from mam_video.tracking.mask_ops import (
    carried_logits,
    drop_specks,
    empty_logits,
    filled_share,
    grid_scale,
    mask_bounds,
    to_frame_pixels,
)
from mam_video.tracking.search_region import displacement, is_exiting, keep_connected, limit_shrink, median_box_of
from mam_video.tracking.types import MaskObservation, Prediction

_GROWTH_MEMORY = 0.8  # what is kept of the growth from frame to frame: it is a mean of about the last five
_GROWTH_FRAMES = 5  # before so many frames nothing is said of it


class PositionModel:
    """The subject's last mask and box, and the box filter.

    box         tight box in the last frame; of a lost frame, where the subject is assumed to be
    search_box  the same box, but slow to shrink; None until the subject has been found
    logits      (m, m) float32, the last mask over the square of `crop`
    """

    def __init__(self, box: Box, before: MaskObservation | None = None) -> None:
        self.box = box
        self.search_box: Box | None = None
        self.logits = np.zeros((0, 0), np.float32) if before is None else before.logits.astype(np.float32)
        self.crop: Crop | None = None if before is None else before.crop
        self.filter: BoxFilter | None = None
        self._growth = 1.0
        self._frames = 0  # predicted

    @property
    def speed(self) -> tuple[float, float]:
        """(x, y) of the box's centre, frame pixels a frame."""
        return self.filter.speed if self.filter is not None else (0.0, 0.0)

    @property
    def growth(self) -> float:
        """By which factor the subject has grown a frame lately, as the motion says; 1 in the first frames."""
        return self._growth if self._frames >= _GROWTH_FRAMES else 1.0

    def predict(
        self, motion: Motion | None, frame_size: tuple[int, int], settings: TrackSettings, lost: int
    ) -> Prediction | None:
        """Predict the next frame; None for the prompted one.

        The box is the side-wise median of three opinions: the warped mask's own box, the last box moved by the median
        motion inside the mask, and the box filter's. `lost`: for how many frames the subject has been lost.
        """
        if self.crop is None or self.filter is None or motion is None:  # there is no filter before the prompt
            return None
        before = to_frame_pixels(self.logits, self.crop, motion) > 0
        shift = motion.shift(before)
        moved_box = keep_connected(self.box.moved(shift.dx, shift.dy), frame_size)
        expected = self.filter.predict()
        sx, sy = motion.scale
        warped = motion.carry(before.astype(np.float32)) > 0.5
        warped_box = mask_bounds(drop_specks(warped, settings.speck), sx, sy)
        exiting = warped_box is None or is_exiting(self.box, self.filter.speed, frame_size)
        box = median_box_of([moved_box, expected, warped_box]) if warped_box is not None and not lost else moved_box
        box = keep_connected(box, frame_size)
        margin = settings.margin * max(box.width, box.height) + shift.spread
        query_box = box.grown(margin)
        search_box = self.search_box.moved(shift.dx, shift.dy) if self.search_box is not None else None
        if search_box is not None:
            query_box = union_of(query_box, search_box)
        if lost:
            # The flow under a mask that stays behind follows what hides the subject; the filter keeps its course.
            query_box = union_of(query_box, expected).grown(margin * min(2 * lost, 8))
        query_box = query_box.clipped(frame_size) or query_box
        scale = 1.0 if lost else grid_scale(motion, before)
        self._growth = _GROWTH_MEMORY * self._growth + (1 - _GROWTH_MEMORY) * scale
        self._frames += 1
        return Prediction(box, query_box, expected, exiting, search_box, scale)

    def lost_mask(
        self, motion: Motion | None, prediction: Prediction | None, box: Box, crop: Crop, m: int
    ) -> np.ndarray:
        """Return where a lost subject is assumed to be, (m, m) float16 logits: the last mask, moved by the motion.

        It is empty once the subject has left the frame: no mask may stay behind at the border.
        """
        if prediction is None or self.crop is None or motion is None:
            return filled_share(box, crop, m).astype(np.float16)
        if prediction.exiting:
            return empty_logits(m)
        return carried_logits(self.logits, self.crop, crop, motion, m).astype(np.float16)

    def update(
        self, record: Record, logits: np.ndarray, crop: Crop, prediction: Prediction | None, shrink: float
    ) -> None:
        """Take over a frame. `logits`: its mask; of a lost frame, `lost_mask`."""
        recovered, lost = record.state is State.RECOVERED, record.state is State.LOST
        if prediction is None or (recovered and gap_between(record.box, self.box) > 0):
            self.filter = BoxFilter(record.box)  # it has not come here by its own speed
        elif not lost and self.filter is not None:
            self.filter.update(record.box)
        search_box = prediction.search_box if prediction is not None else None
        if recovered or search_box is None or self.search_box is None:
            self.search_box = record.box
        else:
            if not lost:
                search_box = self.search_box.moved(*displacement(self.box, record.box))
            self.search_box = limit_shrink(search_box, record.box, shrink)
        self.logits, self.crop, self.box = logits.astype(np.float32), crop, record.box
