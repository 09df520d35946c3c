"""Contact sheets: plate, mask, alpha and composites of a few frames, for a check by eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mam_video.core.frames import Frame, Matted
from mam_video.prompts.prompt import Prompt

_WIDTH = 480  # pixels, width of one picture
_BOX, _ON_SUBJECT, _ON_BACKGROUND = (90, 220, 255), (80, 230, 90), (255, 80, 60)
_LIGHT, _DARK = (232, 60, 200), (24, 24, 28)  # two backgrounds; errors that one hides show on the other


@dataclass(frozen=True, slots=True)
class Row:
    """The pictures of one frame, each (h, w, 3) uint8 RGB of one size: plate with box, mask, alpha, two composites."""

    pictures: tuple[np.ndarray, ...]


def row_of(matted: Matted, width: int = _WIDTH) -> Row:
    """Make the pictures of one frame at `width` pixels, small enough to hold many in memory."""
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
    """Draw a prompt on its frame: the box, points on the subject and points on the background.

    Returns: (h, w, 3) uint8 RGB, `width` pixels wide.
    """
    h, w = frame.size
    size = (width, max(round(h * width / w), 1))
    picture = cv2.resize(frame.rgb8, size, interpolation=cv2.INTER_AREA if width < w else cv2.INTER_LINEAR)
    sx, sy = size[0] / w, size[1] / h
    if prompt.box is not None:
        x0, y0, x1, y1 = prompt.box.xyxy
        cv2.rectangle(picture, (round(x0 * sx), round(y0 * sy)), (round(x1 * sx) - 1, round(y1 * sy) - 1), _BOX, 2)
    for point in prompt.points:
        centre = round(point.x * sx), round(point.y * sy)
        cv2.circle(picture, centre, 6, (0, 0, 0), -1)
        cv2.circle(picture, centre, 5, _ON_SUBJECT if point.subject else _ON_BACKGROUND, -1)
    for colour, thick in (((0, 0, 0), 3), (_BOX, 1)):
        cv2.putText(picture, label, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thick, cv2.LINE_AA)
    return np.asarray(picture)


def save_grid(pictures: Sequence[np.ndarray], columns: int, path: Path) -> None:
    """Save pictures of one size as a PNG with `columns` pictures per row."""
    columns = min(columns, len(pictures))
    blank = np.full_like(pictures[0], 255)
    cells = [*pictures, *[blank] * (-len(pictures) % columns)]
    save_sheet([Row(tuple(cells[k : k + columns])) for k in range(0, len(cells), columns)], path)


def over_colour(frame: Frame, alpha: np.ndarray, colour: tuple[int, int, int] | np.ndarray) -> np.ndarray:
    """Composite the plate over a colour or a picture (H, W, 3): F a + B (1 - a) in code values.

    Returns: (H, W, 3) uint8.
    """
    a = alpha[..., None]
    composited = frame.rgb8.astype(np.float32) * a + np.array(colour, np.float32) * (1 - a)
    return np.rint(composited).astype(np.uint8)


def save_sheet(rows: Sequence[Row], path: Path) -> None:
    """Save the rows below each other as a PNG."""
    gap = 4
    lines = []
    for row in rows:
        padded = [np.pad(p, ((0, gap), (0, gap), (0, 0)), constant_values=255) for p in row.pictures]
        lines.append(np.concatenate(padded, axis=1))
    Image.fromarray(np.concatenate(lines, axis=0)).save(path)
