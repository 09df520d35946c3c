"""`mam-video train` finds recipes, changes their keys, and gets to a trainer without torch on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mam_video.cli import main
from mam_video.core.errors import UsageError
from mam_video.training import __main__ as by_module
from mam_video.training import recipes


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Any, bool]]:
    """What the trainer of `mam` was asked, in place of training."""
    calls: list[tuple[Path, Any, bool]] = []

    class Asked:
        def __init__(self, path: Path, changes: Any) -> None:
            self.path, self.changes = path, changes

        def run(self, *, resume: bool) -> None:
            calls.append((self.path, self.changes, resume))

    monkeypatch.setattr(recipes, "_mam", Asked)
    return calls


def test_a_shipped_recipe_by_name_and_a_file(asked: list[Any], tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('recipe = "mam"\n')
    assert main(["train", "mam", "--resume", "--set", "batch=2", "--set", "out=runs/x", "--set", "shares=[1, 2]"]) == 0
    assert by_module.main([str(own)]) == 0
    (path, changes, resume), (second, none, fresh) = asked
    assert path.name == "mam.toml" and path.parent.name == "training" and resume
    assert changes == {"batch": 2, "out": "runs/x", "shares": [1, 2]}
    assert second == own and none == {} and not fresh


def test_every_shipped_recipe_has_a_trainer() -> None:
    assert recipes.recipes() == ["lite-matte", "lite-matte-gpu", "lite-segmenter", "lite-segmenter-gpu", "mam"]
    for name in recipes.recipes():
        assert f'recipe = "{name.removesuffix("-gpu")}"' in recipes.find_config(name).read_text()


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (["sauce"], 2, "no such recipe or file; recipes: lite-matte, lite-matte-gpu, lite-segmenter, "),
        (["absent.toml"], 1, "absent.toml: no such file of training settings"),
        (["mam", "--set", "batch"], 2, "--set 'batch' is not of the form KEY=VALUE"),
        (["lite-segmenter", "--set", "bach=3"], 1, "unknown key 'bach'"),
        (["lite-matte", "--set", "batch=three"], 1, "'batch' must be of the kind int"),
        ([], 2, "CONFIG"),
    ],
)
def test_one_line_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], given: list[str], code: int, says: str
) -> None:
    assert main(["train", *given]) == code
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_an_interrupted_run_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "_mam", interrupted)
    assert main(["train", "mam"]) == 130
    assert "--resume" in capsys.readouterr().err


def test_values_are_read_as_toml_has_them() -> None:
    assert recipes.parse_changes(["a=1", "b=0.5", "c=true", 'd="x"', "e=", "f = a=b"]) == {
        "a": 1, "b": 0.5, "c": True, "d": "x", "e": "", "f": "a=b"
    }  # fmt: skip
    with pytest.raises(UsageError):
        recipes.parse_changes(["=3"])


def test_the_command_line_is_read_without_torch() -> None:
    code = "import sys; from mam_video.cli.main import build_parser; build_parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
