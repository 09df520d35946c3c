"""Prompts: a box, points, or both, that show a subject on a frame. Values that check themselves when made.

Coordinates are frame pixels of the upright picture. x grows to the right, y downwards; the left edge of the first
pixel is 0, its centre .5. Boxes are x0, y0, x1, y1, half-open: 0,0,W,H is the whole frame.

Prompts on several frames may stand in a file, in TOML:

    version = 1

    [[prompt]]
    frame = 0                               # counted from 0; of a sequence its file's number; or a timecode, as text
    box = [412, 96, 890, 1010]              # pixels, or percentages of the frame as texts: "20%"

    [[prompt]]
    frame = 120
    points = [[640, 400], [100, 80, 0]]     # on the subject; with a third value 0, on the background
    subject = "dancer"                      # the subject's name; "subject" where it is left out

    [[prompt]]
    frame = 200
    mask = "masks/200.png"                  # in place of box and points, from this file's folder; white is subject
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mam_video.core.errors import UsageError
from mam_video.core.geometry import ALL_SUBJECT, Box, Point, box_of_mask, coordinates_of, point_of

DEFAULT_SUBJECT = "subject"  # its name where none is given
_LEAST_SIDE = 2.0  # pixels of a box


@dataclass(frozen=True, slots=True)
class Prompt:
    """What shows the subject on one frame: a box, points, or both; or a mask, which is then taken as found.

    Tuples are taken too: a box of four numbers, points of x, y and, with 0, on the background. As on the command line a
    box or a point whose values are all from 0 to 1 is in fractions of the frame, until `in_pixels`.

    mask    (H, W) float32 in [0, 1], of the frame's size; `of_mask` makes such a prompt, with the mask's box
    placed  whether all values are pixels, small ones too

    Raises: UsageError, there is neither a box nor a point on the subject, or a value is of another form.
    """

    box: Box | None = None
    points: tuple[Point, ...] = ()
    mask: np.ndarray | None = field(default=None, repr=False, compare=False)
    placed: bool = field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", None if self.box is None else as_box(self.box))
        object.__setattr__(self, "points", as_points(self.points))
        if self.mask is not None and not (isinstance(self.mask, np.ndarray) and self.mask.ndim == 2):
            raise UsageError("mask must be an array of (H, W) values from 0 to 1; Prompt.of_mask makes a prompt of it")
        if self.box is None and not any(p.subject for p in self.points):
            raise UsageError("no prompt: give --box x0,y0,x1,y1 or --point x,y on the subject in the first frame")

    def __str__(self) -> str:
        """Write it as the command line does."""
        box = [] if self.box is None else [f"box={self.box}"]
        return ";".join([*box, *(f"point={point}" for point in self.points)])

    @classmethod
    def parse(cls, box: str | None, points: list[str], size: tuple[int, int]) -> Prompt:
        """Parse the texts of the command line, values with commas between; else as `of_values`."""
        return cls.of_values(None if box is None else box.split(","), [point.split(",") for point in points], size)

    @classmethod
    def of_values(
        cls, box: Sequence[float | str] | None, points: Sequence[Sequence[float | str]], size: tuple[int, int]
    ) -> Prompt:
        """Make a prompt of numbers, for a frame of `size` (H, W).

        Args:
            box: x0, y0, x1, y1; see `coordinates_of` for pixels, percentages and fractions.
            points: x, y each, with a third value 0 on the background.
        Raises: UsageError, these are no numbers, or lie outside the frame.
        """
        whole = None if box is None else Box(*coordinates_of(box, "box", size, 4))
        prompt = cls(whole, tuple(point_of(point, size) for point in points), placed=True)
        return prompt.in_pixels(size)

    @classmethod
    def of_mask(cls, mask: np.ndarray, name: str = "the mask") -> Prompt:
        """Make a prompt of a mask of the frame's size, (H, W) float32 in [0, 1]; `name` is for errors.

        Raises: UsageError, no pixel is above half, or all are.
        """
        box = box_of_mask(mask)
        if box is None:
            raise UsageError(
                f"{name}: no pixel of this mask is brighter than half (its brightest is {float(mask.max()):.3g} of 1); "
                "the subject must be white, of 8 bits 255"
            )
        if float(mask.min()) > 0.5:
            raise UsageError(f"{name}: {ALL_SUBJECT}")
        return cls(box, mask=mask, placed=True)

    def in_pixels(self, size: tuple[int, int]) -> Prompt:
        """Return the prompt with fractions brought to pixels of a frame of `size` (H, W).

        Raises: UsageError, it lies outside the frame, or its box is narrower or lower than 2 pixels.
        """
        h, w = size
        placed = self
        if not self.placed:
            box = self.box
            if box is not None and all(0 <= value <= 1 for value in box.xyxy):
                box = Box(box.x0 * w, box.y0 * h, box.x1 * w, box.y1 * h)
            points = tuple(
                Point(p.x * w, p.y * h, p.subject) if 0 <= p.x <= 1 and 0 <= p.y <= 1 else p for p in self.points
            )
            placed = replace(self, box=box, points=points, placed=True)
        placed.check_inside(size)
        box = placed.box
        if self.mask is None and box is not None and min(box.width, box.height) < _LEAST_SIDE:
            raise UsageError(f"box {box} is under 2 pixels wide or high, in a frame of {w}x{h}: give x0,y0,x1,y1")
        return placed

    def check_inside(self, size: tuple[int, int]) -> None:
        """Raises UsageError where the prompt lies outside a frame of `size` (H, W), or its mask is of another size."""
        h, w = size
        if self.mask is not None and self.mask.shape != size:
            raise UsageError(f"the mask is {self.mask.shape[1]}x{self.mask.shape[0]}, the frame {w}x{h}")
        if self.box is not None and self.box.clipped(size) is None:
            raise UsageError(f"box {self.box} lies outside the frame, which is {w}x{h}")
        for p in self.points:
            if not (0 <= p.x <= w and 0 <= p.y <= h):
                raise UsageError(f"point {p} lies outside the frame, which is {w}x{h}")


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of one subject in a clip.

    entries  (frame index, prompt), in ascending order, each frame once, at least one
    subject  the subject's name
    """

    entries: tuple[tuple[int, Prompt], ...]
    subject: str = DEFAULT_SUBJECT

    def __post_init__(self) -> None:
        if not self.entries:
            raise UsageError("no prompt: give a box, or a point on the subject, on one frame at least")
        if self.frames[0] < 0:
            raise UsageError(f"prompt on frame {self.frames[0]}: frames are counted from 0")
        for a, b in zip(self.frames, self.frames[1:], strict=False):
            if a == b:
                raise UsageError(f"frame {a} has two prompts; give one, with all of its box and points")
            if a > b:
                raise ValueError(f"prompts must be in the frames' order, are {self.frames}")
        if not self.subject.strip():
            raise UsageError("a subject's name must not be empty")

    @classmethod
    def of(cls, prompts: Mapping[int, Prompt], subject: str = DEFAULT_SUBJECT) -> Prompts:
        """Make them of prompts by frame index, in any order."""
        return cls(tuple(sorted(prompts.items(), key=lambda entry: entry[0])), subject)

    @property
    def frames(self) -> tuple[int, ...]:
        """Indices of the prompted frames, in ascending order."""
        return tuple(index for index, _ in self.entries)

    def __getitem__(self, index: int) -> Prompt:
        """Return the prompt on frame `index`. Raises: KeyError, there is none."""
        return dict(self.entries)[index]

    def in_pixels(self, size: tuple[int, int]) -> Prompts:
        """Return them in pixels of a frame of `size` (H, W). Raises: as `Prompt.in_pixels`, naming the frame."""
        placed = []
        for index, prompt in self.entries:
            try:
                placed.append((index, prompt.in_pixels(size)))
            except UsageError as error:
                raise UsageError(f"prompt on frame {index}: {error}") from None
        return Prompts(tuple(placed), self.subject)

    def check_inside(self, size: tuple[int, int]) -> None:
        """Raises UsageError where a prompt lies outside a frame of `size` (H, W)."""
        self.in_pixels(size)


