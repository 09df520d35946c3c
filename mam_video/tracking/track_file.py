"""Track files: the observation of every frame, to matte again without tracking again.

A zip that any tool opens:

    track.json              {"kind": "mam-video track", "version": 2, "size": [H, W], "model": ..., "mask_size": m,
                            "settings": {...}}
    frames/00000012.json    the record of frame 12, and the crop that the model looked at
    frames/00000012.f16     its logits, (m, m) float16 little-endian, all low bytes before all high bytes (the high ones
                            change slowly, so that they deflate better)
    end.json                {"frames": count, "first": index}: written last, so that its absence tells a cut file

It is streamed to disk frame by frame and renamed to its final name when whole; any frame can be read by itself.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.errors import MediaError, UsageError
from mam_video.core.frames import Frame, Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding
from mam_video.core.untrusted import parse_json
from mam_video.models.base import Model
from mam_video.motion.flow import Motion
from mam_video.runtime.commit import Lock, folders_locked, give_name, hidden_beside, in_use, refuse_running, stamp
from mam_video.runtime.lifecycle import Closeable, Transactional
from mam_video.runtime.streams import closing_iter
from mam_video.tracking.types import MaskObservation, TrackedFrame

_KIND = "mam-video track"
_VERSION = 2  # 2: states "recovered" and "cut", which programs that know version 1 cannot read
_READABLE = (1, 2)
_LEVEL = 6
_LARGEST_MASK = 4096  # sides of logits; models here have 256 at most
_LARGEST_JSON = 1 << 20  # bytes of a member


class Finder(Protocol):
    """What made a track: a model, or masks of other programs."""

    @property
    def name(self) -> str: ...

    @property
    def mask_size(self) -> int: ...


class TrackWriter(Transactional):
    """Writes a track file. Nothing stands under its name before `close`; `abort` leaves nothing at all.

    As a context manager it closes where all went well and aborts where an exception passes.

    Args:
        size: (H, W) of the clip's frames.
        settings: of the run, for the record; plain values.
        part: where it grows; a hidden name of its own beside `path` where None.
    Raises: UsageError, the file exists and `overwrite` is false, or another run is writing it; MediaError, it
        cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        model: Finder,
        settings: Mapping[str, Any] | None = None,
        *,
        overwrite: bool = False,
        part: Path | None = None,
    ) -> None:
        self.path = Path(path)
        self._before = stamp(self.path)
        if self._before is not None and not overwrite:
            raise UsageError(f"{self.path}: exists already; give another name or --overwrite")
        self._part = part or hidden_beside(self.path)
        refuse_running(self.path)
        if part is not None and in_use(part):
            raise UsageError(f"{self.path}: another run is writing this file now; wait for it, or choose another name")
        self._first: int | None = None
        self._count = 0
        header = {
            "kind": _KIND,
            "version": _VERSION,
            "size": list(size),
            "model": model.name,
            "mask_size": model.mask_size,
            "settings": dict(settings or {}),
        }
        try:
            self._zip: zipfile.ZipFile | None = zipfile.ZipFile(
                self._part, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL
            )
        except OSError as error:
            raise MediaError(f"{self.path}: cannot write the track ({error.strerror or error})") from error
        self._lock = Lock(self._part)
        self._size = size
        self._mask_size = model.mask_size
        self._put("track.json", json.dumps(header, indent=1).encode())

    def write(self, tracked: TrackedFrame) -> None:
        """Add a frame; frames come in order, each once."""
        if tracked.frame.size != self._size:
            raise ValueError(f"frame {tracked.frame.index} is {tracked.frame.size}, the track's clip {self._size}")
        self.write_observation(tracked.observation)

    def write_observation(self, found: MaskObservation) -> None:
        """Add a frame without its pixels."""
        record, logits = found.record, found.logits
        if logits.shape[0] != self._mask_size:
            raise ValueError(f"logits are {logits.shape}, the track's {self._mask_size}")
        if self._first is None:
            self._first = record.index
        if record.index != self._first + self._count:
            raise ValueError(f"frame {record.index} comes after frame {self._first + self._count - 1}")
        name = _member(record.index)
        self._put(f"{name}.json", json.dumps(_as_json(record, found.crop)).encode())
        halves = logits.astype("<f2", copy=False).reshape(-1, 1).view(np.uint8)
        self._put(f"{name}.f16", np.ascontiguousarray(halves.T).tobytes())
        self._count += 1

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._zip is None:
            return
        self._put("end.json", json.dumps({"frames": self._count, "first": self._first or 0}).encode())
        try:
            self._zip.close()
            self._zip = None
            with folders_locked([self.path.parent]):
                give_name(self._part, self.path, self._before)
        except OSError as error:
            self.abort()
            raise MediaError(f"{self.path}: cannot write the track ({error.strerror or error})") from error
        except BaseException:
            self.abort()
            raise
        self._lock.close()

    def abort(self) -> None:
        """Leave nothing."""
        archive, self._zip = self._zip, None
        self._lock.close()
        if archive is not None:
            with suppress(OSError, ValueError):
                archive.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)

    def _put(self, name: str, content: bytes) -> None:
        if self._zip is None:
            raise ValueError(f"{self.path}: the track is closed already")
        try:
            # A fixed time, so that the same track is the same file.
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            self._zip.writestr(info, content, zipfile.ZIP_DEFLATED, _LEVEL)
        except OSError as error:
            self.abort()
            raise MediaError(f"{self.path}: cannot write the track ({error.strerror or error})") from error


