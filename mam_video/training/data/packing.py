"""Pack training pictures into one small file for a machine without the folder, or without a network.

Pictures become smaller and lossy WebP, masks lossless WebP, cut-outs WebP with a lossless alpha. `data.store` tells the
layout. manifest.csv keeps the rows of the sources with their licences, and pack.json says how the file was made. Of the
pictures held out of training a third is kept, clips as a whole: enough for the checks.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from mam_video.core.errors import MamVideoError
from mam_video.training.data.pictures import (
    RENDERED,
    Source,
    held_out,
    read_manifest,
    read_picture_and_mask,
    read_rgba,
)
from mam_video.training.data.store import PictureStore, decode, in_threads, open_store

QUALITIES = (80, 70, 60, 54, 48, 44, 40, 36, 32, 28)
"""The WebP qualities to choose from, best first."""
SAMPLE = 32  # one of so many files tells how large all will be
_MARGIN = 0.97  # of the limit may be used by the estimate
_ENTRY = 200  # bytes that the archive needs for each file beside its content, about
_CHUNK = 256  # files that are encoded at a time

Encoded = list[tuple[str, bytes]]
Task = Callable[[int], Encoded]  # encodes one picture with a quality: the names and contents for the archive


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed: the file's size, the quality, and how many files are in each kind of folder."""

    size: int
    quality: int
    counts: dict[str, int]


def pack(
    root: Path,
    out: Path,
    *,
    rendered: Path | None = None,
    limit: int = 50 * 2**20,
    side: int = 288,
    cutout_side: int = 400,
    allow: str = ".*",
    deny: str = "",
) -> Packed:
    """Pack the sources that `allow` and `deny` choose (see `read_manifest`) with the best quality that fits the limit.

    Args:
        root: the folder with manifest.csv.
        rendered: the folder of rendered subjects, or None.
        limit: the largest size of the file, in bytes.
        side, cutout_side: the longest side of pictures, and of cut-outs and rendered subjects, in pixels.
    Raises: MamVideoError, a picture is unreadable, or not even the lowest quality fits.
    """
    store = open_store(root)
    sources = read_manifest(root, allow, deny)
    tasks = _tasks(store, sources, side, cutout_side)
    if rendered is not None:
        tasks += _rendered_tasks(rendered, cutout_side)
    manifest, about = _manifest(store, sources), {"side": side, "cutout_side": cutout_side, "format": 1}
    quality = _fitting_quality(tasks, limit, out)
    counts: Counter[str] = Counter()
    part = out.with_name(out.name + ".part")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, "manifest.csv", manifest)
            _add(archive, "pack.json", json.dumps({**about, "quality": quality}).encode())
            for encoded in _in_chunks(tasks, quality):
                for name, data in encoded:
                    _add(archive, name, data)
                    counts[_kind(name)] += 1
        size = part.stat().st_size
        if size > limit:
            raise MamVideoError(f"{out}: {size / 2**20:.1f} MiB are more than the limit; give a smaller `--side`")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return Packed(size, quality, dict(counts))


def _kind(name: str) -> str:
    first, *middle, _ = name.split("/")
    return f"{first}/{middle[-1]}" if first == "masks" else first


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    # Without a time of its own the same pictures give the same file.
    archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


def _manifest(store: PictureStore, sources: Sequence[Source]) -> bytes:
    """Return the manifest with the rows of `sources` only, all columns kept."""
    reader = csv.DictReader(io.StringIO(store.read("manifest.csv").decode("utf-8"), newline=""))
    wanted = {s.folder for s in sources}
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, reader.fieldnames or ())
    writer.writeheader()
    writer.writerows(row for row in reader if row["folder"] in wanted)
    return text.getvalue().encode("utf-8")


def _in_chunks(tasks: Sequence[Task], quality: int) -> Iterator[Encoded]:
    """Encode in threads, and hold only a few hundred files."""
    left = iter(tasks)
    while chunk := list(islice(left, _CHUNK)):
        yield from in_threads(lambda task: task(quality), chunk)


def _fitting_quality(tasks: Sequence[Task], limit: int, out: Path) -> int:
    """Return the best quality with which a sample of the tasks promises a size within the limit."""
    sample = tasks[:: SAMPLE if len(tasks) > 20 * SAMPLE else 1]

    def fits(quality: int) -> bool:
        sizes = [sum(len(data) + _ENTRY for _, data in e) for e in _in_chunks(sample, quality)]
        return sum(sizes) * len(tasks) / max(len(sample), 1) <= _MARGIN * limit

    place = bisect_left(QUALITIES, True, key=fits)
    if place == len(QUALITIES):
        raise MamVideoError(f"{out}: the pictures do not fit {limit / 2**20:g} MiB; give a smaller `--side`, or fewer")
    return QUALITIES[place]


