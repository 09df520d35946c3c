"""The names on a command line: no output may overwrite an input or another output."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mam_video.cli.subject import SubjectOptions
from mam_video.core.settings import Settings

if TYPE_CHECKING:
    from mam_video.media.name_guard import NameGuard


def guard_of(clip: str, subject: SubjectOptions, settings: Settings, configs: Sequence[str]) -> NameGuard:
    """Make a guard that knows every file that the command line names to be read."""
    from mam_video.media.name_guard import NameGuard

    guard = NameGuard()
    guard.reads("the clip", clip)
    for option, name in subject.files.items():
        guard.reads(option, name)
    for name in configs:
        guard.reads("--config", name)
    for half in settings.model.name.split("+"):
        guard.reads("--model", half.partition(":")[2])
    guard.reads("--sam-weights", settings.model.sam_weights)
    guard.reads("--mam-weights", settings.model.mam_weights)
    if subject.text is not None:
        guard.reads("--text-model", settings.text.model, below=("",))
    guard.reads("OCIO", os.environ.get("OCIO"))
    return guard
