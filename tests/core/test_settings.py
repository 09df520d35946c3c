"""Settings: defaults < files < flags; what is not known or not possible is an error that names it."""

from pathlib import Path

import pytest

from mam_video.core.errors import UsageError
from mam_video.core.settings import Settings, SmoothSettings, presets


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
        ("[smooth]\nstrenght = 1\n", "unknown key 'strenght'"),
        ("[smooth]\nstrength = 7\n", "between 0 and 1"),
        ("[smooth]\nstrength = nan\n", "between 0 and 1"),
        ("[smooth]\nstrength = 'much'\n", "must be of type float"),
        ("[smooth]\nradius = true\n", "must be of type int"),
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
