"""The stages after the model on the CPU: OpenCV and NumPy, several frames at once in threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mam_video.core.frames import Frame, Matted
from mam_video.core.settings import Settings, SmoothSettings
from mam_video.matting.backend import Delivered, Wanted
from mam_video.matting.compositing import divided, share_included, united
from mam_video.matting.edge_ops import NOT_FORCED, Overrides, apply_edge_ops, inverted, with_plate_alpha
from mam_video.matting.foreground import with_foreground
from mam_video.matting.quality import agreement, measure_flicker
from mam_video.matting.temporal_filter import MovingMatte, Neighbours, averaged
from mam_video.matting.upsample import refine
from mam_video.motion.flow import Motion
from mam_video.runtime.cores import worker_count
from mam_video.runtime.stage_timer import StageTimer
from mam_video.tracking.types import TrackedFrame

if TYPE_CHECKING:
    import torch


class CropMatte(NamedTuple):
    """A tracked frame with the alpha of its crop, (height, width) float32 in [0, 1]."""

    tracked: TrackedFrame
    alpha: np.ndarray


@dataclass(frozen=True)
class OpenCVBackend:
    """The stages on the CPU, in OpenCV and NumPy. See `Backend`."""

    settings: Settings
    overrides: Overrides = NOT_FORCED
    clock: StageTimer = field(default_factory=StageTimer)
    threads: int = field(default_factory=worker_count)

    def frames(self, frames: Iterable[tuple[Frame, Motion | None]]) -> Iterable[tuple[Frame, Motion | None]]:
        return frames

    def crops(
        self, batch: Sequence[TrackedFrame], levels: torch.Tensor | None, logits: np.ndarray
    ) -> Generator[CropMatte, None, None]:
        import torch

        from mam_video.models.merge import compose_alpha

        for k, (item, mask) in enumerate(zip(batch, logits, strict=True)):
            with self.clock.stage("merge"), torch.inference_mode():
                if levels is not None and (mask > 0).any():
                    alpha = compose_alpha(levels[k], mask, item.crop, self.settings.matte)
                else:  # no mask, no subject: whatever the model makes of an empty mask is noise
                    alpha = np.zeros((item.crop.height, item.crop.width), np.float32)
            yield CropMatte(item, alpha)

    def refined(self, crop: CropMatte) -> MovingMatte:
        item, alpha = crop
        view, frame = item.crop, item.frame
        with self.clock.stage("refine"):
            record = replace(item.record, agreement=agreement(alpha, item.logits, view))
            picture = frame.rgb8[view.y0 : view.y0 + view.height, view.x0 : view.x0 + view.width]
            whole = view.paste(refine(alpha, picture, view, self.settings.refine), frame.size)
        return MovingMatte(Matted(frame, whole, record), item.motion)

    def averaged(self, view: Neighbours[Matted], settings: SmoothSettings) -> Matted:
        return averaged(view, settings)

    def flickers(self, mattes: Iterable[MovingMatte]) -> Generator[Matted, None, None]:
        return measure_flicker(mattes, self.clock)

    def edited(self, row: Sequence[Matted]) -> Matted:
        settings, overrides, clock = self.settings, self.overrides, self.clock
        if len(row) == 1:
            return with_plate_alpha(apply_edge_ops(row[0], settings.finish_of(row[0].record.subject), overrides, clock))
        # Of several, `include` and `invert` hold for all together, so they come after each one's own operations.
        own = replace(overrides, include=None)
        looks = [replace(settings.finish_of(part.record.subject), invert=False) for part in row]
        parts = divided([apply_edge_ops(*each, own, clock) for each in zip(divided(row), looks, strict=True)])
        if overrides.include is not None:
            include = overrides.include.at(row[0].frame.index)
            if overrides.exclude is not None:  # where both say something, `exclude` holds
                include = include * (1 - overrides.exclude.at(row[0].frame.index))
            parts = divided(share_included(parts, include))
        if not settings.finish.invert:
            return united([with_plate_alpha(part) for part in parts])
        together = inverted(united(parts))
        return replace(with_plate_alpha(together), parts=tuple(with_plate_alpha(part) for part in together.parts))

    def delivered(self, mattes: Iterable[Matted], wanted: Wanted) -> Generator[Callable[[], Delivered], None, None]:
        for matted in mattes:
            yield partial(self._delivered, matted, wanted)

    def _delivered(self, matted: Matted, wanted: Wanted) -> Delivered:
        no_planes = (None,) * len(wanted.recipes)
        if not wanted.coloured:
            return Delivered(matted, matted, no_planes)
        with self.clock.stage("foreground"):
            parts = tuple(with_foreground(p) if p.record.subject in wanted.coloured else p for p in matted.parts)
            coloured = replace(with_foreground(matted) if None in wanted.coloured else matted, parts=parts)
        return Delivered(matted, coloured, no_planes)
