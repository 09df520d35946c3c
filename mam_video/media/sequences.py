"""PNG sequences of 16 bits: RGBA (straight) or the alpha alone in gray, exact after rounding.

EXR, DPX and TIFF will stand here beside PNG: a way to encode one frame to bytes is all that differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from mam_video.errors import MediaError
from mam_video.frames import Matted
from mam_video.media import colour
from mam_video.media.base import ClipInfo
from mam_video.media.outputs import Pattern, SequenceOutput
from mam_video.settings import OutputSettings

# A seventh smaller than OpenCV's default (run lengths only) for a third more time; stronger settings cost far more.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    index: int
    data: bytes = field(repr=False)


class PngWriter:
    """A PNG for every frame, numbered by its index. Same two steps as `MovieWriter`: prepare (pure) and put.

    Timestamps have no place in PNG: a sequence of a variable-rate clip keeps its frames, not their times.
    """

    def __init__(self, pattern: Pattern, alpha_only: bool, info: ClipInfo, settings: OutputSettings) -> None:
        """Raises: UsageError or MediaError, before anything is written, where the output is not possible."""
        self.path: Path = pattern.path
        self._alpha_only = alpha_only
        self._info = info
        self._premultiply = settings.premultiply
        self._count = 0
        self._output = SequenceOutput(pattern, info.path, settings.overwrite)

    def prepare(self, matted: Matted) -> EncodedFrame:
        """The frame as the bytes of a PNG. Pure: any thread, any order."""
        codes = colour.alpha_codes(matted.alpha, 16)
        if self._alpha_only:
            picture = codes
        else:
            rgb = colour.as_16_bit(matted.frame.rgb)
            if self._premultiply:
                rgb = colour.premultiplied(rgb, matted.alpha)
            red, green, blue = cv2.split(rgb)
            picture = cv2.merge([blue, green, red, codes])  # OpenCV's order
        done, data = cv2.imencode(".png", picture, _PNG)
        if not done:
            raise MediaError(f"{self.path}: frame {matted.frame.index} could not be encoded")
        return EncodedFrame(matted.frame.index, np.asarray(data).tobytes())

    def put(self, frame: EncodedFrame) -> None:
        self._output.write(frame.index, frame.data)
        self._count += 1

    def write(self, matted: Matted) -> None:
        """Raises: MediaError, where the disk is full."""
        self.put(self.prepare(matted))

    def finish(self) -> None:
        if not self._count:
            raise MediaError(f"{self.path}: no frame was written to it")

    def publish(self) -> None:
        """Move the frames to their final names."""
        self._output.publish()

    def close(self) -> None:
        try:
            self.finish()
            self.publish()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        self._output.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
