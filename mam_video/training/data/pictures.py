"""Read the training pictures. A manifest names the licence of each source. Pictures are decoded once, into memory.

The folder has the layout `masks/SOURCE/{img,mask}/NAME`, `cutouts/SOURCE/NAME`, `backgrounds/SOURCE/NAME` and
`manifest.csv` with the columns folder, kind and licence, one row per source. A packed file (`data.store`) may take the
folder's place wherever a `root` is asked for.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from mam_video.core.errors import MamVideoError
from mam_video.training.data.store import PictureStore, decode, in_threads, open_store

IGNORE = 255  # in id masks: neither subject nor background
RENDERED = "rendered"  # the folder of rendered subjects in a packed file


@dataclass(frozen=True, slots=True)
class Source:
    """A source of pictures, a row of the manifest."""

    folder: str
    kind: str
    licence: str

    @property
    def has_ids(self) -> bool:
        """Return whether the masks hold subject ids; other masks are white on the subject."""
        return "instance ids" in self.kind


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture with a mask. `mask` (H, W) uint8 holds subject ids, 0 for background, 255 for pixels to ignore.

    A cut-out also has an `alpha` (H, W) uint8. Only its subject is valid, and its colour is straight.
    """

    source: str
    name: str
    picture: np.ndarray = field(repr=False)  # (H, W, 3) uint8 RGB
    mask: np.ndarray = field(repr=False)
    ids: tuple[int, ...]
    alpha: np.ndarray | None = field(default=None, repr=False)

    @property
    def clip(self) -> str | None:
        """Return the clip that the picture is a frame of; None for a still."""
        return f"{self.source}/{self.name.rsplit('_', 1)[0]}" if self.source.startswith("video_") else None


def read_manifest(root: Path, allow: str = ".*", deny: str = "") -> list[Source]:
    """Read the sources whose folder or licence matches `allow`, and neither matches `deny` (regular expressions).

    Raises: MamVideoError, the manifest cannot be read.
    """
    store = open_store(root)
    try:
        text = store.read("manifest.csv").decode("utf-8")
        rows = [Source(r["folder"], r["kind"], r["licence"]) for r in csv.DictReader(io.StringIO(text, newline=""))]
    except (MamVideoError, UnicodeDecodeError, KeyError) as e:
        why = e.args[0] if isinstance(e, MamVideoError) else f"{store.where('manifest.csv')}: {e!r}"
        raise MamVideoError(f"{why}; cannot read the list of training sources; set `data` in the config") from e
    wanted = [s for s in rows if any(re.search(allow, t) for t in (s.folder, s.licence))]
    return [s for s in wanted if not (deny and any(re.search(deny, t) for t in (s.folder, s.licence)))]


def held_out(source: str, name: str) -> bool:
    """Return whether a file belongs to the 10 % held out of training. All frames of a clip are on the same side."""
    group = name.rsplit("_", 1)[0] if source.startswith("video_") else name
    return int(hashlib.sha256(f"{source}/{group}".encode()).hexdigest()[:8], 16) % 10 == 0


def read_rgb(path: Path) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB. Raises: MamVideoError."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise MamVideoError(f"{path}: cannot read this picture")
    return np.ascontiguousarray(picture[:, :, ::-1])


def read_labelled(
    root: Path, sources: Iterable[Source], *, held: bool, minimum_area: float = 0.004
) -> list[LabelledPicture]:
    """Read all pictures with a subject that covers between `minimum_area` and 0.9 of the picture, in a fixed order.

    `held` chooses the held-out pictures or the others. Raises: MamVideoError, a mask does not fit its picture.
    """
    store = open_store(root)
    tasks = []
    for source in sources:
        if not source.folder.startswith("masks/"):
            continue
        name = source.folder.split("/", 1)[1]
        masks = {Path(n).stem: n for n in store.names(f"{source.folder}/mask")}
        for file in store.names(f"{source.folder}/img"):
            stem = Path(file).stem
            if stem in masks and held_out(name, stem) == held:
                tasks.append((source, f"{source.folder}/img/{file}", f"{source.folder}/mask/{masks[stem]}"))

    def read(task: tuple[Source, str, str]) -> LabelledPicture | None:
        return read_picture_and_mask(store, *task, minimum_area)

    return [m for m in in_threads(read, tasks) if m is not None]