@dataclass(frozen=True, slots=True)
class Track(Closeable):
    """An open track file. Frames are read from it when they are needed.

    size       (H, W) of the clip's frames
    first      index of its first frame; `count` frames follow each other
    model      name of the model that found it
    mask_size  m of its (m, m) logits
    settings   of the run that made it
    """

    path: Path
    size: tuple[int, int]
    first: int
    count: int
    model: str
    mask_size: int
    settings: dict[str, Any]
    _zip: zipfile.ZipFile

    @classmethod
    def load(cls, path: str | Path, size: tuple[int, int] | None = None) -> Track:
        """Open a track file; `size` (H, W) is the clip it is meant for.

        Raises: UsageError, there is no such file, it is no track, or it was made from another clip; MediaError, it is
        damaged or was cut off.
        """
        path = Path(path)
        try:
            archive = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise UsageError(f"{path}: no such track file") from None
        except zipfile.BadZipFile:
            raise UsageError(f"{path}: is not a track file, or was cut off; make it again with --save-track") from None
        except OSError as error:
            raise MediaError(f"{path}: cannot read the track ({error.strerror or error})") from None
        try:
            if "track.json" not in archive.namelist():
                raise UsageError(f"{path}: is not a track file; make one with --save-track")
            header = _json(archive, path, "track.json")
            if not isinstance(header, dict) or header.get("kind") != _KIND:
                raise UsageError(f"{path}: is not a track file; make one with --save-track")
            if header.get("version") not in _READABLE:
                raise UsageError(
                    f"{path}: is a track of version {header.get('version')}, this program reads versions "
                    f"{_READABLE[0]} to {_READABLE[-1]}"
                )
            end = _json(archive, path, "end.json")
            try:
                h, w = (int(v) for v in header["size"])
                track = cls(
                    path, (h, w), int(end["first"]), int(end["frames"]), str(header["model"]),
                    int(header["mask_size"]), dict(header["settings"]), archive,
                )  # fmt: skip
                if not 1 <= track.mask_size <= _LARGEST_MASK:
                    raise ValueError(f"mask_size {track.mask_size}")
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise MediaError(f"{path}: the track's header is damaged ({error}); make it again") from None
            _check_sizes(archive, path, track.mask_size)
            if size is not None and size != track.size:
                raise UsageError(
                    f"{path}: was made from a clip of {track.size[1]}x{track.size[0]}, this one is {size[1]}x{size[0]}"
                )
        except BaseException:
            archive.close()
            raise
        return track

    def __len__(self) -> int:
        return self.count

    def frame(self, index: int) -> MaskObservation:
        """Return what was found in frame `index`.

        Raises: UsageError, the track does not hold it; MediaError, the file is damaged.
        """
        record, crop = self._entry(index)
        raw = _content(self._zip, self.path, f"{_member(index)}.f16", 2 * self.mask_size**2)
        try:
            halves = np.frombuffer(raw, np.uint8).reshape(2, self.mask_size * self.mask_size)
        except ValueError as error:
            raise self._damaged(index, error) from None
        logits = np.ascontiguousarray(halves.T).view("<f2").reshape(self.mask_size, self.mask_size)
        h, w = self.size
        if crop.x0 + crop.width > w or crop.y0 + crop.height > h:
            raise MediaError(f"{self.path}: frame {index} of the track is damaged (view outside the frame)")
        return MaskObservation(record, crop, logits.astype(np.float16, copy=False))

    def record(self, index: int) -> Record:
        """Return the record of frame `index` without its mask. Raises: as `frame`."""
        return self._entry(index)[0]

    def _entry(self, index: int) -> tuple[Record, Crop]:
        if not self.first <= index < self.first + self.count:
            raise UsageError(
                f"{self.path}: holds frames {self.first}-{self.first + self.count - 1}; frame {index} is not among them"
            )
        entry = _json(self._zip, self.path, f"{_member(index)}.json")
        try:
            return _from_json(index, entry)
        except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
            raise self._damaged(index, error) from None

    def _damaged(self, index: int, error: Exception) -> MediaError:
        return MediaError(f"{self.path}: frame {index} of the track is damaged ({error}); make it again")

    def follow(
        self, frames: Iterable[tuple[Frame, Motion | None]], model: Model | None = None
    ) -> Generator[TrackedFrame, None, None]:
        """Yield what `tracker.track` gave for these frames, without a model; `embedding` is None.

        With `model`, crops and masks of a model of another size are resized to its own.
        Raises: UsageError, a frame is not in the track, or the track was made from another clip.
        """
        with closing_iter(frames) as source:
            for frame, motion in source:
                found = self.frame(frame.index)
                record = found.record
                if frame.size != self.size:
                    (h, w), (our_h, our_w) = frame.size, self.size
                    raise UsageError(f"{self.path}: was made from a clip of {our_w}x{our_h}, this one is {w}x{h}")
                if frame.pts != record.pts:
                    raise UsageError(
                        f"{self.path}: was made from a different clip: its frame {frame.index} has another time "
                        f"({record.pts} there, {frame.pts} here)"
                    )
                if model is not None:
                    found = found.resized(model.view_size, model.mask_size)
                yield TrackedFrame(frame, None if record.cut else motion, found)

    def close(self) -> None:
        self._zip.close()


