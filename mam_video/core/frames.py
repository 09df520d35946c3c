"""What travels: a frame as decoded, the record of what was found in it, and the frame with its alpha.

Each value checks itself at birth, so that nothing after it has to. Index and timestamps travel with the pixels from
the reader to the writer; neither is ever computed from the other.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from functools import cached_property
from typing import Protocol

import cv2
import numpy as np

from mam_video.core.arrays import RGB8, RGB16, Alpha, Plate, RGBFloat
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding

_ARRAY_TIME_BASE = Fraction(1, 24)
_PIXEL_TYPES = (np.uint8, np.uint16, np.float16, np.float32)


class ViewTransform(Protocol):
    """How a plate's pixels are seen: the way from its file's values to a display and to scene-linear light.

    Both are pure, never change what they are given, and know each pixel alone. `media/view_transforms.py` makes them.
    """

    name: str

    def display(self, rgb: Plate) -> RGB16:
        """(H, W, 3) uint16: display-referred sRGB, full range, of pixels as `Frame.rgb` holds them."""
        ...

    def linear(self, rgb: Plate) -> RGBFloat:
        """(H, W, 3) float32: scene-linear light; not clipped."""
        ...


@dataclass(frozen=True, repr=False)
class Frame:
    """One picture of the plate, upright as displayed.

    index      0-based, in display order; counted, never computed from time
    pts        int ticks of `time_base`; written back unchanged
    time_base  seconds a tick, exact; copied from the container at the edge
    rgb        (H, W, 3) as the file holds it: uint16 (0..65535) or uint8 (0..255), full range; float16 or float32 of a
               float file, of any value
    look       how these values are seen; None where they are display-referred already
    window     (x0, y0, x1, y1) in the frame's pixels where the file of this frame has a picture, black around it; None:
               everywhere
    timecode   HH:MM:SS:FF (HH:MM:SS;FF for drop-frame): what the frame's file carries, or the movie's label counted on
    alpha      (H, W) float32 in [0, 1]: the plate's own; None where it has none or is opaque everywhere. `rgb` is
               straight then. Models look at that straight colour, and at the stored colour where alpha is 0
    """

    index: int
    pts: int
    time_base: Fraction
    rgb: Plate = field(repr=False)
    look: ViewTransform | None = None
    window: tuple[int, int, int, int] | None = None
    timecode: str | None = None
    alpha: Alpha | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        h, w = self.size
        return f"Frame({self.index}, {w}x{h} {self.rgb.dtype}, at {self.seconds:.3f} s)"

    def __post_init__(self) -> None:
        if not isinstance(self.rgb, np.ndarray):
            raise TypeError(f"rgb must be an array of (H, W, 3), is {type(self.rgb).__name__}; numpy.asarray makes one")
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype not in _PIXEL_TYPES:
            known = "uint8, uint16, float16 or float32"
            raise TypeError(f"rgb must be (H, W, 3) {known}, is {self.rgb.shape} {self.rgb.dtype}")
        if self.alpha is not None and (self.alpha.dtype != np.float32 or self.alpha.shape != self.size):
            raise TypeError(f"alpha must be {self.size} float32, is {self.alpha.shape} {self.alpha.dtype}")
        if self.index < 0:
            raise ValueError(f"index must not be negative, is {self.index}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]

    @property
    def shown(self) -> RGB8 | RGB16:
        """(H, W, 3) uint8 or uint16, display-referred: through the look where there is one."""
        if self.look is not None:
            return self.look.display(self.rgb)
        if self.rgb.dtype.kind == "u":
            return self.rgb
        whole = np.nan_to_num(self.rgb.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
        return np.rint(np.clip(whole, 0, 1) * np.float32(65535)).astype(np.uint16)

    @property
    def codes(self) -> RGB8 | RGB16:
        """(H, W, 3) uint8 or uint16, what files of whole numbers are given: the plate's own codes, log ones too.

        Only float pixels, which such a file cannot hold, go through the look.
        """
        return self.rgb if self.rgb.dtype.kind == "u" else self.shown

    @cached_property
    def rgb8(self) -> RGB8:
        """(H, W, 3) uint8, rounded: what models and motion look at. The plate itself stays as decoded."""
        shown = self.shown
        if shown.dtype == np.uint8:
            return np.asarray(shown, np.uint8)  # itself
        return cv2.convertScaleAbs(shown, alpha=255.0 / 65535.0)  # rounds to nearest

    @property
    def seconds(self) -> float:
        """Presentation time in seconds, for printing only."""
        return float(self.pts * self.time_base)


def as_frames(pictures: Iterable[Frame | np.ndarray] | np.ndarray) -> Generator[Frame, None, None]:
    """Yield frames as they are, and (H, W, 3) arrays as frames of 24 a second; a single array is one picture.

    Raises: TypeError, one is neither.
    """
    if isinstance(pictures, np.ndarray) and pictures.ndim == 3:
        pictures = [pictures]
    if not isinstance(pictures, Iterable):
        raise TypeError(f"frames must be Frame values or (H, W, 3) arrays, is {type(pictures).__name__}")
    try:
        for index, picture in enumerate(pictures):
            if isinstance(picture, Frame):
                yield picture
            elif isinstance(picture, np.ndarray):
                yield Frame(index, index, _ARRAY_TIME_BASE, picture)
            else:
                raise TypeError(f"frames must be Frame values or (H, W, 3) arrays, is {type(picture).__name__}")
    finally:
        close = getattr(pictures, "close", None)
        if close is not None:
            close()


class State(StrEnum):
    """The state of a subject in a frame, decided by the tracker (`tracking/tracker.py`)."""

    PROMPTED = "prompted"  # the user pointed at the subject in this frame
    TRACKED = "tracked"  # found, with no finding that needs review
    UNCERTAIN = "uncertain"  # found, but a finding needs review
    LOST = "lost"  # not found: its alpha is empty
    CUT = "cut"  # in a shot without a prompt: its alpha is empty
    RECOVERED = "recovered"  # the first frame in which it is found again: is it the same subject?

    @property
    def flagged(self) -> bool:
        """Return whether an artist should review the frame."""
        return self in (State.UNCERTAIN, State.LOST, State.CUT, State.RECOVERED)


@dataclass(frozen=True, slots=True)
class Record:
    """What was found of a subject in one frame: one line of the report.

    box       tight box of the mask in frame pixels; where it is lost, where the subject is assumed to be
    score     the segmenter's own estimate of its mask's quality, 0..1
    area      mask area as a share of the frame, 0..1
    findings  why it has its state; of a frame that is not flagged, what needs no review
    subject   its name, where several subjects are matted; empty otherwise
    cut       a new shot begins with this frame: no motion leads to it, and smoothing stops there

    Known once the frame is matted, and no part of a track:

    agreement  IoU of the matte's solid part with the mask, 0..1; 1 where both are empty
    flicker    how much alpha changed beyond what the motion explains, as a share of the subject, 0..1; see
               `matting/quality.py`
    """

    index: int
    pts: int
    state: State
    box: Box
    score: float
    area: float
    findings: tuple[Finding, ...] = ()
    agreement: float | None = None
    flicker: float | None = None
    subject: str = ""
    cut: bool = False

    @property
    def flagged(self) -> bool:
        """Return whether an artist should review the frame: by its state, or as the prompt shows no clear subject."""
        return self.state.flagged or (self.state is State.PROMPTED and bool(self.findings))


@dataclass(frozen=True, slots=True, repr=False)
class Matted:
    """A frame with the alpha of its subject.

    alpha     (H, W) float32 in [0, 1], the frame's own size: what is written
    coverage  the same before it was grown, feathered or forced: how the plate's colours are mixed; None: as alpha says
    parts     of several subjects each one's own, named by its record: `alpha` is their sum; empty for one subject
    matte     of a plate with alpha: what that was multiplied with to make `alpha`; None: the plate has none
    """

    frame: Frame
    alpha: Alpha = field(repr=False)
    record: Record
    coverage: Alpha | None = field(default=None, repr=False)
    parts: tuple[Matted, ...] = field(default=(), repr=False)
    matte: Alpha | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for alpha in (self.alpha, self.coverage, self.matte):
            if alpha is None:
                continue
            if alpha.dtype != np.float32 or alpha.shape != self.frame.size:
                raise TypeError(f"alpha must be {self.frame.size} float32, is {alpha.shape} {alpha.dtype}")

    def __repr__(self) -> str:
        h, w = self.alpha.shape
        parts = f", subjects {', '.join(part.record.subject for part in self.parts)}" if self.parts else ""
        return f"Matted(frame {self.frame.index}, {w}x{h}, {self.record.state}{parts})"

    def of(self, subject: str | None) -> Matted:
        """The part of one of several subjects; itself where None. Raises: KeyError, there is no such part."""
        return self if subject is None else {part.record.subject: part for part in self.parts}[subject]
