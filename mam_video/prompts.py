"""What the user points with: a box, points, or both, parsed and checked once.

Coordinates are frame pixels of the upright picture. x grows to the right, y downwards; the left edge of the first
pixel is 0, its centre .5. Boxes are x0, y0, x1, y1, half-open: 0,0,W,H is the whole frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mam_video.errors import UsageError

ALL_SUBJECT = "all of every picture is subject: is it an opaque alpha channel? write black and white without one"


@dataclass(frozen=True, slots=True)
class Box:
    """x0, y0, x1, y1 in frame pixels, half-open, floats."""

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in self.xyxy):
            raise UsageError(f"box {self} holds a value that is not a finite number")
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise UsageError(f"box {self} is empty or inverted; give x0,y0,x1,y1 with x0 < x1 and y0 < y1")

    def __str__(self) -> str:
        return ",".join(f"{v:g}" for v in self.xyxy)

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        return self.x0, self.y0, self.x1, self.y1

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y)"""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def moved(self, dx: float, dy: float) -> Box:
        return Box(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy)

    def grown(self, margin: float) -> Box:
        """Each side moved outwards by `margin` pixels (inwards if negative, but never past the centre)."""
        cx, cy = self.centre
        half_w, half_h = max(self.width / 2 + margin, 0.5), max(self.height / 2 + margin, 0.5)
        return Box(cx - half_w, cy - half_h, cx + half_w, cy + half_h)

    def clipped(self, size: tuple[int, int]) -> Box | None:
        """The part inside a frame of `size` (H, W), or None where nothing of it is."""
        h, w = size
        x0, y0, x1, y1 = max(self.x0, 0.0), max(self.y0, 0.0), min(self.x1, float(w)), min(self.y1, float(h))
        return Box(x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None

    def iou(self, other: Box) -> float:
        """Intersection over union, 0..1."""
        w = min(self.x1, other.x1) - max(self.x0, other.x0)
        h = min(self.y1, other.y1) - max(self.y0, other.y0)
        inter = max(w, 0.0) * max(h, 0.0)
        return inter / (self.area + other.area - inter)


@dataclass(frozen=True, slots=True)
class Point:
    """x, y in frame pixels; `subject` says whether it lies on the subject or on the background."""

    x: float
    y: float
    subject: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y)):
            raise UsageError(f"point {self} holds a value that is not a finite number")

    def __str__(self) -> str:
        return f"{self.x:g},{self.y:g}" + ("" if self.subject else ",0")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the user points with on one frame: a box, points, or both; or a mask, which is then the answer.

    mask  (H, W) float32 in [0, 1], of the frame's size; `of_mask` makes such a prompt, with the mask's box
    """

    box: Box | None = None
    points: tuple[Point, ...] = ()
    mask: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.box is None and not any(p.subject for p in self.points):
            raise UsageError("no prompt: give --box x0,y0,x1,y1 or --point x,y on the subject in the first frame")

    @classmethod
    def parse(cls, box: str | None, points: list[str], size: tuple[int, int]) -> Prompt:
        """From the texts of the command line, for a frame of `size` (H, W).

        Each coordinate is in pixels, or with `%` a percentage of the frame's width or height; where all are plain
        numbers no greater than 1 they are fractions of it.
        """
        parsed_box = Box(*_coordinates(box, "box", size, 4)) if box is not None else None
        prompt = cls(parsed_box, tuple(_parse_point(p, size) for p in points))
        prompt.check_inside(size)
        return prompt

    @classmethod
    def of_mask(cls, mask: np.ndarray, name: str = "the mask") -> Prompt:
        """From a mask of the frame's size, (H, W) float32 in [0, 1].

        Raises: UsageError, nothing of it is above half, or nothing else."""
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


def box_of_mask(mask: np.ndarray) -> Box | None:
    """Tight box of what is above half in a mask, (H, W) float32 in [0, 1]; None where nothing is."""
    inside = mask > 0.5
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    if len(columns) == 0:
        return None
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def _parse_point(text: str, size: tuple[int, int]) -> Point:
    parts = text.split(",")
    subject = True
    if len(parts) == 3:
        if parts[2].strip() not in ("0", "1"):
            raise UsageError(f"point '{text}': the third value is 1 for subject or 0 for background")
        subject = parts[2].strip() == "1"
        text = ",".join(parts[:2])
    x, y = _coordinates(text, "point", size, 2)
    return Point(x, y, subject)


def _coordinates(text: str, what: str, size: tuple[int, int], count: int) -> list[float]:
    parts = [p.strip() for p in text.split(",")]
    form = "x0,y0,x1,y1" if count == 4 else "x,y or x,y,0"
    if len(parts) != count:
        raise UsageError(f"{what} '{text}' is not of the form {form}")
    try:
        numbers = [float(p.removesuffix("%")) for p in parts]
    except ValueError:
        raise UsageError(f"{what} '{text}' is not of the form {form}") from None
    if not all(math.isfinite(n) for n in numbers):
        raise UsageError(f"{what} '{text}' holds a value that is not a finite number")
    spans = (size[1], size[0]) * (count // 2)
    percent = [p.endswith("%") for p in parts]
    if not any(percent) and all(0 <= n <= 1 for n in numbers):
        return [n * s for n, s in zip(numbers, spans, strict=True)]
    return [n / 100 * s if pc else n for n, s, pc in zip(numbers, spans, percent, strict=True)]