def saved(tracked: Iterable[TrackedFrame], writer: TrackWriter) -> Generator[TrackedFrame, None, None]:
    """Pass frames on unchanged, and write each. The writer is left open: its owner closes or aborts it."""
    with closing_iter(tracked) as source:
        for item in source:
            writer.write(item)
            yield item


def packed(found: MaskObservation) -> bytes:
    """Pack what was found in a frame; `unpacked` gives every bit of it again."""
    entry = {"index": found.record.index, "m": found.logits.shape[0], **_as_json(found.record, found.crop)}
    age = np.zeros((0, 0)) if found.static_age is None else found.static_age
    entry["standing"] = len(age)
    halves = found.logits.astype("<f2", copy=False).tobytes()
    return json.dumps(entry).encode() + b"\n" + zlib.compress(halves + age.astype("<f4", copy=False).tobytes(), 1)


def unpacked(data: bytes) -> MaskObservation:
    """Unpack what `packed` gave. Raises: ValueError, KeyError or zlib.error, the data is damaged."""
    head, _, body = data.partition(b"\n")
    entry = parse_json(head)
    m, n = int(entry["m"]), int(entry["standing"])
    if not (0 < m <= _LARGEST_MASK and 0 <= n <= _LARGEST_MASK):
        raise ValueError(f"sizes {m} and {n}")
    body = zlib.decompressobj().decompress(body, 2 * m * m + 4 * n * n)
    record, crop = _from_json(int(entry["index"]), entry)
    logits = np.frombuffer(body, "<f2", m * m).reshape(m, m)
    age = np.frombuffer(body, "<f4", n * n, 2 * m * m).reshape(n, n)
    return MaskObservation(record, crop, logits.astype(np.float16), age.astype(np.float32))


def _member(index: int) -> str:
    return f"frames/{index:08d}"


def _as_json(record: Record, crop: Crop) -> dict[str, Any]:
    return {
        "pts": record.pts,
        "state": record.state.value,
        "box": record.box.xyxy,
        "score": record.score,
        "area": record.area,
        "reasons": [str(f.reason) for f in record.findings],  # programs that know no findings read this
        "findings": [f.as_dict() for f in record.findings],
        "view": [crop.x0, crop.y0, crop.width, crop.height, crop.size],
        **({"cut": True} if record.cut else {}),
    }


def _from_json(index: int, entry: dict[str, Any]) -> tuple[Record, Crop]:
    box = Box(*(float(v) for v in entry["box"]))
    if "findings" in entry:
        findings = tuple(Finding.from_dict(finding) for finding in entry["findings"])
    else:
        findings = tuple(Finding.from_text(str(text)) for text in entry["reasons"])
    record = Record(
        index, int(entry["pts"]), State(entry["state"]), box, float(entry["score"]), float(entry["area"]),
        findings, cut=bool(entry.get("cut", False)),
    )  # fmt: skip
    return record, Crop(*(int(v) for v in entry["view"]))


def _check_sizes(archive: zipfile.ZipFile, path: Path, mask_size: int) -> None:
    """Raises: MediaError, the directory names members that no track has: too large, or packed in another way."""
    most = max(_LARGEST_JSON, 2 * mask_size**2)
    for member in archive.infolist():
        if member.file_size > most:
            raise MediaError(
                f"{path}: is no track as this program writes them: {member.filename} would unpack to "
                f"{member.file_size} bytes; make it again with --save-track"
            )


def _content(archive: zipfile.ZipFile, path: Path, name: str, most: int = _LARGEST_JSON) -> bytes:
    """A member of `most` bytes at most; no more is unpacked, whatever the directory says."""
    try:
        info = archive.getinfo(name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotImplementedError("packed in an unknown way")  # those that zipfile unpacks without a bound
        if info.file_size > most:
            raise zipfile.BadZipFile(f"would unpack to {info.file_size} bytes")
        with archive.open(info) as member:
            content = member.read(most + 1)
        if len(content) > most:
            raise zipfile.BadZipFile("longer than it may be")
        return content
    except KeyError:
        raise MediaError(f"{path}: the track is not whole ({name} is missing); make it again") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise MediaError(f"{path}: the track is damaged at {name} ({error}); make it again") from None


def _json(archive: zipfile.ZipFile, path: Path, name: str) -> Any:
    try:
        return parse_json(_content(archive, path, name))
    except ValueError as error:
        raise MediaError(f"{path}: the track is damaged at {name} (no JSON: {error}); make it again") from None
