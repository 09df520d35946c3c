"""The project of one shot: a folder beside its clip, saved after each act, whole after a crash.

    plate.mov.studio/
        prompts.toml     as `matte --prompts` takes it
        settings.toml    as `matte --config` takes it
        project.json     subjects with their colours, range, outputs, and which version is shown
        journal          every act, each flushed to the disk before it is acknowledged; for undo and after a crash
        versions/N/      what was tracked and matted: NAME.track as `matte --track` takes it, and mattes to look at
        masks/           pictures that show a subject on a frame; `prompts.toml` names them
        stills/          mattes of single prompted frames; made again where they are missing
        report/          the report of the last run

The journal is what holds; the other files are written from it after each act, and again when a project is opened.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.untrusted import parse_json
from mam_video.media import ClipInfo
from mam_video.runtime.append_log import AppendLog, flushed
from mam_video.runtime.commit import Lock
from mam_video.runtime.lifecycle import Closeable
from mam_video.runtime.os_errors import writing
from mam_video.studio.acts import MASK_NAME
from mam_video.studio.plain_files import MASKS, flush_folder, prompts_text, save_text, settings_text
from mam_video.studio.state import State
from mam_video.studio.versions import begun_entry

_MOST: Final = 200  # acts that can be undone; older ones are dropped when a project is opened
_SUFFIX: Final = ".studio"


def folder_of(clip: Path) -> Path:
    """Return the project folder of a clip: beside it, under its name. `clip` is a file, a folder or a pattern."""
    return clip.with_name(clip.name + _SUFFIX)


def check_inside(folder: Path) -> None:
    """Raises: UsageError, a part of the project is a link that leads out of it."""
    home = folder.absolute().parent.resolve() / folder.name
    for name in ("", "versions", "stills", MASKS, "report", "journal", "prompts.toml", "settings.toml", "project.json"):
        path = folder / name
        if path.is_symlink() or (path.exists() and not path.resolve().is_relative_to(home)):
            raise UsageError(f"{path}: is a link; a project lies in a folder of its own, so remove the link")


class Project(Closeable):
    """The history of one shot's states, in files. One process has a project open at a time.

    cut_off  the folder of a version that was being made when its server was killed; None: there is none

    Raises: UsageError, another studio has it open; MediaError, it cannot be read or written.
    """

    def __init__(self, folder: Path, info: ClipInfo) -> None:
        self.folder, self._info = folder, info
        check_inside(folder)
        self._saved: dict[str, str] = {}  # files as they stand, by name
        self.cut_off: Path | None = None
        for inner in (folder, folder / "versions", folder / "stills", folder / MASKS):
            with writing(inner):
                inner.mkdir(exist_ok=True)
        try:
            self._lock = Lock(folder)
        except BlockingIOError:
            raise UsageError(f"{folder}: another studio has this project open; close it first") from None
        try:
            self._open_journal()
            self._drop_versions()
            self._drop_masks()
            self._save_files()
        except BaseException:
            self._lock.close()
            raise

    @property
    def state(self) -> State:
        """What holds now."""
        return self._history[self._place][1]

    @property
    def history(self) -> list[tuple[str, State]]:
        """All states that undo and redo lead to, each with what was done to reach it."""
        return self._history

    @property
    def undoes(self) -> str | None:
        """What `undo` would take back; None: nothing."""
        return self._history[self._place][0] if self._place > 0 else None

    @property
    def redoes(self) -> str | None:
        """What `redo` would do again; None: nothing."""
        return self._history[self._place + 1][0] if self._place + 1 < len(self._history) else None

    def act(self, state: State, label: str) -> None:
        """Make `state` hold. It is on the disk when this returns."""
        if state == self.state:
            return
        self._append({"label": label, "state": state.as_dict()})
        self._take(label, state)
        self._save_files()

    def undo(self) -> None:
        """Take back the last act. Raises: UsageError, there is none."""
        if self.undoes is None:
            raise UsageError("nothing to undo")
        self._append({"step": -1})
        self._place -= 1
        self._save_files()

    def redo(self) -> None:
        """Do again what was taken back last. Raises: UsageError, there is none."""
        if self.redoes is None:
            raise UsageError("nothing to redo")
        self._append({"step": 1})
        self._place += 1
        self._save_files()

    def new_version(self) -> tuple[int, Path]:
        """Make an empty folder for a version; return its number too."""
        known = [int(p.name) for p in (self.folder / "versions").iterdir() if p.name.isdigit()]
        number = 1 + max([*known, *self._named()], default=0)
        path = self.version_folder(number)
        with writing(path):
            path.mkdir()
        return number, path

    def version_folder(self, number: int) -> Path:
        """Return the folder of a version."""
        return self.folder / "versions" / str(number)

    def close(self) -> None:
        self._journal.close()
        self._lock.close()

    def _open_journal(self) -> None:
        self._history: list[tuple[str, State]] = [("", State())]
        self._place = 0
        path = self.folder / "journal"
        self._journal = AppendLog(path)
        flush_folder(self.folder)
        for data in self._journal:
            try:
                entry = parse_json(data)
                self._replay(entry)
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise MediaError(f"{path}: is damaged ({error}); move it away to begin anew") from None
        if len(self._journal) > 4 * _MOST:
            self._compact(path)

    def _replay(self, entry: Mapping[str, Any]) -> None:
        if "step" in entry:
            place = self._place + int(entry["step"])
            if not 0 <= place < len(self._history):
                raise IndexError("a step leads beyond its acts")
            self._place = place
        else:
            self._take(str(entry["label"]), State.of_dict(entry["state"]))

    def _take(self, label: str, state: State) -> None:
        del self._history[self._place + 1 :]
        self._history.append((label, state))
        self._place += 1

    def _compact(self, path: Path) -> None:
        """Write the journal again with the last acts only."""
        first = max(self._place - _MOST, 0)
        self._history, self._place = self._history[first:], self._place - first
        beside = path.with_name("journal.new")
        beside.unlink(missing_ok=True)
        fresh = AppendLog(beside)
        for label, state in self._history:
            fresh.append(json.dumps({"label": label, "state": state.as_dict()}).encode())
        for _ in range(len(self._history) - 1 - self._place):
            fresh.append(b'{"step": -1}')
        fresh.close()
        flushed(beside)
        self._journal.close()
        with writing(path):
            beside.replace(path)
            flush_folder(self.folder)
        self._journal = AppendLog(path)
        # The states of the new journal stand behind the empty one that every history begins with.
        self._history, self._place = [("", State()), *self._history], self._place + 1

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._journal.append(json.dumps(entry).encode())
        self._journal.flush()

    def _named(self) -> set[int]:
        """Versions that a state of the history names."""
        return {state.version for _, state in self._history if state.version is not None}

    def _drop_versions(self) -> None:
        """Remove versions that no undo or redo leads to, but for the last one that a crash cut off."""
        named = self._named()
        folders = [p for p in (self.folder / "versions").iterdir() if p.name.isdigit() and not p.is_symlink()]
        last = max(folders, key=lambda path: int(path.name), default=None)
        if last is not None and int(last.name) not in named and begun_entry(last) is not None:
            self.cut_off = last
        for path in folders:
            if int(path.name) not in named and path != self.cut_off:
                shutil.rmtree(path, ignore_errors=True)

    def _drop_masks(self) -> None:
        """Remove masks that no undo or redo leads to."""
        named = {prompt.mask for _, state in self._history for prompt in state.prompts}
        for path in (self.folder / MASKS).iterdir():
            if MASK_NAME.fullmatch(path.name) and path.name not in named:
                path.unlink(missing_ok=True)

    def _save_files(self) -> None:
        state = self.state
        files = {
            "prompts.toml": prompts_text(state, self._info),
            "settings.toml": settings_text(state.named_values),
            "project.json": json.dumps(state.as_dict(), indent=1) + "\n",
        }
        for name, text in files.items():
            if self._saved.get(name) != text:
                save_text(self.folder / name, text)
                self._saved[name] = text
