"""Sequences by name: which files are the frames of `plate.%04d.exr`, `plate.####.exr`, `plate.$F4.exr`,
`plate.1001-1100.exr`, `plate.1001-1100x5####.exr`, of a folder, or of one file. Patterns are parsed by fileseq.

Signs for the frame number are signs in the file's name alone. A file or folder of just that name is taken literally,
and of several signs the one that stands for numbers of files that exist is the frame number: `hero@2x.%04d.png`.

Nothing is opened here but a PNG's head, since one that is animated is a movie, and nothing is counted that a hostile
name could make endless. Numbers may lie below zero, as in `plate.-0002.exr`: the sign stands behind a point, an
underscore or nothing, or beside frames from 0 on; a dash in another place is part of the name.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import fileseq

from mam_video.core.errors import MediaError, MissingFileError, UsageError
from mam_video.media.movie.container_layout import pictures_in_png
from mam_video.media.sequence.frame_signs import MOST_DIGITS, FrameSign, frame_signs, takes_sign, written_number
from mam_video.runtime.os_errors import reason

MAX_FRAMES: Final = 1_000_000
_HIDE: Final = {ord(sign): 0xE000 + k for k, sign in enumerate("%#@$")}  # private characters, for what is literal
_SHOW: Final = {hidden: sign for sign, hidden in _HIDE.items()}
_FIRST: Final = r"(?:(?<![^._,])-)?\d+"  # a number at the beginning of a range, with its sign
_RANGE: Final = rf"{_FIRST}(?:--?\d+(?:x\d+)?)?(?:,{_FIRST}(?:--?\d+(?:x\d+)?)?)*"
# name.1001-1100.exr: a range without a sign for the digits, which then are as many as the first number has
_BARE_RANGE: Final = re.compile(
    rf"(?P<head>(?:.*[._])?)(?P<range>{_FIRST}--?\d+(?:x\d+)?(?:,{_RANGE})?)(?P<tail>\.[A-Za-z0-9]+)"
)
_NUMBERED: Final = re.compile(r"(?P<head>.*?)(?P<digits>\d{1,9})(?P<tail>\.[A-Za-z0-9]+)")


@dataclass(frozen=True)
class SequencePattern:
    """The frames of a sequence, found on the disk.

    numbers  of its frames, in order, missing ones too
    present  numbers of those that have a file, in order
    below    digits that numbers below zero are padded to, without the sign; None: one less, as printf has it
    """

    folder: Path
    head: str
    tail: str
    padding: int
    numbers: Sequence[int]
    present: Sequence[int]
    below: int | None = None

    @property
    def path(self) -> Path:
        """The pattern, in printf's way."""
        return self.folder / f"{self.head}%0{self.padding}d{self.tail}"

    def file(self, number: int) -> Path:
        return self.folder / f"{self.head}{written_number(number, self.padding, self.below)}{self.tail}"

    def nearest(self, number: int) -> int:
        """The number itself where it has a file, else the last one before it that has. The first always has one."""
        return self.present[bisect_right(self.present, number) - 1]

    def missing(self) -> list[tuple[int, int]]:
        """Return first and last number of every gap."""
        if len(self.present) == len(self.numbers):
            return []
        have = set(self.present)
        gaps: list[tuple[int, int]] = []
        before: int | None = None
        for number in self.numbers:
            if number not in have:
                gaps = [*gaps[:-1], (gaps[-1][0], number)] if before is not None else [*gaps, (number, number)]
                before = number
            else:
                before = None
        return gaps


def is_sequence(text: str, suffixes: frozenset[str]) -> bool:
    """Whether an input's name means a sequence of pictures, and not one file of film. An animated PNG is a film."""
    path = Path(text)
    if path.suffix.lower() == ".png" and path.is_file() and pictures_in_png(path) > 1:
        return False
    if path.is_file() or path.suffix.lower() in suffixes:
        return path.suffix.lower() in suffixes
    return bool(frame_signs(path.name) or _BARE_RANGE.fullmatch(path.name) or path.is_dir())


