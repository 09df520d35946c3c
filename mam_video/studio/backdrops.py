"""Pictures and clips that the subject may be shown over: those that the command line names, by number.

They lie as behind a preview that is written (`media/background.py`): scaled until they cover the frame, frame N of a
clip behind frame N of the plate, its last one behind those after.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

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
        for path in self.paths:
            load_background(path, *_LEAST, open_clip).close()
        self._clips: dict[int, FrameStore] = {}
        self._encoded: BoundedCache[bytes] = BoundedCache(_PICTURES)
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """What people call them."""
        return [Path(path).name for path in self.paths]

    def picture(self, number: int, index: int, size: tuple[int, int]) -> bytes:
        """Return what lies behind a frame, encoded for scrubbing at `size` (H, W).

        Raises: UsageError, there is no such backdrop; MediaError, it cannot be read.
        """
        if not 0 <= number < len(self.paths):
            raise UsageError("there is no such background")
        found = self._encoded.get((number, index, size))
        if found is None:
            found = view_jpeg(self._made(number, index, size))
            self._encoded.put((number, index, size), found, len(found))
        return found

    def close(self) -> None:
        for store in self._clips.values():
            store.close()

    def _made(self, number: int, index: int, size: tuple[int, int]) -> RGB8:
        store = self._store(number)
        if store is not None:
            last = store.count - 1
            return covering(store.frame(index if last < 0 else min(index, last)).rgb8, *size)
        still = load_background(self.paths[number], *size, open_clip)
        return (still.picture(index) >> 8).astype("uint8")

    def _store(self, number: int) -> FrameStore | None:
        """Return the frames of a clip; None: it is a picture."""
        with self._lock:
            if number not in self._clips:
                background = load_background(self.paths[number], *_LEAST, open_clip)
                background.close()
                if isinstance(background, Still):
                    return None
                self._clips[number] = FrameStore(open_clip(self.paths[number]))
            return self._clips[number]
