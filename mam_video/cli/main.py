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

from mam_video.cli.help_levels import COMMON
from mam_video.cli.parser import Parser, check_command
from mam_video.cli.say import say
from mam_video.core.errors import MamVideoError
from mam_video.core.untrusted import line_of

# Each command: its module, the function there that adds its options, and its line in `mam-video --help`. Only the
# module of the command that is run is imported.
COMMANDS = {
    "matte": ("matte", "configure", "matte a clip"),
    "batch": ("batch", "configure", "matte a list of shots"),
    "job": ("job", "configure", "write a shot as a job file for a render manager"),
    "task": ("task", "configure", "run one task of a job file"),
    "preview": ("preview", "configure", "matte one frame over a checker; estimate time and disk for the clip"),
    "studio": ("studio", "configure", "matte clips in the browser: point, look, correct, run"),
    "still": ("still", "configure", "matte single pictures"),
    "frame": ("frame", "configure", "write one frame with a ruler, or with what can be found in it"),
    "info": ("inspect", "configure_info", "print what is known of a clip, and what is assumed"),
    "prompts": ("prompts", "configure", "print, check and draw a file of prompts"),
    "verify": ("inspect", "configure_verify", "read a matte back and compare it with its plate"),
    "evaluate": ("evaluate", "configure", "score mattes against ground truth"),
    "train": ("train", "configure", "train a model by a recipe"),
    "models": ("models", "configure", "list the models: size, licence, and how to get them"),
    "weights": ("weights", "configure", "list, download, add and verify weight files"),
    "config": ("config", "configure", "print the settings that hold and their sources; list the presets"),
}
_DESCRIPTION = """\
Matte a whole clip from one box on its first frame.

examples:
  mam-video frame plate.mov --grid
  mam-video preview plate.mov --box 412,96,890,1010
  mam-video matte plate.mov --box 412,96,890,1010 -o matte.mov
"""
_EPILOG = """\
mam-video COMMAND --help shows a command's options.

exit codes: 0 done, 1 failed, 2 wrong usage, 3 done with flagged frames (--strict), 130 stopped by Ctrl-C
"""


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"mam-video {version('mam-video')}")
        parser.exit()


class _Completion(argparse.Action):
    """Prints the script of a shell, or puts it where the shell finds it."""

    def __call__(self, parser: argparse.ArgumentParser, _: Any, shell: Any, option: str | None = None) -> None:
        from mam_video.cli import completion

        whole = build_parser()
        if self.dest == "show_completion":
            print(completion.script(shell, whole), end="")
        else:
            for line in completion.install(shell, whole):
                say(line)
        parser.exit()


_COMPLETION = ("--show-completion", "--install-completion")


def build_parser(command: str | None = None) -> Parser:
    """Make the program's parser. Only `command` gets its options; every command does where it is None."""
    parser = Parser(prog="mam-video", description=_DESCRIPTION, usage="mam-video COMMAND ... [options]")
    parser.epilog = _EPILOG
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    parser.add_argument(
        "--install-completion", action=_Completion, nargs="?", metavar="SHELL",
        help="complete commands and options with Tab in bash, zsh or fish (default: your shell)",
    )  # fmt: skip
    parser.add_argument(
        "--show-completion", action=_Completion, metavar="SHELL", help="print the script that does so: bash, zsh, fish"
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser, prog=parser.prog
    )
    for name, (module, configure, says) in COMMANDS.items():
        parser.commands[name] = commands.add_parser(name, help=says)
        if command in (None, name):
            getattr(import_module(f"mam_video.cli.{module}"), configure)(parser.commands[name])
            _shorten(parser.commands[name], name)
    return parser


def _shorten(parser: Parser, name: str) -> None:
    """Give a command and its actions a short help where they have many options."""
    if name in COMMON:
        parser.shorten(COMMON[name])
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner, child in action.choices.items():
                _shorten(child, f"{name} {inner}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be UTF-8: other bytes are printed escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    limit_spinning(os.environ)
    try:
        if given[:1] == ["help"]:  # as git and others have it: help matte
            given = [*given[1:], "--help"]
        asks = bool(given) and given[0].partition("=")[0] in _COMPLETION  # its value is no command
        command = "" if asks else check_command(given, list(COMMANDS))
        parser = build_parser(command)
        options, extras = parser.parse_known_args(given)
        if getattr(options, "json", None) is True:
            extras = [text for text in extras if text != "-"]  # --json prints to standard output; - says so
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
