"""Contact sheets: a few frames as plate, alpha and composites, to be looked at. Numbers miss what eyes see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mam_video.frames import Frame, Matted

_WIDTH = 480  # of one picture
_LIGHT, _DARK = (232, 60, 200), (24, 24, 28)  # backgrounds that show what a single one hides


@dataclass(frozen=True, slots=True)
class Row:
    """One frame's pictures, (h, w, 3) uint8 RGB of one size: plate with its box, mask, alpha, and two composites."""

    pictures: tuple[np.ndarray, ...]


def row_of(matted: Matted, width: int = _WIDTH) -> Row:
    """The pictures of one frame, shrunk to `width` pixels, so that rows can be kept while the clip goes by."""
    frame, alpha, record = matted.frame, matted.alpha, matted.record
    plate = frame.rgb8.copy()
    h, w = frame.size
    thick = max(round(w / 320), 1)
    colour = (255, 80, 60) if record.state.flagged else (90, 220, 255)
    x0, y0, x1, y1 = (round(v) for v in record.box.xyxy)
    cv2.rectangle(plate, (x0, y0), (x1 - 1, y1 - 1), colour, thick)
    label = f"{record.index} {record.state} {record.score:.2f}"
    cv2.putText(plate, label, (8, round(h / 18)), cv2.FONT_HERSHEY_SIMPLEX, h / 540, colour, thick, cv2.LINE_AA)
    grey = np.repeat(np.rint(alpha * 255).astype(np.uint8)[..., None], 3, axis=2)
    mask = np.repeat(((alpha > 0.5) * np.uint8(255))[..., None], 3, axis=2)
    size = (width, max(round(h * width / w), 1))
    pictures = (plate, mask, grey, over_colour(frame, alpha, _LIGHT), over_colour(frame, alpha, _DARK))
    return Row(tuple(cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in pictures))


def over_colour(frame: Frame, alpha: np.ndarray, colour: tuple[int, int, int] | np.ndarray) -> np.ndarray:
    """The plate over a plain colour or a picture (H, W, 3), (H, W, 3) uint8: F a + B (1 - a) in code values."""
    a = alpha[..., None]
    laid = frame.rgb8.astype(np.float32) * a + np.array(colour, np.float32) * (1 - a)
    return np.rint(laid).astype(np.uint8)


def save_sheet(rows: Sequence[Row], path: Path) -> None:
    """Rows below each other, as PNG."""
    gap = 4
    lines = []
    for row in rows:
        padded = [np.pad(p, ((0, gap), (0, gap), (0, 0)), constant_values=255) for p in row.pictures]
        lines.append(np.concatenate(padded, axis=1))
    Image.fromarray(np.concatenate(lines, axis=0)).save(path)
