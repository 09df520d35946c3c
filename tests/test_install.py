"""What is installed: the wheel holds all that the program reads, and extras that the texts name exist.

`make test-install` installs it into an empty environment and runs it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built of a copy: building leaves folders in the tree."""
    pytest.importorskip("setuptools", minversion="77", reason="setuptools 77 or newer is not installed")
    copy = tmp_path_factory.mktemp("wheel") / "checkout"
    copy.mkdir()
    for name in ("mam_video", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(copy / done.stdout.splitlines()[-1])


def test_the_wheel_holds_every_module_and_all_that_they_read(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    wanted = {p.relative_to(ROOT).as_posix() for p in (ROOT / "mam_video").rglob("*") if p.is_file()}
    wanted = {name for name in wanted if "__pycache__" not in name}
    wanted |= {f"mam_video/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "configs").rglob("*.toml")}
    assert wanted - names == set()
    assert {"mam_video/models/lite.safetensors", "mam_video/report/page.html", "mam_video/py.typed"} <= names
    assert wheel.read("mam_video/models/lite.safetensors") == (ROOT / "mam_video/models/lite.safetensors").read_bytes()


def test_the_wheel_holds_the_licence_the_command_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    info = f"mam_video-{PROJECT['version']}.dist-info"
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "mam-video = mam_video.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert {name.split("/")[0] for name in wheel.namelist()} == {"mam_video", info}
    metadata = wheel.read(f"{info}/METADATA").decode()
    for name in PROJECT["optional-dependencies"]:
        assert f"Provides-Extra: {name}" in metadata


def texts() -> dict[str, str]:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "mam_video").rglob("*.py")]
    pages += [*(ROOT / "tests").rglob("*.py"), ROOT / "mam_video" / "models" / "LITE.md"]
    return {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in pages}


def test_every_extra_that_a_text_names_exists() -> None:
    """Extras stand in the texts as '.[text]', mam-video[text] or (extra: text)."""
    known = set(PROJECT["optional-dependencies"])
    found: set[str] = set()
    for name, text in texts().items():
        for group in re.findall(r"(?:install|-e|--editable)[^\n`]{0,30}?[.o]\[([\w,]+)\]|\(extra:? `?(\w+)`?\)", text):
            extras = {extra for part in group if part for extra in part.split(",")}
            assert extras <= known, f"{name}: {extras - known}"
            found |= extras
    assert {"text", "train", "evaluate", "ocio", "decord"} <= found


def test_the_command_line_is_named_as_the_texts_say() -> None:
    assert PROJECT["scripts"] == {"mam-video": "mam_video.cli:main"}
    assert PROJECT["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in texts()["README.md"]
