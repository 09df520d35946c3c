"""Masks of a clip that were made elsewhere, a frame at a time: one still, a sequence or a movie.

A mask is a picture of one channel, of the plate's size: the file's alpha channel where it has one, else its grey value;
of an EXR the channel A, or the only LAYER.A, laid where its data window says. Which mask belongs to which frame:

still      to every frame
movie      the same index; as many frames as the clip has
sequence   of a plate that is a sequence too: the same number. Where the two share no number (a tool that counts from
           0), and of a plate that is a movie: the same place in the order, and then there must be as many as frames

Where masks go by their order, as many as the range has frames are those of the range.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.ranges import FrameRange
from mam_video.media.base import ClipInfo
from mam_video.media.movie.reader import MovieReader
from mam_video.media.pixel_formats import as_16_bit, grey_of
from mam_video.media.sequence.dpx import Dpx
from mam_video.media.sequence.exr import Exr, read_channels
from mam_video.media.sequence.image_formats import SUFFIXES
from mam_video.media.sequence.image_header import refuse
from mam_video.media.sequence.pattern import Single, find_sequence, is_sequence
from mam_video.media.still_images import read_alpha
from mam_video.runtime.lifecycle import Closeable


class Masks(Closeable):
    """The masks of one clip's frames, decoded on demand. Not thread-safe.

    first  index of the first frame that has one
    stop   one past the last; None: they go on as long as the clip
    notes  what was assumed, a line each
    """

    def __init__(self, source: str | Path, info: ClipInfo, option: str, frames: FrameRange | None = None) -> None:
        """`info` is the plate's; `option` is named in errors, as --masks; `frames` is the range; None: the whole clip.

        Raises: UsageError or MediaError, in one line, where there are none or they are not as many as the frames.
        """
        self.source, self.option = str(source), option
        self.first = 0
        self.stop: int | None = None
        self.notes: list[str] = []
        self._info, self._frames = info, frames
        self._files: dict[int, Path] = {}
        self._still: Path | None = None
        self._movie: MovieReader | None = None
        self._coming: Generator[np.ndarray, None, None] | Any = None
        self._next = 0
        self._last: tuple[int, np.ndarray] | None = None
        if is_sequence(self.source, SUFFIXES):
            self._find_files()
        else:
            self._movie = MovieReader(Path(source))
            self.first = self._first_of(self._movie.info.frames_in_header)
            if self.first:
                self.stop = self.first + (self._movie.info.frames_in_header or 0)

    @property
    def still(self) -> bool:
        """Whether one picture stands for every frame."""
        return self._still is not None

    def at(self, index: int) -> np.ndarray:
        """Return the mask of frame `index`: (H, W) float32 in [0, 1]; not to be changed.

        Raises: MediaError, it cannot be read or is not of the plate's size; UsageError, there is none.
        """
        if self._still is not None:
            index = 0
        if self._last is None or self._last[0] != index:
            self._last = index, self._read(index)
        return self._last[1]

    def close(self) -> None:
        if self._coming is not None:
            self._coming.close()
            self._coming = None
        if self._movie is not None:
            self._movie.close()

    # Which belongs where

    def _find_files(self) -> None:
        found = find_sequence(self.source, SUFFIXES)
        if isinstance(found, Single) or Path(self.source).is_file():
            self._still = found.file(found.numbers[0])
            return
        numbers = self._info.numbers
        have = set(found.present)
        if numbers is None or not have.intersection(numbers):
            if gaps := found.missing():
                raise MediaError(f"{self.option} {self.source}: mask {gaps[0][0]} is missing")
            first = self._first_of(len(found.numbers))
            self._files = {first + k: found.file(number) for k, number in enumerate(found.numbers)}
        else:
            places = [k for k, number in enumerate(numbers) if number in have]
            lacking = next((k for k in range(places[0], places[-1]) if numbers[k] not in have), None)
            if lacking is not None:
                raise MediaError(f"{self.option} {self.source}: the mask of frame {numbers[lacking]} is missing")
            self._files = {k: found.file(numbers[k]) for k in places}
        self.first, self.stop = min(self._files), max(self._files) + 1

    def _first_of(self, count: int | None) -> int:
        """Return the index of the frame that the first of `count` masks is of: the clip's first, or the range's.

        Raises: UsageError, they are as many as neither has frames.
        """
        clip, part = self._info.frames_in_header, self._frames
        if count is None or clip is None or count == clip:
            return 0
        wanted = clip if part is None else part.count(clip)
        if part is not None and count == wanted:
            ends = f"{self._info.frame_number(part.start)}-{self._info.frame_number(part.start + count - 1)}"
            self.notes.append(f"{self.option} {self.source}: its {count} masks are taken for frames {ends}, in order")
            return part.start
        ranged = "" if part is None else f" and the range {wanted}"
        raise UsageError(
            f"{self.option} {self.source}: holds {count} masks, the clip {clip} frames{ranged}; give one for each frame"
        )

    # Reading

    def _read(self, index: int) -> np.ndarray:
        if self._movie is not None:
            path, mask = Path(self.source), self._of_movie(self._movie, index)
        else:
            there = self._still or self._files.get(index)
            if there is None:
                name = self._info.frame_number(index)
                raise UsageError(f"{self.option} {self.source}: holds no mask of frame {name}")
            path, mask = there, self._of_file(there)
        if mask.shape != self._info.size:
            raise MediaError(
                f"{path}: is {mask.shape[1]}x{mask.shape[0]}, the clip {self._info.width}x{self._info.height}; "
                "a mask must have the clip's size"
            )
        return mask

    def _of_movie(self, movie: MovieReader, index: int) -> np.ndarray:
        if self._coming is None or index != self._next:
            if self._coming is not None:
                self._coming.close()
            self._coming = movie.alphas(index - self.first)
        mask = next(self._coming, None)
        if mask is None:
            raise UsageError(f"{self.option} {self.source}: ends before frame {index} of the clip")
        self._next = index + 1
        return np.asarray(mask)

    def _of_file(self, path: Path) -> np.ndarray:
        suffix = path.suffix.lower()
        if suffix == ".exr":
            return self._of_exr(path)
        if suffix == ".dpx":
            return grey_of(as_16_bit(Dpx().pixels(path)))
        return read_alpha(path)

    def _of_exr(self, path: Path) -> np.ndarray:
        data, display = Exr.windows_of(path)
        plane = _one_channel(path, read_channels(path)[1])
        canvas = self._info.windows.canvas if self._info.windows else display
        whole = np.zeros((canvas[3] - canvas[1], canvas[2] - canvas[0]), np.float32)
        x0, y0 = max(data[0], canvas[0]), max(data[1], canvas[1])
        x1, y1 = min(data[2], canvas[2]), min(data[3], canvas[3])
        if x0 < x1 and y0 < y1:
            part = plane[y0 - data[1] : y1 - data[1], x0 - data[0] : x1 - data[0]].astype(np.float32)
            if not np.isfinite(part).all():
                raise refuse(path, "it holds values that are not finite numbers; a mask is between 0 and 1")
            whole[y0 - canvas[1] : y1 - canvas[1], x0 - canvas[0] : x1 - canvas[0]] = np.clip(part, 0, 1)
        return whole


def _one_channel(path: Path, channels: dict[str, np.ndarray]) -> np.ndarray:
    """Return (H, W): alpha where there is one, else the grey of R, G and B, else the only channel."""
    alphas = [name for name in channels if name == "A" or name.endswith(".A")]
    if "A" in alphas or len(alphas) == 1:
        return channels["A" if "A" in alphas else alphas[0]]
    if {"R", "G", "B"} <= set(channels):
        rgb = np.stack([channels[c].astype(np.float32) for c in "RGB"], -1)
        return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    if len(channels) == 1:
        return next(iter(channels.values()))
    shown = ", ".join(sorted(channels)[:8])
    raise refuse(path, f"which of its channels is the mask? ({shown}); write one alone, or name it A")
