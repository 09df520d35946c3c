"""`mam-video weights`: which weight files are known, where they lie, and how they come here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mam_video.cli.say import say
from mam_video.core.errors import WeightsError
from mam_video.core.untrusted import printable


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "weights",
        help="list, fetch, add and verify weight files",
        description="Weight files lie in a folder of your own cache, or in the one that MAM_VIDEO_WEIGHTS names.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="the known files, and which are here")
    listing.set_defaults(run=_list)

    fetching = actions.add_parser("get", help="fetch SAM's weights from where Meta publishes them")
    fetching.add_argument("name", nargs="+", help="as `mam-video weights list` names them")
    fetching.set_defaults(run=_get)

    adding = actions.add_parser("add", help="take in a checkpoint that you have, as those of MAM")
    adding.add_argument("path", type=Path)
    adding.add_argument("--name", default="", help="what it is, where the file's name does not tell")
    adding.add_argument("--link", action="store_true", help="link instead of copying")
    adding.set_defaults(run=_add)

    verifying = actions.add_parser("verify", help="read every file again and compare its SHA-256")
    verifying.set_defaults(run=_verify)
    for action in (listing, fetching, adding, verifying):
        action.add_argument("--debug", action="store_true", help="show tracebacks")


def _list(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mam_video.models import weights

    table = Table("name", "file", "MB", "here", "comes by", box=None, pad_edge=False)
    for item in weights.list_weights():
        size = f"{item.size / 1e6:.0f}" if item.size is not None else "?"
        comes = f"mam-video weights get {item.name}" if item.url else "mam-video weights add PATH"
        table.add_row(
            escape(printable(item.name)),
            escape(printable(item.path.name)),
            size,
            "yes" if item.present else "no",
            comes,
        )
    console = Console(soft_wrap=True)
    console.print(table)
    say(f"folder: {weights.folder()}")
    return 0


def _get(options: argparse.Namespace) -> int:
    from mam_video.models import weights

    for name in options.name:
        with _bar(name) as told:
            path = weights.get(name, told)
        say(f"{name}: {path}")
    return 0


def _add(options: argparse.Namespace) -> int:
    from mam_video.models import weights

    with _bar(options.path.name) as told:
        path = weights.add(options.path, options.name, link=options.link, progress=told)
    say(f"{options.path.name}: {path} (SHA-256 {weights.hash_of(path)})")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from mam_video.models import weights

    found = weights.verify()
    for item in found:
        say(f"{item.name}: {item.problem or 'as it should be'} ({item.path})")
    if not found:
        say(f"no weight files in {weights.folder()}")
    wrong = [item for item in found if item.problem]
    if wrong:
        raise WeightsError(f"{len(wrong)} of {len(found)} files are not as they should be: {wrong[0].path.name}")
    return 0


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(name, total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield told
