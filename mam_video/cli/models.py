"""`mam-video models`: what can be used here, its size and licence, and how to get what is missing."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from mam_video.cli.options import add_debug
from mam_video.cli.say import say

if TYPE_CHECKING:
    from mam_video.models.catalogue import Listing

_DESCRIPTION = """\
List the models: what each does, its size and licence, whether it is here, and how to get it. Any model that finds masks
can be paired with any that mattes, as MASKS+MATTES.

examples:
  mam-video models
  mam-video models --speed lite+none
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video models`."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--speed", metavar="NAME", help="measure how fast a model is on this machine (default: nothing)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto",
        help="where to measure (default: %(default)s)",
    )  # fmt: skip
    add_debug(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.speed is not None:
        return _speed(options.speed, options.device)
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mam_video.models.catalogue import LISTINGS

    table = Table("name", "does", "MB", "licence", "here", "comes by", box=None, pad_edge=False)
    for each in LISTINGS:
        if not each.hidden:
            size = "?" if each.megabytes is None else str(each.megabytes or "-")
            cells = (each.name, each.does.value, size, each.licence, _here(each), _comes(each))
            table.add_row(*(escape(cell) for cell in cells))
    Console(soft_wrap=True).print(table)
    gated = [each for each in LISTINGS if each.gated]
    for terms in dict.fromkeys(each.gated for each in gated):
        names = ", ".join(each.name for each in gated if each.gated == terms)
        say(f"{names}: accept {terms} before you fetch the weights")
    say("licences are as the authors state them; read them before you use a model")
    return 0


def _here(listing: Listing) -> str:
    from importlib.util import find_spec

    from mam_video.models import hub, weights

    if listing.family == "mam":
        names = {f"sam-{listing.variant}", listing.name}
        present = {item.name for item in weights.list_weights() if item.present}
        return "yes" if names <= present else "no"
    if not listing.hub:
        return "yes"
    if find_spec(listing.extra) is None:
        return "no"
    return "yes" if hub.is_here(listing) else "no"


def _comes(listing: Listing) -> str:
    if listing.family == "mam":
        return f"mam-video weights get sam-{listing.variant}; mam-video weights add PATH"
    if not listing.hub:
        return "in the package"
    from importlib.util import find_spec

    install = "" if find_spec(listing.extra) is not None else f"pip install 'mam-video[{listing.extra}]'; "
    return f"{install}mam-video weights get {listing.name}"


def _speed(name: str, device: str) -> int:
    """Measure a model's calls on a picture of noise."""
    from mam_video.core.settings import Settings
    from mam_video.models.registry import load_model
    from mam_video.models.speed import measure_speed

    model = load_model(Settings().with_values({"model": {"name": name, "device": device}}, "mam-video models"))
    for stage, seconds in measure_speed(model).items():
        print(f"{stage:<8} {seconds * 1000:8.1f} ms a frame")
        sys.stdout.flush()
    return 0
