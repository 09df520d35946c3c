"""Acts of an artist: each takes a state and plain values from the page, and gives a new state and a label.

All that a page sends is checked here. Raises: UsageError, one line that says what is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, Final

from mam_video.core.errors import UsageError
from mam_video.core.knobs import KnobField
from mam_video.core.sections import EDGE_KEYS, all_knobs
from mam_video.core.untrusted import line_of
from mam_video.media import ClipInfo, parse_output
from mam_video.media.atomic_output import of_subjects
from mam_video.studio.state import COLOURS, Output, Pointed, State, Subject

MOST_SUBJECTS: Final = 16
MOST_POINTS: Final = 200  # of one prompt
MOST_OUTPUTS: Final = 12
_LEAST: Final = 1.5  # pixels; a point whose x and y are both at most 1 would be read as fractions of the frame
_SAFE_NAME: Final = re.compile(r"[\w%#{}][\w .%#{}@-]{0,120}/?")
_HIDDEN_SECTIONS: Final = (
    "input",
    "text",
)  # a clip is read as it was opened; words are no prompts here
# What would name files beyond the clip and its project.
_HIDDEN_KEYS: Final = ("model.sam_weights", "model.mam_weights", "finish.invert")
MASK_NAME: Final = re.compile(r"[0-9a-f]{16}\.png")
_BACKGROUND: Final = re.compile(r"checker|#[0-9a-fA-F]{6}")


def shown_knobs() -> list[KnobField]:
    """The settings that the page shows, in order."""
    return [k for k in all_knobs() if k.section not in _HIDDEN_SECTIONS and k.key not in _HIDDEN_KEYS]


class Clip:
    """The facts of a clip that acts are checked with.

    places       how many folders outputs may go to
    masks        names of the files in its folder of masks
    backgrounds  paths of pictures and clips that previews may lie over
    """

    def __init__(
        self, info: ClipInfo, count: int, places: int = 2, masks: Collection[str] = (), backgrounds: Sequence[str] = ()
    ) -> None:
        self.width, self.height, self.count, self.places = info.width, info.height, count, places
        self.masks, self.backgrounds = masks, backgrounds


Given = Mapping[str, Any]
Done = tuple[State, str]


def apply_act(state: State, name: str, given: Given, clip: Clip) -> Done:
    """Apply the act of this name. Returns the new state and what was done, in a few words."""
    act = _ACTS.get(name)
    if act is None:
        raise UsageError(f"there is no act '{line_of(name)[:40]}'")
    return act(state, given, clip)


def _add_subject(state: State, given: Given, clip: Clip) -> Done:
    if len(state.subjects) >= MOST_SUBJECTS:
        raise UsageError(f"a shot has at most {MOST_SUBJECTS} subjects")
    number = 1 + max((s.id for s in state.subjects), default=-1)
    taken = {s.name.lower() for s in state.subjects}
    free = next(name for k in range(2, 99) if (name := f"subject {k}") not in taken)
    name = _name(given.get("name", free), state, None)
    colour = next((c for c in COLOURS if c not in {s.colour for s in state.subjects}), COLOURS[number % len(COLOURS)])
    return replace(state, subjects=(*state.subjects, Subject(number, name, colour))), f"add {name}"


def _rename_subject(state: State, given: Given, clip: Clip) -> Done:
    subject = state.subject(_whole(given, "subject"))
    renamed = replace(subject, name=_name(given.get("name"), state, subject))
    subjects = tuple(renamed if s.id == subject.id else s for s in state.subjects)
    return replace(state, subjects=subjects), f"rename {subject.name} to {renamed.name}"


def _colour_subject(state: State, given: Given, clip: Clip) -> Done:
    subject, colour = state.subject(_whole(given, "subject")), given.get("colour")
    if not isinstance(colour, str) or not re.fullmatch(r"#[0-9a-f]{6}", colour):
        raise UsageError("a colour is written as #rrggbb")
    subjects = tuple(replace(s, colour=colour) if s.id == subject.id else s for s in state.subjects)
    return replace(state, subjects=subjects), f"colour of {subject.name}"


def _remove_subject(state: State, given: Given, clip: Clip) -> Done:
    subject = state.subject(_whole(given, "subject"))
    if len(state.subjects) == 1:
        raise UsageError("a shot has at least one subject; remove its prompts instead")
    edges = {key: mine for key, mine in state.values.get("edges", {}).items() if key != str(subject.id)}
    left = replace(
        state,
        subjects=tuple(s for s in state.subjects if s.id != subject.id),
        prompts=tuple(p for p in state.prompts if p.subject != subject.id),
        values={**state.values, "edges": edges},
    )
    return left, f"remove {subject.name}"


def _set_box(state: State, given: Given, clip: Clip) -> Done:
    before = _pointed(state, given, clip)
    box = given.get("box")
    if box is None:
        return state.with_prompt(replace(before, box=None)), "remove box"
    return state.with_prompt(replace(before, box=checked_box(box, clip), mask="")), "box"


def _set_mask(state: State, given: Given, clip: Clip) -> Done:
    """Let a mask of the project's folder of masks show the subject, in place of box and points."""
    before, mask = _pointed(state, given, clip), given.get("mask")
    if not isinstance(mask, str) or not MASK_NAME.fullmatch(mask) or mask not in clip.masks:
        raise UsageError("there is no such mask in the project")
    return state.with_prompt(replace(before, box=None, points=(), mask=mask)), "mask"


