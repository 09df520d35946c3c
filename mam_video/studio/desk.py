"""The shots that one server shows, the processes that work for them, and the queue of their runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from mam_video.core.errors import UsageError
from mam_video.core.knobs import KnobField
from mam_video.core.sections import EDGE_KEYS, MODEL_NAMES
from mam_video.media import kinds
from mam_video.runtime.lifecycle import Closeable
from mam_video.studio.acts import shown_knobs
from mam_video.studio.backdrops import Backdrops
from mam_video.studio.events import Events
from mam_video.studio.runs import RunQueue
from mam_video.studio.shot import Shot
from mam_video.studio.workers import Worker

_MOST_OPEN: Final = 3  # shots whose frames are held; the others are opened again when they are looked at


class Desk(Closeable):
    """All that one server works on. Thread-safe."""

    def __init__(self, clips: Sequence[str], places: Sequence[Path] = (), backgrounds: Sequence[str] = ()) -> None:
        """Put clips on the desk.

        Args:
            clips: as `open_clip` takes them.
            places: more folders that outputs may lie in.
            backgrounds: pictures and clips that previews may lie over.
        Raises: UsageError, there is no clip, or a background cannot be read.
        """
        if not clips:
            raise UsageError("no clip is named")
        self.clips, self._places = tuple(clips), tuple(places)
        self.backdrops = Backdrops(backgrounds)
        self.events = Events()
        self.hand, self.tracker = Worker(), Worker(background=True)
        self.runs = RunQueue(self.events)
        self.model = "loading"  # or "" where it is ready, or what is wrong
        self._shots: dict[int, Shot] = {}
        self._lock = threading.RLock()

    def shot(self, number: int) -> Shot:
        """Open a shot, or return it where it is open. Raises: UsageError, there is none; MediaError."""
        if not 0 <= number < len(self.clips):
            raise UsageError(f"there is no shot {number}")
        with self._lock:
            found = self._shots.pop(number, None)
            if found is None:
                found = Shot(
                    number, self.clips[number], self.events, self.hand, self.tracker, self._places, self.backdrops.paths
                )
            self._shots[number] = found  # the last one is the one used last
            for other in [k for k, shot in self._shots.items() if k != number and not shot.busy]:
                if len(self._shots) <= _MOST_OPEN:
                    break
                self._shots.pop(other).close()
            return found

    def entry(self) -> dict[str, Any]:
        """What the page shows of the desk as a whole."""
        return {
            "shots": [Path(clip).name or clip for clip in self.clips],
            "runs": self.runs.entries(),
            "model": self.model,
            "backgrounds": self.backdrops.entries(),
            "words": find_spec("transformers") is not None,
        }

    def queue(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Add a shot's run to the queue, or stop one. Raises: UsageError."""
        stopped, shot = given.get("stop"), given.get("shot")
        if isinstance(stopped, int):
            self.runs.stop(stopped)
        elif isinstance(shot, int):
            self._add(self.shot(shot))
        elif given.get("all") is True:
            pointed = [k for k in range(len(self.clips)) if self.shot(k).state.prompted and not self.runs.has(k)]
            if not pointed:
                raise UsageError("no shot is left to run: draw a box in each one first")
            for k in pointed:
                self._add(self.shot(k))
        else:
            raise UsageError("name a shot to run or a run to stop")
        return {"runs": self.runs.entries()}

    def _add(self, shot: Shot) -> None:
        if shot.usable() is None and not shot.state.prompted:
            raise UsageError(f"{Path(shot.clip).name}: draw a box around the subject first")
        self.runs.add(shot.number, Path(shot.clip).name, shot.command())

    def knobs(self) -> dict[str, Any]:
        """The settings and kinds of output that the page offers, from the tables of the library."""
        edges = {f"finish.{each.name}" for each in EDGE_KEYS}
        return {
            "knobs": [{**_knob(each), "edge": each.key in edges} for each in shown_knobs()],
            "kinds": [{"name": kind.name, "says": kind.says, "suffixes": kind.suffixes} for kind in kinds()],
        }

    def warm(self) -> None:
        """Load the model in the background, for the first click."""
        self.hand.send({"job": "warm", "state": self.shot(0).state.as_dict()}, self._warmed)

    def _warmed(self, entry: dict[str, Any]) -> None:
        self.model = "" if entry["event"] == "done" else str(entry.get("message", ""))
        self.events.tell("model", ready=not self.model, message=self.model)

    def close(self) -> None:
        self.runs.close()
        self.hand.close()
        self.tracker.close()
        with self._lock:
            for shot in self._shots.values():
                shot.close()
            self._shots.clear()
        self.backdrops.close()


def _knob(each: KnobField) -> dict[str, Any]:
    knob = each.knob
    choices = MODEL_NAMES if each.key == "model.name" else each.choices
    return {
        "key": each.key, "section": each.section, "name": each.name, "kind": each.kind.__name__,
        "choices": choices, "default": each.default, "low": knob.low, "high": knob.high, "unit": knob.unit,
        "help": knob.help, "absent": knob.absent, "flag": knob.flags[0] if knob.flags else f"--set {each.key}",
    }  # fmt: skip
