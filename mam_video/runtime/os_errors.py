"""Turn errors of the operating system into one line for the user."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mam_video.core.errors import MediaError


def reason(error: BaseException) -> str:
    """Describe an error in one line, without its error number."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return "no space left on the disk; free some space, or write elsewhere"
    if getattr(error, "errno", None) in (errno.EFBIG, errno.EDQUOT):
        return "the file has reached a quota or a file size limit; write elsewhere"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


@contextmanager
def writing(path: Path, *foreign: type[Exception]) -> Iterator[None]:
    """Turn OSError, MemoryError and `foreign` errors into one MediaError that names `path`."""
    errors: tuple[type[Exception], ...] = (OSError, MemoryError, *foreign)
    try:
        yield
    except errors as error:
        raise MediaError(f"{path}: cannot be written ({reason(error)})") from error
