"""A run that can be cut off at any instruction, and goes on where it was.

Beside each output lies a hidden folder, `.NAME.resume`, with its frames so far (`media/kept.py`). That of the first
output has also

    run.json    what the run was asked: input, settings, model, weights, device. Something else is not resumed
    done        one entry for each frame that every output was given: its alpha's range, and the seconds it took
    track       what was found in each frame; the tracker goes through it again without asking the model
    publishing  an empty file: every output is whole, and they are being renamed
    published   an empty file: all have their names, and what was kept is being removed

How many frames are done is what all of these have in common, so that none has to be written at the same instant as
another.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, NamedTuple, Self

from mam_video.core.errors import UsageError
from mam_video.core.untrusted import parse_json
from mam_video.media.ffmpeg_compat import writing
from mam_video.runtime.append_log import AppendLog, remove
from mam_video.runtime.commit import in_use
from mam_video.tracking.track_log import ANEW, TrackLog

_DONE: Final = struct.Struct("<ffddd")
_DAMAGED: Final = "damaged"  # in place of what a run was asked, where that cannot be read


class Done(NamedTuple):
    """A frame that is written: least and largest alpha, the seconds it took, and what its record says of the matte.

    agreement, flicker  as in `Record`; not a number where unknown
    """

    low: float
    high: float
    seconds: float
    agreement: float = math.nan
    flicker: float = math.nan


class Checkpoint:
    """What is kept of one run. A context manager over the run: when all is well, or nothing is done, it is removed.

    publishing  the run was cut off while its outputs got their names
    done        frames that the outputs were given, in order; see `agree`

    Raises: UsageError, where the kept run was asked for something else, which is named, or is still going on.
    """

    def __init__(self, places: Sequence[Path], key: Mapping[str, Any]) -> None:
        """`places` are the hidden folders of the outputs; `key` says what the run is asked, in plain values."""
        self.places = list(places)
        self._main = self.places[0]
        self._locks: list[IO[str]] = []
        for place in self.places:
            _refuse_running(place)
        if (self._main / "published").exists():
            discard(self.places)
        wanted = json.loads(json.dumps(key))
        for place in self.places:
            asked = _asked(place)
            if asked is not None and _DAMAGED in asked:
                raise UsageError(f"{place / 'run.json'}: is damaged ({asked[_DAMAGED]}); {ANEW}")
            if asked is not None and asked != wanted:
                raise UsageError(f"{place}: this run cannot be resumed: {_difference(asked, wanted)}; {ANEW}")
        if _asked(self._main) is None:  # nothing was begun, or what is there was being removed
            discard(self.places)
        with writing(self._main):
            for place in self.places:
                place.mkdir(exist_ok=True)
                if _asked(place) is None:
                    growing = place / "run.json.part"
                    growing.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
                    growing.replace(place / "run.json")
        for place in self.places:
            lock = _locked(place / "lock")
            self._locks += [] if lock is None else [lock]
        self.publishing = (self._main / "publishing").exists()
        self.track = TrackLog(self._main / "track")
        self._log = AppendLog(self._main / "done")
        self.done = [Done(*_DONE.unpack(entry)) for entry in self._log]

    @property
    def ahead(self) -> Path:
        """Where a track is kept that was made before the first frame was matted."""
        return self._main / "ahead.track"

    def agree(self, count: int) -> None:
        """The outputs have only the first `count` frames."""
        self._log.cut(count)
        del self.done[count:]

    def add(self, done: Done) -> None:
        """One more frame is written."""
        self._log.append(_DONE.pack(*done))
        self.done.append(done)

    def mark(self) -> None:
        """Every output is whole; from here on names are given."""
        with writing(self._main):
            (self._main / "publishing").touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.track.close()
        self._log.close()
        if kind is None:
            with suppress(OSError):
                (self._main / "published").touch()
        for lock in self._locks:
            lock.close()
        if kind is None or not (self.done or self.ahead.exists()):
            discard(self.places)
        elif issubclass(kind, KeyboardInterrupt):
            raise KeyboardInterrupt(
                f"interrupted; frames done: {len(self.done)}; the same command with --resume goes on after them"
            ) from None


def refuse_checkpoint(places: Sequence[Path], overwrite: bool) -> None:
    """Of a run that keeps nothing: remove what another one kept.

    Raises: UsageError, where that was not asked for, or the other one is still going on.
    """
    for place in places:
        _refuse_running(place)
    standing = [place for place in places if _asked(place) is not None and not (place / "published").exists()]
    if standing and not overwrite:
        raise UsageError(f"{standing[0]}: a run was cut off here: --resume goes on with it, --overwrite begins anew")
    discard(places)


def discard(places: Sequence[Path]) -> None:
    """Remove what is kept; the first place last, since it says what the others are."""
    for place in reversed(places):
        remove(place)


def _asked(place: Path) -> dict[str, Any] | None:
    try:
        asked = parse_json((place / "run.json").read_text(encoding="utf-8") or "null")
    except OSError:
        return None
    except ValueError as error:
        asked = {_DAMAGED: str(error)}
    return asked if isinstance(asked, dict) else None


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> str:
    """The first thing that is not the same, in words."""
    for name in dict.fromkeys([*old, *new]):
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            return _difference(was, now, f"{above}{name}: ")
        return f"{above}{name} changed from {_short(was)} to {_short(now)}"
    return f"{above}something changed"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _refuse_running(place: Path) -> None:
    """Raises: UsageError, a living run keeps its frames there."""
    if in_use(place / "lock"):
        raise UsageError(f"{place}: this run is going on already; wait for it, or stop it first")


def _locked(path: Path) -> IO[str] | None:
    """A lock that ends with the process, where the system has such; two runs must not write to one place."""
    try:
        import fcntl
    except ImportError:
        return None
    with writing(path):
        file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UsageError(f"{path.parent}: this run is going on already; wait for it, or stop it first") from None
    except OSError:  # a file system without locks
        pass
    return file
