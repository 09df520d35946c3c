"""Take a command of `matte` or `job` apart, so that its report can propose it again with corrections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mam_video.cli.parser import Parser

if TYPE_CHECKING:
    from mam_video.cli.subject import SubjectOptions
    from mam_video.media import ClipInfo
    from mam_video.prompts.parse import PromptEntry
    from mam_video.report.rerun import Rerun

_PROMPTING = ("--box", "--point", "--text", "--mask", "--prompt", "--prompts", "--track")


def rerun_of(
    command: Sequence[str], parser: Parser, subject: SubjectOptions, entries: Sequence[PromptEntry], clip: ClipInfo
) -> Rerun:
    """Return the parts of a command. Where it follows a saved track, the finished run adds prompts.

    Args:
        command: program, `matte` or `job`, arguments.
        parser: that of the command.
        subject: what it says of the subject; `entries`: its prompts.
    """
    from mam_video.report.rerun import GivenPrompt, Rerun, toml_of

    folder = str(Path.cwd())
    for option in ("masks", "trimaps"):
        if option in subject.named:
            return Rerun(refused=f"The masks of this run came from --{option}: correct them there.")
    head = next(k for k, word in enumerate(command) if word in ("matte", "job")) + 1
    kept = (*command[:head], *parser.without(command[head:], _PROMPTING))
    if subject.track is not None:
        return Rerun(kept, folder=folder, of_track=True)
    names = list(dict.fromkeys(entry.subject for entry in entries))
    typed = len(entries) - len(subject.prompts)  # those of --prompt are the last ones
    given = tuple(
        GivenPrompt(
            names.index(entry.subject), entry.index, tuple(_options(entry, subject)),
            toml_of(entry.prompt, clip.frame_number(entry.index), entry.subject), bool(entry.frame) and k < typed,
        )
        for k, entry in enumerate(entries)
    )  # fmt: skip
    file = ("--prompts", subject.prompts_file) if subject.prompts_file else ()
    return Rerun(kept, tuple(names), given, file, folder=folder)


def _options(entry: PromptEntry, subject: SubjectOptions) -> list[str]:
    """Return the options that give a prompt again."""
    from mam_video.report.rerun import prefix_of

    if entry.frame:
        return ["--prompt", f"{prefix_of(entry.subject)}{entry.frame}:{entry.given}"]
    if subject.mask:
        return _option("--mask", subject.mask)
    if subject.text is not None:  # is not found anew: --text cannot stand beside --prompt
        return [part for each in str(entry.prompt).split(";") for part in _option(*_pair(each))]
    options = [] if subject.box is None else _option("--box", subject.box)
    return [*options, *(part for point in subject.points for part in _option("--point", point))]


def _pair(text: str) -> tuple[str, str]:
    """Return the option and the value of one part of a prompt, as box=1,2,3,4."""
    name, _, value = text.partition("=")
    return f"--{name}", value


def _option(name: str, value: str) -> list[str]:
    return [f"{name}={value}"] if value.startswith("-") else [name, value]
