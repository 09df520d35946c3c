"""Writing beside the final name: everything is checked before the first frame, and nothing partial gets the name.

A movie grows in a hidden file beside its final name, a sequence in a hidden folder; `publish` renames
(`runtime/commit.py`). An interrupted process can leave the hidden one behind (a name that starts with a dot and holds
".part-"), never a partial result. A run that can be resumed has one hidden folder for each output instead, under a
name that the next run finds again (`runtime/append_log.py`).
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mam_video.core.errors import MediaError, UsageError
from mam_video.media.ffmpeg_compat import writing
from mam_video.media.sequence.frame_signs import MOST_DIGITS, FrameSign, frame_signs, takes_sign, written_number
from mam_video.runtime.commit import (
    Lock,
    Stamp,
    check_untouched,
    folders_locked,
    give_name,
    hidden_beside,
    in_use,
    refuse_running,
    stamp,
)

Numbers = tuple[int, int | None]  # first and last number of the frames that a run writes; None: to the end

SUBJECT = "{subject}"  # in an output's name: a file, or a sequence, for each subject
_SAFE = re.compile(r"\w(?:[\w .-]*[\w-])?")  # of a subject's name as a part of a file's
_MOST_OF_A_NAME = 64
_DEVICES = {"con", "prn", "aux", "nul", *(f"{name}{k}" for name in ("com", "lpt") for k in range(10))}


def of_subjects(name: str, subjects: Sequence[str]) -> dict[str | None, str]:
    """Return the names that an output with `{subject}` in it gets, by subject; one without is of all together: None.

    Raises: UsageError, a subject's name is no safe part of a file's name, or two differ in case alone.
    """
    if SUBJECT not in name:
        return {None: name}
    for subject in subjects:
        if not _SAFE.fullmatch(subject) or len(subject) > _MOST_OF_A_NAME or subject.lower() in _DEVICES:
            raise UsageError(
                f"{name}: '{subject}' cannot be part of a file's name; name the subject with letters, digits, _ and -"
            )
    if len({subject.lower() for subject in subjects}) < len(subjects):
        raise UsageError(f"{name}: subjects whose names differ in case alone would get one file; rename one of them")
    return {subject: name.replace(SUBJECT, subject) for subject in subjects}


@contextmanager
def made_folders(names: Sequence[str]) -> Generator[None, None, None]:
    """Make the folders that the outputs `names` are to lie in, with those above them.

    What it made and is empty in the end goes again. A folder whose name holds a frame number is not made: it is refused
    later. Raises: MediaError, a folder cannot be made.
    """
    made: list[Path] = []
    try:
        for name in names:
            folder = Path(name).parent
            missing = [each for each in (folder, *folder.parents) if not each.exists()]
            if any(signs_of_output(each.name) for each in missing):
                continue
            for each in reversed(missing):
                if not each.parent.is_dir():
                    raise MediaError(f"{name}: {each.parent} is a file, not a folder")
                with writing(Path(name)):
                    each.mkdir(exist_ok=True)
                made.append(each)
        yield
    finally:
        for each in reversed(made):
            with suppress(OSError):  # what is in it stays
                each.rmdir()


def _check_folder(folder: Path, name: Path) -> None:
    if not folder.exists():
        if signs_of_output(folder.name):
            raise UsageError(f"{name}: there is no folder {folder}; the frame number belongs into the file's name")
        raise MediaError(f"{name}: there is no folder {folder}; make it first")
    if not folder.is_dir():
        raise MediaError(f"{name}: {folder} is a file, not a folder")


def signs_of_output(name: str) -> list[FrameSign]:
    """Find the signs for the frame number in an output's name; a lone @ is a letter."""
    return [sign for sign in frame_signs(name) if sign.text != "@"]


class FileOutput:
    """One file under construction."""

    def __init__(self, path: Path, source: Path, overwrite: bool, keep: Path | None = None) -> None:
        """Claim a place beside `path`: in the hidden folder `keep` where it is given.

        Raises: UsageError where the name is taken, the source's own, or being written by another run; MediaError where
            nothing can be written there.
        """
        _check_folder(path.parent, path)
        if path.exists() and source.exists() and path.samefile(source):
            raise UsageError(f"{path}: this is the input; choose another name for the output")
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; give a file name, or {path}/ for a sequence")
        self._before = stamp(path)
        if self._before is not None and not overwrite:
            raise UsageError(f"{path}: exists; give --overwrite to replace it, or choose another name")
        self.path = path
        self.partial = hidden_beside(path)
        if keep is not None:
            self.partial = keep / path.name
        refuse_running(path)
        with writing(path):
            if keep is not None:
                keep.mkdir(exist_ok=True)
            self.partial.touch(exist_ok=keep is not None)
        self._lock = Lock(self.partial)

    def check(self) -> None:
        """Raises: MediaError, another run has written the file since this one began."""
        check_untouched(self.partial, self.path, self._before)

    def publish(self) -> None:
        """Give the finished file its name. Raises: MediaError, as `check`, or where it cannot be renamed."""
        with folders_locked([self.path.parent]), writing(self.path):
            give_name(self.partial, self.path, self._before)
        self._lock.close()

    def discard(self) -> None:
        """Remove what was written so far. Never raises: it runs while another error is on its way."""
        self._lock.close()
        with suppress(OSError):
            self.partial.unlink(missing_ok=True)


