"""Run `python -m mam_video.training`, the same command as `mam-video train`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mam_video.core.errors import MamVideoError
from mam_video.core.untrusted import line_of
from mam_video.training.recipes import add_arguments, parse_changes, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a recipe. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mam_video.training", description="Run a training recipe.")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        train(options.config, resume=options.resume, changes=parse_changes(options.set))
    except MamVideoError as error:
        print(f"mam-video: {line_of(str(error))}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
