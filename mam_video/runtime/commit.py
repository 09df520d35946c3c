"""Commit finished files: rename each from its hidden name to its final name, never over another run's file.

The rename stays within the folder, so a killed process leaves either the old file or the new one. Locks that end with
their process detect other runs at two moments:

- At the start: the hidden file or folder is locked. A second run with the same output name is refused.
- At the end: the folder is locked during the rename. The run is refused if the final name is now taken by a file that
  was not there at the start.

On a file system without locks or hard links the check at the end is still made, just before the rename.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mam_video.core.errors import MediaError, UsageError

Stamp = tuple[int, int, int, int]  # device, inode, size in bytes, time of change in ns


def stamp(path: Path) -> Stamp | None:
    """Identify a file, to notice that another file has taken its name. None if there is no file; follows no links."""
    try:
        file_stat = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return file_stat.st_dev, file_stat.st_ino, file_stat.st_size, file_stat.st_mtime_ns


class Lock:
    """An advisory lock on an existing file or folder. It ends with `close` or with the process."""

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        """Lock `path`. Raises: BlockingIOError, another process holds the lock and `wait` is False."""
        self._number = -1
        try:
            import fcntl
        except ImportError:  # Windows has no fcntl
            return
        try:
            number = os.open(path, os.O_RDONLY)
        except OSError:  # an unreadable file cannot be locked
            return
        try:
            fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(number)
            raise
        except OSError:  # a file system without locks
            os.close(number)
            return
        self._number = number

    def close(self) -> None:
        number, self._number = self._number, -1
        if number >= 0:
            with suppress(OSError):
                os.close(number)

    def __del__(self) -> None:
        self.close()


def in_use(path: Path) -> bool:
    """Return whether a running process holds the lock of a hidden file or folder."""
    try:
        Lock(path).close()
    except BlockingIOError:
        return True
    return False


_LOCKED = threading.local()  # .folders: (device, inode) of the folders that this thread has locked


@contextmanager
def folders_locked(folders: Iterable[Path]) -> Iterator[None]:
    """Keep other runs from committing files in these folders. Calls may be nested in one thread.

    All runs lock folders in the same order, so there is no deadlock.
    """
    locked: set[tuple[int, int]] = getattr(_LOCKED, "folders", set())
    _LOCKED.folders = locked
    folder_of: dict[tuple[int, int], Path] = {}
    for folder in folders:
        with suppress(OSError):
            file_stat = folder.stat()
            folder_of[file_stat.st_dev, file_stat.st_ino] = folder
    unlocked = sorted(folder_of.keys() - locked)
    with ExitStack() as stack:
        for key in unlocked:
            stack.callback(Lock(folder_of[key], wait=True).close)
        locked.update(unlocked)
        try:
            yield
        finally:
            locked.difference_update(unlocked)


def check_untouched(hidden: Path, final: Path, before: Stamp | None) -> None:
    """Check that no other run has written `final`.

    Args:
        before: stamp of `final` when the run began; None if it did not exist.
    Raises: MediaError, `final` is neither the file of `before` nor `hidden` itself.
    """
    current = stamp(final)
    if current is not None and current != before and not _same(hidden, current):
        raise _written_by_another_run(final)


def give_name(hidden: Path, final: Path, before: Stamp | None) -> None:
    """Rename a finished file to its final name. `before` is the stamp of `final` when the run began.

    Raises: MediaError, as `check_untouched`; OSError, the rename failed.
    """
    check_untouched(hidden, final, before)
    current = stamp(final)
    if current is not None and _same(hidden, current):  # a killed run had linked it and not removed the hidden name
        hidden.unlink()
    elif current is not None:
        hidden.replace(final)
    else:
        try:
            final.hardlink_to(hidden)
        except FileExistsError:
            raise _written_by_another_run(final) from None
        except OSError:  # a file system without hard links
            hidden.replace(final)
        else:
            hidden.unlink()


def _same(hidden: Path, final: Stamp) -> bool:
    hidden_stamp = stamp(hidden)
    return hidden_stamp is not None and hidden_stamp[:2] == final[:2]


def _written_by_another_run(final: Path) -> MediaError:
    return MediaError(
        f"{final}: another run wrote this file after this run began; it was left unchanged. Choose another name, or "
        "run again with --overwrite"
    )


def hidden_beside(path: Path) -> Path:
    """Make a unique hidden name beside `path` for a file that is being written."""
    return path.with_name(f".{path.stem}.part-{secrets.token_hex(4)}{path.suffix}")


def refuse_running(path: Path) -> None:
    """Refuse to start while another run writes `path`. Raises: UsageError."""
    prefix = f".{path.stem}.part-"
    with suppress(OSError), os.scandir(path.parent) as entries:
        names = [e.name for e in entries if e.name.startswith(prefix) and e.name.endswith(path.suffix)]
        if any(len(n) == len(prefix) + 8 + len(path.suffix) and in_use(path.parent / n) for n in names):
            raise UsageError(f"{path}: another run is writing this file; wait until it ends, or choose another name")
