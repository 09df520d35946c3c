"""Make the options of the command line from the settings, and the settings from the options that were given."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mam_video.core.errors import SettingError, UsageError
from mam_video.core.knobs import KnobField
from mam_video.core.sections import EDGE_KEYS, all_knobs
from mam_video.core.settings import InputSettings, Layer, Settings, parse_value, presets

# The headings of `--help`, in order, and a line below some.
_HEADINGS = {
    "input": None,
    "subject in the first frame": "in pixels of the upright picture, or with % of its width and height",
    "prompts on any frame": "the clip is tracked from both sides between two prompts",
    "masks by hand": "pictures or movies of the clip's size; their alpha is read where they have one, else their grey",
    "model": None,
    "matte": None,
    "job": None,
}
READING = ("input.fps", "input.layer", "input.on_gap", "input.on_error", "input.alpha")


class Groups:
    """The groups of a command's options, by heading; "" is the parser itself. Empty ones are not printed."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._groups: dict[str, argparse._ActionsContainer] = {"": parser}
        for heading, says in _HEADINGS.items():
            self._groups[heading] = parser.add_argument_group(heading, says)

    def __getitem__(self, heading: str) -> argparse._ActionsContainer:
        return self._groups[heading]


class _SetKnob(argparse.Action):
    """Keeps the option as the user wrote it beside its value."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, *, each: KnobField, fixed: Any = None, **more: Any
    ) -> None:
        super().__init__(option_strings, dest, nargs=None if fixed is None else 0, **more)
        self.each, self.fixed = each, fixed

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        try:
            value = self.each.from_text(str(values)) if self.fixed is None else self.fixed
        except SettingError as error:
            raise UsageError(f"{option_string} {error.rule}") from None
        setattr(namespace, self.dest, (option_string, value))


def add_knobs(groups: Groups, *, only: Iterable[str] | None = None, without: Iterable[str] = ()) -> None:
    """Add the option of every setting that has one, or of those that `only` names, but for those in `without`."""
    wanted = None if only is None else set(only)
    left_out = set(without)
    for each in all_knobs():
        if each.knob.flags and each.key not in left_out and (wanted is None or each.key in wanted):
            add_knob(groups["" if wanted is not None else each.knob.group], each)


def add_knob(container: argparse._ActionsContainer, each: KnobField) -> None:
    """Add the options of one setting. One of type bool takes no value, and --no-NAME sets it to False."""
    knob = each.knob
    more: dict[str, Any] = {"dest": each.dest, "default": None, "action": _SetKnob, "each": each}
    if each.kind is bool:
        fixed = not knob.flags[0].startswith("--no-")
        text = knob.flag_help or _as_help(knob.help)
        container.add_argument(*knob.flags, fixed=fixed, help=_escaped(text), **more)
    else:
        metavar = knob.metavar or ("{" + ",".join(each.choices) + "}" if each.choices else each.kind.__name__.upper())
        container.add_argument(*knob.flags, metavar=metavar, help=_escaped(option_help(each)), **more)
    for flag, (value, says) in knob.shortcuts.items():
        container.add_argument(flag, fixed=value, help=_escaped(says), **more)


def option_help(each: KnobField) -> str:
    """The help of a setting, with its unit, bounds and default."""
    knob = each.knob
    text = _as_help(knob.help)
    bounds = "" if knob.low is None or knob.high is None else f"{knob.low:.10g} to {knob.high:.10g}"
    more = " ".join(part for part in (bounds, knob.unit) if part)
    default = knob.absent if each.default in (None, "") else f"{each.default:g}" if each.kind is float else each.default
    return f"{text}{f'; {more}' if bounds else ''} (default: {default})"


def _as_help(sentence: str) -> str:
    """A sentence as `--help` has it: without capital and full stop."""
    keep = sentence[1:2].isupper() or sentence.startswith(("MAM", "R,"))
    return (sentence if keep else sentence[0].lower() + sentence[1:]).removesuffix(".")


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def add_edges(container: argparse._ActionsContainer) -> None:
    """Add `--edge`, the edge settings of single subjects; `--look` is its older name."""
    keys = ", ".join(each.name for each in EDGE_KEYS)
    container.add_argument(
        "--edge",
        action="append",
        metavar="SUBJECT:KEY=VALUE;...",
        help=f"{keys} of one of several subjects, as 'dancer:grow=2;feather=1.5'; may be repeated "
        "(default: the same for all)",
    )
    container.add_argument("--look", dest="edge", action="append", help=argparse.SUPPRESS)


def add_config(container: argparse._ActionsContainer) -> None:
    """Add `--config` and `--set`."""
    container.add_argument(
        "--config",
        action="append",
        metavar="NAME|FILE",
        help=f"settings: {', '.join(presets())} or a TOML file; may be repeated, later ones win (default: default)",
    )
    container.add_argument(
        "--set",
        action="append",
        metavar="SECTION.KEY=VALUE",
        help="one setting, as in smooth.radius=2; `mam-video config show` prints all of them; may be repeated",
    )


def add_debug(container: argparse._ActionsContainer) -> None:
    container.add_argument("--debug", action="store_true", help="show the traceback of an error")


def layers_from(options: argparse.Namespace) -> list[Layer]:
    """What the options say of settings: files, then `--set`, then options, each in the order given."""
    layers = [Layer.of_file(name) for name in options.config or []]
    layers += [Layer(source="--set", values=_parse_set(text)) for text in options.set or []]
    return [*layers, _layer_of_flags(options), _layer_of_edges(options.edge or [])]


def settings_from(options: argparse.Namespace, forced: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """The settings that the options ask for; `forced` ones are put in place of theirs.

    Raises: UsageError, one is wrong, or no model has that name: told here, before the libraries of models are loaded.
    """
    from mam_video.models.catalogue import parse_model

    settings = Settings()
    for layer in layers_from(options):
        settings = settings.with_layer(layer)
    parse_model(settings.model.name)
    return settings.with_values(forced or {}, "this command")


def reading_from(options: argparse.Namespace) -> InputSettings:
    """How the plate is read, for commands that take `READING` alone."""
    return Settings().with_layer(_layer_of_flags(options)).input


def _layer_of_flags(options: argparse.Namespace) -> Layer:
    values: dict[str, dict[str, Any]] = {}
    flags: dict[str, str] = {}
    for each in all_knobs():
        given = getattr(options, each.dest, None)
        if given is not None:
            flags[each.key], values.setdefault(each.section, {})[each.name] = given
    return Layer(source="command line", values=values, flags=flags)


def _layer_of_edges(given: Sequence[str]) -> Layer:
    """The values by subject of `--edge dancer:grow=2;feather=1.5`."""
    edges: dict[str, dict[str, Any]] = {}
    flags: dict[str, str] = {}
    for text in given:
        subject, colon, keys = text.partition(":")
        subject = subject.strip()
        for pair in keys.split(";"):
            key, equals, value = (part.strip() for part in pair.partition("="))
            if not (subject and colon and key and equals and value):
                raise UsageError(f"--edge '{text}' is not of the form SUBJECT:KEY=VALUE;KEY=VALUE, as dancer:grow=2")
            edges.setdefault(subject, {})[key] = parse_value(value)
            flags[f"edges.{subject}.{key}"] = f"--edge {subject}:{key}"
    return Layer(source="--edge", values={"edges": edges}, flags=flags)


def _parse_set(text: str) -> dict[str, dict[str, Any]]:
    match = re.fullmatch(r"(\w+)\.(\w+)=(.+)", text.strip())
    if match is None:
        raise UsageError(f"--set '{text}' is not of the form SECTION.KEY=VALUE, as in smooth.radius=2")
    section, key, value = match.groups()
    return {section: {key: parse_value(value)}}
