"""Collect small pictures of flagged frames during a run. Their number and size are bounded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from mam_video.core.errors import MediaError
from mam_video.core.frames import Matted, Record, State
from mam_video.core.geometry import Box

MOST = 24  # maximum number of flagged pictures of a clip
_SIDE = 960  # pixels, longer side of a picture
_Rank = tuple[int, int, float]
_SIZE = struct.Struct("<II")  # height and width
_QUALITY = 82  # JPEG quality
_TINT = np.array((255, 64, 160), np.float32)  # RGB colour of the matte
_BOX, _PROPOSAL = (255, 200, 40), (90, 220, 255)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture of one frame.

    begins    whether the frame is the first of a flagged range, where the error starts
    proposal  the last reliable box before it in frame pixels, as a start for a correction; None if there is none
    jpeg      plate, matte and boxes in one picture
    """

    record: Record
    begins: bool
    proposal: Box | None
    jpeg: bytes
    size: tuple[int, int]  # (height, width) of the picture


class Thumbnails:
    """Collect thumbnails of the worst flagged frames, and one of the first frame of the clip.

    Each flagged range gives its first frame and the worst of the others. If there are more than `limit`, first frames
    rank before the others, lost frames before uncertain ones, and low scores before high ones.
    """

    def __init__(self, limit: int = MOST) -> None:
        self.first: Thumbnail | None = None
        self._limit = limit
        self._ranked: list[tuple[_Rank, Thumbnail]] = []  # best rank first
        self._reliable_box: Box | None = None
        self._flagged = False
        self._worst_rank: _Rank | None = None  # worst frame of the current range but for its first

    def add(self, matted: Matted) -> None:
        """Add one frame. Frames must come in order."""
        self.add_record(matted.record, matted.frame.size, lambda: Shrunk.of(matted))

    def add_record(self, record: Record, size: tuple[int, int], picture: Callable[[], Shrunk]) -> None:
        """Add one frame of `size` (H, W); its picture is fetched where it is needed: see `needs_picture`."""
        flagged = record.flagged
        begins = flagged and not self._flagged
        if begins:
            self._worst_rank = None
        if flagged:
            rank = (0 if begins else 1, 0 if record.state is State.LOST else 1, record.score)
            if begins or self._worst_rank is None or rank < self._worst_rank:
                self._insert(rank, record, size, picture, begins)
        else:
            self._reliable_box = record.box
        if self.first is None:
            self.first = self._thumbnail(record, size, picture, begins)
        self._flagged = flagged

    @property
    def found(self) -> list[Thumbnail]:
        """Return the thumbnails of flagged frames in the order of the clip."""
        return sorted((thumbnail for _, thumbnail in self._ranked), key=lambda thumbnail: thumbnail.record.index)

    def _insert(
        self, rank: _Rank, record: Record, size: tuple[int, int], picture: Callable[[], Shrunk], begins: bool
    ) -> None:
        if not begins:
            if self._worst_rank is not None:  # replaces a better frame of the same range
                self._ranked = [entry for entry in self._ranked if entry[0] is not self._worst_rank]
            self._worst_rank = rank
        if len(self._ranked) == self._limit and self._ranked[-1][0] <= rank:
            return
        self._ranked.append((rank, self._thumbnail(record, size, picture, begins)))
        self._ranked.sort(key=lambda entry: entry[0])
        del self._ranked[self._limit :]

    def _thumbnail(
        self, record: Record, size: tuple[int, int], picture: Callable[[], Shrunk], begins: bool
    ) -> Thumbnail:
        proposal = None if self._reliable_box is None else self._reliable_box.clipped(size)
        drawn = _draw(record, size, picture(), proposal if record.flagged else None)
        ok, data = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if not ok:
            raise MediaError(f"frame {record.index}: cannot encode the picture for the report")
        return Thumbnail(record, begins, proposal, data.tobytes(), (drawn.shape[0], drawn.shape[1]))


