"""What a run tells afterwards: one record a frame, where the time went, what it was made with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mam_video.core.frames import Matted, Record, State
from mam_video.core.reasons import Finding
from mam_video.core.settings import Settings
from mam_video.core.timecode import Timecode
from mam_video.core.units import readable
from mam_video.media.base import ClipInfo
from mam_video.media.movie.verify import Check
from mam_video.report.files import write_json
from mam_video.report.sentences import grouped, sentence, sentences
from mam_video.tracking.types import worst_of

VERSION = 2  # of run.json's layout, docs/report.md
_WORSE = [State.PROMPTED, State.RECOVERED, State.UNCERTAIN, State.CUT, State.LOST]  # flagged states, the worst last


class FlaggedRange(NamedTuple):
    """Neighbouring frames that an artist should look at: first and last index, both inclusive."""

    first: int
    last: int
    state: State  # the worst of them
    findings: tuple[Finding, ...]
    subject: str = ""  # whose, where there are several

    def __str__(self) -> str:
        return self.message(None)

    def message(self, numbers: Sequence[int] | None, start: Timecode | None = None) -> str:
        """In a line; of a sequence by the numbers of its files, and by timecode where the first frame's is known."""
        first, last = (self.first, self.last) if numbers is None else (numbers[self.first], numbers[self.last])
        frames = f"frame {first}" if first == last else f"frames {first}-{last}"
        if start is not None:
            label = str(start + self.first)
            frames += f" [{label}]" if self.first == self.last else f" [{label} - {start + self.last}]"
        whose = f", {self.subject}" if self.subject else ""
        why = "; ".join(self.reasons)
        return f"{frames}{whose}: {self.state}" + (f" ({why})" if why else "")

    @property
    def reasons(self) -> list[str]:
        """A sentence for each kind of finding; findings that differ only in their numbers share one."""
        return sentences(self.findings)

    @property
    def codes(self) -> list[str]:
        """The stable code of each of `reasons`."""
        return [str(group[0].reason) for group in grouped(self.findings)]

    def as_dict(self) -> dict[str, Any]:
        """As run.json and the lines for render managers have it."""
        where = {"first": self.first, "last": self.last, **({"subject": self.subject} if self.subject else {})}
        return {**where, "state": str(self.state), "codes": self.codes, "reasons": self.reasons}


