"""How the user points at the subject: the options that `matte` and `preview` share, as values."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mam_video.cli.options import Groups
from mam_video.core.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectOptions:
    """The options that say where the subject is, as given; None or () where they are not.

    prompts       texts of --prompt
    prompts_file  the file of --prompts
    include, exclude  garbage mattes
    """

    box: str | None = None
    points: tuple[str, ...] = ()
    text: str | None = None
    mask: str | None = None
    prompts: tuple[str, ...] = ()
    prompts_file: str | None = None
    track: str | None = None
    masks: str | None = None
    trimaps: str | None = None
    include: str | None = None
    exclude: str | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> SubjectOptions:
        """From the command line. Raises: UsageError, see `check`."""
        found = cls(
            box=options.box,
            points=tuple(options.point or ()),
            text=options.text,
            mask=options.mask,
            prompts=tuple(getattr(options, "prompt", None) or ()),
            prompts_file=getattr(options, "prompts", None),
            track=options.track,
            masks=options.masks,
            trimaps=options.trimaps,
            include=options.include,
            exclude=options.exclude,
        )
        found.check()
        return found

    @property
    def named(self) -> dict[str, object]:
        """The options that say where the subject is and are given, by name without the dashes."""
        each = {
            "text": self.text if self.text is None else (self.text,),  # an empty text is given too
            "box": self.box,
            "point": self.points,
            "mask": self.mask,
            "prompt": self.prompts,
            "prompts": self.prompts_file,
            "track": self.track,
            "masks": self.masks,
            "trimaps": self.trimaps,
        }
        return {name: value for name, value in each.items() if value}

    @property
    def files(self) -> dict[str, str | None]:
        """The files that the options name, by option."""
        return {
            "--mask": self.mask,
            "--masks": self.masks,
            "--trimaps": self.trimaps,
            "--include": self.include,
            "--exclude": self.exclude,
            "--track": self.track,
            "--prompts": self.prompts_file,
        }

    def check(self) -> None:
        """Raises: UsageError, nothing says where the subject is, or two options contradict each other."""
        given = self.named
        if self.mask and (self.box or self.points):
            raise UsageError("--mask stands in place of --box and --point; give one of them")
        for name in ("box", "mask", "prompt", "prompts", "track", "masks", "trimaps"):
            if self.text is not None and name in given:
                raise UsageError(f"--text finds the subject by itself; leave out --{name}, or --text")
        prompting = [name for name in ("text", "box", "point", "mask") if name in given]
        if self.track and prompting:
            raise UsageError(
                f"--track and --{prompting[0]} cannot be combined: a saved track says already where the subject is; to "
                "correct it on a frame: --track FILE --prompt FRAME:box=..."
            )
        if not given:
            raise UsageError("no prompt: give --box x0,y0,x1,y1 or --point x,y on the subject in the first frame")


class Once(argparse.Action):
    """Store a value, and refuse a second one: the last of two would win without a word."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            hint = "give it once"
            if self.dest == "box":
                before = getattr(namespace, self.dest)
                hint = f"for two subjects: --prompt NAME@0:box={before} --prompt OTHER@0:box={values}"
            raise UsageError(f"{option_string} was given twice; {hint}")
        setattr(namespace, self.dest, values)


def add_subject(groups: Groups) -> None:
    """Add the options that point at the subject in one frame, and the masks by hand."""
    first = groups["subject in the first frame"]
    first.add_argument("--box", action=Once, metavar="X0,Y0,X1,Y1", help="a box around the subject")
    first.add_argument(
        "--point", action="append", metavar="X,Y[,0]", help="a point on the subject, or with ,0 on the background; may "
        "be repeated",
    )  # fmt: skip
    first.add_argument(
        "--text", action=Once, metavar="WORDS", help="what the subject is, in place of a box, as 'the dancer in red' "
        "(needs the extra: text)",
    )  # fmt: skip
    by_hand = groups["masks by hand"]
    by_hand.add_argument(
        "--mask", action=Once, metavar="FILE", help="the subject in the first frame, in place of a box"
    )
    by_hand.add_argument(
        "--masks",
        action=Once,
        metavar="NAME",
        help="the subject in every frame (name.%%04d.png, a folder or a movie); nothing is tracked",
    )
    by_hand.add_argument(
        "--trimaps",
        action=Once,
        metavar="NAME",
        help="a trimap for every frame: black is background, white is subject, grey is computed",
    )
    by_hand.add_argument(
        "--include",
        action=Once,
        metavar="NAME",
        help="garbage matte, one picture or one for every frame: alpha is 1 inside it",
    )
    by_hand.add_argument(
        "--exclude",
        action=Once,
        metavar="NAME",
        help="garbage matte, one picture or one for every frame: alpha is 0 inside it",
    )
