"""What an artist has decided for one shot, as a value. Acts (`acts.py`) make a new one; the project keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from mam_video.core.errors import UsageError
from mam_video.core.geometry import Box, Point
from mam_video.core.settings import Settings
from mam_video.media.still_images import read_alpha
from mam_video.prompts.prompt import DEFAULT_SUBJECT, Prompt, Prompts

# Colours of subjects, in the order in which they are given.
COLOURS: Final = ("#4cc2ff", "#ffb02e", "#ff6fb5", "#7ee081", "#b79bff", "#ffe45c", "#ff7f50", "#9adfe0")


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject; `id` names its files and never changes, unlike its name."""

    id: int
    name: str
    colour: str


@dataclass(frozen=True, slots=True)
class Pointed:
    """The prompt of one subject on one frame, in pixels of the upright picture.

    box     x0, y0, x1, y1; None: points alone, or a mask
    points  x, y, and whether it lies on the subject
    mask    name of a file in the project's folder of masks, in place of box and points; "": none
    """

    subject: int
    frame: int
    box: tuple[float, float, float, float] | None = None
    points: tuple[tuple[float, float, bool], ...] = ()
    mask: str = ""

    @property
    def shows(self) -> bool:
        """Whether it shows a subject: points on the background alone do not."""
        return self.box is not None or self.mask != "" or any(on for *_, on in self.points)

    def prompt(self, masks: Path) -> Prompt:
        """Return the prompt for the library. Raises: MediaError, its mask is not in the folder `masks`."""
        if self.mask:
            return Prompt.of_mask(read_alpha(masks / self.mask), str(masks / self.mask))
        box = None if self.box is None else Box(*self.box)
        return Prompt(box, tuple(Point(x, y, on) for x, y, on in self.points), placed=True)


@dataclass(frozen=True, slots=True)
class Output:
    """One file or sequence to write: a kind of `media.formats`, a bare name, and which of the shot's places it goes to.

    place  0 is the clip's own folder, 1 the project's, more are those that the command line gave
    """

    name: str
    kind: str
    place: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """All decisions for one shot.

    span     first and last frame to matte, both inclusive; None: the whole clip
    values   settings that differ from the defaults, by section; "edges" by subject id, as text
    version  the tracked and matted version that is looked at and run; None: none yet
    """

    subjects: tuple[Subject, ...] = (Subject(0, DEFAULT_SUBJECT, COLOURS[0]),)
    prompts: tuple[Pointed, ...] = ()
    span: tuple[int, int] | None = None
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    version: int | None = None

    def subject(self, number: int) -> Subject:
        """Return a subject by its id. Raises: UsageError."""
        for each in self.subjects:
            if each.id == number:
                return each
        raise UsageError(f"there is no subject {number}")

    def at(self, subject: int, frame: int) -> Pointed | None:
        """Return the prompt of a subject on a frame."""
        return next((p for p in self.prompts if (p.subject, p.frame) == (subject, frame)), None)

    def with_prompt(self, pointed: Pointed) -> State:
        """Put a prompt in the place of that of its subject and frame; an empty one removes it."""
        others = [p for p in self.prompts if (p.subject, p.frame) != (pointed.subject, pointed.frame)]
        kept = [*others, pointed] if pointed.box is not None or pointed.points or pointed.mask else others
        return replace(self, prompts=tuple(sorted(kept, key=lambda p: (p.frame, p.subject))))

    @property
    def prompted(self) -> dict[str, list[int]]:
        """The frames on which prompts show a subject, in order, by its name; subjects without any are left out."""
        found = {}
        for subject in self.subjects:
            frames = sorted(p.frame for p in self.prompts if p.subject == subject.id and p.shows)
            if frames:
                found[subject.name] = frames
        return found

    def several(self, masks: Path) -> list[Prompts]:
        """Return the prompts that show a subject, by subject, as jobs take them.

        `masks` is the folder of masks. Raises: MediaError, one is not there.
        """
        found = []
        for subject in self.subjects:
            mine = {p.frame: p.prompt(masks) for p in self.prompts if p.subject == subject.id and p.shows}
            if mine:
                found.append(Prompts.of(mine, subject.name))
        return found

    @property
    def named_values(self) -> dict[str, dict[str, Any]]:
        """The settings that differ from the defaults, with the edges of single subjects under their names."""
        names = {str(subject.id): subject.name for subject in self.subjects}
        values = {section: dict(mine) for section, mine in self.values.items() if section != "edges" and mine}
        edges = {names[key]: dict(mine) for key, mine in self.values.get("edges", {}).items() if mine and key in names}
        return {**values, "edges": edges} if edges else values

    def settings(self) -> Settings:
        """Return the settings of this shot. Raises: UsageError."""
        return Settings().with_values(self.named_values, "settings.toml")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, which `of_dict` reads."""
        return {
            "subjects": [{"id": s.id, "name": s.name, "colour": s.colour} for s in self.subjects],
            "prompts": [
                {
                    "subject": p.subject,
                    "frame": p.frame,
                    "box": p.box,
                    "points": [list(point) for point in p.points],
                    **({"mask": p.mask} if p.mask else {}),
                }
                for p in self.prompts
            ],
            "span": self.span,
            "values": {section: dict(mine) for section, mine in self.values.items() if mine},
            "outputs": [{"name": o.name, "kind": o.kind, "place": o.place} for o in self.outputs],
            "version": self.version,
        }

    @classmethod
    def of_dict(cls, entry: Mapping[str, Any]) -> State:
        """Read what `as_dict` gave. Raises: KeyError, TypeError or ValueError, the entry is damaged."""
        prompts = [
            Pointed(
                int(p["subject"]),
                int(p["frame"]),
                None if p["box"] is None else _four(p["box"]),
                tuple((float(x), float(y), bool(on)) for x, y, on in p["points"]),
                str(p.get("mask", "")),
            )
            for p in entry["prompts"]
        ]
        span = entry["span"]
        return cls(
            subjects=tuple(Subject(int(s["id"]), str(s["name"]), str(s["colour"])) for s in entry["subjects"]),
            prompts=tuple(prompts),
            span=None if span is None else (int(span[0]), int(span[1])),
            values={str(section): dict(mine) for section, mine in entry["values"].items()},
            outputs=tuple(Output(str(o["name"]), str(o["kind"]), int(o["place"])) for o in entry["outputs"]),
            version=None if entry["version"] is None else int(entry["version"]),
        )


def _four(values: Any) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(value) for value in values)
    return x0, y0, x1, y1
