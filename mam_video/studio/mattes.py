"""Which matte the page sees of a frame: a version's or a prompted frame's own, with its edges finished."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mam_video.core.arrays import Alpha
from mam_video.core.settings import FinishSettings
from mam_video.matting.edge_ops import finish
from mam_video.studio.caches import BoundedCache
from mam_video.studio.pictures import matte_picture
from mam_video.studio.project import Project
from mam_video.studio.state import State
from mam_video.studio.versions import Version, matte_file, read_matte, still_file, still_key, united_alpha

_PICTURES: Final = 64 << 20  # bytes of encoded mattes
_CODES: Final = 48 << 20  # bytes of mattes before their edges are finished


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which matte is wanted.

    version  its number; None: that of the state, with prompted frames by themselves where they are newer
    subject  an id; None: all subjects together
    edges    edge settings that are tried and not saved yet, in place of those of the state
    """

    frame: int
    version: int | None = None
    subject: int | None = None
    edges: FinishSettings | None = None


class Mattes:
    """The mattes of one project, encoded for the page, in bounded memory. Thread-safe."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._pictures: BoundedCache[bytes] = BoundedCache(_PICTURES)
        self._raw: BoundedCache[Alpha] = BoundedCache(_CODES)
        self._versions: BoundedCache[Version] = BoundedCache(16)

    def version(self, number: int | None) -> Version | None:
        """Return a version that is finished; None where there is none."""
        if number is None:
            return None
        found = self._versions.get(number)
        if found is None and (found := Version.load(self._project.version_folder(number))) is not None:
            self._versions.put(number, found)
        return found

    def sources(self, wanted: Wanted) -> list[tuple[int, Path]]:
        """Return the files that the matte is made of, by subject; empty where there is no matte."""
        state = self._project.state
        ids = [wanted.subject] if wanted.subject is not None else [subject.id for subject in state.subjects]
        files = [(number, self._source(state, wanted, number)) for number in ids]
        return [(number, path) for number, path in files if path is not None]

    def tag(self, wanted: Wanted, files: list[tuple[int, Path]], *, full: bool) -> str:
        """Return a text that changes when the picture does, for an ETag."""
        state = self._project.state
        stamps = [(str(path), stat.st_mtime_ns, stat.st_size) for _, path in files if (stat := _stat(path))]
        edges = [str(self._edges(state, wanted, number)) for number, _ in files]
        entry = json.dumps([stamps, edges, wanted.frame, full])
        return hashlib.sha256(entry.encode()).hexdigest()[:20]

    def picture(self, wanted: Wanted, files: list[tuple[int, Path]], tag: str, *, full: bool) -> bytes | None:
        """Return the matte encoded for the page; None where its files have gone."""
        found = self._pictures.get(tag)
        if found is None:
            alpha = self.alpha(wanted, files)
            if alpha is None:
                return None
            found = matte_picture(alpha, full=full)
            self._pictures.put(tag, found, len(found))
        return found

    def alpha(self, wanted: Wanted, files: list[tuple[int, Path]]) -> Alpha | None:
        """Return the matte, (H, W) float32 in [0, 1], as it will be written; None where its files have gone."""
        state = self._project.state
        alphas = []
        for number, path in files:
            raw = self._read(path)
            if raw is not None:
                alphas.append(finish(raw, self._edges(state, wanted, number)))
        return united_alpha(alphas) if alphas else None

    def _source(self, state: State, wanted: Wanted, number: int) -> Path | None:
        version = self.version(wanted.version if wanted.version is not None else state.version)
        if wanted.version is None:
            still = still_file(self._project.folder / "stills", wanted.frame, number, still_key(state, wanted.frame))
            pointed = state.at(number, wanted.frame)
            if pointed is not None and not _holds(version, pointed_entry(state, number, wanted.frame)) and _stat(still):
                return still
        folder = self._project.version_folder(wanted.version) if wanted.version is not None else None
        if folder is None:
            folder = version.folder if version is not None else None
        path = None if folder is None else matte_file(folder, wanted.frame, number)
        return path if path is not None and _stat(path) else None

    def _edges(self, state: State, wanted: Wanted, number: int) -> FinishSettings:
        if wanted.edges is not None and (wanted.subject in (None, number)):
            return wanted.edges
        settings = state.settings()
        names = {subject.id: subject.name for subject in state.subjects}
        return settings.finish_of(names.get(number, ""))

    def _read(self, path: Path) -> Alpha | None:
        stat = _stat(path)
        if stat is None:
            return None
        key = (str(path), stat.st_mtime_ns)
        found = self._raw.get(key)
        if found is None and (found := read_matte(path)) is not None:
            self._raw.put(key, found, found.nbytes)
        return found


def pointed_entry(state: State, subject: int, frame: int) -> Any:
    """Return a prompt as plain values, as a version keeps those that it was tracked with."""
    entries = json.loads(json.dumps(state.as_dict()["prompts"]))
    return next((p for p in entries if (p["subject"], p["frame"]) == (subject, frame)), None)


def _holds(version: Version | None, entry: Any) -> bool:
    """Whether a version was tracked with a prompt."""
    return version is not None and entry in version.prompts


def _stat(path: Path) -> Any:
    try:
        return path.stat()
    except OSError:
        return None


def tried_edges(now: FinishSettings, text: str) -> FinishSettings:
    """Return edge settings of a text such as "choke=2,feather=1.5" in place of those that hold.

    Raises: ValueError, it is of another form; SettingError, a value cannot be.
    """
    values: dict[str, float] = {}
    for pair in text.split(","):
        name, equals, value = pair.partition("=")
        if name not in ("black", "white", "choke", "grow", "feather") or not equals:
            raise ValueError(f"'{name[:20]}' is no edge setting")
        values[name] = float(value)
    kept = {name: getattr(now, name) for name in ("black", "white", "choke", "grow", "feather")}
    return FinishSettings(**{**kept, **values})


def shown_value(alpha: Alpha | None, x: int, y: int) -> float | None:
    """Return the alpha of a pixel, rounded for people to read."""
    return None if alpha is None else round(float(np.clip(alpha[y, x], 0, 1)), 4)
