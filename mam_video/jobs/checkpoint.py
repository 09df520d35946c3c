"""Checkpoints: a run that is cut off at any instruction can be resumed where it was.

Beside each output lies a hidden folder, `.NAME.resume`, with its frames so far (`runtime/append_log.py`). That of the
first output has also

    run.json    the run's fingerprint: input, settings, model, weights, device. A run that differs is not resumed
    done        one entry for each frame that every output was given: alpha's range, seconds, quality of the matte
    track       what was found in each frame; the tracker goes through it again without running the model. Of several
                subjects `track-2` and so on beside it; their tracker runs again from the first frame
    ahead.track of prompts on several frames: the track that was made before matting, once it is whole
    tracks-named  an empty file: the tracks that are saved are whole, and get their names
    publishing  an empty file: every output is whole, and they are being renamed
    published   an empty file: all have their names, and what was kept is being removed
    unasked     an empty file: the user did not ask to keep anything; another run may begin here

As many frames are done as all of these have in common. So none has to be written at the same instant as another.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, NamedTuple, Self

from mam_video.core.errors import UsageError
from mam_video.core.frames import Matted, Record
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings
from mam_video.core.untrusted import parse_json
from mam_video.media import ClipInfo, parse_output
from mam_video.media.ffmpeg_compat import writing
from mam_video.media.open import identity_of
from mam_video.models.base import Model
from mam_video.runtime.append_log import AppendLog, identity, remove
from mam_video.runtime.commit import in_use
from mam_video.tracking.track_log import ANEW, TrackLog

_DONE: Final = struct.Struct("<ffddd")
_UNASKED: Final = "unasked"
_DAMAGED: Final = "damaged"  # in place of a fingerprint that cannot be read


class Done(NamedTuple):
    """Facts of a matte that is written: of all subjects together, or of one of several.

    low, high           least and largest alpha
    seconds             that the frame took
    agreement, flicker  as in `Record`; not a number where unknown
    """

    low: float
    high: float
    seconds: float
    agreement: float = math.nan
    flicker: float = math.nan

    def completed(self, record: Record) -> Record:
        """Return the tracker's record with the matte's quality filled in."""
        agreement, flicker = (None if math.isnan(value) else value for value in (self.agreement, self.flicker))
        return replace(record, agreement=agreement, flicker=flicker)


DoneFrame = tuple[Done, ...]  # of all subjects together; of several, then each one's


def done_frame(matted: Matted, ranges: Sequence[tuple[float, float]], seconds: float) -> DoneFrame:
    """Make the entry of a frame that is written; `ranges` are least and largest alpha, in the entry's order."""
    mattes = (matted, *matted.parts)
    quality = [(m.record.agreement, m.record.flicker) for m in mattes]
    return tuple(
        Done(low, high, seconds, *(math.nan if value is None else value for value in values))
        for (low, high), values in zip(ranges, quality, strict=True)
    )


class Checkpoint:
    """The checkpoint of one run: a context manager, removed at its end when all went well, or when no frame was done.

    publishing  the run was cut off while its outputs got their names
    tracks_named  it was cut off when its saved tracks had their names, or got them
    done        frames that the outputs were given, in order; see `agree`
    tracks      what was found of each subject

    Raises: UsageError, where the kept run is another one (what differs is named), or is still going on.
    """

    def __init__(
        self, places: Sequence[Path], key: Mapping[str, Any], subjects: int = 1, *, asked: bool = True
    ) -> None:
        """`places` are the hidden folders of the outputs; `key` is the run's fingerprint, in plain values.

        asked: whether the user wants what is done to be kept, so that no other run may remove it.
        """
        self.places = list(places)
        self._main = self.places[0]
        self._locks: list[IO[str]] = []
        for place in self.places:
            _refuse_running(place)
        if (self._main / "published").exists():
            discard(self.places)
        wanted = json.loads(json.dumps(key))
        for place in self.places:
            kept = _fingerprint_in(place)
            if kept is not None and _DAMAGED in kept:
                raise UsageError(f"{place / 'run.json'}: is damaged ({kept[_DAMAGED]}); {ANEW}")
            if kept is not None and kept != wanted:
                raise UsageError(f"{place}: this run cannot be resumed: {difference(kept, wanted)}; {ANEW}")
        if _fingerprint_in(self._main) is None:  # nothing was begun, or what is there was being removed
            discard(self.places)
        with writing(self._main):
            for place in self.places:
                place.mkdir(exist_ok=True)
                if _fingerprint_in(place) is None:
                    growing = place / "run.json.part"
                    growing.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
                    growing.replace(place / "run.json")
        for place in self.places:
            lock = _locked(place / "lock")
            self._locks += [] if lock is None else [lock]
        with writing(self._main):
            if asked:
                (self._main / _UNASKED).unlink(missing_ok=True)
            else:
                (self._main / _UNASKED).touch()
        self.publishing = (self._main / "publishing").exists()
        self.tracks_named = (self._main / "tracks-named").exists()
        self.tracks = tuple(TrackLog(self._main / _numbered("track", k)) for k in range(subjects))
        self._log = AppendLog(self._main / "done")
        self.done: list[DoneFrame] = [
            tuple(Done(*values) for values in _DONE.iter_unpack(entry)) for entry in self._log
        ]

    def ahead(self, k: int) -> Path:
        """Return where the track of subject `k` is kept that was made before the first frame was matted."""
        return self._main / f"{_numbered('ahead', k)}.track"

    def agree(self, count: int) -> None:
        """Take note that the outputs have only the first `count` frames."""
        self._log.cut(count)
        del self.done[count:]

    def add(self, done: DoneFrame) -> None:
        """Add a frame that is written."""
        self._log.append(b"".join(_DONE.pack(*entry) for entry in done))
        self.done.append(done)

    def mark_tracks(self) -> None:
        """Note that every saved track is whole; from here on they get their names, before the outputs do."""
        with writing(self._main):
            (self._main / "tracks-named").touch()

    def mark(self) -> None:
        """Note that every output is whole; from here on they get their names."""
        with writing(self._main):
            (self._main / "publishing").touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for track in self.tracks:
            track.close()
        self._log.close()
        if kind is None:
            with suppress(OSError):
                (self._main / "published").touch()
        for lock in self._locks:
            lock.close()
        if kind is None or not (self.done or any(self.ahead(k).exists() for k in range(len(self.tracks)))):
            discard(self.places)
        elif issubclass(kind, KeyboardInterrupt):
            raise KeyboardInterrupt(
                f"interrupted; frames done: {len(self.done)}; the same command with --resume goes on after them"
            ) from None


