"""Shot detection: find hard cuts.

At a hard cut, two neighbouring frames cannot be of one take: motion does not warp one picture onto the other, its two
directions contradict each other, and the colours differ. The motion is measured for tracking anyway, so that detection
needs no second decode and little time. Brightness does not count: blocks are compared by their correlation. A camera
flash interrupts a take for a few frames only, so a cut is accepted only if no frame shortly before it fits any frame
shortly after it.

Dissolves are not found, since each of their frames fits the previous one. A fade may give one or two cuts where it is
black.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from itertools import product

import cv2
import numpy as np

from mam_video.core.frames import Frame
from mam_video.core.settings import CutSettings, MotionSettings
from mam_video.motion.flow import Motion, measure_motion
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import closing_iter

Moved = tuple[Frame, Motion | None]  # a frame, and the motion that leads to it from the previous one

_BLOCKS = 8  # across and down
_SMALL = (180, 320)  # (h, w) of the pictures that are compared
_FLAT = 4.0  # variance of a block, in squared steps of 0..255, below which it holds nothing to compare
_TELLING = 0.25  # share of blocks that must hold structure: a subject before a flat background shows no cut
_TRUST = 0.6  # weight of motion whose directions agree everywhere, beside a correlation of 1
_SAME_COLOURS = 0.15  # distance of colours within a take
_JOINED = (
    0.8  # continuity_score from which frames around a supposed cut are of one take: of 15 pairs none must by chance
)
_AROUND = 4  # frames on either side of a cut that must not fit each other: flashes last up to three
SEEN_AFTER = _AROUND  # frames from a cut on that are looked at to know it


class FrameSignature:
    """What is compared of a frame: a small grey picture and a colour histogram."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        h, w = _SMALL if frame.size[0] <= frame.size[1] else _SMALL[::-1]
        small = cv2.resize(frame.rgb8, (w, h), interpolation=cv2.INTER_AREA)
        self.grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
        self.colours = cv2.calcHist([hsv], [0, 1], None, [16, 8], [0, 180, 0, 256]) / (h * w)


def continuity_score(source: FrameSignature, target: FrameSignature, motion: Motion) -> float:
    """Return how well two frames fit as neighbours of one take: about 1.5 where they do, below 0.4 across a cut.

    It is the correlation of blocks of one picture with the other one, warped, plus the share of pixels whose motion
    can be trusted, minus the distance of their colours (Bhattacharyya, hue and saturation). High where there is
    nothing to compare, as between black frames.
    """
    there = _correlation(motion.carry(source.grey), target.grey)
    back = _correlation(motion.carry(target.grey, back=True), source.grey)
    trusted = max(float(motion.trusted(back=back).mean()) for back in (False, True))
    return max(there, back) + _TRUST * trusted - _colour_distance(source, target)


def unmoved_score(source: FrameSignature, target: FrameSignature) -> float:
    """Return a lower bound of `continuity_score` that assumes no motion. It is cheap, and settles most pairs."""
    return _correlation(source.grey, target.grey) - _colour_distance(source, target)


class CutFinder:
    """Find the cuts of one clip while its frames pass.

    found  indices of the first frames of new shots so far; complete for every frame that has been passed on
    """

    def __init__(self, settings: CutSettings, motion: MotionSettings) -> None:
        self.settings = settings
        self.motion = motion
        self.found: list[int] = []

    def watch(self, frames: Iterable[Moved], clock: StageTimer | None = None) -> Generator[Moved, None, None]:
        """Pass frames and their motion on, changed at cuts as `settings.on_cut` says.

        stop: end before the first cut; reprompt: no motion leads to the first frame of a shot; continue: no change.

        Holds eight frames at most.
        """
        clock = clock or StageTimer()
        before: deque[FrameSignature] = deque(maxlen=_AROUND)
        waiting: deque[Moved] = deque()
        with closing_iter(frames) as source:
            while True:
                item = waiting.popleft() if waiting else next(source, None)
                if item is None:
                    return
                frame, motion = item
                with clock.stage("cuts"):
                    signature = FrameSignature(frame)
                    apart = bool(before) and motion is not None and not self._fits(before[-1], signature, motion)
                if apart:
                    while len(waiting) < _AROUND - 1 and (more := next(source, None)) is not None:
                        waiting.append(more)
                    with clock.stage("cuts"):
                        flash = self._joined(before, [signature, *(FrameSignature(f) for f, _ in waiting)])
                    if not flash:
                        self.found.append(frame.index)
                        before.clear()
                        if self.settings.on_cut == "stop":
                            return
                        if self.settings.on_cut == "reprompt":
                            motion = None
                before.append(signature)
                yield frame, motion

    def _fits(self, a: FrameSignature, b: FrameSignature, motion: Motion) -> bool:
        threshold = self.settings.threshold
        return unmoved_score(a, b) >= threshold or continuity_score(a, b, motion) >= threshold

    def _joined(self, before: Iterable[FrameSignature], after: list[FrameSignature]) -> bool:
        """Return whether some frame before fits one after, beyond the two neighbours: then it was a flash."""
        pairs = list(product(reversed(list(before)), after))[1:]
        return any(
            continuity_score(a, b, measure_motion(a.frame, b.frame, self.motion)) >= _JOINED
            for a, b in sorted(pairs, key=lambda pair: pair[1].frame.index - pair[0].frame.index)
        )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean correlation over the blocks that are not flat in both pictures; 1 where these are few.

    Both are (h, w) float32.
    """
    bh, bw = a.shape[0] // _BLOCKS, a.shape[1] // _BLOCKS

    def blocks(picture: np.ndarray) -> np.ndarray:
        cut = picture[: bh * _BLOCKS, : bw * _BLOCKS].reshape(_BLOCKS, bh, _BLOCKS, bw)
        own = cut.transpose(0, 2, 1, 3).reshape(_BLOCKS**2, -1)
        return own - own.mean(axis=1, keepdims=True)

    a, b = blocks(a), blocks(b)
    va, vb = np.square(a).mean(axis=1), np.square(b).mean(axis=1)
    structured = (va >= _FLAT) | (vb >= _FLAT)
    if structured.mean() < _TELLING:
        return 1.0
    values = (a * b).mean(axis=1)[structured] / np.sqrt(np.maximum(va, _FLAT / 4) * np.maximum(vb, _FLAT / 4))[
        structured
    ]
    return float(values.mean())


def _colour_distance(a: FrameSignature, b: FrameSignature) -> float:
    """Return the distance of two colour histograms beyond what is usual within a take."""
    distance = float(cv2.compareHist(a.colours, b.colours, cv2.HISTCMP_BHATTACHARYYA))
    return max(distance - _SAME_COLOURS, 0.0)
