"""Render subjects with hair, fur and motion blur, with exact alpha. Few pictures with a mask have such edges.

A subject starts from a body: a photographed one, cut along its mask, or one made of blobs. Strands grow out of its
edge, in layers from back to front. Each strand is a curve that bends to its clump, falls or blows, curls, and gets
thinner and more translucent to its tip. Strands are drawn at twice the size and averaged down, so that one can be
thinner than a pixel. Some subjects get no strands and are blurred by motion or focus instead.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import cv2
import numpy as np

_SUPERSAMPLING = 2  # factor of the size at which strands are drawn
_PARTS = 8  # straight lines that make up a strand
_ALONG = np.linspace(0, 1, _PARTS + 1)[None, :, None]  # 0 at the root .. 1 at the tip


@dataclass(frozen=True, slots=True)
class HairStyle:
    """The hair of a subject. Lengths are in pixels of the finished picture."""

    length: float
    spread: float  # standard deviation of the log of the lengths
    width: float
    density: float  # strands per pixel of edge
    clump: float  # strands per clump
    gather: float  # 0 loose .. 1 all tips of a clump meet
    curl: float  # sideways swing, a share of the length
    fall: tuple[float, float]  # gravity and wind, added to the direction towards the tip
    disorder: float  # spread of the direction at the root, radians
    stray: float  # share of strands that leave their clump and are longer
    opacity: float
    tip: float  # opacity at the tip, as a share
    light: tuple[float, float]  # direction towards the light
    shine: float  # spread of the strands' brightness

    @classmethod
    def draw(cls, rng: random.Random, extent: float) -> HairStyle:
        """Draw a random style for a body of size `extent`, in pixels."""
        kind = rng.random()
        if kind < 0.4:  # fur
            length, density, curl = rng.uniform(0.012, 0.05) * extent, rng.uniform(0.8, 2.2), rng.uniform(0, 0.15)
        elif kind < 0.8:  # long hair
            length, density, curl = rng.uniform(0.06, 0.3) * extent, rng.uniform(0.25, 1.2), rng.uniform(0, 0.2)
        else:  # wool and curls
            length, density, curl = rng.uniform(0.03, 0.15) * extent, rng.uniform(0.4, 1.4), rng.uniform(0.2, 0.8)
        angle = rng.uniform(0, 2 * np.pi)
        return cls(
            length=max(length, 3.0),
            spread=rng.uniform(0.1, 0.6),
            width=float(np.exp(rng.uniform(np.log(0.4), np.log(1.6)))),
            density=density,
            clump=rng.choice([1, 3, 8, 20]),
            gather=rng.uniform(0.2, 0.95),
            curl=curl,
            fall=(rng.gauss(0, 0.4), rng.gauss(0.3, 0.5)),
            disorder=rng.uniform(0.05, 0.7),
            stray=rng.uniform(0, 0.25),
            opacity=rng.uniform(0.55, 1.0),
            tip=rng.uniform(0.1, 0.8),
            light=(float(np.cos(angle)), float(np.sin(angle))),
            shine=rng.uniform(0.05, 0.35),
        )


def render_subject(
    rng: random.Random, picture: np.ndarray | None, mask: np.ndarray | None, texture: np.ndarray, size: int = 640
) -> np.ndarray:
    """Render a subject.

    Args:
        picture, mask: a photographed subject (H, W, 3) uint8 and its mask (H, W) 0 or 1; None makes a body of blobs.
        texture: (H, W, 3) uint8, any picture; the surface of a body of blobs.
        size: side of the result, pixels.
    Returns: (size, size, 4) uint8 RGBA, straight colour, extended to where alpha is 0.
    """
    if picture is not None and mask is not None:
        colour, body = _photographed_body(rng, picture, mask, size)
    else:
        colour, body = _synthetic_body(rng, texture, size)
    extent = float(np.sqrt(max(body.sum(), 1.0)))
    kind = rng.random()
    if kind < 0.78:
        premultiplied = _with_hair(rng, colour, body, HairStyle.draw(rng, extent))
    else:
        soft = cv2.GaussianBlur(body, (0, 0), 0.7)
        premultiplied = np.dstack([colour * soft[:, :, None], soft])
    if kind > 0.9 or rng.random() < 0.08:
        premultiplied = _motion_blurred(rng, premultiplied)
    elif kind > 0.78:
        premultiplied = cv2.GaussianBlur(premultiplied, (0, 0), rng.uniform(1, 8))
    return _straight(premultiplied)


def _photographed_body(
    rng: random.Random, picture: np.ndarray, mask: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cut out a photographed subject.

    Returns: colours (size, size, 3) float32 0..1, extended beyond the edge, and the body (size, size) float32 0 or 1.
    """
    ys, xs = np.nonzero(mask)
    x0, x1, y0, y1 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
    scale = size * rng.uniform(0.5, 0.72) / max(x1 - x0, y1 - y0)
    a = np.array([
        [scale, 0, size / 2 - scale * (x0 + x1) / 2],
        [0, scale, size / 2 - scale * (y0 + y1) / 2],
    ])  # fmt: skip
    if rng.random() < 0.5:
        a[0] = [-a[0, 0], 0, size - a[0, 2]]
    big = cv2.warpAffine(picture, a, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    body = cv2.warpAffine(mask.astype(np.float32), a, (size, size), flags=cv2.INTER_LINEAR)
    body = (cv2.GaussianBlur(body, (0, 0), max(0.5 * scale, 0.8)) > 0.55).astype(np.float32)
    # Enlarged photographs are soft; a little grain makes them more like their surroundings.
    grain = np.random.default_rng(rng.getrandbits(32)).standard_normal(big.shape, np.float32)
    colour = np.clip(big.astype(np.float32) / 255 + cv2.GaussianBlur(grain, (0, 0), 0.7) * rng.uniform(0, 0.05), 0, 1)
    return _extend_colour(colour, body), body


def _synthetic_body(rng: random.Random, texture: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    body = np.zeros((size, size), np.uint8)
    middle, unit = size / 2, size * rng.uniform(0.16, 0.24)
    centre = (int(middle + rng.gauss(0, 0.05) * size), int(middle + rng.gauss(0, 0.05) * size))
    axes = (int(unit * rng.uniform(0.8, 1.2)), int(unit * rng.uniform(0.9, 1.5)))
    cv2.ellipse(body, centre, axes, rng.uniform(0, 180), 0, 360, 1, -1)
    if rng.random() < 0.5:  # shoulders
        low = (centre[0], int(centre[1] + axes[1] * 1.9))
        cv2.ellipse(body, low, (int(axes[0] * rng.uniform(1.5, 2.2)), axes[1]), 0, 180, 360, 1, -1)
        cv2.rectangle(body, (centre[0] - axes[0] // 2, centre[1]), (centre[0] + axes[0] // 2, low[1]), 1, -1)
        body[low[1] :] = 0
    for _ in range(rng.randrange(4)):
        blob = (int(centre[0] + rng.gauss(0, unit)), int(centre[1] + rng.gauss(0, unit)))
        cv2.ellipse(body, blob, (int(unit * rng.uniform(0.2, 0.7)), int(unit * rng.uniform(0.2, 0.7))),
                    rng.uniform(0, 180), 0, 360, 1, -1)  # fmt: skip
    base = np.array([rng.random() ** 1.5 for _ in range(3)], np.float32)
    base = base * rng.uniform(0.2, 1) + rng.uniform(0, 0.4) * (1 - base.max())
    cloth = cv2.resize(texture, (size, size)).astype(np.float32) / 255
    ramp = cv2.resize(np.array([[rng.uniform(0.5, 1.3) for _ in range(3)] for _ in range(3)], np.float32),
                      (size, size), interpolation=cv2.INTER_CUBIC)  # fmt: skip
    share = rng.uniform(0, 0.6)
    colour = np.clip(((1 - share) * base + share * cloth) * ramp[:, :, None], 0, 1)
    return colour.astype(np.float32), body.astype(np.float32)


def _extend_colour(colour: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Extend the colours just inside the edge outwards; strands take their colours from there."""
    inner = cv2.erode(body, np.ones((5, 5), np.uint8))
    if not inner.any():
        inner = body
    out = colour * inner[:, :, None]
    filled_share = inner.copy()
    for sigma in (3, 10, 30, 90):
        # Blur wide kernels at a fraction of the size: the same result, and fast.
        shrink = max(sigma // 6, 1)
        n = len(body) // shrink
        small = cv2.resize(np.dstack([colour * inner[:, :, None], inner]), (n, n), interpolation=cv2.INTER_AREA)
        wide = cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / shrink), body.shape[::-1])
        remaining = np.clip(1 - filled_share, 0, 1)[:, :, None]
        weight = wide[:, :, 3:]
        strength = np.clip(weight * 20, 0, 1)
        out = out + remaining * strength * wide[:, :, :3] / np.maximum(weight, 1e-4)
        filled_share = filled_share + remaining[:, :, 0] * strength[:, :, 0]
    filled: np.ndarray = np.where(body[:, :, None] > 0.5, colour, out / np.maximum(filled_share, 1e-3)[:, :, None])
    return filled.astype(np.float32)


def _with_hair(rng: random.Random, colour: np.ndarray, body: np.ndarray, style: HairStyle) -> np.ndarray:
    """Draw strands behind the body and in front of its edge. Returns: premultiplied (size, size, 4) float32."""
    roots, normals = _edge(body, max(style.length * 0.3, 2))
    soft = cv2.GaussianBlur(body, (0, 0), 0.6)
    inside = np.dstack([colour * soft[:, :, None], soft])
    if len(roots) == 0:
        return inside
    noise = np.random.default_rng(rng.getrandbits(32))
    # Hair grows only on parts of the edge, in a smooth pattern around it.
    phase, lobes = rng.uniform(0, 6.28), rng.choice([1, 2, 3])
    cover = np.sin(np.arange(len(roots)) / len(roots) * 6.28 * lobes + phase) > rng.uniform(-1.2, 0.5)
    hairline = _Hairline(roots, normals, np.flatnonzero(cover))
    if len(hairline.covered) == 0:
        return inside
    layers = 8
    count = int(min(len(hairline.covered) * style.density, 9000)) // layers

    def layer(brightness: float) -> np.ndarray:
        strands = _grow_strands(noise, hairline, style, count)
        return _draw_strands(strands, _strand_colours(noise, strands, colour, style, brightness), style, len(body))

    # Back to front: behind the body, then in front of its edge.
    behind = np.zeros((*body.shape, 4), np.float32)
    for i in range(layers // 2):
        behind = _over(layer(0.65 + 0.1 * i), behind)
    result = _over(inside, behind)
    for i in range(layers // 2):
        result = _over(layer(0.9 + 0.06 * i), result)
    return result


@dataclass(frozen=True, slots=True)
class _Hairline:
    """The places where strands can start."""

    roots: np.ndarray  # (n, 2) points along the edge
    normals: np.ndarray  # (n, 2) outward normals
    covered: np.ndarray  # indices of the roots on which hair grows


@dataclass(frozen=True, slots=True)
class _Strands:
    """Strands as curves, in pixels."""

    roots: np.ndarray  # (n, 2)
    directions: np.ndarray  # (n, 2) unit vectors at the roots
    curves: np.ndarray  # (n, _PARTS + 1, 2) points from root to tip


def _edge(body: np.ndarray, inset: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points (n, 2) along the body's edge, moved inwards by half of `inset`, and outward normals (n, 2)."""
    contours, _ = cv2.findContours((body > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    smooth = cv2.GaussianBlur(body, (0, 0), 6)
    gx, gy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    points = [c[:, 0] for c in contours if len(c) > 30]
    if not points:
        return np.zeros((0, 2)), np.zeros((0, 2))
    p = np.concatenate(points)
    n = -np.stack([gx[p[:, 1], p[:, 0]], gy[p[:, 1], p[:, 0]]], 1)
    n /= np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-6)
    return p - n * inset * 0.5, n


def _grow_strands(noise: np.random.Generator, hairline: _Hairline, style: HairStyle, count: int) -> _Strands:
    """Draw `count` strands (at least one) in clumps, as curves that fall, swing and meet at the tips."""
    count = max(count, 1)
    clumps = max(int(count / style.clump), 1)
    centre = hairline.covered[noise.integers(0, len(hairline.covered), clumps)]
    clump_of = noise.integers(0, clumps, count)
    scatter = noise.normal(0, 1.5 + 1.5 * style.clump**0.5, count).astype(int)
    index = np.clip(centre[clump_of] + scatter, 0, len(hairline.roots) - 1)
    stray = noise.random(count) < style.stray

    clump_angle = noise.normal(0, style.disorder, clumps)
    clump_length = style.length * np.exp(noise.normal(0, style.spread, clumps))
    clump_swing = noise.normal(0, 1, clumps)
    angle = clump_angle[clump_of] + noise.normal(0, 0.06 + 0.25 * style.disorder * stray, count)
    length = clump_length[clump_of] * noise.uniform(0.6, 1.1, count) * np.where(stray, noise.uniform(1, 1.6, count), 1)
    swing = np.where(stray, noise.normal(0, 1, count), clump_swing[clump_of])

    roots = hairline.roots[index]
    c, s = np.cos(angle), np.sin(angle)
    normals = hairline.normals[index] @ np.eye(2)
    directions = np.stack([c * normals[:, 0] - s * normals[:, 1], s * normals[:, 0] + c * normals[:, 1]], 1)
    curves = _bent(roots, directions, length, swing, style)
    # Pull the tips of a clump together.
    sums = np.zeros((clumps, _PARTS + 1, 2))
    sizes = np.bincount(clump_of, minlength=clumps)[:, None, None].clip(1)
    np.add.at(sums, clump_of, curves)
    pull = (style.gather * _ALONG**1.5) * (~stray)[:, None, None]
    return _Strands(roots, directions, curves + pull * ((sums / sizes)[clump_of] - curves))


def _bent(
    roots: np.ndarray, directions: np.ndarray, length: np.ndarray, swing: np.ndarray, style: HairStyle
) -> np.ndarray:
    """Bend strands by gravity, wind and curl. Returns: curves (n, _PARTS + 1, 2)."""
    sideways = np.stack([-directions[:, 1], directions[:, 0]], 1)
    turns = 1 + 2 * (style.curl > 0.2)
    wave = np.sin(_ALONG[..., 0] * np.pi * turns + swing[:, None]) - np.sin(swing)[:, None]
    curves: np.ndarray = (
        roots[:, None]
        + directions[:, None] * (_ALONG * length[:, None, None])
        + np.array(style.fall)[None, None] * (_ALONG**2 * length[:, None, None] * 0.6)
        + sideways[:, None] * (wave * style.curl * length[:, None] * 0.5)[..., None]
    )
    return curves


def _strand_colours(
    noise: np.random.Generator, strands: _Strands, colour: np.ndarray, style: HairStyle, brightness: float
) -> list[list[int]]:
    """Draw each strand's colour 0..255: that of the body at its root, lit, and a little brighter or darker."""
    root_pixels = np.clip(strands.roots.round().astype(int), 0, len(colour) - 1)
    base = colour[root_pixels[:, 1], root_pixels[:, 0]]
    lit = 1 + 0.25 * (strands.directions @ np.array(style.light))
    tone = brightness * lit * np.exp(noise.normal(0, style.shine, len(base)))
    colours: list[list[int]] = (np.clip(base * tone[:, None], 0, 1) * 255).astype(np.uint8).tolist()
    return colours


def _draw_strands(strands: _Strands, colours: list[list[int]], style: HairStyle, size: int) -> np.ndarray:
    """Draw one layer of strands, thinner towards the tip. Returns: premultiplied (size, size, 4) float32."""
    n = size * _SUPERSAMPLING
    alpha, paint = np.zeros((n, n), np.uint8), np.zeros((n, n, 3), np.uint8)
    shift = 4  # fraction bits of the points
    points = ((strands.curves * _SUPERSAMPLING) * (1 << shift)).round().astype(np.int32)
    thick = max(round(style.width * _SUPERSAMPLING), 1)
    # One drawn pixel is the thinnest line. Thinner strands become more translucent instead.
    strength = 255 * style.opacity * min(style.width * _SUPERSAMPLING, 1.0)
    pieces = ((0, 4, 1.0, thick), (4, 6, 0.5 + 0.5 * style.tip, thick), (6, _PARTS, style.tip, max(thick - 1, 1)))
    for strand, colour in zip(points, colours, strict=True):
        for start, stop, share, width in reversed(pieces):
            line = strand[start : stop + 1]
            cv2.polylines(paint, [line], False, colour, width + 3, cv2.LINE_8, shift)
            cv2.polylines(alpha, [line], False, int(strength * share), width, cv2.LINE_AA, shift)
    a = cv2.resize(alpha.astype(np.float32) / 255, (size, size), interpolation=cv2.INTER_AREA)
    # Average the colour over painted pixels only.
    painted = (paint.any(2)).astype(np.float32)
    mean = cv2.resize(paint.astype(np.float32) / 255, (size, size), interpolation=cv2.INTER_AREA)
    share_painted = cv2.resize(painted, (size, size), interpolation=cv2.INTER_AREA)
    rgb = mean / np.maximum(share_painted, 1e-3)[:, :, None]
    return np.dstack([rgb * a[:, :, None], a]).astype(np.float32)


def _over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    out: np.ndarray = top + bottom * (1 - top[:, :, 3:])
    return out


def _motion_blurred(rng: random.Random, premultiplied: np.ndarray) -> np.ndarray:
    """Blur the whole subject by motion along a line or a slight arc."""
    length, angle, arc = rng.uniform(6, 45), rng.uniform(0, np.pi), rng.gauss(0, 0.02)
    steps = max(int(length / 1.5), 3)
    size = len(premultiplied)
    summed = np.zeros_like(premultiplied)
    for i in range(steps):
        t = i / (steps - 1) - 0.5
        a = cv2.getRotationMatrix2D((size / 2, size / 2), float(np.rad2deg(arc * t)), 1.0)
        a[:, 2] += [np.cos(angle) * length * t, np.sin(angle) * length * t]
        summed += cv2.warpAffine(premultiplied, a, (size, size))
    out: np.ndarray = summed / steps
    return out


def _straight(premultiplied: np.ndarray) -> np.ndarray:
    alpha = np.clip(premultiplied[:, :, 3], 0, 1)
    # Extend the colours to where alpha is 0, so that resampling mixes in no black.
    near = cv2.GaussianBlur(premultiplied, (0, 0), 3)
    far = cv2.GaussianBlur(premultiplied, (0, 0), 12)
    sums = premultiplied + 1e-3 * near + 1e-5 * far
    rgb = sums[:, :, :3] / np.maximum(sums[:, :, 3:], 1e-7)
    return np.rint(np.clip(np.dstack([rgb, alpha]), 0, 1) * 255).astype(np.uint8)
