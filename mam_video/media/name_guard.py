"""Names of a run: what it reads is never written over, and no two of its outputs share a name.

Files are identified by device and inode, so that links and other spellings of a name are the same file. A name that
does not exist yet is identified by its folder and its letters, ignoring case.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mam_video.core.errors import MamVideoError, UsageError
from mam_video.media.atomic_output import ExactName, Numbers, Pattern
from mam_video.media.sequence.image_formats import SUFFIXES
from mam_video.media.sequence.pattern import find_sequence, is_sequence

_Identity = tuple[int, int]  # device, inode


@dataclass(frozen=True, slots=True)
class _Input:
    """A file that is read: what for, the name that it was given by, and whether it is a frame of a sequence."""

    what: str
    name: str
    frame: bool


@dataclass(frozen=True, slots=True)
class _Output:
    """A name that is written.

    folder  identity of the folder it is in, or the folder's name where that does not exist
    names   the file's name; of a sequence what stands before and after the number; in small letters
    """

    option: str
    folder: _Identity | str
    names: tuple[str, ...]
    is_folder: bool = False


class NameGuard:
    """What a run reads and what it writes. Enter all inputs first, then each output.

    Each `writes...` raises UsageError, in one line, where the output would overwrite an input or an earlier output.
    """

    def __init__(self) -> None:
        self._reads: list[tuple[str, str, tuple[str, ...]]] = []
        self._inputs: dict[_Identity, _Input] | None = None
        self._outputs: list[_Output] = []

    def reads(self, what: str, name: str | Path | None, *, below: Collection[str] = ()) -> None:
        """Enter an input: a file, a movie, a sequence by its pattern or its folder; None is none.

        `what` it is stands in errors. Of a folder all files below it whose names end so are read where `below` has
        endings, else its only sequence.
        """
        if name is not None and str(name):
            self._reads.append((what, str(name), tuple(below)))
            self._inputs = None

    def writes(self, option: str, path: str | Path) -> None:
        """Enter one file."""
        path = Path(path)
        found = self._known().get(_identity(path) or (-1, -1))
        if found is not None:
            raise UsageError(
                f"{path}: {option} would overwrite the input {found.name} ({found.what}); choose another name"
            )
        self._enter(_Output(option, _folder_of(path), (_small(path.name),)), path)

    def writes_sequence(self, option: str, pattern: Pattern, numbers: Numbers | None = None) -> None:
        """Enter a sequence; `numbers` are the first and last of its frames (None: not known)."""
        if isinstance(pattern, ExactName):
            self.writes(option, pattern.path)
            return
        if pattern.makes_folder:
            self._enter(_folder(option, pattern.folder), pattern.folder)
        inputs = self._known()
        for number, path in _hits(pattern) if inputs else ():
            found = inputs.get(_identity(path) or (-1, -1))
            inside = numbers is None or (numbers[0] <= number and (numbers[1] is None or number <= numbers[1]))
            if found is not None and (inside or found.frame):
                raise UsageError(
                    f"{pattern.path}: {option} would overwrite {path.name} of the input {found.name} ({found.what}); "
                    "choose another name"
                )
        around = tuple(_small(text) for text in pattern.around)
        self._enter(_Output(option, _folder_of(pattern.path), around), pattern.path)

    def writes_folder(self, option: str, folder: str | Path, files: Iterable[str]) -> None:
        """Enter a folder that is made, and the files that are written into it."""
        self._enter(_folder(option, Path(folder)), Path(folder))
        for name in files:
            self.writes(option, Path(folder) / name)

    def empties(self, option: str, folder: Path) -> None:
        """Enter a hidden folder that is removed with all that is in it."""
        if not folder.is_dir():
            return
        inputs = self._known()
        for path in _files_below(folder):
            found = inputs.get(_identity(path) or (-1, -1))
            if found is not None:
                raise UsageError(
                    f"{path}: {option} would remove the input {found.name} ({found.what}); move it to another folder"
                )

    def _enter(self, new: _Output, path: Path) -> None:
        for old in self._outputs:
            if not _clash(old, new):
                continue
            if old.option == new.option:
                raise UsageError(f"{path}: named twice as an output; give each its own name")
            raise UsageError(f"{path}: named twice, as {old.option} and as {new.option}; give each its own name")
        self._outputs.append(new)

    def _known(self) -> dict[_Identity, _Input]:
        if self._inputs is None:
            self._inputs = {}
            for what, name, below in self._reads:
                for path, frame in _files_of(name, below):
                    key = _identity(path)
                    if key is not None:
                        self._inputs.setdefault(key, _Input(what, name, frame))
        return self._inputs


def _files_of(name: str, below: tuple[str, ...]) -> Iterator[tuple[Path, bool]]:
    """Yield the files that an input means, and whether each is a frame of a sequence; none where it cannot be read."""
    path = Path(name)
    try:
        if path.is_dir() and below:
            yield from ((each, False) for each in _files_below(path) if each.name.lower().endswith(below))
            return
        if path.is_file():
            yield path, False
            return
        if is_sequence(name, SUFFIXES):
            found = find_sequence(name, SUFFIXES)
            yield from ((found.file(number), True) for number in found.present)
            with os.scandir(found.folder) as entries:  # frames beyond the range that is read
                for entry in entries:
                    digits = entry.name[len(found.head) : len(entry.name) - len(found.tail)]
                    if digits.isdecimal() and entry.name == f"{found.head}{digits}{found.tail}":
                        yield Path(entry.path), True
    except (MamVideoError, OSError, ValueError):  # whoever reads it says what is wrong
        return


def _files_below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names)


def _hits(pattern: Pattern) -> Iterator[tuple[int, Path]]:
    """Files that a frame of the sequence would replace, with its number; also where capitals make no difference."""
    try:
        with os.scandir(pattern.folder) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return
    before, after = (_small(text) for text in pattern.around)
    for name in names:
        small = _small(name)
        digits = small[len(before) : len(small) - len(after)]
        if small == f"{before}{digits}{after}" and digits.removeprefix("-").isdecimal() and len(digits) < 12:
            yield int(digits), pattern.folder / pattern.name(int(digits))


def _identity(path: Path) -> _Identity | None:
    """Links are followed. None: nothing stands there."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


def _small(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _place(folder: Path) -> _Identity | str:
    try:
        return _identity(folder) or _small(str(folder.resolve()))
    except (OSError, RuntimeError, ValueError):
        return _small(str(folder.absolute()))


def _folder_of(path: Path) -> _Identity | str:
    return _place(path.parent)


def _folder(option: str, folder: Path) -> _Output:
    try:
        whole = folder.resolve()
    except (OSError, RuntimeError, ValueError):
        whole = folder.absolute()
    return _Output(option, _folder_of(whole), (_small(whole.name),), is_folder=True)


def _clash(one: _Output, other: _Output) -> bool:
    if one.folder != other.folder or (one.is_folder and other.is_folder):
        return False
    if len(one.names) > len(other.names):
        one, other = other, one
    if len(other.names) == 1:
        return one.names == other.names
    before, after = other.names
    if len(one.names) == 1:
        (name,) = one.names
        digits = name[len(before) : len(name) - len(after)]
        return name == f"{before}{digits}{after}" and digits.removeprefix("-").isdecimal()
    return _meet(one.names[0], before) and _meet(one.names[1][::-1], after[::-1])


def _meet(one: str, other: str) -> bool:
    """Return whether one text is the other and digits."""
    short, long = sorted((one, other), key=len)
    rest = long[len(short) :]
    return long.startswith(short) and (not rest or rest.isdecimal())
