"""Draw the prompts that a user or the tracker would give."""

from __future__ import annotations

import random

import cv2
import numpy as np

POINTS = 3


def draw_points(rng: random.Random, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(POINTS, 2) x y in shares and (POINTS,) labels: 1 subject, 0 background, -1 no point. The first is on it."""
    n = len(truth)
    places, labels = np.zeros((POINTS, 2), np.float32), np.full(POINTS, -1, np.int64)
    inner = cv2.erode(truth, np.ones((3, 3), np.uint8))
    ys, xs = np.nonzero(inner if inner.any() else truth)
    if len(xs) == 0:
        return places, labels
    near = cv2.dilate(truth, np.ones((25, 25), np.uint8)) & (1 - cv2.dilate(truth, np.ones((3, 3), np.uint8)))
    ny, nx = np.nonzero(near)
    for i in range(rng.choice([1, 1, 2, 3])):
        on = i == 0 or rng.random() < 0.5 or len(nx) == 0
        px, py = (xs, ys) if on else (nx, ny)
        j = rng.randrange(len(px))
        places[i], labels[i] = ((px[j] + 0.5) / n, (py[j] + 0.5) / n), int(on)
    return places, labels
