"""What comes from files that nobody vouches for: texts made safe to print, JSON and TOML read within bounds."""

from __future__ import annotations

import json
import tomllib
import unicodedata
from typing import Any, Final

DEEPEST: Final = 64  # lists and tables within each other; files of this package need 5
LONGEST: Final = 2000  # characters of a line about an error
_MOST: Final = 1 << 63


def printable(text: str) -> str:
    r"""A text with its control characters, escape codes and text-direction marks shown: ESC is written \x1b.

    A terminal would obey them: clear, recolour or reorder what stands around. Characters that join emoji and letters
    stay. Bytes of a name that is not UTF-8 are written \xff.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in "\u200c\u200d":
        return character
    if character in "\t\n\r":
        return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def line_of(text: str) -> str:
    """A text from anywhere as one printable line of bounded length."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ... ({len(line)} characters)"


def parse_json(text: str | bytes) -> Any:
    """A JSON value. Raises: ValueError, it is none, is nested too deep, or holds a whole number beyond 64 bits."""
    try:
        return _bounded(json.loads(text))
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} deep") from None


def parse_toml(text: str) -> dict[str, Any]:
    """A TOML document. Raises: ValueError, likewise."""
    try:
        content = tomllib.loads(text)
        _bounded(content)
        return content
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} deep") from None


def _bounded(content: Any) -> Any:
    """The value itself, looked through without recursion."""
    level, depth = [content], 0
    while level:
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, int) and not -_MOST <= value < _MOST:
                raise ValueError("a number has more than 64 bits")
        level, depth = below, depth + 1
    return content
