"""Mattes of single prompted frames, and boxes that words find: what the page asks for and waits for."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mam_video.core.errors import MamVideoError, UsageError
from mam_video.core.untrusted import line_of
from mam_video.studio.events import Events
from mam_video.studio.versions import still_file, still_key
from mam_video.studio.workers import Worker

if TYPE_CHECKING:
    from mam_video.studio.shot import Shot

_MOST_WORDS: Final = 200
_WORDS: Final = "words"  # stands for a prompt's key in jobs that find a box
_MOST_STILLS: Final = 400  # files of mattes of single frames; older ones are removed


class Stills:
    """What a worker makes of single frames of one shot. Thread-safe."""

    def __init__(self, shot: Shot, events: Events, worker: Worker) -> None:
        self._shot, self._events, self._worker = shot, events, worker
        self._folder = shot.folder / "stills"
        self._lock = Lock()
        self._jobs: dict[tuple[int, str], int] = {}  # numbers of jobs, by frame and key of the prompt or `_WORDS`

    @property
    def busy(self) -> bool:
        """Whether a matte is being made."""
        return bool(self._jobs)

    def make(self, frame: int) -> bool:
        """Have the matte of a prompted frame made by itself. Returns whether it is there already or being made."""
        state = self._shot.state
        if not any(p.shows for p in state.prompts if p.frame == frame):
            return False
        key = still_key(state, frame)
        wanted = [p.subject for p in state.prompts if p.frame == frame and p.shows]
        if all(still_file(self._folder, frame, subject, key).exists() for subject in wanted):
            self._events.tell("still", shot=self._shot.number, frame=frame, ended=True, message="")
            return True
        with self._lock:
            if (frame, key) in self._jobs:
                return True
            for (other, _), number in self._jobs.items():
                if other == frame:  # the prompt was changed before its matte was made
                    self._worker.cancel(number)
            picture = self._folder / f".{frame}.npy"
            np.save(picture, self._shot.frames.frame(frame).rgb8)
            job = {
                "job": "still", "state": state.as_dict(), "frame": frame, "folder": str(self._folder),
                "picture": str(picture), "masks": str(self._shot.masks),
            }  # fmt: skip
            self._jobs[frame, key] = self._worker.send(job, lambda entry: self._made(frame, key, entry))
        self._events.tell("still", shot=self._shot.number, frame=frame, ended=False)
        return True

    def find(self, subject: int, frame: int, words: str) -> None:
        """Have a box found for words in a frame; it becomes the prompt there. Raises: UsageError, nothing is said."""
        self._shot.state.subject(subject)
        said = line_of(words).strip()
        if not said or len(said) > _MOST_WORDS:
            raise UsageError(f"say in 1 to {_MOST_WORDS} letters what the subject is, as: the dancer in red")
        picture = self._folder / f".{frame}.words.npy"
        np.save(picture, self._shot.frames.frame(frame).rgb8)
        job = {"job": "find", "state": self._shot.state.as_dict(), "words": said, "picture": str(picture)}
        self._events.tell("still", shot=self._shot.number, frame=frame, ended=False)

        def found(entry: dict[str, Any]) -> None:
            with self._lock:
                self._jobs.pop((frame, _WORDS), None)
            picture.unlink(missing_ok=True)
            message = str(entry.get("message", ""))
            if entry["event"] == "done":
                try:
                    self._shot.act("set_box", {"subject": subject, "frame": frame, "box": entry["box"]})
                    self.make(frame)
                    return
                except MamVideoError as error:
                    message = str(error)
            self._events.tell("still", shot=self._shot.number, frame=frame, ended=True, message=message)

        with self._lock:
            self._jobs[frame, _WORDS] = self._worker.send(job, found)

    def _made(self, frame: int, key: str, entry: dict[str, Any]) -> None:
        with self._lock:  # `make` may not have noted the job yet
            self._jobs.pop((frame, key), None)
        (self._folder / f".{frame}.npy").unlink(missing_ok=True)
        self._trim()
        message = entry.get("message", "") if entry["event"] in ("error", "crashed") else ""
        self._events.tell("still", shot=self._shot.number, frame=frame, ended=True, message=message)

    def _trim(self) -> None:
        files = sorted(self._folder.glob("*.png"), key=lambda path: path.stat().st_mtime)
        for path in files[:-_MOST_STILLS]:
            path.unlink(missing_ok=True)
