"""`mam-video train`: a recipe in, weights out."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from mam_video.cli.say import say
from mam_video.training.recipes import add_arguments, parse_changes, train


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "train",
        help="train a model by a recipe",
        description="Train a model. The recipe's `out` gets its weights, and what is needed to go on.",
    )
    parser.set_defaults(run=run)
    add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def run(options: argparse.Namespace) -> int:
    try:
        train(options.config, resume=options.resume, changes=parse_changes(options.set))
    except KeyboardInterrupt:
        if options.debug:
            raise
        say("mam-video: interrupted; `--resume` goes on from what was saved last", file=sys.stderr)
        return 130
    return 0
