"""Render the report as one HTML page that works offline.

The page loads no other file. Its size does not grow with the length of the clip.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Sequence
from html import escape as html_escape
from importlib import resources
from pathlib import Path
from string import Template

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.frames import Record
from mam_video.core.geometry import Box
from mam_video.core.untrusted import printable
from mam_video.report.files import write_text
from mam_video.report.run import FlaggedRange, RunReport
from mam_video.report.sentences import sentences
from mam_video.report.thumbnails import Thumbnail, Thumbnails

FILES = ("run.json", "report.html")  # the files that `save_report` writes
_COLUMNS = 1000  # maximum number of columns of timeline and curves; a column holds one frame or more
_HEIGHT = 100  # height of a curve, in SVG units
_SHOWN_RANGES = 200  # maximum number of rows in the table of ranges
# States from good to bad. A timeline column of several frames shows the worst state.
_ORDER = ("tracked", "prompted", "recovered", "uncertain", "cut", "lost")


def escape(text: str) -> str:
    """Escape a text for HTML. Invisible characters are written as visible codes."""
    return html_escape(printable(text))


def save_report(report: RunReport, thumbnails: Thumbnails, folder: Path) -> None:
    """Write `run.json` and `report.html` into `folder`, and replace older ones.

    The folder is made if it is missing, with those above it.
    Raises: MediaError, the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{folder}: cannot make the report's folder ({error.strerror or error})") from error
    report.save(folder / FILES[0])
    write_text(folder / FILES[1], page(report, thumbnails), "the report")


def check_folder(name: str) -> None:
    """Check that `name` can be the folder of a report.

    Raises: UsageError, the name belongs to a file, or one of its parents is a file.
    """
    folder = Path(name)
    if folder.suffix.lower() in (".json", ".html") or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"--report {name}: this names a file; give a folder for run.json and report.html")
    above = next(each for each in folder.resolve().parents if each.exists())
    if not above.is_dir():
        raise UsageError(f"--report {name}: {above} is a file, not a folder")


def page(report: RunReport, thumbnails: Thumbnails) -> str:
    """Render the whole page as HTML."""
    records = report.records
    flagged = report.flagged
    clip = report.clip
    template = Template(resources.files("mam_video.report").joinpath("page.html").read_text(encoding="utf-8"))
    pictures = thumbnails.found
    seconds = report.frame_seconds
    curves = [
        _curve("Score", "the model's own estimate of mask quality, 0 to 1", [r.score for r in records], top=1.0),
        _curve("Area", "mask area, % of the frame", [100 * r.area for r in records]),
        _curve("Agreement", "IoU of matte and mask, 0 to 1", [r.agreement for r in records], top=1.0),
        _curve(
            "Flicker", "alpha change not explained by motion, % of the subject", [_percent(r.flicker) for r in records]
        ),
        _curve("Seconds", "time per frame", list(seconds)),
    ]
    return template.substitute(
        title=escape(clip.path.name),
        path=escape(str(clip.path)),
        facts=_facts(report),
        verdict=_verdict(flagged, len(records)),
        legend="".join(f'<li><i class="s-{s}"></i>{s} <b>{n}</b></li>' for s, n in report.states().items()),
        timeline=_timeline(records),
        curves="".join(curves),
        axis=_axis(report),
        cards=_cards(pictures, flagged, report),
        first="" if thumbnails.first is None else _figure(thumbnails.first, report),
        ranges=_ranges(flagged, report),
        details=_details(report),
        columns=_columns_json(report),
    )


def correction(report: RunReport, thumbnail: Thumbnail) -> str:
    """Return the shell command that repeats the run with a new prompt on this frame.

    A run started from Python has no command; then only the `--prompt` option is returned.
    """
    number = _number(thumbnail.record.index, report)
    box = thumbnail.proposal or thumbnail.record.box.clipped(report.clip.size) or thumbnail.record.box
    whose = f"{thumbnail.record.subject}@" if thumbnail.record.subject else ""
    option = ["--prompt", f"{whose}{number}:box={_whole(box, report.clip.size)}"]
    arguments = list(report.command)
    while "--track" in arguments:  # a saved track would not be tracked again
        position = arguments.index("--track")
        del arguments[position : position + 2]
    overwriting = [] if not arguments or "--overwrite" in arguments else ["--overwrite"]
    return shlex.join([*arguments, *option, *overwriting])


