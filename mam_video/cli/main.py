"""`mam-video`: one parser, one place where errors become a line and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 done with flagged frames (`--strict`), 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import threading
from collections.abc import MutableMapping, Sequence
from importlib import import_module
from typing import Any

from mam_video.cli.parser import HelpFormatter, Parser, check_command
from mam_video.cli.say import say
from mam_video.core.errors import MamVideoError
from mam_video.core.untrusted import line_of

# Each command: its module, the function there that adds its options, and its line in `mam-video --help`. Only the
# module of the command that is run is imported.
COMMANDS = {
    "matte": ("matte", "configure", "matte a clip"),
    "preview": (
        "preview",
        "configure",
        "matte one frame over a checker, and estimate time and disk for the whole clip",
    ),
    "prompts": ("prompts", "configure", "print, check and draw a file of prompts"),
    "info": ("inspect", "configure_info", "print what is known of a clip, and what is assumed"),
    "frame": ("inspect", "configure_frame", "write one frame as a picture, to read coordinates from"),
    "verify": ("inspect", "configure_verify", "read a matte back and compare it with its plate"),
    "evaluate": ("evaluate", "configure", "score mattes against ground truth"),
    "train": ("train", "configure", "train a model by a recipe"),
    "weights": ("weights", "configure", "list, download, add and verify weight files"),
    "config": ("config", "configure", "print the settings that hold and where they come from; list the presets"),
}


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"mam-video {version('mam-video')}")
        parser.exit()


def build_parser(command: str | None = None) -> Parser:
    """Make the program's parser. Only `command` gets its options; every command does where it is None."""
    parser = Parser(prog="mam-video", description="Matte a whole clip from one box on its first frame.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, (module, configure, says) in COMMANDS.items():
        parser.commands[name] = commands.add_parser(name, help=says, formatter_class=HelpFormatter)
        if command in (None, name):
            getattr(import_module(f"mam_video.cli.{module}"), configure)(parser.commands[name])
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be UTF-8: other bytes are printed escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    limit_spinning(os.environ)
    try:
        command = check_command(given, list(COMMANDS))
        parser = build_parser(command)
        options, extras = parser.parse_known_args(given)
        if extras:
            parser.commands[command].refuse(extras)
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
        _say(str(error) or "interrupted; no file was left under an output's name")
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


def limit_spinning(environment: MutableMapping[str, str]) -> None:
    """Make OpenMP threads sleep soon while they wait, unless the user has set how they wait.

    On busy cores a long spin takes the time that the thread waited for needs: 18.7 s of CPU time for work of 2.8 s.
    GNU OpenMP reads this when torch is imported.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = "1000"  # what it takes itself where it has more threads than there are cores


def _say(line: str) -> None:
    say(f"mam-video: {line_of(line)}", file=sys.stderr)
