"""Turn errors of the operating system into one line for the user."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mam_video.core.errors import MediaError


def reason(error: BaseException) -> str:
    """What a foreign error says, on one line and without its number."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return "no space left on the disk; make room, or write elsewhere"
    if getattr(error, "errno", None) in (errno.EFBIG, errno.EDQUOT):
        return "the file may not grow any more (quota or file size limit); write elsewhere"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


@contextmanager
def writing(path: Path, *foreign: type[Exception]) -> Iterator[None]:
    """Raise one MediaError that names `path` in place of OSError, MemoryError and `foreign` errors."""
    errors: tuple[type[Exception], ...] = (OSError, MemoryError, *foreign)
    try:
        yield
    except errors as error:
        raise MediaError(f"{path}: cannot be written ({reason(error)})") from error
