"""Write the pages that come from elsewhere: from the program, from the notebook, and from the repository's root.

Commands and the public API come from the program. `conf.py` calls `write_pages` before each build. Nothing here names
a command or a module: the parser and `mam_video.__all__` are walked, so a page cannot fall behind the code.
(`docs/settings.md` is written by `pipelines/tools/write_settings.py`.)
"""

from __future__ import annotations

import argparse
import base64
import enum
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mam_video
from mam_video.cli.main import build_parser

_MADE = "<!-- Made by docs/reference_pages.py from the program; edits are lost. -->\n\n"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_WIDTH = 84  # of a usage line, in characters


def write_pages(docs: Path) -> list[Path]:
    """Write every generated page into `docs/generated` and return their paths; one that is the same is left alone."""
    folder = docs / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"commands.md": commands_page(), "api.md": api_page()}
    for path in sorted(docs.parent.glob("*.md")):
        if path.stem != "README":  # the site has an index and a guide of its own
            pages[path.name.lower()] = root_page(path)
    for notebook in sorted((docs / "notebooks").glob("*.ipynb")):
        text, pictures = notebook_page(notebook)
        pages[f"{notebook.stem}.md"] = text
        for name, content in pictures.items():
            (folder / name).write_bytes(content)
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != _MADE + text:
            path.write_text(_MADE + text, encoding="utf-8")
    return [folder / name for name in pages]


# Commands


def commands_page() -> str:
    """The command reference, from the parsers of the command line."""
    parser = build_parser()
    parts = [
        "# Command reference\n",
        f"Every command and option of `{parser.prog}`, from the program's own help "
        f"(`{parser.prog} COMMAND --help` shows the same). The [guide](../guide.md) explains them by example.\n",
    ]
    for command, level in walk_parsers(parser):
        parts += _command(command, level)
    return "\n".join(parts)


def walk_parsers(parser: argparse.ArgumentParser, level: int = 2) -> Iterator[tuple[argparse.ArgumentParser, int]]:
    """Each parser that takes arguments of its own, with the level of its heading; commands before their actions."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in dict.fromkeys(action.choices.values()):  # an alias gives the same parser again
                yield child, level
                yield from walk_parsers(child, level + 1)


def _command(parser: argparse.ArgumentParser, level: int) -> list[str]:
    parts = [f"{'#' * level} `{parser.prog}`\n"]
    description, _, examples = (parser.description or "").partition("\n\n")
    if description:
        parts.append(_prose(description) + "\n")
    if examples:
        parts.append("```text\n" + textwrap.dedent(examples).strip("\n") + "\n```\n")
    usage = " ".join(_COLOURS.sub("", parser.format_usage()).split())
    lines = textwrap.wrap(usage, _WIDTH, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)
    parts.append("```text\n" + "\n".join(lines) + "\n```\n")
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
        if not actions:
            continue
        parts.append(f"**{_prose((group.title or 'options').capitalize())}**\n")
        if group.description:
            parts.append(_prose(group.description) + "\n")
        parts += ["| | |", "|---|---|", *(_option(parser, action) for action in actions), ""]
    if parser.epilog:
        parts.append("```text\n" + textwrap.dedent(parser.epilog).strip("\n") + "\n```\n")
    return parts


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """One row: the option with its value, and what it does."""
    if isinstance(action, argparse._SubParsersAction):
        names = ", ".join(f"`{name}`" for name in action.choices)
        return f"| `{action.metavar or action.dest}` | one of {names} |"
    value = "" if action.nargs == 0 else str(action.metavar or _choices(action.choices) or action.dest.upper())
    names = action.option_strings or [str(action.metavar or action.dest)]
    shown = ", ".join(
        f"`{_cell(name)}{' ' + _cell(value) if action.option_strings and value else ''}`" for name in names
    )
    filled = {**vars(action), "prog": parser.prog}
    text = (action.help or "") % filled if action.help else ""
    return f"| {shown} | {_cell(_prose(text))} |"


def _choices(choices: Any) -> str:
    return "|".join(map(str, choices)) if choices else ""


# API


def api_page() -> str:
    """The public names of the package, grouped by what they are, for Sphinx's autodoc to fill in."""
    groups: dict[str, list[str]] = {"Functions": [], "Values": [], "Errors": []}
    for name in mam_video.__all__:
        thing = getattr(mam_video, name)
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            groups["Errors"].append(name)
        elif callable(thing):
            groups["Values" if inspect.isclass(thing) else "Functions"].append(name)
    groups["Errors"].sort(key=lambda name: len(getattr(mam_video, name).__mro__))
    parts = [
        "# API reference\n",
        "The public names of `mam_video`. Everything else in the package is internal and may change without notice.\n",
    ]
    for title, names in groups.items():
        parts.append(f"## {title}\n\n```{{eval-rst}}")
        parts += [_directive(name) for name in names]
        parts.append("```\n")
    return "\n".join(parts)


def _directive(name: str) -> str:
    thing = getattr(mam_video, name)
    if not inspect.isclass(thing):
        return f".. autofunction:: mam_video.{name}\n"
    if issubclass(thing, BaseException):
        return f".. autoexception:: mam_video.{name}\n   :show-inheritance:\n"
    extra = "   :undoc-members:\n" if issubclass(thing, enum.Enum) else ""
    return f".. autoclass:: mam_video.{name}\n   :members:\n{extra}"


# Notebook


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the pictures that its stored outputs hold, by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source + "\n")
            continue
        parts.append(f"```python\n{source}\n```\n")
        for output in cell["outputs"]:
            data = output.get("data", {})
            mime = next((m for m in ("image/png", "image/jpeg") if m in data), None)
            if mime:
                name = f"{path.stem}_{number}.{mime.removeprefix('image/')}"
                pictures[name] = base64.b64decode("".join(data[mime]))
                parts.append(f"![Output of the cell above]({name})\n")
            else:
                text = "".join(output.get("text", []) or data.get("text/plain", []))
                parts.append(f"```text\n{text.rstrip()}\n```\n")
    parts.append(f"The notebook itself: [`{path.name}`](../{path.parent.name}/{path.name}).\n")
    return "\n".join(parts), pictures


# Files of the repository's root


def root_page(path: Path) -> str:
    """CONTRIBUTING.md and its like as a page of the site: its links lead to pages where there are such."""

    def moved(link: re.Match[str]) -> str:
        target, anchor = link[1], link[2] or ""
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        if target.startswith("docs/"):
            return f"](../{target.removeprefix('docs/')}{anchor})"
        if "/" not in target and target.endswith(".md") and target != "README.md":
            return f"]({target.lower()}{anchor})"
        return f"](../../{target}{anchor})"

    return re.sub(r"\]\(([^)#\s]+)(#[^)\s]*)?\)", moved, path.read_text(encoding="utf-8"))


def _prose(text: str) -> str:
    """Help text as Markdown on one line: what Markdown would take for markup stands as it is."""
    return re.sub(r"([*_<>#\[\]{}])", r"\\\1", " ".join(text.split())) if "`" not in text else _around_code(text)


def _around_code(text: str) -> str:
    pieces = " ".join(text.split()).split("`")
    return "`".join(re.sub(r"([*_<>#\[\]{}])", r"\\\1", p) if k % 2 == 0 else p for k, p in enumerate(pieces))


def _cell(text: str) -> str:
    """For a cell of a table, whose bars are its own."""
    return text.replace("|", "\\|")