def _whole(box: Box, size: tuple[int, int]) -> str:
    """Format a box in whole pixels, at least one pixel wide and high. `size` is (H, W)."""
    x0, y0 = int(box.x0), int(box.y0)
    return f"{x0},{y0},{min(max(round(box.x1), x0 + 1), size[1])},{min(max(round(box.y1), y0 + 1), size[0])}"


def _number(index: int, report: RunReport) -> int:
    """Return the frame number: the number in the file's name for a sequence, else the index."""
    return report.clip.frame_number(index)


def _label(index: int, report: RunReport) -> str:
    start = report.clip.timecode
    return f"frame {_number(index, report)}" + (f" · {start + index}" if start is not None else "")


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _spans(count: int) -> list[tuple[int, int]]:
    """Divide `count` frames into at most `_COLUMNS` columns. Returns (start, stop) of each, half-open."""
    columns = max(min(count, _COLUMNS), 1)
    return [(k * count // columns, (k + 1) * count // columns) for k in range(columns)]


def _timeline(records: Sequence[Record]) -> str:
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


def _axis(report: RunReport) -> str:
    """Label the time axis with up to five frame numbers."""
    records = report.records
    places = sorted({round(k * (len(records) - 1) / 4) for k in range(5)})
    return "".join(f"<span>{escape(_label(records[p].index, report))}</span>" for p in places)


def _columns_json(report: RunReport) -> str:
    """Return what the pointer shows for each column as JSON: label and values of its worst frame.

    The text is safe inside a script element.
    """
    rows = []
    for a, b in _spans(len(report.records)):
        place = max(range(a, b), key=lambda k: _ORDER.index(report.records[k].state), default=None)
        if place is None:
            continue
        r, s = report.records[place], report.frame_seconds[place]
        any_cut = any(record.cut for record in report.records[a:b])
        agreement, flicker = r.agreement, _percent(r.flicker)
        rows.append({
            "label": f"{_label(r.index, report)} · {r.state}" + (" · a new shot" if any_cut else ""),
            "score": f"{r.score:.2f}", "area": f"{100 * r.area:.2f} %", "seconds": f"{s:.3f} s",
            "agreement": "" if agreement is None else f"{agreement:.2f}",
            "flicker": "" if flicker is None else f"{flicker:.1f} %",
        })  # fmt: skip
    return json.dumps(rows).replace("<", "\\u003c")


def _verdict(flagged: Sequence[FlaggedRange], count: int) -> str:
    if not flagged:
        return f'<p class="verdict good">No frame of {count} was flagged.</p>'
    frames = len({index for r in flagged for index in range(r.first, r.last + 1)})
    ranges = "one range" if len(flagged) == 1 else f"{len(flagged)} ranges"
    return f'<p class="verdict flagged">Please check {ranges}: {frames} of {count} frames were flagged.</p>'


def _figure(thumbnail: Thumbnail, report: RunReport) -> str:
    """Render a thumbnail as a button that enlarges it."""
    r = thumbnail.record
    text = f"{_label(r.index, report)}: {r.state}, plate with box and matte"
    data = base64.b64encode(thumbnail.jpeg).decode()
    return (
        f'<button type="button" class="picture" aria-label="{escape(text)}; show large">'
        f'<img src="data:image/jpeg;base64,{data}" width="{thumbnail.size[1]}" height="{thumbnail.size[0]}" '
        f'alt="{escape(text)}"></button>'
    )


def _card(thumbnail: Thumbnail, report: RunReport) -> str:
    r = thumbnail.record
    reasons = "; ".join(sentences(r.findings))
    return (
        f'<article class="card" data-frame="{r.index}">{_figure(thumbnail, report)}'
        f'<h3><i class="s-{r.state}"></i>{escape(_label(r.index, report))} · {r.state}</h3>'
        f"<p>{escape(reasons)}</p>"
        f'<div class="command"><code tabindex="0">{escape(correction(report, thumbnail))}</code>'
        f'<button type="button" class="copy">Copy</button></div></article>'
    )


def _cards(pictures: Sequence[Thumbnail], flagged: Sequence[FlaggedRange], report: RunReport) -> str:
    if not pictures:
        return ""
    description = (
        "Pink: the matte. Yellow: the box around it. Dashed blue: the last reliable box. The command below a picture "
        "uses the dashed box: change its four numbers to fit this frame, then run it."
    )
    cards = "".join(_card(thumbnail, report) for thumbnail in pictures)
    more = _more(pictures, flagged)
    return f'<h2>Frames to check</h2><p class="soft">{description}</p>{more}<section class="cards">{cards}</section>'


def _more(pictures: Sequence[Thumbnail], flagged: Sequence[FlaggedRange]) -> str:
    shown = sum(thumbnail.begins for thumbnail in pictures)
    if shown >= len(flagged):
        return ""
    return f"<p>Pictures show the worst {shown} of {len(flagged)} ranges; the table lists the ranges.</p>"


def _ranges(flagged: Sequence[FlaggedRange], report: RunReport) -> str:
    if not flagged:
        return ""
    rows = "".join(
        f'<tr><td><i class="s-{r.state}"></i>{escape(f"{r.state} {r.subject}".rstrip())}</td>'
        f"<td>{escape(_label(r.first, report))}</td>"
        f"<td>{escape(_label(r.last, report))}</td><td>{r.last - r.first + 1}</td>"
        f"<td>{escape('; '.join(r.reasons[:6]))}{' …' if len(r.reasons) > 6 else ''}</td></tr>"
        for r in flagged[:_SHOWN_RANGES]
    )
    rest = len(flagged) - _SHOWN_RANGES
    more = f"<p>{rest} more ranges are listed in run.json.</p>" if rest > 0 else ""
    head = "<tr><th>State</th><th>First</th><th>Last</th><th>Frames</th><th>Why</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    return f'<h2>Ranges to check</h2><div class="scroll">{table}</div>{more}'


def _facts(report: RunReport) -> str:
    clip = report.clip
    facts = [
        f"{len(report.records)} frames",
        f"{clip.width}×{clip.height}",
        f"{float(clip.rate):.6g} fps",
        *([f"from {clip.timecode}"] if clip.timecode is not None else []),
        f"model {report.model} on {report.device}",
        f"{report.fps:.2f} frames a second",
    ]
    return escape(" · ".join(facts))


def _details(report: RunReport) -> str:
    """Render the details of the run: outputs, notes, command, stage times, weights and settings."""
    stages = [(name, f"{s:.2f} s") for name, s in report.seconds.items()]
    outputs = [(str(p), "; ".join(map(str, report.checks.get(p, []))) or "not read back") for p in report.outputs]
    settings = [
        (f"{section}.{key}", str(value)) for section, part in report.settings.as_dict().items()
        for key, value in part.items()
    ]  # fmt: skip
    parts: list[tuple[str, list[tuple[str, str]]]] = [
        ("Outputs", outputs),
        ("Notes", [("", note) for note in report.notes]),
        ("Command", [("", shlex.join(report.command))] if report.command else []),
        ("Time by stage, overlapping", stages),
        ("Weights, SHA-256", list(report.weights.items())),
        ("Settings", settings),
    ]
    return "".join(
        f"<details{' open' if name in ('Outputs', 'Notes') else ''}><summary>{name}</summary><dl>"
        + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs)
        + "</dl></details>"
        for name, pairs in parts
        if pairs
    )
