"""Geometry of masks."""

import numpy as np
import pytest

from mam_video.core.geometry import Box, box_of_mask, mask_bounds, tight_box


def test_bounds_are_tight_and_half_open() -> None:
    mask = np.zeros((7, 9), bool)
    assert mask_bounds(mask) is None and box_of_mask(mask.astype(np.float32)) is None
    mask[2, 3] = True
    assert mask_bounds(mask) == (3, 2, 4, 3)
    mask[6, 8] = mask[4, 0] = True
    assert mask_bounds(mask) == (0, 2, 9, 7)
    assert box_of_mask(mask.astype(np.float32)) == Box(0, 2, 9, 7)
    assert box_of_mask(np.where(mask, np.float32(0.5), np.float32(0))) is None  # half is not above half


def test_an_empty_mask_has_no_tight_box() -> None:
    with pytest.raises(ValueError, match="empty"):
        tight_box(np.zeros((2, 2), bool))
