"""The hidden folders of a job, one beside each output. They are removed when the job is done.

The one beside the first output holds all that its tasks share:

    plan.json    the job; another job over the same output is refused
    0.track ...  the track of each subject
    tracks/      for each chunk, while tracking goes on: the track of the frames that it needs
    tracked.json facts of the tracking; written last, so that its absence tells that tracks are not whole
    chunks/      a file for each chunk that is matted, see `chunk_file.py`
    running/     a file for each task that runs: host, process, frames done
    joined       an empty file: every output has its name
    lock         locked by the program that runs the job here

Those beside the other outputs hold plan.json alone. Frames of sequences are written in each and moved to their names.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.ranges import FrameRange
from mam_video.core.untrusted import parse_json
from mam_video.farm.chunk_file import chunk_name, frames_in_name
from mam_video.farm.plan import JobPlan
from mam_video.jobs.checkpoint import difference
from mam_video.media import ClipInfo, parse_output
from mam_video.media.formats import pattern_of
from mam_video.report.files import write_json, write_text
from mam_video.runtime.append_log import remove
from mam_video.runtime.commit import Lock
from mam_video.runtime.os_errors import writing

_PLAN: Final = "plan.json"
_BEAT: Final = 1.0  # seconds between two notes of a task's progress


def host() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def job_place(output: str, info: ClipInfo, part: FrameRange | None) -> Path:
    """Return the hidden folder of an output; each range of it has its own."""
    name, kind = parse_output(output)
    path = Path(name)
    if kind.writer == "sequence":
        pattern = pattern_of(name, kind, info)
        path = pattern.folder if pattern.makes_folder else pattern.path
    return path.with_name(f".{path.name}{'' if part is None else f'.{part}'}.job")


@dataclass(frozen=True)
class JobFolder:
    """The hidden folders of one job; `places` has one for each output."""

    plan: JobPlan
    places: tuple[Path, ...]

    @classmethod
    def of(cls, plan: JobPlan, info: ClipInfo, names: Sequence[str]) -> JobFolder:
        """`names`: every output of the clip `info`, with subjects' names in place."""
        return cls(plan, tuple(job_place(name, info, plan.part) for name in names))

    @property
    def main(self) -> Path:
        """The folder that tasks share."""
        return self.places[0]

    def claim(self) -> None:
        """Make the folders and put the plan into each.

        Raises: UsageError, another job writes to one of the outputs; MediaError, a folder cannot be made.
        """
        for place in self.places:
            there = plan_in(place)
            if there is not None and there.id != self.plan.id:
                what = difference(there.depends_on, self.plan.depends_on)
                raise UsageError(
                    f"{place}: another job writes this output: its {what}; let it end, or begin anew with --overwrite"
                )
        for place in self.places:
            with writing(place):
                (place / "chunks").mkdir(parents=True, exist_ok=True)
                (place / "running").mkdir(exist_ok=True)
                (place / "tracks").mkdir(exist_ok=True)
            if plan_in(place) is None:
                write_text(place / _PLAN, self.plan.text() + "\n", "the job's plan")

    @property
    def begun(self) -> bool:
        """Whether a job of these outputs was begun and not joined."""
        return any(plan_in(place) is not None for place in self.places) and not self.joined

    @property
    def joined(self) -> bool:
        """Whether this very job is done."""
        there = plan_in(self.main)
        return (self.main / "joined").exists() and there is not None and there.id == self.plan.id

    def discard(self) -> None:
        """Remove the folders; the plans first, so that what is left looks like no job."""
        for place in reversed(self.places):
            with suppress(OSError):
                (place / _PLAN).unlink(missing_ok=True)
            remove(place)

    def finish(self) -> None:
        """Note that every output has its name, and remove what is no longer needed."""
        with writing(self.main):
            (self.main / "joined").touch()
        for place in self.places[1:]:
            remove(place)
        for name in ("chunks", "running", "tracks"):
            remove(self.main / name)
        for path in [*self.track_paths, self.main / "tracked.json", self.main / "publishing", self.main / "lock"]:
            path.unlink(missing_ok=True)

    @contextmanager
    def running_here(self) -> Iterator[None]:
        """Hold the lock of the program that runs the job. Raises: UsageError, another holds it."""
        path = self.main / "lock"
        with writing(path):
            path.touch()
        try:
            lock = Lock(path)
        except BlockingIOError:
            raise UsageError(f"{self.main}: this job is running already; wait for it, or stop it first") from None
        try:
            yield
        finally:
            lock.close()

    @property
    def track_paths(self) -> list[Path]:
        """The track file of each subject."""
        count = max(len(self.plan.prompts), 1)
        return [self.main / f"{k}.track" for k in range(count)]

    def chunk_track(self, chunk: FrameRange, k: int) -> Path:
        """Return the track of subject `k` that a chunk needs."""
        return self.main / "tracks" / f"{chunk_name(chunk).removesuffix('.frames')}.{k}.track"

    def tracks_for(self, chunk: FrameRange) -> list[Path] | None:
        """Return the track files that a chunk can be matted with now, one for each subject; None: not yet."""
        if self.tracked is not None:
            return self.track_paths
        own = [self.chunk_track(chunk, k) for k in range(len(self.track_paths))]
        return own if all(path.exists() for path in own) else None

    @property
    def tracked(self) -> dict[str, Any] | None:
        """The facts of the tracking; None: it is not done."""
        return _json_in(self.main / "tracked.json")

    def note_tracked(self, facts: Mapping[str, Any]) -> None:
        """Note that every track is whole."""
        write_json(self.main / "tracked.json", dict(facts), "the track's facts")

    def chunk_path(self, frames: FrameRange) -> Path:
        """Return the name of a chunk's file."""
        return self.main / "chunks" / chunk_name(frames)

    @property
    def chunks(self) -> dict[Path, FrameRange]:
        """The chunk files that are whole, and the frames of each, by first frame."""
        found: dict[Path, FrameRange] = {}
        with suppress(OSError):
            for entry in (self.main / "chunks").iterdir():
                frames = frames_in_name(entry.name)
                if frames is not None:
                    found[entry] = frames
        return dict(sorted(found.items(), key=lambda item: (item[1].start, item[1].stop or 0)))

    @property
    def missing(self) -> list[FrameRange]:
        """The chunks of the plan that are not matted yet."""
        done = {index for frames in self.chunks.values() for index in range(frames.start, frames.stop or 0)}
        return [each for each in self.plan.chunks if not done.issuperset(range(each.start, each.stop or 0))]

    @contextmanager
    def scratch(self, k: int) -> Iterator[Path]:
        """Make a folder beside the output `k` for files that are moved to their names; removed in the end."""
        folder = self.places[k] / f"scratch-{secrets.token_hex(4)}"
        with writing(folder):
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            remove(folder)

    def beat(self, name: str) -> Beat:
        """Return what notes the progress of the task `name`."""
        return Beat(self.main / "running" / f"{name}-{secrets.token_hex(4)}.json", name)

    def running(self) -> list[dict[str, Any]]:
        """Read what every running task noted last."""
        found = []
        with suppress(OSError):
            for entry in (self.main / "running").glob("*.json"):
                note = _json_in(entry)
                if note is not None:
                    found.append(note)
        return found

    def forget_running(self) -> None:
        """Remove the notes of tasks that were killed; only where none runs."""
        remove(self.main / "running")
        with writing(self.main):
            (self.main / "running").mkdir(exist_ok=True)


class Beat:
    """Notes how far a task is, about once a second, in a file that goes with it."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._last, self.done = path, 0.0, 0
        self._note: dict[str, Any] = {"task": name, "host": host(), "pid": os.getpid()}

    def count(self, total: int | None) -> None:
        """Count one frame more of `total`."""
        self.done += 1
        now = time.monotonic()
        if now - self._last >= _BEAT:
            self._last = now
            self._write(total)

    def _write(self, total: int | None) -> None:
        with suppress(MediaError):  # progress is worth no failure
            write_json(self._path, {**self._note, "done": self.done, "total": total}, "the progress")

    def __enter__(self) -> Beat:
        self._write(None)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def plan_in(place: Path) -> JobPlan | None:
    """Read the plan in a hidden folder; None where there is none. Raises: UsageError, it is damaged."""
    try:
        text = (place / _PLAN).read_text(encoding="utf-8")
    except OSError:
        return None
    return JobPlan.from_text(text, str(place / _PLAN))


def _json_in(path: Path) -> dict[str, Any] | None:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
