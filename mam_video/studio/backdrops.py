"""Pictures and clips that the subject may be shown over: those that the command line names, by number.

They lie as behind a preview that is written (`media/background.py`): scaled until they cover the frame, frame N of a
clip behind frame N of the plate, its last one behind those after.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mam_video.core.arrays import RGB8
from mam_video.core.errors import UsageError
from mam_video.media import open_clip
from mam_video.media.background import Still, covering, load_background
from mam_video.runtime.lifecycle import Closeable
from mam_video.studio.caches import BoundedCache
from mam_video.studio.frame_store import FrameStore
from mam_video.studio.pictures import view_jpeg

_PICTURES: Final = 32 << 20  # bytes of encoded pictures
_LEAST: Final = (8, 8)  # (H, W) that a file is tried with


class Backdrops(Closeable):
    """The pictures and clips by number. Thread-safe.

    paths  absolute, as settings and command lines name them
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Raises: UsageError, one cannot be read."""
        self.paths = tuple(str(Path(name).absolute()) for name in names)
        self._moves = []
        for path in self.paths:
            background = load_background(path, *_LEAST, open_clip)
            self._moves.append(not isinstance(background, Still))
            background.close()
        self._clips: dict[int, FrameStore] = {}
        self._encoded: BoundedCache[bytes] = BoundedCache(_PICTURES)
        self._lock = threading.Lock()

    def entries(self) -> list[dict[str, Any]]:
        """What the page shows of each: its name, and whether it is a clip."""
        return [{"name": Path(path).name, "moves": moves} for path, moves in zip(self.paths, self._moves, strict=True)]

    def picture(self, number: int, index: int, size: tuple[int, int]) -> bytes:
        """Return what lies behind a frame, encoded for scrubbing at `size` (H, W).

        Raises: UsageError, there is no such backdrop; MediaError, it cannot be read.
        """
        if not 0 <= number < len(self.paths):
            raise UsageError("there is no such background")
        index = index if self._moves[number] else 0
        found = self._encoded.get((number, index, size))
        if found is None:
            found = view_jpeg(self._made(number, index, size))
            self._encoded.put((number, index, size), found, len(found))
        return found

    def close(self) -> None:
        for store in self._clips.values():
            store.close()

    def _made(self, number: int, index: int, size: tuple[int, int]) -> RGB8:
        if not self._moves[number]:
            still = load_background(self.paths[number], *size, open_clip)
            return (still.picture(0) >> 8).astype("uint8")
        store = self._store(number)
        last = store.count - 1
        return covering(store.frame(index if last < 0 else min(index, last)).rgb8, *size)

    def _store(self, number: int) -> FrameStore:
        """Return the frames of a clip."""
        with self._lock:
            if number not in self._clips:
                self._clips[number] = FrameStore(open_clip(self.paths[number]))
            return self._clips[number]
