"""Pictures of frames for the report: small enough for one page, large enough to judge a matte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np

from mam_video.core.errors import MediaError
from mam_video.core.frames import Matted, Record

# RGB colours of the subjects in the report, for the first one, the second one and so on; further ones begin again.
SUBJECT_COLOURS: Final = (
    (255, 64, 160),
    (40, 150, 255),
    (255, 150, 30),
    (60, 200, 110),
    (170, 110, 255),
    (20, 190, 190),
)
_SIDE: Final = 1280  # pixels, longer side of a picture
_QUALITY: Final = 75  # JPEG quality
_COMPRESSION: Final = 3  # of PNG; higher levels take ten times as long for a tenth of the bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A matted frame at the size of the report, not encoded yet.

    row     a record for each subject
    plate   (h, w, 3) uint8 RGB
    alphas  (h, w) uint8 of each subject
    """

    row: tuple[Record, ...]
    plate: np.ndarray = field(repr=False)
    alphas: tuple[np.ndarray, ...] = field(repr=False)

    @classmethod
    def of(cls, matted: Matted) -> Snapshot:
        """Reduce a frame so that its longer side has at most 1280 pixels."""
        h, w = matted.frame.size
        scale = min(_SIDE / max(h, w), 1.0)
        size = max(round(w * scale), 1), max(round(h * scale), 1)
        parts = matted.parts or (matted,)
        alphas = tuple(np.rint(_reduced(part.alpha, size) * np.float32(255)).astype(np.uint8) for part in parts)
        return cls(tuple(part.record for part in parts), _reduced(matted.frame.rgb8, size), alphas)

    @property
    def index(self) -> int:
        """Index of the frame, counted from 0."""
        return self.row[0].index

    def encoded(self) -> Picture:
        """Encode plate and matte. Raises: MediaError, a picture cannot be encoded."""
        plate = _encode(".jpg", self.plate[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY], self.index)
        tinted = tint(self.alphas)[..., [2, 1, 0, 3]]
        matte = _encode(".png", tinted, [cv2.IMWRITE_PNG_COMPRESSION, _COMPRESSION], self.index)
        return Picture(plate, matte, (self.plate.shape[0], self.plate.shape[1]))


@dataclass(frozen=True, slots=True)
class Picture:
    """The encoded pictures of one frame.

    plate  JPEG of the frame
    matte  PNG in the subjects' colours, whose alpha is that of all subjects together
    size   (height, width) of both
    """

    plate: bytes = field(repr=False)
    matte: bytes = field(repr=False)
    size: tuple[int, int]


def tint(alphas: Sequence[np.ndarray]) -> np.ndarray:
    """Return a picture of mattes in the subjects' colours.

    Each pixel has the colour of the subject with the most alpha there; its alpha is the sum of all.

    Args:
        alphas: (h, w) uint8 of each subject.
    Returns: (h, w, 4) uint8 RGBA.
    """
    stack = np.stack(alphas)
    colours = np.array([SUBJECT_COLOURS[k % len(SUBJECT_COLOURS)] for k in range(len(alphas))], np.uint8)
    total = stack.sum(axis=0, dtype=np.uint16).clip(0, 255).astype(np.uint8)
    return np.dstack([colours[stack.argmax(axis=0)], total])


def _reduced(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture at `size` (width, height), itself where it has that size."""
    if picture.shape[1::-1] == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _encode(suffix: str, picture: np.ndarray, options: list[int], index: int) -> bytes:
    ok, data = cv2.imencode(suffix, np.ascontiguousarray(picture), options)
    if not ok:
        raise MediaError(f"frame {index}: cannot encode the picture for the report")
    return data.tobytes()
