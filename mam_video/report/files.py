"""Results as files: whole or not at all."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from mam_video.core.errors import MediaError


def write_json(path: Path, content: Any, what: str) -> None:
    """Write `content`, which is called `what` in errors, beside `path` and rename it. Raises: MediaError."""
    write_text(path, json.dumps(content, indent=1) + "\n", what)


def write_text(path: Path, content: str, what: str) -> None:
    """The same of a text, as UTF-8; what UTF-8 cannot hold (of odd file names) becomes a question mark."""
    beside = path.with_name(f".{path.name}.part-{secrets.token_hex(4)}")
    try:
        beside.write_text(content, encoding="utf-8", errors="replace")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise MediaError(f"{path}: cannot write {what} ({error.strerror or error})") from error
