"""Parse prompts from the command line and from TOML files into checked values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.geometry import listed
from mam_video.core.tables import check_keys, read_toml
from mam_video.media.still_images import read_alpha
from mam_video.prompts.prompt import DEFAULT_SUBJECT, Prompt, Prompts

Values = list[float | str]  # numbers, or texts of one number each, which may be percentages

_VERSION = 1  # of the file's form
_ENTRY = re.compile(r"(?:([^@]*)@)?(.+?):\s*([A-Za-z].*|)", re.DOTALL)  # a frame may be a timecode, with colons in it


@dataclass(frozen=True, slots=True)
class PromptClip:
    """The facts of a clip that its prompts are read with.

    size      (H, W)
    index_of  finds the index of a frame by its number or timecode, as users type it; raises UsageError
    count     of its frames; None where it is not known before decoding
    mask_of   reads a mask's file as a prompt of a frame; raises UsageError or MediaError. None: `read_mask`
    """

    size: tuple[int, int]
    index_of: Callable[[str], int]
    count: int | None = None
    mask_of: Callable[[Path], Prompt] | None = None

    def read_mask(self, path: Path) -> Prompt:
        """Return the prompt of a mask's file, of this clip's size. Raises: UsageError or MediaError."""
        if self.mask_of is not None:
            return self.mask_of(path)
        prompt = Prompt.of_mask(read_alpha(path), str(path))
        prompt.check_inside(self.size)
        return prompt


@dataclass(frozen=True, slots=True)
class PromptEntry:
    """One prompt as it was typed: `where` names it in errors; `frame` and `given` are the user's own words."""

    where: str
    index: int
    prompt: Prompt
    subject: str = DEFAULT_SUBJECT
    frame: str = ""
    given: str = ""


def parse_entry(text: str, clip: PromptClip) -> PromptEntry:
    """Parse a prompt of the command line: [SUBJECT@]FRAME:box=X0,Y0,X1,Y1;point=X,Y;point=X,Y,0 or FRAME:mask=FILE.

    A + may stand in place of ; which shells take for the end of a command. Coordinates are as in `Prompt.parse`.

    Raises: UsageError, a line that names it.
    """
    where = f"--prompt '{text}'"
    found = _ENTRY.fullmatch(text)
    if found is None:
        raise UsageError(f"{where} is not of the form [SUBJECT@]FRAME:box=X0,Y0,X1,Y1;point=X,Y;point=X,Y,0")
    subject = DEFAULT_SUBJECT if found[1] is None else found[1].strip()
    if not subject:
        raise UsageError(f"{where}: names no subject before the @")
    boxes: list[Values] = []
    points: list[Values] = []
    if found[3].startswith("mask="):
        return _mask_entry(where, found[2].strip(), Path(found[3].removeprefix("mask=")), clip, subject)
    for part in re.split("[;+]", found[3]):
        name, equals, value = (p.strip() for p in part.partition("="))
        if not equals or name not in ("box", "point"):
            raise UsageError(
                f"{where}: '{part.strip()}' is neither box=X0,Y0,X1,Y1 nor point=X,Y nor point=X,Y,0 nor mask=FILE"
            )
        (boxes if name == "box" else points).append([*value.split(",")])
    if len(boxes) > 1:
        raise UsageError(f"{where}: has {len(boxes)} boxes; a subject has one in a frame")
    return _entry(where, found[2].strip(), boxes[0] if boxes else None, points, clip, subject)


