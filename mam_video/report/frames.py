"""The frames that the page shows: cards of flagged ones, a strip along the clip, and what scripts need of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mam_video.core.frames import Record
from mam_video.core.geometry import Box
from mam_video.prompts.prompt import DEFAULT_SUBJECT
from mam_video.report.markup import data_url, escape, label
from mam_video.report.pictures import SUBJECT_COLOURS, Picture
from mam_video.report.proposals import Proposal
from mam_video.report.rerun import Rerun, whole
from mam_video.report.run import RunReport
from mam_video.report.sentences import sentences
from mam_video.report.thumbnails import Thumbnails


@dataclass(frozen=True, slots=True)
class Item:
    """A frame on the page.

    row       a record for each subject
    place     of the subject that a card is about; None: the frame is of the strip
    proposal  a box to correct it with; None if it needs to be drawn
    """

    row: tuple[Record, ...]
    place: int | None
    proposal: Proposal | None
    picture: Picture

    @property
    def index(self) -> int:
        """Index of the frame, counted from 0."""
        return self.row[0].index

    @property
    def shown(self) -> Sequence[Record]:
        """Return the records that the item is about."""
        return self.row if self.place is None else (self.row[self.place],)


def items_of(report: RunReport, thumbnails: Thumbnails) -> tuple[list[Item], list[Item]]:
    """Return the cards and the strip of a run."""
    cards = [Item(t.row, t.place, t.proposal, t.picture) for t in thumbnails.found]
    rows = {row[0].index: row for row in report.parts or [(record,) for record in report.records]}
    # A frame of the strip may have been flagged by a later one: the report knows.
    strip = [Item(rows.get(row[0].index, row), None, None, picture) for row, picture in thumbnails.even]
    return cards, strip


def subjects_of(report: RunReport) -> tuple[str, ...]:
    """Return the names of the subjects, in the order of every row."""
    if report.rerun is not None and not report.rerun.refused:
        return report.rerun.subjects
    return tuple(r.subject for r in report.parts[0]) if report.parts else (DEFAULT_SUBJECT,)


def legend(subjects: Sequence[str]) -> str:
    """Render which colour is whose; empty for a single subject."""
    if len(subjects) < 2:
        return ""
    entries = "".join(f'<li><i class="c{_colour(k)}"></i>{escape(name)}</li>' for k, name in enumerate(subjects))
    return f'<ul class="legend" aria-label="colours of the subjects">{entries}</ul>'


def colours_css() -> str:
    """Return the colours of the subjects as style rules."""
    return "\n".join(
        f"  .c{k} {{ --own: rgb({r} {g} {b}); background: var(--own); stroke: var(--own); }}"
        for k, (r, g, b) in enumerate(SUBJECT_COLOURS)
    )


def strip_html(strip: Sequence[Item], first: int, report: RunReport) -> str:
    """Render the frames along the clip; `first` is the number of the first one among all items."""
    figures = "".join(
        f'<li>{_picture(item, first + k, "cut", report)}<span><i class="s-{_worst(item, report)}"></i>'
        f"{escape(label(item.index, report))}</span></li>"
        for k, item in enumerate(strip)
    )
    return f'<ol class="strip">{figures}</ol>'


def cards_html(cards: Sequence[Item], report: RunReport) -> str:
    """Render the cards of the flagged frames; they are the first of all items."""
    return "".join(_card(item, k, report) for k, item in enumerate(cards))


def items_data(items: Sequence[Item], report: RunReport) -> list[dict[str, Any]]:
    """Return what the scripts need of each item, in the order of the page."""
    size = report.clip.size
    return [
        {
            "index": item.index,
            "number": report.clip.frame_number(item.index),
            "label": label(item.index, report),
            "state": str(_worst(item, report)),
            "why": _why(item, several=len(item.row) > 1),
            "subject": item.place,
            "boxes": [_corners(r.box, size) if r.area > 0 else None for r in item.row],
            "proposal": None if item.proposal is None else _corners(item.proposal.box, size),
            "from": None if item.proposal is None else report.clip.frame_number(item.proposal.index),
            "lost": item.place is not None and not item.row[item.place].area > 0,
        }
        for item in items
    ]


def rerun_data(report: RunReport, subjects: Sequence[str]) -> dict[str, Any]:
    """Return what the scripts need to make a command of corrections."""
    rerun = report.rerun or Rerun(subjects=tuple(subjects))
    return {**rerun.as_dict(), "refused": rerun.refused}


def _card(item: Item, number: int, report: RunReport) -> str:
    (record,) = item.shown
    several = len(item.row) > 1 and item.place is not None
    owner = f'<span class="owner"><i class="c{_colour(item.place or 0)}"></i>{escape(record.subject)}</span>'
    reasons = "; ".join(sentences(record.findings))
    return (
        f'<article class="card" data-item="{number}">{_picture(item, number, "tint", report)}'
        f'<h3><i class="s-{record.state}"></i>{escape(label(item.index, report))} · {record.state}'
        f"{owner if several else ''}</h3><p>{escape(reasons)}</p>"
        '<p class="box soft"></p><div class="actions">'
        '<label><input type="checkbox" disabled> Correct this frame</label>'
        '<button type="button" class="set">Set the box</button></div></article>'
    )


def _picture(item: Item, number: int, view: str, report: RunReport) -> str:
    """Render the picture of an item as a button that enlarges it."""
    h, w = report.clip.size
    text = f"{label(item.index, report)}, {_worst(item, report)}"
    if item.place is not None and len(item.row) > 1:
        text += f", {item.row[item.place].subject}"
    boxes = "".join(
        f'<rect class="c{_colour(k)}" x="{x0}" y="{y0}" width="{x1 - x0}" height="{y1 - y0}"/>'
        for k, record in enumerate(item.row)
        if item.place == k and record.area > 0
        for x0, y0, x1, y1 in [_corners(record.box, (h, w))]
    )
    picture = item.picture
    size = f'width="{picture.size[1]}" height="{picture.size[0]}"'
    return (
        f'<button type="button" class="picture" data-item="{number}" aria-label="{escape(text)}: enlarge">'
        f'<span class="layers {view}"><img class="plate" src="{data_url(picture.plate, "image/jpeg")}" {size} alt="">'
        f'<img class="matte" src="{data_url(picture.matte, "image/png")}" {size} alt="">'
        f'<svg viewBox="0 0 {w} {h}" preserveAspectRatio="none" aria-hidden="true">{boxes}</svg></span></button>'
    )


def _worst(item: Item, report: RunReport) -> str:
    """Return the state of an item: of a card that of its subject, else the worst."""
    if item.place is not None:
        return str(item.row[item.place].state)
    first = report.records[0].index if report.records else 0
    return str(report.records[item.index - first].state if report.records else item.row[0].state)


def _why(item: Item, *, several: bool) -> str:
    """Return the reasons of an item, of a frame of the strip those of all its flagged subjects."""
    texts = []
    for record in item.shown:
        if item.place is not None or record.flagged:
            reasons = "; ".join(sentences(record.findings))
            texts.append(f"{record.subject}: {reasons}" if several and item.place is None else reasons)
    return "; ".join(filter(None, texts))


def _colour(place: int) -> int:
    return place % len(SUBJECT_COLOURS)


def _corners(box: Box, size: tuple[int, int]) -> list[int]:
    """Return a box in whole pixels inside a frame of `size` (H, W)."""
    return [int(v) for v in whole(box, size).xyxy]
