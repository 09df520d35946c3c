"""The command line's parser: errors are one line that names the command and the nearest option."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mam_video.core.errors import UsageError
from mam_video.core.tables import suggestion


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError and has two levels of help.

    commands  the parsers of its commands, by name
    common    the options that `--help` shows; empty: all of them, and there is no `--help-all`
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        self._epilog: str | Callable[[], str] | None = None
        more.setdefault("formatter_class", HelpFormatter)
        super().__init__(*args, **more)
        self.commands: dict[str, Parser] = {}
        self.common: frozenset[str] = frozenset()

    @property
    def epilog(self) -> str | None:
        """The text below the options. A function may be set too: it is called when the text is needed."""
        return self._epilog() if callable(self._epilog) else self._epilog

    @epilog.setter
    def epilog(self, text: str | Callable[[], str] | None) -> None:
        self._epilog = text

    def shorten(self, common: Iterable[str]) -> None:
        """Show only the `common` options with `--help`, and all with `--help-all`."""
        self.common = frozenset(common)
        self.add_argument("--help-all", action=_HelpAll, nargs=0, help="show every option and exit")

    def format_usage(self) -> str:
        """The usage line: arguments and required options by name, the others as [options]."""
        return f"usage: {self.usage_text()}\n"

    def usage_text(self) -> str:
        """The usage line without its first word."""
        if self.usage is not None:
            return self.usage
        words = [self.prog]
        for action in self._actions:
            name = str(action.metavar or action.dest)
            if isinstance(action, argparse._SubParsersAction):
                words.append(f"{name} ...")
            elif not action.option_strings and action.help != argparse.SUPPRESS:
                shown = f"{name} [{name} ...]" if action.nargs in ("+", "*") else name
                words.append(f"[{shown}]" if action.nargs in ("?", "*") else shown)
            elif action.required:
                words.append(f"{action.option_strings[0]} {name}")
        return " ".join([*words, "[options]"])

    def format_help(self) -> str:
        return self._formatted(self.common)

    def format_help_all(self) -> str:
        """The page of `--help-all`: every option, and what is below them."""
        return self._formatted(frozenset())

    def _formatted(self, shown: frozenset[str]) -> str:
        """The help with the options `shown`, or with all where that is empty."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage_text().replace("%", "%%"), self._actions, [], prefix=None)
        formatter.add_text(_short(self.description or "") if shown else self.description)
        groups = [(group.title, group.description, _documented(group)) for group in self._action_groups]
        if shown:
            arguments, options = (
                [a for _, _, actions in groups for a in actions if bool(a.option_strings) is named]
                for named in (False, True)
            )
            kept = [a for a in options if shown.intersection(a.option_strings)]
            groups = [(groups[0][0], None, arguments), (groups[1][0], None, kept)]
        for title, says, actions in groups:
            formatter.start_section(title)
            formatter.add_text(says if actions else None)
            formatter.add_arguments(actions)
            formatter.end_section()
        formatter.add_text(f"{len(options) - len(kept)} more options: {self.prog} --help-all" if shown else self.epilog)
        return formatter.format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but an option takes a value that begins with a minus and a digit: `--box -10,0,90,80`."""
        return super().parse_known_args(self._joined(list(args if args is not None else sys.argv[1:])), namespace)

    def _joined(self, given: list[str]) -> list[str]:
        joined: list[str] = []
        for k, text in enumerate(given):
            if text == "--":
                return [*joined, *given[k:]]
            before = self._option_string_actions.get(joined[-1]) if joined else None
            takes = before is not None and before.nargs is None and joined[-1].startswith("--")
            if takes and re.match(r"-\.?\d", text):
                joined[-1] += f"={text}"
            else:
                joined.append(text)
        return joined

    def without(self, given: Sequence[str], names: Collection[str]) -> list[str]:
        """Return arguments of this command without the options `names` and their values. All options are valid."""
        kept: list[str] = []
        rest = iter(given)
        for text in rest:
            if text == "--":
                return [*kept, text, *rest]
            flag, equals, _ = text.partition("=")
            option = self._named(flag)
            if option not in names:
                kept.append(text)
            elif not equals and self._option_string_actions[option].nargs is None:
                next(rest, None)
        return kept

    def _named(self, flag: str) -> str:
        """Return the option that a flag stands for: its beginning is enough. Else the flag."""
        options = self._option_string_actions
        if flag in options or not flag.startswith("--"):
            return flag
        found = [name for name in options if name.startswith(flag)]
        return found[0] if len(found) == 1 else flag

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


def _documented(group: argparse._ActionsContainer) -> list[argparse.Action]:
    """The arguments of a group that the help tells of."""
    return [action for action in group._group_actions if action.help != argparse.SUPPRESS]  # type: ignore[attr-defined]


class _HelpAll(argparse.Action):
    """Prints the long help and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        assert isinstance(parser, Parser)
        print(parser.format_help_all(), end="")
        parser.exit()


_EXAMPLES = 3  # that the short help shows


def _short(description: str) -> str:
    """A description with its first examples only."""
    text, heading, rest = description.partition("\n\nexamples:\n")
    examples = re.findall(r"(?:.*\\\n)*.*\S.*\n?", rest)
    return text + heading + "".join(examples[:_EXAMPLES])


def help_of(action: argparse.Action) -> str:
    """The help of an argument, which says what holds where an option is left out."""
    text = (action.help or "").strip()
    told = "(default:" in text or not action.option_strings or isinstance(action, argparse._HelpAction | _HelpAll)
    if told or action.dest in ("version", "show_completion", "install_completion"):
        return text
    default = "off" if action.nargs == 0 else "required" if action.required else f"default: {_default_of(action)}"
    return f"{text} ({f'default: {default}' if action.nargs == 0 else default})"


def _default_of(action: argparse.Action) -> str:
    return "none" if action.default in (None, "", []) else str(action.default)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Prints descriptions and examples as they are written, and the default in every option's line."""

    def __init__(self, prog: str, **more: Any) -> None:
        super().__init__(prog, max_help_position=28, **more)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)  # mam-vit-l stays one word

    def _get_help_string(self, action: argparse.Action) -> str:
        return help_of(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {self._format_args(action, action.dest.upper())}"


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
