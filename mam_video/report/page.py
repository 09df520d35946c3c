"""Render the report as one HTML page that works offline.

The page loads no other file. Its size does not grow with the length of the clip.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from string import Template
from urllib.parse import quote

from mam_video.core.errors import MediaError, UsageError
from mam_video.report import curves
from mam_video.report.files import write_text
from mam_video.report.frames import (
    Item,
    cards_html,
    colours_css,
    items_data,
    items_of,
    legend,
    rerun_data,
    strip_html,
    subjects_of,
)
from mam_video.report.markup import asset, escape, json_of, label, source_hash
from mam_video.report.pictures import SUBJECT_COLOURS
from mam_video.report.run import FlaggedRange, RunReport
from mam_video.report.thumbnails import Thumbnails

FILES = ("run.json", "report.html")  # the files that `save_report` writes
_SCRIPTS = ("corrections.js", "viewer.js", "editor.js", "curves.js")
_SHOWN_RANGES = 200  # maximum number of rows in the table of ranges
_SHOWN_REASONS = 6  # of a range


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
    write_text(folder / FILES[1], page(report, thumbnails, folder), "the report")


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


def page(report: RunReport, thumbnails: Thumbnails, folder: Path | None = None) -> str:
    """Render the whole page as HTML. `folder` is where it will lie; None: it links to no output."""
    cards, strip = items_of(report, thumbnails)
    subjects, flagged, clip = subjects_of(report), report.flagged, report.clip
    style = asset("page.css") + colours_css() + "\n"
    script = "\n".join(map(asset, _SCRIPTS))
    data = {
        "size": [clip.width, clip.height],
        "colours": len(SUBJECT_COLOURS),
        "items": items_data([*cards, *strip], report),
        "rerun": rerun_data(report, subjects),
        "columns": curves.columns(report),
    }
    return Template(asset("page.html")).substitute(
        policy=f"default-src 'none'; img-src data:; style-src {source_hash(style)}; script-src {source_hash(script)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        title=escape(clip.path.name),
        path=escape(str(clip.path)),
        facts=_facts(report),
        verdict=_verdict(flagged, len(report.records)),
        outputs=_outputs(report, folder),
        subjects=legend(subjects),
        strip=_strip(strip, len(cards), report),
        cards=_cards(cards, flagged, report),
        states="".join(f'<li><i class="s-{s}"></i>{s} <b>{n}</b></li>' for s, n in report.states().items()),
        timeline=curves.timeline(report.records),
        curves=curves.curves(report),
        axis=curves.axis(report),
        ranges=_ranges(flagged, report),
        details=_details(report),
        rerun=_rerun(report),
        data=json_of(data),
    )


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


def _verdict(flagged: Sequence[FlaggedRange], count: int) -> str:
    if not flagged:
        return f'<p class="verdict good">No frame of {count} was flagged.</p>'
    frames = len({index for r in flagged for index in range(r.first, r.last + 1)})
    ranges = "one range" if len(flagged) == 1 else f"{len(flagged)} ranges"
    return f'<p class="verdict flagged">Please check {ranges}: {frames} of {count} frames were flagged.</p>'


def _outputs(report: RunReport, folder: Path | None) -> str:
    """List the outputs with what they hold, each linked to its file, or to the folder of a sequence."""
    entries = []
    for path in report.outputs:
        files = report.files.get(path, [path])
        target = files[0] if len(files) == 1 else files[0].parent
        link = _link(report.name_of(path), target, folder)
        entries.append(f"<li>{link} <span>{escape(', '.join(report.facts_of(path)))}</span></li>")
    return f'<ul class="outputs" aria-label="outputs">{"".join(entries)}</ul>'


def _link(text: str, target: Path, folder: Path | None) -> str:
    if folder is None or not target.exists():
        return escape(text)
    try:
        relative = Path(os.path.relpath(target.resolve(), folder.resolve())).as_posix()
        place = "./" + quote(relative.encode("utf-8", "surrogateescape"))
    except ValueError:  # on another drive
        place = target.resolve().as_uri()
    return f'<a href="{escape(place)}">{escape(text)}</a>'


def _strip(strip: Sequence[Item], first: int, report: RunReport) -> str:
    if not strip:
        return ""
    views = "".join(
        f'<button type="button" data-view="{view}" aria-pressed="{str(view == "cut").lower()}">{name}</button>'
        for view, name in (("cut", "Cut out"), ("tint", "Tinted"), ("plain", "Plate"))
    )
    return (
        '<section class="along"><div class="heading"><h2>Along the clip</h2>'
        f'<div class="views" role="group" aria-label="view of the frames along the clip">{views}</div></div>'
        f"{strip_html(strip, first, report)}</section>"
    )


def _cards(cards: Sequence[Item], flagged: Sequence[FlaggedRange], report: RunReport) -> str:
    if not cards:
        return ""
    description = "Tint and thin box: what was matted. "
    if report.rerun is None or not report.rerun.refused:
        description += "Dashed box: what a correction points at. "
        description += "Enlarge a frame to set its box, tick it, and run the command below."
    more = _more(cards, flagged)
    return (
        f'<section><h2>Frames to check</h2><p class="soft">{description}</p>{more}'
        f'<div class="cards">{cards_html(cards, report)}</div></section>'
    )


def _more(cards: Sequence[Item], flagged: Sequence[FlaggedRange]) -> str:
    shown = sum(
        any(r.first <= card.index <= r.last and r.subject == card.shown[0].subject for card in cards) for r in flagged
    )
    if shown >= len(flagged):
        return ""
    return f"<p>Pictures show the worst {shown} of {len(flagged)} ranges; the table lists the ranges.</p>"


def _ranges(flagged: Sequence[FlaggedRange], report: RunReport) -> str:
    if not flagged:
        return ""
    rows = "".join(_range(r, report) for r in flagged[:_SHOWN_RANGES])
    rest = len(flagged) - _SHOWN_RANGES
    more = f"<p>{rest} more ranges are listed in run.json.</p>" if rest > 0 else ""
    names = ("State", "First", "Last", "Frames", "Worst", "Why")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<section><h2>Ranges to check</h2><div class="scroll">{table}</div>{more}</section>'


def _range(r: FlaggedRange, report: RunReport) -> str:
    reasons = r.reasons_by_frame(report.clip.numbers)
    why = "".join(f"<li>{escape(reason)}</li>" for reason in reasons[:_SHOWN_REASONS])
    more = "<li>…</li>" if len(reasons) > _SHOWN_REASONS else ""
    worst = "" if r.worst is None else str(report.clip.frame_number(r.worst))
    return (
        f'<tr><td><i class="s-{r.state}"></i>{escape(f"{r.state} {r.subject}".rstrip())}</td>'
        f"<td>{escape(label(r.first, report))}</td><td>{escape(label(r.last, report))}</td>"
        f"<td>{r.last - r.first + 1}</td><td>{worst}</td><td><ul>{why}{more}</ul></td></tr>"
    )


def _rerun(report: RunReport) -> str:
    """Render the bar with the command; it is filled by the page's script."""
    rerun = report.rerun
    if rerun is not None and rerun.refused:
        return f'<p class="refused">{escape(rerun.refused)}</p>'
    where = "" if rerun is None or not rerun.folder else f" Run it in <code>{escape(rerun.folder)}</code>."
    what = "Add these options to the run." if rerun is None else f"It replaces the outputs.{where}"
    return Template(asset("rerun.html")).substitute(what=what)


def _details(report: RunReport) -> str:
    """Render the details of the run: outputs, notes, command, stage times, weights and settings."""
    stages = [(name, f"{s:.2f} s") for name, s in report.seconds.items()]
    outputs = [(str(p), "; ".join(map(str, report.checks.get(p, []))) or "not read back") for p in report.outputs]
    settings = [
        (f"{section}.{key}", str(value)) for section, part in report.settings.as_dict().items()
        for key, value in part.items()
    ]  # fmt: skip
    parts: list[tuple[str, list[tuple[str, str]]]] = [
        ("Outputs, as read back", outputs),
        ("Notes", [("", note) for note in report.notes]),
        ("Command", [("", shlex.join(report.command))] if report.command else []),
        ("Time by stage, overlapping", stages),
        ("Weights, SHA-256", list(report.weights.items())),
        ("Settings", settings),
    ]
    return "".join(
        f"<details{' open' if name == 'Notes' else ''}><summary>{name}</summary><dl>"
        + "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs)
        + "</dl></details>"
        for name, pairs in parts
        if pairs
    )
