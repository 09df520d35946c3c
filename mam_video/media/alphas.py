"""Alphas alone, of anything that holds them: a movie, a sequence, a picture, or a folder of such clips.

An alpha is the file's alpha channel where it has one, else its grey value. A name ending in /, a folder, a pattern
(`matte.%04d.png`, `matte.####.png`), one picture and a movie are all read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mam_video.core.errors import MediaError, MissingFileError, UsageError
from mam_video.media.atomic_output import Pattern
from mam_video.media.movie.reader import MovieReader
from mam_video.media.still_images import is_colour_picture, is_coloured, is_picture, pictures_in, read_alpha
from mam_video.runtime.os_errors import reason

# Where a folder holds one of these, the alphas lie in it and what lies beside it is something else: the layouts of
# VideoMatte (fgr, pha, com), of DAVIS's clips (frames, masks) and of most mattes.
ALPHA_FOLDERS: Final = ("pha", "alpha", "mask", "masks")
MOVIE_SUFFIXES: Final = (".mov", ".mp4", ".mkv", ".webm", ".m4v", ".avi", ".mxf")  # of the clips in a folder
_LAST_NUMBER = re.compile(r"((?:(?<![^._])-)?\d+)$")


@dataclass(frozen=True, slots=True)
class Pictures:
    """Alphas in picture files, each under a name of its own: the file's without its ending.

    numbers  of the frames, where every name has one at its end (a pattern says where); else empty
    """

    path: Path
    files: tuple[Path, ...]
    names: tuple[str, ...]
    numbers: tuple[int, ...] = ()

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for name, file in zip(self.names, self.files, strict=True):
            yield name, read_alpha(file)


@dataclass(frozen=True, slots=True)
class Movie:
    """The alphas of a movie's frames, named by their indices."""

    path: Path

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        with MovieReader(self.path) as reader:
            for index, alpha in enumerate(reader.alphas()):
                yield str(index), alpha


Alphas = Pictures | Movie


def open_alphas(source: str | Path) -> Alphas:
    """Return the alphas of one clip: a movie, a pattern, a folder of pictures, or one picture. Iterating decodes.

    Raises: UsageError or MediaError, in one line, where there are none.
    """
    path = Path(source)
    if path.is_dir():
        files = pictures_in(path)
        if not files:
            raise MediaError(f"{path}: holds no pictures (PNG, JPEG, TIFF, WebP)")
        return _pictures(path, files)
    if path.is_file():
        return _pictures(path, [path]) if is_picture(path) else Movie(path)
    if Pattern.is_one(str(source)):
        pattern = Pattern(str(source))
        files = pattern.existing()
        if not files:
            raise MediaError(f"{path}: no file of this sequence exists")
        ordered = sorted((pattern.number(f.name) or 0, f) for f in files)
        return Pictures(path, tuple(f for _, f in ordered), tuple(f.stem for _, f in ordered),
                        tuple(n for n, _ in ordered))  # fmt: skip
    raise MissingFileError(f"{path}: no such file or folder")


def looks_like_plate(clip: Alphas) -> bool:
    """Return whether a clip's first picture is in colour and has no alpha: its grey value is hardly a matte."""
    if isinstance(clip, Movie):
        with MovieReader(clip.path) as reader:
            if reader.info.has_alpha:
                return False
            first = next(iter(reader.frames(0, 1)), None)
        return first is not None and is_coloured(first.rgb8)
    return is_colour_picture(clip.files[0])


def find_alphas(source: str | Path, chosen: Sequence[str] = ALPHA_FOLDERS) -> dict[str, Alphas]:
    """Return the clips of a folder by name (their path in it, without endings and the folders `chosen`), in order.

    A folder that holds pictures is one clip; anything but a folder is one clip too. Its name is empty. Where a folder
    holds one of those that are `chosen`, what lies beside it is left out.
    Raises: as `open_alphas`.
    """
    path = Path(source)
    if not path.is_dir():
        return {"": open_alphas(source)}
    found = dict(_clips_in(path, "", chosen))
    if not found:
        raise MediaError(f"{path}: holds neither pictures nor clips")
    return found


def _clips_in(folder: Path, name: str, chosen: Sequence[str]) -> Iterator[tuple[str, Alphas]]:
    try:
        inner = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise MediaError(f"{folder}: cannot be read ({reason(error)})") from error
    folders = [p for p in inner if p.is_dir()]
    for kind in chosen:
        if any(p.name == kind for p in folders):
            yield from _clips_in(folder / kind, name, chosen)
            return
    if any(is_picture(p) for p in inner):
        yield name, open_alphas(folder)
        return
    for path in inner:
        own = f"{name}/{path.stem if path.is_file() else path.name}".lstrip("/")
        if path.is_dir():
            yield from _clips_in(path, own, chosen)
        elif path.suffix.lower() in MOVIE_SUFFIXES:
            yield own, Movie(path)


def _pictures(path: Path, files: list[Path]) -> Pictures:
    names = tuple(f.stem for f in files)
    twice = next((n for n in names if names.count(n) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise UsageError(f"{path}: holds two pictures called '{twice}'; keep one")
    found = [_LAST_NUMBER.search(name) for name in names]
    numbers = tuple(int(m[1]) for m in found if m)
    return Pictures(path, tuple(files), names, numbers if len(set(numbers)) == len(names) else ())
