"""Preview one frame, and estimate time and disk for the whole clip by processing a few frames.

They go through the whole recipe, into a temporary folder. Stages overlap, so the pace is that of the slower thread: the
model's or the writer's. The first frame is left out, since it waits for all that is done once.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from mam_video.core.errors import UsageError
from mam_video.core.frames import Matted
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.matting.foreground import with_foreground
from mam_video.matting.pipeline import batch_size
from mam_video.media import Reader, expected_bytes, open_clip, parse_output
from mam_video.media.open import is_resumable
from mam_video.models.base import Embedding, Model
from mam_video.models.registry import load_model
from mam_video.prompts.prompt import Prompt, Prompts
from mam_video.report.run import RunReport
from mam_video.report.sheet import over_colour

_FRAMES: Final = 6  # that go the whole way; on a GPU two batches and the next one's first
_SQUARES: Final = 48  # of the checker along the longer side
_LIGHT, _DARK = 168, 104


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of an output per frame; `measured` by encoding some, else estimated from a table of real plates."""

    bytes_a_frame: float
    measured: bool


@dataclass(frozen=True, slots=True)
class Preview:
    """The result of `preview`.

    matted    the previewed frame
    load      seconds to load the model
    pace      seconds a frame, file to file; None where the clip has no other frame to measure it by
    measured  frames that were processed
    sizes     of each planned output, in order
    """

    matted: Matted
    load: float
    pace: float | None
    measured: int
    sizes: tuple[Size, ...]

    def seconds(self, frames: int) -> float | None:
        """Estimate the seconds for so many frames; None where the pace is not known."""
        return None if self.pace is None else self.load + self.pace * frames


def preview(
    source: str | Path | Reader,
    outputs: Sequence[str | Path],
    prompt: Prompt | Prompts | Sequence[Prompts] | None,
    settings: Settings | None = None,
    *,
    index: int = 0,
    part: FrameRange | None = None,
    on_first: Callable[[Matted], None] | None = None,
    **more: Any,
) -> Preview:
    """Matte frame `index` and a few after it, and measure time and size.

    Args:
        source: as for `matte_clip`; an opened reader stays open.
        outputs: what the run will write, as for `matte_clip`; the preview writes nothing there.
        prompt: where the subject is in frame `index`, or the prompts of several subjects there.
        part: the range that the run will have; frames after it are not used. None: the whole clip.
        on_first: called with the previewed frame as soon as it is matted, before the pace is measured.
        more: track_from, masks, trimaps, include, exclude: as for `matte_clip`.
    Raises: as `matte_clip`.
    """
    settings = settings or Settings()
    start = time.perf_counter()
    model = _Paced(load_model(settings.model))
    load = time.perf_counter() - start
    batch = batch_size(model, settings)
    stop = index + max(_FRAMES, 2 * batch + 1)
    if part is not None and part.stop is not None and index < part.stop:
        stop = min(stop, part.stop)
    settings = replace(settings, output=replace(settings.output, verify=False, overwrite=True))
    kept: list[Matted] = []
    written: list[float] = []

    def on_frame(matted: Matted, report: RunReport) -> None:
        if not kept:
            kept.append(matted)
            if on_first is not None:
                on_first(matted)
        written.append(time.perf_counter())

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mam-video-"))
        reader = stack.enter_context(open_clip(source, settings.input)) if isinstance(source, str | Path) else source
        names = [_beside(Path(folder) / str(k), output) for k, output in enumerate(outputs)]
        known = reader.info.frames_in_header
        if known is not None and index >= known:
            raise UsageError(f"{reader.info.path}: holds no frame {index}; it has {known} of them, counted from 0")
        matte_clip(
            reader, names, prompt, settings, model=model, frames=FrameRange(index, stop), masks_of=part or FrameRange(),
            on_frame=on_frame, **more,
        )  # fmt: skip
        sizes = []
        for k, output in enumerate(outputs):
            table = expected_bytes(output, reader.info, 1)
            if is_resumable(output) or table is None:
                files = [f for f in (Path(folder) / str(k)).rglob("*") if f.is_file()]
                sizes.append(Size(sum(f.stat().st_size for f in files) / len(written), measured=True))
            else:  # frames that need each other: a few of them tell little
                sizes.append(Size(table, measured=False))
    paces = [p for p in (model.pace, _pace([(t, 1) for t in written])) if p is not None]
    return Preview(kept[0], load, max(paces) if paces else None, len(written), tuple(sizes))


def over_checker(matted: Matted) -> np.ndarray:
    """Lay a frame, as it will be written, over a checker; (H, W, 3) uint8 RGB."""
    return over_colour(with_foreground(matted).frame, matted.alpha, checker(matted.frame.size))


def checker(size: tuple[int, int]) -> np.ndarray:
    """Draw grey squares for a picture of `size` (H, W); (H, W, 3) uint8."""
    h, w = size
    side = max(round(max(h, w) / _SQUARES), 1)
    odd = (np.arange(h)[:, None] // side + np.arange(w) // side) % 2
    grey = np.where(odd == 1, np.uint8(_DARK), np.uint8(_LIGHT))
    return np.repeat(grey[..., None], 3, axis=2)


def _beside(folder: Path, output: str | Path) -> str:
    """Name an output of the same kind in a folder of its own."""
    name, kind = parse_output(output)
    folder.mkdir()
    own = "" if name.endswith(("/", "\\")) else Path(name).name
    return f"{folder}/{own}:{kind.name}"


def _pace(ends: Sequence[tuple[float, int]]) -> float | None:
    """Return seconds per frame, of times at which frames were done and how many; counting starts at the first."""
    frames = sum(count for _, count in ends[1:])
    return (ends[-1][0] - ends[0][0]) / frames if frames else None


class _Paced:
    """A model that records when each batch was matted; all else passes through."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.name, self.weights = model.name, model.weights
        self.view_size, self.mask_size = model.view_size, model.mask_size
        self._ends: list[tuple[float, int]] = []

    @property
    def pace(self) -> float | None:
        return _pace(self._ends)

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        levels = self._model.matte(embedding, logits)
        self._ends.append((time.perf_counter(), embedding.count))
        return levels

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        return self._model.embed(pictures)

    def segment(self, embedding: Embedding, index: int, prompt: Any) -> Any:
        return self._model.segment(embedding, index, prompt)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
