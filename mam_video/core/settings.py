"""All settings in one value, and the sources that they come from.

Later sources win: defaults < preset or file (TOML) < `--set` < options of the command line. Each setting is described
in one place, its field in `sections.py`; `pipelines/tools/write_settings.py` writes `configs/default.toml` and
`docs/settings.md` from there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from mam_video.core.errors import SettingError, UsageError
from mam_video.core.knobs import KnobField, knob_fields
from mam_video.core.sections import (
    EDGE_KEYS,
    CutSettings,
    FinishSettings,
    InputSettings,
    MatteSettings,
    ModelSettings,
    MotionSettings,
    OutputSettings,
    RefineSettings,
    SmoothSettings,
    TextSettings,
    TrackSettings,
    ViewSettings,
    parse_rate,
)
from mam_video.core.tables import check_keys, parse_value, read_toml, suggestion

__all__ = [
    "CutSettings",
    "FinishSettings",
    "InputSettings",
    "Layer",
    "MatteSettings",
    "ModelSettings",
    "MotionSettings",
    "OutputSettings",
    "RefineSettings",
    "Settings",
    "SmoothSettings",
    "TextSettings",
    "TrackSettings",
    "ViewSettings",
    "configs_folder",
    "parse_rate",
    "parse_value",
    "presets",
]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Values from one source, such as {"smooth": {"strength": 0.5}}.

    source  the source in errors and in `mam-video config show`, such as "preset fast" or "--set"
    flags   options that the user gave, by key: {"smooth.strength": "--smooth"}; errors then name the option
    """

    source: str
    values: Mapping[str, Mapping[str, Any]]
    flags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_file(cls, name_or_path: str) -> Layer:
        """The values of a preset (default, fast, quality) or of a TOML file. Raises: UsageError."""
        path = Path(name_or_path)
        if path.suffix == ".toml" or path.exists():
            return cls(source=name_or_path, values=read_toml(path, name_or_path, "settings"))
        names = presets()
        if name_or_path not in names:
            hint = suggestion(name_or_path, names)
            raise UsageError(f"{name_or_path}: no such preset or file; {hint}presets: {', '.join(names)}")
        file = configs_folder() / f"{name_or_path}.toml"
        return cls(source=f"preset {name_or_path}", values=read_toml(file, name_or_path, "settings"))

    def names_options(self, message: str) -> str:
        """`message` with the user's own options in place of keys, or with the source before it."""
        found = message
        for key, flag in self.flags.items():
            found = re.sub(rf"(?<![\w.]){re.escape(key)}(?![\w.])", flag, found)
        return found if found != message else f"{self.source}: {message}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, by stage.

    edges  for single subjects, by name: keys of `finish` that differ for them; in TOML [edges.dancer]
    """

    input: InputSettings = field(default_factory=InputSettings)
    text: TextSettings = field(default_factory=TextSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    view: ViewSettings = field(default_factory=ViewSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    cuts: CutSettings = field(default_factory=CutSettings)
    track: TrackSettings = field(default_factory=TrackSettings)
    matte: MatteSettings = field(default_factory=MatteSettings)
    refine: RefineSettings = field(default_factory=RefineSettings)
    smooth: SmoothSettings = field(default_factory=SmoothSettings)
    finish: FinishSettings = field(default_factory=FinishSettings)
    edges: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)
    output: OutputSettings = field(default_factory=OutputSettings)

    def __new__(cls, *_: Any, **given: Any) -> Settings:
        """Raises: TypeError, which shows the right form, where a section is not known."""
        names = [each.name for each in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
        for name in given:
            if name not in names:
                homes = [section for section in names if name in _keys_of(section)]
                where = homes[0] if homes else "finish"
                key = name if homes else "choke"
                raise TypeError(
                    f"Settings has no section '{name}'; set values with "
                    f'Settings().with_values({{"{where}": {{"{key}": VALUE}}}}, "my script"), or a preset with '
                    'Settings.load("quality")'
                )
        return super().__new__(cls)

    @classmethod
    def load(cls, name_or_path: str) -> Settings:
        """The settings of a preset (default, fast, quality) or of a TOML file. Raises: UsageError."""
        return cls().with_file(name_or_path)

    def finish_of(self, subject: str) -> FinishSettings:
        """`finish` for one subject. Raises: SettingError, it does not go with the values for all."""
        return dataclasses.replace(self.finish, **self.edges.get(subject, {}))

    def with_values(self, values: Mapping[str, Mapping[str, Any]], source: str) -> Settings:
        """A copy with `values` ({"smooth": {"strength": 0.5}}) in place. Raises: UsageError, which names `source`."""
        return self.with_layer(Layer(source=source, values=values))

    def with_file(self, name_or_path: str) -> Settings:
        """A copy with the values of a preset (default, fast, quality) or of a TOML file. Raises: UsageError."""
        return self.with_layer(Layer.of_file(name_or_path))

    def with_layer(self, layer: Layer) -> Settings:
        """A copy with the values of a layer in place. Raises: UsageError, which names the source or the option."""
        parts: dict[str, Any] = {}
        try:
            for section, given in layer.values.items():
                section = _RENAMED.get(section, section)
                self._check_section(section, given, layer.source)
                if section == "edges":
                    parts[section] = _with_edges(self.edges, given, layer.source)
                    continue
                part = getattr(self, section)
                known = {each.name: each for each in knob_fields(type(part))}
                check_keys(layer.source, given, known, section)
                parts[section] = dataclasses.replace(part, **{k: _exact(known[k], v) for k, v in given.items()})
            merged = dataclasses.replace(self, **parts)
            for subject in merged.edges:  # each together with the values for all
                _checked_edge(merged, subject)
        except SettingError as error:
            raise UsageError(layer.names_options(str(error))) from None
        return merged

    def _check_section(self, section: str, given: Any, source: str) -> None:
        names = [each.name for each in dataclasses.fields(self)]
        if section not in names:
            hint = suggestion(section, names)
            raise UsageError(f"{source}: unknown section [{section}]; {hint}known: {', '.join(names)}")
        if not isinstance(given, Mapping):
            raise UsageError(f"{source}: '{section}' is a section; write its keys below [{section}]")

    def as_dict(self) -> dict[str, dict[str, Any]]:
        return dataclasses.asdict(self)


def checked_settings(settings: Settings | str | None) -> Settings:
    """Take settings, the name of a preset or file of settings, or None for the defaults. Raises: UsageError."""
    if settings is None or isinstance(settings, str):
        return Settings() if settings is None else Settings.load(settings)
    if not isinstance(settings, Settings):
        raise UsageError(f"settings must be Settings or the name of a preset, is {type(settings).__name__}")
    return settings


def _keys_of(section: str) -> set[str]:
    """Return the names of a section's keys."""
    part = {each.name: each.default_factory for each in dataclasses.fields(Settings)}[section]
    made = part() if callable(part) else None
    return {each.name for each in dataclasses.fields(made)} if dataclasses.is_dataclass(made) else set()


