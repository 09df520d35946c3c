"""Read the training pictures. A manifest names the licence of each source. Pictures are decoded once, into memory.

The folder has the layout `masks/SOURCE/{img,mask}/NAME`, `cutouts/SOURCE/NAME`, `backgrounds/SOURCE/NAME` and
`manifest.csv` with the columns folder, kind and licence, one row per source.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from mam_video.core.errors import MamVideoError

IGNORE = 255  # in id masks: neither subject nor background


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
    path = root / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8") as f:
            rows = [Source(r["folder"], r["kind"], r["licence"]) for r in csv.DictReader(f)]
    except (OSError, KeyError) as e:
        raise MamVideoError(f"{path}: cannot read the list of training sources ({e}); set `data` in the config") from e
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
    pictures = []
    for source in sources:
        if not source.folder.startswith("masks/"):
            continue
        name = source.folder.split("/", 1)[1]
        masks = {p.stem: p for p in (root / source.folder / "mask").iterdir()}
        for path in sorted((root / source.folder / "img").iterdir()):
            if path.stem not in masks or held_out(name, path.stem) != held:
                continue
            mask = cv2.imread(str(masks[path.stem]), cv2.IMREAD_GRAYSCALE)
            picture = read_rgb(path)
            if mask is None or mask.shape != picture.shape[:2]:
                raise MamVideoError(f"{masks[path.stem]}: the mask is unreadable, or its size is not its picture's")
            if not source.has_ids:
                mask = (mask > 127).astype(np.uint8)
            counts = np.bincount(mask.ravel(), minlength=256)
            ids = tuple(i for i in range(1, IGNORE) if minimum_area <= counts[i] / mask.size <= 0.9)
            if ids:
                pictures.append(LabelledPicture(name, path.stem, picture, mask, ids))
    return pictures


def read_backgrounds(root: Path, sources: Iterable[Source], *, held: bool) -> list[np.ndarray]:
    """Read the backgrounds, (H, W, 3) uint8 RGB each, in a fixed order."""
    pictures = []
    for source in sources:
        if source.folder.startswith("backgrounds/"):
            for path in sorted((root / source.folder).iterdir()):
                if held_out(source.folder, path.stem) == held:
                    pictures.append(read_rgb(path))
    return pictures


def read_cutouts(root: Path, sources: Iterable[Source], *, held: bool) -> list[tuple[str, np.ndarray]]:
    """Read the cut-outs as (source, (H, W, 4) uint8 RGBA, straight colour), in a fixed order. Raises: MamVideoError."""
    pictures = []
    for source in sources:
        if source.folder.startswith("cutouts/"):
            name = source.folder.split("/", 1)[1]
            for path in sorted((root / source.folder).iterdir()):
                if held_out(name, path.stem) == held:
                    bgra = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                    if bgra is None or bgra.ndim != 3 or bgra.shape[2] != 4:
                        raise MamVideoError(f"{path}: not a picture with alpha")
                    pictures.append((name, np.ascontiguousarray(bgra[:, :, [2, 1, 0, 3]])))
    return pictures


def labelled_cutouts(cutouts: Iterable[tuple[str, np.ndarray]]) -> list[LabelledPicture]:
    """Turn cut-outs (source, RGBA) into pictures with a mask. The subject is where alpha is above one half."""
    pictures = []
    for i, (source, rgba) in enumerate(cutouts):
        alpha = np.ascontiguousarray(rgba[:, :, 3])
        mask = (alpha > 127).astype(np.uint8)
        if mask.any():
            pictures.append(LabelledPicture(source, f"{i}", np.ascontiguousarray(rgba[:, :, :3]), mask, (1,), alpha))
    return pictures
