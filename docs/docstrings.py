"""Turn the package's docstrings into reStructuredText, which Sphinx expects.

They are plain text: `code` in single backticks, labels such as `Args:` and `Returns: ...`, values listed as
`name   what it is`, and examples indented after a blank line. All else stands as it is written, stars and bars too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LABEL = re.compile(r"(Args|Arguments|Attributes|Differs|Example|Examples|Note|Raises|Returns|Source|Yields):\s*(.*)")
_NAMES = r"\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*"
_ENTRY = re.compile(rf"({_NAMES}):\s+(\S.*)")
_ROW = re.compile(rf"({_NAMES}) {{2,}}(\S.*)")


def as_rst(lines: Sequence[str]) -> list[str]:
    """Return the lines of a docstring, dedented, as lines of reStructuredText."""
    made: list[str] = []
    inside = ""  # what an indented line belongs to: "entries" of a label, an "item", a "label", an "example"
    for line in lines:
        text, depth = line.strip(), len(line) - len(line.lstrip())
        label, row = _LABEL.fullmatch(line), _ROW.fullmatch(line)
        entry = _ENTRY.fullmatch(text) if inside == "entries" and depth == 4 else None
        after_blank = not made or not made[-1].strip()
        if not text:
            made.append("")
        elif label:
            made += ["", f"**{label[1]}:** {_plain(label[2])}".rstrip()]
            inside = "label" if label[2] else "entries"
        elif entry:
            made += ["", f"* **{_plain(entry[1])}**: {_plain(entry[2])}"]
        elif row:
            made += ["", f"* **{_plain(row[1])}**: {_plain(row[2])}"]
            inside = "item"
        elif inside == "example" and depth >= 4:
            made.append(line)
        elif inside in ("", "example") and depth >= 4 and after_blank:
            made += ["::", "", line]
            inside = "example"
        elif depth and inside in ("entries", "item") and made[-1].startswith(("* ", "  ")):
            made.append(f"  {_plain(text)}")
        elif depth and inside == "entries":  # a text below a label, without names
            made += [*([""] if made[-1].startswith("**") else []), _plain(text)]
        else:
            if not depth:
                made += [""] if inside else []
                inside = ""
            made.append(_plain(text))
    return made


def _plain(text: str) -> str:
    """Text whose signs mean nothing to reStructuredText, with code in double backticks."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a backtick that is never closed
        pieces = [text.replace("`", "'")]
    parts: list[str] = []
    for k, piece in enumerate(pieces):
        if k % 2:  # code; a letter right after it (`Box`es) needs an empty separator
            parts.append(f"``{piece}``" + ("\\ " if pieces[k + 1][:1].isalnum() else ""))
        else:
            parts.append(re.sub(r"([\\*|_])", r"\\\1", piece))
    return "".join(parts)
