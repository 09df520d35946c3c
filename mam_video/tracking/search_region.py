"""Search region: the crop that is held still around the subject, and the boxes that lead to it."""

from __future__ import annotations

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.geometry import Box
from mam_video.core.settings import ViewSettings

_GROWING = 1.025  # a frame: a subject that grows faster gets room for what is to come
_AHEAD = 10  # frames
_MAX_ROOM = 1.3  # by which factor a new crop is made larger at most
_FILLED = 0.98  # of the share that the subject fills at least: a little more, for whole pixels


def held_crop(
    held: Crop | None,
    box: Box,
    frame_size: tuple[int, int],
    size: int,
    settings: ViewSettings,
    growth: float = 1.0,
) -> Crop:
    """Return the crop for a subject in `box`: the held one if the box still fits it, else a new one around the box.

    A subject that comes nearer shows new sides, and fills a tight crop before it is left: a new crop is larger then.

    Args:
        frame_size: (H, W).
        size: the side of the crop's square, in crop pixels.
        growth: by which factor the subject grows a frame.
    """
    inside = box.clipped(frame_size)
    if settings.roi == "frame" or (inside is None and held is None):
        return Crop.whole(frame_size, size)
    if held is not None and (inside is None or fits_crop(held, inside, frame_size, settings)):
        return held
    assert inside is not None
    grow = settings.grow
    if growth > _GROWING:
        # Not so large that the subject does not fill it, or every frame gets a crop of its own.
        most = max(grow, _FILLED / settings.fill) if settings.fill else grow * _MAX_ROOM
        grow = min(grow * min(growth**_AHEAD, _MAX_ROOM), most)
    return Crop.around(inside, frame_size, size, grow)


def fits_crop(crop: Crop, box: Box, frame_size: tuple[int, int], settings: ViewSettings) -> bool:
    """Return whether a box may stay in a crop: clear of its edges, unless they are the frame's, and not too small."""
    h, w = frame_size
    side = max(crop.width, crop.height)
    room = settings.room * side
    clear = (
        (crop.x0 == 0 or box.x0 - crop.x0 >= room)
        and (crop.y0 == 0 or box.y0 - crop.y0 >= room)
        and (crop.x0 + crop.width == w or crop.x0 + crop.width - box.x1 >= room)
        and (crop.y0 + crop.height == h or crop.y0 + crop.height - box.y1 >= room)
    )
    return clear and max(box.width, box.height) >= settings.fill * side


def keep_connected(box: Box, frame_size: tuple[int, int]) -> Box:
    """Push a box that has left the frame back, so that one pixel of it stays inside."""
    h, w = frame_size
    dx = max(1 - box.x1, 0.0) - max(box.x0 - (w - 1), 0.0)
    dy = max(1 - box.y1, 0.0) - max(box.y0 - (h - 1), 0.0)
    return box.moved(dx, dy)


def is_exiting(box: Box, speed: tuple[float, float], frame_size: tuple[int, int]) -> bool:
    """Return whether a box at the frame's border moves outwards there, by more than noise. `speed`: pixels a frame."""
    h, w = frame_size
    vx, vy = speed[0] / box.width, speed[1] / box.height
    noise = 0.02  # of the box's size a frame
    return (
        (box.x0 <= 1 and vx < -noise)
        or (box.y0 <= 1 and vy < -noise)
        or (box.x1 >= w - 1 and vx > noise)
        or (box.y1 >= h - 1 and vy > noise)
    )


def median_box_of(boxes: list[Box]) -> Box:
    """Return the side-wise median, which ignores one box that is far off."""
    x0, y0, x1, y1 = np.median([b.xyxy for b in boxes], axis=0)
    return Box(float(x0), float(y0), float(max(x1, x0 + 1)), float(max(y1, y0 + 1)))


def displacement(before: Box, now: Box) -> tuple[float, float]:
    """Return how far a subject has moved, (x, y), though an occluder may hold one side of its box.

    Along each axis: the movement of the quicker side; of sides that move apart, their sum.
    """

    def along(low: float, high: float) -> float:
        return low + high if low * high < 0 else max(low, high, key=abs)

    return along(now.x0 - before.x0, now.x1 - before.x1), along(now.y0 - before.y0, now.y1 - before.y1)


def limit_shrink(before: Box, box: Box, share: float) -> Box:
    """Move each side of `before` to `box`: outwards at once, inwards by at most `share` of its own size.

    A part of the subject that is hidden for a few frames comes out on the other side of the occluder: it has to be in
    the box then.
    """
    dx, dy = share * before.width, share * before.height
    return Box(
        min(box.x0, before.x0 + dx),
        min(box.y0, before.y0 + dy),
        max(box.x1, before.x1 - dx),
        max(box.y1, before.y1 - dy),
    )
