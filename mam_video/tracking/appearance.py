"""The subject's appearance: colour histograms, without any model, so that every model profits.

A mask is described by the histogram of the colours inside it. The similarity of two histograms is the Bhattacharyya
coefficient, 0..1 (Comaniciu et al., PAMI 2003). The prompted frame's histogram never fades. Those of the latest
confident frames are kept beside it, since a subject turns and walks into other light.

The light is estimated separately: the median ratio of brightness along the motion, from frame to frame. A scene that
darkens thus stays the same scene. Over a cut, and in a flash that burns everything out, nothing corresponds: then the
mean brightnesses are compared.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame
from mam_video.core.geometry import Box
from mam_video.motion.flow import Motion

_LIGHTS, _TONES = 8, 16  # bins of lightness, and of each of the two axes of colour
_SMALL = 160  # longer side of the reduced frame, in pixels
_SAME_PICTURE = 0.5  # correlation with the warped previous frame; below, nothing corresponds
_STEP = 5  # frames between two histograms that are kept
_KEPT = 3  # recent histograms


@dataclass(frozen=True, slots=True)
class ColourHistogram:
    """Colour histograms inside a mask and around it; each sums to 1, or to 0 where there is no pixel."""

    inside: np.ndarray = field(repr=False)
    around: np.ndarray = field(repr=False)


class Light:
    """The clip's brightness relative to its prompted frame.

    gain    factor that brings the frame's brightness to that of the prompted one
    step    change of light from the previous frame, as a logarithm of the factor
    same    correlation of the frame with the warped previous one: about 1 in a shot, about 0 over a cut
    small   the frame, reduced: (h, w, 3) uint8; None before the first
    """

    def __init__(self) -> None:
        self.gain = 1.0
        self.step = 0.0
        self.same = 1.0
        self.small: np.ndarray | None = None
        self._before: np.ndarray | None = None

    def update(self, frame: Frame, motion: Motion | None) -> None:
        """Take over the next frame. `motion` leads to it from the previous one."""
        self.small = _small(frame.rgb8)
        red, green, blue = (self.small[..., k].astype(np.float32) for k in range(3))
        now = (red + green + blue) / np.float32(3)
        self.step, self.same = 0.0, 1.0
        if self._before is not None and motion is not None:
            # A flash blinds the motion too: then the picture that is not warped fits better.
            pictures = [motion.carry(self._before), self._before]
            correlations = [_correlation(picture, now) for picture in pictures]
            best = int(np.argmax(correlations))
            self.same = correlations[best]
            if self.same >= _SAME_PICTURE:
                self.step = float(np.median(np.log((now + 4) / (pictures[best] + 4))))
            else:
                self.step = float(np.log((now.mean() + 4) / (self._before.mean() + 4)))
            self.gain *= float(np.exp(-self.step))
        self._before = now

    @property
    def gains(self) -> tuple[float, ...]:
        """Possible gains: the estimated one, and 1 as if the first light were back."""
        return (self.gain,) if abs(np.log(self.gain)) < 0.05 else (self.gain, 1.0)


class Appearance:
    """The colour histograms of one subject."""

    def __init__(self) -> None:
        self.anchor: ColourHistogram | None = None
        self._recent: deque[ColourHistogram] = deque(maxlen=_KEPT)
        self._last = 0

    def learn(self, histogram: ColourHistogram, index: int, prompted: bool) -> None:
        """Add the histogram of a confident frame; `prompted`: the user pointed at the subject in it."""
        if prompted:
            self.anchor, self._last = histogram, index
        elif abs(index - self._last) >= _STEP:
            self._recent.append(histogram)
            self._last = index

    def similarity(self, histogram: ColourHistogram) -> float:
        """Return the similarity of a mask to the subject in the prompted or a recent frame, the best of them, 0..1."""
        known = [self.anchor, *self._recent] if self.anchor is not None else []
        return max((_similarity(histogram.inside, k.inside) for k in known if k is not None), default=1.0)

    def _likely_pixels(self, small: np.ndarray, gain: float) -> tuple[np.ndarray, np.ndarray]:
        """Return where the reduced frame `small` has colours that are more the subject's than the picture's.

        Both are (h, w): bool, and the bin of each pixel's colour.
        """
        assert self.anchor is not None
        cells = _bins(small, gain)
        own = np.mean([known.inside for known in (self.anchor, *self._recent)], axis=0)
        picture = np.maximum(_histogram(cells, np.ones(cells.shape, bool)), self.anchor.around)
        likely = (own > 2 * picture) & (own > 1e-3)
        return likely[cells], cells

    def candidate_regions(
        self,
        frame: Frame,
        gain: float,
        box: Box,
        apart_from: Box | None = None,
        most: int = 2,
        small: np.ndarray | None = None,
    ) -> list[CandidateRegion]:
        """Find regions of about the size of `box` that have the subject's colours, in the whole frame, best first.

        Pixels within `apart_from` do not count. At most `most` regions are returned. `small`: the frame, reduced, if
        `Light.small` holds it.
        """
        if self.anchor is None:
            return []
        found, cells = self._likely_pixels(_small(frame.rgb8) if small is None else small, gain)
        h, w = found.shape
        sx, sy = frame.size[1] / w, frame.size[0] / h
        if apart_from is not None:
            x0, y0, x1, y1 = _cells_of(apart_from, sx, sy, (h, w))
            found[y0:y1, x0:x1] = False
        width, height = max(round(box.width / sx), 3), max(round(box.height / sy), 3)
        regions: list[CandidateRegion] = []
        for _ in range(most):
            count = cv2.boxFilter(
                found.astype(np.float32), -1, (width, height), normalize=False, borderType=cv2.BORDER_CONSTANT
            )
            y, x = np.unravel_index(int(count.argmax()), count.shape)
            y0, x0 = max(int(y) - height // 2, 0), max(int(x) - width // 2, 0)
            part = np.zeros_like(found)
            part[y0 : y0 + height + 1, x0 : x0 + width + 1] = found[y0 : y0 + height + 1, x0 : x0 + width + 1]
            if part.sum() < 4:
                break
            rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
            similarity = max(
                _similarity(_histogram(cells, part), known.inside) for known in (self.anchor, *self._recent)
            )
            tight = Box(
                float(columns[0] * sx), float(rows[0] * sy), float((columns[-1] + 1) * sx), float((rows[-1] + 1) * sy)
            )
            regions.append(CandidateRegion(tight, float(part.sum()) / (h * w), similarity))
            found = found & ~part
        return regions


@dataclass(frozen=True, slots=True)
class CandidateRegion:
    """A region that has the subject's colours.

    box         tight, frame pixels
    area        of its pixels, as a share of the frame
    similarity  of its histogram to the subject's, 0..1
    """

    box: Box
    area: float
    similarity: float


def histogram_of(frame: Frame, crop: Crop, logits: np.ndarray, gain: float) -> ColourHistogram:
    """Return the histogram of a mask, (m, m) logits over a crop's square, with the brightness multiplied by `gain`."""
    m = len(logits)
    rows, columns = (max(int(np.ceil(n * m / crop.size)), 1) for n in crop.content)
    part = frame.rgb8[crop.y0 : crop.y0 + crop.height, crop.x0 : crop.x0 + crop.width]
    cells = _bins(cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), gain)
    mask = np.ascontiguousarray(logits[:rows, :columns] > 0)
    whole = mask.astype(np.uint8)
    inner = cv2.erode(whole, np.ones((3, 3), np.uint8)) > 0
    reach = 2 * max(int(0.2 * np.sqrt(mask.sum())), 3) + 1
    ring = (cv2.dilate(whole, np.ones((reach, reach), np.uint8)) > 0) & ~mask
    return ColourHistogram(_histogram(cells, inner if inner.sum() >= 8 else mask), _histogram(cells, ring))


