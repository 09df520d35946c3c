"""The one place where the command line prints a line."""

from __future__ import annotations

from typing import TextIO

from mam_video.core.untrusted import printable


def say(line: str, *, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """Print one line, with control characters of names and tags shown as text. To standard output by default."""
    print(printable(line), file=file, end=end, flush=flush)
