"""Where to look for the subject: the query box and the crop that is held still."""

from __future__ import annotations

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.geometry import Box
from mam_video.core.settings import ViewSettings

# Masks and boxes


def held_view(view: Crop | None, box: Box, frame_size: tuple[int, int], size: int, settings: ViewSettings) -> Crop:
    """The view for a subject in `box`: the one that is held where it still fits, else a new one around the box."""
    inside = box.clipped(frame_size)
    if settings.roi == "frame" or (inside is None and view is None):
        return Crop.whole(frame_size, size)
    if view is not None and (inside is None or fits_crop(view, inside, frame_size, settings)):
        return view
    assert inside is not None
    return Crop.around(inside, frame_size, size, settings.grow)


def fits_crop(view: Crop, box: Box, frame_size: tuple[int, int], settings: ViewSettings) -> bool:
    """Whether a box may stay in a view: clear of its edges (the frame's own edges are free) and not too small in it."""
    h, w = frame_size
    side = max(view.width, view.height)
    room = settings.room * side
    clear = (
        (view.x0 == 0 or box.x0 - view.x0 >= room)
        and (view.y0 == 0 or box.y0 - view.y0 >= room)
        and (view.x0 + view.width == w or view.x0 + view.width - box.x1 >= room)
        and (view.y0 + view.height == h or view.y0 + view.height - box.y1 >= room)
    )
    return clear and max(box.width, box.height) >= settings.fill * side


def keep_connected(box: Box, frame_size: tuple[int, int]) -> Box:
    """The box, pushed back where it has left the frame so that a pixel of it stays inside."""
    h, w = frame_size
    dx = max(1 - box.x1, 0.0) - max(box.x0 - (w - 1), 0.0)
    dy = max(1 - box.y1, 0.0) - max(box.y0 - (h - 1), 0.0)
    return box.moved(dx, dy)


def is_exiting(box: Box, speed: tuple[float, float], frame_size: tuple[int, int]) -> bool:
    """Whether a box at the frame's border moves outwards there, by more than noise (a share of its size)."""
    h, w = frame_size
    vx, vy = speed[0] / box.width, speed[1] / box.height
    bar = 0.02
    return (
        (box.x0 <= 1 and vx < -bar)
        or (box.y0 <= 1 and vy < -bar)
        or (box.x1 >= w - 1 and vx > bar)
        or (box.y1 >= h - 1 and vy > bar)
    )


def median_box_of(boxes: list[Box]) -> Box:
    """Side-wise median: one opinion that is far off has no say."""
    x0, y0, x1, y1 = np.median([b.xyxy for b in boxes], axis=0)
    return Box(float(x0), float(y0), float(max(x1, x0 + 1)), float(max(y1, y0 + 1)))


def displacement(before: Box, now: Box) -> tuple[float, float]:
    """How far a subject has moved, of which one side may have stood still at the edge of what hides it.

    Along each axis: what both sides moved together, else what the quicker one did.
    """

    def along(low: float, high: float) -> float:
        return low + high if low * high < 0 else max(low, high, key=abs)

    return along(now.x0 - before.x0, now.x1 - before.x1), along(now.y0 - before.y0, now.y1 - before.y1)


def limit_shrink(reach: Box, box: Box, share: float) -> Box:
    """`reach` on its way to `box`: a side moves out at once, and in by at most `share` of the reach's own size.

    What hides a part of the subject for a few frames shows it again on the other side: that has to be in the box.
    """
    dx, dy = share * reach.width, share * reach.height
    return Box(
        min(box.x0, reach.x0 + dx), min(box.y0, reach.y0 + dy), max(box.x1, reach.x1 - dx), max(box.y1, reach.y1 - dy)
    )
