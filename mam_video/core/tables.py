"""Read TOML files and check their tables, with one-line errors that name the file and the nearest known key."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from mam_video.core.errors import UsageError
from mam_video.core.untrusted import parse_toml

T = TypeVar("T")


def read_toml(file: Path | Traversable, where: str, what: str) -> dict[str, Any]:
    """Read a TOML file of `what`, such as "settings"; `where` names the file in errors.

    Raises: UsageError, there is no such file, or it is no TOML.
    """
    try:
        return parse_toml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{where}: no such file of {what}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: cannot read these {what} ({error})") from None
    except ValueError as error:
        raise UsageError(f"{where}: not valid TOML ({error})") from None


def check_keys(where: str, table: Iterable[str], known: Iterable[str], section: str = "") -> None:
    """Raises: UsageError, a key of the table is not among the known ones."""
    names = list(known)
    for key in table:
        if key not in names:
            inside = f" in [{section}]" if section else ""
            raise UsageError(f"{where}: unknown key '{key}'{inside}; {suggestion(key, names)}known: {', '.join(names)}")


def suggestion(given: str, known: Iterable[str]) -> str:
    """The text "did you mean 'X'? " where a known name is near the given one, else nothing."""
    from difflib import get_close_matches

    near = {name.lower(): name for name in known}
    found = get_close_matches(given.lower(), near, n=1)
    return f"did you mean '{near[found[0]]}'? " if found else ""


def parse_value(text: str) -> Any:
    """A value as TOML writes it (3, 0.5, true, "text", [1, 2]); anything else is a text."""
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def from_table(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """Make a dataclass from a table: lists become tuples, whole numbers become floats where a float belongs.

    Raises: UsageError, a key is unknown or a value is of the wrong type; `where` names the file.
    """
    hints = {each.name: get_type_hints(kind)[each.name] for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    check_keys(where, table, hints)
    return kind(**{name: _converted(where, name, value, hints[name]) for name, value in table.items()})


def _converted(where: str, name: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        inner = get_args(hint)[0]
        return tuple(_converted(where, name, each, inner) for each in value)
    if hint is float and type(value) is int:
        return float(value)
    plain = get_origin(hint) or hint
    if type(value) is not plain:
        raise UsageError(f"{where}: '{name}' must be of the kind {plain.__name__}, is {value!r}")
    return value
