"""The command that repeats a run with corrections, as its parts: the page puts them together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from mam_video.core.frames import Record, State
from mam_video.core.geometry import Box
from mam_video.prompts.prompt import DEFAULT_SUBJECT, Prompt

CORRECTIONS: Final = "corrections.toml"  # the file of prompts that the page offers
_OVERWRITE: Final = "--overwrite"


@dataclass(frozen=True, slots=True)
class GivenPrompt:
    """A prompt of the run, which a correction on the same frame replaces.

    subject  place of the subject in `Rerun.subjects`
    index    of the frame, counted from 0
    options  as the command line takes it
    toml     as a file of prompts takes it; empty where it cannot (a mask)
    of_file  whether it is one of `Rerun.file`
    """

    subject: int
    index: int
    options: tuple[str, ...]
    toml: str = ""
    of_file: bool = False


@dataclass(frozen=True, slots=True)
class Rerun:
    """How to repeat a run with corrections.

    command   the command line without its prompts, program first; empty: the run was started from Python
    subjects  their names, as prompts give them
    prompts   the prompts of the run
    file      the option that names the file of prompts of the run
    more      options that corrections need
    folder    where the command was started: its file names begin there
    refused   why no correction can be made with a prompt; empty: one can
    of_track  whether the run follows a saved track: its prompts are made of what it found, see `with_track`
    """

    command: tuple[str, ...] = ()
    subjects: tuple[str, ...] = (DEFAULT_SUBJECT,)
    prompts: tuple[GivenPrompt, ...] = ()
    file: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    folder: str = ""
    refused: str = ""
    of_track: bool = False

    def with_track(self, columns: Sequence[Sequence[Record]], numbers: Sequence[int], size: tuple[int, int]) -> Rerun:
        """Return it with the subjects and prompts of a saved track; arguments as of `prompts_of_track`."""
        names = tuple(column[0].subject or DEFAULT_SUBJECT for column in columns)
        prompts, backward = prompts_of_track(columns, names, numbers, size)
        more = ("--backward",) if backward and "--backward" not in self.command else ()
        return replace(self, subjects=names, prompts=tuple(prompts), more=more, of_track=False)

    def as_plain(self) -> dict[str, Any]:
        """Return plain values, which a job's file carries; `of_plain` reads them."""
        return dict(json.loads(json.dumps(asdict(self))))

    @classmethod
    def of_plain(cls, content: Mapping[str, Any]) -> Rerun:
        """Read what `as_plain` gave. Raises: KeyError or TypeError, it is damaged."""
        lists = {name: tuple(map(str, content[name])) for name in ("command", "subjects", "file", "more")}
        prompts = tuple(GivenPrompt(**{**each, "options": tuple(each["options"])}) for each in content["prompts"])
        folder, refused = str(content["folder"]), str(content["refused"])
        return cls(prompts=prompts, folder=folder, refused=refused, of_track=bool(content["of_track"]), **lists)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for the page."""
        command = list(self.command)
        end = command.index("--") if "--" in command else len(command)
        overwrite = [_OVERWRITE] if command and _OVERWRITE not in command else []
        return {
            "before": command[:end],
            "after": [*self.more, *overwrite, *command[end:]],
            "file": list(self.file),
            "corrections": CORRECTIONS,
            "prompts": [
                {
                    "subject": p.subject,
                    "index": p.index,
                    "options": list(p.options),
                    "toml": p.toml,
                    "ofFile": p.of_file,
                }
                for p in self.prompts
            ],
            "subjects": [
                {"name": name, "prefix": prefix_of(name), "toml": _toml_of_subject(name), "typed": can_be_typed(name)}
                for name in self.subjects
            ],
        }


def can_be_typed(subject: str) -> bool:
    """Return whether the command line can name a subject. A file of prompts can name any."""
    return "@" not in subject and subject == subject.strip() != "" and subject.isprintable()


def prefix_of(subject: str) -> str:
    """Return what stands before the frame in a `--prompt` of the subject."""
    return "" if subject == DEFAULT_SUBJECT else f"{subject}@"


def toml_of(prompt: Prompt, number: int, subject: str) -> str:
    """Return a prompt as a table of a file of prompts; empty where it is a mask. `number`: as users call the frame."""
    if prompt.mask is not None:
        return ""
    lines = ["[[prompt]]", f"frame = {number}", *filter(None, [_toml_of_subject(subject)])]
    if prompt.box is not None:
        lines.append(f"box = [{', '.join(map(_number, prompt.box.xyxy))}]")
    if prompt.points:
        points = ", ".join(f"[{_number(p.x)}, {_number(p.y)}{'' if p.subject else ', 0'}]" for p in prompt.points)
        lines.append(f"points = [{points}]")
    return "\n".join(lines) + "\n"


def prompts_of_track(
    columns: Sequence[Sequence[Record]], subjects: Sequence[str], numbers: Sequence[int], size: tuple[int, int]
) -> tuple[list[GivenPrompt], bool]:
    """Make prompts of a run that followed a saved track: the boxes found on its prompted frames and on its first one.

    Args:
        columns: the records of each subject.
        numbers: the frame's number of each record, as users call it.
        size: (H, W) of the frame.
    Returns: the prompts, and whether a subject has none on the first frame, so that it must be tracked back to it.
    """
    prompts, backward = [], False
    for place, (records, name) in enumerate(zip(columns, subjects, strict=True)):
        for k, (record, number) in enumerate(zip(records, numbers, strict=True)):
            starts = k == 0 and not record.flagged
            box = record.box.clipped(size)
            if (starts or record.state is State.PROMPTED) and box is not None:
                prompt = Prompt(whole(box, size), placed=True)
                option = f"{prefix_of(name)}{number}:{prompt}"
                prompts.append(GivenPrompt(place, record.index, ("--prompt", option), toml_of(prompt, number, name)))
        backward = backward or not any(p.subject == place and p.index == records[0].index for p in prompts)
    return prompts, backward


def whole(box: Box, size: tuple[int, int]) -> Box:
    """Return a box in whole pixels inside a frame of `size` (H, W), at least 2 pixels wide and high."""
    h, w = size
    x0, y0 = min(max(int(box.x0), 0), w - 2), min(max(int(box.y0), 0), h - 2)
    return Box(x0, y0, min(max(round(box.x1), x0 + 2), w), min(max(round(box.y1), y0 + 2), h))


def _toml_of_subject(subject: str) -> str:
    if subject == DEFAULT_SUBJECT:
        return ""
    return f"subject = {json.dumps(subject, ensure_ascii=False)}".replace("\x7f", "\\u007f")


def _number(value: float) -> str:
    return f"{value:.10g}"
