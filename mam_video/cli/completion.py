"""Completion of commands, options and values in bash, zsh and fish, made from the program's own parser."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.tables import suggestion

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True, slots=True)
class Words:
    """What can be typed after a command.

    command  its words, such as "weights get"; "" is the program itself
    actions  names of its commands with their help
    options  each option with its help
    values   the values of an option that has a fixed set of them
    takes    options that take a value
    """

    command: str
    actions: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    takes: frozenset[str] = frozenset()


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the completion script for a shell. Raises: UsageError, the shell is not known."""
    _check(shell)
    words = list(words_of(parser))
    return _fish(parser.prog, words) if shell == "fish" else _bourne(parser.prog, words, shell)


def install(shell: str | None, parser: argparse.ArgumentParser) -> list[str]:
    """Write the script where the shell looks for it; return the lines that tell what was done and what is left to do.

    `shell` None: the one that SHELL names. Raises: UsageError, the shell is not known; MediaError, nothing can be
    written there.
    """
    shell = shell or Path(os.environ.get("SHELL", "")).name
    _check(shell)
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    prog = parser.prog
    path = {
        "bash": data / "bash-completion" / "completions" / prog,
        "zsh": home / ".zfunc" / f"_{prog}",
        "fish": config / "fish" / "completions" / f"{prog}.fish",
    }[shell]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script(shell, parser), encoding="utf-8")
    except OSError as error:
        raise MediaError(f"{path}: cannot be written ({error.strerror or error})") from error
    told = [f"wrote {path}"]
    if shell == "zsh":
        told.append("add to ~/.zshrc, if it is not there: fpath=(~/.zfunc $fpath); autoload -Uz compinit && compinit")
    if shell == "bash":
        told.append("it needs the package bash-completion; without it add to ~/.bashrc:")
        told.append(f'  eval "$({prog} --show-completion bash)"')
    return [*told, "open a new shell to use it"]


def words_of(parser: argparse.ArgumentParser, command: str = "") -> Iterator[Words]:
    """What can be typed after each command, the program itself first."""
    found = Words(command)
    takes: set[str] = set()
    nested: list[tuple[str, argparse.ArgumentParser]] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            says = {each.dest: each.help or "" for each in action._choices_actions}
            found.actions.update({name: says.get(name, "") for name in action.choices})
            nested += [(f"{command} {name}".strip(), child) for name, child in action.choices.items()]
            continue
        if action.help == argparse.SUPPRESS:
            continue
        for name in action.option_strings:
            found.options[name] = _plain(action)
            if action.nargs != 0:
                takes.add(name)
            if values := _values_of(action):
                found.values[name] = values
    yield Words(command, found.actions, found.options, found.values, frozenset(takes))
    for name, child in nested:
        yield from words_of(child, name)


def _check(shell: str) -> None:
    if shell not in SHELLS:
        known = ", ".join(SHELLS)
        raise UsageError(
            f"completion is made for {known}, not for '{shell}'; {suggestion(shell, SHELLS)}name one of them"
        )


def _plain(action: argparse.Action) -> str:
    return " ".join((action.help or "").replace("%%", "%").split()).partition("(default")[0].strip()


def _values_of(action: Any) -> tuple[str, ...]:
    """The values that an option can have, where they are few."""
    if action.nargs == 0:
        return ()
    if action.choices:
        return tuple(map(str, action.choices))
    if choices := getattr(getattr(action, "each", None), "choices", ()):
        return tuple(map(str, choices))
    if "--model" in action.option_strings:
        from mam_video.core.sections import MODEL_NAMES

        return MODEL_NAMES
    if "--config" in action.option_strings:
        from mam_video.core.settings import presets

        return tuple(presets())
    return ()


