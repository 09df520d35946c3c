"""The contracts of media: a `Reader` gives `Frame`s, a `Writer` takes `Matted`s.

Media knows files, never tensors or models. Every error of PyAV, of image files or of the disk becomes a `MediaError`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import numpy as np

from mam_video.core.frames import Frame, Matted
from mam_video.core.planes import PlaneRecipe
from mam_video.core.timecode import Timecode
from mam_video.media.light import Light
from mam_video.media.movie.timeline import Timeline
from mam_video.runtime.lifecycle import TwoPhaseOutput

if TYPE_CHECKING:
    from mam_video.media.expected import ExpectedMedia, ExpectedSequence

Converted = TypeVar("Converted")


@dataclass(frozen=True, slots=True)
class Colour:
    """Colour tags as the container names them (FFmpeg's names); "unknown" where untagged.

    What was assumed where a tag was absent is decided by the reader, and is what stands here in `matrix` and `range`;
    `tagged` says whether the source said so itself.
    """

    range: str = "tv"  # tv (limited) or pc (full)
    matrix: str = "bt709"
    primaries: str = "unknown"
    transfer: str = "unknown"
    tagged: bool = False


XYXY = tuple[int, int, int, int]  # x0, y0, x1, y1, half-open


@dataclass(frozen=True, slots=True)
class Windows:
    """Where a clip with overscan (or less than a full picture) stands in EXR's pixel space, y downwards.

    display  what a viewer shows
    canvas   what is matted: the display window and every frame's data window, together
    """

    display: XYXY
    canvas: XYXY

    @property
    def overscan(self) -> bool:
        """Whether there is picture outside what a viewer shows."""
        return self.canvas != self.display


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """Facts of a clip, known before its frames are decoded.

    width, height     of the upright picture, in pixels
    rate              frames a second, exact, as the container means it (an average where it varies)
    time_base         seconds a tick of every frame's pts
    frames_in_header  what the container claims, or None; the truth is what decoding gives
    rotation          degrees counter-clockwise that the reader turned the stored picture by to stand it upright
    sample_aspect     width of a pixel over its height
    has_alpha         whether the file has an alpha, in its pixels or beside them (WebM)
    alpha             how that is taken: straight or premultiplied colour with it, or ignored; "" where there is none
    alpha_basis       why it is taken so, in a few words
    timecode          label of the first frame, at the whole rate nearest to `rate`; None where the source has none
    reel              name of the reel, where the file says so
    created           when it was made, as the container says; "" where it does not
    sound             a line about each audio stream
    interlaced        whether its first picture is flagged as two fields
    timeline          how the times of its packets are moved where its clock restarts
    numbers           of a sequence: the number of each frame, as its file name has it; None for movies
    padding           digits that these numbers are padded to
    padding_below     likewise those below zero, without the sign; None where there are none
    look              name of how pixels are seen: srgb, linear, log, none, a transfer function, or an OCIO colour space
    windows           where display and data windows differ (EXR)
    chromaticities    x, y of red, green, blue and white, where the file says so and the look keeps them
    shown             tags of what is shown of a movie through its look; None: those of `colour`
    coded             whether codes are understood by the movie's tags alone: files that cannot carry these get what is
                      shown
    siting            of subsampled chroma: one of `chroma.SITINGS`; "" where there is none
    light             of a movie: mastering display and light levels
    codec             name of the codec of a movie, or the format of a sequence's files, as "h264" or "EXR, zip"
    layers            of an EXR: its layers and parts by name; those without one are not listed
    notes             what was assumed, or looks wrong, a line each, to be shown once
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    frames_in_header: int | None = None
    pixel_format: str = ""
    bits: int = 8
    rotation: int = 0
    sample_aspect: Fraction = Fraction(1)
    colour: Colour = field(default_factory=Colour)
    has_alpha: bool = False
    alpha: str = ""
    alpha_basis: str = ""
    timecode: Timecode | None = None
    reel: str = ""
    created: str = ""
    sound: tuple[str, ...] = ()
    interlaced: bool = False
    timeline: Timeline = field(default_factory=Timeline)
    numbers: Sequence[int] | None = None
    padding: int = 0
    padding_below: int | None = None
    look: str = "srgb"
    windows: Windows | None = None
    chromaticities: tuple[float, ...] | None = None
    shown: Colour | None = None
    coded: bool = False
    siting: str = ""
    light: Light = field(default_factory=Light)
    codec: str = ""
    layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def floating(self) -> bool:
        """Whether pixels are floating-point numbers, which files of whole numbers cannot hold."""
        return self.pixel_format in ("half", "float")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.height, self.width

    def frame_number(self, index: int) -> int:
        """Return what the user calls the frame `index`: the number of its file, or for a movie its index.

        Frames beyond a sequence's last file have no number and are called by their index.
        """
        return index if self.numbers is None or index >= len(self.numbers) else self.numbers[index]


def windows_of(info: ClipInfo) -> tuple[XYXY, XYXY]:
    """Return display window and canvas of a clip; both are the whole picture where it has no windows."""
    whole = (0, 0, info.width, info.height)
    return (info.windows.display, info.windows.canvas) if info.windows else (whole, whole)


class Reader(Protocol):
    """Frames in display order, each once, with its own time. Not thread-safe; frames() may be called again.

    broken  indices of frames that could not be decoded, as far as frames() has come; the frame before each stands in
    """

    info: ClipInfo
    broken: list[int]

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Yield the frames start <= index < stop. Indices are absolute, counted by decoding from the first frame.

        Raises: MediaError, naming the frame that cannot be read; ValueError, the reader is closed.
        """
        ...

    def index_for_random_access(self) -> None:
        """Remember on the next pass what makes later calls of `frames(start, stop)` quick."""
        ...

    def index_frames(self) -> Iterator[int]:
        """Make that pass now, without converting pictures: yield each index up to which later calls are quick.

        Nothing is yielded where any frame can be read by itself, or where frames depend on those before them.
        Raises: MediaError, naming the frame that cannot be read.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Writer(Protocol):
    """One output. Written beside its final name and renamed when whole: `close` commits, `abort` leaves nothing.

    As a context manager it closes on success and aborts on an exception.

    path   final name; of a sequence its pattern
    notes  what the output could not take over from the source, a line each
    """

    path: Path

    @property
    def notes(self) -> Sequence[str]: ...

    def write(self, matted: Matted) -> None:
        """Add the next frame, in display order. Raises: MediaError, where the disk is full or the encoder fails."""
        ...

    def close(self) -> None:
        """Finish the output and give it its final name. Raises: MediaError."""
        ...

    def abort(self) -> None:
        """Remove what was written. Never raises."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class WholeWriter(TwoPhaseOutput, Generic[Converted]):
    """A `Writer` in steps, for loops that convert in threads and for several outputs that are renamed together.

    `write(m)` is `encode(convert(m))`; `close()` is `finish()` and `commit()`.
    """

    path: Path
    notes: list[str]

    @property
    def files(self) -> list[Path]:
        """The final names of the files that hold the frames encoded so far."""
        return [self.path]

    @abstractmethod
    def convert(self, matted: Matted) -> Converted:
        """Make what is encoded. Pure: any thread, any order. Raises: ValueError, the frame has another size."""

    @property
    def recipe(self) -> PlaneRecipe | None:
        """How what is encoded is made of a plate of whole numbers; None: only `convert` can make it."""
        return None

    def of_planes(self, planes: Sequence[np.ndarray], frame: Frame) -> Converted:
        """Make what is encoded of the planes that the recipe says, (H, W) uint16 each, and the frame's time."""
        raise NotImplementedError(f"{self.path}: has no recipe")

    @abstractmethod
    def encode(self, converted: Converted) -> None:
        """Add a converted frame, in display order. Raises: MediaError, where the disk is full or the encoder fails."""

    def write(self, matted: Matted) -> None:
        self.encode(self.convert(matted))

    @abstractmethod
    def packed(self, converted: Converted) -> bytes:
        """Return a converted frame as bytes, for a writer of the same output in another process."""

    @abstractmethod
    def unpacked(self, data: bytes) -> Converted:
        """Return the converted frame that `packed` gave there. Raises: MediaError, the bytes are damaged.

        Of a sequence its file stands under its final name already: such a writer states and checks, and moves nothing.
        """

    @abstractmethod
    def finish(self) -> None:
        """Complete the output under its hidden name. Raises: MediaError, also where no frame was written."""

    @abstractmethod
    def check(self) -> None:
        """Raise MediaError if another run has written the same name since this one began."""

    @abstractmethod
    def commit(self) -> None:
        """Give what is finished its final name."""

    @abstractmethod
    def expected(self) -> ExpectedMedia | ExpectedSequence | None:
        """State what the output should hold, of the frames encoded so far; None: it is not read back."""

    def frames_kept(self, first: int, most: int, *, named: bool = False) -> int:
        """Count the frames that an earlier run left, from the index `first` on, `most` at most.

        `named`: that run was cut off while it gave them their final names.
        """
        return 0

    def resume_from(self, first: int, count: int) -> None:
        """Take over the first `count` of those; before the first frame is encoded."""
        if count:
            raise ValueError(f"{self.path}: its frames need each other, so a run cannot be resumed")
