"""Layers of a synthetic scene: cut out, place, move, bend and blend them."""

from __future__ import annotations

import random
from dataclasses import dataclass

import cv2
import numpy as np

from mam_video.core.geometry import mask_bounds
from mam_video.training.data.pictures import LabelledPicture


@dataclass(frozen=True, slots=True)
class Layer:
    """A subject cut out of its picture, by `mask` (0 or 1) or by the alpha in the picture's fourth channel."""

    picture: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True, slots=True)
class SceneView:
    """A crop of the scene, as a square."""

    matrix: np.ndarray  # (3, 3), from scene to crop pixels
    content: tuple[int, int]  # (h, w) of the picture in the square; the rest is padding


def box_of(mask: np.ndarray) -> np.ndarray | None:
    """Return the tight box x0 y0 x1 y1 of a mask, half-open; None if the mask is empty."""
    bounds = mask_bounds(mask)
    return None if bounds is None else np.array(bounds, np.float64)


def draw_placement(box: np.ndarray, scale: float, cx: float, cy: float, degrees: float, flip: bool) -> np.ndarray:
    """Return the (3, 3) transform that rotates, scales and mirrors about the box's centre, and moves that to cx, cy."""
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) * scale
    if flip:
        turn = turn @ np.diag([-1.0, 1.0])
    middle = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    out = np.eye(3)
    out[:2, :2] = turn
    out[:2, 2] = np.array([cx, cy]) - turn @ middle
    return out


def draw_small_motion(rng: random.Random, box: np.ndarray, amount: float) -> np.ndarray:
    """Draw a motion (3, 3) like that of a subject between frames a few frames apart."""
    extent = max(box[2] - box[0], box[3] - box[1])
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    scale = float(np.exp(rng.gauss(0, 0.08 * amount)))
    dx, dy = (rng.gauss(0, 0.1 * amount * extent) for _ in range(2))
    out = draw_placement(box, scale, cx + dx, cy + dy, rng.gauss(0, 6 * amount), False)
    out[0, 1] += rng.gauss(0, 0.05 * amount) * scale
    return out


