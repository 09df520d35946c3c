"""Contact sheets: a few frames as plate, alpha and composites, to be looked at. Numbers miss what eyes see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mam_video.core.frames import Frame, Matted
from mam_video.prompts.prompt import Prompt

_WIDTH = 480  # of one picture
_BOX, _ON, _BESIDE = (90, 220, 255), (80, 230, 90), (255, 80, 60)
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


def prompted(frame: Frame, prompt: Prompt, label: str, width: int = _WIDTH) -> np.ndarray:
    """(h, w, 3) uint8 RGB of `width` pixels: a frame with a prompt's box, its points on the subject and beside it."""
    h, w = frame.size
    size = (width, max(round(h * width / w), 1))
    picture = cv2.resize(frame.rgb8, size, interpolation=cv2.INTER_AREA if width < w else cv2.INTER_LINEAR)
    sx, sy = size[0] / w, size[1] / h
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box.xyxy
        cv2.rectangle(picture, (round(x0 * sx), round(y0 * sy)), (round(x1 * sx) - 1, round(y1 * sy) - 1), _BOX, 2)
    for point in prompt.points:
        place = round(point.x * sx), round(point.y * sy)
        cv2.circle(picture, place, 6, (0, 0, 0), -1)
        cv2.circle(picture, place, 5, _ON if point.subject else _BESIDE, -1)
    for colour, thick in (((0, 0, 0), 3), (_BOX, 1)):
        cv2.putText(picture, label, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thick, cv2.LINE_AA)
    return np.asarray(picture)


def save_grid(pictures: Sequence[np.ndarray], columns: int, path: Path) -> None:
    """Pictures of one size in rows of `columns`, as PNG."""
    columns = min(columns, len(pictures))
    blank = np.full_like(pictures[0], 255)
    cells = [*pictures, *[blank] * (-len(pictures) % columns)]
    save_sheet([Row(tuple(cells[k : k + columns])) for k in range(0, len(cells), columns)], path)


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
