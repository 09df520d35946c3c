"""Matte single pictures: an array or a file in, an alpha out; many files in, a file for each out."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.frames import Frame, Matted
from mam_video.core.geometry import Box
from mam_video.core.settings import Settings
from mam_video.matting.pipeline import matte_frames
from mam_video.media import ClipInfo, open_clip
from mam_video.media.sequence.image_formats import SUFFIXES
from mam_video.media.still_images import by_number
from mam_video.models.base import Model
from mam_video.models.registry import load_model
from mam_video.prompts.prompt import Prompt, as_prompt
from mam_video.runtime.os_errors import reason

_RATE: Final = Fraction(1, 24)  # of a clip of one frame; it has no effect


def matte_image(
    picture: np.ndarray | str | Path,
    prompt: Prompt | Box | tuple[float, float, float, float],
    *,
    model: Model | str | None = None,
    settings: Settings | None = None,
) -> np.ndarray:
    """Matte the subject that a prompt shows in one picture.

    Args:
        picture: (H, W, 3) uint8 or uint16 RGB, or float display-referred in [0, 1]; or a file of a picture.
        prompt: a box, points or both, in the picture's pixels; a bare box or its four numbers do too.
        model: a loaded one, which saves time with many pictures, or a name; the settings' where None.
        settings: all knobs; the defaults where None.
    Returns: alpha, (H, W) float32 in [0, 1].
    Raises: MamVideoError, the picture cannot be read, or the prompt lies outside it; TypeError, the array has another
        shape or type.
    """
    settings = settings or Settings()
    if isinstance(model, str):
        settings, model = settings.with_values({"model": {"name": model}}, "model"), None
    if isinstance(picture, np.ndarray):
        frame = Frame(0, 0, _RATE, picture)
    else:
        with open_clip(picture, settings.input) as reader:
            _check_one(reader.info)
            frame = next(iter(reader.frames()))
    one = as_prompt(prompt)
    if not isinstance(one, Prompt):
        raise TypeError("a picture takes one prompt: a Prompt, a Box or four numbers")
    one.check_inside(frame.size)
    model = load_model(settings.model) if model is None else model
    (matted,) = _matted(frame, one, model, settings)
    return matted.alpha


def find_pictures(names: Iterable[str | Path]) -> list[Path]:
    """The pictures that are named, and those in the folders that are named, each once.

    Those of a folder come in the order of their names, with numbers in these as numbers.

    Raises: UsageError, a name is of no picture, or a folder has none; MediaError, a folder cannot be read.
    """
    found: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            try:
                inside = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
            except OSError as error:
                raise MediaError(f"{path}: cannot be read ({reason(error)})") from error
            if not inside:
                raise UsageError(f"{path}: no picture is in this folder ({', '.join(sorted(SUFFIXES))})")
            found.update(dict.fromkeys(sorted(inside, key=by_number)))
        elif not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        elif path.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"{path}: not a picture ({', '.join(sorted(SUFFIXES))}); for a movie use `mam-video matte`"
            )
        else:
            found[path] = None
    if not found:
        raise UsageError("no picture is named")
    return list(found)


def _check_one(info: ClipInfo) -> None:
    """Raises: UsageError, a clip is not one picture."""
    if info.numbers is None or len(info.numbers) != 1:
        raise UsageError(f"{info.path}: not one picture; for a clip use matte_clip")


def _matted(frame: Frame, prompt: Prompt, model: Model, settings: Settings) -> list[Matted]:
    return list(matte_frames([frame], prompt, model, settings))
