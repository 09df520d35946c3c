"""Write small result files completely or not at all."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from mam_video.core.errors import MediaError


def write_json(path: Path, content: Any, what: str) -> None:
    """Write `content` as JSON to `path`. Errors call it `what`.

    A hidden file beside `path` is written first and then renamed.
    Raises: MediaError, the file cannot be written.
    """
    write_text(path, json.dumps(content, indent=1) + "\n", what)


def write_text(path: Path, content: str, what: str) -> None:
    """Write `content` as UTF-8 to `path`, as `write_json` does.

    Characters that UTF-8 cannot encode (they occur in file names) become question marks.
    """
    beside = path.with_name(f".{path.name}.part-{secrets.token_hex(4)}")
    try:
        beside.write_text(content, encoding="utf-8", errors="replace")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise MediaError(f"{path}: cannot write {what} ({error.strerror or error})") from error
