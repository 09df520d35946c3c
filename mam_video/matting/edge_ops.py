"""Edge operations on a matte: levels, choke, grow, feather, invert. Lengths are in plate pixels.

They run after smoothing (docs/measurements.md) in this order: trimap, black and white point, choke, grow, feather,
garbage mattes (`include`, `exclude`), invert. The garbage mattes come after grow, so grow does not change them. Without
any setting the alpha passes unchanged, bit for bit.

Grow by r sets each pixel to the largest alpha within r: a grey dilation by a round disc. It moves an edge and keeps its
softness, and it also grows a hair whose alpha is below one half. A disc of whole pixels is up to half a pixel too short
in some directions, so its rim is sampled between pixels. Choke uses the smallest alpha instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np

from mam_video.core.arrays import Alpha
from mam_video.core.frames import Matted
from mam_video.core.settings import FinishSettings
from mam_video.runtime.stage_timer import StageTimer

_RIM = 0.03  # pixels; the largest distance of the polygonal rim from the circle
_RAMP = 2.563  # pixels from 10 to 90 % of a hard edge blurred by a Gaussian with sigma 1


class MaskFrames(Protocol):
    """The masks of a clip by frame, such as `media.mask_reader.Masks`."""

    def at(self, index: int) -> Alpha:
        """Return the mask of frame `index`: (H, W) float32 in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class Overrides:
    """Masks made by hand that override the model.

    trimaps  0 and 1 are final; where it is grey the model's alpha holds
    include  lower bound of the alpha
    exclude  the alpha is multiplied by one minus this, after `include`
    """

    trimaps: MaskFrames | None = None
    include: MaskFrames | None = None
    exclude: MaskFrames | None = None


NOT_FORCED = Overrides()


def apply_edge_ops(
    matted: Matted, settings: FinishSettings, forced: Overrides = NOT_FORCED, clock: StageTimer | None = None
) -> Matted:
    """Apply the edge operations to a matte. Returns the matte itself if nothing changes."""
    with (clock or StageTimer()).stage("finish"):
        return _edge_ops(matted, settings, forced)


def _edge_ops(matted: Matted, settings: FinishSettings, forced: Overrides) -> Matted:
    index, window = matted.frame.index, matted.frame.window
    alpha = matted.alpha
    if forced.trimaps is not None:
        alpha = within_trimap(alpha, forced.trimaps.at(index))
    coverage = alpha
    alpha = finish(alpha, settings, window)
    if forced.include is not None:
        alpha = np.maximum(alpha, forced.include.at(index))
    if forced.exclude is not None:
        alpha = alpha * (1 - forced.exclude.at(index))
    if settings.invert:  # the coverage is inverted too: the colour is then the background's
        alpha, coverage = _invert(alpha, window), _invert(coverage, window)
    return matted if alpha is matted.alpha else replace(matted, alpha=alpha, coverage=coverage)


def inverted(matted: Matted) -> Matted:
    """Return a matte of all that is not its subject; of several subjects each one's part likewise.

    Parts that are inverted may add up to more than 1.
    """
    window, coverage = matted.frame.window, matted.alpha if matted.coverage is None else matted.coverage
    return replace(
        matted,
        alpha=_invert(matted.alpha, window),
        coverage=_invert(coverage, window),
        parts=tuple(inverted(part) for part in matted.parts),
    )


def with_plate_alpha(matted: Matted) -> Matted:
    """Multiply the alpha by the plate's own alpha. Returns the matte itself if the plate has none.

    The product is written, shown and read back. The coverage does not change, since it describes how straight colours
    are mixed.
    """
    plate_alpha = matted.frame.alpha
    if plate_alpha is None:
        return matted
    coverage = matted.alpha if matted.coverage is None else matted.coverage
    return replace(matted, alpha=matted.alpha * plate_alpha, coverage=coverage, matte=matted.alpha)


SURE = 0.05  # a trimap value this close to 0 or 1 is certain, since codecs and scaling change black and white a little


def within_trimap(alpha: Alpha, trimap: Alpha) -> Alpha:
    """Keep the alpha where the trimap is grey, and set it to 0 or 1 elsewhere; all (H, W) float32."""
    return np.where(trimap <= SURE, np.float32(0), np.where(trimap >= 1 - SURE, np.float32(1), alpha))