@dataclass(repr=False)
class RunReport:
    """Filled while a run goes on; whole when it ends.

    records  one a frame; of several subjects that of the one that is worst off
    parts    of several subjects: the records of each frame, one for each; else empty
    command  the arguments of the command line that asked for it, program first; empty where Python did
    seconds  by stage, added up over threads: stages overlap
    frame_stages  the same of each frame: what was done while it was waited for, partly for the frames after it
    checks   of each output that was read back: what was compared with what was promised
    files    of each output: the files that were written, in order
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
    parts: list[tuple[Record, ...]] = field(default_factory=list)
    frame_seconds: list[float] = field(default_factory=list)
    frame_stages: list[dict[str, float]] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0
    notes: list[str] = field(default_factory=list)
    checks: dict[Path, list[Check]] = field(default_factory=dict)
    files: dict[Path, list[Path]] = field(default_factory=dict)
    _told: dict[str, float] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        names = ", ".join(str(path) for path in self.outputs)
        return f"RunReport({names}: {len(self.records)} frames, {self.wall:.1f} s, {len(self.flagged)} flagged ranges)"

    @property
    def flagged(self) -> list[FlaggedRange]:
        """The ranges to look at, in order."""
        if not self.parts:
            return flagged_ranges(self.records)
        each = [flagged_ranges(records) for records in zip(*self.parts, strict=True)]
        return sorted((found for ranges in each for found in ranges), key=lambda found: found.first)

    @property
    def failed_checks(self) -> list[str]:
        """What was read back and is not as promised, a line each output."""
        return [
            f"{path}: {faults}"
            for path, checks in self.checks.items()
            if (faults := "; ".join(str(check) for check in checks if not check.good))
        ]

    @property
    def fps(self) -> float:
        """Frames a second, file to file."""
        return len(self.records) / self.wall if self.wall > 0 else 0.0

    def summary(self) -> str:
        """One line: frames, time and speed."""
        return f"{_counted(len(self.records))} in {self.wall:.1f} s ({self.fps:.2f} fps)"

    def timings(self) -> str:
        """One line: the stages and their milliseconds a frame."""
        each = max(len(self.records), 1)
        spent = ", ".join(f"{name} {seconds / each * 1000:.0f}" for name, seconds in self.seconds.items())
        return f"milliseconds a frame by stage, overlapping: {spent}"

    def results(self) -> list[str]:
        """One line an output: its name, frames, what it holds, its size, and whether it was read back."""
        return [f"{self._name_of(path)}: {', '.join(self._facts_of(path))}" for path in self.outputs]

    def _name_of(self, path: Path) -> str:
        files = self.files.get(path, [path])
        return str(files[0]) if len(files) == 1 else f"{files[0]} to {files[-1].name}"

    def _facts_of(self, path: Path) -> list[str]:
        checks = {check.what: check for check in self.checks.get(path, [])}
        frames = checks.get("frames")
        facts = [_counted(int(frames.says) if frames is not None and frames.good else len(self.records))]
        if "alpha channel" in checks and checks["alpha channel"].says == "True":
            facts.append("alpha")
        if "audio streams" in checks and checks["audio streams"].says not in ("0", "None"):
            facts.append("sound")
        with suppress(OSError):
            facts.append(readable(sum(file.stat().st_size for file in self.files.get(path, [path]))))
        if checks:
            faults = [str(check) for check in checks.values() if not check.good]
            facts.append(f"NOT as it should be: {'; '.join(faults)}" if faults else "checked")
        return facts

    def add(self, matted: Matted, seconds: float, stages: Mapping[str, float]) -> None:
        """One more frame is written, `seconds` after the one before; `stages` as for `add_stages`."""
        self.records.append(matted.record)
        if matted.parts:
            self.parts.append(tuple(part.record for part in matted.parts))
        self.frame_seconds.append(seconds)
        self.add_stages(stages)

    def add_known(self, records: Sequence[Record], seconds: float) -> None:
        """Add a frame that an earlier run wrote: a record for each subject."""
        self.records.append(records[0])
        if len(records) > 1:
            self.parts.append(tuple(records))
        self.set_known(len(self.records) - 1, records)
        self.frame_seconds.append(seconds)
        self.add_stages({})

    def set_known(self, k: int, records: Sequence[Record]) -> None:
        """Replace the records of the `k`-th frame: one for each subject."""
        if len(records) > 1:
            self.parts[k] = tuple(records)
        self.records[k] = worst_of(records) if len(records) > 1 else records[0]

    def add_stages(self, seconds: Mapping[str, float]) -> None:
        """One more frame is written; `seconds` by stage so far, empty where it was written by an earlier run."""
        before, self._told = self._told, dict(seconds)
        spent = {name: round(s - before.get(name, 0.0), 4) for name, s in self._told.items()}
        self.frame_stages.append({name: s for name, s in spent.items() if s > 0})

    def states(self) -> dict[str, int]:
        """How many frames have each state; states of no frame are left out."""
        return dict(Counter(str(r.state) for r in self.records))

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
                "timecode": None if clip.timecode is None else str(clip.timecode),
            },
            "command": self.command,
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
            "states": self.states(),
            "flagged": [found.as_dict() for found in self.flagged],
            "frames": [
                {
                    "index": r.index,
                    **({"number": clip.numbers[r.index]} if clip.numbers is not None else {}),
                    "pts": r.pts,
                    "time": round(float(r.pts * clip.time_base), 6),
                    **({"timecode": str(clip.timecode + r.index)} if clip.timecode is not None else {}),
                    **({"subject": r.subject} if r.subject else {}),
                    "state": str(r.state),
                    **({"cut": True} if r.cut else {}),
                    "box": [round(v, 2) for v in r.box.xyxy],
                    "score": round(r.score, 4),
                    "area": round(r.area, 6),
                    "agreement": None if r.agreement is None else round(r.agreement, 4),
                    "flicker": None if r.flicker is None else round(r.flicker, 5),
                    "reasons": [sentence([finding]) for finding in r.findings],
                    "findings": [finding.as_dict() for finding in r.findings],
                    "seconds": round(s, 4),
                    "stage_seconds": stages,
                }
                for own, s, stages in zip(
                    self.parts or [(r,) for r in self.records], self.frame_seconds, self.frame_stages, strict=True
                )
                for r in own
            ],
        }

    def save(self, path: Path) -> None:
        """Write as JSON; whole or not at all."""
        write_json(path, self.as_dict(), "the report")


def _counted(frames: int) -> str:
    return f"{frames} frame{'' if frames == 1 else 's'}"


def flagged_ranges(records: Iterable[Record]) -> list[FlaggedRange]:
    """Neighbouring flagged frames of one shot as ranges."""
    found: list[FlaggedRange] = []
    run: list[Record] = []
    for record in [*records, None]:
        if run and (record is None or record.cut or not record.flagged):
            worst = max((r.state for r in run), key=_WORSE.index)
            findings = tuple(finding for r in run for finding in r.findings)
            found.append(FlaggedRange(run[0].index, run[-1].index, worst, findings, run[0].subject))
            run = []
        if record is not None and record.flagged:
            run.append(record)
    return found
