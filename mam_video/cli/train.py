"""`mam-video train`: a recipe in, weights out."""

from __future__ import annotations

import argparse
import sys

from mam_video.cli.options import add_debug
from mam_video.cli.say import say
from mam_video.training.recipes import add_arguments, parse_changes, train

_DESCRIPTION = """\
Train a model by a recipe; the folder `out` of the recipe gets the weights, and what is needed to resume.

example:
  mam-video train lite-segmenter --set data=train --set batch=4
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video train`."""
    parser.description = _DESCRIPTION
    parser.set_defaults(run=run)
    add_arguments(parser)
    add_debug(parser)


def run(options: argparse.Namespace) -> int:
    try:
        train(options.config, resume=options.resume, changes=parse_changes(options.set))
    except KeyboardInterrupt:
        if options.debug:
            raise
        say("mam-video: interrupted; `--resume` goes on from what was saved last", file=sys.stderr)
        return 130
    return 0