@dataclass(frozen=True)
class Shrunk:
    """A frame and its matte in the size of a thumbnail.

    plate  (h, w, 3) uint8 RGB
    alpha  (h, w) float32 in [0, 1]
    """

    plate: np.ndarray
    alpha: np.ndarray

    @classmethod
    def of(cls, matted: Matted) -> Shrunk:
        h, w = matted.frame.size
        scale = min(_SIDE / max(h, w), 1.0)
        size = max(round(w * scale), 1), max(round(h * scale), 1)
        plate = cv2.resize(matted.frame.rgb8, size, interpolation=cv2.INTER_AREA)
        return cls(plate, cv2.resize(matted.alpha, size, interpolation=cv2.INTER_AREA))

    def packed(self) -> bytes:
        """Return it as bytes, losslessly compressed."""
        h, w = self.alpha.shape
        return _SIZE.pack(h, w) + zlib.compress(self.plate.tobytes() + self.alpha.astype("<f4").tobytes(), 1)

    @classmethod
    def unpacked(cls, data: bytes) -> Shrunk:
        """Return what `packed` gave. Raises: ValueError, struct.error or zlib.error, the data is damaged."""
        h, w = _SIZE.unpack_from(data)
        if max(h, w) > _SIDE:
            raise ValueError(f"a picture of {w}x{h}")
        body = zlib.decompressobj().decompress(data[_SIZE.size :], 7 * h * w)
        plate = np.frombuffer(body, np.uint8, 3 * h * w).reshape(h, w, 3)
        return cls(plate, np.frombuffer(body, "<f4", h * w, 3 * h * w).reshape(h, w).astype(np.float32))


def needs_picture(record: Record, first: bool) -> bool:
    """Return whether `add_record` may ask for a frame's picture; `first`: it is the first of the run."""
    return first or record.flagged


def _draw(record: Record, frame: tuple[int, int], picture: Shrunk, proposal: Box | None) -> np.ndarray:
    """Draw a frame: the background dimmed, the matte tinted and outlined, its box, and the proposal dashed.

    Args:
        frame: (H, W) of the whole frame.
    Returns: (h, w, 3) uint8 RGB.
    """
    (h, w), alpha = frame, picture.alpha[..., None]
    size = alpha.shape[1], alpha.shape[0]
    plate = picture.plate.astype(np.float32)
    grey = plate.mean(axis=2, keepdims=True)
    shown = (0.45 * plate + 0.1 * grey) * (1 - alpha) + (0.8 * plate + 0.2 * _TINT) * alpha
    drawn = np.ascontiguousarray(np.rint(shown).clip(0, 255).astype(np.uint8))
    outlines, _ = cv2.findContours((alpha[..., 0] > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, outlines, -1, tuple(float(v) for v in _TINT), 1, cv2.LINE_AA)
    if proposal is not None:
        _draw_dashed(drawn, proposal, size[0] / w, size[1] / h)
    x0, y0, x1, y1 = _corners(record.box, size[0] / w, size[1] / h)
    cv2.rectangle(drawn, (x0, y0), (x1, y1), _BOX, 2)
    return drawn


def _corners(box: Box, sx: float, sy: float) -> tuple[int, int, int, int]:
    return round(box.x0 * sx), round(box.y0 * sy), round(box.x1 * sx) - 1, round(box.y1 * sy) - 1


def _draw_dashed(picture: np.ndarray, box: Box, sx: float, sy: float) -> None:
    x0, y0, x1, y1 = _corners(box, sx, sy)
    for x in range(x0, x1, 16):
        for y in (y0, y1):
            cv2.line(picture, (x, y), (min(x + 8, x1), y), _PROPOSAL, 2)
    for y in range(y0, y1, 16):
        for x in (x0, x1):
            cv2.line(picture, (x, y), (x, min(y + 8, y1)), _PROPOSAL, 2)
