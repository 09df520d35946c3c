"""A crash-safe file that only grows, and the hidden folders beside an output."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mam_video.core.errors import MediaError
from mam_video.runtime.os_errors import writing

_ENTRY: Final = struct.Struct("<QI")  # length, check sum of length and content


class AppendLog:
    """Entries, appended one by one and read again by their place. Not for two processes at once.

    Raises: MediaError, where the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ends = [0]
        with writing(path):
            self._file = path.open("a+b", buffering=0)
            size = path.stat().st_size
            while (data := self._read(self._ends[-1], size)) is not None:
                self._ends.append(self._ends[-1] + _ENTRY.size + len(data))
            self._file.truncate(self._ends[-1])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> bytes:
        with writing(self.path):
            data = self._read(self._ends[place], self._ends[place + 1])
        if data is None:
            raise MediaError(f"{self.path}: entry {place} is damaged; start the run anew without --resume")
        return data

    def __iter__(self) -> Iterator[bytes]:
        return (self[place] for place in range(len(self)))

    def append(self, data: bytes) -> None:
        entry = _ENTRY.pack(len(data), _sum(data)) + data
        with writing(self.path):
            left = memoryview(entry)
            while left:  # a raw write may take less than it was given
                left = left[self._file.write(left) or 0 :]
        self._ends.append(self._ends[-1] + len(entry))

    def cut(self, count: int) -> None:
        """Keep the first `count` entries."""
        if count < len(self):
            with writing(self.path):
                self._file.truncate(self._ends[count])
            del self._ends[count + 1 :]

    def close(self) -> None:
        self._file.close()

    def _read(self, start: int, end: int) -> bytes | None:
        """The content of the entry at `start`; None where no whole one lies before `end`."""
        self._file.seek(start)
        head = self._file.read(_ENTRY.size) if start + _ENTRY.size <= end else b""
        if len(head) < _ENTRY.size:
            return None
        length, check = _ENTRY.unpack(head)
        if length > end - start - _ENTRY.size:
            return None
        data = bytearray()
        while len(data) < length and (more := self._file.read(length - len(data))):
            data += more
        return bytes(data) if len(data) == length and _sum(data) == check else None


def _sum(data: bytes | bytearray) -> int:
    return zlib.crc32(data, zlib.crc32(len(data).to_bytes(8, "little")))


def checkpoint_beside(path: Path, part: str = "") -> Path:
    """The hidden folder of an output; `part` tells ranges of one sequence apart."""
    return path.with_name(f".{path.name}{part}.resume")


def flushed(path: Path) -> None:
    """Wait until the disk has a file."""
    number = os.open(path, os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def identity(files: list[Path]) -> dict[str, Any]:
    """What tells these files from others without reading them: names, sizes and times of change."""
    whole = hashlib.sha256()
    size = 0
    for path in files:
        try:
            state = path.stat()
        except OSError as error:
            raise MediaError(f"{path}: cannot be read ({error.strerror or error})") from error
        size += state.st_size
        whole.update(os.fsencode(f"{path.name}\0{state.st_size}\0{state.st_mtime_ns}\0"))
    return {"files": len(files), "bytes": size, "names and times of change": whole.hexdigest()[:16]}


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
