"""Draw the states along the clip and the curves of the page. They span at most 1000 columns."""

from __future__ import annotations

from collections.abc import Sequence

from mam_video.core.frames import Record
from mam_video.report.markup import escape, label
from mam_video.report.run import RunReport

_COLUMNS = 1000  # maximum number of columns of timeline and curves; a column holds one frame or more
_HEIGHT = 100  # height of a curve, in SVG units
# States from good to bad. A timeline column of several frames shows the worst state.
_ORDER = ("tracked", "prompted", "recovered", "uncertain", "cut", "lost")


def curves(report: RunReport) -> str:
    """Draw the curves of a run, one below the other."""
    records = report.records
    drawn = [
        _curve("Score", "the model's own estimate of mask quality, 0 to 1", [r.score for r in records], top=1.0),
        _curve("Area", "mask area, % of the frame", [100 * r.area for r in records]),
        _curve("Agreement", "IoU of matte and mask, 0 to 1", [r.agreement for r in records], top=1.0),
        _curve(
            "Flicker", "alpha change not explained by motion, % of the subject", [_percent(r.flicker) for r in records]
        ),
        _curve("Seconds", "time per frame", list(report.frame_seconds)),
    ]
    return "".join(drawn)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _spans(count: int) -> list[tuple[int, int]]:
    """Divide `count` frames into at most `_COLUMNS` columns. Returns (start, stop) of each, half-open."""
    columns = max(min(count, _COLUMNS), 1)
    return [(k * count // columns, (k + 1) * count // columns) for k in range(columns)]


def timeline(records: Sequence[Record]) -> str:
    """Draw the states as coloured rectangles, with a line at each cut.

    Neighbouring columns of one state share a rectangle. A column of several frames shows the worst state.
    """
    spans = _spans(len(records))
    states = [str(max((r.state for r in records[a:b]), key=lambda s: _ORDER.index(s))) for a, b in spans if a < b]
    parts, start = [], 0
    for k in range(1, len(states) + 1):
        if k == len(states) or states[k] != states[start]:
            parts.append(f'<rect class="s-{states[start]}" x="{start}" width="{k - start}" height="10"/>')
            start = k
    parts += [
        f'<rect class="edge" x="{k}" width="{max(len(states) / 600, 0.1):.3g}" height="10"/>'
        for k, (a, b) in enumerate(spans)
        if any(r.cut for r in records[a:b])
    ]
    return (
        f'<svg class="timeline" viewBox="0 0 {max(len(states), 1)} 10" preserveAspectRatio="none" role="img" '
        f'aria-label="states of the frames along the clip">{"".join(parts)}</svg>'
    )


def _curve(name: str, description: str, values: Sequence[float | None], top: float | None = None) -> str:
    """Draw a curve as the band between the minimum and maximum of each column, so that no peak is lost."""
    known = [v for v in values if v is not None]
    if not known:
        return ""
    top_value = top if top is not None else max(known) * 1.05 or 1.0
    spans = _spans(len(values))
    runs: list[list[tuple[float, float, float]]] = [[]]
    for k, (a, b) in enumerate(spans):
        column_values = [v for v in values[a:b] if v is not None]
        if column_values:
            runs[-1].append((k + 0.5, _y(max(column_values), top_value), _y(min(column_values), top_value)))
        elif runs[-1]:
            runs.append([])
    paths = []
    for run in filter(None, runs):
        highs = [f"{x:g},{high:g}" for x, high, _ in run]
        lows = [f"{x:g},{low:g}" for x, _, low in reversed(run)]
        paths.append(f'<path d="M{"L".join(highs)}{"L" + "L".join(lows)}Z"/>')
    text = f"{name}: {description}; from {min(known):.3g} to {max(known):.3g}"
    return (
        f'<figure class="curve"><figcaption><b>{name}</b> {description}'
        f'<span class="value" data-curve="{name.lower()}"></span></figcaption>'
        f'<svg viewBox="0 0 {len(spans)} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(text)}"><line class="grid" x1="0" x2="{len(spans)}" y1="{_HEIGHT / 2}" '
        f'y2="{_HEIGHT / 2}"/>{"".join(paths)}</svg><span class="most">{top_value:.3g}</span></figure>'
    )


def _y(value: float, top_value: float) -> float:
    return round(_HEIGHT - 2 - (_HEIGHT - 4) * min(max(value / top_value, 0.0), 1.0), 1)


def axis(report: RunReport) -> str:
    """Label the time axis with up to five frame numbers."""
    records = report.records
    places = sorted({round(k * (len(records) - 1) / 4) for k in range(5)})
    return "".join(f"<span>{escape(label(records[p].index, report))}</span>" for p in places)


def columns(report: RunReport) -> list[dict[str, str]]:
    """Return what the pointer shows for each column: label and values of its worst frame."""
    rows = []
    for a, b in _spans(len(report.records)):
        place = max(range(a, b), key=lambda k: _ORDER.index(report.records[k].state), default=None)
        if place is None:
            continue
        r, s = report.records[place], report.frame_seconds[place]
        any_cut = any(record.cut for record in report.records[a:b])
        agreement, flicker = r.agreement, _percent(r.flicker)
        rows.append({
            "label": f"{label(r.index, report)} · {r.state}" + (" · a new shot" if any_cut else ""),
            "score": f"{r.score:.2f}", "area": f"{100 * r.area:.2f} %", "seconds": f"{s:.3f} s",
            "agreement": "" if agreement is None else f"{agreement:.2f}",
            "flicker": "" if flicker is None else f"{flicker:.1f} %",
        })  # fmt: skip
    return rows
