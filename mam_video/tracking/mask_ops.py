"""Warp, measure and clean masks given as logits."""

from __future__ import annotations

import cv2
import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.geometry import Box
from mam_video.motion.flow import Motion
from mam_video.prompts.prompt import Prompt

BACKGROUND_LOGIT = -8.0  # logit of what a mask says nothing about: surely background


def mask_logits(mask: np.ndarray, view: Crop, m: int) -> np.ndarray:
    """A mask of the whole frame, (H, W) float32 in [0, 1], as logits over a view's square: (m, m) float16.

    Each cell is asked for the share of it that the mask covers.
    """
    h, w = view.content
    part = np.ascontiguousarray(mask[view.y0 : view.y0 + view.height, view.x0 : view.x0 + view.width])
    square = np.zeros((view.size, view.size), np.float32)
    way = cv2.INTER_AREA if h <= view.height else cv2.INTER_LINEAR
    square[:h, :w] = cv2.resize(part, (w, h), interpolation=way)
    share = cv2.resize(square, (m, m), interpolation=cv2.INTER_AREA)
    least = np.float32(1 / (1 + np.exp(-BACKGROUND_LOGIT)))
    share = np.clip(share, least, 1 - least)
    return np.log(share / (1 - share)).astype(np.float16)


def carried_logits(logits: np.ndarray, old: Crop, new: Crop, motion: Motion, m: int) -> np.ndarray:
    """A mask of the frame before, (n, n) over the square of view `old`, moved into the square of `new`: (m, m) float32.

    One resampling through view, flow and view. What comes from outside the frame repeats the frame's border; what comes
    from outside the old view is surely background.
    """
    x, y = cell_centres_of(new, m)
    dx, dy = motion.at(x, y)
    h, w = motion.frame_size
    x = np.clip(x + dx, 0.5, w - 0.5)
    y = np.clip(y + dy, 0.5, h - 0.5)
    carried = sample_logits(logits, old, x, y)
    rows, columns = new.content
    cell = new.size / m
    carried[int(np.ceil(rows / cell)) :] = BACKGROUND_LOGIT
    carried[:, int(np.ceil(columns / cell)) :] = BACKGROUND_LOGIT
    return carried


def agreement(a: np.ndarray, view_a: Crop, b: np.ndarray, view_b: Crop) -> float:
    """IoU of two masks of one frame, (m, m) logits over the squares of their views; 1 where both are empty."""
    x0, y0 = min(view_a.x0, view_b.x0), min(view_a.y0, view_b.y0)
    x1 = max(view_a.x0 + view_a.width, view_b.x0 + view_b.width)
    y1 = max(view_a.y0 + view_a.height, view_b.y0 + view_b.height)
    n = 2 * max(a.shape[0], b.shape[0])
    x, y = np.meshgrid(x0 + (np.arange(n) + 0.5) * ((x1 - x0) / n), y0 + (np.arange(n) + 0.5) * ((y1 - y0) / n))
    x, y = x.astype(np.float32), y.astype(np.float32)
    one, other = (
        sample_logits(a.astype(np.float32), view_a, x, y) > 0,
        sample_logits(b.astype(np.float32), view_b, x, y) > 0,
    )
    return mask_iou(one, other) if one.any() or other.any() else 1.0


