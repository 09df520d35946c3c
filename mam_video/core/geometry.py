"""Boxes and points in frame pixels, and the arithmetic on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mam_video.core.arrays import Alpha, Mask
from mam_video.core.errors import UsageError

ALL_SUBJECT = "white everywhere; if the file has an alpha channel, save it as black and white without alpha"


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

    def shared_area(self, other: Box) -> float:
        """Area that is in both."""
        w = min(self.x1, other.x1) - max(self.x0, other.x0)
        h = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(w, 0.0) * max(h, 0.0)

    def iou(self, other: Box) -> float:
        """Intersection over union, 0..1."""
        inter = self.shared_area(other)
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


def mask_bounds(mask: Mask) -> tuple[int, int, int, int] | None:
    """Tight x0, y0, x1, y1 of what is set in a mask, half-open, in its pixels; None where nothing is."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if len(columns) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_of_mask(mask: Alpha) -> Box | None:
    """Tight box of what is above half in a mask, (H, W) float32 in [0, 1]; None where nothing is."""
    inside = mask > 0.5
    return tight_box(inside) if inside.any() else None


def tight_box(mask: Mask) -> Box:
    """Return the box of a mask's bounds. Raises: ValueError, the mask is empty."""
    bounds = mask_bounds(mask)
    if bounds is None:
        raise ValueError("an empty mask has no box")
    return Box(*(float(v) for v in bounds))


def point_of(values: Sequence[float | str], size: tuple[int, int]) -> Point:
    """Make a point of x, y and, where it is given, 1 for subject or 0 for background; x and y as in `coordinates_of`.

    Raises: UsageError.
    """
    subject = True
    if len(values) == 3:
        label = str(values[2]).strip()
        if label not in ("0", "1"):
            raise UsageError(f"point '{listed(values)}': the third value is 1 for subject or 0 for background")
        subject = label == "1"
        values = values[:2]
    x, y = coordinates_of(values, "point", size, 2)
    return Point(x, y, subject)


def coordinates_of(values: Sequence[float | str], what: str, size: tuple[int, int], count: int) -> list[float]:
    """Bring coordinates, x and y in turn, to pixels of a frame of `size` (H, W).

    Args:
        values: each a number or its text; in pixels, or as a text with `%` a percentage of the frame's width or
            height. Where all are plain numbers from 0 to 1 they are fractions of it. 0 goes with either.
        what: names them in errors.
        count: as many values there must be.
    Raises: UsageError, there are not as many, one is not a finite number, or pixels and percentages are mixed.
    """
    form = "x0,y0,x1,y1" if count == 4 else "x,y or x,y,0"
    texts = [value.strip() if isinstance(value, str) else "" for value in values]
    try:
        numbers = [
            float(text.removesuffix("%")) if isinstance(value, str) else float(value)
            for value, text in zip(values, texts, strict=True)
        ]
    except (ValueError, OverflowError):
        numbers = []
    if len(numbers) != count:
        raise UsageError(f"{what} '{listed(values)}' is not of the form {form}")
    if not all(math.isfinite(n) for n in numbers):
        raise UsageError(f"{what} '{listed(values)}' holds a value that is not a finite number")
    spans = (size[1], size[0]) * (count // 2)
    percent = [text.endswith("%") for text in texts]
    if not any(percent) and all(0 <= n <= 1 for n in numbers):
        return [n * s for n, s in zip(numbers, spans, strict=True)]
    if any(percent) and any(n != 0 and not pc for n, pc in zip(numbers, percent, strict=True)):
        raise UsageError(
            f"{what} '{listed(values)}' mixes pixels and percent; write % after each number, or after none"
        )
    return [n / 100 * s if pc else n for n, s, pc in zip(numbers, spans, percent, strict=True)]


def listed(values: Sequence[float | str]) -> str:
    """Write values as the command line does, for people to read: 10,20,50%,40."""
    return ",".join(map(str, values))


def union_of(a: Box, b: Box) -> Box:
    return Box(min(a.x0, b.x0), min(a.y0, b.y0), max(a.x1, b.x1), max(a.y1, b.y1))


def gap_between(a: Box, b: Box) -> float:
    """How far apart two boxes are along the axis on which they are farther, in sizes of `b`; below 0 they overlap."""
    x = max(a.x0 - b.x1, b.x0 - a.x1) / b.width
    y = max(a.y0 - b.y1, b.y0 - a.y1) / b.height
    return max(x, y)
