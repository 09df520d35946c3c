"""Several outputs of one run, written frame by frame and renamed together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mam_video.core.frames import Matted
from mam_video.core.planes import PlaneRecipe
from mam_video.media.base import WholeWriter
from mam_video.media.expected import ExpectedMedia, ExpectedSequence
from mam_video.media.ffmpeg_compat import writing
from mam_video.runtime.commit import folders_locked
from mam_video.runtime.lifecycle import Transactional


class WriterGroup(Transactional):
    """A `Writer` over several outputs, which get their final names together: all of them, or none.

    before_commit  called when every file is whole and none has its final name yet
    whose          of each output: the subject it is of; None: all subjects together
    """

    before_commit: Callable[[], None] | None = None

    def __init__(self, writers: Iterable[WholeWriter[Any]], whose: Sequence[str | None] = ()) -> None:
        """Take the writers one by one; where opening one fails those before it are aborted. There may be none.

        Raises: what opening them raises.
        """
        self._writers: list[WholeWriter[Any]] = []
        try:
            for writer in writers:
                self._writers.append(writer)
        except BaseException:
            self.abort()
            raise
        self.whose = tuple(whose) or (None,) * len(self._writers)
        self.path = self._writers[0].path if self._writers else Path()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Final names, in the order given."""
        return tuple(writer.path for writer in self._writers)

    @property
    def files(self) -> dict[Path, list[Path]]:
        """The files of each output, by its path, of the frames written so far."""
        return {writer.path: writer.files for writer in self._writers}

    @property
    def notes(self) -> list[str]:
        """What the outputs could not take over from the source, a line each."""
        return [note for writer in self._writers for note in writer.notes]

    def __iter__(self) -> Iterator[WholeWriter[Any]]:
        return iter(self._writers)

    def expected(self) -> list[tuple[Path, ExpectedMedia | ExpectedSequence]]:
        """State what each output should hold, of the frames written so far, where it is read back at all."""
        stated = [(writer.path, writer.expected()) for writer in self._writers]
        return [(path, expected) for path, expected in stated if expected is not None]

    def resume_from(self, first: int, most: int, *, named: bool = False) -> int:
        """Take over the frames that an earlier run left in every output, and return how many; `most` at most.

        first: index of the first of them; named: the run was cut off while outputs got their final names.
        """
        count = min(writer.frames_kept(first, most, named=named) for writer in self._writers)
        for writer in self._writers:
            writer.resume_from(first, count)
        return count

    @property
    def recipes(self) -> list[tuple[str | None, PlaneRecipe | None]]:
        """Return for each output the subject that it is of, and how its planes are made where that can be said."""
        return [(subject, writer.recipe) for writer, subject in zip(self._writers, self.whose, strict=True)]

    def convert(self, matted: Matted) -> list[Any]:
        """Convert the frame for each writer. Pure: any thread, any order."""
        return self.converted(matted, (None,) * len(self._writers))

    def converted(self, matted: Matted, planes: Sequence[list[np.ndarray] | None]) -> list[Any]:
        """Convert the frame for each writer, of which some have `planes` made by their recipes already. Pure."""
        each = zip(self._writers, self.whose, planes, strict=True)
        return [
            writer.convert(matted.of(subject)) if made is None else writer.of_planes(made, matted.frame)
            for writer, subject, made in each
        ]

    def encode(self, converted: list[Any]) -> None:
        """Add a converted frame to every output, in display order."""
        for writer, frame in zip(self._writers, converted, strict=True):
            writer.encode(frame)

    def packed(self, converted: list[Any]) -> list[bytes]:
        """Return a converted frame as bytes for each output, to be encoded in another process."""
        return [writer.packed(frame) for writer, frame in zip(self._writers, converted, strict=True)]

    def unpacked(self, data: Sequence[bytes]) -> list[Any]:
        """Return the converted frame that `packed` gave there."""
        return [writer.unpacked(each) for writer, each in zip(self._writers, data, strict=True)]

    def write(self, matted: Matted) -> None:
        self.encode(self.convert(matted))

    def close(self) -> None:
        """Finish every file, and only then rename them all. Raises: MediaError, another run took one of the names."""
        try:
            for writer in self._writers:
                writer.finish()
            for path in self.paths:
                with writing(path):
                    path.parent.mkdir(exist_ok=True)
            with folders_locked(path.parent for path in self.paths):
                for writer in self._writers:
                    writer.check()
                if self.before_commit is not None:
                    self.before_commit()
                for writer in self._writers:
                    writer.commit()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        for writer in self._writers:
            writer.abort()
