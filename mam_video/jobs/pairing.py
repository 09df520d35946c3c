"""Pair mattes with their ground truth."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from mam_video.core.errors import UsageError
from mam_video.media.alphas import Alphas, Pictures, find_alphas
from mam_video.media.still_images import is_picture, pictures_in, read_alpha

Named = tuple[str, np.ndarray, np.ndarray]  # frame, prediction and truth, (H, W) float32 in [0, 1]


def paired(prediction: Alphas, truth: Alphas, *, partial: bool = False) -> Iterator[Named]:
    """Yield the frames of two clips that belong together, in order.

    Raises: UsageError, where one has a frame more, or a frame's sizes differ; with `partial` the truth may have more.
    """
    if isinstance(prediction, Pictures) and isinstance(truth, Pictures):
        pairs = _by_name(prediction, truth, partial)
    else:
        pairs = _by_order(prediction, truth, partial)
    for name, ours, theirs in pairs:
        if ours.shape != theirs.shape:
            raise UsageError(
                f"frame {name}: {prediction.path} and {truth.path} differ in size: {sizes_of(ours.shape, theirs.shape)}"
            )
        yield name, ours, theirs


def _by_name(prediction: Pictures, truth: Pictures, partial: bool) -> Iterator[Named]:
    if len(prediction.files) == len(truth.files) == 1:
        yield truth.names[0], read_alpha(prediction.files[0]), read_alpha(truth.files[0])
        return
    ours: dict[Any, Path] = dict(zip(prediction.names, prediction.files, strict=True))
    theirs: dict[Any, Path] = dict(zip(truth.names, truth.files, strict=True))
    if not ours.keys() & theirs.keys() and prediction.numbers and truth.numbers:
        ours = dict(zip(prediction.numbers, prediction.files, strict=True))
        theirs = dict(zip(truth.numbers, truth.files, strict=True))
    surplus, missing = [k for k in ours if k not in theirs], [k for k in theirs if k not in ours]
    if surplus:
        raise UsageError(f"{prediction.path}: {some_of(surplus)} has no counterpart in {truth.path}")
    if missing and not partial:
        raise UsageError(f"{prediction.path}: holds nothing for {some_of(missing)} of {truth.path}")
    for key, file in theirs.items():
        if key in ours:
            yield file.stem, read_alpha(ours[key]), read_alpha(file)


def _by_order(prediction: Alphas, truth: Alphas, partial: bool) -> Iterator[Named]:
    for count, (ours, theirs) in enumerate(zip_longest(prediction, truth)):
        if ours is None and partial:
            return
        if ours is None or theirs is None:
            short, long = (prediction, truth) if ours is None else (truth, prediction)
            raise UsageError(f"{short.path} ends after {count} frames, {long.path} goes on; give clips of one length")
        yield theirs[0], ours[1], theirs[1]


def pair_clips(prediction: str | Path, truth: str | Path, partial: bool) -> list[tuple[str, Alphas, Alphas]]:
    """Pair the clips of two folders by name, or the only two; with `partial` the truth may have more.

    Raises: UsageError, a clip has no counterpart.
    """
    ours, theirs = find_alphas(prediction), find_alphas(truth)
    if len(ours) == len(theirs) == 1:
        return [(name, next(iter(ours.values())), clip) for name, clip in theirs.items()]
    surplus, missing = [n for n in ours if n not in theirs], [n for n in theirs if n not in ours]
    for path, other, clips in ((prediction, truth, ours), (truth, prediction, theirs)):
        if "" in clips:
            raise UsageError(f"{path} is one clip, {other} holds {len(theirs if clips is ours else ours)}")
    if surplus:
        raise UsageError(f"{prediction}: clip {some_of(surplus)} has no counterpart in {truth}")
    if missing and not partial:
        raise UsageError(f"{prediction}: holds no clip {some_of(missing)}, which {truth} has")
    return [(name, ours[name], clip) for name, clip in theirs.items() if name in ours]


def subjects_in_folder(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Find the alphas of each picture: those in the folder of its name, or the one file of its name."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; instances lie in a folder for each picture")
    found: dict[str, tuple[Path, ...]] = {}
    for entry in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        if entry.is_dir():
            found[entry.name] = tuple(pictures_in(entry))
        elif is_picture(entry):
            found[entry.stem] = (entry,)
    return found


def some_of(names: list[Any]) -> str:
    """Write 'a', or 'a' (and 3 more)."""
    return f"'{names[0]}'" + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def sizes_of(*shapes: tuple[int, ...]) -> str:
    """Write sizes as 1920x1080 and 960x540."""
    return " and ".join(f"{s[1]}x{s[0]}" for s in shapes)
