"""Draw random point prompts like those of a user."""

from __future__ import annotations

import random

import cv2
import numpy as np

POINTS = 3


def draw_points(rng: random.Random, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw 1 to POINTS points on and around the subject of `truth` (n, n) uint8. The first is on the subject.

    Returns: (POINTS, 2) float32 x, y as shares of the side, and (POINTS,) labels: 1 subject, 0 background, -1 no point.
    """
    n = len(truth)
    points, labels = np.zeros((POINTS, 2), np.float32), np.full(POINTS, -1, np.int64)
    inner = cv2.erode(truth, np.ones((3, 3), np.uint8))
    ys, xs = np.nonzero(inner if inner.any() else truth)
    if len(xs) == 0:
        return points, labels
    near = cv2.dilate(truth, np.ones((25, 25), np.uint8)) & (1 - cv2.dilate(truth, np.ones((3, 3), np.uint8)))
    ny, nx = np.nonzero(near)
    for i in range(rng.choice([1, 1, 2, 3])):
        on_subject = i == 0 or rng.random() < 0.5 or len(nx) == 0
        px, py = (xs, ys) if on_subject else (nx, ny)
        j = rng.randrange(len(px))
        points[i], labels[i] = ((px[j] + 0.5) / n, (py[j] + 0.5) / n), int(on_subject)
    return points, labels
