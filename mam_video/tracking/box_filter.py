"""Constant-velocity Kalman filter of a box."""

from __future__ import annotations

import numpy as np

from mam_video.core.geometry import Box


class BoxFilter:
    """Constant-velocity Kalman filter of a box: its centre and the logarithms of width and height, each independently.

    Positions are measured in sizes of the box, so that one set of noises serves every scale.
    """

    _measured = 0.04**2  # variances, in sizes of the box
    _pushed = 0.02**2

    def __init__(self, box: Box) -> None:
        self._mean = np.stack([self._parts(box), np.zeros(4)], axis=1)  # (4, 2): value and speed
        self._unit = np.array([box.width, box.height, 1.0, 1.0])
        self._cov = np.tile(np.diag([self._measured, 0.1**2]), (4, 1, 1))

    @staticmethod
    def _parts(box: Box) -> np.ndarray:
        return np.array([*box.centre, np.log(box.width), np.log(box.height)])

    def predict(self) -> Box:
        """Go one frame on, and return the box expected there."""
        step = np.array([[1.0, 1.0], [0.0, 1.0]])
        self._mean = self._mean @ step.T
        self._cov = step @ self._cov @ step.T + self._pushed * np.array([[0.25, 0.5], [0.5, 1.0]])
        return self._box()

    @property
    def speed(self) -> tuple[float, float]:
        """(x, y) of the centre, frame pixels a frame."""
        return float(self._mean[0, 1]), float(self._mean[1, 1])

    def update(self, box: Box) -> None:
        """Correct the state by a measured box."""
        units = self._unit[:, None]
        gain = self._cov[:, :, 0] / (self._cov[:, 0, 0] + self._measured)[:, None]
        error = (self._parts(box) - self._mean[:, 0])[:, None] / units
        self._mean = self._mean + gain * error * units
        self._cov = self._cov - gain[:, :, None] * self._cov[:, 0:1, :]
        self._unit = np.array([box.width, box.height, 1.0, 1.0])

    def _box(self) -> Box:
        cx, cy = self._mean[:2, 0]
        half_w, half_h = np.exp(np.clip(self._mean[2:, 0], -10, 12)) / 2
        return Box(float(cx - half_w), float(cy - half_h), float(cx + half_w), float(cy + half_h))
