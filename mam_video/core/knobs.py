"""Declare a setting once: default, help, bounds and command line options stand in its dataclass field.

The checks, the options of the command line, `configs/default.toml` and `docs/settings.md` are all made from them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mam_video.core.errors import SettingError, UsageError

T = TypeVar("T")
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    """What is known of one setting beside its name, type and default.

    help       one plain sentence
    low, high  bounds of a number, both inclusive; None where there is none
    unit       of a number, such as "pixels"
    flags      its options on the command line; one that begins with --no- sets it to False
    shortcuts  options that set one value: {"--ignore-alpha": ("ignore", "its help")}
    flag_help  what `--help` says of the option where that is not `help`, as for --no-audio
    metavar    how `--help` calls its value; choices and plain types need none
    group      the heading under which `--help` lists it
    absent     what None means, such as "the rate of the files"
    legacy     a value that stands for None in files written before None was possible
    example    a value to show where the default is None
    parse      turns a text into its value, which `Section.parsed` returns; raises UsageError
    """

    help: str
    low: float | None = None
    high: float | None = None
    unit: str = ""
    flags: tuple[str, ...] = ()
    flag_help: str = ""
    shortcuts: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    metavar: str = ""
    group: str = ""
    absent: str = ""
    legacy: Any = None
    example: Any = None
    parse: Callable[[str], Any] | None = None


def knob(
    default: T,
    *,
    help: str,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    flag: str | tuple[str, ...] = (),
    flag_help: str = "",
    shortcuts: Mapping[str, tuple[Any, str]] | None = None,
    metavar: str = "",
    group: str = "",
    absent: str = "",
    legacy: Any = None,
    example: Any = None,
    parse: Callable[[str], Any] | None = None,
) -> T:
    """Make a dataclass field with its `Knob`. The choices of a setting are those of its `Literal` type."""
    flags = (flag,) if isinstance(flag, str) else flag
    made = Knob(
        help=help, low=low, high=high, unit=unit, flags=flags, flag_help=flag_help, shortcuts=shortcuts or {},
        metavar=metavar, group=group, absent=absent, legacy=legacy, example=example, parse=parse,
    )  # fmt: skip
    return field(default=default, metadata={"knob": made})


@dataclass(frozen=True, slots=True)
class KnobField:
    """One setting of a section: its name, its type and its `Knob`.

    kind     bool, int, float or str
    choices  what a `Literal` allows; () where anything goes
    """

    section: str
    name: str
    kind: type
    choices: tuple[str, ...]
    default: Any
    knob: Knob

    @property
    def key(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def dest(self) -> str:
        """Its name among the values of the command line."""
        return f"{self.section}__{self.name}"

    def check(self, value: Any) -> None:
        """Raises: SettingError, the value is of the wrong type, out of bounds or none of the choices."""
        if value is None and self.default is None:
            return
        if self.choices:
            if value not in self.choices:
                raise SettingError(self.key, f"must be one of {', '.join(self.choices)}, is '{value}'")
            return
        if not _is_of(self.kind, value):
            raise SettingError(self.key, f"must be {_KINDS[self.kind]}, is {value!r}")
        low, high = self.knob.low, self.knob.high
        if low is not None and high is not None and not (math.isfinite(value) and low <= value <= high):
            raise SettingError(self.key, f"must be between {low:.10g} and {high:.10g}, is {value:.10g}")

    def parsed(self, value: Any) -> Any:
        """The value of a text that has a parser. Raises: SettingError."""
        assert self.knob.parse is not None
        try:
            return None if value is None else self.knob.parse(value)
        except UsageError as error:
            raise SettingError(self.key, f"cannot be used: {error}") from None

    def from_text(self, text: str) -> Any:
        """The value that an option of the command line gives as text. Raises: SettingError."""
        if self.kind not in (int, float):
            return text
        try:
            return self.kind(text)
        except ValueError:
            raise SettingError(self.key, f"must be {_KINDS[self.kind]}, is '{text}'") from None


class Section:
    """A frozen dataclass of knobs, which checks its values when it is made.

    Subclass it as `class SmoothSettings(Section, section="smooth")`; see `KnobField.check` for what is raised.
    """

    section: ClassVar[str]
    _parsed: Mapping[str, Any]

    def __init_subclass__(cls, *, section: str) -> None:
        cls.section = section

    def __post_init__(self) -> None:
        parsed = {}
        for each in knob_fields(type(self)):
            value = getattr(self, each.name)
            if value is not None and each.default is None and value == each.knob.legacy:
                value = None
                object.__setattr__(self, each.name, None)
            each.check(value)
            if each.knob.parse is not None:
                parsed[each.name] = each.parsed(value)
        object.__setattr__(self, "_parsed", parsed)


_FIELDS: dict[type[Section], tuple[KnobField, ...]] = {}


def knob_fields(section: type[Section]) -> tuple[KnobField, ...]:
    """The settings of a section, in the order in which it declares them."""
    if section not in _FIELDS:
        _FIELDS[section] = _fields_of(section)
    return _FIELDS[section]


def _fields_of(section: type[Section]) -> tuple[KnobField, ...]:
    hints = get_type_hints(section)
    fields = []
    for each in dataclasses.fields(section):  # type: ignore[arg-type]
        kind, choices = _kind_of(hints[each.name])
        fields.append(KnobField(section.section, each.name, kind, choices, each.default, each.metadata["knob"]))
    return tuple(fields)


def _is_of(kind: type, value: Any) -> bool:
    """Whether a value is of the kind; a whole number is a number, but true is none."""
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))


def _kind_of(hint: Any) -> tuple[type, tuple[str, ...]]:
    """The plain type of an annotation, without None, and the choices of a Literal."""
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        hint = next(part for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is Literal:
        return str, get_args(hint)
    return hint, ()
