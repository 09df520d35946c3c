"""A movie seen through a view transform."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mam_video.core.frames import Frame, ViewTransform
from mam_video.media.base import Colour, Reader
from mam_video.media.view_transforms import NONE, VideoTransform, linear_chromaticities, transform_notes
from mam_video.runtime.lifecycle import Closeable
from mam_video.runtime.streams import closing_iter


class ViewTransformReader(Closeable):
    """A movie whose pixels are not display-referred Rec. 709: every frame carries the transform that shows it."""

    def __init__(self, reader: Reader, transform: ViewTransform) -> None:
        self._reader, self._transform = reader, transform
        info, own = reader.info, isinstance(transform, VideoTransform)
        self.info = replace(
            info,
            look=transform.name,
            shown=None if transform is NONE else Colour("tv", "bt709", "bt709", "iec61966-2-1", True),
            coded=own,
            chromaticities=linear_chromaticities(transform, info),
            notes=(*info.notes, *(transform_notes(info.colour, transform.name) if own else ())),
        )
        self.broken = reader.broken  # the very list, which the reader fills

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        with closing_iter(self._reader.frames(start, stop)) as frames:
            for frame in frames:
                yield replace(frame, look=self._transform)

    def index_for_random_access(self) -> None:
        self._reader.index_for_random_access()

    def index_frames(self) -> Iterator[int]:
        return self._reader.index_frames()

    def close(self) -> None:
        self._reader.close()
