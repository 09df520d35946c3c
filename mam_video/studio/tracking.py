"""Track and matte a shot's range in the tracker's process, frame by frame before the artist's eyes."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mam_video.core.errors import UsageError
from mam_video.studio.command import run_span
from mam_video.studio.events import Events
from mam_video.studio.plain_files import save_text
from mam_video.studio.state import State
from mam_video.studio.versions import EDGE_SECTIONS, Version, begun_entry
from mam_video.studio.workers import Worker

if TYPE_CHECKING:
    from mam_video.studio.shot import Shot


class Tracking:
    """What is being tracked in one shot: at most one version at a time."""

    def __init__(self, shot: Shot, events: Events, worker: Worker) -> None:
        self._shot, self._events, self._worker = shot, events, worker
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def start(self) -> int:
        """Track and matte the range of the shot into a new version; returns its number.

        Raises: UsageError, there is no prompt, one lies outside the range, or another version is being made.
        """
        shot, state = self._shot, self._shot.state
        first, last = run_span(state, shot.frames.count)
        prompted = state.prompted
        if not prompted:
            raise UsageError("draw a box around the subject first")
        outside = sorted({k for frames in prompted.values() for k in frames if not first <= k <= last})
        if outside:
            raise UsageError(f"frame {outside[0]} has a prompt outside the range; widen the range or remove the prompt")
        with self._lock:
            if self._running is not None:
                raise UsageError("a version is being tracked; stop it first")
            number, folder = shot.project.new_version()
            old = shot.mattes.version(state.version)
            again = None if old is None else _corrections(old, state, (first, last))
            job: dict[str, Any] = {
                "clip": shot.clip,
                "state": state.as_dict(),
                "folder": str(folder),
                "masks": str(shot.masks),
            }
            if old is not None and again:
                self._running = running = _Running(number, folder, state, old.span, corrects=True)
                job |= {"job": "correct", "old": str(old.folder), "again": again}
            else:
                self._running = running = _Running(number, folder, state, (first, last))
                job |= {"job": "track", "span": state.span}
            entry = {**_tracked_with(state), "span": running.span, "corrects": running.corrects}
            save_text(folder / "begun.json", json.dumps(entry) + "\n")
            running.job = self._worker.send(job, lambda entry: self._heard(running, entry))
        self._tell()
        return number

    def take_over(self, folder: Path) -> None:
        """Make a version of what was matted when the server was killed; call it before anything is tracked.

        The frames of a correction are removed: those around them are missing.
        """
        entry = begun_entry(folder) or {}
        try:
            first, last = (int(k) for k in entry["span"])
            found = Version(int(folder.name), folder, dict(entry["subjects"]), (first, last), [], {}, False)
            corrects = bool(entry.pop("corrects"))
        except (KeyError, TypeError, ValueError):
            corrects = True
        done = [] if corrects else found.frames_in_order()
        if not done:
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._keep(folder, {**entry, "span": (done[0], done[-1]), "whole": False}, f"track to frame {done[-1]}")

    def corrects(self) -> bool:
        """Whether `start` would only correct the version that is shown."""
        shot = self._shot
        old = shot.mattes.version(shot.state.version)
        return old is not None and bool(_corrections(old, shot.state, run_span(shot.state, shot.frames.count)))

    def stop(self) -> None:
        """Stop the version that is being made; the frames that are matted are kept. Raises: UsageError, none is."""
        running = self._running
        if running is None:
            raise UsageError("nothing is being tracked")
        self._worker.cancel(running.job)

    def entry(self) -> dict[str, Any] | None:
        """What the page shows of the version that is being made."""
        running = self._running
        if running is None:
            return None
        return {
            "version": running.number, "span": running.span, "tracked": running.tracked, "matted": len(running.frames),
            "subjects": len(running.state.prompted), "corrects": running.corrects,
        }  # fmt: skip

    def version_entry(self, version: Version) -> dict[str, Any]:
        """What the page shows of a version that is finished."""
        return {
            "number": version.number, "span": version.span, "whole": version.whole,
            "subjects": [int(key) for key in version.subjects], "current": self.is_current(version),
        }  # fmt: skip

    def records_of(self, number: int) -> dict[str, Any] | None:
        """What was found in the frames of a version, of the one that is being made too; None where there is none."""
        running = self._running
        if running is not None and running.number == number:
            shown = {p.subject for p in running.state.prompts if p.shows}
            found = Version(number, running.folder, {str(k): "" for k in shown}, running.span, [], {}, False)
            return {"number": number, "span": running.span, "whole": False, "records": found.records()}
        version = self._shot.mattes.version(number)
        if version is None:
            return None
        return {**self.version_entry(version), "records": version.records()}

    def is_current(self, version: Version) -> bool:
        """Whether the version was tracked with the prompts, names and settings that hold now."""
        state = self._shot.state
        return _tracked_with(state) == _plain({
            "subjects": version.subjects, "prompts": version.prompts, "values": version.values
        })  # fmt: skip

    def _heard(self, running: _Running, entry: dict[str, Any]) -> None:
        """Take an answer of the worker; called from its thread."""
        event = entry["event"]
        if event == "tracked":
            running.tracked = int(entry["done"])
            self._events.tell("tracked", shot=self._shot.number, **(self.entry() or {}))
            return
        if event == "frame":
            running.frames.append(int(entry["frame"]))
            record = {key: entry[key] for key in ("frame", "cut", "subjects")}
            self._events.tell("frame", shot=self._shot.number, version=running.number, record=record)
            return
        message = str(entry.get("message", ""))
        try:
            self._finish(running, whole=event == "done")
        finally:
            with self._lock:
                self._running = None
            self._events.tell("ended", shot=self._shot.number, version=running.number, how=event, message=message)
            self._tell()

    def _finish(self, running: _Running, *, whole: bool) -> None:
        """Make a state with the new version, or drop it where it has no frame."""
        if not running.frames:
            shutil.rmtree(running.folder, ignore_errors=True)
            return
        if running.corrects and not whole:  # frames around those that were not reached are missing
            shutil.rmtree(running.folder, ignore_errors=True)
            return
        span = running.span if running.corrects else (running.frames[0], running.frames[-1])
        entry = {**_tracked_with(running.state), "span": span, "whole": whole}
        label = "correct" if running.corrects else "track" if whole else f"track to frame {span[1]}"
        self._keep(running.folder, entry, label)

    def _keep(self, folder: Path, entry: dict[str, Any], label: str) -> None:
        """Write what a version is, last of its files, and make a state with it."""
        save_text(folder / "version.json", json.dumps(entry) + "\n")
        self._shot.put(replace(self._shot.state, version=int(folder.name)), label)
        (folder / "begun.json").unlink(missing_ok=True)

    def _tell(self) -> None:
        self._events.tell("changed", shot=self._shot.number)


class _Running:
    """The version that is being made."""

    def __init__(
        self, number: int, folder: Path, state: State, span: tuple[int, int], *, corrects: bool = False
    ) -> None:
        self.number, self.folder, self.state, self.span, self.corrects = number, folder, state, span, corrects
        self.job = -1
        self.tracked = 0
        self.frames: list[int] = []


def _corrections(old: Version, state: State, span: tuple[int, int]) -> list[tuple[int, int]]:
    """Return subject and frame of the prompts that are new since a version; [] where it cannot be corrected by them."""
    now, before = _tracked_with(state), _plain({"subjects": old.subjects, "values": old.values})
    covered = old.span[0] <= span[0] and span[1] <= old.span[1]
    if not old.whole or not covered or any(now[key] != before[key] for key in before):
        return []
    older = {(p["subject"], p["frame"]): p for p in old.prompts}
    newer = {(p["subject"], p["frame"]): p for p in now["prompts"]}
    if any(key not in newer for key in older):
        return []
    changed = [key for key, prompt in newer.items() if older.get(key) != prompt]
    shows = {(p.subject, p.frame) for p in state.prompts if p.shows}
    return sorted(changed) if all(key in shows for key in changed) else []


def _tracked_with(state: State) -> dict[str, Any]:
    """What a track depends on, in plain values."""
    shown = {p.subject for p in state.prompts if p.shows}
    return _plain({
        "subjects": {str(s.id): s.name for s in state.subjects if s.id in shown},
        "prompts": state.as_dict()["prompts"],
        "values": {section: mine for section, mine in state.values.items() if section not in EDGE_SECTIONS},
    })  # fmt: skip


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    """Bring tuples to lists, as JSON does."""
    found: dict[str, Any] = json.loads(json.dumps(entry))
    return found