class Pattern:
    """A sequence's name: `name.%04d.png`, `name.####.png`, `name.@@@@.png`, `name.$F4.png`, a folder/, or `name.png`.

    A folder gets `mattes/mattes.1001.png`, a plain name `name.1001.png`, with as many digits as `padding` says. Numbers
    below zero have as many as `below` says, without the sign; None: the sign takes the place of one, as printf has it.
    Signs in the folder's name are letters like others. Of several signs in the file's name the one that says how many
    digits (%04d, ####, $F4) is the frame number, and the others are letters.
    """

    def __init__(self, text: str, suffix: str = ".png", padding: int = 4, below: int | None = None) -> None:
        """Raises: UsageError, the name has several places for the frame number, or too many digits."""
        as_folder = text.endswith(("/", "\\"))
        path = Path(text)
        self.makes_folder = as_folder
        found = [] if as_folder else signs_of_output(path.name)
        if len(found) > 1:
            found = [sign for sign in found if sign.explicit]
            if len(found) != 1:
                raise UsageError(f"{text}: more than one place for the frame number; keep one of %04d, ####, $F4")
        self._width = padding
        if as_folder:
            self.folder, self._head, self._tail = path, f"{path.name or 'frame'}.", suffix
        elif not found:
            self.folder, self._head, self._tail = path.parent, f"{path.stem}.", path.suffix
        else:
            (only,) = found
            self._width, self.folder = only.digits, path.parent
            self._head, self._tail = path.name[: only.start], path.name[only.end :]
        if self._width > MOST_DIGITS:
            raise UsageError(f"{text}: {self._width} digits are too many; {MOST_DIGITS} at most")
        self._signed = below is not None or takes_sign(self._head)
        self._below = None if below is None else max(below - padding + self._width, 1)
        self.path = self.folder / f"{self._head}%0{self._width}d{self._tail}"

    @property
    def around(self) -> tuple[str, str]:
        """What stands before and after the number in a file's name."""
        return self._head, self._tail

    def name(self, index: int) -> str:
        """Return the file name (without folder) of a frame."""
        return f"{self._head}{written_number(index, self._width, self._below)}{self._tail}"

    @staticmethod
    def is_one(text: str) -> bool:
        """Return whether a name holds a place for the frame number."""
        return bool(signs_of_output(Path(text).name))

    def number(self, name: str) -> int | None:
        """Return the frame number in a file name, or None where the name is not one of this sequence."""
        written = name[len(self._head) : len(name) - len(self._tail)]
        digits = written.removeprefix("-") if self._signed else written
        least = self._width - (digits != written)
        fits = name == f"{self._head}{written}{self._tail}" and digits.isdecimal() and len(digits) >= least
        return int(written) if fits else None

    def matches(self, name: str) -> bool:
        """Return whether a file name is one of this sequence."""
        return self.number(name) is not None

    def existing(self) -> list[Path]:
        """Return files of this sequence that stand in its folder now."""
        if not self.folder.is_dir():
            return []
        return sorted(entry for entry in self.folder.iterdir() if self.matches(entry.name))

    def standing(self) -> dict[int, Path]:
        """Return those of `existing` that a frame of this sequence would replace, by number."""
        found = ((self.number(entry.name), entry) for entry in self.existing())
        return {number: entry for number, entry in found if number is not None and self.name(number) == entry.name}


class ExactName(Pattern):
    """The name of a single picture, without a number in it: `cut.png` is written as `cut.png`."""

    def __init__(self, text: str, number: int) -> None:
        """`number` is that of the only frame."""
        super().__init__(text)
        self._number = number
        self.path = Path(text)

    @staticmethod
    def is_one_file(text: str) -> bool:
        """Whether a name means one file: no folder, and no place for a number."""
        return not text.endswith(("/", "\\")) and not Pattern.is_one(text)

    def name(self, index: int) -> str:
        return self.path.name

    def number(self, name: str) -> int | None:
        return self._number if name == self.path.name else None


