"""What a composite lies over: a colour, a checker, a picture or another clip.

A picture or clip of another size is scaled until it covers the frame and is cropped around its middle; pixels count as
square. A clip goes along frame by frame: frame N of the plate lies over its frame N, whatever either's rate, and where
it ends its last frame stays.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import cv2
import numpy as np

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.frames import Frame
from mam_video.media import pixel_formats
from mam_video.media.base import Reader
from mam_video.runtime.os_errors import reason

_STILLS: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
_CHECKER: Final = (0x66, 0x99)  # two grays that neither a dark nor a light edge hides in
_BEHIND: Final = 4  # frames of a clip that are kept, since writers may ask a little out of order
_SAYS: Final = "give a colour as #rrggbb, checker, a picture or a clip"


class Background(Protocol):
    """Pictures to lie behind those of a plate. Any thread may ask.

    notes  what should be said after a run, a line each
    """

    notes: list[str]

    def picture(self, index: int) -> np.ndarray:
        """Return (H, W, 3) uint16, display-referred, full range: what lies behind frame `index` of the plate.

        It is shared: not to be changed. Raises: MediaError, where a frame of a clip cannot be read.
        """
        ...

    def close(self) -> None: ...


class Still:
    """One picture behind every frame."""

    def __init__(self, picture: np.ndarray) -> None:
        self.notes: list[str] = []
        self._picture = picture

    def picture(self, index: int) -> np.ndarray:
        return self._picture

    def close(self) -> None:
        pass


class Moving:
    """The frames of a clip, read on demand: in growing order but for a few, else from its start again."""

    def __init__(self, reader: Reader, height: int, width: int) -> None:
        self.notes: list[str] = []
        self._reader, self._size = reader, (height, width)
        self._lock = threading.Lock()
        self._frames: Iterator[Frame] = iter(())
        self._recent: dict[int, np.ndarray] = {}
        self._end: int | None = None  # how many frames it has, once that is known

    def picture(self, index: int) -> np.ndarray:
        with self._lock:
            if self._end is not None and index >= self._end:
                index = self._end - 1
            if index not in self._recent:
                self._read_to(index)
            if self._end is not None:
                index = min(index, self._end - 1)
            return self._recent[index]

    def _read_to(self, index: int) -> None:
        """Read on until frame `index` is among the recent ones, or the last one where there are no more."""
        if not self._recent or index < max(self._recent):
            self._stop()
            self._recent.clear()
            self._frames = self._reader.frames()
        frame: Frame | None = None
        for frame in self._frames:
            if index - frame.index < _BEHIND:
                self._keep(frame)
            if frame.index == index:
                return
        last = frame.index if frame is not None else max(self._recent, default=-1)
        if last < 0:
            raise MediaError(f"background {self._reader.info.path}: holds no frame")
        if frame is not None:
            self._keep(frame)
        self._end = last + 1
        name = self._reader.info.path.name
        self.notes.append(f"the background {name} has {self._end} frames; its last one stays behind the others")

    def _keep(self, frame: Frame) -> None:
        self._recent[frame.index] = covering(pixel_formats.as_16_bit(frame.shown), *self._size)
        while len(self._recent) > _BEHIND:
            del self._recent[min(self._recent)]

    def _stop(self) -> None:
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()

    def close(self) -> None:
        with self._lock:
            self._stop()
            self._frames = iter(())
            self._reader.close()


def load_background(text: str, height: int, width: int, open_clip: Callable[[str], Reader]) -> Background:
    """A backdrop of (H, W) by what the user calls it: #rrggbb, `checker`, a picture's file, or a clip (or a sequence).

    Raises: UsageError, where it is none of these or cannot be read.
    """
    is_file = _is_file(text)
    if text.startswith("#") and not is_file:
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
            raise UsageError(f"background {text}: a colour is written #rrggbb, as #33ff92")
        one = np.array([int(text[i : i + 2], 16) * 257 for i in (1, 3, 5)], np.uint16)
        return Still(np.broadcast_to(one, (height, width, 3)).copy())
    if text == "checker":
        return Still(checker(height, width))
    still = Path(text).suffix.lower() in _STILLS
    if still and (is_file or not re.search(r"[%#@*]|\$F", Path(text).name)):
        return Still(covering(_still(text), height, width))
    try:
        reader = open_clip(text)
        next(reader.frames(0, 1))
    except (MediaError, UsageError, StopIteration) as error:
        raise UsageError(f"background {text}: cannot be read ({reason(error)}); {_SAYS}") from error
    return Moving(reader, height, width)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _still(text: str) -> np.ndarray:
    """Return (H, W, 3) uint16 of a picture's file."""
    try:
        data = np.frombuffer(Path(text).read_bytes(), np.uint8)
    except (OSError, ValueError) as error:
        raise UsageError(f"background {text}: cannot be read ({reason(error)}); {_SAYS}") from error
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) if data.size else None
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"background {text}: not a picture of 8 or 16 bits that can be read; {_SAYS}")
    return pixel_formats.as_16_bit(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def checker(height: int, width: int) -> np.ndarray:
    """Return (H, W, 3) uint16: gray squares, 24 of them down the picture's shorter side."""
    side = max(4, min(height, width) // 24)
    dark = (np.arange(height)[:, None] // side + np.arange(width)[None] // side) % 2 == 0
    gray = np.where(dark, *_CHECKER).astype(np.uint16) * 257
    return cv2.merge([gray, gray, gray])


def covering(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return (H, W, 3) of a picture of any size: scaled to cover the frame, cropped around its middle."""
    if picture.shape[:2] == (height, width):
        return picture
    scale = max(height / picture.shape[0], width / picture.shape[1])
    tall, wide = max(height, round(picture.shape[0] * scale)), max(width, round(picture.shape[1] * scale))
    picture = cv2.resize(picture, (wide, tall), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    top, left = (tall - height) // 2, (wide - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])