def read_picture_and_mask(
    store: PictureStore, source: Source, img: str, mask_name: str, minimum_area: float = 0.004
) -> LabelledPicture | None:
    """Read a picture with its mask. Returns None if no subject has a fitting area."""
    picture = np.ascontiguousarray(decode(store, img, cv2.IMREAD_COLOR)[:, :, ::-1])
    mask = decode(store, mask_name, cv2.IMREAD_GRAYSCALE)
    if mask.shape != picture.shape[:2]:
        raise MamVideoError(f"{store.where(mask_name)}: the mask is unreadable, or its size is not its picture's")
    if not source.has_ids:
        mask = (mask > 127).astype(np.uint8)
    counts = np.bincount(mask.ravel(), minlength=256)
    ids = tuple(i for i in range(1, IGNORE) if minimum_area <= counts[i] / mask.size <= 0.9)
    name = source.folder.split("/", 1)[1]
    return LabelledPicture(name, Path(img).stem, picture, mask, ids) if ids else None


def read_backgrounds(root: Path, sources: Iterable[Source], *, held: bool) -> list[np.ndarray]:
    """Read the backgrounds, (H, W, 3) uint8 RGB each, in a fixed order."""
    store = open_store(root)
    names = []
    for source in sources:
        if source.folder.startswith("backgrounds/"):
            files = store.names(source.folder)
            names += [f"{source.folder}/{f}" for f in files if held_out(source.folder, Path(f).stem) == held]
    return in_threads(lambda n: np.ascontiguousarray(decode(store, n, cv2.IMREAD_COLOR)[:, :, ::-1]), names)


def read_cutouts(root: Path, sources: Iterable[Source], *, held: bool) -> list[tuple[str, np.ndarray]]:
    """Read the cut-outs as (source, (H, W, 4) uint8 RGBA, straight colour), in a fixed order. Raises: MamVideoError."""
    store = open_store(root)
    found = []
    for source in sources:
        if source.folder.startswith("cutouts/"):
            name = source.folder.split("/", 1)[1]
            found += [(name, f"{source.folder}/{f}") for f in store.names(source.folder)
                      if held_out(name, Path(f).stem) == held]  # fmt: skip
    return in_threads(lambda one: (one[0], read_rgba(store, one[1])), found)


def read_rendered(root: Path, *, held: bool) -> list[tuple[str, np.ndarray]]:
    """Read the subjects of pipelines/tools/render_subjects.py as (source, RGBA (H, W, 4) uint8). Raises: MamVideoError.

    `held` chooses the held-out subjects or the others. `root` is their folder, or a packed file with subjects.
    """
    store = open_store(root)
    folder = RENDERED if root.is_file() else "."
    names = [n for n in store.names(folder) if n.endswith(".webp")] if root.exists() else []
    if not names:
        raise MamVideoError(
            f"{root}: no rendered subjects; run pipelines/tools/render_subjects.py, or set `rendered` to the folder"
        )
    found = [(n.rsplit("_", 1)[0], n) for n in names]
    found = [(source, n) for source, n in found if held_out(source, Path(n).stem) == held]
    return in_threads(lambda one: (one[0], read_rgba(store, f"{folder}/{one[1]}")), found)


def read_rgba(store: PictureStore, name: str) -> np.ndarray:
    bgra = decode(store, name, cv2.IMREAD_UNCHANGED)
    if bgra.ndim != 3 or bgra.shape[2] != 4:
        raise MamVideoError(f"{store.where(name)}: not a picture with alpha; remove it and make it again")
    return np.ascontiguousarray(bgra[:, :, [2, 1, 0, 3]])


def labelled_cutouts(cutouts: Iterable[tuple[str, np.ndarray]]) -> list[LabelledPicture]:
    """Turn cut-outs (source, RGBA) into pictures with a mask. The subject is where alpha is above one half."""
    pictures = []
    for i, (source, rgba) in enumerate(cutouts):
        alpha = np.ascontiguousarray(rgba[:, :, 3])
        mask = (alpha > 127).astype(np.uint8)
        if mask.any():
            pictures.append(LabelledPicture(source, f"{i}", np.ascontiguousarray(rgba[:, :, :3]), mask, (1,), alpha))
    return pictures
