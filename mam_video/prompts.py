"""What the user points with: a box, points, or both, parsed and checked once.

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
    subject = "dancer"                      # whom it shows; "subject" where it is left out
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mam_video.errors import UsageError

ALL_SUBJECT = "all of every picture is subject: is it an opaque alpha channel? write black and white without one"
DEFAULT_SUBJECT = "subject"  # its name where none is given

_VERSION = 1  # of the file's form
_ENTRY = re.compile(r"(?:([^@]*)@)?(.+?):\s*([A-Za-z].*|)", re.DOTALL)  # a frame may be a timecode, with colons in it


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

    def __str__(self) -> str:
        """As the command line writes it."""
        box = [] if self.box is None else [f"box={self.box}"]
        return ";".join([*box, *(f"point={point}" for point in self.points)])

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


@dataclass(frozen=True, slots=True)
class Prompts:
    """All that the user points at one subject with in a clip.

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
        """Of prompts by their frames' indices, in any order."""
        return cls(tuple(sorted(prompts.items(), key=lambda entry: entry[0])), subject)

    @property
    def frames(self) -> tuple[int, ...]:
        """Indices of the prompted frames, ascending."""
        return tuple(index for index, _ in self.entries)

    def __getitem__(self, index: int) -> Prompt:
        """The prompt on frame `index`. Raises: KeyError, there is none."""
        return dict(self.entries)[index]

    def check_inside(self, size: tuple[int, int]) -> None:
        """Raises UsageError where a prompt lies outside a frame of `size` (H, W)."""
        for index, prompt in self.entries:
            try:
                prompt.check_inside(size)
            except UsageError as error:
                raise UsageError(f"prompt on frame {index}: {error}") from None


@dataclass(frozen=True, slots=True)
class PromptClip:
    """What has to be known of a clip to read prompts for it.

    size      (H, W)
    index_of  the index of a frame by the number or timecode that the user calls it; raises UsageError
    count     of its frames; None where it is not known before decoding
    """

    size: tuple[int, int]
    index_of: Callable[[str], int]
    count: int | None = None


@dataclass(frozen=True, slots=True)
class PromptEntry:
    """One prompt as given: `where` names it in errors; `frame` and `given` are the user's own words."""

    where: str
    index: int
    prompt: Prompt
    subject: str = DEFAULT_SUBJECT
    frame: str = ""
    given: str = ""


def parse_entry(text: str, clip: PromptClip) -> PromptEntry:
    """A prompt of the command line: [SUBJECT@]FRAME:box=X0,Y0,X1,Y1;point=X,Y;point=X,Y,0.

    Coordinates are as in `Prompt.parse`. Raises: UsageError, a line that names it.
    """
    where = f"--prompt '{text}'"
    found = _ENTRY.fullmatch(text)
    if found is None:
        raise UsageError(f"{where} is not of the form [SUBJECT@]FRAME:box=X0,Y0,X1,Y1;point=X,Y;point=X,Y,0")
    subject = DEFAULT_SUBJECT if found[1] is None else found[1].strip()
    if not subject:
        raise UsageError(f"{where}: names no subject before the @")
    boxes: list[str] = []
    points: list[str] = []
    for part in found[3].split(";"):
        name, equals, value = (p.strip() for p in part.partition("="))
        if not equals or name not in ("box", "point"):
            raise UsageError(f"{where}: '{part.strip()}' is neither box=X0,Y0,X1,Y1 nor point=X,Y nor point=X,Y,0")
        (boxes if name == "box" else points).append(value)
    if len(boxes) > 1:
        raise UsageError(f"{where}: has {len(boxes)} boxes; a subject has one in a frame")
    return _entry(where, found[2].strip(), boxes[0] if boxes else None, points, clip, subject)