def cell_centres_of(view: Crop, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the (m, m) cells of a view's square in frame pixels, x and y, each (m, m) float32."""
    sx, sy = view.scale
    centre = (np.arange(m, dtype=np.float64) + 0.5) * (view.size / m)
    x, y = np.meshgrid(view.x0 + centre / sx, view.y0 + centre / sy)
    return x.astype(np.float32), y.astype(np.float32)


def sample_logits(logits: np.ndarray, view: Crop, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logits (n, n) of a view's square at frame positions; background outside the view."""
    n = logits.shape[0]
    sx, sy = view.scale
    map_x = ((x - view.x0) * (sx * n / view.size) - 0.5).astype(np.float32)
    map_y = ((y - view.y0) * (sy * n / view.size) - 0.5).astype(np.float32)
    found = cv2.remap(logits, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    outside = (x < view.x0) | (x > view.x0 + view.width) | (y < view.y0) | (y > view.y0 + view.height)
    found[outside] = BACKGROUND_LOGIT
    return np.asarray(found)


def to_frame_pixels(logits: np.ndarray, view: Crop, motion: Motion) -> np.ndarray:
    """A view's logits over the whole frame at the size of the motion pictures."""
    h, w = motion.size
    sx, sy = motion.scale
    x, y = np.meshgrid((np.arange(w, dtype=np.float32) + 0.5) * sx, (np.arange(h, dtype=np.float32) + 0.5) * sy)
    return sample_logits(logits, view, x.astype(np.float32), y.astype(np.float32))


def drop_specks(mask: np.ndarray, speck: float) -> np.ndarray:
    """(h, w) bool without the connected parts that are smaller than `speck` times the largest."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    keep = areas >= speck * areas.max()
    keep[0] = False
    return np.asarray(keep[labels])


def keep_supported(logits: np.ndarray, moved: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Logits without the parts that touch neither the moved mask nor the box (view pixels)."""
    m = logits.shape[0]
    count, labels = cv2.connectedComponents((logits > 0).astype(np.uint8), connectivity=8)
    if count <= 1:
        return logits
    reach = max(m // 64, 1)
    near = cv2.dilate((moved > 0).astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    keep = np.zeros(count, bool)
    keep[np.unique(labels[near])] = True
    x0, y0, x1, y1 = (max(round(v * m / size), 0) for v in box.xyxy)
    keep[np.unique(labels[y0:y1, x0:x1])] = True
    keep[0] = True
    return np.where(keep[labels], logits, np.minimum(logits, np.float32(BACKGROUND_LOGIT)))


def mask_bounds(mask: np.ndarray, unit_x: float, unit_y: float) -> Box | None:
    """Half-open box of a mask's pixels, scaled by units; None where it is empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if len(columns) == 0:
        return None
    return Box(
        float(columns[0] * unit_x), float(rows[0] * unit_y),
        float((columns[-1] + 1) * unit_x), float((rows[-1] + 1) * unit_y),
    )  # fmt: skip


def empty_logits(m: int) -> np.ndarray:
    """Logits of an empty mask, (m, m) float16."""
    return np.full((m, m), BACKGROUND_LOGIT, np.float16)


def grid_scale(motion: Motion, mask: np.ndarray) -> float:
    """By how much what lies in `mask`, (h, w) bool of the source's motion picture, grows to the target: a line fitted
    to the motion over the place, where both flows agree; 1 where too little can be trusted."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    y, x = np.nonzero(inner & motion.trusted(back=True))
    if len(x) < 50 or 2 * len(x) < np.count_nonzero(inner):
        return 1.0
    flow = motion.forward[y, x].astype(np.float64)
    place = np.stack([x, y], axis=1) - np.array([x.mean(), y.mean()])
    apart = flow - flow.mean(0)
    return float(np.clip(1 + (place * apart).sum() / max(np.square(place).sum(), 1.0), 1 / _ZOOM, _ZOOM))


_ZOOM = 1.15  # at most, a frame


def filled_share(box: Box, view: Crop, m: int) -> np.ndarray:
    """Logits of a mask that is the box."""
    x, y = cell_centres_of(view, m)
    inside = (x >= box.x0) & (x <= box.x1) & (y >= box.y0) & (y <= box.y1)
    return np.where(inside, np.float32(1), np.float32(BACKGROUND_LOGIT))


def mask_area(logits: np.ndarray, view: Crop, frame_size: tuple[int, int]) -> float:
    """Share of the frame that a mask covers."""
    cell = view.size / logits.shape[0]
    sx, sy = view.scale
    inside = np.count_nonzero(logits > 0)
    return min(inside * cell * cell / (sx * sy * frame_size[0] * frame_size[1]), 1.0)


def box_of_logits(logits: np.ndarray, crop: Crop, speck: float) -> Box | None:
    """Return the tight box of a mask in frame pixels, without specks; None where the mask is empty."""
    h, w = crop.content
    kept = drop_specks(logits > 0, speck)
    clean = np.where(kept | (logits <= 0), logits, np.float32(BACKGROUND_LOGIT)).astype(np.float32)
    fine = cv2.resize(clean, (crop.size, crop.size), interpolation=cv2.INTER_LINEAR)[:h, :w] > 0
    sx, sy = crop.scale
    box = mask_bounds(fine, 1 / sx, 1 / sy)
    return box.moved(crop.x0, crop.y0) if box is not None else None


def relative_motion(motion: Motion, box: Box | None, crop: Crop, m: int, *, ahead: bool = False) -> np.ndarray:
    """Return the motion relative to the camera over a crop's square, (m, m, 2) float32, crop pixels a frame.

    The camera's part is fitted outside `box` (frame pixels). `ahead`: of the source frame, the way it will go.
    """
    flow = motion.apart(box, back=ahead)
    x, y = cell_centres_of(crop, m)
    sx, sy = motion.scale
    found = cv2.remap(flow, x / sx - 0.5, y / sy - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found * np.array([sx * crop.scale[0], sy * crop.scale[1]], np.float32), np.float32)


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    union = float((a | b).sum())
    return float((a & b).sum()) / union if union else 0.0


def first_point_of(prompt: Prompt) -> tuple[float, float]:
    point = next(p for p in prompt.points if p.subject)
    return point.x, point.y