def _bourne(prog: str, words: list[Words], shell: str) -> str:
    """For bash and zsh: functions that name the words after a command, and a few lines that ask them."""
    name = "_" + prog.replace("-", "_")
    lines = [f"#compdef {prog}"] if shell == "zsh" else []
    lines += [f"# Completion of {prog} for {shell}; made by `{prog} --show-completion {shell}`."]
    lines += _cases(f"{name}_actions", ((each.command, each.actions) for each in words))
    lines += _cases(f"{name}_options", ((each.command, each.options) for each in words))
    lines += _cases(f"{name}_takes", ((each.command, sorted(each.takes)) for each in words))
    pairs = ((f"{each.command} {option}".strip(), values) for each in words for option, values in each.values.items())
    lines += _cases(f"{name}_values", pairs)
    return "\n".join([*lines, (_BASH if shell == "bash" else _ZSH).replace("NAME", name).replace("PROG", prog)])


def _cases(name: str, table: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    rows = [(key, " ".join(words)) for key, words in table]
    return [
        f"{name}() {{",
        "  case $1 in",
        *(f"    {shlex.quote(key)}) echo {shlex.quote(text)} ;;" for key, text in rows if text),
        "  esac",
        "}",
    ]


# The words before the cursor name the command; its completions for the cursor's place follow.
_BASH = """\
NAME() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command="" word k
  [[ $before == "=" ]] && before=${COMP_WORDS[COMP_CWORD-2]}
  [[ $current == "=" ]] && current=""
  for ((k = 1; k < COMP_CWORD; k++)); do
    word=${COMP_WORDS[k]}
    [[ " $(NAME_actions "$command") " == *" $word "* ]] && command="${command:+$command }$word"
  done
  local values
  values=$(NAME_values "${command:+$command }$before")
  if [[ -n $values ]]; then
    COMPREPLY=($(compgen -W "$values" -- "$current"))
    [[ $before == --config ]] && COMPREPLY+=($(compgen -f -- "$current"))
  elif [[ " $(NAME_takes "$command") " == *" $before "* ]]; then
    COMPREPLY=($(compgen -f -- "$current"))
  elif [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$(NAME_options "$command")" -- "$current"))
  elif [[ -n $(NAME_actions "$command") ]]; then
    COMPREPLY=($(compgen -W "$(NAME_actions "$command")" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}
complete -o filenames -F NAME PROG
"""
_ZSH = """\
NAME() {
  local current=${words[CURRENT]} before=${words[CURRENT-1]} command="" word k
  for ((k = 2; k < CURRENT; k++)); do
    word=${words[k]}
    [[ " $(NAME_actions "$command") " == *" $word "* ]] && command="${command:+$command }$word"
  done
  local values=$(NAME_values "${command:+$command }$before")
  if [[ -n $values ]]; then
    compadd -- ${=values}
    [[ $before == --config ]] && _files
  elif [[ " $(NAME_takes "$command") " == *" $before "* ]]; then
    _files
  elif [[ $current == -* ]]; then
    compadd -- ${=$(NAME_options "$command")}
  elif [[ -n $(NAME_actions "$command") ]]; then
    compadd -- ${=$(NAME_actions "$command")}
  else
    _files
  fi
}
if [[ ${funcstack[1]} == "_PROG" ]]; then
  NAME "$@"
else
  compdef NAME PROG
fi
"""


def _fish(prog: str, words: list[Words]) -> str:
    lines = [f"# Completion of {prog} for fish; made by `{prog} --show-completion fish`."]
    for each in words:
        where = rest = "__fish_use_subcommand"
        if each.command:
            where = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in each.command.split())
            rest = f"{where}; and not __fish_seen_subcommand_from {' '.join(each.actions)}"
        lines += [_of_fish(prog, rest, f"-f -a {name}", says) for name, says in each.actions.items()]
        for name, says in each.options.items():
            option = f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
            values = each.values.get(name)
            if values:
                option += f" -x -a {_quoted(' '.join(values))}"
            elif name in each.takes:
                option += " -r"
            lines.append(_of_fish(prog, where, option, says))
    return "\n".join([*lines, ""])


def _of_fish(prog: str, where: str, what: str, says: str) -> str:
    return f"complete -c {prog} -n {_quoted(where)} {what} -d {_quoted(says)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