def checked_box(box: Any, clip: Clip) -> tuple[float, float, float, float]:
    """Return a box inside the frame, corners in order. Raises: UsageError, it is under 2 pixels wide or high."""
    if not isinstance(box, list | tuple) or len(box) != 4:
        raise UsageError("a box has four numbers: x0, y0, x1, y1")
    xs = sorted(min(max(_number(v), 0.0), float(clip.width)) for v in box[0::2])
    ys = sorted(min(max(_number(v), 0.0), float(clip.height)) for v in box[1::2])
    x0, y0, x1, y1 = (round(v, 1) for v in (xs[0], ys[0], xs[1], ys[1]))
    if x1 - x0 < 2 or y1 - y0 < 2:
        raise UsageError("the box is under 2 pixels wide or high; drag a larger one")
    return x0, y0, x1, y1


def _add_point(state: State, given: Given, clip: Clip) -> Done:
    before = _pointed(state, given, clip)
    x, y = (_number(given.get(name)) for name in ("x", "y"))
    if not (0 <= x <= clip.width and 0 <= y <= clip.height):
        raise UsageError("the point lies outside the picture")
    if len(before.points) >= MOST_POINTS:
        raise UsageError(f"a prompt has at most {MOST_POINTS} points")
    x, y = round(x, 1), round(y, 1)
    if x <= 1 and y <= 1:
        x, y = min(_LEAST, float(clip.width)), min(_LEAST, float(clip.height))
    on = bool(given.get("on", True))
    box = before.box
    if box is None and not before.points and given.get("box") is not None:  # a correction starts from what was found
        box = checked_box(given["box"], clip)
    if box is not None and on:
        box = (min(box[0], x), min(box[1], y), max(box[2], x), max(box[3], y))
    label = "point on the subject" if on else "point on the background"
    return state.with_prompt(replace(before, box=box, points=(*before.points, (x, y, on)), mask="")), label


def _remove_point(state: State, given: Given, clip: Clip) -> Done:
    before, place = _pointed(state, given, clip), _whole(given, "point")
    if not 0 <= place < len(before.points):
        raise UsageError("there is no such point")
    points = before.points[:place] + before.points[place + 1 :]
    return state.with_prompt(replace(before, points=points)), "remove point"


def _clear_prompt(state: State, given: Given, clip: Clip) -> Done:
    before = _pointed(state, given, clip)
    return state.with_prompt(Pointed(before.subject, before.frame)), "remove prompt"


def _set_span(state: State, given: Given, clip: Clip) -> Done:
    span = given.get("span")
    if span is None:
        return replace(state, span=None), "whole clip"
    if not isinstance(span, list | tuple) or len(span) != 2:
        raise UsageError("a range has a first and a last frame")
    first, last = (_whole({"span": value}, "span") for value in span)
    if not 0 <= first <= last < clip.count:
        raise UsageError(f"the range must lie within 0-{clip.count - 1}, the first frame before the last")
    return replace(state, span=(first, last)), f"range {first}-{last}"