def find_sequence(text: str, suffixes: frozenset[str]) -> SequencePattern:
    """Return the frames that a name means.

    Args:
        text: a pattern, a folder that holds one sequence, or one picture's file (a sequence of one).
        suffixes: endings of picture files that can be read, with dots, in small letters.
    Raises: UsageError for a pattern that is none; MediaError where nothing is found, or several sequences are.
    """
    path = Path(text)
    try:
        if path.is_dir():
            return _in_folder(path, suffixes)
        if path.exists():
            return _one_file(path)
    except (OSError, ValueError) as error:
        raise MediaError(f"{text}: cannot be read ({reason(error)})") from error
    if not frame_signs(path.name) and not _BARE_RANGE.fullmatch(path.name):
        raise MissingFileError(f"{text}: no such file")
    (folder, head, tail, padding, wanted), found, below = _chosen(text, _parsed(text), suffixes)
    if tail.lower() not in suffixes:
        known = ", ".join(sorted(suffixes))
        raise MediaError(f"{text}: sequences of '{tail}' are not read; those of {known} are")
    if not found:
        raise MissingFileError(
            f"{text}: no such file; nothing in {folder} has a name like {head}{'1':0>{padding}}{tail}"
        )
    if wanted is None:
        return _whole(folder, head, tail, padding, found, below)
    have = set(found)
    present = tuple(number for number in wanted if number in have)
    if not present or present[0] != wanted[0]:
        raise MediaError(
            f"{text}: its first frame {wanted[0]} is missing; the files there are {found[0]} to {found[-1]}"
        )
    return SequencePattern(folder, head, tail, padding, wanted, present, below)


_Parsed = tuple[Path, str, str, int, Sequence[int] | None]  # folder, head, tail, padding, numbers given (None: all)


def _chosen(text: str, parsed: list[_Parsed], suffixes: frozenset[str]) -> tuple[_Parsed, list[int], int | None]:
    """Of the ways to read a pattern the first whose files exist, with `_fitting`'s answer; else the first.

    Raises: UsageError, there is no file, and the name does not say which sign is the frame number.
    """
    for each in parsed:
        folder, head, tail, padding, _ = each
        if tail.lower() in suffixes:
            found, below = _fitting(text, _standing(folder, head, tail), head, padding)
            if found:
                return each, found, below
    signs = frame_signs(Path(text).name)
    explicit = [sign for sign in signs if sign.explicit]
    if len(explicit or signs) > 1:
        raise UsageError(
            f"{text}: no such file; give one place for the frame number, as name.%04d.exr, name.####.exr or "
            "name.$F4.exr"
        )
    return parsed[0], [], None


def _parsed(text: str) -> list[_Parsed]:
    """Return the ways to read a pattern: one for each sign, those that say how many digits first."""
    path = Path(text)
    if "\0" in text or (frame_signs(str(path.parent)) and not path.parent.is_dir()):
        raise UsageError(f"{text}: the frame number belongs into the file's name, not the folder's")
    if any(len(digits) > MOST_DIGITS for digits in re.findall(r"\d+", path.name)):
        raise UsageError(f"{text}: a number in this pattern is too long; {MOST_DIGITS} digits at most")
    if bare := _BARE_RANGE.fullmatch(path.name):
        first = re.match(r"-?(\d+)", bare["range"])
        assert first is not None
        return [(path.parent, bare["head"], bare["tail"], len(first[1]), _numbers(text, bare["range"]))]
    signs = sorted(frame_signs(path.name), key=lambda sign: not sign.explicit)
    if len(signs) == 1:
        try:
            return [_parsed_at(text, path, signs[0])]
        except UsageError:
            if signs[0].explicit:
                raise
            raise MissingFileError(f"{text}: no such file") from None  # hero@2x.mov: the sign is none
    ways = []
    for sign in signs:
        with suppress(UsageError):
            ways.append(_parsed_at(text, path, sign))
    if not ways:
        raise UsageError(
            f"{text}: give one place for the frame number, as name.%04d.exr, name.####.exr or name.$F4.exr"
        )
    return ways


