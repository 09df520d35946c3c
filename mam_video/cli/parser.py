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
        found = re.fullmatch(r"argument (\S+): expected one argument", message)
        if found:
            option = found[1].split("/")[-1]
            message = f"{option} needs a value; one that begins with a minus is written {option}=VALUE"
        raise UsageError(f"{message}; try `{self.prog} --help`")

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
