"""Writing beside the final name: everything is checked before the first frame, and nothing partial gets the name.

A movie grows in a hidden file beside its final name, a sequence in a hidden folder; `publish` renames. An interrupted
process can leave the hidden one behind (a name that starts with a dot and holds ".part-"), never a partial result.
A run that can be resumed has one hidden folder an output instead, of a name that is found again (`kept.py`).
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mam_video.core.errors import MediaError, UsageError
from mam_video.media.ffmpeg_compat import writing
from mam_video.media.sequence.pattern import takes_sign, written_number

MOST_DIGITS = 9
_DIGITS = re.compile(r"%0?(?P<printf>\d*)d|(?P<hashes>#+)|\$F(?P<houdini>\d?)")

SUBJECT = "{subject}"  # in an output's name: a file, or a sequence, for each subject
_SAFE = re.compile(r"\w(?:[\w .-]*[\w-])?")  # of a subject's name as a part of a file's
_MOST_OF_A_NAME = 64
_DEVICES = {"con", "prn", "aux", "nul", *(f"{name}{k}" for name in ("com", "lpt") for k in range(10))}


def of_subjects(name: str, subjects: Sequence[str]) -> dict[str | None, str]:
    """The names that an output with `{subject}` in it gets, by subject; one without is of all together: None.

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
def folders_of_subjects(template: str, names: Sequence[str]) -> Generator[None, None, None]:
    """Makes the folders of `names` that `{subject}` in the template's own folder asks for, as `{subject}/matte.mov`.

    What it made and is empty in the end goes again. Raises: MediaError, a folder cannot be made.
    """
    made: list[Path] = []
    if SUBJECT in Path(template).parent.name and not template.endswith(("/", "\\")):
        for folder in (Path(name).parent for name in names):
            if not folder.exists():
                _check_folder(folder.parent, folder)
                with writing(folder):
                    folder.mkdir()
                made.append(folder)
    try:
        yield
    finally:
        for folder in made:
            with suppress(OSError):  # what is in it stays
                folder.rmdir()


def _check_folder(folder: Path, name: Path) -> None:
    if not folder.exists():
        raise MediaError(f"{name}: there is no folder {folder}; make it first")
    if not folder.is_dir():
        raise MediaError(f"{name}: {folder} is a file, not a folder")


class FileOutput:
    """One file under construction."""

    def __init__(self, path: Path, source: Path, overwrite: bool, keep: Path | None = None) -> None:
        """Claim a place beside `path`: in the hidden folder `keep` where it is given.

        Raises: UsageError where the name is taken or the source's own; MediaError where nothing can be written there.
        """
        _check_folder(path.parent, path)
        if path.exists() and source.exists() and path.samefile(source):
            raise UsageError(f"{path}: this is the input; choose another name for the output")
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; give a file name, or {path}/ for a sequence")
        if path.exists() and not overwrite:
            raise UsageError(f"{path}: exists; give --overwrite to replace it, or choose another name")
        self.path = path
        self.partial = path.with_name(f".{path.stem}.part-{secrets.token_hex(4)}{path.suffix}")
        if keep is not None:
            self.partial = keep / path.name
        with writing(path):
            if keep is not None:
                keep.mkdir(exist_ok=True)
            self.partial.touch(exist_ok=keep is not None)

    def publish(self) -> None:
        """Give the finished file its name."""
        with writing(self.path):
            self.partial.replace(self.path)

    def discard(self) -> None:
        """Remove what was written so far. Never raises: it runs while another error is on its way."""
        with suppress(OSError):
            self.partial.unlink(missing_ok=True)