def _parsed_at(text: str, path: Path, sign: FrameSign) -> _Parsed:
    """The pattern with the frame number at one of its signs; others are letters. Raises: UsageError, it is none."""
    name = path.name[: sign.start].translate(_HIDE) + sign.text + path.name[sign.end :].translate(_HIDE)
    try:
        parsed = fileseq.FileSequence(name, pad_style=fileseq.PAD_STYLE_HASH1)
        head, tail, padding = parsed.basename().translate(_SHOW), parsed.extension().translate(_SHOW), parsed.zfill()
    except (fileseq.FileSeqException, ValueError) as error:
        raise UsageError(f"{text}: not a pattern of a sequence ({reason(error)}); write it as name.%04d.exr") from None
    if parsed.padding() != sign.text:
        raise UsageError(f"{text}: not a pattern of a sequence; write it as name.%04d.exr")
    if padding > MOST_DIGITS:
        raise UsageError(f"{text}: {padding} digits are too many; {MOST_DIGITS} at most")
    found = re.search(rf"({_RANGE})$", head)  # fileseq takes the range off where it can
    if found and parsed.frameSet() is None and "-" in found[1]:
        return path.parent, head[: found.start()], tail, padding, _numbers(text, found[1])
    frames = parsed.frameRange()
    return path.parent, head, tail, max(padding, 1), _numbers(text, frames) if frames else None


def _numbers(text: str, ranges: str) -> Sequence[int]:
    """Return the numbers of 1-10x2,15; increasing. Counted before they are listed."""
    count = 0
    for part in ranges.split(","):
        found = re.fullmatch(r"(-?\d+)(?:-(-?\d+)(?:x(\d+))?)?", part)
        if found is None or (found[3] is not None and int(found[3]) == 0):
            raise UsageError(f"{text}: '{part}' is not a range of frames, as 1001-1100 or 1001-1100x5")
        count += (int(found[2] or found[1]) - int(found[1])) // int(found[3] or 1) + 1
    if not 0 < count <= MAX_FRAMES:
        raise UsageError(f"{text}: a range of {count:,} frames; between 1 and {MAX_FRAMES:,} can be read")
    listed = tuple(int(number) for number in fileseq.FrameSet(ranges))
    if any(b <= a for a, b in pairwise(listed)):
        raise UsageError(f"{text}: its frames must count upwards, each once")
    return listed


def _padded(digits: str, padding: int) -> bool:
    """Return whether a number is written as the pattern says: padded with zeros to so many digits, and to no more."""
    return len(digits) == padding or (len(digits) > padding and digits[0] != "0")


def _fitting(
    where: str | Path, standing: Sequence[tuple[int, str]], head: str, padding: int
) -> tuple[list[int], int | None]:
    """Numbers padded as the pattern says, in order, and how those below zero are padded; see `SequencePattern.below`.

    Raises: MediaError, where those below zero are padded in several ways.
    """
    found = [number for number, digits in standing if number >= 0 and _padded(digits, padding)]
    if not found and not takes_sign(head):
        return [], None
    signed = [(number, digits[1:]) for number, digits in standing if number < 0]
    choices = [padding, max(padding - 1, 1)]
    signed = [(number, digits) for number, digits in signed if any(_padded(digits, width) for width in choices)]
    for width in choices:
        if all(_padded(digits, width) for _, digits in signed):
            return sorted([*found, *(number for number, _ in signed)]), width if signed else None
    raise MediaError(f"{where}: the numbers below zero are padded in several ways; rename the files alike")


