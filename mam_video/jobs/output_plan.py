"""Plan which files a run writes, for which subjects and from which alphas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from mam_video.core.errors import UsageError
from mam_video.core.frames import Matted
from mam_video.core.settings import Settings
from mam_video.media import parse_output
from mam_video.media.atomic_output import SUBJECT, made_folders, of_subjects
from mam_video.media.formats import LAYERS


@dataclass(frozen=True)
class OutputPlan:
    """The files of a run.

    templates  outputs as the user names them
    subjects   names of several subjects; empty for one
    names      every output, with subjects' names in place
    whose      the subject of each output; None: all together, or the only one
    tracks     track files by subject, likewise
    """

    templates: tuple[str, ...]
    subjects: tuple[str, ...]
    names: tuple[str, ...]
    whose: tuple[str | None, ...]
    tracks: Mapping[str | None, str]

    @classmethod
    def of(cls, templates: Sequence[str], subjects: Sequence[str], track_to: str | Path | None) -> OutputPlan:
        """Plan the outputs of `subjects` by their names; `{subject}` in a name stands for each.

        Raises: UsageError, a subject's name cannot be part of a file's, or one file is named for several tracks.
        """
        several = tuple(subjects) if len(subjects) > 1 else ()

        def each(template: str) -> dict[str | None, str]:
            named = of_subjects(template, subjects)
            return named if several else dict.fromkeys([None], *named.values())

        outputs = [(name, whose) for template in templates for whose, name in each(template).items()]
        tracks = {} if track_to is None else each(str(track_to))
        if several and None in tracks:
            raise UsageError(
                f"--save-track {tracks[None]}: one file for {len(several)} tracks; put {SUBJECT} in its name"
            )
        return cls(
            tuple(templates),
            several,
            tuple(name for name, _ in outputs),
            tuple(whose for _, whose in outputs),
            tracks,
        )

    def make_folders(self, stack: ExitStack) -> None:
        """Make the folders that outputs lie in; they are removed again if the run fails."""
        bare = [parse_output(name)[0] for name in self.names]
        stack.enter_context(made_folders([*bare, *self.tracks.values()]))

    @property
    def coloured(self) -> set[str | None]:
        """Subjects whose colour is written; None: all together."""
        pairs = zip(self.names, self.whose, strict=True)
        return {whose for name, whose in pairs if parse_output(name)[1].content != "alpha"}

    @property
    def together(self) -> list[str]:
        """Outputs, as the user names them, that hold several subjects together."""
        names = [n for n in self.templates if SUBJECT not in n and parse_output(n)[1].name != LAYERS]
        return names if self.subjects else []


class AlphaRanges:
    """Least and largest alpha of each frame, as they should be found in the files."""

    def __init__(self, subjects: Sequence[str]) -> None:
        self._all: list[tuple[float, float]] = []
        self._each: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects} if len(subjects) > 1 else {}

    def add(self, matted: Matted) -> None:
        """Add a frame that was written."""
        self.add_known([(float(m.alpha.min()), float(m.alpha.max())) for m in (matted, *matted.parts)])

    def add_known(self, ranges: Sequence[tuple[float, float]]) -> None:
        """Add a frame whose ranges are known: that of all together, then of several subjects each one's."""
        self._all.append(ranges[0])
        for own, one in zip(self._each.values(), ranges[1:], strict=True):
            own.append(one)

    @property
    def last(self) -> list[tuple[float, float]]:
        """The ranges of the last frame, as `add_known` takes them."""
        return [self._all[-1], *(own[-1] for own in self._each.values())]

    def reached(self, name: str, whose: str | None) -> list[tuple[float, float]]:
        """Return an output's least and largest alpha of each frame, in whichever layer."""
        if parse_output(name)[1].name == LAYERS:
            rows = zip(*self._each.values(), strict=True)
            return [(min(least for least, _ in row), max(most for _, most in row)) for row in rows]
        return self._all if whose is None else self._each[whose]


def edge_ops_of_subject(settings: Settings, subjects: Sequence[str]) -> Settings:
    """Put a lone subject's own edge operations in place of those for all.

    Raises: UsageError, edge operations are given for a subject that the run does not have.
    """
    for name in settings.edges:
        if name not in subjects:
            raise UsageError(f"--edge {name}: no such subject; subjects of this run: {', '.join(subjects)}")
    if len(subjects) > 1:
        return settings
    return replace(settings, finish=settings.finish_of(subjects[0]), edges={})
