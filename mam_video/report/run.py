"""The report of a run: one record per frame, time by stage, settings, weights and checks."""

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
from mam_video.media.expected import Check
from mam_video.report.files import write_json
from mam_video.report.reach_back import flagged_back
from mam_video.report.rerun import Rerun
from mam_video.report.sentences import grouped, positions, sentence, sentences
from mam_video.tracking.types import worst_of

VERSION = 2  # version of the layout of run.json, see docs/report.md
_WORSE = [State.PROMPTED, State.RECOVERED, State.UNCERTAIN, State.CUT, State.LOST]  # flagged states, the worst last


class FlaggedRange(NamedTuple):
    """Neighbouring flagged frames. First and last index are both inclusive."""

    first: int
    last: int
    state: State  # the worst state of the range
    findings: tuple[Finding, ...]
    subject: str = ""  # the subject's name if there are several, else empty
    places: tuple[int, ...] = ()  # the index of the frame of each finding; empty: not known
    worst: int | None = None  # index of the frame with the lowest score, of several uncertain ones

    def __str__(self) -> str:
        return self.message(None)

    def message(self, numbers: Sequence[int] | None, start: Timecode | None = None) -> str:
        """Describe the range in one line.

        Args:
            numbers: the frame number of each index of a sequence; None for a movie.
            start: timecode of the first frame; None if unknown.
        """
        first, last = (self.first, self.last) if numbers is None else (numbers[self.first], numbers[self.last])
        frames = f"frame {first}" if first == last else f"frames {first}-{last}"
        if start is not None:
            label = str(start + self.first)
            frames += f" [{label}]" if self.first == self.last else f" [{label} - {start + self.last}]"
        owner = f", {self.subject}" if self.subject else ""
        worst = "" if self.worst is None else f", worst {self.worst if numbers is None else numbers[self.worst]}"
        why = "; ".join(self.reasons_by_frame(numbers))
        return f"{frames}{owner}: {self.state}{worst}" + (f" ({why})" if why else "")

    @property
    def reasons(self) -> list[str]:
        """Return a sentence for each kind of finding. Findings that differ only in their numbers share one."""
        return sentences(self.findings)

    def reasons_by_frame(self, numbers: Sequence[int] | None) -> list[str]:
        """Return `reasons`, each with the frames that it is about unless it is about the whole range."""
        texts = []
        for text, (first, last) in zip(self.reasons, self.spans, strict=True):
            if (first, last) != (self.first, self.last):
                a, b = (first, last) if numbers is None else (numbers[first], numbers[last])
                text = f"{a}: {text}" if a == b else f"{a}-{b}: {text}"
            texts.append(text)
        return texts

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Return the first and last frame, by index, of each of `reasons`."""
        if not self.places:
            return [(self.first, self.last)] * len(self.reasons)
        groups = [[self.places[k] for k in group] for group in positions(self.findings)]
        return [(min(places), max(places)) for places in groups]

    @property
    def codes(self) -> list[str]:
        """Return the stable code of each of `reasons`."""
        return [str(group[0].reason) for group in grouped(self.findings)]

    def as_dict(self) -> dict[str, Any]:
        """Return the entry for run.json and for `--progress json`."""
        where = {"first": self.first, "last": self.last, **({"subject": self.subject} if self.subject else {})}
        worst = {} if self.worst is None else {"worst": self.worst}
        return {
            **where, "state": str(self.state), **worst, "codes": self.codes, "reasons": self.reasons,
            "spans": [list(span) for span in self.spans],
        }  # fmt: skip


@dataclass(repr=False)
class RunReport:
    """The report of a run. It is filled during the run and complete at its end.

    records        one record per frame; with several subjects the record of the worst one
    parts          with several subjects: the records of each frame, one per subject; else empty
    frame_seconds  seconds between writing the previous frame and this one
    frame_stages   seconds by stage in that time; a part of the work was for later frames
    command        the command line, program first; empty for a run started from Python
    rerun          how to repeat that command with corrections; None for a run started from Python
    seconds        seconds by stage, summed over threads; stages overlap
    wall           seconds from opening the clip to closing the last file, without loading the model
    notes          assumptions, and properties that could not be preserved, one line each
    files          for each output: the files that were written, in order
    licences       of the model's weights, by model
    checks         for each output that was read back: the comparison with the expected properties
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
    rerun: Rerun | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0
    notes: list[str] = field(default_factory=list)
    checks: dict[Path, list[Check]] = field(default_factory=dict)
    files: dict[Path, list[Path]] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    _seconds_before: dict[str, float] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        names = ", ".join(str(path) for path in self.outputs)
        return f"RunReport({names}: {len(self.records)} frames, {self.wall:.1f} s, {len(self.flagged)} flagged ranges)"

    @property
    def flagged(self) -> list[FlaggedRange]:
        """Return the flagged ranges in the order of their first frames."""
        if not self.parts:
            return flagged_ranges(self.records)
        each = [flagged_ranges(records) for records in zip(*self.parts, strict=True)]
        return sorted((r for ranges in each for r in ranges), key=lambda r: r.first)

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
        """Return frames per second, file to file."""
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
        return [f"{self.name_of(path)}: {', '.join(self.facts_of(path))}" for path in self.outputs]

    def name_of(self, path: Path) -> str:
        """Name the file of an output, or the first and the last of several."""
        files = self.files.get(path, [path])
        return str(files[0]) if len(files) == 1 else f"{files[0]} to {files[-1].name}"

    def facts_of(self, path: Path) -> list[str]:
        """List what an output holds: frames, alpha, sound, its size, and whether it was read back."""
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
        """Add a frame that was written `seconds` after the previous one; `stages` as for `add_stages`."""
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
        """Add the stage times of a written frame.

        `seconds` is the total by stage so far; empty if an earlier run wrote the frame.
        """
        before, self._seconds_before = self._seconds_before, dict(seconds)
        spent = {name: round(s - before.get(name, 0.0), 4) for name, s in self._seconds_before.items()}
        self.frame_stages.append({name: s for name, s in spent.items() if s > 0})

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage so far, summed over threads, the largest first; empty before the first frame."""
        return dict(sorted(self._seconds_before.items(), key=lambda item: -item[1]))

    def repeated_by(self, rerun: Rerun | None) -> None:
        """Take how the finished run is repeated with corrections."""
        if rerun is not None and rerun.of_track:
            columns = list(zip(*self.parts, strict=True)) or [tuple(self.records)]
            numbers = [self.clip.frame_number(record.index) for record in self.records]
            rerun = rerun.with_track(columns, numbers, self.clip.size)
        self.rerun = rerun

    def flag_back(self, stand: int) -> None:
        """Flag the frames that hold a static part which was removed later; `stand` is `track.stand`."""
        columns = list(zip(*self.parts, strict=True)) or [tuple(self.records)]
        flagged = zip(*(flagged_back(column, stand) for column in columns), strict=True)
        for k, (row, before) in enumerate(zip(flagged, zip(*columns, strict=True), strict=True)):
            if any(new is not old for new, old in zip(row, before, strict=True)):
                self.set_known(k, row)

    def states(self) -> dict[str, int]:
        """Count the frames by state. States without frames are omitted."""
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
            "model": {
                "name": self.model,
                "device": self.device,
                "weights_sha256": self.weights,
                "licences": self.licences,
            },
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
            "flagged": [flagged_range.as_dict() for flagged_range in self.flagged],
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
                for entries, s, stages in zip(
                    self.parts or [(r,) for r in self.records], self.frame_seconds, self.frame_stages, strict=True
                )
                for r in entries
            ],
        }

    def save(self, path: Path) -> None:
        """Write the report as JSON, completely or not at all. Raises: MediaError."""
        write_json(path, self.as_dict(), "the report")


def _counted(frames: int) -> str:
    return f"{frames} frame{'' if frames == 1 else 's'}"


def flagged_ranges(records: Iterable[Record]) -> list[FlaggedRange]:
    """Join neighbouring flagged frames of one shot into ranges."""
    ranges: list[FlaggedRange] = []
    run: list[Record] = []
    for record in [*records, None]:
        if run and (record is None or record.cut or not record.flagged):
            worst = max((r.state for r in run), key=_WORSE.index)
            findings = tuple(finding for r in run for finding in r.findings)
            places = tuple(r.index for r in run for _ in r.findings)
            lowest = min(run, key=lambda r: r.score).index if len(run) > 1 and worst is State.UNCERTAIN else None
            ranges.append(FlaggedRange(run[0].index, run[-1].index, worst, findings, run[0].subject, places, lowest))
            run = []
        if record is not None and record.flagged:
            run.append(record)
    return ranges
