"""Degrade masks as trackers do, and pictures as cameras and codecs do."""

from __future__ import annotations

import random

import cv2
import numpy as np

from mam_video.training.synth.layers import draw_placement


def degrade(rng: random.Random, mask: np.ndarray) -> np.ndarray:
    """Degrade a mask as a bad tracker would: grow or shrink it, add or remove pieces, move and soften it.

    `mask` is (n, n) uint8, 0 or 1. Returns: (n, n) float32 in [0, 1].
    """
    n = len(mask)
    x = mask.copy()
    k = 2 * rng.randrange(1, max(n // 22, 2)) + 1
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (k, k))
    draw = rng.random()
    x = cv2.dilate(x, ellipse) if draw < 0.35 else cv2.erode(x, ellipse) if draw < 0.6 else x
    for _ in range(rng.randrange(4)):
        centre = (rng.randrange(n), rng.randrange(n))
        cv2.circle(x, centre, rng.randrange(n // 40, n // 6), int(rng.random() < 0.5), -1)
    scale, cx, cy = rng.uniform(0.9, 1.1), n / 2 + rng.gauss(0, n / 36), n / 2 + rng.gauss(0, n / 36)
    a = draw_placement(np.array([0, 0, n, n]), scale, cx, cy, rng.gauss(0, 5), False)
    soft = cv2.warpAffine(x.astype(np.float32), a[:2], (n, n))
    out: np.ndarray = cv2.GaussianBlur(soft, (0, 0), rng.uniform(0.5, 2))
    return out


def photographic(rng: random.Random, pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Degrade the pictures of a scene by colour, blur, noise and compression, each (h, w, 3) uint8.

    Most of it is the same for the whole scene and varies a little by frame.
    """
    gain, offset = rng.uniform(0.7, 1.3), rng.uniform(-25, 25)
    tint = [rng.uniform(0.9, 1.1) for _ in range(3)]
    gamma = float(np.exp(rng.gauss(0, 0.15)))
    grey, blur = rng.random() < 0.06, rng.uniform(0.5, 1.6) if rng.random() < 0.2 else 0.0
    quality = rng.randint(25, 80) if rng.random() < 0.25 else 0
    noise = rng.uniform(1, 9) if rng.random() < 0.2 else 0.0
    streak = rng.randint(3, 11) if rng.random() < 0.12 else 0
    levels = np.arange(256, dtype=np.float32)
    out = []
    for picture in pictures:
        flicker = rng.gauss(1, 0.03)
        curve = 255 * (levels / 255) ** gamma
        table = np.stack([np.clip(curve * gain * flicker * t + offset, 0, 255) for t in tint], 1).astype(np.uint8)
        x = cv2.LUT(picture, table[None])
        if blur:
            x = cv2.GaussianBlur(x, (0, 0), blur)
        if streak and rng.random() < 0.7:
            kernel = np.zeros((streak, streak), np.float32)
            angle, c = rng.uniform(0, 3.14), streak // 2
            dx, dy = round(np.cos(angle) * c), round(np.sin(angle) * c)
            cv2.line(kernel, (c - dx, c - dy), (c + dx, c + dy), 1.0)
            x = cv2.filter2D(x, -1, kernel / kernel.sum())
        if noise:
            grain = np.random.default_rng(rng.getrandbits(32)).standard_normal(x.shape, np.float32)
            x = cv2.add(x, (grain * noise), dtype=cv2.CV_8U)
        if quality:
            ok, coded = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, quality])
            assert ok
            x = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        if grey:
            x = np.repeat(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[:, :, None], 3, 2)
        out.append(x)
    return out
