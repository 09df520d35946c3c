"""The command line's parser: errors are one line that names the command and the nearest option."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mam_video.core.errors import UsageError
from mam_video.core.tables import suggestion


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError. `commands` are the parsers of its commands, by name."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.commands: dict[str, Parser] = {}

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{_plain(message)}; try `{self.prog} --help`")

    def refuse(self, extras: Sequence[str]) -> NoReturn:
        """Raise UsageError for arguments that the command does not know, with a hint where one can be given."""
        first = extras[0]
        known = [name for action in self._actions for name in action.option_strings if action.help != argparse.SUPPRESS]
        if first.startswith("-"):
            hint = suggestion(first.partition("=")[0], known).strip()
            self.error(f"unknown option {first}" + (f" ({hint})" if hint else ""))
        if all(re.fullmatch(r"-?[\d.]+%?", text) for text in extras):
            self.error(f"{' '.join(extras)}: write the numbers of a box or point with commas, as 225,215,450,560")
        if "--output" in known:
            self.error(f"{first}: one clip is read; outputs are given with -o, as in -o {first}")
        self.error(f"unknown argument {first}")


def _plain(message: str) -> str:
    """Say an error of argparse as the checks of the settings say theirs."""
    found = re.fullmatch(r"argument (?:-\w/)?(\S+): (.*)", message, re.DOTALL)
    if not found:
        return message
    name, wrong = found[1], found[2]
    if wrong == "expected one argument":
        return f"{name} needs a value; one that begins with a minus is written {name}=VALUE"
    number = re.fullmatch(r"invalid (int|float) value: (.*)", wrong, re.DOTALL)
    if number:
        return f"{name} must be {'a whole number' if number[1] == 'int' else 'a number'}, is {number[2]}"
    choice = re.fullmatch(r"invalid choice: '(.*)' \(choose from (.*)\)", wrong, re.DOTALL)
    if choice:
        names = re.findall(r"[\w-]+", choice[2])
        hint = suggestion(choice[1], names).strip()
        return f"{name} must be one of {', '.join(names)}, is '{choice[1]}'" + (f" ({hint})" if hint else "")
    return message


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Prints descriptions and examples as they are written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)  # mam-vit-l stays one word


def check_command(given: Sequence[str], commands: Sequence[str]) -> str:
    """The command that the arguments name; "" where they name none.

    Raises: UsageError, the first word is no command.
    """
    name = next((text for text in given if not text.startswith("-")), "")
    if not name or name in commands:
        return name
    hint = suggestion(name, commands)
    if not hint and (Path(name).suffix or Path(name).exists()):
        hint = f"did you mean `mam-video matte {name} ...`? "
    raise UsageError(f"no command is called '{name}'; {hint}commands: {', '.join(commands)}")
