"""An append-only log that survives a crash, and the hidden checkpoint folder beside an output."""

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

_ENTRY: Final = struct.Struct("<QI")  # length in bytes, checksum of length and content


class AppendLog:
    """Entries of bytes, appended one by one and read by position. Only one process may use a log at a time.

    Opening a log drops a damaged or incomplete last entry.
    Raises: MediaError, the file cannot be read or written.
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

    def __getitem__(self, position: int) -> bytes:
        with writing(self.path):
            data = self._read(self._ends[position], self._ends[position + 1])
        if data is None:
            raise MediaError(f"{self.path}: entry {position} is damaged; start the run anew without --resume")
        return data

    def __iter__(self) -> Iterator[bytes]:
        return (self[position] for position in range(len(self)))

    def append(self, data: bytes) -> None:
        entry = _ENTRY.pack(len(data), _checksum(data)) + data
        with writing(self.path):
            rest = memoryview(entry)
            while rest:  # a raw write may write only a part
                rest = rest[self._file.write(rest) or 0 :]
        self._ends.append(self._ends[-1] + len(entry))

    def cut(self, count: int) -> None:
        """Keep the first `count` entries."""
        if count < len(self):
            with writing(self.path):
                self._file.truncate(self._ends[count])
            del self._ends[count + 1 :]

    def flush(self) -> None:
        """Wait until all entries are on the disk."""
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _read(self, start: int, end: int) -> bytes | None:
        """Read the entry at byte `start`. Returns None if no complete entry ends before byte `end`."""
        self._file.seek(start)
        head = self._file.read(_ENTRY.size) if start + _ENTRY.size <= end else b""
        if len(head) < _ENTRY.size:
            return None
        length, checksum = _ENTRY.unpack(head)
        if length > end - start - _ENTRY.size:
            return None
        data = bytearray()
        while len(data) < length and (chunk := self._file.read(length - len(data))):
            data += chunk
        return bytes(data) if len(data) == length and _checksum(data) == checksum else None


def _checksum(data: bytes | bytearray) -> int:
    return zlib.crc32(data, zlib.crc32(len(data).to_bytes(8, "little")))


def checkpoint_beside(path: Path, part: str = "") -> Path:
    """Return the hidden checkpoint folder of an output. `part` distinguishes ranges of one sequence."""
    return path.with_name(f".{path.name}{part}.resume")


def flushed(path: Path) -> None:
    """Flush a file to the disk and wait for it (fsync)."""
    number = os.open(path, os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def identity(files: list[Path]) -> dict[str, Any]:
    """Identify files without reading them, by names, sizes and modification times. Raises: MediaError."""
    digest = hashlib.sha256()
    size = 0
    for path in files:
        try:
            file_stat = path.stat()
        except OSError as error:
            raise MediaError(f"{path}: cannot be read ({error.strerror or error})") from error
        size += file_stat.st_size
        digest.update(os.fsencode(f"{path.name}\0{file_stat.st_size}\0{file_stat.st_mtime_ns}\0"))
    return {"files": len(files), "bytes": size, "names and times of change": digest.hexdigest()[:16]}


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