def _set_setting(state: State, given: Given, clip: Clip) -> Done:
    """Set one knob, or with `value` None take its default; with `subject` an edge setting of this subject alone."""
    key, value = given.get("key"), given.get("value")
    knobs = {each.key: each for each in shown_knobs()}
    if not isinstance(key, str) or key not in knobs:
        raise UsageError(f"there is no setting '{line_of(str(key))[:60]}'")
    each = knobs[key]
    if key == "output.background" and not (value is None or _BACKGROUND.fullmatch(str(value))):
        raise UsageError("the background is checker or a colour, as #33ff92")
    values = {section: dict(mine) for section, mine in state.values.items()}
    if given.get("subject") is not None and len(state.subjects) > 1:
        if each.name not in {edge.name for edge in EDGE_KEYS} or each.section != "finish":
            raise UsageError(f"{key} is a setting for all subjects")
        edges = {number: dict(mine) for number, mine in values.get("edges", {}).items()}
        mine = edges.setdefault(str(state.subject(_whole(given, "subject")).id), {})
        values["edges"] = edges
    else:
        mine = values.setdefault(each.section, {})
    if value is None or value == each.default:
        mine.pop(each.name, None)
    else:
        mine[each.name] = float(value) if each.kind is float and type(value) is int else value
    changed = replace(state, values={section: mine for section, mine in values.items() if mine})
    changed.settings()  # raises where the value cannot be
    return changed, f"{each.name.replace('_', ' ')} {'default' if value is None else value}"


def _set_background(state: State, given: Given, clip: Clip) -> Done:
    """Lay previews over one of the backgrounds of the command line, by number; None: as by default."""
    number = given.get("background")
    output = dict(state.values.get("output", {}))
    if number is None:
        output.pop("background", None)
        return replace(state, values={**state.values, "output": output}), "background"
    if not 0 <= _whole(given, "background") < len(clip.backgrounds):
        raise UsageError("there is no such background; name it: mam-video studio CLIP --background FILE")
    output["background"] = clip.backgrounds[number]
    return replace(state, values={**state.values, "output": output}), "background"


def _set_outputs(state: State, given: Given, clip: Clip) -> Done:
    wanted = given.get("outputs")
    if not isinstance(wanted, list) or len(wanted) > MOST_OUTPUTS:
        raise UsageError(f"outputs are a list of at most {MOST_OUTPUTS}")
    return replace(state, outputs=tuple(_output(each, clip) for each in wanted)), "outputs"


def _output(given: Any, clip: Clip) -> Output:
    """Check an output: a bare name without folders, of a known kind. Raises: UsageError."""
    if not isinstance(given, dict):
        raise UsageError("an output has a name, a kind and a place")
    name, kind, place = given.get("name"), given.get("kind"), _whole(given, "place")
    if not isinstance(name, str) or not _SAFE_NAME.fullmatch(name) or ".." in name or PurePath(name).name in ("", "."):
        raise UsageError(f"'{line_of(str(name))[:60]}' is no plain file name; folders are chosen as the place")
    if not 0 <= place < clip.places:
        raise UsageError("there is no such place")
    parse_output(f"{name}:{kind}")
    return Output(name, str(kind), place)


def _pointed(state: State, given: Given, clip: Clip) -> Pointed:
    """Return the prompt that stands where an act points, or an empty one."""
    subject, frame = state.subject(_whole(given, "subject")), _whole(given, "frame")
    if not 0 <= frame < clip.count:
        raise UsageError(f"the clip has the frames 0-{clip.count - 1}")
    return state.at(subject.id, frame) or Pointed(subject.id, frame)


def _name(given: Any, state: State, mine: Subject | None) -> str:
    name = given.strip() if isinstance(given, str) else ""
    of_subjects("{subject}", [name])  # raises where it cannot be part of a file's name
    if name.lower() in {s.name.lower() for s in state.subjects if s is not mine}:
        raise UsageError(f"another subject is called {name}")
    return name


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError("a coordinate must be a number")
    return float(value)


def _whole(given: Given, name: str) -> int:
    value = given.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} must be a whole number")
    return value


_ACTS: Final[dict[str, Callable[[State, Given, Clip], Done]]] = {
    "add_subject": _add_subject,
    "rename_subject": _rename_subject,
    "colour_subject": _colour_subject,
    "remove_subject": _remove_subject,
    "set_box": _set_box,
    "set_mask": _set_mask,
    "add_point": _add_point,
    "remove_point": _remove_point,
    "clear_prompt": _clear_prompt,
    "set_span": _set_span,
    "set_setting": _set_setting,
    "set_background": _set_background,
    "set_outputs": _set_outputs,
}
