"""Make a track of masks or trimaps that another program made. Nothing is tracked; the run follows it as a saved track.

The clip is decoded once before the run, for its times, and to find a mask that is missing or of the wrong size before
long work begins. Crops are held from frame to frame as the tracker holds them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.errors import UsageError
from mam_video.core.frames import Record, State
from mam_video.core.geometry import ALL_SUBJECT, Box, box_of_mask
from mam_video.core.settings import Settings
from mam_video.matting.edge_ops import SURE
from mam_video.media import ClipInfo, Reader
from mam_video.media.mask_reader import Masks
from mam_video.motion.flow import with_motion
from mam_video.motion.shot_detection import CutFinder
from mam_video.prompts.prompt import Prompt
from mam_video.tracking.mask_ops import mask_logits
from mam_video.tracking.search_region import held_crop
from mam_video.tracking.track_file import TrackWriter
from mam_video.tracking.types import MaskObservation, TrackedFrame


@dataclass(frozen=True)
class _Elsewhere:
    """Stands in a track file for the model that found it; `Track.follow` adapts the masks to any model's size."""

    name: str = "masks"
    view_size: int = 1024
    mask_size: int = 256


_MAKER: Final = _Elsewhere()


def track_masks(
    reader: Reader,
    masks: Masks,
    path: Path,
    settings: Settings,
    cuts: CutFinder,
    *,
    trimaps: bool = False,
    stop: int | None = None,
) -> None:
    """Write the track of the masks to `path`, for the frames from `masks.first` on, before `stop`.

    Args:
        masks: values above half are subject; with `trimaps` 0 and 1 are certain, and the edge runs amid the grey.
        cuts: finds the cuts; nothing is smoothed across them.
    Raises: UsageError or MediaError, a frame has no mask, a mask has another size than the frame, or all masks are
        empty or full.
    """
    if masks.still and reader.info.frames_in_header != 1:
        raise UsageError(
            f"{masks.option} {masks.source}: is one picture; give one for each frame, as a pattern (name.%04d.png), a "
            "folder or a movie"
        )
    view: Crop | None = None
    box: Box | None = None
    brightest, darkest, seen = 0.0, 1.0, 0
    with TrackWriter(path, reader.info.size, _MAKER, settings.as_dict()) as writer:
        for frame, motion in cuts.watch(with_motion(reader.frames(masks.first, stop), settings.motion)):
            mask = masks.at(frame.index)
            brightest, darkest = max(brightest, float(mask.max())), min(darkest, float(mask.min()))
            covered = np.asarray((mask > SURE).astype(np.float32)) if trimaps else mask
            box = box_of_mask(covered) or box
            around = box or Box(0, 0, reader.info.width, reader.info.height)
            view = held_crop(view, around, reader.info.size, _MAKER.view_size, settings.view)
            logits = mask_logits(middle_of_trimap(mask) if trimaps else mask, view, _MAKER.mask_size)
            area = float((mask > 0.5).mean())
            record = Record(frame.index, frame.pts, State.PROMPTED, around, 1.0, area)
            record = replace(record, cut=frame.index in cuts.found)
            writer.write(TrackedFrame(frame, motion, MaskObservation(record, view, logits)))
            seen += 1
        if not seen:
            raise UsageError(f"{masks.option} {masks.source}: holds no mask of a frame of this clip")
        if box is None:
            raise UsageError(
                f"{masks.option} {masks.source}: no pixel of them is brighter than half (the brightest is "
                f"{brightest:.3g} of 1); the subject must be white, of 8 bits 255"
            )
        if darkest > 0.5:
            raise UsageError(f"{masks.option} {masks.source}: {ALL_SUBJECT}")


def middle_of_trimap(trimap: np.ndarray) -> np.ndarray:
    """Make a soft mask of a trimap, both (H, W) float32: in the grey it rises evenly from black to white.

    Where nothing is white, all the grey counts as subject.
    """
    outside, inside = trimap <= SURE, trimap >= 1 - SURE
    if not inside.any():
        return (~outside).astype(np.float32)
    to_inside = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
    if not outside.any():
        return np.asarray(to_inside == 0, np.float32)
    to_outside = cv2.distanceTransform((~outside).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(to_outside / (to_outside + to_inside), np.float32)


def prompt_of_mask(source: str | Path, info: ClipInfo, option: str = "--mask") -> Prompt:
    """Read one picture as a mask prompt; `option` is named in errors.

    Raises: MediaError or UsageError, it does not fit the clip.
    """
    with Masks(source, info, option) as masks:
        if not masks.still:
            raise UsageError(f"{option} {source}: give one picture, of this frame; --masks takes one for each")
        return Prompt.of_mask(masks.at(0), f"{option} {source}")
