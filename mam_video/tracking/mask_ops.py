"""Warp, measure and clean masks given as logits.

A mask is (m, m) logits over the square of a `Crop`; above 0 is subject.
"""

from __future__ import annotations

import cv2
import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.geometry import Box
from mam_video.motion.flow import Motion, vectors_at
from mam_video.prompts.prompt import Prompt

SURE_LOGIT = 2.0  # from which on a cell surely belongs to a mask: a probability of 0.88
BACKGROUND_LOGIT = -8.0  # certain background: where a mask has no values


def mask_logits(mask: np.ndarray, crop: Crop, m: int) -> np.ndarray:
    """Convert a mask of the whole frame, (H, W) float32 in [0, 1], to logits over a crop's square: (m, m) float16.

    Each cell gets the logit of the share of it that the mask covers.
    """
    h, w = crop.content
    part = np.ascontiguousarray(mask[crop.y0 : crop.y0 + crop.height, crop.x0 : crop.x0 + crop.width])
    square = np.zeros((crop.size, crop.size), np.float32)
    filtering = cv2.INTER_AREA if h <= crop.height else cv2.INTER_LINEAR
    square[:h, :w] = cv2.resize(part, (w, h), interpolation=filtering)
    share = cv2.resize(square, (m, m), interpolation=cv2.INTER_AREA)
    least = np.float32(1 / (1 + np.exp(-BACKGROUND_LOGIT)))
    share = np.clip(share, least, 1 - least)
    return np.log(share / (1 - share)).astype(np.float16)


def resized_logits(logits: np.ndarray, m: int) -> np.ndarray:
    """Bring a mask, (n, n) logits over a square, to (m, m) float32 over the same square."""
    if len(logits) == m:
        return logits
    filtering = cv2.INTER_AREA if m < len(logits) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(logits.astype(np.float32), (m, m), interpolation=filtering))


def carried_logits(logits: np.ndarray, old: Crop, new: Crop, motion: Motion, m: int) -> np.ndarray:
    """Warp a mask of the previous frame, (n, n) over the square of crop `old`, into that of `new`: (m, m) float32.

    It is sampled once, through both crops and the flow. Beyond the frame, its border is repeated; outside the old crop
    is background.
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


def agreement(a: np.ndarray, crop_a: Crop, b: np.ndarray, crop_b: Crop) -> float:
    """Return the IoU of two masks of one frame, logits over the squares of their crops; 1 where both are empty."""
    x0, y0 = min(crop_a.x0, crop_b.x0), min(crop_a.y0, crop_b.y0)
    x1 = max(crop_a.x0 + crop_a.width, crop_b.x0 + crop_b.width)
    y1 = max(crop_a.y0 + crop_a.height, crop_b.y0 + crop_b.height)
    n = 2 * max(a.shape[0], b.shape[0])
    x, y = np.meshgrid(x0 + (np.arange(n) + 0.5) * ((x1 - x0) / n), y0 + (np.arange(n) + 0.5) * ((y1 - y0) / n))
    x, y = x.astype(np.float32), y.astype(np.float32)
    one, other = (
        sample_logits(a.astype(np.float32), crop_a, x, y) > 0,
        sample_logits(b.astype(np.float32), crop_b, x, y) > 0,
    )
    return mask_iou(one, other) if one.any() or other.any() else 1.0


def cell_centres_of(crop: Crop, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of a crop's (m, m) cells in frame pixels: x and y, each (m, m) float32."""
    sx, sy = crop.scale
    centre = (np.arange(m, dtype=np.float64) + 0.5) * (crop.size / m)
    x, y = np.meshgrid(crop.x0 + centre / sx, crop.y0 + centre / sy)
    return x.astype(np.float32), y.astype(np.float32)


