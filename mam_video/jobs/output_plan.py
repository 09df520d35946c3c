"""Which files a run writes, for which subjects, from which alphas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from mam_video.core.errors import UsageError
from mam_video.core.frames import Matted
from mam_video.core.settings import Settings
from mam_video.jobs.mask_sources import MaskSource
from mam_video.media import parse_output
from mam_video.media.atomic_output import SUBJECT, folders_of_subjects, of_subjects
from mam_video.media.formats import LAYERS


@dataclass(frozen=True)
class OutputPlan:
    """What is to be written.

    templates  outputs as they were asked for
    subjects   of several subjects their names; else empty
    names      every output, with subjects' names in place
    whose      of each: whose it is; None: of all together, or there is one subject
    tracks     files of tracks, likewise
    """

    templates: tuple[str, ...]
    subjects: tuple[str, ...]
    names: tuple[str, ...]
    whose: tuple[str | None, ...]
    tracks: Mapping[str | None, str]
    folders: tuple[tuple[str, tuple[str, ...]], ...]  # templates whose folders are to be made, with their names

    @classmethod
    def of(cls, templates: Sequence[str], sought: MaskSource, track_to: str | Path | None) -> OutputPlan:
        def each(template: str) -> dict[str | None, str]:
            named = of_subjects(template, sought.subjects)
            return named if sought.each else dict.fromkeys([None], *named.values())

        asked = [(name, whose) for template in templates for whose, name in each(template).items()]
        bare = [parse_output(template)[0] for template in templates] + ([] if track_to is None else [str(track_to)])
        return cls(
            tuple(templates),
            tuple(sought.each),
            tuple(name for name, _ in asked),
            tuple(whose for _, whose in asked),
            {} if track_to is None else each(str(track_to)),
            tuple((template, tuple(each(template).values())) for template in bare),
        )

    def make_folders(self, stack: ExitStack) -> None:
        for template, names in self.folders:
            stack.enter_context(folders_of_subjects(template, names))

    @property
    def coloured(self) -> set[str | None]:
        """Whose colour is written; None: of all together."""
        pairs = zip(self.names, self.whose, strict=True)
        return {whose for name, whose in pairs if parse_output(name)[1].content != "alpha"}

    def message(self) -> list[str]:
        """A line of what holds several subjects together."""
        names = [n for n in self.templates if SUBJECT not in n and parse_output(n)[1].name != LAYERS]
        if not self.subjects or not names:
            return []
        hold = "holds" if len(names) == 1 else "hold"
        return [
            f"{', '.join(names)} {hold} {', '.join(self.subjects)} together; {SUBJECT} in a name gives each its own"
        ]


class AlphaRanges:
    """Least and largest alpha of each frame, as they should be found in the files."""

    def __init__(self, sought: MaskSource) -> None:
        self._all: list[tuple[float, float]] = []
        self._each: dict[str, list[tuple[float, float]]] = {name: [] for name in sought.each}

    def add(self, matted: Matted) -> None:
        self.add_known(float(matted.alpha.min()), float(matted.alpha.max()))
        for part in matted.parts:
            self._each[part.record.subject].append((float(part.alpha.min()), float(part.alpha.max())))

    def add_known(self, least: float, most: float) -> None:
        self._all.append((least, most))

    @property
    def last(self) -> tuple[float, float]:
        return self._all[-1]

    def reached(self, name: str, whose: str | None) -> list[tuple[float, float]]:
        """Of an output: of each frame the least and the largest, in whichever layer."""
        if parse_output(name)[1].name == LAYERS:
            rows = zip(*self._each.values(), strict=True)
            return [(min(least for least, _ in row), max(most for _, most in row)) for row in rows]
        return self._all if whose is None else self._each[whose]


def edge_ops_of_subject(settings: Settings, sought: MaskSource) -> Settings:
    """Give one subject its own edge settings. Raises: UsageError, they name no subject of the run."""
    for name in settings.edges:
        if name not in sought.subjects:
            raise UsageError(f"--edge {name}: no such subject; subjects of this run: {', '.join(sought.subjects)}")
    if sought.each:
        return settings
    return replace(settings, finish=settings.finish_of(sought.subjects[0]), edges={})
