"""Training pictures on disk: in a folder, or packed in one file.

A packed file is a ZIP archive without compression of its own, with the folder's layout: manifest.csv, then
`masks/SOURCE/{img,mask}/NAME`, `cutouts/SOURCE/NAME`, `backgrounds/SOURCE/NAME` and `rendered/NAME`.
"""

from __future__ import annotations

import os
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np

from mam_video.core.errors import MamVideoError

T = TypeVar("T")
R = TypeVar("R")


class PictureStore(Protocol):
    """Files by names with forward slashes."""

    def names(self, folder: str) -> list[str]:
        """List the names of the files in a folder, in a fixed order, without the folder."""

    def read(self, name: str) -> bytes:
        """Read a file. Raises: MamVideoError."""

    def where(self, name: str) -> str:
        """Describe a file for an error."""


class FolderStore:
    """The files of a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(p.name for p in (self.root / folder).iterdir() if p.is_file())
        except OSError as e:
            raise MamVideoError(f"{self.root / folder}: cannot read this folder ({e.strerror})") from e

    def read(self, name: str) -> bytes:
        try:
            return (self.root / name).read_bytes()
        except OSError as e:
            raise MamVideoError(f"{self.root / name}: cannot read this file ({e.strerror})") from e

    def where(self, name: str) -> str:
        return str(self.root / name)


class PackedStore:
    """The files of a packed file, read into memory as a whole. Threads may read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, bytes] = {}
        self._folders: dict[str, list[str]] = defaultdict(list)
        try:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    self._files[name] = archive.read(name)
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as e:
            raise MamVideoError(f"{path}: cannot read this packed file ({e}); pack it again") from e
        for name in sorted(self._files):
            folder, _, file = name.rpartition("/")
            self._folders[folder].append(file)

    def names(self, folder: str) -> list[str]:
        return self._folders.get(folder, [])

    def read(self, name: str) -> bytes:
        try:
            return self._files[name]
        except KeyError:
            raise MamVideoError(f"{self.path}: has no {name}; pack it again") from None

    def where(self, name: str) -> str:
        return f"{self.path}: {name}"


def open_store(root: Path) -> PictureStore:
    """Open a folder of training pictures, or a packed file. Raises: MamVideoError, the file is not a packed one."""
    return PackedStore(root) if root.is_file() else FolderStore(root)


def decode(store: PictureStore, name: str, flags: int) -> np.ndarray:
    """Decode a picture as OpenCV does, colours in the order BGR. Raises: MamVideoError, it is no picture."""
    data = store.read(name)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if picture is None:
        raise MamVideoError(f"{store.where(name)}: cannot read this picture")
    return picture


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply a function to items in as many threads as there are cores, at most 16. Keeps the order."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))