PromptLike = Prompt | Prompts | Sequence[Prompts] | Box | tuple[float, float, float, float]


def as_prompt(value: PromptLike | None) -> Prompt | Prompts | Sequence[Prompts] | None:
    """Take a prompt as users of Python give it: a box, or four numbers for one, becomes a prompt.

    Raises: UsageError, it is none of these.
    """
    if value is None or isinstance(value, Prompt | Prompts):
        return value
    if isinstance(value, Sequence) and all(isinstance(each, Prompts) for each in value):
        return [each for each in value if isinstance(each, Prompts)]
    if isinstance(value, Box) or (isinstance(value, Sequence) and len(value) == 4 and not isinstance(value, str)):
        return Prompt(as_box(value))
    raise UsageError(
        f"prompt must be a Prompt, a box (x0, y0, x1, y1), Prompts, or a list of Prompts for several subjects, is "
        f"{_shown(value)}"
    )


def one_prompt(value: object) -> Prompt:
    """Take the prompt of one frame, or make one of a box or of four numbers. Raises: UsageError."""
    return value if isinstance(value, Prompt) else Prompt(as_box(value))


def as_box(value: object) -> Box:
    """Take a box, or make one of four numbers. Raises: UsageError."""
    if isinstance(value, Box):
        return value
    numbers = _numbers(value)
    if len(numbers) != 4:
        raise UsageError(f"box must be Box(x0, y0, x1, y1) or four numbers, is {_shown(value)}")
    return Box(*numbers)


def as_points(value: object) -> tuple[Point, ...]:
    """Take points, or make them of x, y and 0 or 1 each; a single one may stand for itself. Raises: UsageError."""
    if isinstance(value, Point) or len(_numbers(value)) in (2, 3):
        value = (value,)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UsageError(f"points must be a list of Point(x, y) or (x, y), is {_shown(value)}")
    return tuple(each if isinstance(each, Point) else _point(each) for each in value)


def _point(value: object) -> Point:
    numbers = _numbers(value)
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] not in (0, 1)):
        raise UsageError(f"a point must be Point(x, y), (x, y), or (x, y, 0) on the background, is {_shown(value)}")
    return Point(numbers[0], numbers[1], len(numbers) == 2 or numbers[2] == 1)


def _numbers(value: object) -> list[float]:
    """Return the numbers of a sequence or an array of numbers alone; of anything else none."""
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.ndim == 1 else None
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    plain = [each for each in value if isinstance(each, int | float | np.number) and not isinstance(each, bool)]
    return [float(each) for each in plain] if len(plain) == len(value) else []


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{type(value).__name__}"
