"""Colour histograms that tell several subjects apart, pixel by pixel."""

from __future__ import annotations

import numpy as np

SURE = 4.0  # logits; a predicted mask counts no more than this
_BINS = 16  # a channel
_LEAST = 1e-4  # chance of a colour that was never seen
_FADE = 0.1  # of what is known of the colours of later frames, a frame


class SubjectColours:
    """A subject's colour distribution: that of the prompted frame, which never fades, and that of later frames."""

    def __init__(self) -> None:
        self._first: np.ndarray | None = None
        self._later: np.ndarray | None = None

    def learn(self, colours: np.ndarray) -> None:
        """Add the subject's colours in a confident frame, (n, 3) uint8."""
        if not len(colours):
            return
        counts = np.bincount(bin_of(colours), minlength=_BINS**3).astype(np.float64)
        found = _blurred(counts / counts.sum())
        if self._first is None:
            self._first = self._later = found
        assert self._later is not None
        self._later = (1 - _FADE) * self._later + _FADE * found

    @property
    def chances(self) -> np.ndarray:
        """The probability of each colour, (bins,) float64; uniform where nothing is known."""
        if self._first is None or self._later is None:
            return np.full(_BINS**3, 1 / _BINS**3)
        return 0.5 * (self._first + self._later)


def bin_of(colours: np.ndarray) -> np.ndarray:
    """Return the bin of each colour, (...) int, of (..., 3) uint8."""
    step = 256 // _BINS
    red, green, blue = (colours[..., k].astype(np.intp) // step for k in range(3))
    return (red * _BINS + green) * _BINS + blue


def _blurred(chances: np.ndarray) -> np.ndarray:
    """Smooth over neighbouring bins: light changes, so neighbouring colours are nearly as likely."""
    cube = chances.reshape(_BINS, _BINS, _BINS)
    for axis in range(3):
        wide = np.pad(cube, [(1, 1) if k == axis else (0, 0) for k in range(3)], mode="edge")
        low, middle, high = (np.take(wide, range(k, k + _BINS), axis) for k in range(3))
        cube = 0.25 * low + 0.5 * middle + 0.25 * high
    return cube.reshape(-1)


def colour_ratio(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the log-likelihood ratio of each colour, `own` against `other`: (bins,), within +-`SURE`."""
    return np.clip(np.log((own + _LEAST) / (other + _LEAST)), -SURE, SURE)
