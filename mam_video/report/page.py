"""The report as one page that opens anywhere: nothing is fetched, and its size does not grow with the clip."""

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

FILES = ("run.json", "report.html")  # what `save_report` writes
_COLUMNS = 1000  # of timeline and curves: a column holds one frame or more
_HEIGHT = 100
_SHOWN_RANGES = 200
# A state's columns in the timeline go to the worst of its frames.
_ORDER = ("tracked", "prompted", "recovered", "uncertain", "cut", "lost")


def escape(text: str) -> str:
    """A text for the page: nothing in it is markup, and what a reader would not see is shown."""
    return html_escape(printable(text))


def save_report(report: RunReport, looks: Thumbnails, folder: Path) -> None:
    """Write `run.json` and `report.html` into `folder`, made where missing; earlier ones go. Raises: MediaError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(f"{folder}: cannot make the report's folder ({error.strerror or error})") from error
    report.save(folder / FILES[0])
    write_text(folder / FILES[1], page(report, looks), "the report")


def check_folder(name: str) -> None:
    """Raises UsageError where a report cannot be a folder of this name."""
    folder = Path(name)
    if folder.suffix.lower() in (".json", ".html") or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"--report {name}: is the name of a file; give a folder, for run.json and report.html")
    above = next(each for each in folder.resolve().parents if each.exists())
    if not above.is_dir():
        raise UsageError(f"--report {name}: {above} is a file, not a folder")


def page(report: RunReport, looks: Thumbnails) -> str:
    """The whole page, as HTML."""
    records = report.records
    flagged = report.flagged
    clip = report.clip
    template = Template(resources.files("mam_video.report").joinpath("page.html").read_text(encoding="utf-8"))
    found = looks.found
    seconds = report.frame_seconds
    curves = [
        _curve("Score", "how good the model thinks its mask is, 0 to 1", [r.score for r in records], top=1.0),
        _curve("Area", "of the mask, % of the frame", [100 * r.area for r in records]),
        _curve("Agreement", "of matte and mask, 0 to 1", [r.agreement for r in records], top=1.0),
        _curve("Flicker", "change beyond the motion, % of the subject", [_percent(r.flicker) for r in records]),
        _curve("Seconds", "a frame", list(seconds)),
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
        looks=_looks(found, flagged, report),
        first="" if looks.first is None else _figure(looks.first, report),
        ranges=_ranges(flagged, report),
        details=_details(report),
        columns=_columns_json(report),
    )


def correction(report: RunReport, look: Thumbnail) -> str:
    """The command that asks for the same run with the subject shown in this frame, as a shell takes it.

    Where Python asked for the run there is no command to repeat: the option alone.
    """
    number = _number(look.record.index, report)
    box = look.proposal or look.record.box.clipped(report.clip.size) or look.record.box
    whose = f"{look.record.subject}@" if look.record.subject else ""
    option = ["--prompt", f"{whose}{number}:box={_whole(box, report.clip.size)}"]
    given = list(report.command)
    while "--track" in given:  # what is followed from a file is not tracked again
        place = given.index("--track")
        del given[place : place + 2]
    again = [] if not given or "--overwrite" in given else ["--overwrite"]
    return shlex.join([*given, *option, *again])


def _whole(box: Box, size: tuple[int, int]) -> str:
    """In whole pixels, so that it is quick to read and to type; never empty."""
    x0, y0 = int(box.x0), int(box.y0)
    return f"{x0},{y0},{min(max(round(box.x1), x0 + 1), size[1])},{min(max(round(box.y1), y0 + 1), size[0])}"


def _number(index: int, report: RunReport) -> int:
    """What the user calls the frame: its file's number, or its index."""
    return report.clip.frame_number(index)


