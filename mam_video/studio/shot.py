"""One shot: its clip, project, frames and mattes, and what is being tracked in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from typing import Any

from mam_video.media import expected_bytes, open_clip
from mam_video.media.open import identity_of
from mam_video.runtime.lifecycle import Closeable
from mam_video.studio.acts import Clip, apply_act
from mam_video.studio.command import command_of, command_text, default_outputs, run_span
from mam_video.studio.events import Events
from mam_video.studio.frame_store import FrameStore
from mam_video.studio.mattes import Mattes
from mam_video.studio.pictures import view_size
from mam_video.studio.plain_files import MASKS
from mam_video.studio.project import Project, folder_of
from mam_video.studio.state import Output, State
from mam_video.studio.stills import Stills
from mam_video.studio.tracking import Tracking
from mam_video.studio.uploads import keep_mask
from mam_video.studio.versions import Version
from mam_video.studio.workers import Worker


class Shot(Closeable):
    """A shot that is open. Thread-safe.

    places       folders that outputs may lie in: the clip's, the project's, those of the command line
    backgrounds  pictures and clips that previews may lie over
    """

    def __init__(
        self, number: int, clip: str, events: Events, hand: Worker, tracker: Worker, places: tuple[Path, ...] = (),
        backgrounds: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Open clip and project. `hand` does what a click asks for, `tracker` what takes long."""
        self.number, self.clip, self._events = number, clip, events
        reader = open_clip(clip)
        try:
            self.info = reader.info
            self.folder = folder_of(Path(clip).absolute())
            self.project = Project(self.folder, self.info)
        except BaseException:
            reader.close()
            raise
        self.places = (Path(clip).absolute().parent, self.folder, *places)
        self.backgrounds = backgrounds
        self._identity = str(identity_of(clip)["names and times of change"])
        self.frames = FrameStore(reader, self._indexed)
        self.mattes = Mattes(self.project)
        self.tracking = Tracking(self, events, tracker)
        self._lock = RLock()
        self.stills = Stills(self, events, hand)
        if self.project.cut_off is not None:
            self.tracking.take_over(self.project.cut_off)

    @property
    def identity(self) -> str:
        """A text that changes when the clip's files do, for ETags."""
        return self._identity

    @property
    def masks(self) -> Path:
        """The folder of masks."""
        return self.folder / MASKS

    @property
    def busy(self) -> bool:
        """Whether something is being made for this shot."""
        return self.tracking.entry() is not None or self.stills.busy

    @property
    def state(self) -> State:
        """What holds now."""
        return self.project.state

    def act(self, name: str, given: Mapping[str, Any]) -> None:
        """Apply an act of the page; it is saved when this returns. Raises: UsageError."""
        with self._lock:
            masks = [path.name for path in self.masks.iterdir()] if name == "set_mask" else ()
            clip = Clip(self.info, self.frames.count, len(self.places), masks, self.backgrounds)
            state, label = apply_act(self.state, name, given, clip)
            self.project.act(state, label)
        self._changed()

    def take_mask(self, subject: int, frame: int, data: bytes) -> None:
        """Let a mask, the bytes of a PNG, show a subject on a frame. Raises: UsageError or MediaError."""
        name = keep_mask(self.masks, data, self.info.size)
        self.act("set_mask", {"subject": subject, "frame": frame, "mask": name})

    def put(self, state: State, label: str) -> None:
        """Make a state hold that the server itself made, such as one with a new version."""
        with self._lock:
            self.project.act(state, label)
        self._changed()

    def step(self, back: bool) -> None:
        """Undo or redo an act. Raises: UsageError, there is none."""
        with self._lock:
            if back:
                self.project.undo()
            else:
                self.project.redo()
        self._changed()

    def still(self, frame: int) -> bool:
        """Have the matte of a prompted frame made by itself, as `Stills.make`."""
        return self.stills.make(frame)

    def summary(self) -> dict[str, Any]:
        """All that the page shows of this shot beside pictures."""
        state, project = self.state, self.project
        version = self.mattes.version(state.version)
        return {
            "shot": self.number,
            "state": state.as_dict(),
            "undo": project.undoes,
            "redo": project.redoes,
            "count": self.frames.count,
            "indexed": self.frames.count if self.frames.whole else self.frames.indexed,
            "version": None if version is None else self.tracking.version_entry(version),
            "versions": sorted(v for v in {s.version for _, s in project.history} if v is not None),
            "corrects": self.tracking.corrects(),
            "running": self.tracking.entry(),
            "command": command_text(self.command()),
            "outputs": [self._output_entry(output) for output in self.outputs()],
            "places": [str(place) for place in self.places],
            "report": (self.folder / "report" / "report.html").is_file(),
        }

    def outputs(self) -> tuple[Output, ...]:
        """The outputs of a run: those chosen, or one that suits most."""
        return self.state.outputs or default_outputs(Path(self.clip), [s.name for s in self.state.subjects])

    def command(self) -> list[str]:
        """The command line that does in a terminal what a run of this shot does."""
        return command_of(self.clip, self.folder, self.info, self.state, self.outputs(), self.places, self.usable())

    def usable(self) -> Version | None:
        """The version whose tracks a run follows; None: it tracks by the prompts."""
        version = self.mattes.version(self.state.version)
        if version is None or not version.whole or not self.tracking.is_current(version):
            return None
        first, last = run_span(self.state, self.frames.count)
        return version if version.span[0] <= first and last <= version.span[1] else None

    def report(self) -> str | None:
        """Return the report of the last run, a page; None where there is none."""
        path = (self.folder / "report" / "report.html").resolve()
        if not path.is_relative_to(self.folder.resolve()) or not path.is_file():
            return None
        return path.read_text(encoding="utf-8")

    def close(self) -> None:
        self.frames.close()
        self.project.close()

    def _output_entry(self, output: Output) -> dict[str, Any]:
        first, last = run_span(self.state, self.frames.count)
        size = expected_bytes(f"{output.name}:{output.kind}", self.info, last - first + 1)
        return {"name": output.name, "kind": output.kind, "place": output.place, "bytes": size}

    def clip_entry(self) -> dict[str, Any]:
        """Facts of the clip, which do not change."""
        info = self.info
        return {
            "shot": self.number, "name": info.path.name, "folder": str(self.folder), "width": info.width,
            "height": info.height, "rate": float(info.rate), "view": view_size(info.width, info.height),
            "timecode": None if info.timecode is None else str(info.timecode), "notes": list(info.notes),
            "numbers": None if info.numbers is None else [info.numbers[0], info.numbers[-1]], "bits": info.bits,
        }  # fmt: skip

    def _changed(self) -> None:
        self._events.tell("changed", shot=self.number)

    def _indexed(self, indexed: int, count: int, ended: bool) -> None:
        self._events.tell("indexed", shot=self.number, indexed=indexed, ended=ended, count=count)