def _small(rgb: np.ndarray) -> np.ndarray:
    h, w = rgb.shape[:2]
    shrink = min(_SMALL / max(h, w), 1)
    return np.asarray(
        cv2.resize(rgb, (max(round(w * shrink), 1), max(round(h * shrink), 1)), interpolation=cv2.INTER_AREA)
    )


def _cells_of(box: Box, sx: float, sy: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    h, w = size
    x0, y0 = max(int(np.floor(box.x0 / sx)), 0), max(int(np.floor(box.y0 / sy)), 0)
    return x0, y0, min(int(np.ceil(box.x1 / sx)), w), min(int(np.ceil(box.y1 / sy)), h)


def _bins(rgb: np.ndarray, gain: float) -> np.ndarray:
    """Return the bin of each pixel's colour, (h, w) int, with the brightness multiplied by `gain`."""
    lit = cv2.convertScaleAbs(rgb, alpha=gain) if gain != 1 else rgb
    lab = cv2.cvtColor(lit, cv2.COLOR_RGB2LAB).astype(np.int32)
    light = lab[..., 0] * _LIGHTS // 256
    a, b = (np.clip((lab[..., k] - 128) // 8 + _TONES // 2, 0, _TONES - 1) for k in (1, 2))
    return np.asarray((light * _TONES + a) * _TONES + b)


def _histogram(cells: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the histogram of the cells inside the mask, smoothed over neighbouring bins."""
    count = np.bincount(cells[mask], minlength=_LIGHTS * _TONES * _TONES).astype(np.float32)
    planes = count.reshape(_LIGHTS, _TONES, _TONES).transpose(1, 2, 0)
    soft = cv2.GaussianBlur(np.ascontiguousarray(planes), (3, 3), 0.7).transpose(2, 0, 1)
    soft[1:-1] = 0.25 * soft[:-2] + 0.5 * soft[1:-1] + 0.25 * soft[2:]
    total = float(soft.sum())
    return np.asarray((soft / total if total else soft).ravel())


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / spread if spread > 0 else 1.0


def _similarity(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(a * b).sum())
