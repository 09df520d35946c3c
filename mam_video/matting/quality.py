"""What a matte tells of itself: how much it flickers, and whether it keeps to its mask.

Both are for finding frames to look at. They need no truth, unlike dtSSD of `metrics/`: what the motion explains is
taken off instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import replace

import cv2
import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.frames import Matted
from mam_video.core.settings import SmoothSettings
from mam_video.matting.temporal_filter import smooth
from mam_video.metrics.masks import region_j
from mam_video.motion.flow import Motion
from mam_video.runtime.stage_timer import StageTimer


def with_flicker(
    mattes: Iterable[tuple[Matted, Motion | None]], settings: SmoothSettings, clock: StageTimer | None = None
) -> Generator[Matted, None, None]:
    """The mattes as `smooth` gives them; each record says how much its alpha flickers. Holds one small alpha more."""
    clock = clock or StageTimer()
    motions: deque[Motion | None] = deque()  # of the frames that smoothing holds

    def noted() -> Generator[tuple[Matted, Motion | None], None, None]:
        for matted, motion in mattes:
            motions.append(motion)
            yield matted, motion

    past: np.ndarray | None = None
    for matted in smooth(noted(), settings, clock):
        motion = motions.popleft()
        with clock.stage("judge"):
            value, past = _flicker(past, matted.alpha, motion)
        yield replace(matted, record=replace(matted.record, flicker=value))


def _flicker(
    past: np.ndarray | None, alpha: np.ndarray, motion: Motion | None
) -> tuple[float | None, np.ndarray | None]:
    """Flicker of an alpha (H, W) against the one before, and the alpha at the motion's size, for the next frame.

    The mean difference between alpha and the moved alpha before it, where the motion can be trusted, divided by the
    mean of the larger of the two there: 0 is steady, 1 is another place altogether. None where no motion leads here.
    """
    if motion is None:
        return None, alpha
    h, w = motion.size
    small = cv2.resize(alpha, (w, h), interpolation=cv2.INTER_AREA)
    if past is None:
        return None, small
    if past.shape != small.shape:  # the first frame's, kept whole until a motion told the size
        past = cv2.resize(past, (w, h), interpolation=cv2.INTER_AREA)
    moved = motion.carry(past)
    trusted = motion.trusted()
    subject = float(np.maximum(small, moved)[trusted].sum())
    change = float(np.abs(small - moved)[trusted].sum())
    return (change / subject if subject > 0 else 0.0), small


def agreement(alpha: np.ndarray, logits: np.ndarray, view: Crop) -> float:
    """IoU of the view's alpha, (height, width), above one half with its mask, (m, m) logits above 0; 1 of two empty."""
    m = logits.shape[0]
    h, w = (max(round(side * m / view.size), 1) for side in view.content)
    matte = cv2.resize(alpha, (w, h), interpolation=cv2.INTER_AREA) > 0.5
    return region_j(matte, logits[:h, :w] > 0)
