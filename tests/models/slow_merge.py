"""The merge, slow and obvious: loops over the kernel, whole pictures, no OpenCV. The truth for `models/merge.py`."""

from __future__ import annotations

import numpy as np

LOW, HIGH = np.float32(1 / 255), np.float32(1 - 1 / 255)


def ellipse(k: int) -> np.ndarray:
    """(k, k) bool by the rule of OpenCV's ellipse; 3x3 ones for k = 0."""
    if k == 0:
        return np.ones((3, 3), bool)
    r = k // 2
    kernel = np.zeros((k, k), bool)
    for i in range(k):
        dy = i - r
        dx = int(np.rint(r * np.sqrt(r * r - dy * dy) / r)) if r else 0  # rounds halves to even
        kernel[i, max(r - dx, 0) : min(r + dx + 1, k)] = True
    return kernel


def dilate(u: np.ndarray, width: int) -> np.ndarray:
    kernel = ellipse(width // 2)
    k, r = len(kernel), len(kernel) // 2
    h, w = u.shape
    padded = np.zeros((h + 2 * k, w + 2 * k), bool)
    padded[k : k + h, k : k + w] = u
    out = np.zeros((h, w), bool)
    for i, j in zip(*np.nonzero(kernel), strict=True):
        out |= padded[k + i - r : k + i - r + h, k + j - r : k + j - r + w]
    return out


def unknown_from_alpha(a: np.ndarray, width: int, two_sided: bool) -> np.ndarray:
    if two_sided:
        return dilate((a >= LOW) & (a <= HIGH), width)
    return dilate(a >= LOW, width) & (a <= HIGH)


def unknown_from_mask(m: np.ndarray, width: int, two_sided: bool) -> np.ndarray:
    kept_outside = ~dilate(m, width)
    kept_inside = ~dilate(~m, width) if two_sided else m
    return ~kept_outside & ~kept_inside


def outside_box(m: np.ndarray) -> np.ndarray:
    out = np.ones(m.shape, bool)
    if m.any():
        y, x = np.nonzero(m)
        out[y.min() : y.max(), x.min() : x.max()] = False
    return out


def merge(
    os8: np.ndarray,
    os4: np.ndarray,
    os1: np.ndarray,
    mask: np.ndarray,
    guidance: str,
    box_clean: bool,
    two_sided: bool,
    widths: tuple[int, int, int],
) -> np.ndarray:
    hard = mask.astype(np.float32)
    if guidance == "mask":
        a = np.where(unknown_from_mask(mask, widths[0], two_sided), os8, hard)
    else:
        a = np.where(outside_box(mask), hard, os8) if box_clean else os8.copy()
    a = np.where(unknown_from_alpha(a, widths[1], two_sided), os4, a)
    return np.where(unknown_from_alpha(a, widths[2], two_sided), os1, a)
