"""Write the settings as text: `configs/default.toml`, `docs/settings.md` and what `mam-video config show` prints."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

from mam_video.core.knobs import KnobField, Section, knob_fields
from mam_video.core.sections import EDGE_KEYS, SECTIONS
from mam_video.core.settings import Settings

_WIDTH = 118
_WRITTEN_BY = "pipelines/tools/write_settings.py"


def toml_value(value: Any) -> str:
    """A value as TOML has it: true, 5, 0.75 or a text in quotes."""
    if isinstance(value, float):
        text = repr(value)
        mantissa, e, exponent = text.partition("e")
        return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}{e}{exponent}" if e else text
    return json.dumps(value, ensure_ascii=False)


def default_toml() -> str:
    """A file with every setting: its help as a comment, its default as its value."""
    lines = [
        "# Every setting with its default. `mam-video config show` prints the values that hold.",
        f"# Written by {_WRITTEN_BY} from mam_video/core/sections.py.",
    ]
    for section in SECTIONS:
        lines += ["", f"[{section.section}]"]
        for each in knob_fields(section):
            lines += [f"# {line}" for line in textwrap.wrap(_described(each), _WIDTH)]
            if each.default is None:
                lines.append(f"# {each.name} = {toml_value(each.knob.example)}")
            else:
                lines.append(f"{each.name} = {toml_value(each.default)}")
    keys = ", ".join(each.name for each in EDGE_KEYS)
    lines += ["", f"# For one of several subjects: {keys}, in place of those in [finish].", "# [edges.dancer]"]
    return "\n".join([*lines, "# grow = 2.0", ""])


def _described(each: KnobField) -> str:
    """Help, choices or bounds, and what holds where nothing is set."""
    more = _values(each)
    absent = f" Default: {each.knob.absent}." if each.knob.absent else ""
    return f"{each.knob.help}{f' [{more}]' if more else ''}{absent}"


def _values(each: KnobField) -> str:
    """The values that a setting can have, in a few words; "" where the help says it."""
    if each.choices:
        return ", ".join(each.choices)
    knob = each.knob
    bounds = "" if knob.low is None or knob.high is None else f"{knob.low:.10g} to {knob.high:.10g}"
    return " ".join(part for part in (bounds, knob.unit) if part)


def settings_page() -> str:
    """The reference page of all settings, in Markdown."""
    lines = [
        "# Settings",
        "",
        f"<!-- Written by {_WRITTEN_BY} from mam_video/core/sections.py: edit there. -->",
        "",
        "Later sources win: defaults, then `--config NAME|FILE.toml` (a preset or your own file), then",
        "`--set SECTION.KEY=VALUE`, then the options of the command line.",
        "`mam-video config show` prints every value that holds and where it comes from; `mam-video config list` names",
        "the presets. `configs/default.toml` is a complete file to copy from. In Python:",
        "",
        "```python",
        'Settings().with_file("quality").with_values({"finish": {"choke": 1}}, "my script")',
        "```",
    ]
    for section in SECTIONS:
        lines += ["", f"## `[{section.section}]`", "", *_table(section)]
    keys = ", ".join(f"`{each.name}`" for each in EDGE_KEYS)
    lines += [
        "",
        "## `[edges.SUBJECT]`",
        "",
        f"For one of several subjects, in place of the values in `[finish]`: {keys}.",
        "On the command line: `--edge 'dancer:grow=2;feather=1.5'`.",
    ]
    return "\n".join([*lines, ""])


def _table(section: type[Section]) -> list[str]:
    rows = ["| key | default | values | option | meaning |", "|---|---|---|---|---|"]
    for each in knob_fields(section):
        default = each.knob.absent or f"`{toml_value(each.default)}`"
        values = _values(each) or {bool: "true, false", str: "text"}.get(each.kind, "")
        options = ", ".join(f"`{flag}`" for flag in (*each.knob.flags, *each.knob.shortcuts))
        cells = (f"`{each.name}`", default, values, options, each.knob.help)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def shown_settings(settings: Settings, sources: Mapping[str, str]) -> str:
    """Every value that holds, as TOML, with its source as a comment; `sources` by key, defaults left out."""
    lines: list[str] = []
    for section in SECTIONS:
        part = getattr(settings, section.section)
        rows = [(each, getattr(part, each.name)) for each in knob_fields(section)]
        lines += ["", f"[{section.section}]", *_rows(rows, sources)]
    for subject, values in settings.edges.items():
        lines += ["", f"[edges.{json.dumps(subject)}]"]
        lines += [
            f"{key} = {toml_value(value)}  # {sources.get(f'edges.{subject}.{key}', 'default')}"
            for key, value in values.items()
        ]
    return "\n".join(lines[1:])


def _rows(rows: list[tuple[KnobField, Any]], sources: Mapping[str, str]) -> list[str]:
    texts = [
        f"{each.name} = {toml_value(value)}" if value is not None else f"# {each.name}: {each.knob.absent}"
        for each, value in rows
    ]
    width = max(map(len, texts))
    return [
        f"{text:{width}}  # {sources.get(each.key, 'default')}" for text, (each, _) in zip(texts, rows, strict=True)
    ]
