"""The contract of what computes the stages after the model.

`opencv_backend.py` computes them on the CPU, `device/backend.py` in PyTorch on the model's device, and `backend_of` of
`pipeline.py` chooses. Both do the same to a frame. What travels between their stages is their own, arrays or tensors; a
frame comes out of either as `Matted`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np

from mam_video.core.frames import Frame, Matted
from mam_video.core.planes import PlaneRecipe
from mam_video.core.settings import SmoothSettings
from mam_video.matting.temporal_filter import AnyMatte, Moving, Neighbours
from mam_video.motion.flow import Motion
from mam_video.tracking.types import TrackedFrame

if TYPE_CHECKING:
    import torch

C = TypeVar("C")  # a tracked frame with the alpha of its crop
M = TypeVar("M", bound=AnyMatte)  # a frame with its alpha


class Wanted(NamedTuple):
    """What the outputs of a run take.

    coloured  subjects whose own colour is estimated; None: all together
    recipes   of each output: the subject that it is of (None: all together), and how its planes are made, or None where
              only its writer can make what it writes
    """

    coloured: frozenset[str | None] = frozenset()
    recipes: tuple[tuple[str | None, PlaneRecipe | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Delivered:
    """A frame that has come out of the stages.

    matted    with the plate's pixels
    coloured  with the subject's own colour, as far as an output takes it from there
    planes    of each output the arrays (H, W) uint16 that its recipe says, or None
    """

    matted: Matted
    coloured: Matted
    planes: tuple[list[np.ndarray] | None, ...]


class Backend(Protocol[C, M]):
    """The stages after the model. Each is pure but for the clock: any thread; a stage sees its frames in order.

    threads  how many frames each stage works on at once
    """

    @property
    def threads(self) -> int: ...

    def frames(self, frames: Iterable[tuple[Frame, Motion | None]]) -> Iterable[tuple[Frame, Motion | None]]:
        """Bring frames, each with the motion that leads to it, to where the stages work."""
        ...

    def crops(self, batch: Sequence[TrackedFrame], levels: torch.Tensor | None, logits: np.ndarray) -> Iterable[C]:
        """Compose the alpha of each crop.

        Args:
            batch: frames of one crop.
            levels: (count, levels, size, size), as `Model.matte` returns them; None where no frame has a mask.
            logits: (count, m, m) float32, their masks. An empty one gives an alpha of 0.
        """
        ...

    def refined(self, crop: C) -> Moving[M]:
        """Bring a crop's alpha to the plate's resolution and place, and measure how well it agrees with its mask."""
        ...

    def averaged(self, view: Neighbours[M], settings: SmoothSettings) -> M:
        """Average the matte at the centre with those around it."""
        ...

    def flickers(self, mattes: Iterable[Moving[M]]) -> Generator[M, None, None]:
        """Measure how much each alpha flickers; the alphas pass unchanged."""
        ...

    def edited(self, row: Sequence[M]) -> M:
        """Apply the edge operations to each subject of a frame, and unite them."""
        ...

    def delivered(self, mattes: Iterable[M], wanted: Wanted) -> Generator[Callable[[], Delivered], None, None]:
        """Estimate colour, and give each frame to the CPU: a call of what is yielded waits for it, in any thread."""
        ...
