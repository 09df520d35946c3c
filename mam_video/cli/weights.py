"""`mam-video weights`: list, download, add and verify weight files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mam_video.cli.options import add_debug
from mam_video.cli.say import say
from mam_video.core.errors import UsageError, WeightsError
from mam_video.core.untrusted import printable

_DESCRIPTION = """\
List, download, add and verify weight files, kept in your cache or in the folder that MAM_VIDEO_WEIGHTS names.

examples:
  mam-video weights get sam-vit-b
  mam-video weights get sam2.1-base-plus
  mam-video weights add ~/Downloads/mam_vitb.pth --name mam-vit-b
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `mam-video weights`."""
    parser.description = _DESCRIPTION
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(
        name: str, says: str, act: Callable[[argparse.Namespace], int], example: str = ""
    ) -> argparse.ArgumentParser:
        shown = f"{says[0].upper()}{says[1:]}.\n\nexample:\n  mam-video weights {name}{example}\n"
        action: argparse.ArgumentParser = actions.add_parser(name, help=says, description=shown)
        action.set_defaults(run=act)
        return action

    listing = add("list", "print the known weight files, and which are here", _list)
    fetching = add("get", "download weights: SAM's from Meta, others from the Hugging Face hub", _get, " sam-vit-b")
    fetching.add_argument(
        "name", nargs="+", metavar="NAME", help="a name that `mam-video weights list` or `mam-video models` shows"
    )
    fetching.add_argument(
        "--revision", default="", metavar="COMMIT",
        help="of the hub (default: the commit that was fetched first, else the newest)",
    )  # fmt: skip
    adding = add("add", "add a checkpoint that you have, such as one of MAM", _add, " mam_vitb.pth --name mam-vit-b")
    adding.add_argument("path", type=Path, metavar="FILE", help="the checkpoint")
    adding.add_argument(
        "--name", default="", metavar="NAME", help="what it is, as mam-vit-b (default: by the file's name)"
    )
    adding.add_argument("--link", action="store_true", help="link the file instead of copying it")
    verifying = add("verify", "read every file and compare its SHA-256", _verify)
    for action in (listing, fetching, adding, verifying):
        add_debug(action)


def _list(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mam_video.models import weights

    table = Table("name", "file", "MB", "here", "comes by", box=None, pad_edge=False)
    for item in weights.list_weights():
        size = f"{item.size / 1e6:.0f}" if item.size is not None else "?"
        comes = f"mam-video weights get {item.name}" if item.url else "mam-video weights add PATH"
        name, file = escape(printable(item.name)), escape(printable(item.path.name))
        table.add_row(name, file, size, "yes" if item.present else "no", comes)
    console = Console(soft_wrap=True)
    console.print(table)
    say(f"folder: {weights.folder()}")
    return 0


def _get(options: argparse.Namespace) -> int:
    from mam_video.models import hub, weights
    from mam_video.models.catalogue import BY_NAME

    for name in options.name:
        if name in BY_NAME and BY_NAME[name].hub:
            path = hub.fetch(BY_NAME[name], options.revision)
            say(f"{name}: {path} (commit {hub.commit_of(path)})")
            continue
        if options.revision:
            raise UsageError(f"--revision is of the hub; {name} does not come from there")
        with _bar(name) as progress:
            path = weights.get(name, progress)
        say(f"{name}: {path}")
    return 0


def _add(options: argparse.Namespace) -> int:
    from mam_video.models import weights

    with _bar(options.path.name) as progress:
        path = weights.add(options.path, options.name, link=options.link, progress=progress)
    say(f"{options.path.name}: {path} (SHA-256 {weights.hash_of(path)})")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from mam_video.models import weights

    found = weights.verify()
    for item in found:
        say(f"{item.name}: {item.problem or 'unchanged'} ({item.path})")
    if not found:
        say(f"no weight files in {weights.folder()}")
    wrong = [item for item in found if item.problem]
    if wrong:
        raise WeightsError(f"{len(wrong)} of {len(found)} files are damaged or missing: {wrong[0].path.name}")
    return 0


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task(name, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show
