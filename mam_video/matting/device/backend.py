"""The stages after the model on its device: a frame's pixels go there once, and come back once as what is written.

On a GPU there are three streams: that of the model, one for uploads, and one for the stages here. Events order them, so
that the CPU waits for nothing but a frame's download, some frames later.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mam_video.core.frames import Frame, Matted, Record
from mam_video.core.settings import Settings, SmoothSettings
from mam_video.matting.backend import Delivered, Wanted
from mam_video.matting.device.compositing import divided, share_included, united
from mam_video.matting.device.edge_ops import apply_edge_ops, inverted, override, with_plate_alpha
from mam_video.matting.device.foreground import with_foreground
from mam_video.matting.device.frames import Part, ResidentCrop, ResidentMatted, upload_frame
from mam_video.matting.device.planes import colour_as_plate, planes
from mam_video.matting.device.quality import agreement, flicker
from mam_video.matting.device.temporal_filter import averaged
from mam_video.matting.device.upsample import refine
from mam_video.matting.edge_ops import NOT_FORCED, Overrides
from mam_video.matting.temporal_filter import Moving, Neighbours
from mam_video.models.batches import naming_device_failures
from mam_video.models.merge import compose_on_device
from mam_video.models.resident import ResidentFrame
from mam_video.models.transfers import Download, Ready, upload
from mam_video.motion.flow import Motion
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import ahead, closing_iter, ordered_map
from mam_video.tracking.types import TrackedFrame, worst_of

_UPLOADED_AHEAD = 2  # frames

_Moving = Moving[ResidentMatted]


class TorchBackend:
    """See `Backend`. One frame at a time in each stage: the device works on many pixels at once."""

    threads = 1

    def __init__(
        self,
        device: torch.device,
        settings: Settings,
        overrides: Overrides = NOT_FORCED,
        clock: StageTimer | None = None,
    ) -> None:
        self.device, self.settings, self.overrides = device, settings, overrides
        self.clock = clock or StageTimer()
        self._uploads = _stream(device)
        self._stages = _stream(device)

    @contextmanager
    def _working(self, name: str, stream: torch.cuda.Stream | None) -> Iterator[None]:
        """Count a stage's time, compute on a stream, and name what goes wrong on the device."""
        on_stream = nullcontext() if stream is None else torch.cuda.stream(stream)
        with self.clock.stage(name), naming_device_failures(str(self.device)), torch.inference_mode(), on_stream:
            yield

    def frames(self, frames: Iterable[tuple[Frame, Motion | None]]) -> Iterable[tuple[Frame, Motion | None]]:
        def uploaded() -> Generator[tuple[Frame, Motion | None], None, None]:
            with closing_iter(frames) as source:
                for frame, motion in source:
                    with self._working("upload", self._uploads):
                        resident = upload_frame(frame, motion, self.device)
                    yield resident, motion

        return ahead(uploaded(), _UPLOADED_AHEAD, "upload")

    def crops(
        self, batch: Sequence[TrackedFrame], levels: Tensor | None, logits: np.ndarray
    ) -> Generator[ResidentCrop, None, None]:
        with self._working("merge", None):  # on the model's own stream
            masks = upload(logits, self.device, "guides")
        for k, (item, mask) in enumerate(zip(batch, logits, strict=True)):
            with self._working("merge", None):
                if levels is not None and (mask > 0).any():
                    found = levels[k].to(self.device)
                    alpha = compose_on_device(found, masks[k], item.crop, self.settings.matte)
                else:
                    alpha = torch.zeros(item.crop.height, item.crop.width, device=self.device)
                crop = ResidentCrop(item, alpha, masks[k], Ready(self.device))
            yield crop

    def refined(self, crop: ResidentCrop) -> _Moving:
        item, view, frame = crop.tracked, crop.tracked.crop, resident(crop.tracked.frame)
        part = Part(view.y0, view.y0 + view.height, view.x0, view.x0 + view.width)
        with self._working("refine", self._stages):
            frame.wait()
            crop.ready.wait(crop.alpha, crop.mask)
            agrees = agreement(crop.alpha, crop.mask, view)
            whole = torch.zeros(frame.size, device=self.device)
            whole[part.slices] = refine(crop.alpha, frame.picture[part.slices], view, self.settings.refine)
            matted = ResidentMatted(frame, whole, item.record, part, agreement=agrees)
        return Moving(matted, item.motion)

    def averaged(self, view: Neighbours[ResidentMatted], settings: SmoothSettings) -> ResidentMatted:
        with self._working("smooth", self._stages):
            return averaged(view, settings)

    def flickers(self, mattes: Iterable[_Moving]) -> Generator[ResidentMatted, None, None]:
        past: Tensor | None = None
        for matted, motion in mattes:
            with self._working("judge", self._stages):
                value, past = flicker(past, matted.alpha, None if motion is None else matted.frame.motion)
            yield replace(matted, flicker=value)

    def edited(self, row: Sequence[ResidentMatted]) -> ResidentMatted:
        settings, overrides = self.settings, self.overrides
        with self._working("finish", self._stages):
            looks = [settings.finish_of(part.record.subject) for part in row]
            if len(row) == 1:
                return with_plate_alpha(apply_edge_ops(row[0], looks[0], overrides))
            # Of several, `include` and `invert` hold for all together, so they come after each one's own operations.
            own, looks = replace(overrides, include=None), [replace(look, invert=False) for look in looks]
            parts = divided([apply_edge_ops(*each, own) for each in zip(divided(row), looks, strict=True)])
            if overrides.include is not None:
                index = row[0].frame.index
                include = override(overrides.include.at(index), self.device)
                if overrides.exclude is not None:  # where both say something, `exclude` holds
                    include = include * (1 - override(overrides.exclude.at(index), self.device))
                parts = divided(share_included(parts, include))
            if not settings.finish.invert:
                return united([with_plate_alpha(part) for part in parts])
            together = inverted(united(parts))
            return replace(with_plate_alpha(together), parts=tuple(with_plate_alpha(part) for part in together.parts))

    def delivered(
        self, mattes: Iterable[ResidentMatted], wanted: Wanted
    ) -> Generator[Callable[[], Delivered], None, None]:
        with closing(ordered_map(partial(self._begun, wanted=wanted), mattes, 1, "deliver")) as begun:
            for delivery in begun:
                yield partial(self._ended, delivery)

    def _begun(self, matted: ResidentMatted, wanted: Wanted) -> _Delivery:
        with self._working("foreground", self._stages):
            parts = tuple(with_foreground(p) if p.record.subject in wanted.coloured else p for p in matted.parts)
            matted = replace(with_foreground(matted) if None in wanted.coloured else matted, parts=parts)
        with self._working("convert", self._stages):
            return _Delivery.begun(matted, wanted)

    def _ended(self, delivery: _Delivery) -> Delivered:
        with self._working("download", self._stages):
            return delivery.delivered()


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return a stream of one's own on a GPU; elsewhere there is none."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def resident(frame: Frame) -> ResidentFrame:
    """Return a frame that `TorchBackend.frames` uploaded."""
    assert isinstance(frame, ResidentFrame), "the frame was not uploaded"
    return frame