class SequenceOutput:
    """A sequence under construction: frames in a hidden folder beside the final names, moved there when all are whole.

    Only frames that this run has written are replaced: frames of the same pattern with other numbers stay. With `keep`,
    a hidden folder, the frames lie in that, and are left there by `discard`.
    """

    def __init__(
        self, pattern: Pattern, overwrite: bool, keep: Path | None = None, *, part: Numbers | None = None
    ) -> None:
        """`part` are the numbers that will be written, where they are a part of the clip's; None: all.

        Raises: UsageError, frames of this name exist, or another run is writing some now; MediaError, nothing can be
            written there.
        """
        folder = pattern.folder
        self._made = pattern.makes_folder and not folder.exists()
        _check_folder(folder.parent if self._made else folder, pattern.path)
        standing = {number: entry for number, entry in pattern.standing().items() if _within(number, part)}
        if standing and not overwrite:
            raise UsageError(
                f"{pattern.path}: {len(standing)} file{'s' if len(standing) > 1 else ''} of this name exist "
                f"({listed(sorted(standing))}); give --overwrite to replace them, or choose another name"
            )
        self._before: dict[str, Stamp | None] = {entry.name: stamp(entry) for entry in standing.values()}
        self._whole = part is None
        self.pattern = pattern
        self.left_over: list[int] = []  # numbers of frames that a run of the whole clip found beside its own
        parent = folder.parent if self._made else folder
        self._kept = keep is not None
        mark = _mark_of(pattern)
        self._refuse_running(folder, mark, part)
        ends = "all" if part is None else f"{part[0]}_{'' if part[1] is None else part[1]}"
        self.partial = parent / f".{folder.name or 'frames'}.part-{secrets.token_hex(4)}.{mark}.{ends}"
        if keep is not None:
            self.partial = keep / "frames"
        with writing(pattern.path):
            self.partial.mkdir(parents=self._kept, exist_ok=self._kept)
        self._lock = Lock(self.partial)

    def _refuse_running(self, folder: Path, mark: str, part: Numbers | None) -> None:
        """Raises: UsageError, a living run writes frames of the same numbers."""
        head = f".{folder.name or 'frames'}.part-"
        for place in (folder.parent, folder):
            with suppress(OSError), os.scandir(place) as entries:
                for name in [entry.name for entry in entries if entry.name.startswith(head)]:
                    _, _, rest = name[len(head) :].partition(".")
                    theirs, _, ends = rest.partition(".")
                    if theirs == mark and _overlap(part, _parsed_ends(ends)) and in_use(place / name):
                        raise UsageError(
                            f"{self.pattern.path}: another run is writing frames of this name now; wait for it, or "
                            "choose another name"
                        )

    def check(self) -> None:
        """Raises: MediaError, another run has written one of the frames since this one began."""
        with writing(self.pattern.path):
            for entry in sorted(self.partial.iterdir()):
                check_untouched(entry, self.pattern.folder / entry.name, self._before.get(entry.name))

    def publish(self, before: Collection[str] = ()) -> None:
        """Move the frames to their final names; those named `before` may stand there already.

        Raises: MediaError, as `check`, or where a frame cannot be renamed.
        """
        folder = self.pattern.folder
        with writing(self.pattern.path):
            folder.mkdir(exist_ok=True)
            with folders_locked([folder]):
                self.check()
                written = sorted(self.partial.iterdir())
                for entry in written:
                    give_name(entry, folder / entry.name, self._before.get(entry.name))
                if self._whole:
                    names = {*before, *(entry.name for entry in written)}
                    others = self.pattern.standing().items()
                    self.left_over = sorted(number for number, entry in others if entry.name not in names)
            self.partial.rmdir()
        self._lock.close()

    def discard(self) -> None:
        """Remove what was written so far. Never raises: it runs while another error is on its way."""
        self._lock.close()
        if not self._kept:
            shutil.rmtree(self.partial, ignore_errors=True)
        if self._made:
            with suppress(OSError):  # frames of another run stay
                self.pattern.folder.rmdir()


def listed(numbers: Sequence[int], most: int = 4) -> str:
    """Return numbers as ranges: 1-4, 9. Of many ranges the first `most`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    ranges_text = [str(a) if a == b else f"{a}-{b}" for a, b in ranges[:most]]
    return ", ".join(ranges_text) + (", ..." if len(ranges) > most else "")


def _within(number: int, part: Numbers | None) -> bool:
    return part is None or (part[0] <= number and (part[1] is None or number <= part[1]))


def _overlap(one: Numbers | None, other: Numbers | None) -> bool:
    if one is None or other is None:
        return True
    return (other[1] is None or one[0] <= other[1]) and (one[1] is None or other[0] <= one[1])


def _mark_of(pattern: Pattern) -> str:
    """Return eight letters that tell a pattern from others of its folder, in the name of the hidden folder."""
    return hashlib.sha256(os.fsencode(pattern.path.name)).hexdigest()[:8]


def _parsed_ends(text: str) -> Numbers | None:
    """Return the numbers of a hidden folder's name; None: all."""
    found = re.fullmatch(r"(-?\d+)_(-?\d*)", text)
    return (int(found[1]), int(found[2]) if found[2] else None) if found else None
