"""What a run tells afterwards: one record a frame, where the time went, what it was made with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from mam_video.frames import Record, State
from mam_video.media.base import ClipInfo
from mam_video.media.verify import Check
from mam_video.report.files import write_json
from mam_video.settings import Settings

VERSION = 1  # of run.json's layout


class FlaggedRange(NamedTuple):
    """Neighbouring frames that an artist should look at: first and last index, both inclusive."""

    first: int
    last: int
    state: State  # the worst of them
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return self.told(None)

    def told(self, numbers: Sequence[int] | None) -> str:
        """In a line; of a sequence by the numbers of its files."""
        first, last = (self.first, self.last) if numbers is None else (numbers[self.first], numbers[self.last])
        frames = f"frame {first}" if first == last else f"frames {first}-{last}"
        return f"{frames}: {self.state}" + (f" ({'; '.join(self.reasons)})" if self.reasons else "")


@dataclass
class RunReport:
    """Filled while a run goes on; whole when it ends.

    seconds  by stage, added up over threads: stages overlap
    checks   of each output that was read back: what was compared with what was promised
    notes    what was assumed or could not be kept, a line each
    wall     seconds from opening the clip to closing the last file, without loading the model
    """

    clip: ClipInfo
    model: str
    weights: dict[str, str]
    device: str
    settings: Settings
    outputs: list[Path]
    records: list[Record] = field(default_factory=list)
    frame_seconds: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0
    notes: list[str] = field(default_factory=list)
    checks: dict[Path, list[Check]] = field(default_factory=dict)

    @property
    def flagged(self) -> list[FlaggedRange]:
        """The ranges to look at, in order."""
        return flagged_ranges(self.records)

    @property
    def unkept(self) -> list[str]:
        """What was read back and is not as promised, a line each."""
        return [f"{path}: {check}" for path, checks in self.checks.items() for check in checks if not check.good]

    @property
    def fps(self) -> float:
        """Frames a second, file to file."""
        return len(self.records) / self.wall if self.wall > 0 else 0.0

    def summary(self) -> str:
        """One line: frames, time, speed, and the stages that took most of it."""
        spent = ", ".join(f"{name} {s / max(len(self.records), 1) * 1000:.0f}" for name, s in self.seconds.items())
        return (
            f"{len(self.records)} frames in {self.wall:.1f} s, {self.fps:.2f} fps file to file "
            f"(ms a frame by stage, overlapping: {spent})"
        )

    def as_dict(self) -> dict[str, Any]:
        clip = self.clip
        return {
            "version": VERSION,
            "input": {
                "path": str(clip.path),
                "width": clip.width,
                "height": clip.height,
                "rate": str(clip.rate),
                "time_base": str(clip.time_base),
                "pixel_format": clip.pixel_format,
            },
            "outputs": [str(p) for p in self.outputs],
            "model": {"name": self.model, "device": self.device, "weights_sha256": self.weights},
            "settings": self.settings.as_dict(),
            "notes": self.notes,
            "read_back": {
                str(path): {check.what: {"good": check.good, "says": check.says} for check in checks}
                for path, checks in self.checks.items()
            },
            "frames_decoded": len(self.records),
            "wall_seconds": round(self.wall, 3),
            "fps": round(self.fps, 3),
            "stage_seconds": {name: round(s, 3) for name, s in self.seconds.items()},
            "flagged": [
                {"first": r.first, "last": r.last, "state": str(r.state), "reasons": list(r.reasons)}
                for r in self.flagged
            ],
            "frames": [
                {
                    "index": r.index,
                    **({"number": clip.numbers[r.index]} if clip.numbers is not None else {}),
                    "pts": r.pts,
                    "state": str(r.state),
                    "box": [round(v, 2) for v in r.box.xyxy],
                    "score": round(r.score, 4),
                    "area": round(r.area, 6),
                    "reasons": list(r.reasons),
                    "seconds": round(s, 4),
                }
                for r, s in zip(self.records, self.frame_seconds, strict=True)
            ],
        }

    def save(self, path: Path) -> None:
        """Write as JSON; whole or not at all."""
        write_json(path, self.as_dict(), "the report")


def flagged_ranges(records: Iterable[Record]) -> list[FlaggedRange]:
    """Neighbouring flagged frames as ranges."""
    found: list[FlaggedRange] = []
    for flagged, group in groupby(records, key=lambda r: r.state.flagged):
        if flagged:
            run = list(group)
            worst = State.LOST if any(r.state is State.LOST for r in run) else State.UNCERTAIN
            reasons = tuple(dict.fromkeys(reason for r in run for reason in r.reasons))
            found.append(FlaggedRange(run[0].index, run[-1].index, worst, reasons))
    return found
