"""What an artist does to a matte: levels, choke and grow, feather, invert. Pixels are the plate's own.

After smoothing (docs/measurements.md), and in this order: the trimap, black and white point, choke, grow, feather; then
the garbage mattes (`include`, `exclude`), which overrule what was grown, and invert. With no operation the alpha passes
bit for bit.

Grown by r, an alpha is at each pixel the largest of those within r: grey dilation by a round disc, so that an edge is
moved and stays as soft as it was, and a hair below one half grows as well as what is solid. A disc of whole pixels is
up to half a pixel short in some directions; so its rim is sampled between pixels. Choke is the same with the smallest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np

from mam_video.core.frames import Matted
from mam_video.core.settings import FinishSettings
from mam_video.runtime.stage_timer import StageTimer

_RIM = 0.03  # pixels by which the many-cornered rim may lie inside the circle
_RAMP = 2.563  # from 10 to 90 % of an edge that a Gaussian of sigma 1 made soft


class MaskFrames(Protocol):
    """Masks of a clip by frame, such as `media.mask_reader.Masks`."""

    def at(self, index: int) -> np.ndarray:
        """Return the mask of frame `index`: (H, W) float32 in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class Overrides:
    """Masks that were made by hand and overrule the model.

    trimaps  0 and 1 are final; grey is the model's
    include  the alpha is at least this
    exclude  the alpha is multiplied by one minus this; where both say something, this is the last
    """

    trimaps: MaskFrames | None = None
    include: MaskFrames | None = None
    exclude: MaskFrames | None = None


NOT_FORCED = Overrides()


def apply_edge_ops(
    matted: Matted, settings: FinishSettings, forced: Overrides = NOT_FORCED, clock: StageTimer | None = None
) -> Matted:
    """A matte as it is to be written; where nothing is done to it, itself."""
    with (clock or StageTimer()).stage("finish"):
        return _finished(matted, settings, forced)


def _finished(matted: Matted, settings: FinishSettings, forced: Overrides) -> Matted:
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
    if settings.invert:  # what is wanted then is the background's colour
        alpha, coverage = _inverted(alpha, window), _inverted(coverage, window)
    return matted if alpha is matted.alpha else replace(matted, alpha=alpha, coverage=coverage)


def inverted(matted: Matted) -> Matted:
    """Return a matte of all that is not its subject; of several subjects each one's part likewise.

    Parts that are inverted may add up to more than 1.
    """
    window, coverage = matted.frame.window, matted.alpha if matted.coverage is None else matted.coverage
    return replace(
        matted,
        alpha=_inverted(matted.alpha, window),
        coverage=_inverted(coverage, window),
        parts=tuple(inverted(part) for part in matted.parts),
    )


def with_plate_alpha(matted: Matted) -> Matted:
    """Return a finished matte times the plate's own alpha; itself where the plate has none.

    The product is what is written, looked at and read back. The coverage stays: it says how straight colours are mixed.
    """
    own = matted.frame.alpha
    if own is None:
        return matted
    coverage = matted.alpha if matted.coverage is None else matted.coverage
    return replace(matted, alpha=matted.alpha * own, coverage=coverage, matte=matted.alpha)


SURE = 0.05  # of a trimap: closer to 0 or 1 is sure; codecs and scaling leave no black quite black


def within_trimap(alpha: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """The alpha where the trimap is grey, else 0 or 1 as the trimap says; all (H, W) float32."""
    return np.where(trimap <= SURE, np.float32(0), np.where(trimap >= 1 - SURE, np.float32(1), alpha))


def finish(alpha: np.ndarray, settings: FinishSettings, window: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """The alpha with levels, choke, grow and feather.

    Args:
        alpha: (H, W) float32 in [0, 1]; not changed.
        window: (x0, y0, x1, y1) where the frame has a picture. What lies outside stays as it is and is not looked at,
            so that nothing is choked or faded at the edge of an overscan; nor is it at the frame's own edge.
    Returns: (H, W) float32 in [0, 1]; `alpha` itself where nothing was done.
    """
    if not (settings.levels or settings.choke or settings.grow or settings.feather):
        return alpha
    h, w = alpha.shape
    x0, y0, x1, y1 = window or (0, 0, w, h)
    part = alpha[y0:y1, x0:x1]
    if settings.levels:
        black, white = np.float32(settings.black), np.float32(settings.white)
        part = np.clip((part - black) / (white - black), 0, 1)
    if settings.choke:
        part = _moved(part, settings.choke, inwards=True)
    if settings.grow:
        part = _moved(part, settings.grow, inwards=False)
    if settings.feather:
        part = _feathered(part, settings.feather)
    if part.shape == alpha.shape:
        return np.ascontiguousarray(part)
    whole = alpha.copy()
    whole[y0:y1, x0:x1] = part
    return whole


def _inverted(alpha: np.ndarray, window: tuple[int, int, int, int] | None) -> np.ndarray:
    """1 - alpha inside `window`: where there is no picture there is nothing to show."""
    h, w = alpha.shape
    x0, y0, x1, y1 = window or (0, 0, w, h)
    other = np.zeros_like(alpha)
    other[y0:y1, x0:x1] = 1 - alpha[y0:y1, x0:x1]
    return other


def _moved(alpha: np.ndarray, radius: float, *, inwards: bool) -> np.ndarray:
    """Every edge moved by `radius` pixels; only the surroundings of what is neither 0 nor 1 are worked on."""
    part = _around_edges(alpha, math.ceil(radius) + 1)
    if part is None:
        return alpha
    here = alpha[part]
    whole, most = (cv2.erode, cv2.min) if inwards else (cv2.dilate, cv2.max)
    reach = int(radius)
    across = np.arange(-reach, reach + 1)
    disc = (np.hypot(across, across[:, None]) <= radius).astype(np.uint8)
    found = whole(here, disc, borderType=cv2.BORDER_REPLICATE)
    corners = 4 * math.ceil(math.pi / math.acos(max(1 - _RIM / radius, 0.0)) / 4)
    h, w = here.shape
    for angle in np.arange(corners) * (2 * math.pi / corners):
        shift = np.array([[1, 0, radius * math.cos(angle)], [0, 1, radius * math.sin(angle)]])
        rim = cv2.warpAffine(here, shift, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        found = most(found, rim)
    moved = alpha.copy()
    moved[part] = np.clip(found, 0, 1)
    return moved


def _feathered(alpha: np.ndarray, width: float) -> np.ndarray:
    """Gaussian: a hard edge becomes a ramp of `width` pixels from 10 to 90 %, its half where the edge was."""
    sigma = width / _RAMP
    reach = math.ceil(4 * sigma)
    part = _around_edges(alpha, reach)
    if part is None:
        return alpha
    side = 2 * reach + 1
    soft = alpha.copy()
    blurred = cv2.GaussianBlur(alpha[part], (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    soft[part] = np.clip(blurred, 0, 1)
    return soft


def _around_edges(alpha: np.ndarray, reach: int) -> tuple[slice, slice] | None:
    """Rows and columns within `reach` of any change; None where there is none. Beyond them all is flat."""
    level = alpha[0, 0]
    x, y, w, h = cv2.boundingRect((alpha != level).astype(np.uint8))
    if w == 0:
        return None
    reach += 1  # what is cut off is repeated, so that one pixel of the flat must be left
    return slice(max(y - reach, 0), y + h + reach), slice(max(x - reach, 0), x + w + reach)
