"""The process that holds a model: it takes jobs as lines of JSON on its input and answers on its output.

    {"id": 7, "job": "still", ...}         matte one prompted frame by itself
    {"id": 7, "job": "find", ...}          find the box of what words say in one frame
    {"id": 8, "job": "track", ...}         track and matte a range into the folder of a version
    {"id": 9, "job": "correct", ...}       likewise, of an older version, only around the prompts that are new
    {"cancel": 8}                          stop that job
    <- {"event": "ready"}
    <- {"id": 8, "event": "frame", ...}    a frame is matted and lies in its file
    <- {"id": 8, "event": "tracked", "done": 12}
    <- {"id": 8, "event": "done" | "stopped" | "error", ...}

Pictures travel as files. The process ends when its input does, so that none is left behind when the server is killed.
Run as `python -m mam_video.studio.worker`.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mam_video.core.errors import MamVideoError, UsageError
from mam_video.core.frames import Matted
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import FinishSettings, Settings
from mam_video.core.untrusted import line_of, parse_json
from mam_video.jobs.matte_clip import matte_clip
from mam_video.matting.pipeline import matte_frames
from mam_video.media import Reader, open_clip
from mam_video.models.base import Model
from mam_video.models.registry import load_model
from mam_video.prompts.text import find_by_text
from mam_video.report.run import RunReport
from mam_video.studio.correction import correct_tracks, link_frames, moved_track, widened
from mam_video.studio.state import State
from mam_video.studio.versions import Version, save_frame, save_matte, still_file, still_key
from mam_video.studio.workers import BACKGROUND

Answer = Callable[[dict[str, Any]], None]


class Stopped(Exception):
    """The job was cancelled."""


class Jobs:
    """The jobs, with what is kept between them: the model that was used last and the clip that was opened last."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._models: dict[str, Model] = {}
        self._readers: dict[str, Reader] = {}
        self.cancelled: set[int] = set()

    def run(self, job: Mapping[str, Any]) -> None:
        """Do one job and answer how it ended."""
        number = int(job["id"])

        def answer(entry: dict[str, Any]) -> None:
            self._answer({"id": number, **entry})

        try:
            if number in self.cancelled:
                raise Stopped
            answer({"event": "done", **_JOBS[job["job"]](self, job, answer)})
        except Stopped:
            answer({"event": "stopped"})
        except MamVideoError as error:
            answer({"event": "error", "message": line_of(str(error))})
        except Exception as error:  # noqa: BLE001 - told on the page; the process goes on
            answer({"event": "error", "message": line_of(f"{type(error).__name__}: {error}")})

    def warm(self, job: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        """Load the model and use it once, so that the first click need not wait."""
        settings = State.of_dict(job["state"]).settings()
        picture = np.zeros((64, 64, 3), np.uint8)
        list(matte_frames([picture], (8, 8, 56, 56), self._model(settings), settings))
        return {}

    def still(self, job: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        """Matte the subjects that are prompted on one frame."""
        state, index, folder = State.of_dict(job["state"]), int(job["frame"]), Path(job["folder"])
        settings = _unfinished(state.settings())
        masks = Path(job["masks"])
        prompts = {
            s.name: p.prompt(masks) for s in state.subjects if (p := state.at(s.id, index)) is not None and p.shows
        }
        picture = np.load(job["picture"])
        (matted,) = matte_frames([picture], prompts, self._model(settings), settings)
        key, ids = still_key(state, index), {s.name: s.id for s in state.subjects}
        for part, name in zip(matted.parts or (matted,), prompts, strict=True):
            save_matte(still_file(folder, index, ids[name], key), part.alpha)
        return {"frame": index, "key": key, "state": str(matted.record.state)}

    def find(self, job: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        """Find the box of what words say in one frame."""
        settings = State.of_dict(job["state"]).settings()
        found = find_by_text(np.load(job["picture"]), job["words"], settings.text, settings.model.device)
        return {"box": list(found.box.xyxy)}

    def track(self, job: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        """Track and matte a range into the folder of a version."""
        state, number, folder = State.of_dict(job["state"]), int(job["id"]), Path(job["folder"])
        settings = _unfinished(state.settings())
        span = None if job["span"] is None else FrameRange.inclusive(*job["span"])
        several = state.several(Path(job["masks"]))
        ids = {s.name: s.id for s in state.subjects}
        only = ids[several[0].subject] if len(several) == 1 else None
        tracked = 0

        def check() -> None:
            if number in self.cancelled:
                raise Stopped

        def on_tracked() -> None:
            nonlocal tracked
            tracked += 1
            check()
            answer({"event": "tracked", "done": tracked})

        def on_frame(matted: Matted, report: RunReport) -> None:
            answer({"event": "frame", **save_frame(folder, matted, ids, only)})
            check()

        name = "{subject}.track" if len(several) > 1 else f"{several[0].subject}.track"
        matte_clip(
            self._reader(job["clip"]), (), several, settings, model=self._model(settings), backward=True, frames=span,
            track_to=folder / name, on_frame=on_frame, on_tracked=on_tracked,
        )  # fmt: skip
        return {}

    def correct(self, job: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
        """Make a version of an older one: only the frames around new prompts are tracked and matted again."""
        state, number, folder = State.of_dict(job["state"]), int(job["id"]), Path(job["folder"])
        settings = _unfinished(state.settings())
        old = Version.load(Path(job["old"]))
        if old is None:
            raise UsageError("the version that is corrected has gone; track again")
        tracked = 0

        def on_tracked() -> None:
            nonlocal tracked
            tracked += 1
            if number in self.cancelled:
                raise Stopped
            answer({"event": "tracked", "done": tracked})

        def on_frame(matted: Matted, report: RunReport) -> None:
            ids = {s.name: s.id for s in state.subjects}
            only = ids[next(iter(old.subjects.values()))] if len(old.subjects) == 1 else None
            answer({"event": "frame", **save_frame(folder, matted, ids, only)})
            if number in self.cancelled:
                raise Stopped

        reader, model = self._reader(job["clip"]), self._model(settings)
        again = correct_tracks(
            old, folder, state, job["again"], Path(job["masks"]), reader, model, settings, on_tracked
        )
        spans = [widened(stretch, old.span, settings.smooth) for stretch in again]
        link_frames(old, folder, [k for k in range(old.span[0], old.span[1] + 1) if not any(k in s for s in spans)])
        for span in spans:
            matte_clip(
                reader, (), None, settings, model=model, track_from=moved_track(old, folder),
                frames=FrameRange(span.start, span.stop), on_frame=on_frame,
            )  # fmt: skip
        return {"span": old.span}

    def _model(self, settings: Settings) -> Model:
        key = repr(settings.model)
        if key not in self._models:
            self._models.clear()  # one at a time: they are large
            self._models[key] = load_model(settings.model)
        return self._models[key]

    def _reader(self, clip: str) -> Reader:
        if clip not in self._readers:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()
            reader = open_clip(clip)
            reader.index_for_random_access()
            self._readers[clip] = reader
        return self._readers[clip]


_JOBS: Mapping[str, Callable[[Jobs, Mapping[str, Any], Answer], dict[str, Any]]] = {
    "warm": Jobs.warm,
    "still": Jobs.still,
    "find": Jobs.find,
    "track": Jobs.track,
    "correct": Jobs.correct,
}


def _unfinished(settings: Settings) -> Settings:
    """Settings whose mattes have their edges as the model made them: the page finishes them as they are shown."""
    return replace(settings, finish=FinishSettings(), edges={})


def main() -> None:
    """Take jobs until the input ends."""
    if BACKGROUND in sys.argv and hasattr(os, "nice"):
        os.nice(5)
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes to the log, not among the answers
    lock = threading.Lock()

    def answer(entry: dict[str, Any]) -> None:
        with lock:
            try:
                output.write(json.dumps(entry) + "\n")
                output.flush()
            except OSError:  # the server has gone; nothing can be told any more
                os._exit(0)

    jobs, waiting = Jobs(answer), queue.SimpleQueue[Mapping[str, Any]]()

    def listen() -> None:
        for line in sys.stdin.buffer:
            entry = parse_json(line)
            if "cancel" in entry:
                jobs.cancelled.add(int(entry["cancel"]))
            else:
                waiting.put(entry)
        os._exit(0)  # the server has gone; a job in the middle of a frame is not waited for

    threading.Thread(target=listen, name="listen", daemon=True).start()
    answer({"event": "ready"})
    while True:
        jobs.run(waiting.get())


if __name__ == "__main__":
    main()
