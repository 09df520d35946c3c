"""A list of shots on one engine. What fails does not stop the others; a second call does what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mam_video.core.errors import MamVideoError
from mam_video.core.untrusted import line_of, parse_json
from mam_video.farm.engine import Engine
from mam_video.farm.folder import job_place
from mam_video.farm.plan import JobPlan
from mam_video.farm.scheduler import JobRun, Progress, run_jobs
from mam_video.farm.start import start_job
from mam_video.farm.task import Shot, make_plan, outputs_of
from mam_video.media import Reader, open_clip, parse_output
from mam_video.media.formats import pattern_of
from mam_video.media.sequence.numbers import number_of
from mam_video.report.batch_page import RECORD, ShotRow, save_batch
from mam_video.report.page import save_report


@dataclass(frozen=True)
class BatchShot:
    """A shot of a list: its name, and what reads it. Raises there: MamVideoError, it cannot be."""

    name: str
    read: Callable[[], Shot]


class Batch:
    """Runs the shots of one list, and keeps the table of what came of each in `folder`."""

    def __init__(
        self, shots: Sequence[BatchShot], folder: Path, *, workers: int, threads: int, chunk: int | None = None
    ) -> None:
        """`workers`, `threads` and `chunk` as for `make_plan`."""
        self._shots, self._folder = list(shots), folder
        self._workers, self._threads, self._chunk = workers, threads, chunk
        self._on_row: Callable[[ShotRow], None] | None = None
        self._before = _rows_in(folder)
        self._found: dict[str, ShotRow] = {}
        self._names: dict[int, str] = {}  # of jobs, by identity

    @property
    def rows(self) -> list[ShotRow]:
        """What came of the shots so far, in the list's order."""
        return [self._found[shot.name] for shot in self._shots if shot.name in self._found]

    def run(
        self,
        engine: Engine,
        *,
        on_row: Callable[[ShotRow], None] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> list[ShotRow]:
        """Run what is missing; return the table. `on_row` is called when a shot is over."""
        self._on_row = on_row
        run_jobs(self._jobs(), engine, on_progress=on_progress, on_over=self._over)
        save_batch(self.rows, self._folder)
        return self.rows

    def _jobs(self) -> Iterator[JobRun]:
        for shot in self._shots:
            job = self._job(shot)
            if job is not None:
                self._names[id(job)] = shot.name
                yield job

    def _job(self, shot: BatchShot) -> JobRun | None:
        """Return the job of a shot; None where there is nothing to do, or it cannot be."""
        try:
            wanted = replace(shot.read(), report=str(self._folder / shot.name))
            with open_clip(wanted.source, wanted.settings.input) as reader:
                plan = make_plan(wanted, reader, workers=self._workers, chunk=self._chunk, threads=self._threads)
                if not plan.settings.output.overwrite and _stands(plan, reader):
                    self._note(self._stood(shot.name, plan.frames.count(None)))
                    return None
                folder = start_job(plan, reader, resume=True)
                folder.claim()
                return JobRun(folder)
        except MamVideoError as error:
            self._note(ShotRow(name=shot.name, state="failed", says=line_of(str(error))))
        except Exception as error:  # noqa: BLE001  # the other shots go on
            self._note(
                ShotRow(name=shot.name, state="failed", says=line_of(f"unexpected {type(error).__name__}: {error}"))
            )
        return None

    def _stood(self, name: str, frames: int | None) -> ShotRow:
        """Return the row of a shot whose outputs stand there: as an earlier call left it, where one did."""
        before = self._before.get(name)
        if before is not None and before.state in ("done", "flagged", "exists"):
            return before
        return ShotRow(name=name, state="exists", frames=frames, says="its outputs exist; nothing was done")

    def _over(self, job: JobRun) -> None:
        name = self._names.pop(id(job))
        if job.joined is None:
            says = str(job.failure()).replace("the same command with --resume", "the same command")
            self._note(ShotRow(name=name, state="failed", says=line_of(says)))
            return
        report = job.joined.report
        report.notes += job.again
        own = self._folder / name
        why = [*report.failed_checks, *job.again]
        if report.flagged:
            why.append(report.flagged[0].message(report.clip.numbers, report.clip.timecode))
        try:
            save_report(report, job.joined.thumbnails, own)
        except MamVideoError as error:
            why.append(str(error))
        state = "failed" if report.failed_checks else "flagged" if report.flagged else "done"
        job.folder.discard()
        self._note(
            ShotRow(
                name=name, state=state, frames=len(report.records), seconds=round(report.wall, 2),
                flagged=sum(record.flagged for record in report.records), says="; ".join(why), report=name,
            )
        )  # fmt: skip

    def _note(self, row: ShotRow) -> None:
        self._found[row.name] = row
        save_batch([*self.rows, *self._not_reached()], self._folder)
        if self._on_row is not None:
            self._on_row(row)

    def _not_reached(self) -> list[ShotRow]:
        """Rows that an earlier call left of shots that this one has not come to."""
        names = [shot.name for shot in self._shots if shot.name not in self._found]
        return [self._before[name] for name in names if name in self._before]


def exit_code(rows: Sequence[ShotRow]) -> int:
    """Return 1 where a shot failed, else 3 where one is flagged, else 0."""
    states = {row.state for row in rows}
    return 1 if "failed" in states else 3 if "flagged" in states else 0


def _stands(plan: JobPlan, reader: Reader) -> bool:
    """Return whether every file of a shot's outputs stands there, and no job is at them."""
    info = reader.info
    for output in outputs_of(plan).names:
        name, kind = parse_output(output)
        paths = [Path(name)]
        if kind.writer == "sequence":
            pattern = pattern_of(name, kind, info)
            numbers = (
                number_of(info, plan.settings.output.start_number, index)
                for index in range(plan.frames.start, plan.frames.stop or 0)
            )
            paths = [pattern.folder / pattern.name(number) for number in numbers]
        if not all(path.exists() for path in paths) or job_place(output, info, plan.part).exists():
            return False
    return True


def _rows_in(folder: Path) -> dict[str, ShotRow]:
    """Read the table that an earlier call left; empty where there is none, or it is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        content = parse_json((folder / RECORD).read_text(encoding="utf-8"))
        return {row.name: row for row in map(ShotRow.from_dict, content["shots"])}
    return {}
