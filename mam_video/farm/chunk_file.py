"""Chunk files: what a matte task found and converted, one entry a frame, for the task that joins them.

An `AppendLog` under a hidden name, which gets its own when whole:

    entry 0      {"job": ..., "frames": [first, stop], "device": ..., "host": ...}
    entry 1...   a line of JSON (index, seconds, a record for each subject, least and largest alpha), then for each
                 output its length and the converted frame; of a sequence its number and timecode, since its file stands
                 under its final name already. Last a small picture, where a report is wanted
    last entry   {"broken": [...], "seconds": {...}}
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mam_video.core.errors import MediaError
from mam_video.core.frames import Matted, Record
from mam_video.core.ranges import FrameRange
from mam_video.core.untrusted import parse_json
from mam_video.jobs.checkpoint import Done, DoneFrame, done_frame
from mam_video.runtime.append_log import AppendLog, flushed
from mam_video.runtime.commit import hidden_beside
from mam_video.runtime.lifecycle import Transactional
from mam_video.runtime.os_errors import writing
from mam_video.tracking.track_file import record_entry, record_of_entry

_LENGTH: Final = struct.Struct("<Q")
_NAME: Final = re.compile(r"(\d{8,})-(\d{8,})\.frames")
_NOT_WHOLE: Final = "is damaged; remove it and run its chunk again"


def chunk_name(frames: FrameRange) -> str:
    """Return the name of a chunk's file."""
    assert frames.stop is not None
    return f"{frames.start:08d}-{frames.stop - 1:08d}.frames"


def frames_in_name(name: str) -> FrameRange | None:
    """Return the frames that a chunk file is of; None: the name is no chunk file's."""
    found = _NAME.fullmatch(name)
    return None if found is None else FrameRange(int(found[1]), int(found[2]) + 1)


@dataclass(frozen=True)
class ChunkFrame:
    """One frame of a chunk.

    records    one for each subject, as in the report
    done       facts of the matte: of all subjects together; of several, then each one's
    converted  for each output what its writer unpacks
    picture    for the report's thumbnails, empty where no report is wanted
    """

    index: int
    records: tuple[Record, ...]
    done: DoneFrame
    converted: tuple[bytes, ...]
    picture: bytes


class ChunkWriter(Transactional):
    """Writes a chunk file. As a context manager it closes where all went well and leaves nothing otherwise."""

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        """`facts` are of the whole chunk, in plain values. Raises: MediaError, it cannot be written."""
        self.path = path
        self._part = hidden_beside(path)
        self._log: AppendLog | None = AppendLog(self._part)
        self._log.append(json.dumps(dict(facts)).encode())
        self.count = 0

    def add(
        self,
        matted: Matted,
        ranges: Sequence[tuple[float, float]],
        seconds: float,
        parts: Sequence[bytes],
        picture: bytes = b"",
    ) -> None:
        """Add a frame: `ranges` and `seconds` as `done_frame` takes them, `parts` what the writers packed."""
        assert self._log is not None
        mattes = matted.parts or (matted,)
        head = {
            "index": matted.record.index,
            "records": [{**record_entry(each.record), "subject": each.record.subject} for each in mattes],
            "done": [[None if math.isnan(v) else v for v in each] for each in done_frame(matted, ranges, seconds)],
        }
        body = b"".join(_LENGTH.pack(len(part)) + part for part in (*parts, picture))
        self._log.append(json.dumps(head).encode() + b"\n" + body)
        self.count += 1

    def end(self, facts: Mapping[str, Any]) -> None:
        """Add what is known at the end of the chunk; before `close`."""
        assert self._log is not None
        self._log.append(json.dumps(dict(facts)).encode())

    def close(self) -> None:
        """Give the file its name. Another of the same chunk is replaced: both hold the same frames."""
        log, self._log = self._log, None
        if log is not None:
            log.close()
            with writing(self.path):
                flushed(self._part)
                self._part.replace(self.path)

    def abort(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.close()
        self._part.unlink(missing_ok=True)


class ChunkReader:
    """Reads a chunk file, frame by frame.

    frames  that it is of; the clip may have ended before the last of them
    facts   of the whole chunk, those of its end included
    """

    def __init__(self, path: Path) -> None:
        """Raises: MediaError, it cannot be read, or is damaged."""
        self.path = path
        frames = frames_in_name(path.name)
        if frames is None or not path.is_file():
            raise MediaError(f"{path}: no such chunk file")
        self.frames = frames
        self._log = AppendLog(path)
        if len(self._log) < 2:
            raise MediaError(f"{path}: {_NOT_WHOLE}")
        try:
            self.facts: dict[str, Any] = {**parse_json(self._log[0]), **parse_json(self._log[len(self._log) - 1])}
        except (TypeError, ValueError) as error:
            raise MediaError(f"{path}: {_NOT_WHOLE} ({error})") from None

    def __len__(self) -> int:
        return len(self._log) - 2

    def __iter__(self) -> Iterator[ChunkFrame]:
        return (self.frame(position) for position in range(len(self)))

    def frame(self, position: int) -> ChunkFrame:
        """Return a frame by its place in the chunk."""
        head, _, body = self._log[position + 1].partition(b"\n")
        try:
            entry = parse_json(head)
            index = int(entry["index"])
            done = tuple(Done(*(math.nan if v is None else float(v) for v in each)) for each in entry["done"])
            own = done[1:] or done
            records = tuple(
                each.completed(replace(record_of_entry(index, record), subject=str(record["subject"])))
                for record, each in zip(entry["records"], own, strict=True)
            )
            *converted, picture = _parts(body)
            return ChunkFrame(index, records, done, tuple(converted), picture)
        except (KeyError, TypeError, ValueError, struct.error) as error:
            raise MediaError(f"{self.path}: {_NOT_WHOLE} ({error})") from None

    def close(self) -> None:
        self._log.close()


def _parts(body: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(body):
        (length,) = _LENGTH.unpack_from(body, place)
        place += _LENGTH.size + length
        if place > len(body):
            raise ValueError("cut off")
        yield body[place - length : place]
