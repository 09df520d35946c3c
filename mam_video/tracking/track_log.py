"""The track of a run that can be resumed: written frame by frame, readable after a crash."""

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
    """The observations of all frames so far, in order; each is read from the file when it is needed."""

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
        """Pass frames on unchanged, and write those that the log does not hold yet."""
        with closing_iter(tracked) as source:
            for place, item in enumerate(source):
                if place >= len(self):
                    self._log.append(packed(item.observation))
                yield item

    def close(self) -> None:
        self._log.close()
