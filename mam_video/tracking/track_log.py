"""The track of a run that can be resumed: written frame by frame, read again after a crash."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Final, overload

from mam_video.core.errors import MediaError
from mam_video.runtime.append_log import AppendLog
from mam_video.runtime.streams import closing_iter
from mam_video.tracking.track_file import packed, unpacked
from mam_video.tracking.types import MaskObservation, TrackedFrame

ANEW: Final = "ask for the same again, or begin anew with --overwrite and without --resume"


class TrackLog(Sequence[MaskObservation]):
    """What was found in each frame, from the first on; read from the file when asked for."""

    def __init__(self, path: Path) -> None:
        self._log = AppendLog(path)

    def __len__(self) -> int:
        return len(self._log)

    @overload
    def __getitem__(self, place: int) -> MaskObservation: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[MaskObservation]: ...
    def __getitem__(self, place: int | slice) -> MaskObservation | Sequence[MaskObservation]:
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        try:
            return unpacked(self._log[place])
        except (ValueError, KeyError, zlib.error) as error:
            raise MediaError(f"{self._log.path}: frame {place} is damaged ({error}); {ANEW}") from None

    def kept(self, tracked: Iterable[TrackedFrame]) -> Generator[TrackedFrame, None, None]:
        """`tracked`, unchanged; each frame that is not there yet is written on its way."""
        with closing_iter(tracked) as source:
            for place, item in enumerate(source):
                if place >= len(self):
                    self._log.append(packed(item))
                yield item

    def close(self) -> None:
        self._log.close()
