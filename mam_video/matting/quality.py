"""Quality measures that need no ground truth: flicker, and agreement of a matte with its mask.

Both help to find frames that need review. Unlike dtSSD of `metrics/`, flicker compares with no truth; the change that
motion explains is taken off instead.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace

import cv2
import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.frames import Matted
from mam_video.matting.temporal_filter import MovingMatte
from mam_video.metrics.masks import region_j
from mam_video.motion.flow import Motion
from mam_video.runtime.stage_timer import StageTimer


def measure_flicker(mattes: Iterable[MovingMatte], clock: StageTimer | None = None) -> Generator[Matted, None, None]:
    """Write into each record how much its alpha flickers; the alpha passes unchanged. Holds one small alpha."""
    clock = clock or StageTimer()
    past: np.ndarray | None = None
    for matted, motion in mattes:
        with clock.stage("judge"):
            value, past = _flicker(past, matted.alpha, motion)
        yield replace(matted, record=replace(matted.record, flicker=value))


def _flicker(
    past: np.ndarray | None, alpha: np.ndarray, motion: Motion | None
) -> tuple[float | None, np.ndarray | None]:
    """Measure flicker of an alpha (H, W) against the one before; return it, and the alpha at the motion's size.

    Flicker is the mean difference between the alpha and the one before, moved here, divided by the mean of the larger
    of the two. Only pixels whose motion can be trusted count. 0 is steady, 1 is another place altogether; None where no
    motion leads to the frame.
    """
    if motion is None:
        return None, alpha
    h, w = motion.size
    small = cv2.resize(alpha, (w, h), interpolation=cv2.INTER_AREA)
    if past is None:
        return None, small
    if past.shape != small.shape:  # the first frame's, held whole until a motion gives the size
        past = cv2.resize(past, (w, h), interpolation=cv2.INTER_AREA)
    moved = motion.carry(past)
    trusted = motion.trusted()
    subject = float(np.maximum(small, moved)[trusted].sum())
    change = float(np.abs(small - moved)[trusted].sum())
    return (change / subject if subject > 0 else 0.0), small


def agreement(alpha: np.ndarray, logits: np.ndarray, view: Crop) -> float:
    """Return the IoU, 0..1, of a crop's alpha above one half with its mask; 1 where both are empty.

    Args:
        alpha: (height, width) float32 of the crop.
        logits: (m, m) over the crop's square; above 0 is subject.
    """
    m = logits.shape[0]
    h, w = (max(round(side * m / view.size), 1) for side in view.content)
    matte = cv2.resize(alpha, (w, h), interpolation=cv2.INTER_AREA) > 0.5
    return region_j(matte, logits[:h, :w] > 0)