class Pattern:
    """A sequence's name: `name.%04d.png`, `name.####.png`, `name.$F4.png`, a folder (`mattes/`), or `name.png`.

    A folder gets `mattes/mattes.1001.png`, a plain name `name.1001.png`, with as many digits as `padding` says. Numbers
    below zero have as many as `below` says, without the sign; None: the sign takes the place of one, as printf has it.
    """

    def __init__(self, text: str, suffix: str = ".png", padding: int = 4, below: int | None = None) -> None:
        as_folder = text.endswith(("/", "\\"))
        path = Path(text)
        if as_folder:
            path = path / f"{path.name or 'frame'}.%0{padding}d{suffix}"
        elif not _DIGITS.search(path.name):
            path = path.with_name(f"{path.stem}.%0{padding}d{path.suffix}")
        found = list(_DIGITS.finditer(path.name))
        if len(found) > 1:
            raise UsageError(f"{text}: more than one place for the frame number; keep one of %04d, ####, $F4")
        if _DIGITS.search(str(path.parent)):
            raise UsageError(f"{text}: the frame number belongs into the file's name, not the folder's")
        only = found[0]
        digits = only["printf"] or (str(len(only["hashes"])) if only["hashes"] else only["houdini"]) or "1"
        self.folder = path.parent
        self.makes_folder = as_folder
        self._width = int(digits) if len(digits) < 3 else MOST_DIGITS + 1
        if self._width > MOST_DIGITS:
            raise UsageError(f"{text}: {digits} digits are too many; {MOST_DIGITS} at most")
        self._head, self._tail = path.name[: only.start()], path.name[only.end() :]
        self._signed = below is not None or takes_sign(self._head)
        self._below = None if below is None else max(below - padding + self._width, 1)
        self.path = path.with_name(f"{self._head}%0{self._width}d{self._tail}")

    def name(self, index: int) -> str:
        """File name (without folder) of a frame."""
        return f"{self._head}{written_number(index, self._width, self._below)}{self._tail}"

    @staticmethod
    def is_one(text: str) -> bool:
        """Whether a name holds a place for the frame number."""
        return _DIGITS.search(Path(text).name) is not None

    def number(self, name: str) -> int | None:
        """The frame number in a file name, or None where the name is not one of this sequence."""
        written = name[len(self._head) : len(name) - len(self._tail)]
        digits = written.removeprefix("-") if self._signed else written
        least = self._width - (digits != written)
        fits = name == f"{self._head}{written}{self._tail}" and digits.isdecimal() and len(digits) >= least
        return int(written) if fits else None

    def matches(self, name: str) -> bool:
        """Whether a file name is one of this sequence."""
        return self.number(name) is not None

    def existing(self) -> list[Path]:
        """Files of this sequence that stand in its folder now."""
        if not self.folder.is_dir():
            return []
        return sorted(entry for entry in self.folder.iterdir() if self.matches(entry.name))


def _files_of(source: Path) -> set[Path]:
    """The files that an input consists of: those of its pattern, or itself."""
    if source.exists():
        return {source.resolve()}
    if not _DIGITS.search(source.name) or _DIGITS.search(str(source.parent)):
        return set()
    return {entry.resolve() for entry in Pattern(str(source)).existing()}


class SequenceOutput:
    """A sequence under construction: frames in a hidden folder beside the final names, moved there when all are whole.

    With `overwrite`, frames of the same pattern that the new sequence does not have are removed at the end, so that
    an older, longer one does not show through. With `keep`, a hidden folder, the frames lie in that, and are left
    there by `discard`.
    """

    def __init__(self, pattern: Pattern, source: Path, overwrite: bool, keep: Path | None = None) -> None:
        folder = pattern.folder
        self._made = pattern.makes_folder and not folder.exists()
        _check_folder(folder.parent if self._made else folder, pattern.path)
        standing = pattern.existing()
        if pattern.path == source or not _files_of(source).isdisjoint(entry.resolve() for entry in standing):
            raise UsageError(f"{pattern.path}: the input is part of this sequence; choose another name for the output")
        if standing and not overwrite:
            raise UsageError(
                f"{pattern.path}: {len(standing)} files of this name exist; give --overwrite to replace them, "
                "or choose another name"
            )
        self.pattern = pattern
        parent = folder.parent if self._made else folder
        self._kept = keep is not None
        self.partial = parent / f".{folder.name or 'frames'}.part-{secrets.token_hex(4)}"
        if keep is not None:
            self.partial = keep / "frames"
        with writing(pattern.path):
            self.partial.mkdir(parents=self._kept, exist_ok=self._kept)

    def publish(self, before: Collection[str] = ()) -> None:
        """Move the frames to their final names; those named `before` may stand there already."""
        with writing(self.pattern.path):
            written = sorted(self.partial.iterdir())
            names = {*before, *(entry.name for entry in written)}
            self.pattern.folder.mkdir(exist_ok=True)
            for entry in written:
                entry.replace(self.pattern.folder / entry.name)
            for entry in self.pattern.existing():
                if entry.name not in names:
                    entry.unlink()
            self.partial.rmdir()

    def discard(self) -> None:
        if not self._kept:
            shutil.rmtree(self.partial, ignore_errors=True)
