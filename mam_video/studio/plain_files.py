"""The plain files of a project: TOML that `matte --prompts` and `--config` take, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mam_video.media import ClipInfo
from mam_video.runtime.append_log import flushed
from mam_video.runtime.commit import hidden_beside
from mam_video.runtime.os_errors import writing
from mam_video.studio.state import State

MASKS: Final = "masks"  # the folder of masks in a project


def save_text(path: Path, text: str) -> None:
    """Write a text under its name, whole or not at all, and wait until it is on the disk. Raises: MediaError."""
    save_bytes(path, text.encode())


def save_bytes(path: Path, data: bytes) -> None:
    """Write a file as `save_text` does."""
    beside = hidden_beside(path)
    with writing(path):
        try:
            beside.write_bytes(data)
            flushed(beside)
            beside.replace(path)
            flush_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; systems that cannot open folders keep them by themselves."""
    if os.name == "nt":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def prompts_text(state: State, info: ClipInfo) -> str:
    """The prompts as `--prompts` takes them. Those that show no subject yet are left out."""
    names = {subject.id: subject.name for subject in state.subjects}
    order = {subject.id: place for place, subject in enumerate(state.subjects)}
    lines = ["version = 1", ""]
    for each in sorted(state.prompts, key=lambda p: (order[p.subject], p.frame)):
        if not each.shows:
            continue
        lines += ["[[prompt]]", f"frame = {info.frame_number(each.frame)}"]
        lines.append(f"subject = {_toml(names[each.subject])}")
        if each.mask:
            lines.append(f"mask = {_toml(f'{MASKS}/{each.mask}')}")
        if each.box is not None:
            lines.append(f"box = {_toml(list(each.box))}")
        if each.points:
            points = [[x, y] if on else [x, y, 0] for x, y, on in each.points]
            lines.append(f"points = {_toml(points)}")
        lines.append("")
    return "\n".join(lines)


def settings_text(values: Mapping[str, Mapping[str, Any]]) -> str:
    """Settings as `--config` takes them."""
    lines = []
    for section, mine in values.items():
        tables = [(f"edges.{_toml(name)}", each) for name, each in mine.items()] if section == "edges" else None
        for name, table in tables or [(section, mine)]:
            lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items()), ""]
    return "\n".join(lines) or "# Every setting has its default.\n"


def _toml(value: Any) -> str:
    """A value in TOML: numbers, truth values, texts and lists of them are written as in JSON."""
    return json.dumps(value, ensure_ascii=False)
