"""The house stands as docs/design.md says: imports point one way."""

import ast
from pathlib import Path

import pytest

import mam_video

PACKAGE = Path(__file__).resolve().parent.parent / "mam_video"

# Rooms from the inside out; a room may import those before it, and its own.
RANKS = {
    "closing": 0,
    "errors": 0,
    "untrusted": 0,
    "prompts": 1,
    "settings": 1,
    "timecode": 1,
    "doubt": 2,
    "streams": 1,
    "clock": 1,
    "frames": 2,
    "views": 2,
    "metrics": 2,
    "media": 3,
    "models": 3,
    "motion": 3,
    "appearance": 4,
    "cuts": 4,
    "text": 4,
    "foreground": 4,
    "refine": 4,
    "smooth": 5,
    "finish": 5,
    "flicker": 6,
    "track": 5,
    "track_file": 6,
    "report": 6,
    "shots": 6,
    "subjects": 6,
    "training": 6,
    "resume": 7,
    "masks": 7,
    "corrections": 7,
    "asked": 8,
    "matting": 8,
    "clip": 9,
    "evaluation": 8,
    "picture": 8,
    "preview": 10,
    "cli": 11,
    "__main__": 12,
}
FORBIDDEN = {"media": {"torch", "segment_anything", "kornia"}, "models": {"av"}, "report": {"av"}}


def imports(path: Path) -> list[str]:
    """Names of the modules that a file imports, lazily or not."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_inwards(path: Path) -> None:
    room = room_of(path)
    assert room in RANKS, f"{room} is a new room: give it a place in docs/design.md and here"
    for name in imports(path):
        top = name.split(".")[0]
        assert top not in FORBIDDEN.get(room, set()), f"{room} must not know {top}"
        if top == "mam_video" and "." in name:
            other = name.split(".")[1]
            if other in RANKS and other != room:
                assert RANKS[other] < RANKS[room], f"{room} must not import {other}"


def test_every_room_is_in_the_design() -> None:
    text = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
    for entry in sorted(PACKAGE.iterdir()):
        if entry.suffix == ".py" and not entry.name.startswith("__"):
            assert entry.name in text, f"docs/design.md does not name {entry.name}"
        elif entry.is_dir() and (entry / "__init__.py").exists():
            assert f"{entry.name}/" in text, f"docs/design.md does not name {entry.name}/"


def test_every_public_name_is_there() -> None:
    """They are imported when first asked for, so that nothing else notices one that has moved."""
    for name in mam_video.__all__:
        assert getattr(mam_video, name) is not None
