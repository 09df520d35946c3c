"""Optical flow between neighbouring frames, computed ahead of the tracker in threads.

Flow is measured on small grey pictures ("motion pictures") whose longer side is `MotionSettings.side`, by OpenCV's DIS
(Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016), in both directions. It depends on no model
and no subject.

There are two scales: flow arrays hold motion-picture pixels; the methods of `Motion` take and return frame pixels, or
arrays of the size that was given.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from mam_video.core.arrays import RGB8, Flow, Grey8, Mask
from mam_video.core.frames import Frame
from mam_video.core.geometry import Box
from mam_video.core.settings import MotionSettings
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import closing_iter, ordered_map

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


class Shift(NamedTuple):
    """The motion of a region as a whole, in frame pixels.

    spread  median distance of its pixels' own motion from (dx, dy): small for a rigid region, large for limbs
    """

    dx: float
    dy: float
    spread: float


@dataclass(frozen=True, slots=True)
class Motion:
    """Dense motion between two neighbouring frames, measured once in each direction.

    source, target  indices of the two frames; source is shown first
    frame_size      (H, W) of the frames
    forward         (h, w, 2) float32, x and y: what sits at p in the source sits at p + forward(p) in the target
    backward        (h, w, 2) float32: what sits at p in the target sat at p + backward(p) in the source

    Both are in motion-picture pixels; multiply by `scale` for frame pixels.
    """

    source: int
    target: int
    frame_size: tuple[int, int]
    forward: Flow = field(repr=False)
    backward: Flow = field(repr=False)
    _trusted: dict[bool, Mask] = field(default_factory=dict, init=False, repr=False, compare=False)
    _camera: dict[tuple[Box | None, bool], np.ndarray] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for flow in (self.forward, self.backward):
            if flow.dtype != np.float32 or flow.ndim != 3 or flow.shape[2] != 2:
                raise TypeError(f"flow must be (h, w, 2) float32, is {flow.shape} {flow.dtype}")
        if self.forward.shape != self.backward.shape:
            raise TypeError(f"flows differ in size: {self.forward.shape} and {self.backward.shape}")

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the motion pictures."""
        return self.forward.shape[0], self.forward.shape[1]

    @property
    def scale(self) -> tuple[float, float]:
        """(x, y): frame pixels a motion-picture pixel."""
        return self.frame_size[1] / self.size[1], self.frame_size[0] / self.size[0]

    def carry(
        self, values: np.ndarray, *, back: bool = False, window: tuple[int, int, int, int] | None = None
    ) -> np.ndarray:
        """Warp a map of the source frame to the target frame (`back`: the other way round).

        `values` is (H', W') or (H', W', C), float32 or uint8, of any size over the whole frame; the result has the same
        size and type. It is sampled bilinearly; beyond the frame, the border is repeated. `window` (x, y, w, h), in
        pixels of `values`, limits the result to that part.
        """
        h, w = values.shape[:2]
        x0, y0, width, height = window or (0, 0, w, h)
        flow = self.forward if back else self.backward
        sx, sy = self.size[1] / w, self.size[0] / h
        if (h, w) != self.size:
            centres = np.array([[sx, 0, (x0 + 0.5) * sx - 0.5], [0, sy, (y0 + 0.5) * sy - 0.5]])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            flow = cv2.warpAffine(flow, centres, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        else:
            flow = flow[y0 : y0 + height, x0 : x0 + width]
        map_x = flow[..., 0] * np.float32(1 / sx) + np.arange(x0, x0 + width, dtype=np.float32)
        map_y = flow[..., 1] * np.float32(1 / sy) + np.arange(y0, y0 + height, dtype=np.float32)[:, None]
        return np.asarray(cv2.remap(values, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

    def at(self, x: np.ndarray, y: np.ndarray, *, back: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return the motion (dx, dy) at positions x, y: float32 of equal shapes (m, n), all in frame pixels.

        Positions are of the target frame, and the motion leads to the source; with `back` the other way round.
        """
        flow = self.forward if back else self.backward
        sx, sy = self.scale
        map_x = (x / sx - 0.5).astype(np.float32)
        map_y = (y / sy - 0.5).astype(np.float32)
        found = cv2.remap(flow, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return found[..., 0] * np.float32(sx), found[..., 1] * np.float32(sy)

    def disagreement(self, *, back: bool = False) -> np.ndarray:
        """Return the forward-backward error of the flow, (h, w) float32 in motion-picture pixels.

        Over the target frame's picture (`back`: the source's). Large where something is uncovered, blurred or flat.
        """
        there, home = (self.forward, self.backward) if back else (self.backward, self.forward)
        gap = there + _sampled_along(home, there)
        return np.asarray(cv2.magnitude(gap[..., 0], gap[..., 1]))

    def trusted(self, *, back: bool = False) -> Mask:
        """Return where both flows agree, (h, w) bool over the target frame's picture (`back`: the source's).

        Source: the criterion of Sundaram, Brox and Keutzer (ECCV 2010), |f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5. Places
        whose counterpart lies outside the frame are not trusted. Read-only; computed once.
        """
        if back not in self._trusted:
            self._trusted[back] = self._find_trusted(back)
        return self._trusted[back]

    def _find_trusted(self, back: bool) -> Mask:
        there, home = (self.forward, self.backward) if back else (self.backward, self.forward)
        reply = _sampled_along(home, there)
        gap = there + reply
        bar = 0.01 * (_squared(there) + _squared(reply)) + 0.5
        h, w = self.size
        x = there[..., 0] + np.arange(w, dtype=np.float32)
        y = there[..., 1] + np.arange(h, dtype=np.float32)[:, None]
        inside = (x >= -0.5) & (x <= w - 0.5) & (y >= -0.5) & (y <= h - 0.5)
        trusted = np.asarray((_squared(gap) < bar) & inside)
        trusted.flags.writeable = False
        return trusted

    def shift(self, region: np.ndarray, *, back: bool = False) -> Shift:
        """Return the median motion of `region` from the source frame to the target (`back`: from target to source).

        `region` is (H', W') bool or uint8 of any size over the whole frame. Pixels whose flows disagree do not count if
        at least a quarter of the region can be trusted. An empty region does not move.
        """
        flow = self.backward if back else self.forward
        h, w = self.size
        voters = np.asarray(region).astype(np.uint8)
        if voters.shape != (h, w):
            voters = cv2.resize(voters, (w, h), interpolation=cv2.INTER_NEAREST)
        inside: np.ndarray = np.asarray(voters > 0)
        if not inside.any():
            return Shift(0.0, 0.0, 0.0)
        sure = inside & self.trusted(back=not back)
        enough = 4 * np.count_nonzero(sure) >= np.count_nonzero(inside)
        x, y = vectors_at(flow, np.flatnonzero(sure if enough else inside))
        x, y = x * np.float32(self.scale[0]), y * np.float32(self.scale[1])
        dx, dy = _median(x), _median(y)
        return Shift(float(dx), float(dy), float(_median(np.hypot(x - dx, y - dy))))

    def camera(self, box: Box | None = None, *, back: bool = False) -> np.ndarray:
        """Return the camera's part of the motion: (h, w, 2) float32, motion-picture pixels, from target to source.

        A homography fitted robustly (RANSAC) to the flow outside `box` (frame pixels), since the subject inside it
        moves by itself; zero where none can be fitted. `back`: from the source to the target. Read-only; fitted
        once for each box.
        """
        if (box, back) not in self._camera:
            camera = self._fit_camera(box, back)
            camera.flags.writeable = False
            self._camera[box, back] = camera
        return self._camera[box, back]

    def _fit_camera(self, box: Box | None, back: bool) -> np.ndarray:
        h, w = self.size
        flow = self.forward if back else self.backward
        step = max(min(h, w) // 32, 2)
        y, x = np.mgrid[step // 2 : h : step, step // 2 : w : step]
        keep = self.trusted(back=back)[y, x]
        if box is not None:
            sx, sy = self.scale
            outside = (
                ((x + 0.5) * sx < box.x0)
                | ((x + 0.5) * sx > box.x1)
                | ((y + 0.5) * sy < box.y0)
                | ((y + 0.5) * sy > box.y1)
            )
            keep = keep & outside if (keep & outside).sum() >= 24 else keep
        if keep.sum() < 24:
            return np.zeros_like(flow)
        here = np.stack([x[keep], y[keep]], axis=1).astype(np.float32)
        cv2.setRNGSeed(0)
        matrix, _ = cv2.findHomography(here, here + flow[y, x][keep], cv2.RANSAC, 1.0)
        if matrix is None:
            return np.zeros_like(flow)
        grid = np.stack(np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)), axis=2)
        return np.asarray(cv2.perspectiveTransform(grid, matrix) - grid, np.float32)

    def apart(self, box: Box | None = None, *, back: bool = False) -> Flow:
        """Return the motion relative to the camera: the flow minus `camera`, in the same shape and units.

        It is the target frame's motion from source to target; with `back` the source frame's.
        """
        if back:
            return np.asarray(self.forward - self.camera(box, back=True))
        return np.asarray(self.camera(box) - self.backward)


def measure_motion(source: Frame, target: Frame, settings: MotionSettings) -> Motion:
    """Measure the motion from one frame to the next, both ways. Thread-safe; OpenCV releases the GIL meanwhile.

    Raises: ValueError, the frames differ in size.
    """
    if source.size != target.size:
        raise ValueError(f"frames {source.index} and {target.index} differ in size: {source.size} and {target.size}")
    first, second = _motion_picture(source.rgb8, settings.side), _motion_picture(target.rgb8, settings.side)
    dis = cv2.DISOpticalFlow.create(_PRESETS[settings.preset])
    # DIS works on patches of 8 pixels over a pyramid, and refuses pictures that hold too few of them.
    h, w = first.shape
    pad_h, pad_w = max(_SMALLEST - h, 0), max(_SMALLEST - w, 0)
    if pad_h or pad_w:
        first, second = (cv2.copyMakeBorder(p, 0, pad_h, 0, pad_w, cv2.BORDER_REPLICATE) for p in (first, second))
    forward = dis.calc(first, second, None)[:h, :w]
    backward = dis.calc(second, first, None)[:h, :w]
    return Motion(
        source.index, target.index, source.size, np.ascontiguousarray(forward), np.ascontiguousarray(backward)
    )


def with_motion(
    frames: Iterable[Frame], settings: MotionSettings, threads: int = 2, clock: StageTimer | None = None
) -> Generator[tuple[Frame, Motion | None], None, None]:
    """Yield each frame with the motion that leads to it from the previous frame; None for the first.

    Motion is measured in `threads` threads, at most as many frames ahead. Frames pass unchanged and in order.
    """

    clock = clock or StageTimer()

    def pairs() -> Generator[tuple[Frame | None, Frame], None, None]:
        before: Frame | None = None
        with closing_iter(frames) as source:
            for frame in source:
                yield before, frame
                before = frame

    def measure(pair: tuple[Frame | None, Frame]) -> tuple[Frame, Motion | None]:
        before, frame = pair
        if before is None:
            return frame, None
        with clock.stage("motion"):
            return frame, measure_motion(before, frame, settings)

    return ordered_map(measure, pairs(), threads, "motion")


_SMALLEST = 64  # side of the smallest picture that every preset of DIS takes


def _motion_picture(rgb: RGB8, side: int) -> Grey8:
    """Return a grey picture, (h, w) uint8, with a longer side of at most `side`; never enlarged."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    h, w = grey.shape
    shrink = side / max(h, w)
    if shrink >= 1:
        return np.asarray(grey)
    size = max(round(w * shrink), 1), max(round(h * shrink), 1)
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))


def _sampled_along(values: np.ndarray, flow: Flow) -> np.ndarray:
    """Sample `values`, (h, w, 2), where `flow`, (h, w, 2), leads from each pixel."""
    h, w = flow.shape[:2]
    map_x = flow[..., 0] + np.arange(w, dtype=np.float32)
    map_y = flow[..., 1] + np.arange(h, dtype=np.float32)[:, None]
    return np.asarray(cv2.remap(values, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def vectors_at(flow: Flow, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of a flow, (h, w, 2), at places of its flat grid, (n,): x and y, each (n,) float32."""
    return flow[..., 0].ravel()[places], flow[..., 1].ravel()[places]


def _median(values: np.ndarray) -> np.float32:
    """Return the median of (n,) float32 values: `numpy.median`, whose partition takes three times as long as a sort."""
    ordered, half = np.sort(values), len(values) // 2
    low, high = ordered[half - 1 + len(values) % 2], ordered[half]
    return np.float32((low + high) / np.float32(2))


def _squared(flow: np.ndarray) -> np.ndarray:
    """Return the squared length of each vector, (h, w) float32; far faster than a sum over the last axis."""
    x, y = flow[..., 0], flow[..., 1]
    return x * x + y * y