def finish(alpha: Alpha, settings: FinishSettings, window: tuple[int, int, int, int] | None = None) -> Alpha:
    """Apply levels, choke, grow and feather to an alpha.

    Args:
        alpha: (H, W) float32 in [0, 1]; not changed.
        settings: the edge operations.
        window: (x0, y0, x1, y1) where the frame has a picture; None: everywhere. Pixels outside are neither changed nor
            read, so nothing is choked or faded at the edge of the window or of the frame.
    Returns: (H, W) float32 in [0, 1]; `alpha` itself if nothing was done.
    """
    if not (settings.levels or settings.choke or settings.grow or settings.feather):
        return alpha
    h, w = alpha.shape
    x0, y0, x1, y1 = window or (0, 0, w, h)
    region = alpha[y0:y1, x0:x1]
    if settings.levels:
        black, white = np.float32(settings.black), np.float32(settings.white)
        region = np.clip((region - black) / (white - black), 0, 1)
    if settings.choke:
        region = _move_edges(region, settings.choke, inwards=True)
    if settings.grow:
        region = _move_edges(region, settings.grow, inwards=False)
    if settings.feather:
        region = _feather(region, settings.feather)
    if region.shape == alpha.shape:
        return np.ascontiguousarray(region)
    whole = alpha.copy()
    whole[y0:y1, x0:x1] = region
    return whole


def _invert(alpha: Alpha, window: tuple[int, int, int, int] | None) -> Alpha:
    """Compute 1 - alpha inside `window`, and 0 outside, where there is no picture."""
    h, w = alpha.shape
    x0, y0, x1, y1 = window or (0, 0, w, h)
    inverted = np.zeros_like(alpha)
    inverted[y0:y1, x0:x1] = 1 - alpha[y0:y1, x0:x1]
    return inverted


def _move_edges(alpha: Alpha, radius: float, *, inwards: bool) -> Alpha:
    """Move every edge by `radius` pixels. Only the surroundings of alpha changes are computed."""
    region = _around_edges(alpha, math.ceil(radius) + 1)
    if region is None:
        return alpha
    source = alpha[region]
    whole, extreme = (cv2.erode, cv2.min) if inwards else (cv2.dilate, cv2.max)
    reach = int(radius)
    across = np.arange(-reach, reach + 1)
    disc = (np.hypot(across, across[:, None]) <= radius).astype(np.uint8)
    grown = whole(source, disc, borderType=cv2.BORDER_REPLICATE)
    h, w = source.shape
    for dx, dy in rim_of(radius):
        shift = np.array([[1, 0, dx], [0, 1, dy]])
        rim = cv2.warpAffine(source, shift, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        grown = extreme(grown, rim)
    moved = alpha.copy()
    moved[region] = np.clip(grown, 0, 1)
    return moved


def rim_of(radius: float) -> list[tuple[float, float]]:
    """Return the corners (x, y) of a polygon whose distance from the circle is at most `_RIM` pixels."""
    corners = 4 * math.ceil(math.pi / math.acos(max(1 - _RIM / radius, 0.0)) / 4)
    angles = np.arange(corners) * (2 * math.pi / corners)
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def gaussian_of(width: float) -> np.ndarray:
    """Return the weights (n,) float32 of a blur that makes a ramp of `width` pixels of a hard edge, from 10 to 90 %."""
    sigma = width / _RAMP
    side = 2 * math.ceil(4 * sigma) + 1
    return np.asarray(cv2.getGaussianKernel(side, sigma, cv2.CV_32F))[:, 0]


def _feather(alpha: Alpha, width: float) -> Alpha:
    """Blur by a Gaussian: a hard edge becomes a ramp of `width` pixels from 10 to 90 %, centred on the edge."""
    sigma = width / _RAMP
    reach = math.ceil(4 * sigma)
    region = _around_edges(alpha, reach)
    if region is None:
        return alpha
    side = 2 * reach + 1
    feathered = alpha.copy()
    blurred = cv2.GaussianBlur(alpha[region], (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    feathered[region] = np.clip(blurred, 0, 1)
    return feathered


def _around_edges(alpha: Alpha, reach: int) -> tuple[slice, slice] | None:
    """Find the rows and columns within `reach` pixels of any change of alpha; None if the alpha is constant."""
    corner = alpha[0, 0]
    x, y, w, h = cv2.boundingRect((alpha != corner).astype(np.uint8))
    if w == 0:
        return None
    reach += 1  # the border is replicated, so one pixel of the constant area must remain
    return slice(max(y - reach, 0), y + h + reach), slice(max(x - reach, 0), x + w + reach)
