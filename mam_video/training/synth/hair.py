"""Subjects with hair, fur and motion blur, rendered with exact alpha: what few pictures with a mask have at their edge.

A subject starts from a body: a photographed one, cut along its mask, or one made of blobs. Strands grow out of its
edge, back to front in layers. Each is a curve that bends to its clump, falls or blows and curls, and gets thinner and
more translucent to its tip. They are drawn at twice the size and averaged down, so that one can be thinner than a
pixel. Some subjects get no strands and are blurred by motion or focus instead.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import cv2
import numpy as np

_OVER = 2  # drawn at so many times the size


@dataclass(frozen=True, slots=True)
class HairStyle:
    """How the hair of a subject is. Lengths in pixels of the finished picture."""

    length: float
    spread: float  # of the lengths, a share
    width: float
    density: float  # strands a pixel of edge
    clump: float  # strands in a clump
    gather: float  # 0 loose .. 1 all tips of a clump meet
    curl: float  # sideways swing, a share of the length
    fall: tuple[float, float]  # gravity and wind: what is added to the direction on the way to the tip
    disorder: float  # of the root's direction, radians
    stray: float  # share of single, longer, thinner strands
    opacity: float
    tip: float  # opacity that remains at the tip, a share
    light: tuple[float, float]  # the direction that light comes from
    shine: float  # how much strands differ in brightness

    @classmethod
    def draw(cls, rng: random.Random, reach: float) -> HairStyle:
        """For a body of `reach` pixels."""
        kind = rng.random()
        if kind < 0.4:  # fur
            length, density, curl = rng.uniform(0.012, 0.05) * reach, rng.uniform(0.8, 2.2), rng.uniform(0, 0.15)
        elif kind < 0.8:  # long hair
            length, density, curl = rng.uniform(0.06, 0.3) * reach, rng.uniform(0.25, 1.2), rng.uniform(0, 0.2)
        else:  # wool and curls
            length, density, curl = rng.uniform(0.03, 0.15) * reach, rng.uniform(0.4, 1.4), rng.uniform(0.2, 0.8)
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
    """A subject (size, size, 4) uint8 RGBA, straight alpha, colours carried on where alpha is 0.

    Args:
        picture, mask: a photographed subject (H, W, 3) uint8 and its mask (H, W) 0 or 1; None makes one of blobs.
        texture: (H, W, 3) uint8, any picture; clothes a made body.
    """
    if picture is not None and mask is not None:
        colour, body = _photographed(rng, picture, mask, size)
    else:
        colour, body = _made(rng, texture, size)
    reach = float(np.sqrt(max(body.sum(), 1.0)))
    kind = rng.random()
    if kind < 0.78:
        premultiplied = _with_hair(rng, colour, body, HairStyle.draw(rng, reach))
    else:
        soft = cv2.GaussianBlur(body, (0, 0), 0.7)
        premultiplied = np.dstack([colour * soft[:, :, None], soft])
    if kind > 0.9 or rng.random() < 0.08:
        premultiplied = _streaked(rng, premultiplied)
    elif kind > 0.78:
        premultiplied = cv2.GaussianBlur(premultiplied, (0, 0), rng.uniform(1, 8))
    return _straight(premultiplied)


def _photographed(
    rng: random.Random, picture: np.ndarray, mask: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (size, size, 3) float32 0..1 that go on beyond the edge, and the body (size, size) 0..1."""
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
    # Enlarged photographs are soft; a little grain brings them nearer to what stands around.
    grain = np.random.default_rng(rng.getrandbits(32)).standard_normal(big.shape, np.float32)
    colour = np.clip(big.astype(np.float32) / 255 + cv2.GaussianBlur(grain, (0, 0), 0.7) * rng.uniform(0, 0.05), 0, 1)
    return _carried_on(colour, body), body