# ------------------------------------------------------------------------------------------------------ what is packed
def _tasks(store: PictureStore, sources: Sequence[Source], side: int, cutout_side: int) -> list[Task]:
    tasks: list[Task] = []
    for source in sources:
        kind, _, name = source.folder.partition("/")
        if kind == "masks":
            masks = {Path(n).stem: n for n in store.names(f"{source.folder}/mask")}
            for file in store.names(f"{source.folder}/img"):
                if Path(file).stem in masks and not _left_out(name, Path(file).stem):
                    tasks.append(_masked(store, source, file, masks[Path(file).stem], side))
        elif kind in ("cutouts", "backgrounds"):
            group = name if kind == "cutouts" else source.folder
            for file in store.names(source.folder):
                if not _left_out(group, Path(file).stem):
                    path = f"{source.folder}/{file}"
                    tasks.append(_cutout(store, path, path, cutout_side) if kind == "cutouts"
                                 else _background(store, path, side))  # fmt: skip
    return tasks


def _rendered_tasks(folder: Path, side: int) -> list[Task]:
    store = open_store(folder)
    names = [n for n in store.names(".") if n.endswith(".webp") and not _left_out(n.rsplit("_", 1)[0], Path(n).stem)]
    return [_cutout(store, f"./{n}", f"{RENDERED}/{n}", side) for n in names]


def _left_out(source: str, name: str) -> bool:
    """Return whether a held-out file is not packed. All frames of a clip are on the same side."""
    if not held_out(source, name):
        return False
    group = name.rsplit("_", 1)[0] if source.startswith("video_") else name
    return hashlib.sha256(f"pack/{source}/{group}".encode()).digest()[0] % 3 > 0


def _masked(store: PictureStore, source: Source, file: str, mask_file: str, side: int) -> Task:
    def encode(quality: int) -> Encoded:
        found = read_picture_and_mask(store, source, f"{source.folder}/img/{file}", f"{source.folder}/mask/{mask_file}")
        if found is None:
            return []
        mask = found.mask if source.has_ids else found.mask * np.uint8(255)
        stem = Path(file).stem
        return [
            (f"{source.folder}/img/{stem}.webp", _webp(_shrunk(found.picture, side), quality)),
            (f"{source.folder}/mask/{stem}.webp", _webp(np.dstack([_shrunk(mask, side, cv2.INTER_NEAREST)] * 3), 101)),
        ]

    return encode


def _background(store: PictureStore, path: str, side: int) -> Task:
    def encode(quality: int) -> Encoded:
        picture = decode(store, path, cv2.IMREAD_COLOR)[:, :, ::-1]
        return [(str(Path(path).with_suffix(".webp").as_posix()), _webp(_shrunk(picture, side), quality))]

    return encode


def _cutout(store: PictureStore, path: str, name: str, side: int) -> Task:
    def encode(quality: int) -> Encoded:
        # Fine hair is what cut-outs are for: their colours are kept a little better.
        rgba = _shrunk_rgba(read_rgba(store, path), side)
        return [(str(Path(name).with_suffix(".webp").as_posix()), _webp(rgba, min(quality + 10, 95)))]

    return encode


# ------------------------------------------------------------------------------------------------------------ pictures
def _shrunk(picture: np.ndarray, side: int, filter_: int = cv2.INTER_AREA) -> np.ndarray:
    """Shrink a picture (H, W[, C]) to a longest side of `side` pixels. A smaller one stays as it is."""
    h, w = picture.shape[:2]
    k = side / max(h, w)
    if k >= 1:
        return np.ascontiguousarray(picture)
    out: np.ndarray = cv2.resize(picture, (max(round(w * k), 1), max(round(h * k), 1)), interpolation=filter_)
    return out


def _shrunk_rgba(rgba: np.ndarray, side: int) -> np.ndarray:
    """Shrink a cut-out (H, W, 4), straight: colours count by their alpha, and keep their own where there is none."""
    if max(rgba.shape[:2]) <= side:
        return rgba
    alpha = rgba[:, :, 3:].astype(np.float32) / 255
    small = _shrunk(alpha[:, :, 0], side)[:, :, None]
    light = _shrunk(rgba[:, :, :3].astype(np.float32) * alpha, side)
    plain = _shrunk(rgba[:, :, :3], side).astype(np.float32)
    colour = np.where(small > 1 / 255, light / np.maximum(small, 1 / 255), plain)
    return np.rint(np.clip(np.dstack([colour, small * 255]), 0, 255)).astype(np.uint8)


def _webp(picture: np.ndarray, quality: int) -> bytes:
    """Encode (H, W, 3) RGB or (H, W, 4) RGBA. A quality above 100 is lossless; alpha always is."""
    code = cv2.COLOR_RGB2BGR if picture.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    ok, data = cv2.imencode(".webp", cv2.cvtColor(picture, code), [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert ok
    return data.tobytes()
