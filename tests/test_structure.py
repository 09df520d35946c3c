"""The rooms stand as docs/design.md says: imports point one way."""

import subprocess
import sys
from pathlib import Path

import mam_video

PACKAGE = Path(__file__).resolve().parent.parent / "mam_video"


def test_the_import_contracts_hold() -> None:
    """Run import-linter on the contracts of pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_is_in_the_design() -> None:
    text = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
    for entry in sorted(PACKAGE.iterdir()):
        if entry.suffix == ".py":
            assert entry.name.startswith("__"), f"{entry.name} belongs in a room"
        elif (entry / "__init__.py").exists():
            assert f"| `{entry.name}/` |" in text, f"docs/design.md does not name {entry.name}/"


def test_every_public_name_is_there() -> None:
    """They are imported when first asked for, so that nothing else notices one that has moved."""
    for name in mam_video.__all__:
        assert getattr(mam_video, name) is not None


def test_slow_libraries_are_imported_when_they_are_used() -> None:
    """Help needs no torch, media never do, and a model on the CPU does without kornia."""
    program = """
import sys
import mam_video.cli.main
import mam_video.media
assert not {"torch", "kornia", "decord"} & sys.modules.keys(), sys.modules.keys()
import mam_video.models.merge
import mam_video.training.losses
assert "kornia" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
