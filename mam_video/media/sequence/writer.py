"""Write image sequences: each file appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

from mam_video.core.errors import MediaError
from mam_video.core.frames import Matted
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import OutputSettings
from mam_video.media.atomic_output import Pattern, SequenceOutput, listed
from mam_video.media.base import ClipInfo
from mam_video.media.ffmpeg_compat import writing
from mam_video.media.sequence.encoders import Encoder
from mam_video.media.sequence.reader import number_of, numbers_of
from mam_video.runtime.append_log import flushed
from mam_video.runtime.lifecycle import TwoPhaseOutput


class SequenceWriter(TwoPhaseOutput):
    """A file for every frame, in a hidden folder until all are whole. Two steps, as with movies: prepare and put.

    Numbers are those of the source where it is a sequence, else they begin at 1001 (`OutputSettings.start_number`).
    Timestamps have no place here: a sequence of a variable-rate clip keeps its frames, not their times.

    numbers  of the frames written so far
    labels   their timecodes, by number; not of those that an earlier run left
    notes    what should be said after the run: frames of an older, longer sequence that are still there
    """

    def __init__(
        self,
        pattern: Pattern,
        encoder: Encoder,
        info: ClipInfo,
        settings: OutputSettings,
        *,
        keep: Path | None = None,
        frames: FrameRange | None = None,
    ) -> None:
        """With `keep`, a hidden folder, the frames lie there and are left there by `abort`.

        `frames` are the first and last index of the range that is written; None: the whole clip.

        Raises: UsageError or MediaError, before anything is written, where the output is not possible."""
        self.path: Path = pattern.path
        self.encoder = encoder
        self.info = info
        self.numbers: list[int] = []
        self.labels: dict[int, str | None] = {}
        self.notes: list[str] = []
        self._start = settings.start_number
        self._keep = keep is not None
        self._before: list[str] = []
        part = None if frames is None else numbers_of(info, settings, frames)
        self._output = SequenceOutput(pattern, settings.overwrite, keep, part=part)

    @property
    def pattern(self) -> Pattern:
        return self._output.pattern

    def number(self, index: int) -> int:
        """The number that the frame `index` is written under."""
        return number_of(self.info, self._start, index)

    def prepare(self, matted: Matted) -> str:
        """Write the frame into the hidden folder and give its name. Any thread, any order."""
        if matted.frame.size != self.info.size:
            raise ValueError(f"frame {matted.frame.index} is {matted.frame.size}, the clip {self.info.size}")
        number = self.number(matted.frame.index)
        self.labels[number] = matted.frame.timecode
        name = self._output.pattern.name(number)
        with writing(self._output.pattern.folder / name):
            try:
                self.encoder.write(matted, number, self._output.partial / name)
                if self._keep:
                    flushed(self._output.partial / name)
            except MediaError as error:
                raise MediaError(f"{self._output.pattern.folder / name}: {error}") from error
        return name

    def kept(self, first: int, most: int, *, named: bool = False) -> int:
        """How many frames an earlier run left, from the index `first` on, `most` at most.

        `named`: it was cut off while it gave them their final names.
        """
        pattern, hidden = self._output.pattern, self._output.partial
        for k in range(most):
            name = pattern.name(self.number(first + k))
            if not (hidden / name).exists() and not (named and (pattern.folder / name).exists()):
                return k
        return most

    def resume_from(self, first: int, count: int) -> None:
        """Take over the first `count` frames of those; before the first `put`."""
        self._before = [self._output.pattern.name(self.number(first + k)) for k in range(count)]
        self.numbers = [self.number(first + k) for k in range(count)]
        ours = set(self._before)
        with writing(self.path):
            for entry in list(self._output.partial.iterdir()):
                if entry.name not in ours:
                    entry.unlink()

    def put(self, name: str) -> None:
        """Count a prepared frame in."""
        number = self._output.pattern.number(name)
        assert number is not None
        self.numbers.append(number)

    def write(self, matted: Matted) -> None:
        """Raises: MediaError, where the disk is full."""
        self.put(self.prepare(matted))

    def finish(self) -> None:
        if not self.numbers:
            raise MediaError(f"{self.path}: no frame was written to it")

    def publish(self) -> None:
        """Move the frames to their final names."""
        self._output.publish(self._before)
        if left := self._output.left_over:
            self.notes.append(
                f"{self.path}: {len(left)} frame{'s' if len(left) > 1 else ''} of an earlier run that this run does "
                f"not have {'are' if len(left) > 1 else 'is'} still there ({listed(left)}); remove them by hand"
            )

    def check(self) -> None:
        """Raises: MediaError, another run has written one of the frames since this one began."""
        self._output.check()

    def abort(self) -> None:
        self._output.discard()