def _standing(folder: Path, head: str, tail: str) -> list[tuple[int, str]]:
    """Numbers, and as written, of the files in a folder that begin and end so. Zero has no sign."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(head) and entry.name.endswith(tail)]
    except (OSError, ValueError) as error:
        raise MediaError(f"{folder}: cannot be read ({reason(error)})") from error
    middles = [name[len(head) : len(name) - len(tail)] for name in names if len(name) > len(head) + len(tail)]
    return [(int(digits), digits) for digits in middles if re.fullmatch(r"[0-9]{1,9}|-(?!0+$)[0-9]{1,9}", digits)]


def _whole(
    folder: Path, head: str, tail: str, padding: int, found: list[int], below: int | None = None
) -> SequencePattern:
    """Return a sequence of all that was found, from the first number to the last."""
    if found[-1] - found[0] >= MAX_FRAMES:
        raise MediaError(
            f"{folder / head}*{tail}: its numbers run from {found[0]} to {found[-1]}, too far apart to be one "
            "sequence; give the range, as name.1001-1100.exr"
        )
    numbers = range(found[0], found[-1] + 1)
    present = numbers if len(numbers) == len(found) else tuple(found)
    return SequencePattern(folder, head, tail, padding, numbers, present, below)


def _in_folder(folder: Path, suffixes: frozenset[str]) -> SequencePattern:
    """Return the only sequence in a folder."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    with os.scandir(folder) as entries:
        for entry in entries:
            found = _NUMBERED.fullmatch(entry.name)
            if found and not entry.name.startswith(".") and found["tail"].lower() in suffixes:
                head = entry.name[: -len(found["tail"])].rstrip("0123456789")
                if head.endswith("-") and takes_sign(head[:-1]) and found["digits"].strip("0"):
                    head = head[:-1]
                groups[head, found["tail"]].append(entry.name[len(head) : -len(found["tail"])])
    if not groups:
        known = ", ".join(sorted(suffixes))
        raise MediaError(f"{folder}: is a folder without a sequence of pictures in it ({known})")
    if len(groups) > 1:
        shown = ", ".join(sorted(f"{head}%d{tail}" for head, tail in groups)[:4])
        raise MediaError(f"{folder}: this folder holds {len(groups)} sequences ({shown}, ...); give one's pattern")
    ((head, tail), digits) = next(iter(groups.items()))
    numbers = [(int(each), each) for each in digits]
    plain = [each for each in digits if not each.startswith("-")]
    padding = min(len(each.lstrip("-")) for each in plain or digits)
    present, below = _fitting(folder, numbers, head, padding)
    if any(len(each.lstrip("-")) > MOST_DIGITS for each in digits) or len(present) < len(digits):
        raise MediaError(f"{folder}: the numbers of {head}*{tail} are padded in several ways; give the pattern of one")
    return _whole(folder, head, tail, padding, present, below)


def _one_file(path: Path) -> SequencePattern:
    """Return one picture: a sequence of a single frame, with its own number where its name has one."""
    found = re.fullmatch(r"(.*?)(\d{1,9})(\.[A-Za-z0-9]+)", path.name)
    if found is None:
        return Single(path.parent, path.stem, path.suffix, 1, (1,), (1,))
    digits = re.search(r"\d{1,9}$", path.name[: -len(found[3])])
    assert digits is not None
    head, padding, number = path.name[: digits.start()], len(digits[0]), int(digits[0])
    if number and head.endswith("-") and takes_sign(head[:-1]):
        return OneFile(path.parent, head[:-1], found[3], padding, (-number,), (-number,), padding)
    return OneFile(path.parent, head, found[3], padding, (number,), (number,))


class OneFile(SequencePattern):
    """One picture with a number in its name, by which it is called."""

    @property
    def path(self) -> Path:
        return self.file(self.numbers[0])


class Single(SequencePattern):
    """One picture without a number in its name."""

    @property
    def path(self) -> Path:
        return self.folder / f"{self.head}{self.tail}"

    def file(self, number: int) -> Path:
        return self.path