def read_entries(path: str | Path, clip: PromptClip) -> list[PromptEntry]:
    """The prompts of a file; its form stands at the head of this module.

    Raises: UsageError, a line that names the file and the prompt.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file of prompts") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot read these prompts ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from None
    if "version" not in content:
        raise UsageError(f"{path}: does not say its version; begin it with version = {_VERSION}")
    version = content["version"]
    if version != _VERSION or not isinstance(version, int) or isinstance(version, bool):
        raise UsageError(f"{path}: is of version {version!r}, this program reads version {_VERSION}")
    _known(str(path), content, ("version", "prompt"))
    tables = content.get("prompt", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: 'prompt' is a list of tables; write [[prompt]] before each")
    if not tables:
        raise UsageError(f"{path}: no prompt; write [[prompt]] with a frame and a box or points")
    return [_file_entry(f"{path}: prompt {k}", table, clip) for k, table in enumerate(tables, 1)]


def by_subject(entries: Iterable[PromptEntry]) -> dict[str, Prompts]:
    """The prompts of each subject, by its name, in the order in which they are first named.

    Raises: UsageError, a subject has two prompts on one frame, or there is none at all.
    """
    subjects: dict[str, dict[int, PromptEntry]] = {}
    for entry in entries:
        mine = subjects.setdefault(entry.subject, {})
        if entry.index in mine:
            raise UsageError(f"{entry.where}: its frame has a prompt already: {mine[entry.index].where}")
        mine[entry.index] = entry
    if not subjects:
        raise UsageError("no prompt: give a box, or a point on the subject, on one frame at least")
    return {
        name: Prompts.of({index: entry.prompt for index, entry in mine.items()}, name)
        for name, mine in subjects.items()
    }


def _file_entry(where: str, table: dict[str, Any], clip: PromptClip) -> PromptEntry:
    frame = table.get("frame")
    if frame is None:
        raise UsageError(f"{where}: names no frame; write frame = N")
    if isinstance(frame, bool) or not isinstance(frame, int | str):
        raise UsageError(f"{where}: frame must be a number or a timecode as text, is {frame!r}")
    where = f"{where} (frame {frame})"
    _known(where, table, ("frame", "box", "points", "subject"))
    subject = table.get("subject", DEFAULT_SUBJECT)
    if not isinstance(subject, str) or not subject.strip():
        raise UsageError(f"{where}: subject must be a name, is {subject!r}")
    box = None if "box" not in table else _numbers(where, "box", table["box"])
    points = table.get("points", [])
    if not isinstance(points, list) or not all(isinstance(point, list) for point in points):
        raise UsageError(f"{where}: points must be a list of points, as [[640, 400], [100, 80, 0]], is {points!r}")
    texts = [_numbers(where, "point", point) for point in points]
    return _entry(where, str(frame), box, texts, clip, subject)


def _numbers(where: str, what: str, values: Any) -> str:
    """Values of a file as the command line writes them."""
    form = "[x0, y0, x1, y1]" if what == "box" else "[x, y] or [x, y, 0]"
    whole = isinstance(values, list) and not any(
        isinstance(v, bool) or not isinstance(v, int | float | str) for v in values
    )
    if not whole or any("," in v for v in values if isinstance(v, str)):
        raise UsageError(f"{where}: {what} must be of the form {form}, is {values!r}")
    return ",".join(map(str, values))


def _entry(
    where: str, frame: str, box: str | None, points: list[str], clip: PromptClip, subject: str = DEFAULT_SUBJECT
) -> PromptEntry:
    try:
        index = clip.index_of(frame)
        if clip.count is not None and index >= clip.count:
            raise UsageError(f"the clip has {clip.count} frames, counted from 0")
        if box is None and all(_is_background(point) for point in points):
            raise UsageError("shows no subject; give a box, or a point on it")
        given = ";".join([*([f"box={box}"] if box is not None else []), *(f"point={point}" for point in points)])
        return PromptEntry(where, index, Prompt.parse(box, points, clip.size), subject, frame, given)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _is_background(point: str) -> bool:
    parts = point.split(",")
    return len(parts) == 3 and parts[2].strip() == "0"


def _known(where: str, table: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for key in table:
        if key not in names:
            raise UsageError(f"{where}: unknown key '{key}'; known: {', '.join(names)}")


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