_RENAMED = {"looks": "edges"}  # sections of older files


def _exact(known: KnobField, value: Any) -> Any:
    """A whole number as a float where the setting is one."""
    return float(value) if known.kind is float and type(value) is int else value


def _with_edges(
    edges: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], source: str
) -> dict[str, dict[str, Any]]:
    """`edges` with the values of single subjects in place."""
    merged = {subject: dict(values) for subject, values in edges.items()}
    known = {each.name: each for each in EDGE_KEYS}
    for subject, values in given.items():
        if not isinstance(values, Mapping):
            raise UsageError(f"{source}: edges.{subject} is a subject; write its keys below [edges.{subject}]")
        check_keys(source, values, known, f"edges.{subject}")
        for key, value in values.items():
            try:
                known[key].check(value)
            except SettingError as error:
                raise SettingError(f"edges.{subject}.{key}", error.rule) from None
            merged.setdefault(subject, {})[key] = _exact(known[key], value)
    return merged


def _checked_edge(settings: Settings, subject: str) -> None:
    """Raises: SettingError, a subject's values do not go with each other or with those for all."""
    own = settings.edges[subject]
    try:
        settings.finish_of(subject)
    except SettingError as error:
        text = re.sub(r"finish\.(\w+)", lambda m: f"edges.{subject}.{m[1]}" if m[1] in own else m[0], str(error))
        key, _, rule = text.partition(" ")
        raise SettingError(key, rule) from None


def presets() -> list[str]:
    """Names of the presets that the package ships."""
    return sorted(p.name.removesuffix(".toml") for p in configs_folder().iterdir() if p.name.endswith(".toml"))


def configs_folder() -> Traversable:
    """The folder of presets and (in `training`) recipes: in the package when installed, beside it in a checkout."""
    package = resources.files("mam_video")
    inside = package / "configs"
    return inside if inside.is_dir() else Path(str(package)).parent / "configs"
