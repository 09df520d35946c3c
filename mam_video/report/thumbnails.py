"""The frames that need a look, as small pictures, kept while the clip goes by: bounded in number and size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mam_video.core.errors import MediaError
from mam_video.core.frames import Matted, Record, State
from mam_video.core.geometry import Box

MOST = 24  # pictures of a clip
_SIDE = 960  # longer side of a picture, in pixels
_QUALITY = 82
_TINT = np.array((255, 64, 160), np.float32)  # of the matte
_BOX, _PROPOSAL = (255, 200, 40), (90, 220, 255)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A frame to look at.

    begins    whether it is the first of neighbouring flagged frames: where it went wrong
    proposal  the last believed box before it, in frame pixels: where a correction may start from; None: there is none
    jpeg      plate, matte and boxes in one picture
    """

    record: Record
    begins: bool
    proposal: Box | None
    jpeg: bytes
    size: tuple[int, int]  # (height, width) of the picture


class Thumbnails:
    """Given every frame in turn, keeps the most telling flagged ones, and the first frame of all.

    Of neighbouring flagged frames the first is kept, and the worst of the others. Where there are more than `most`, the
    beginnings go before the others, lost before uncertain, and low scores before high ones.
    """

    def __init__(self, most: int = MOST) -> None:
        self.first: Thumbnail | None = None
        self._most = most
        self._kept: list[tuple[tuple[int, int, float], Thumbnail]] = []  # the most telling first
        self._believed: Box | None = None
        self._flagged = False
        self._worst: tuple[int, int, float] | None = None  # of the run that goes on, its first frame apart

    def add(self, matted: Matted) -> None:
        """Thumbnail at one more frame; frames come in order."""
        record = matted.record
        flagged = record.flagged
        begins = flagged and not self._flagged
        if begins:
            self._worst = None
        if flagged:
            rank = (0 if begins else 1, 0 if record.state is State.LOST else 1, record.score)
            if begins or self._worst is None or rank < self._worst:
                self._keep(rank, matted, begins)
        else:
            self._believed = record.box
        if self.first is None:
            self.first = self._look(matted, begins)
        self._flagged = flagged

    @property
    def found(self) -> list[Thumbnail]:
        """The flagged ones, in the clip's order."""
        return sorted((look for _, look in self._kept), key=lambda look: look.record.index)

    def _keep(self, rank: tuple[int, int, float], matted: Matted, begins: bool) -> None:
        if not begins:
            if self._worst is not None:  # it takes the place of a better one of the same run
                self._kept = [entry for entry in self._kept if entry[0] is not self._worst]
            self._worst = rank
        if len(self._kept) == self._most and self._kept[-1][0] <= rank:
            return
        self._kept.append((rank, self._look(matted, begins)))
        self._kept.sort(key=lambda entry: entry[0])
        del self._kept[self._most :]

    def _look(self, matted: Matted, begins: bool) -> Thumbnail:
        h, w = matted.frame.size
        proposal = None if self._believed is None else self._believed.clipped((h, w))
        picture = _drawn(matted, proposal if matted.record.flagged else None)
        ok, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if not ok:
            raise MediaError(f"frame {matted.record.index}: cannot be made a picture of the report")
        return Thumbnail(matted.record, begins, proposal, data.tobytes(), (picture.shape[0], picture.shape[1]))


def _drawn(matted: Matted, proposal: Box | None) -> np.ndarray:
    """(h, w, 3) uint8: the plate, dimmed beside the subject, with the matte's rim, its box, and the proposal dashed."""
    h, w = matted.frame.size
    scale = min(_SIDE / max(h, w), 1.0)
    size = max(round(w * scale), 1), max(round(h * scale), 1)
    plate = cv2.resize(matted.frame.rgb8, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    alpha = cv2.resize(matted.alpha, size, interpolation=cv2.INTER_AREA)[..., None]
    grey = plate.mean(axis=2, keepdims=True)
    shown = (0.45 * plate + 0.1 * grey) * (1 - alpha) + (0.8 * plate + 0.2 * _TINT) * alpha
    picture = np.ascontiguousarray(np.rint(shown).clip(0, 255).astype(np.uint8))
    outlines, _ = cv2.findContours((alpha[..., 0] > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, tuple(float(v) for v in _TINT), 1, cv2.LINE_AA)
    if proposal is not None:
        _dashed(picture, proposal, size[0] / w, size[1] / h)
    x0, y0, x1, y1 = _corners(matted.record.box, size[0] / w, size[1] / h)
    cv2.rectangle(picture, (x0, y0), (x1, y1), _BOX, 2)
    return picture


def _corners(box: Box, sx: float, sy: float) -> tuple[int, int, int, int]:
    return round(box.x0 * sx), round(box.y0 * sy), round(box.x1 * sx) - 1, round(box.y1 * sy) - 1


def _dashed(picture: np.ndarray, box: Box, sx: float, sy: float) -> None:
    x0, y0, x1, y1 = _corners(box, sx, sy)
    for x in range(x0, x1, 16):
        for y in (y0, y1):
            cv2.line(picture, (x, y), (min(x + 8, x1), y), _PROPOSAL, 2)
    for y in range(y0, y1, 16):
        for x in (x0, x1):
            cv2.line(picture, (x, y), (x, min(y + 8, y1)), _PROPOSAL, 2)
