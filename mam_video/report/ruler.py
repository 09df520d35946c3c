"""Draw rulers, a grid, boxes and numbers over a picture, so that coordinates can be read off it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from mam_video.core.geometry import Box

_LINES: Final = 12  # of the grid along the longer side, at most
_PALETTE: Final = ((90, 220, 255), (255, 170, 60), (120, 240, 120), (255, 110, 190), (190, 150, 255), (255, 235, 90))
_GRID, _PERCENT, _DARK = (255, 255, 255), (255, 225, 90), (16, 16, 20)


def with_grid(picture: np.ndarray) -> np.ndarray:
    """Draw a grid with its coordinates: pixels at the top and left edge, percent at the bottom and right edge.

    Args:
        picture: (H, W, 3) uint8 RGB.
    Returns: a copy of the same size, so that a place in it has the coordinates of the frame.
    """
    drawn = picture.copy()
    h, w = picture.shape[:2]
    thick = max(round(max(h, w) / 1600), 1)
    step = grid_step(max(h, w))
    for x in range(step, w, step):
        _line(drawn, (x, 0), (x, h - 1), thick)
    for y in range(step, h, step):
        _line(drawn, (0, y), (w - 1, y), thick)
    scale = _text_scale((h, w))
    height = _extent("0", scale)[1]
    last = -w
    for x in range(0, w, step):
        if x - last >= _extent(f"{x}0", scale)[0]:
            _text(drawn, str(x), (x + 2 * thick, height + 3 * thick), scale, _GRID)
            last = x
    for y in range(step, h, step):
        _text(drawn, str(y), (2 * thick, y + height + 3 * thick), scale, _GRID)
    # Ticks of percent stay off the corners, where they would lie on those of pixels.
    for percent in range(10, 100, 10):
        x, y = round(percent * w / 100), round(percent * h / 100)
        tick = 3 * height // 2
        cv2.line(drawn, (x, h - 1), (x, h - tick), _PERCENT, 2 * thick)
        cv2.line(drawn, (w - 1, y), (w - tick, y), _PERCENT, 2 * thick)
        label = f"{percent}%"
        wide = _extent(label, scale)[0]
        _text(drawn, label, (min(x + 2 * thick, w - wide), h - 3 * thick), scale, _PERCENT)
        _text(drawn, label, (w - wide - 3 * thick, y - 3 * thick), scale, _PERCENT)
    return drawn


def with_boxes(picture: np.ndarray, boxes: Sequence[Box], masks: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Draw boxes, each with its number from 1 on and tinted inside its mask.

    Args:
        picture: (H, W, 3) uint8 RGB.
        masks: (H, W) bool of each box, or none.
    Returns: a copy of the same size.
    """
    drawn = picture.copy()
    size = picture.shape[:2]
    thick, scale = max(round(max(size) / 480), 2), 1.6 * _text_scale((size[0], size[1]))
    for k, mask in enumerate(masks):
        tint = np.array(_PALETTE[k % len(_PALETTE)], np.float32)
        drawn[mask] = np.rint(0.6 * drawn[mask] + 0.4 * tint).astype(np.uint8)
    for k, box in enumerate(boxes):
        x0, y0, x1, y1 = (round(v) for v in box.xyxy)
        colour = _PALETTE[k % len(_PALETTE)]
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), _DARK, thick + 2)
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), colour, thick)
        if len(boxes) > 1 or masks:
            height = _extent("0", scale)[1]
            _text(drawn, str(k + 1), (x0 + 3 * thick, y0 + height + 4 * thick), scale, colour)
    return drawn


def grid_step(side: int) -> int:
    """The distance of the lines in pixels: 1, 2 or 5 times a power of ten, at most `_LINES` lines on a side."""
    power = 1
    while True:
        for step in (power, 2 * power, 5 * power):
            if side <= step * _LINES:
                return step
        power *= 10


def _line(picture: np.ndarray, start: tuple[int, int], end: tuple[int, int], thick: int) -> None:
    """A line of the grid, half as strong as the picture below it."""
    x0, y0 = start
    rows, columns = slice(y0, end[1] + 1), slice(x0, end[0] + 1)
    if x0 == end[0]:
        columns = slice(x0, x0 + thick)
    else:
        rows = slice(y0, y0 + thick)
    part = picture[rows, columns]
    bright = part.mean(2, keepdims=True) > 140
    colour = np.where(bright, np.float32(0), np.float32(255))
    part[:] = np.rint(0.55 * part + 0.45 * colour).astype(np.uint8)


def _text_scale(size: tuple[int, int]) -> float:
    return max(max(size) / 2400, 0.3)


def _extent(text: str, scale: float) -> tuple[int, int]:
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, _weight(scale))
    return width, height


def _weight(scale: float) -> int:
    return max(round(1.6 * scale), 1)


def _text(picture: np.ndarray, text: str, place: tuple[int, int], scale: float, colour: tuple[int, int, int]) -> None:
    thin = _weight(scale)
    for each, weight in ((_DARK, thin + 2 + round(scale)), (colour, thin)):
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, each, weight, cv2.LINE_AA)