_Key = tuple[str, int]  # what it is, and of which matte (0: all together, then each subject) or output


@dataclass(frozen=True, slots=True)
class _Delivery:
    """A frame on its way to the CPU.

    mattes  all together, then each of several subjects
    keys    what the download's arrays are
    """

    mattes: tuple[ResidentMatted, ...]
    outputs: int
    keys: list[_Key]
    download: Download = field(repr=False)

    @classmethod
    def begun(cls, matted: ResidentMatted, wanted: Wanted) -> _Delivery:
        """Make all that is wanted of a frame, and begin its one download."""
        mattes = (matted, *matted.parts)
        of: dict[str | None, int] = {None: 0, **{part.record.subject: k for k, part in enumerate(matted.parts, 1)}}
        tensors: dict[_Key, Tensor | None] = {}
        for k, each in enumerate(mattes):
            tensors |= {
                ("alpha", k): each.alpha, ("coverage", k): each.coverage, ("matte", k): each.matte,
                ("agreement", k): each.agreement, ("flicker", k): each.flicker,
            }  # fmt: skip
        for i, (subject, recipe) in enumerate(wanted.recipes):
            each = mattes[of[subject]]
            if recipe is not None and not each.frame.plate.dtype.is_floating_point:
                tensors["planes", i] = planes(each, recipe)
            elif each.colour is not None:
                tensors["colour", of[subject]] = colour_as_plate(each.colour, each.frame.plate.dtype)
        there = {key: tensor for key, tensor in tensors.items() if tensor is not None}
        return cls(mattes, len(wanted.recipes), list(there), Download(list(there.values()), "frame"))

    def delivered(self) -> Delivered:
        """Wait for the download, and put the frame together."""
        found = dict(zip(self.keys, self.download.arrays(), strict=True))
        records = [self._record(k, found) for k in range(len(self.mattes))]
        if len(self.mattes) > 1:
            records[0] = worst_of(records[1:])
        matted = self._matted(records, found, coloured=False)
        planes_of = tuple(_planes(found.get(("planes", i))) for i in range(self.outputs))
        return Delivered(matted, self._matted(records, found, coloured=True), planes_of)

    def _record(self, k: int, found: dict[_Key, np.ndarray]) -> Record:
        values: dict[str, Any] = {}
        for name in ("agreement", "flicker"):
            if (name, k) in found:
                values[name] = float(found[name, k])
        return replace(self.mattes[k].record, **values)

    def _matted(self, records: Sequence[Record], found: dict[_Key, np.ndarray], *, coloured: bool) -> Matted:
        mattes = []
        for k, record in enumerate(records):
            frame = self.mattes[k].frame.host
            colour = found.get(("colour", k)) if coloured else None
            if colour is not None:
                frame = replace(frame, rgb=colour.view(frame.rgb.dtype))
            mattes.append(
                Matted(frame, found["alpha", k], record, found.get(("coverage", k)), (), found.get(("matte", k)))
            )
        return replace(mattes[0], parts=tuple(mattes[1:]))


def _planes(stack: np.ndarray | None) -> list[np.ndarray] | None:
    return None if stack is None else list(stack.view(np.uint16))
