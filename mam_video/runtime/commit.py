"""Give finished files their names, and never over a file that another run has put there.

A file's name is given by a rename within its folder, so that a process that is killed leaves either the old file or the
new one. Runs find each other in two ways, both by locks that end with their process:

- At the start: a hidden file or folder under construction is locked, and a second run of the same name is refused.
- At the end: names are given with the folder locked. Where a file stands that did not stand there at the start, or is
  not the one that stood there, the run is refused.

Where a file system has no locks, or no hard links, the check at the end is still made, just before the rename.
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
    """What tells a file from another one of its name; None where nothing stands there. Links are not followed."""
    try:
        state = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


class Lock:
    """An advisory lock on a file or a folder that exists; it ends with `close`, or with the process."""

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        """Raises: BlockingIOError, another holder has it, and `wait` is not asked for."""
        self._number = -1
        try:
            import fcntl
        except ImportError:  # Windows: no such locks
            return
        try:
            number = os.open(path, os.O_RDONLY)
        except OSError:  # what may not be read cannot be locked
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
    """Whether a living run holds the lock of a hidden file or folder."""
    try:
        Lock(path).close()
    except BlockingIOError:
        return True
    return False


_HELD = threading.local()  # .folders: (device, inode) of those that this thread has locked


@contextmanager
def folders_locked(folders: Iterable[Path]) -> Iterator[None]:
    """Keep other runs from giving names in these folders. May be nested in one thread.

    Folders are locked in one order for all runs, so that two runs never wait for each other.
    """
    held: set[tuple[int, int]] = getattr(_HELD, "folders", set())
    _HELD.folders = held
    found: dict[tuple[int, int], Path] = {}
    for folder in folders:
        with suppress(OSError):
            state = folder.stat()
            found[state.st_dev, state.st_ino] = folder
    new = sorted(found.keys() - held)
    with ExitStack() as stack:
        for key in new:
            stack.callback(Lock(found[key], wait=True).close)
        held.update(new)
        try:
            yield
        finally:
            held.difference_update(new)


def check_untouched(hidden: Path, final: Path, before: Stamp | None) -> None:
    """Raises: MediaError, a file stands under `final` that is not the one of `before`, nor `hidden` itself."""
    now = stamp(final)
    if now is not None and now != before and not _same(hidden, now):
        raise _taken(final)


def give_name(hidden: Path, final: Path, before: Stamp | None) -> None:
    """Rename a finished file; `before` is what stood under the final name when the run began.

    Raises: MediaError, as `check_untouched`; OSError, it cannot be renamed.
    """
    check_untouched(hidden, final, before)
    now = stamp(final)
    if now is not None and _same(hidden, now):  # linked by a run that was killed before it removed the hidden name
        hidden.unlink()
    elif now is not None:
        hidden.replace(final)
    else:
        try:
            final.hardlink_to(hidden)
        except FileExistsError:
            raise _taken(final) from None
        except OSError:  # a file system without hard links
            hidden.replace(final)
        else:
            hidden.unlink()


def _same(hidden: Path, final: Stamp) -> bool:
    there = stamp(hidden)
    return there is not None and there[:2] == final[:2]


def _taken(final: Path) -> MediaError:
    return MediaError(
        f"{final}: another run has written this file since this run began, and it was left as it is; choose another "
        "name, or run again with --overwrite"
    )


def hidden_beside(path: Path) -> Path:
    """A name of its own for a file that grows until it gets the name `path`."""
    return path.with_name(f".{path.stem}.part-{secrets.token_hex(4)}{path.suffix}")


def refuse_running(path: Path) -> None:
    """Raises: UsageError, a living run is writing the file `path` now."""
    head = f".{path.stem}.part-"
    with suppress(OSError), os.scandir(path.parent) as entries:
        names = [e.name for e in entries if e.name.startswith(head) and e.name.endswith(path.suffix)]
        if any(len(n) == len(head) + 8 + len(path.suffix) and in_use(path.parent / n) for n in names):
            raise UsageError(f"{path}: another run is writing this file now; wait for it, or choose another name")
