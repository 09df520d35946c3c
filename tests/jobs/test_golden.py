"""What the shipped model makes of the sample clip, against what it made when its weights were shipped.

After new weights or a change that means to change the result: `python -m tests.test_golden` makes the picture of truth
again; look at it before committing it.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video import Box, Matted, Prompt, Settings, load_model, matte_frames, open_clip
from mam_video.models.lite import SHA256

pytestmark = pytest.mark.numeric

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "samples" / "rabbit.mp4"
BOX = Box(270, 44, 604, 624)
FRAMES = 8
# Named after the weights, so that an old truth is never taken for a new one.
GOLDEN = Path(__file__).resolve().parents[1] / "fixtures" / f"golden_rabbit_{SHA256[:12]}.png"
# Sums in another order, or half precision, on another CPU: on average well under a code value of 8 bits.
MEAN_DIFFERENCE = 1.0
FAR_SHARE = 0.004  # of pixels more than 16 code values off


def matted() -> list[Matted]:
    settings = Settings()
    with open_clip(CLIP) as clip:
        frames = islice(clip.frames(), FRAMES)
        return list(matte_frames(frames, Prompt(BOX), load_model(settings.model), settings))


def sheet(found: list[Matted]) -> np.ndarray:
    """(FRAMES * 180, 320) uint8: the alphas at a quarter of the clip's size, below each other."""
    small = [cv2.resize(m.alpha, (320, 180), interpolation=cv2.INTER_AREA) for m in found]
    return np.rint(np.vstack(small) * 255).astype(np.uint8)


def test_the_shipped_model_on_the_sample_clip() -> None:
    found = matted()
    assert [m.frame.index for m in found] == list(range(FRAMES))
    assert not any(m.record.state.flagged for m in found)
    golden = cv2.imread(str(GOLDEN), cv2.IMREAD_GRAYSCALE)
    assert golden is not None, f"no {GOLDEN.name}: made for other weights; see the text above"
    difference = np.abs(sheet(found).astype(int) - golden)
    assert difference.mean() < MEAN_DIFFERENCE
    assert (difference > 16).mean() < FAR_SHARE
    # Neither empty nor full: a subject that stands on the grass, solid inside.
    alpha = found[0].alpha
    assert 0.1 < alpha.mean() < 0.4
    assert alpha[300:400, 400:480].mean() > 0.97


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(GOLDEN), sheet(matted()))
    print(f"{GOLDEN}: made with weights {SHA256[:12]}; look at it")
