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
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mam_video.core.errors import UsageError
from mam_video.core.geometry import ALL_SUBJECT, Box, Point, box_of_mask, coordinates_of, point_of

DEFAULT_SUBJECT = "subject"  # its name where none is given


@dataclass(frozen=True, slots=True)
class Prompt:
    """What shows the subject on one frame: a box, points, or both; or a mask, which is then taken as found.

    mask  (H, W) float32 in [0, 1], of the frame's size; `of_mask` makes such a prompt, with the mask's box

    Raises: UsageError, there is neither a box nor a point on the subject.
    """

    box: Box | None = None
    points: tuple[Point, ...] = ()
    mask: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
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
        prompt = cls(whole, tuple(point_of(point, size) for point in points))
        prompt.check_inside(size)
        return prompt

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
        return cls(box, mask=mask)

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

    def check_inside(self, size: tuple[int, int]) -> None:
        """Raises UsageError where a prompt lies outside a frame of `size` (H, W)."""
        for index, prompt in self.entries:
            try:
                prompt.check_inside(size)
            except UsageError as error:
                raise UsageError(f"prompt on frame {index}: {error}") from None