def read_entries(path: str | Path, clip: PromptClip) -> list[PromptEntry]:
    """Read a file of prompts; `prompts/prompt.py` shows its form.

    Raises: UsageError, a line that names the file and the prompt.
    """
    content = read_toml(Path(path), str(path), "prompts")
    if "version" not in content:
        raise UsageError(f"{path}: does not say its version; begin it with version = {_VERSION}")
    version = content["version"]
    if version != _VERSION or not isinstance(version, int) or isinstance(version, bool):
        raise UsageError(f"{path}: is of version {version!r}, this program reads version {_VERSION}")
    check_keys(str(path), content, ("version", "prompt"))
    tables = content.get("prompt", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: 'prompt' is a list of tables; write [[prompt]] before each")
    if not tables:
        raise UsageError(f"{path}: no prompt; write [[prompt]] with a frame and a box or points")
    home = Path(path).parent
    return [_file_entry(f"{path}: prompt {k}", table, clip, home) for k, table in enumerate(tables, 1)]


def by_subject(entries: Iterable[PromptEntry]) -> dict[str, Prompts]:
    """Collect the prompts of each subject, by name, in the order in which subjects are first named.

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


def _file_entry(where: str, table: dict[str, Any], clip: PromptClip, home: Path) -> PromptEntry:
    """Read one table; the file of a mask is found from the folder `home`."""
    frame = table.get("frame")
    if frame is None:
        raise UsageError(f"{where}: names no frame; write frame = N")
    if isinstance(frame, bool) or not isinstance(frame, int | str):
        raise UsageError(f"{where}: frame must be a number or a timecode as text, is {frame!r}")
    where = f"{where} (frame {frame})"
    check_keys(where, table, ("frame", "box", "points", "mask", "subject"))
    subject = table.get("subject", DEFAULT_SUBJECT)
    if not isinstance(subject, str) or not subject.strip():
        raise UsageError(f"{where}: subject must be a name, is {subject!r}")
    if "mask" in table:
        mask = table["mask"]
        if not isinstance(mask, str) or not mask:
            raise UsageError(f"{where}: mask must be the name of a picture's file, is {mask!r}")
        if "box" in table or "points" in table:
            raise UsageError(f"{where}: mask stands in place of box and points; give one of them")
        return _mask_entry(where, str(frame), home / mask, clip, subject)
    box = None if "box" not in table else _numbers(where, "box", table["box"])
    points = table.get("points", [])
    if not isinstance(points, list) or not all(isinstance(point, list) for point in points):
        raise UsageError(f"{where}: points must be a list of points, as [[640, 400], [100, 80, 0]], is {points!r}")
    values = [_numbers(where, "point", point) for point in points]
    return _entry(where, str(frame), box, values, clip, subject)


def _numbers(where: str, what: str, values: Any) -> Values:
    """Check that a file's values are numbers, or texts of one number each."""
    form = "[x0, y0, x1, y1]" if what == "box" else "[x, y] or [x, y, 0]"
    whole = isinstance(values, list) and not any(
        isinstance(v, bool) or not isinstance(v, int | float | str) for v in values
    )
    if not whole or any("," in v for v in values if isinstance(v, str)):
        raise UsageError(f"{where}: {what} must be of the form {form}, is {values!r}")
    return list(values)


def _entry(
    where: str, frame: str, box: Values | None, points: list[Values], clip: PromptClip, subject: str = DEFAULT_SUBJECT
) -> PromptEntry:
    try:
        index = _index_of(frame, clip)
        if box is None and all(_is_background(point) for point in points):
            raise UsageError("shows no subject; give a box, or a point on it")
        given = [*([] if box is None else [f"box={listed(box)}"]), *(f"point={listed(point)}" for point in points)]
        return PromptEntry(where, index, Prompt.of_values(box, points, clip.size), subject, frame, ";".join(given))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _mask_entry(where: str, frame: str, path: Path, clip: PromptClip, subject: str) -> PromptEntry:
    try:
        index = _index_of(frame, clip)
        return PromptEntry(where, index, clip.read_mask(path), subject, frame, f"mask={path}")
    except (UsageError, MediaError) as error:
        raise UsageError(f"{where}: {error}") from None


def _index_of(frame: str, clip: PromptClip) -> int:
    """Return the index of a frame as users call it. Raises: UsageError, the clip does not have it."""
    index = clip.index_of(frame)
    if clip.count is not None and index >= clip.count:
        raise UsageError(f"the clip has {clip.count} frames, counted from 0")
    return index


def _is_background(point: Values) -> bool:
    return len(point) == 3 and str(point[2]).strip() == "0"