def _label(index: int, report: RunReport) -> str:
    start = report.clip.timecode
    return f"frame {_number(index, report)}" + (f" · {start + index}" if start is not None else "")


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _spans(count: int) -> list[tuple[int, int]]:
    """First and one past the last place of each column: as many columns as frames, at most `_COLUMNS`."""
    columns = max(min(count, _COLUMNS), 1)
    return [(k * count // columns, (k + 1) * count // columns) for k in range(columns)]


def _timeline(records: Sequence[Record]) -> str:
    """Rectangles of one colour, neighbours joined; a column of several frames has the worst one's. Lines at cuts."""
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


def _curve(name: str, says: str, values: Sequence[float | None], top: float | None = None) -> str:
    """A band between least and largest value of each column: no peak is lost however long the clip is."""
    known = [v for v in values if v is not None]
    if not known:
        return ""
    most = top if top is not None else max(known) * 1.05 or 1.0
    spans = _spans(len(values))
    runs: list[list[tuple[float, float, float]]] = [[]]
    for k, (a, b) in enumerate(spans):
        here = [v for v in values[a:b] if v is not None]
        if here:
            runs[-1].append((k + 0.5, _y(max(here), most), _y(min(here), most)))
        elif runs[-1]:
            runs.append([])
    paths = []
    for run in filter(None, runs):
        highs = [f"{x:g},{high:g}" for x, high, _ in run]
        lows = [f"{x:g},{low:g}" for x, _, low in reversed(run)]
        paths.append(f'<path d="M{"L".join(highs)}{"L" + "L".join(lows)}Z"/>')
    text = f"{name}: {says}; from {min(known):.3g} to {max(known):.3g}"
    return (
        f'<figure class="curve"><figcaption><b>{name}</b> {says}<span class="value" data-curve="{name.lower()}"></span>'
        f'</figcaption><svg viewBox="0 0 {len(spans)} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(text)}"><line class="grid" x1="0" x2="{len(spans)}" y1="{_HEIGHT / 2}" '
        f'y2="{_HEIGHT / 2}"/>{"".join(paths)}</svg><span class="most">{most:.3g}</span></figure>'
    )


def _y(value: float, most: float) -> float:
    return round(_HEIGHT - 2 - (_HEIGHT - 4) * min(max(value / most, 0.0), 1.0), 1)


def _axis(report: RunReport) -> str:
    """A few frame numbers along the clip."""
    records = report.records
    places = sorted({round(k * (len(records) - 1) / 4) for k in range(5)})
    return "".join(f"<span>{escape(_label(records[p].index, report))}</span>" for p in places)


def _columns_json(report: RunReport) -> str:
    """What the pointer reads off: of each column the worst frame's label and values. Safe inside a script element."""
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
    return f'<p class="verdict flagged">Thumbnail at {ranges}: {frames} of {count} frames were flagged.</p>'


def _figure(look: Thumbnail, report: RunReport) -> str:
    """The picture as a button that shows it large."""
    r = look.record
    text = f"{_label(r.index, report)}: {r.state}, plate with box and matte"
    data = base64.b64encode(look.jpeg).decode()
    return (
        f'<button type="button" class="picture" aria-label="{escape(text)}; show large">'
        f'<img src="data:image/jpeg;base64,{data}" width="{look.size[1]}" height="{look.size[0]}" alt="{escape(text)}">'
        "</button>"
    )


def _card(look: Thumbnail, report: RunReport) -> str:
    r = look.record
    reasons = "; ".join(sentences(r.findings))
    return (
        f'<article class="look" data-frame="{r.index}">{_figure(look, report)}'
        f'<h3><i class="s-{r.state}"></i>{escape(_label(r.index, report))} · {r.state}</h3>'
        f"<p>{escape(reasons)}</p>"
        f'<div class="command"><code tabindex="0">{escape(correction(report, look))}</code>'
        f'<button type="button" class="copy">Copy</button></div></article>'
    )


def _looks(found: Sequence[Thumbnail], flagged: Sequence[FlaggedRange], report: RunReport) -> str:
    if not found:
        return ""
    says = (
        "Tinted: the matte. Yellow: its box. Dashed blue: the last box that was believed, which the command proposes; "
        "set it right for the frame before you run it."
    )
    cards = "".join(_card(look, report) for look in found)
    more = _more(found, flagged)
    return f'<h2>Frames to look at</h2><p class="soft">{says}</p>{more}<section class="looks">{cards}</section>'


def _more(found: Sequence[Thumbnail], flagged: Sequence[FlaggedRange]) -> str:
    shown = sum(look.begins for look in found)
    if shown >= len(flagged):
        return ""
    return f"<p>Pictures are of {shown} of {len(flagged)} ranges, the worst; the table lists the ranges.</p>"


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
    more = f"<p>And {rest} more: run.json lists them all.</p>" if rest > 0 else ""
    head = "<tr><th>State</th><th>First</th><th>Last</th><th>Frames</th><th>Why</th></tr>"
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    return f'<h2>Ranges to look at</h2><div class="scroll">{table}</div>{more}'


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
    """Outputs, notes, weights, stages and settings, for whoever asks later how a matte came to be."""
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
