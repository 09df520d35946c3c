"""Detect hard cuts between shots.

A hard cut lies between two neighbouring frames that cannot belong to one take: warping by the motion does not carry one
picture onto the other, the two directions of motion contradict each other, and the colours differ. The detection uses
the motion that is measured anyway, so it needs no second decode and little time. Blocks are compared by correlation, so
brightness does not matter. A camera flash interrupts a take only for a few frames. So a cut counts only if no frame
shortly before it fits any frame shortly after it.

Dissolves are not detected, because each of their frames fits the previous one. A fade may give one or two cuts where it
is black.
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

Moved = tuple[Frame, Motion | None]  # a frame, and the motion from the previous frame to it

_BLOCKS = 8  # across and down
_SMALL = (180, 320)  # (h, w) of the compared pictures
_FLAT = 4.0  # variance of a block, in squared steps of 0..255, below which it is too flat to compare
_TEXTURED_SHARE = 0.25  # share of blocks that must have texture; a lone subject on a flat background is not enough
_TRUST = 0.6  # weight of the share of trusted motion; the correlation has weight 1
_SAME_COLOURS = 0.15  # distance of colours within a take
# Score from which frames around a supposed cut belong to one take. None of the 15 pairs may reach it by chance.
_SAME_TAKE = 0.8
_NEIGHBOURS = 4  # frames on either side of a cut that are compared with each other; flashes last up to three
SEEN_AFTER = _NEIGHBOURS  # frames from a cut on that the detection reads


class FrameSignature:
    """The part of a frame that is compared: a small grey picture and a colour histogram."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        h, w = _SMALL if frame.size[0] <= frame.size[1] else _SMALL[::-1]
        small = cv2.resize(frame.rgb8, (w, h), interpolation=cv2.INTER_AREA)
        self.grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
        self.colours = cv2.calcHist([hsv], [0, 1], None, [16, 8], [0, 180, 0, 256]) / (h * w)


def continuity_score(source: FrameSignature, target: FrameSignature, motion: Motion) -> float:
    """Score how well two frames fit as neighbours of one take: about 1.5 if they do, below 0.4 across a cut.

    The score is the correlation of blocks of one picture with the other, warped by the motion, plus 0.6 times the share
    of pixels whose motion can be trusted, minus the distance of their colours (Bhattacharyya, hue and saturation). It
    is high if there is nothing to compare, as between black frames.
    """
    forward_score = _correlation(motion.carry(source.grey), target.grey)
    back = _correlation(motion.carry(target.grey, back=True), source.grey)
    trusted = max(float(motion.trusted(back=backward).mean()) for backward in (False, True))
    return max(forward_score, back) + _TRUST * trusted - _colour_distance(source, target)


def likeness_unmoved(source: FrameSignature, target: FrameSignature) -> float:
    """Bound `continuity_score` from below, assuming no motion. Cheap; settles most pairs."""
    return _correlation(source.grey, target.grey) - _colour_distance(source, target)


class CutFinder:
    """Detects cuts in the stream of frames of one clip.

    found  indices of the first frames of new shots so far; complete for every frame that has been passed on
    """

    def __init__(self, settings: CutSettings, motion: MotionSettings) -> None:
        self.settings = settings
        self.motion = motion
        self.found: list[int] = []

    def watch(self, frames: Iterable[Moved], clock: StageTimer | None = None) -> Generator[Moved, None, None]:
        """Pass on the frames with their motion, and act on cuts as `settings.on_cut` says.

        stop      end before the first cut
        reprompt  drop the motion of the first frame of each shot, since no motion leads to it
        continue  change nothing

        Memory holds at most eight frames.
        """
        clock = clock or StageTimer()
        source = iter(frames)
        previous: deque[FrameSignature] = deque(maxlen=_NEIGHBOURS)
        lookahead: deque[Moved] = deque()
        try:
            while True:
                item = lookahead.popleft() if lookahead else next(source, None)
                if item is None:
                    return
                frame, motion = item
                with clock.stage("cuts"):
                    signature = FrameSignature(frame)
                    discontinuous = (
                        bool(previous) and motion is not None and not self._continuous(previous[-1], signature, motion)
                    )
                if discontinuous:
                    while len(lookahead) < _NEIGHBOURS - 1 and (following := next(source, None)) is not None:
                        lookahead.append(following)
                    with clock.stage("cuts"):
                        flash = self._is_flash(previous, [signature, *(FrameSignature(f) for f, _ in lookahead)])
                    if not flash:
                        self.found.append(frame.index)
                        previous.clear()
                        if self.settings.on_cut == "stop":
                            return
                        if self.settings.on_cut == "reprompt":
                            motion = None
                previous.append(signature)
                yield frame, motion
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def _continuous(self, a: FrameSignature, b: FrameSignature, motion: Motion) -> bool:
        threshold = self.settings.threshold
        return likeness_unmoved(a, b) >= threshold or continuity_score(a, b, motion) >= threshold

    def _is_flash(self, previous: Iterable[FrameSignature], after: list[FrameSignature]) -> bool:
        """Return whether any frame before fits any frame after, but for the two neighbours: then it was a flash."""
        pairs = list(product(reversed(list(previous)), after))[1:]
        return any(
            continuity_score(a, b, measure_motion(a.frame, b.frame, self.motion)) >= _SAME_TAKE
            for a, b in sorted(pairs, key=lambda pair: pair[1].frame.index - pair[0].frame.index)
        )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Average the correlation over the blocks of two (h, w) float32 pictures.

    Blocks that are flat in both are left out. The result is 1 if fewer than a quarter of the blocks remain.
    """
    bh, bw = a.shape[0] // _BLOCKS, a.shape[1] // _BLOCKS

    def blocks(picture: np.ndarray) -> np.ndarray:
        cut = picture[: bh * _BLOCKS, : bw * _BLOCKS].reshape(_BLOCKS, bh, _BLOCKS, bw)
        patches = cut.transpose(0, 2, 1, 3).reshape(_BLOCKS**2, -1)
        return patches - patches.mean(axis=1, keepdims=True)

    a, b = blocks(a), blocks(b)
    va, vb = np.square(a).mean(axis=1), np.square(b).mean(axis=1)
    textured = (va >= _FLAT) | (vb >= _FLAT)
    if textured.mean() < _TEXTURED_SHARE:
        return 1.0
    values = (a * b).mean(axis=1)[textured] / np.sqrt(np.maximum(va, _FLAT / 4) * np.maximum(vb, _FLAT / 4))[textured]
    return float(values.mean())


def _colour_distance(a: FrameSignature, b: FrameSignature) -> float:
    """Compute the distance of two frames' colours beyond the distance that occurs within a take, 0 or more."""
    distance = float(cv2.compareHist(a.colours, b.colours, cv2.HISTCMP_BHATTACHARYYA))
    return max(distance - _SAME_COLOURS, 0.0)
