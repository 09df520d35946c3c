"""`mam-video`: one parser, one place where errors become a line and an exit code.

Exit codes: 0 fine, 1 failed, 2 asked wrongly, 3 finished but flagged (`--strict`), 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from mam_video.cli import evaluate, inspect, matte, preview, prompts, train, weights
from mam_video.cli.say import say
from mam_video.core.errors import MamVideoError, UsageError
from mam_video.core.untrusted import line_of


class _Parser(argparse.ArgumentParser):
    """Wrong arguments are a UsageError, so that they look like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; try `{self.prog} --help`")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mam-video", description="Matte a whole clip from one box on its first frame.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for module in (matte, preview, prompts, inspect, evaluate, train, weights):
        module.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be UTF-8; what is not is shown escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = build_parser().parse_args(given)
        options.given = given  # for a report: what to run again
        return int(options.run(options))
    except MamVideoError as error:
        if debug:
            raise
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt as error:
        if debug:
            raise
        _say(str(error) or "interrupted; nothing was left under the outputs' names")
        if threading.active_count() > 1:  # a model in the middle of a long frame: the interpreter must not wait for it
            sys.stderr.flush()
            os._exit(130)
        return 130
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        text = " ".join(str(error).split())
        _say(f"unexpected {type(error).__name__}: {text or 'no message'}; run again with --debug and report it")
        return 1


def _say(line: str) -> None:
    say(f"mam-video: {line_of(line)}", file=sys.stderr)


def _version() -> str:
    from importlib.metadata import version

    return f"mam-video {version('mam-video')}"