def move_box(matrix: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the tight box x0 y0 x1 y1 around a transformed box."""
    corners = np.array([[box[0], box[1], 1], [box[2], box[1], 1], [box[0], box[3], 1], [box[2], box[3], 1]]).T
    x, y = (matrix @ corners)[:2]
    return np.array([x.min(), y.min(), x.max(), y.max()])


def grow_box(rng: random.Random) -> float:
    """Draw the side of the crop in sides of the box. A tracker holds its crop while the subject shrinks in it."""
    return float(np.exp(rng.uniform(np.log(1.1), np.log(2.2))))


def draw_mirrors(rng: random.Random, mask: np.ndarray) -> bool:
    """Draw whether the area outside the picture shows its mirror image instead of padding.

    Never if the subject reaches the border: its mirror image would be background that looks like the subject.
    """
    rim = np.concatenate([mask[:3].ravel(), mask[-3:].ravel(), mask[:, :3].ravel(), mask[:, -3:].ravel()])
    return rng.random() < 0.6 and not rim.any()


def warp_picture(picture: np.ndarray, matrix: np.ndarray, size: int, mirror: bool = True) -> np.ndarray:
    """Warp a picture (H, W, 3 or 4) uint8 to a crop (size, size); outside of it is grey or its mirror image."""
    shrink = abs(float(np.linalg.det(matrix[:2, :2]))) ** 0.5
    if shrink < 0.6:
        # Blur against aliasing: bilinear sampling reads only four pixels.
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 / shrink)
    border = cv2.BORDER_REFLECT_101 if mirror else cv2.BORDER_CONSTANT
    out: np.ndarray = cv2.warpAffine(
        picture, matrix[:2], (size, size), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=(127, 127, 127)
    )
    return out


def warp_mask(mask: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Warp a mask (H, W) uint8, 0 or 1, to a crop (size, size)."""
    soft = cv2.warpAffine(mask * np.uint8(255), matrix[:2], (size, size), flags=cv2.INTER_LINEAR)
    out: np.ndarray = (soft > 127).astype(np.uint8)
    return out


def draw_bend(rng: random.Random, shape: tuple[int, ...], amount: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw a smooth distortion of about `amount` pixels, as maps x and y (H, W) float32 for `cv2.remap`."""
    h, w = shape[:2]
    coarse = np.array([rng.gauss(0, amount) for _ in range(32)], np.float32).reshape(2, 4, 4)
    dx, dy = (cv2.resize(c, (w, h), interpolation=cv2.INTER_CUBIC) for c in coarse)
    return dx + np.arange(w, dtype=np.float32), dy + np.arange(h, dtype=np.float32)[:, None]


def bend_picture(image: np.ndarray, bend: tuple[np.ndarray, np.ndarray] | None, is_mask: bool) -> np.ndarray:
    """Distort a picture or a mask by maps of `draw_bend`; None leaves it as it is."""
    if bend is None:
        return image
    flags = cv2.INTER_NEAREST if is_mask else cv2.INTER_LINEAR
    border = cv2.BORDER_CONSTANT if is_mask else cv2.BORDER_REFLECT_101
    out: np.ndarray = cv2.remap(image, bend[0], bend[1], flags, borderMode=border)
    return out


def blend_layers(under: np.ndarray, over: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay a picture over another of the same size (h, w, 3) uint8, by an alpha (h, w) in [0, 1]."""
    out: np.ndarray = cv2.blendLinear(over, under, alpha.astype(np.float32), (1 - alpha).astype(np.float32))
    return out


def attach_alpha(m: LabelledPicture) -> np.ndarray:
    """Return the picture as (H, W, 3) uint8, or that of a cut-out with its alpha as (H, W, 4) uint8."""
    return m.picture if m.alpha is None else np.dstack([m.picture, m.alpha])


def cut_out(picture: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split a picture (h, w, 3 or 4) into colours (h, w, 3) and opacity (h, w) float32 0..1.

    Without an alpha channel the opacity is the softened mask `truth`.
    """
    if picture.shape[2] == 4:
        return np.ascontiguousarray(picture[:, :, :3]), picture[:, :, 3].astype(np.float32) / 255
    return picture, cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 0.8)


def draw_pole(
    rng: random.Random, picture: np.ndarray, truth: np.ndarray, texture: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a pole in front of the subject. Returns the picture and the visible mask."""
    mask = np.zeros((size, size), np.uint8)
    ys, xs = np.nonzero(truth)
    if len(xs) == 0:
        return picture, truth
    i = rng.randrange(len(xs))
    angle, half = rng.gauss(1.571, 0.35), size
    dx, dy = np.cos(angle) * half, np.sin(angle) * half
    ends = [(int(xs[i] - dx), int(ys[i] - dy)), (int(xs[i] + dx), int(ys[i] + dy))]
    cv2.line(mask, ends[0], ends[1], 1, rng.randint(3, 40))
    over = cv2.resize(texture, (size, size))
    return blend_layers(picture, over, cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7)), truth * (1 - mask)


def draw_mixed_move(rng: random.Random, a: SceneView, b: SceneView, back: np.ndarray, size: int) -> np.ndarray:
    """Draw the motion that a tracker would report: (2, 3), from crop b to crop a, in shares of the side.

    `back` maps scene points at b to those at a and follows the subject. The tracker knows it wholly, partly or not at
    all, and with an error.
    """
    draw = rng.random()
    share_known = 0.0 if draw < 0.3 else 1.0 if draw < 0.65 else rng.random()
    identity = np.eye(3)
    full = np.vstack([back[:2], [0, 0, 1]])
    mixed = identity + share_known * (full - identity)
    m = a.matrix @ mixed @ np.linalg.inv(b.matrix)
    to_pixels, to_shares = np.diag([size, size, 1.0]), np.diag([1 / size, 1 / size, 1.0])
    out = (to_shares @ m @ to_pixels)[:2]
    out[:, 2] += [rng.gauss(0, 0.015), rng.gauss(0, 0.015)]
    return out
