"""What travels: a frame as decoded, the record of what was found in it, and the frame with its alpha.

Each value checks itself at birth, so that nothing after it has to. Index and timestamps travel with the pixels from
the reader to the writer; neither is ever computed from the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from functools import cached_property

import cv2
import numpy as np

from mam_video.prompts import Box


@dataclass(frozen=True)
class Frame:
    """One picture of the plate, upright as displayed.

    index      0-based, in display order; counted, never computed from time
    pts        int ticks of `time_base`; written back unchanged
    time_base  seconds a tick, exact; copied from the container at the edge
    rgb        (H, W, 3) full-range display-referred RGB; uint16 (0..65535) as decoded, or uint8 (0..255)
    """

    index: int
    pts: int
    time_base: Fraction
    rgb: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype not in (np.uint8, np.uint16):
            raise TypeError(f"rgb must be (H, W, 3) uint8 or uint16, is {self.rgb.shape} {self.rgb.dtype}")
        if self.index < 0:
            raise ValueError(f"index must not be negative, is {self.index}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]

    @cached_property
    def rgb8(self) -> np.ndarray:
        """(H, W, 3) uint8, rounded: what models and motion look at. The plate itself stays as decoded."""
        if self.rgb.dtype == np.uint8:
            return self.rgb
        return cv2.convertScaleAbs(self.rgb, alpha=255.0 / 65535.0)  # rounds to nearest

    @property
    def seconds(self) -> float:
        """Presentation time in seconds, for printing only."""
        return float(self.pts * self.time_base)


class State(StrEnum):
    """What the tracker says of a frame. Written once, here; `track.py` decides which."""

    PROMPTED = "prompted"  # the user pointed at the subject in this frame
    TRACKED = "tracked"  # found, and nothing speaks against it
    UNCERTAIN = "uncertain"  # found, but something jumped: worth a look
    LOST = "lost"  # not found; the last good state moved by the motion stands in

    @property
    def flagged(self) -> bool:
        """Whether an artist should look at the frame."""
        return self in (State.UNCERTAIN, State.LOST)


@dataclass(frozen=True, slots=True)
class Record:
    """What was found in one frame: one line of the report.

    box      tight box of the mask in frame pixels, or where the subject is thought to be when lost
    score    how good the segmenter thinks its mask is, 0..1
    area     mask area as a share of the frame, 0..1
    reasons  why the frame is flagged, in words; empty otherwise
    """

    index: int
    pts: int
    state: State
    box: Box
    score: float
    area: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Matted:
    """A frame with the alpha of its subject.

    alpha  (H, W) float32 in [0, 1], the frame's own size
    """

    frame: Frame
    alpha: np.ndarray = field(repr=False)
    record: Record

    def __post_init__(self) -> None:
        if self.alpha.dtype != np.float32 or self.alpha.shape != self.frame.size:
            raise TypeError(f"alpha must be {self.frame.size} float32, is {self.alpha.shape} {self.alpha.dtype}")
