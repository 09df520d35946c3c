"""Versions of a shot on the disk: what was tracked and matted, frame by frame, and mattes of single prompted frames.

versions/N/begun.json         what version.json will say, but for "whole": written first, so that a killed server's
                               frames are found again
versions/N/version.json       {"subjects": {"0": "dancer"}, "span": [0, 99], "prompts": [...], "values": {...},
                               "whole": true}: written last
versions/N/records.jsonl      a line for each frame, as they come
versions/N/00000012.0.png     the matte of subject 0 in frame 12, before its edges are finished, gray of 16 bits
versions/N/dancer.track       as `matte --track` takes it; only where the version is whole
stills/00000012.0.KEY.png     likewise, of a prompted frame by itself; KEY stands for prompts and settings
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mam_video.core.arrays import Alpha
from mam_video.core.frames import Matted, Record
from mam_video.core.untrusted import parse_json
from mam_video.report.sentences import sentences
from mam_video.studio.pictures import alpha_of_png, codes_png
from mam_video.studio.state import State

EDGE_SECTIONS: Final = ("finish", "edges", "output")  # settings that change no matte before its edges are finished


def matte_file(folder: Path, frame: int, subject: int) -> Path:
    """Return the file of a subject's matte in a frame of a version."""
    return folder / f"{frame:08d}.{subject}.png"


def still_file(folder: Path, frame: int, subject: int, key: str) -> Path:
    """Return the file of a subject's matte of a frame by itself."""
    return folder / f"{frame:08d}.{subject}.{key}.png"


def still_key(state: State, frame: int) -> str:
    """Return what a matte of a prompted frame by itself depends on, in a few letters."""
    prompts = [p for p in state.prompts if p.frame == frame]
    values = {section: mine for section, mine in state.values.items() if section not in EDGE_SECTIONS}
    entry = [
        [(p.subject, p.box, p.points, *([p.mask] if p.mask else ())) for p in prompts],
        {key: dict(mine) for key, mine in values.items()},
    ]
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:12]


def save_matte(path: Path, alpha: Alpha) -> None:
    """Write a matte, whole or not at all."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(codes_png(alpha))
    beside.replace(path)


def read_matte(path: Path) -> Alpha | None:
    """Read a matte; None where there is none, or it is damaged: it can be made again."""
    try:
        return alpha_of_png(path.read_bytes())
    except (OSError, ValueError):
        return None


def save_frame(folder: Path, matted: Matted, ids: Mapping[str, int], only: int | None = None) -> dict[str, Any]:
    """Write the mattes of a frame, each subject's, and its line in the records. Returns that line's values.

    Args:
        ids: of the subjects by name; a lone subject's record names none.
        only: of a run of one of several subjects: its id.
    """
    entry: dict[str, Any] = {"frame": matted.frame.index, "cut": matted.record.cut, "subjects": {}}
    for part in matted.parts or (matted,):
        name = part.record.subject
        number = only if only is not None else ids[name] if name else next(iter(ids.values()))
        own = part.alpha if part.matte is None else part.matte
        save_matte(matte_file(folder, matted.frame.index, number), own)
        entry["subjects"][str(number)] = record_entry(part.record)
    with (folder / "records.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    return entry


def record_entry(record: Record) -> dict[str, Any]:
    """Return what the page shows of a record."""
    return {
        "state": str(record.state),
        "flagged": record.flagged,
        "box": [round(v, 1) for v in record.box.xyxy],
        "score": round(record.score, 3),
        "why": sentences(record.findings),
    }


def begun_entry(folder: Path) -> dict[str, Any] | None:
    """Read what a version that is being made is made with; None where the folder does not say."""
    try:
        entry = parse_json((folder / "begun.json").read_bytes())
    except (OSError, ValueError):
        return None
    return entry if isinstance(entry, dict) else None


@dataclass(frozen=True, slots=True)
class Version:
    """What is known of a version.

    span     first and last frame, both inclusive, that it has mattes of
    prompts  the prompts that it was tracked with, as `State.as_dict` has them
    values   the settings it was made with, likewise
    whole    whether every frame of its range is there and its tracks can be used; false where it was stopped
    """

    number: int
    folder: Path
    subjects: Mapping[str, str]
    span: tuple[int, int]
    prompts: list[Any]
    values: Mapping[str, Any]
    whole: bool

    @classmethod
    def load(cls, folder: Path) -> Version | None:
        """Read a version; None where it is not there or damaged."""
        try:
            entry = parse_json((folder / "version.json").read_bytes())
            span = (int(entry["span"][0]), int(entry["span"][1]))
            return cls(
                int(folder.name), folder, dict(entry["subjects"]), span, list(entry["prompts"]),
                dict(entry["values"]), bool(entry["whole"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None

    @property
    def track(self) -> str:
        """The name of its tracks as `matte --track` takes it."""
        if len(self.subjects) > 1:
            return str(self.folder / "{subject}.track")
        return str(self.folder / f"{next(iter(self.subjects.values()))}.track")

    def records(self) -> list[dict[str, Any]]:
        """What was found, a table for each frame, in order; the last line of a frame holds."""
        found = {frame: parse_json(text) for frame, text in self.lines()}
        return [found[k] for k in sorted(found)]

    def frames_in_order(self) -> list[int]:
        """The frames from the first of `span` on that have all their mattes, up to the first one that lacks any."""
        there = {frame for frame, _ in self.lines()}
        found = []
        for frame in range(self.span[0], self.span[1] + 1):
            if frame not in there or not all(matte_file(self.folder, frame, int(k)).exists() for k in self.subjects):
                break
            found.append(frame)
        return found

    def lines(self) -> list[tuple[int, str]]:
        """The lines of the records with their frames; a line that is cut off or damaged is left out."""
        try:
            texts = (self.folder / "records.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        except OSError:
            return []
        found = []
        for text in texts:
            with suppress(ValueError, KeyError, TypeError):
                found.append((int(parse_json(text)["frame"]), text))
        return found


def united_alpha(alphas: list[Alpha]) -> Alpha:
    """Add subjects' alphas, each (H, W) float32; where they add up to more than 1 the sum is 1."""
    total = alphas[0]
    for alpha in alphas[1:]:
        total = total + alpha
    return np.minimum(total, np.float32(1))
