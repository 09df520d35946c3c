"""What the subject looks like, by its colours alone: no model is asked, and every model is helped.

A mask is described by the histogram of the colours inside it. How alike two are is the Bhattacharyya coefficient, 0..1
(Comaniciu et al., PAMI 2003). The prompted frame's never fades; of the confident frames the latest are kept beside it,
since a subject turns and walks into other light.

The light is followed apart from that: the median ratio of brightness along the motion, from frame to frame, so that a
scene that darkens is the same scene. Over a cut, and in a flash that burns everything out, nothing corresponds: then
the means are compared.
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
_SMALL = 160  # longer side of the whole frame where it is searched, in pixels
_SAME_PICTURE = 0.5  # correlation with the frame before, moved; below, nothing corresponds
_STEP = 5  # frames between two that are remembered
_KEPT = 3  # of these


@dataclass(frozen=True, slots=True)
class ColourHistogram:
    """The colours of a mask and of what is around it, histograms that sum to 1 (or 0, where there is nothing)."""

    inside: np.ndarray = field(repr=False)
    around: np.ndarray = field(repr=False)


class Light:
    """How bright the clip is against its prompted frame.

    gain    factor that brings the frame's brightness to that of the prompted one
    step    by which factor the light changed from the frame before, as a logarithm
    same    correlation of the frame with the one before, moved: about 1 in a shot, about 0 over a cut
    """

    def __init__(self) -> None:
        self.gain = 1.0
        self.step = 0.0
        self.same = 1.0
        self._before: np.ndarray | None = None

    def see(self, frame: Frame, motion: Motion | None) -> None:
        """The next frame. `motion` leads to it from the one before."""
        now = _small(frame.rgb8).astype(np.float32).mean(2)
        self.step, self.same = 0.0, 1.0
        if self._before is not None and motion is not None:
            # A flash blinds the motion too: then the picture that has not been moved is the likelier one.
            pictures = [motion.carry(self._before), self._before]
            likeness = [_correlation(picture, now) for picture in pictures]
            best = int(np.argmax(likeness))
            self.same = likeness[best]
            if self.same >= _SAME_PICTURE:
                self.step = float(np.median(np.log((now + 4) / (pictures[best] + 4))))
            else:
                self.step = float(np.log((now.mean() + 4) / (self._before.mean() + 4)))
            self.gain *= float(np.exp(-self.step))
        self._before = now

    @property
    def gains(self) -> tuple[float, ...]:
        """What the gain may be: as followed, and as if the light had come back."""
        return (self.gain,) if abs(np.log(self.gain)) < 0.05 else (self.gain, 1.0)


class Appearance:
    """What is known of one subject's look."""

    def __init__(self) -> None:
        self.anchor: ColourHistogram | None = None
        self._recent: deque[ColourHistogram] = deque(maxlen=_KEPT)
        self._last = 0

    def learn(self, look: ColourHistogram, index: int, prompted: bool) -> None:
        """From a frame in which the subject was found without doubt; `prompted`, where the user pointed at it."""
        if prompted:
            self.anchor, self._last = look, index
        elif abs(index - self._last) >= _STEP:
            self._recent.append(look)
            self._last = index

    def similarity(self, look: ColourHistogram) -> float:
        """How much a mask looks like the subject in the prompted frame or in one of the recent ones, 0..1."""
        known = [self.anchor, *self._recent] if self.anchor is not None else []
        return max((_similarity(look.inside, k.inside) for k in known if k is not None), default=1.0)

    def _evidence(self, frame: Frame, gain: float) -> tuple[np.ndarray, np.ndarray]:
        """Over the small whole frame: (h, w) bool, cells whose colour is the subject's rather than this picture's; and
        the cells' bins."""
        assert self.anchor is not None
        cells = _bins(_small(frame.rgb8), gain)
        own = np.mean([look.inside for look in (self.anchor, *self._recent)], axis=0)
        picture = np.maximum(_histogram(cells, np.ones(cells.shape, bool)), self.anchor.around)
        likely = (own > 2 * picture) & (own > 1e-3)
        return likely[cells], cells

    def candidate_regions(
        self, frame: Frame, gain: float, box: Box, apart_from: Box | None = None, most: int = 2
    ) -> list[CandidateRegion]:
        """Where in the whole frame something of about the size of `box` has the subject's colours, best first.

        Nothing within `apart_from` counts.
        """
        if self.anchor is None:
            return []
        found, cells = self._evidence(frame, gain)
        h, w = found.shape
        sx, sy = frame.size[1] / w, frame.size[0] / h
        if apart_from is not None:
            x0, y0, x1, y1 = _cells_of(apart_from, sx, sy, (h, w))
            found[y0:y1, x0:x1] = False
        width, height = max(round(box.width / sx), 3), max(round(box.height / sy), 3)
        places: list[CandidateRegion] = []
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
            similarity = max(_similarity(_histogram(cells, part), look.inside) for look in (self.anchor, *self._recent))
            tight = Box(
                float(columns[0] * sx), float(rows[0] * sy), float((columns[-1] + 1) * sx), float((rows[-1] + 1) * sy)
            )
            places.append(CandidateRegion(tight, float(part.sum()) / (h * w), similarity))
            found = found & ~part
        return places


@dataclass(frozen=True, slots=True)
class CandidateRegion:
    """Something of the subject's colours: tight box in frame pixels, its area as a share of the frame, likeness."""

    box: Box
    area: float
    similarity: float


def histogram_of(frame: Frame, view: Crop, logits: np.ndarray, gain: float) -> ColourHistogram:
    """The look of a mask, (m, m) logits over a view's square."""
    m = len(logits)
    rows, columns = (max(int(np.ceil(n * m / view.size)), 1) for n in view.content)
    part = frame.rgb8[view.y0 : view.y0 + view.height, view.x0 : view.x0 + view.width]
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
    """(h, w) int: the bin of each pixel's colour, its brightness brought to that of the prompted frame."""
    lit = cv2.convertScaleAbs(rgb, alpha=gain) if gain != 1 else rgb
    lab = cv2.cvtColor(lit, cv2.COLOR_RGB2LAB).astype(np.int32)
    light = lab[..., 0] * _LIGHTS // 256
    a, b = (np.clip((lab[..., k] - 128) // 8 + _TONES // 2, 0, _TONES - 1) for k in (1, 2))
    return np.asarray((light * _TONES + a) * _TONES + b)


def _histogram(cells: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Of the cells inside the mask, spread a little over neighbouring bins."""
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
