"""Texts, data and pictures as parts of an HTML page. What comes from files is text there, never markup."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape as html_escape
from importlib import resources
from typing import Any

from mam_video.core.untrusted import printable
from mam_video.report.run import RunReport


def escape(text: str) -> str:
    """Escape a text for HTML. Invisible characters are written as visible codes."""
    return html_escape(printable(text))


def json_of(content: Any) -> str:
    """Return a value as JSON that is safe inside a script element."""
    return json.dumps(content).replace("<", "\\u003c")


def data_url(data: bytes, kind: str) -> str:
    """Return bytes as an address that holds them; `kind` is their media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def source_hash(text: str) -> str:
    """Return what a page's content security policy names a script or a style sheet by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def asset(name: str) -> str:
    """Read a file of `assets/`."""
    return resources.files("mam_video.report").joinpath("assets", name).read_text(encoding="utf-8")


def label(index: int, report: RunReport) -> str:
    """Name a frame as users call it, with its timecode if the clip has one."""
    start = report.clip.timecode
    number = report.clip.frame_number(index)
    return f"frame {number}" + (f" · {start + index}" if start is not None else "")