def _numbered(name: str, k: int) -> str:
    return name if k == 0 else f"{name}-{k + 1}"


def run_fingerprint(
    info: ClipInfo,
    outputs: Sequence[str],
    masks: Mapping[str, Any],
    frames: FrameRange | None,
    settings: Settings,
    model: Model,
    device: str,
    by_hand: Mapping[str, str | Path | None],
) -> dict[str, Any]:
    """Return all that a result depends on, in plain values: a run is resumed only where none of it changed.

    Args:
        masks: the fingerprint of the mask source.
        by_hand: garbage mattes by name; None: not given.
    """
    import torch

    chosen = settings.as_dict()
    for free in ("overwrite", "verify"):
        del chosen["output"][free]
    colours = os.environ.get("OCIO", "")
    return {
        "version of mam-video": version("mam-video"),
        "version of torch": torch.__version__,
        "outputs": [f"{Path(name).absolute()}:{kind.name}" for name, kind in map(parse_output, outputs)],
        "input": identity_of(info.path),
        "range": "all" if frames is None else str(frames),
        **dict.fromkeys(("prompt", "mask", "masks", "trimaps", "track"), "none"),
        **masks,
        **{name: "none" if path is None else identity_of(path) for name, path in by_hand.items()},
        "settings": chosen,
        "OCIO": identity([Path(colours)]) if Path(colours).is_file() else colours,
        "model": model.name,
        "weights": model.weights,
        "device": device,
        "threads": torch.get_num_threads(),
    }


def refuse_checkpoint(places: Sequence[Path], overwrite: bool) -> None:
    """Remove what an earlier run kept, for a run that keeps nothing.

    Raises: UsageError, without `overwrite`, or where that run is still going on.
    """
    for place in places:
        _refuse_running(place)
    standing = _standing(places)
    if standing and not overwrite and not _replaceable(places):
        raise UsageError(f"{standing[0]}: a run was cut off here: --resume goes on with it, --overwrite begins anew")
    discard(places)


def begin_anew(places: Sequence[Path], key: Mapping[str, Any], overwrite: bool) -> None:
    """Remove what an earlier run kept, for a run that keeps what it does from the start.

    Raises: UsageError, as `refuse_checkpoint`; also where it was this same run, which can go on.
    """
    standing = _standing(places)
    if standing and not overwrite and _fingerprint_in(standing[0]) == json.loads(json.dumps(key)):
        raise UsageError(
            f"{standing[0]}: this same run was cut off: add --resume to go on after the frames that are done, or "
            "--overwrite to begin anew"
        )
    refuse_checkpoint(places, overwrite)


def _standing(places: Sequence[Path]) -> list[Path]:
    """Return the places where a run was cut off."""
    return [place for place in places if _fingerprint_in(place) is not None and not (place / "published").exists()]


def _replaceable(places: Sequence[Path]) -> bool:
    """Return whether nobody asked to keep what is there, and no output was given its name."""
    return (places[0] / _UNASKED).exists() and not (places[0] / "publishing").exists()


def discard(places: Sequence[Path]) -> None:
    """Remove what is kept; the first place last, since its run.json names the run.

    The fingerprint goes before the rest: a removal that is cut off must leave nothing that looks like a run.
    """
    for place in reversed(places):
        with suppress(OSError):
            (place / "run.json").unlink(missing_ok=True)
        remove(place)


def _fingerprint_in(place: Path) -> dict[str, Any] | None:
    """Read the fingerprint of the run that is kept in a hidden folder; None where there is none."""
    try:
        kept = parse_json((place / "run.json").read_text(encoding="utf-8") or "null")
    except OSError:
        return None
    except ValueError as error:
        kept = {_DAMAGED: str(error)}
    return kept if isinstance(kept, dict) else None


def difference(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> str:
    """Name the first value that is not the same."""
    for name in dict.fromkeys([*old, *new]):
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            return difference(was, now, f"{above}{name}: ")
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
    """Lock a place until the process ends, where the system can: two runs must not write to one place."""
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
