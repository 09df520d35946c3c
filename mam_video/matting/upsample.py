"""Guided upsampling: sharpen the alpha of a crop at the plate's resolution, with the plate as guide.

The model works on a crop of limited size, so the alpha of a 4K plate comes back enlarged and soft. A guided filter (He,
Sun, Tang 2013) expresses the small alpha as a local linear function of the small picture's colour. The same function of
the full-size picture gives the sharp alpha. (This is the "fast guided filter" of He and Sun 2015: the costly half runs
at the small size.) Back projection restores what the filter blurs. Only the soft band changes: certain subject and
background keep their exact values.
"""

from __future__ import annotations

import cv2
import numpy as np

from mam_video.core.area_shrink import AreaShrink
from mam_video.core.arrays import RGB8, Alpha, Grey8
from mam_video.core.crop import Crop
from mam_video.core.guided_filter import box_mean, fit_colours
from mam_video.core.settings import RefineSettings


def refine(alpha: Alpha, picture: RGB8, view: Crop, settings: RefineSettings) -> Alpha:
    """Sharpen the alpha of a crop that covers more plate pixels than the model saw.

    Args:
        alpha: (height, width) float32 in [0, 1], the crop's rectangle, enlarged from the resolution of the crop.
        picture: (height, width, 3) uint8 RGB, the same rectangle of the plate.
        view: the crop. Without reduction there is nothing to sharpen.
        settings: radius in crop pixels, eps in squared units of [0, 1] colour.
    Returns: (height, width) float32 in [0, 1]; `alpha` itself if nothing was done.
    """
    content_h, content_w = view.content
    if not settings.enabled or view.width <= content_w or view.height <= content_h:
        return alpha
    band = _soft_band(alpha, reach=2 * view.width / content_w)
    x, y, w, h = cv2.boundingRect(band)
    if w == 0:
        return alpha
    # the part around the soft band, in whole crop pixels, with a margin for the filters
    sx, sy = view.scale
    left, top = max(int(x * sx) - 8, 0), max(int(y * sy) - 8, 0)
    right, bottom = min(int((x + w) * sx) + 8, content_w), min(int((y + h) * sy) + 8, content_h)
    small_size = (right - left, bottom - top)
    # Sampling at the centres of the crop's pixels returns the samples before enlargement. A mean would blur twice.
    centres = np.array([[1 / sx, 0, (left + 0.5) / sx - 0.5], [0, 1 / sy, (top + 0.5) / sy - 0.5]])
    sample = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    small_alpha = cv2.warpAffine(alpha, centres, small_size, flags=sample, borderMode=cv2.BORDER_REPLICATE)
    shrink = AreaShrink(alpha.shape, view.content, (top, bottom, left, right))
    *slopes, offset = _guided_coefficients(shrink(picture), small_alpha, settings.radius, settings.eps)

    rows, columns = slice(y, y + h), slice(x, x + w)
    to_small = np.array([[sx, 0, (x + 0.5) * sx - 0.5 - left], [0, sy, (y + 0.5) * sy - 0.5 - top]])

    def enlarged(small: np.ndarray) -> np.ndarray:
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(small, to_small, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE)

    guide = [channel.astype(np.float32) * np.float32(1 / 255) for channel in cv2.split(picture[rows, columns])]
    sharp = alpha.copy()
    part = enlarged(offset)
    for channel, slope in enumerate(slopes):
        term = enlarged(slope)
        term *= guide[channel]
        part += term
    # Back projection (Irani and Peleg 1991): reduced again, the sharp alpha must equal the model's alpha.
    for iteration in range(settings.projections + 1):
        sharp[rows, columns] = np.clip(part, 0, 1)
        if iteration < settings.projections:
            part = sharp[rows, columns] + enlarged(small_alpha - shrink(sharp))
    part, own = sharp[rows, columns], alpha[rows, columns]
    np.copyto(part, own, where=band[rows, columns] == 0)
    return sharp


def _soft_band(alpha: Alpha, reach: float) -> Grey8:
    """Mark the pixels within `reach` of any alpha that is neither 0 nor 1: (H, W) uint8, 0 or 1."""
    soft = ((alpha > 1 / 255) & (alpha < 1 - 1 / 255)).view(np.uint8)
    size = 2 * max(round(reach), 1) + 1
    return cv2.dilate(soft, np.ones((size, size), np.uint8))


def _guided_coefficients(picture: RGB8, alpha: Alpha, radius: float, eps: float) -> list[np.ndarray]:
    """Fit per pixel a (one map per colour) and b, so that alpha is about a . colour + b; each (h, w) float32.

    Source: He, Sun, Tang, "Guided Image Filtering" (2013), the colour form, equations 14 to 16.
    """
    mean = box_mean(max(round(radius), 1), cv2.BORDER_REFLECT)
    # float64, because in float32 the determinant of a nearly flat patch cancels to noise
    fit = fit_colours(cv2.split(picture.astype(np.float64) / 255), alpha.astype(np.float64), mean, eps)
    slopes = [numerator / fit.determinant for numerator in fit.numerators]
    offset = fit.mean_value - sum(s * m for s, m in zip(slopes, fit.means, strict=True))
    return [mean(m).astype(np.float32) for m in (*slopes, offset)]