def sample_logits(logits: np.ndarray, crop: Crop, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample a mask, (n, n) logits, at frame positions `x` and `y`; background outside the crop.

    Both are float32 of the result's shape, or one row and one column of it.
    """
    n = logits.shape[0]
    sx, sy = crop.scale
    map_x = ((x - crop.x0) * (sx * n / crop.size) - 0.5).astype(np.float32)
    map_y = ((y - crop.y0) * (sy * n / crop.size) - 0.5).astype(np.float32)
    map_x, map_y = (np.ascontiguousarray(each) for each in np.broadcast_arrays(map_x, map_y))
    found = cv2.remap(logits, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    outside = (x < crop.x0) | (x > crop.x0 + crop.width) | (y < crop.y0) | (y > crop.y0 + crop.height)
    found[outside] = BACKGROUND_LOGIT
    return np.asarray(found)


def to_frame_pixels(logits: np.ndarray, crop: Crop, motion: Motion) -> np.ndarray:
    """Sample a mask over the whole frame, at the size of the motion pictures."""
    h, w = motion.size
    sx, sy = motion.scale
    x, y = (np.arange(w, dtype=np.float32) + 0.5) * sx, (np.arange(h, dtype=np.float32) + 0.5) * sy
    columns, rows = _within(x, crop.x0, crop.x0 + crop.width), _within(y, crop.y0, crop.y0 + crop.height)
    found = np.full((h, w), BACKGROUND_LOGIT, np.float32)
    if x[columns].size and y[rows].size:
        found[rows, columns] = sample_logits(logits, crop, x[None, columns], y[rows, None])
    return found


def _within(positions: np.ndarray, low: int, high: int) -> slice:
    """Return which of ascending positions lie from `low` to `high`, both included."""
    return slice(int(np.searchsorted(positions, low)), int(np.searchsorted(positions, high, side="right")))


def drop_specks(mask: np.ndarray, speck: float) -> np.ndarray:
    """Remove connected components smaller than `speck` times the largest from a mask, (h, w) bool."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    areas = np.bincount(labels.ravel(), minlength=count)  # OpenCV's own statistics cost four times the labels
    areas[0] = 0
    keep = areas >= speck * areas.max()
    keep[0] = False
    return np.asarray(keep[labels])


def keep_supported(logits: np.ndarray, moved: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Remove the components of a mask that touch neither the predicted mask `moved` nor the box (crop pixels)."""
    m = logits.shape[0]
    count, labels = cv2.connectedComponents((logits > 0).astype(np.uint8), connectivity=8)
    if count <= 1:
        return logits
    radius = max(m // 64, 1)
    near = cv2.dilate((moved > 0).astype(np.uint8), np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)) > 0
    keep = np.zeros(count, bool)
    keep[np.unique(labels[near])] = True
    x0, y0, x1, y1 = (max(round(v * m / size), 0) for v in box.xyxy)
    keep[np.unique(labels[y0:y1, x0:x1])] = True
    keep[0] = True
    return np.where(keep[labels], logits, np.minimum(logits, np.float32(BACKGROUND_LOGIT)))


def mask_bounds(mask: np.ndarray, unit_x: float, unit_y: float) -> Box | None:
    """Return the half-open box of a mask's pixels, in pixels times the units; None where it is empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if len(columns) == 0:
        return None
    return Box(
        float(columns[0] * unit_x), float(rows[0] * unit_y),
        float((columns[-1] + 1) * unit_x), float((rows[-1] + 1) * unit_y),
    )  # fmt: skip


def empty_logits(m: int) -> np.ndarray:
    """Return an empty mask, (m, m) float16."""
    return np.full((m, m), BACKGROUND_LOGIT, np.float16)


def grid_scale(motion: Motion, mask: np.ndarray) -> float:
    """Return by which factor the content of `mask` grows from the source frame to the target.

    `mask` is (h, w) bool over the source's motion picture. A line is fitted to the motion over the position, where both
    flows agree; 1 where too few pixels can be trusted.
    """
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    places = np.flatnonzero(inner & motion.trusted(back=True))
    if len(places) < 50 or 2 * len(places) < np.count_nonzero(inner):
        return 1.0
    down, across = np.divmod(places, mask.shape[1])
    product, square = np.empty((len(places), 2)), np.empty((len(places), 2))  # x and y of each pixel
    for axis, (at, flow) in enumerate(zip((across, down), vectors_at(motion.forward, places), strict=True)):
        away, moved = at - at.mean(), flow.astype(np.float64)
        product[:, axis] = away * (moved - np.cumsum(moved)[-1] / len(places))
        square[:, axis] = away * away
    return float(np.clip(1 + product.sum() / max(square.sum(), 1.0), 1 / _ZOOM, _ZOOM))


_ZOOM = 1.15  # largest scale a frame


def filled_share(box: Box, crop: Crop, m: int) -> np.ndarray:
    """Return a mask that fills the box (frame pixels), (m, m) float32."""
    x, y = cell_centres_of(crop, m)
    inside = (x >= box.x0) & (x <= box.x1) & (y >= box.y0) & (y <= box.y1)
    return np.where(inside, np.float32(1), np.float32(BACKGROUND_LOGIT))


def mask_area(logits: np.ndarray, crop: Crop, frame_size: tuple[int, int]) -> float:
    """Return the share of the frame that a mask covers, 0..1."""
    cell = crop.size / logits.shape[0]
    sx, sy = crop.scale
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


def mask_stability(logits: np.ndarray) -> float:
    """Return the area of a mask's sure part divided by that of the possible one, 0..1; 1 where there is none.

    A wide band of logits near 0 means that the segmenter finds no edge there. `logits` is (m, m). The band of one cell
    on either side of the outline, which every mask has, does not count.
    """
    mask = logits > 0
    around = np.ones((3, 3), np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), around) > 0
    outer = cv2.dilate(mask.astype(np.uint8), around) > 0
    sure = (logits > SURE_LOGIT) | (mask & ~inner)
    possible = mask | ((logits > -SURE_LOGIT) & ~outer)
    return float(sure.sum()) / float(possible.sum()) if possible.any() else 1.0


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the IoU of two bool masks of one shape; 0 where both are empty."""
    union = float((a | b).sum())
    return float((a & b).sum()) / union if union else 0.0


def first_point_of(prompt: Prompt) -> tuple[float, float]:
    """Return the first point on the subject, (x, y) in frame pixels."""
    point = next(p for p in prompt.points if p.subject)
    return point.x, point.y
