"""The page of a batch: a table of its shots, with links to their reports. It loads no other file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mam_video.report.files import write_json, write_text
from mam_video.report.markup import escape

INDEX, RECORD = "index.html", "batch.json"  # the files of a batch's folder, beside a folder for each shot
_STYLE = """\
:root { color-scheme: light dark; --line: #d0d0cc; --bad: #d6353c; --look: #b97e0a; --good: #2d9d5a; }
body { margin: 0 auto; max-width: 1100px; padding: 28px 24px 60px; font: 15px/1.5 system-ui, sans-serif; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; } td { overflow-wrap: anywhere; } td[class] { white-space: nowrap; }
.failed { color: var(--bad); font-weight: 600; } .flagged { color: var(--look); font-weight: 600; }
.done, .exists { color: var(--good); }
"""


@dataclass(frozen=True, kw_only=True)
class ShotRow:
    """What came of one shot of a batch.

    state    done; flagged: done, with frames to look at; exists: its outputs stood there; failed
    frames   that were matted; None: not known
    flagged  flagged frames
    seconds  that its tasks took together
    says     why it failed, or what is to be looked at, a line
    report   folder of its report, below the batch's; "" where there is none
    """

    name: str
    state: str
    frames: int | None = None
    flagged: int = 0
    seconds: float | None = None
    says: str = ""
    report: str = ""

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ShotRow:
        """Read what `batch.json` holds of a shot. Raises: TypeError, it is damaged."""
        return cls(**content)


def save_batch(rows: Sequence[ShotRow], folder: Path) -> None:
    """Write `index.html` and `batch.json`. Raises: MediaError."""
    write_json(folder / RECORD, {"version": 1, "shots": [asdict(row) for row in rows]}, "the batch's record")
    write_text(folder / INDEX, batch_page(rows), "the batch's page")


def totals(rows: Sequence[ShotRow]) -> str:
    """Count the shots by state, in one line."""
    counted = {state: sum(row.state == state for row in rows) for state in ("done", "flagged", "exists", "failed")}
    each = ", ".join(f"{count} {state}" for state, count in counted.items() if count)
    return f"{len(rows)} shot{'' if len(rows) == 1 else 's'}: {each or 'none'}"


def batch_page(rows: Sequence[ShotRow]) -> str:
    """Render the page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>batch report</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<h1>Batch</h1>\n"
        f'<p>{escape(totals(rows))}</p>\n<table>\n<thead><tr><th>shot</th><th class="number">frames</th>'
        '<th class="number">flagged</th><th class="number">seconds</th><th>state</th><th></th></tr></thead>\n<tbody>\n'
        + "".join(map(_row, rows))
        + "</tbody>\n</table>\n</body>\n</html>\n"
    )


def _row(row: ShotRow) -> str:
    name = escape(row.name)
    if row.report:
        name = f'<a href="{quote(row.report)}/report.html">{name}</a>'
    frames = "" if row.frames is None else str(row.frames)
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    return (
        f'<tr><td>{name}</td><td class="number">{frames}</td><td class="number">{row.flagged}</td>'
        f'<td class="number">{seconds}</td><td class="{row.state}">{row.state}</td><td>{escape(row.says)}</td></tr>\n'
    )