def _made(rng: random.Random, texture: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
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


def _carried_on(colour: np.ndarray, body: np.ndarray) -> np.ndarray:
    """The colours a little inside the edge, spread outwards: what strands that start there are made of."""
    inner = cv2.erode(body, np.ones((5, 5), np.uint8))
    if not inner.any():
        inner = body
    out = colour * inner[:, :, None]
    total = inner.copy()
    for sigma in (3, 10, 30, 90):
        # cv2 blurs wide at a fraction of the size: the same, and quick.
        shrink = max(sigma // 6, 1)
        n = len(body) // shrink
        small = cv2.resize(np.dstack([colour * inner[:, :, None], inner]), (n, n), interpolation=cv2.INTER_AREA)
        wide = cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / shrink), body.shape[::-1])
        left = np.clip(1 - total, 0, 1)[:, :, None]
        weight = wide[:, :, 3:]
        strength = np.clip(weight * 20, 0, 1)
        out = out + left * strength * wide[:, :, :3] / np.maximum(weight, 1e-4)
        total = total + left[:, :, 0] * strength[:, :, 0]
    filled: np.ndarray = np.where(body[:, :, None] > 0.5, colour, out / np.maximum(total, 1e-3)[:, :, None])
    return filled.astype(np.float32)


def _with_hair(rng: random.Random, colour: np.ndarray, body: np.ndarray, look: HairStyle) -> np.ndarray:
    """Premultiplied (size, size, 4) float32."""
    size = len(body)
    roots, normals = _edge(body, max(look.length * 0.3, 2))
    soft = cv2.GaussianBlur(body, (0, 0), 0.6)
    inside = np.dstack([colour * soft[:, :, None], soft])
    if len(roots) == 0:
        return inside
    noise = np.random.default_rng(rng.getrandbits(32))
    # Hair grows on parts of the edge only: a smooth pattern around it.
    phase, lobes = rng.uniform(0, 6.28), rng.choice([1, 2, 3])
    cover = np.sin(np.arange(len(roots)) / len(roots) * 6.28 * lobes + phase) > rng.uniform(-1.2, 0.5)
    allowed = np.flatnonzero(cover)
    if len(allowed) == 0:
        return inside
    count = int(min(len(allowed) * look.density, 9000))
    layers = 8
    # Behind the body, then in front of its edge: back to front.
    behind = np.zeros((size, size, 4), np.float32)
    for layer in range(layers // 2):
        behind = _over(
            _strands(noise, roots, normals, allowed, colour, look, count // layers, 0.65 + 0.1 * layer), behind
        )
    result = _over(inside, behind)
    for layer in range(layers // 2):
        result = _over(
            _strands(noise, roots, normals, allowed, colour, look, count // layers, 0.9 + 0.06 * layer), result
        )
    return result


def _edge(body: np.ndarray, inset: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) along the body's edge moved inwards by up to `inset`, and outward normals (n, 2)."""
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


def _strands(
    noise: np.random.Generator,
    roots: np.ndarray,
    normals: np.ndarray,
    allowed: np.ndarray,
    colour: np.ndarray,
    look: HairStyle,
    count: int,
    brightness: float,
) -> np.ndarray:
    """A layer of strands, premultiplied (size, size, 4) float32."""
    size = len(colour)
    parts = 8
    count = max(count, 1)
    clumps = max(int(count / look.clump), 1)
    guide = allowed[noise.integers(0, len(allowed), clumps)]
    of = noise.integers(0, clumps, count)
    scatter = noise.normal(0, 1.5 + 1.5 * look.clump**0.5, count).astype(int)
    index = np.clip(guide[of] + scatter, 0, len(roots) - 1)
    alone = noise.random(count) < look.stray

    clump_angle = noise.normal(0, look.disorder, clumps)
    clump_length = look.length * np.exp(noise.normal(0, look.spread, clumps))
    clump_swing = noise.normal(0, 1, clumps)
    angle = clump_angle[of] + noise.normal(0, 0.06 + 0.25 * look.disorder * alone, count)
    length = clump_length[of] * noise.uniform(0.6, 1.1, count) * np.where(alone, noise.uniform(1, 1.6, count), 1)
    c, s = np.cos(angle), np.sin(angle)
    direction = normals[index] @ np.eye(2)
    direction = np.stack([c * direction[:, 0] - s * direction[:, 1], s * direction[:, 0] + c * direction[:, 1]], 1)
    sideways = np.stack([-direction[:, 1], direction[:, 0]], 1)
    u = np.linspace(0, 1, parts + 1)[None, :, None]
    swing = np.where(alone, noise.normal(0, 1, count), clump_swing[of])
    turns = 1 + 2 * (look.curl > 0.2)
    wave = np.sin(u[..., 0] * np.pi * turns + swing[:, None]) - np.sin(swing)[:, None]
    curve = (
        roots[index][:, None]
        + direction[:, None] * (u * length[:, None, None])
        + np.array(look.fall)[None, None] * (u**2 * length[:, None, None] * 0.6)
        + sideways[:, None] * (wave * look.curl * length[:, None] * 0.5)[..., None]
    )
    # Tips of a clump come together.
    tips = np.zeros((clumps, parts + 1, 2))
    weight = np.bincount(of, minlength=clumps)[:, None, None].clip(1)
    np.add.at(tips, of, curve)
    pull = (look.gather * u**1.5) * (~alone)[:, None, None]
    curve = curve + pull * ((tips / weight)[of] - curve)

    at = np.clip(roots[index].round().astype(int), 0, size - 1)
    base = colour[at[:, 1], at[:, 0]]
    lit = 1 + 0.25 * (direction @ np.array(look.light))
    tone = brightness * lit * np.exp(noise.normal(0, look.shine, count))
    drawn = np.clip(base * tone[:, None], 0, 1)

    n = size * _OVER
    alpha, paint = np.zeros((n, n), np.uint8), np.zeros((n, n, 3), np.uint8)
    shift = 4
    fixed = ((curve * _OVER) * (1 << shift)).round().astype(np.int32)
    thick = max(round(look.width * _OVER), 1)
    # A line of one drawn pixel is as thin as it gets: thinner strands are more translucent instead.
    strength = 255 * look.opacity * min(look.width * _OVER, 1.0)
    colours = (drawn * 255).astype(np.uint8).tolist()
    pieces = ((0, 4, 1.0, thick), (4, 6, 0.5 + 0.5 * look.tip, thick), (6, parts, look.tip, max(thick - 1, 1)))
    for k in range(count):
        for start, stop, share, width in reversed(pieces):
            line = fixed[k, start : stop + 1]
            cv2.polylines(paint, [line], False, colours[k], width + 3, cv2.LINE_8, shift)
            cv2.polylines(alpha, [line], False, int(strength * share), width, cv2.LINE_AA, shift)
    a = cv2.resize(alpha.astype(np.float32) / 255, (size, size), interpolation=cv2.INTER_AREA)
    # The paint's average counts painted pixels only.
    there = (paint.any(2)).astype(np.float32)
    mean = cv2.resize(paint.astype(np.float32) / 255, (size, size), interpolation=cv2.INTER_AREA)
    share_painted = cv2.resize(there, (size, size), interpolation=cv2.INTER_AREA)
    rgb = mean / np.maximum(share_painted, 1e-3)[:, :, None]
    return np.dstack([rgb * a[:, :, None], a]).astype(np.float32)


def _over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    out: np.ndarray = top + bottom * (1 - top[:, :, 3:])
    return out


def _streaked(rng: random.Random, premultiplied: np.ndarray) -> np.ndarray:
    """Motion blur over the whole subject, along a line or a little arc."""
    length, angle, arc = rng.uniform(6, 45), rng.uniform(0, np.pi), rng.gauss(0, 0.02)
    steps = max(int(length / 1.5), 3)
    size = len(premultiplied)
    total = np.zeros_like(premultiplied)
    for i in range(steps):
        t = i / (steps - 1) - 0.5
        a = cv2.getRotationMatrix2D((size / 2, size / 2), float(np.rad2deg(arc * t)), 1.0)
        a[:, 2] += [np.cos(angle) * length * t, np.sin(angle) * length * t]
        total += cv2.warpAffine(premultiplied, a, (size, size))
    out: np.ndarray = total / steps
    return out


def _straight(premultiplied: np.ndarray) -> np.ndarray:
    alpha = np.clip(premultiplied[:, :, 3], 0, 1)
    # Colours go on where nothing is, so that resampling mixes no black in.
    near = cv2.GaussianBlur(premultiplied, (0, 0), 3)
    far = cv2.GaussianBlur(premultiplied, (0, 0), 12)
    sums = premultiplied + 1e-3 * near + 1e-5 * far
    rgb = sums[:, :, :3] / np.maximum(sums[:, :, 3:], 1e-7)
    return np.rint(np.clip(np.dstack([rgb, alpha]), 0, 1) * 255).astype(np.uint8)
