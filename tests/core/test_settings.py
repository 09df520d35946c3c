"""Settings: defaults < files < flags; what is not known or not possible is an error that names it."""

import dataclasses
import pickle
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mam_video.core.errors import UsageError
from mam_video.core.sections import SECTIONS, all_knobs
from mam_video.core.settings import InputSettings, Layer, OutputSettings, Settings, SmoothSettings, presets


def test_every_preset_loads() -> None:
    assert {"default", "fast", "quality"} <= set(presets())
    for name in ("default", "fast", "quality"):
        Settings().with_file(name)
    assert Settings().with_file("default") == Settings()


def test_later_values_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[smooth]\nstrength = 0.25\nradius = 2\n")
    settings = Settings().with_file(str(file)).with_values({"smooth": {"strength": 0.75}}, "command line")
    assert settings.smooth == SmoothSettings(strength=0.75, radius=2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[smoth]\nstrength = 1\n", r"unknown section \[smoth\]"),
        ("[smooth]\nstrenght = 1\n", r"unknown key 'strenght' in \[smooth\]; did you mean 'strength'"),
        ("[smooth]\nstrength = 7\n", "between 0 and 1"),
        ("[smooth]\nstrength = nan\n", "between 0 and 1"),
        ("[smooth]\nstrength = 'much'\n", "must be a number, is 'much'"),
        ("[smooth]\nradius = true\n", "must be a whole number, is True"),
        ("[view]\nroi = 'half'\n", "must be one of auto, frame"),
        ("smooth = 1\n", "is a section"),
        ("[smooth\n", "not valid TOML"),
    ],
)
def test_mistakes_in_a_file_name_the_file_and_the_place(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        Settings().with_file(str(file))
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="default, fast, quality"):
        Settings().with_file("fancy")


def test_every_setting_is_described() -> None:
    for each in all_knobs():
        knob = each.knob
        assert knob.help.endswith(".") and knob.help[0].isupper(), each.key
        assert (knob.low is None) == (knob.high is None), each.key
        assert each.kind not in (int, float) or knob.low is not None, f"{each.key} has no bounds"
        assert each.default is not None or (knob.absent and knob.example is not None), each.key
        each.check(each.default)
        assert not knob.flags or knob.group or each.section == "output", f"{each.key} has no heading"
    flags = [flag for each in all_knobs() for flag in (*each.knob.flags, *each.knob.shortcuts)]
    assert len(flags) == len(set(flags))
    assert [section.section for section in SECTIONS] == [
        each.name for each in dataclasses.fields(Settings) if each.name != "edges"
    ]


@pytest.mark.parametrize("each", [each for each in all_knobs() if each.knob.low is not None], ids=lambda each: each.key)
def test_bounds_hold_at_birth_and_are_said(each: Any) -> None:
    section = type(getattr(Settings(), each.section))
    for bound in (each.knob.low, each.knob.high):
        if each.section == "finish" and each.name in ("black", "white"):
            continue  # they bound each other too
        assert getattr(section(**{each.name: each.kind(bound)}), each.name) == bound
    for beyond in (each.knob.low - 2, each.knob.high + 1):
        with pytest.raises(UsageError, match=rf"{each.key} must be between .* and .*, is {beyond:.10g}$"):
            section(**{each.name: each.kind(beyond)})


def test_values_from_python_are_checked_too() -> None:
    with pytest.raises(UsageError, match=r"^output\.foreground must be one of estimate, plate, is 'guess'$"):
        OutputSettings(foreground="guess")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^smooth\.radius must be a whole number, is 1\.5$"):
        SmoothSettings(radius=1.5)  # type: ignore[arg-type]


def test_rates_are_parsed_once_and_kept() -> None:
    output = OutputSettings(rate="23.976")
    assert output.constant_rate == Fraction(24000, 1001) and output.rate == "23.976"
    assert dataclasses.replace(output, rate=None).constant_rate is None
    assert pickle.loads(pickle.dumps(output)).constant_rate == output.constant_rate
    assert InputSettings(fps="25").frame_rate == 25
    with pytest.raises(UsageError, match=r"input\.fps cannot be used: rate 'fast' is not a number"):
        InputSettings(fps="fast")


def test_older_files_are_read(tmp_path: Path) -> None:
    """They had -1, 0 and "" where there is no value, and [looks.NAME] for [edges.NAME]."""
    file = tmp_path / "old.toml"
    file.write_text(
        '[input]\nfps = ""\n[model]\nbatch = 0\n[output]\nrate = ""\nstart_number = -1\n[looks.dancer]\ngrow = 2\n'
    )
    settings = Settings().with_file(str(file))
    assert dataclasses.replace(settings, edges={}) == Settings()
    assert settings.edges == {"dancer": {"grow": 2.0}} and settings.finish_of("dancer").grow == 2


def test_errors_name_the_option_that_was_given() -> None:
    layer = Layer(source="command line", values={"smooth": {"strength": 5}}, flags={"smooth.strength": "--smooth"})
    with pytest.raises(UsageError, match=r"^--smooth must be between 0 and 1, is 5$"):
        Settings().with_layer(layer)
    layer = Layer(source="command line", values={"finish": {"white": 0.2}}, flags={"finish.white": "--white"})
    with pytest.raises(UsageError, match=r"^finish\.black 0\.5 must lie below --white 0\.2"):
        Settings().with_values({"finish": {"black": 0.5}}, "mine").with_layer(layer)
