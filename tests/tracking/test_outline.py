"""A prompted mask without a clear outline is flagged, and tracking goes on as if it were not."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mam_video.core.frames import Frame, State
from mam_video.core.geometry import Box, Point
from mam_video.core.reasons import Reason
from mam_video.models.base import Candidates, Embedding, ViewPrompt
from mam_video.models.colour_model import ColourModel
from mam_video.prompts.prompt import Prompt
from mam_video.tracking.mask_ops import mask_stability
from mam_video.tracking.tracker import track
from tests.synthetic import disc, picture


def bump(slope: float, radius: float = 16, m: int = 64) -> np.ndarray:
    """Logits of a disc, which fall by `slope` a cell."""
    y, x = np.mgrid[:m, :m]
    return ((radius - np.hypot(x - m / 2, y - m / 2)) * slope).astype(np.float32)


def test_stability_tells_a_clear_outline_from_a_vague_one() -> None:
    assert mask_stability(bump(8.0)) > 0.95
    assert mask_stability(bump(0.4)) < 0.5  # a band of five cells on either side
    assert mask_stability(np.full((16, 16), -8, np.float32)) == 1
    falling = [mask_stability(bump(slope)) for slope in (4.0, 1.0, 0.6, 0.4, 0.2)]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("radius", [2, 3, 5, 20])
def test_a_small_mask_with_a_sharp_edge_is_clear(radius: int) -> None:
    """The cells on the outline itself are unsure in every mask, and are most of a small one."""
    assert mask_stability(bump(2.5, radius)) > 0.9


class Vague(ColourModel):
    """Says of each mask that its outline is anywhere."""

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        offered = super().segment(embedding, index, prompt)
        mask = offered.logits > 0
        return Candidates(np.where(mask, np.float32(0.5), np.float32(-8)), offered.scores)


@pytest.mark.parametrize(
    ("prompt", "flagged"),
    [
        (Prompt(Box(20, 20, 60, 60)), True),
        (Prompt(points=[Point(40, 40)]), False),  # not measured without a box
    ],
)
def test_a_vague_prompted_mask_is_flagged(prompt: Prompt, flagged: bool) -> None:
    frame = Frame(0, 0, Fraction(1, 24), picture(disc((96, 128), (40, 40), 18)))
    (found,) = track([(frame, None)], Vague(), prompt)
    assert found.record.state is State.PROMPTED and found.record.flagged is flagged
    assert [finding.reason for finding in found.record.findings] == [Reason.VAGUE_OUTLINE] * flagged
    (clear,) = track([(frame, None)], ColourModel(), prompt)
    assert not clear.record.findings
