"""Write image sequences: each file appears whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from mam_video.core.errors import MediaError
from mam_video.core.frames import Matted
from mam_video.media.atomic_output import SequenceOutput, listed
from mam_video.media.base import WholeWriter, windows_of
from mam_video.media.expected import FLOAT_SLACK, ExpectedSequence
from mam_video.media.ffmpeg_compat import writing
from mam_video.media.formats import OutputRequest
from mam_video.media.sequence.exr import exr_label
from mam_video.media.sequence.numbers import number_of, numbers_of
from mam_video.runtime.append_log import flushed


class SequenceWriter(WholeWriter[str]):
    """A file for every frame, in a hidden folder until all are whole.

    Numbers are those of the source where it is a sequence, else they begin at 1001 (`OutputSettings.start_number`).
    Timestamps have no place here: a sequence of a variable-rate clip keeps its frames, not their times.

    notes  frames of an older, longer sequence that are still there
    """

    def __init__(self, request: OutputRequest) -> None:
        """With a checkpoint the frames lie in that folder, and `abort` leaves them there.

        Raises: UsageError or MediaError, before anything is written, where the output is not possible.
        """
        info, settings, pattern = request.info, request.settings, request.pattern
        assert request.format.encoder is not None
        layers = request.subjects if request.format.layers else ()
        self.path, self.notes = pattern.path, []
        self.info = info
        self.encoder = request.format.encoder(info, settings, alpha_only=request.alpha_only, layers=layers)
        self._numbers: list[int] = []  # of the frames written so far
        self._labels: dict[int, str | None] = {}  # their timecodes; not of those that an earlier run left
        self._alpha_slack = request.format.alpha_slack
        self._start = settings.start_number
        self._keep = request.checkpoint is not None
        self._before: list[str] = []
        part = None if request.frames is None else numbers_of(info, settings, request.frames)
        self._output = SequenceOutput(pattern, settings.overwrite, request.checkpoint, part=part)

    @property
    def files(self) -> list[Path]:
        """The final names of the frames written so far."""
        pattern = self._output.pattern
        return [pattern.folder / pattern.name(number) for number in self._numbers]

    def number(self, index: int) -> int:
        """Return the number that the frame `index` is written under."""
        return number_of(self.info, self._start, index)

    def expected(self) -> ExpectedSequence:
        """State what the files should hold, given the frames that were handed over.

        Frames that an earlier run left are held to everything but their labels, which are not known any more.
        """
        info = self.info
        display, canvas = windows_of(info)
        known = all(number in self._labels for number in self._numbers)
        return ExpectedSequence(
            numbers=self._numbers,
            size=info.size,
            display=display,
            canvas=canvas,
            depth=self.encoder.depth,
            channels=self.encoder.channels,
            rate=info.rate,
            labels=[exr_label(self._labels[number], info.rate) for number in self._numbers] if known else None,
            reel=info.reel,
            alpha_slack=FLOAT_SLACK if self.encoder.depth == "float" else self._alpha_slack,
            pattern=self._output.pattern,
        )

    def convert(self, matted: Matted) -> str:
        """Write the frame into the hidden folder and return its name."""
        if matted.frame.size != self.info.size:
            raise ValueError(f"frame {matted.frame.index} is {matted.frame.size}, the clip {self.info.size}")
        number = self.number(matted.frame.index)
        self._labels[number] = matted.frame.timecode
        name = self._output.pattern.name(number)
        with writing(self._output.pattern.folder / name):
            try:
                self.encoder.write(matted, number, self._output.partial / name)
                if self._keep:
                    flushed(self._output.partial / name)
            except MediaError as error:
                raise MediaError(f"{self._output.pattern.folder / name}: {error}") from error
        return name

    def packed(self, converted: str) -> bytes:
        number = self._output.pattern.number(converted)
        assert number is not None
        return json.dumps([number, self._labels[number]]).encode()

    def unpacked(self, data: bytes) -> str:
        try:
            number, label = json.loads(data)
            name = self._output.pattern.name(int(number))
        except (TypeError, ValueError) as error:
            raise MediaError(f"{self.path}: a frame's entry is damaged ({error}); make its frames again") from None
        self._labels[number] = label
        self._before.append(name)
        return name

    def frames_kept(self, first: int, most: int, *, named: bool = False) -> int:
        pattern, hidden = self._output.pattern, self._output.partial
        for k in range(most):
            name = pattern.name(self.number(first + k))
            if not (hidden / name).exists() and not (named and (pattern.folder / name).exists()):
                return k
        return most

    def resume_from(self, first: int, count: int) -> None:
        self._before = [self._output.pattern.name(self.number(first + k)) for k in range(count)]
        self._numbers = [self.number(first + k) for k in range(count)]
        ours = set(self._before)
        with writing(self.path):
            for entry in list(self._output.partial.iterdir()):
                if entry.name not in ours:
                    entry.unlink()

    def encode(self, converted: str) -> None:
        """Count a converted frame in."""
        number = self._output.pattern.number(converted)
        assert number is not None
        self._numbers.append(number)

    def finish(self) -> None:
        if not self._numbers:
            raise MediaError(f"{self.path}: no frame was written to it")

    def commit(self) -> None:
        self._output.publish(self._before)
        if left := self._output.left_over:
            self.notes.append(
                f"{self.path}: {len(left)} frame{'s' if len(left) > 1 else ''} of an earlier run that this run does "
                f"not have {'are' if len(left) > 1 else 'is'} still there ({listed(left)}); remove them by hand"
            )

    def check(self) -> None:
        self._output.check()

    def abort(self) -> None:
        self._output.discard()
