"""What a model makes of different edges, as a picture to look at.

    python pipelines/tools/edges.py OUT.jpg PICTURE:x0,y0,x1,y1 [...] [--model NAME]

A row a picture: with its box, its alpha, the subject over light and over dark, and a part of its edge in full size. A
picture may be a movie: its first frame.
"""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mam_video import Frame, MamVideoError, Prompt, Settings, load_model, matte_frames, open_clip
from mam_video.core.geometry import Box
from mam_video.matting.foreground import estimate_foreground
from mam_video.report.sheet import over_colour

_LIGHT, _DARK = (236, 234, 230), (30, 26, 48)
_HEIGHT = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("pictures", nargs="+", metavar="PICTURE:BOX")
    parser.add_argument("--model", default=Settings().model.name)
    options = parser.parse_args()
    settings = Settings().with_values({"model": {"name": options.model}}, "--model")
    model = load_model(settings.model)
    rows = []
    for text in options.pictures:
        name, _, corners = text.rpartition(":")
        frame = _first_frame(Path(name))
        prompt = Prompt.parse(corners, [], frame.size)
        matted = next(iter(matte_frames([frame], prompt, model, settings)))
        rows.append(_row(frame, matted.alpha, prompt.box))
    width = max(r.shape[1] for r in rows)
    padded = [np.pad(r, ((0, 6), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows]
    Image.fromarray(np.concatenate(padded)).save(options.out, quality=88)
    return 0


def _first_frame(path: Path) -> Frame:
    picture = cv2.imread(str(path))
    if picture is not None:
        return Frame(0, 0, Fraction(1, 24), cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    with open_clip(path) as clip:
        return next(iter(islice(clip.frames(0, 1), 1)))


def _row(frame: Frame, alpha: np.ndarray, box: Box | None) -> np.ndarray:
    """(_HEIGHT, w, 3) uint8."""
    h, w = frame.size
    plate = frame.rgb8.copy()
    if box is not None:
        x0, y0, x1, y1 = (round(v) for v in box.xyxy)
        cv2.rectangle(plate, (x0, y0), (x1 - 1, y1 - 1), (255, 200, 60), max(w // 320, 1))
    subject = Frame(0, 0, frame.time_base, np.asarray(estimate_foreground(frame.rgb8, alpha)))
    grey = np.repeat(np.rint(alpha * 255).astype(np.uint8)[..., None], 3, 2)
    over = [over_colour(subject, alpha, colour) for colour in (_LIGHT, _DARK)]
    size = (round(w * _HEIGHT / h), _HEIGHT)
    shown = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (plate, grey, *over)]
    shown.append(over[0][_softest(alpha)])
    return np.concatenate([np.pad(p, ((0, 0), (0, 6), (0, 0)), constant_values=255) for p in shown], 1)


def _softest(alpha: np.ndarray) -> tuple[slice, slice]:
    """Where a square of _HEIGHT pixels holds most of what is neither 0 nor 1."""
    side = min(_HEIGHT, *alpha.shape)
    soft = ((alpha > 0.05) & (alpha < 0.95)).astype(np.float32)
    sums = cv2.boxFilter(soft, -1, (side, side), normalize=False, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    sums = sums[: alpha.shape[0] - side + 1, : alpha.shape[1] - side + 1]
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    return np.s_[y : y + side, x : x + side]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MamVideoError as error:
        sys.exit(f"edges: {error}")
