"""Static parts: components of the mask that stand still while the subject moves, and so are not the subject."""

from __future__ import annotations

import cv2
import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.settings import TrackSettings
from mam_video.motion.flow import Motion
from mam_video.tracking.mask_ops import carried_logits, relative_motion
from mam_video.tracking.types import Prediction

_MIN_SPEED = 0.004  # of the box's longer side a frame: a slower component stands still
_FLOW_NOISE = 1.0  # crop pixels a frame
_SHARE = 0.35  # of the main component's motion: a component that follows it less does not move with it


class StaticParts:
    """For how long each component of the mask has stood still.

    age  (m, m) float32 over the crop of the last frame, frames for which each cell's component has not moved; (0, 0)
         before the first time
    """

    def __init__(self) -> None:
        self.age = np.zeros((0, 0), np.float32)

    def reset(self, m: int) -> None:
        """Forget all ages: the subject was found elsewhere."""
        self.age = np.zeros((m, m), np.float32)

    def update(
        self,
        logits: np.ndarray,
        crop: Crop,
        previous_crop: Crop | None,
        motion: Motion,
        prediction: Prediction,
        settings: TrackSettings,
    ) -> np.ndarray:
        """Return the static components of a mask, (m, m) bool, and keep the age of all.

        A component is static that has stood still for long enough while the main one moved. Both motions are relative
        to the background: the camera's own motion is subtracted. `logits`: (m, m) over `crop`; `previous_crop`: that of
        the last frame.
        """
        m = len(logits)
        count, labels, stats, _ = cv2.connectedComponentsWithStats((logits > 0).astype(np.uint8), connectivity=8)
        age, self.age = self.age, np.zeros((m, m), np.float32)
        static = np.zeros((m, m), bool)
        if count <= 2 or not settings.stand or previous_crop is None:
            return static
        if age.size:
            age = np.maximum(carried_logits(age, previous_crop, crop, motion, m), 0)
        else:
            age = np.zeros((m, m), np.float32)
        flow = relative_motion(motion, prediction.query_box, crop, m)
        box = crop.to_view(prediction.box)
        min_speed = max(_MIN_SPEED * max(box.width, box.height), _FLOW_NOISE)
        parts = [labels == label for label in range(1, count)]
        areas = stats[1:, cv2.CC_STAT_AREA]
        velocities = [np.median(flow[part], axis=0) for part in parts]
        main = _main_part(parts, areas, velocities, age, min_speed, settings.speck)
        speed = float(np.hypot(*velocities[main]))
        for k, part in enumerate(parts):
            if k == main:
                continue
            frames = float(age[part].mean())
            if speed > min_speed:
                share = float(velocities[k] @ velocities[main]) / speed**2
                frames = frames + 1 if share < _SHARE else max(frames - 1, 0.0)
            self.age[part] = frames
            static |= part & (frames > settings.stand - 0.5)
        return static


def _main_part(
    parts: list[np.ndarray],
    areas: np.ndarray,
    velocities: list[np.ndarray],
    age: np.ndarray,
    min_speed: float,
    speck: float,
) -> int:
    """Return the place of the main component: the largest that is not static.

    A static component is never the main one, even if it is the largest because the moving one is leaving the frame.
    """
    speeds = np.array([np.hypot(*velocity) for velocity in velocities])
    static = (speeds <= min_speed) & np.array([age[part].mean() >= 0.5 for part in parts])
    free = np.where(static | (areas < speck * areas.max()), 0, areas)
    return int((free if free.any() else areas).argmax())
