"""Fringes with and without foreground estimation, as a picture to look at.

    python pipelines/tools/fringes.py picture.png alpha.png out.jpg

First row: the picture over a plain colour, with the plate's colour and with the estimated one. Second row: the same
subject lit before a green screen. Each in whole and as a part, enlarged.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from mam_video.matting.foreground import estimate_foreground

_NEW = np.array([0.93, 0.93, 0.95])  # a light background: dark and green fringes both show
_GREEN = np.array([0.12, 0.70, 0.22])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("alpha", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--part", default="0.5,0.1,0.75,0.5", help="x0,y0,x1,y1 to enlarge, as shares of the picture")
    options = parser.parse_args()
    rgb = cv2.cvtColor(cv2.imread(str(options.picture)), cv2.COLOR_BGR2RGB)
    alpha = np.asarray(cv2.imread(str(options.alpha), cv2.IMREAD_GRAYSCALE), np.float32) / np.float32(255)
    x0, y0, x1, y1 = (float(v) for v in options.part.split(","))
    h, w = alpha.shape
    part = np.s_[int(y0 * h) : int(y1 * h), int(x0 * w) : int(x1 * w)]

    a = alpha[..., None]
    subject = estimate_foreground(rgb, alpha) / 255.0
    lit = np.rint((subject * a + _GREEN * (1 - a)) * 255).astype(np.uint8)
    rows = []
    for plate in (rgb, lit):
        found = estimate_foreground(plate, alpha)
        pictures = [plate, _over(plate, a), _over(found, a)]
        size = (w // 2, h // 2)
        whole = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in pictures]
        near = [cv2.resize(p[part], size, interpolation=cv2.INTER_CUBIC) for p in pictures]
        rows += [np.concatenate(whole, 1), np.concatenate(near, 1)]
        error = {n: np.abs((p / 255.0 - subject) * a).mean() * 255 for n, p in (("plate", plate), ("estimate", found))}
        if plate is lit:
            shown = ", ".join(f"{name} {value:.2f}" for name, value in error.items())
            print(f"green-lit, mean error of colour times alpha in 1/255: {shown}")
    sheet = np.concatenate(rows, 0)
    cv2.imwrite(str(options.output), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return 0


def _over(rgb: np.ndarray, a: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 over the new background, in code values."""
    return np.rint((rgb / 255.0 * a + _NEW * (1 - a)) * 255).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main())
