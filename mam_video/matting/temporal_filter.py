"""Flow-guided temporal filter: average each alpha with its neighbours in time, carried along by the motion.

It is a window filter over a few frames of past and future, never a recursion. The result at a frame depends on the
frames within `radius` alone, so any range of frames comes out as in the whole run. A neighbour counts where forward and
backward flow agree, where its carried picture matches, and mostly in the soft band. Elsewhere the alpha passes
unchanged. A frame that has lost its subject stays empty, and counts for no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from mam_video.core.frames import Matted, State
from mam_video.core.settings import SmoothSettings
from mam_video.motion.flow import Motion
from mam_video.runtime.stage_timer import StageTimer

_COLOUR_NOISE = 12.0  # difference of carried colour, in steps of 0..255, at which a neighbour counts for 1/e


class MovingMatte(NamedTuple):
    """A matte with the motion that leads to it from the frame before; None where none does."""

    matted: Matted
    motion: Motion | None


class _Held(NamedTuple):
    """A matte of the window.

    given   as it came
    motion  what alphas are carried along; None to and from a frame that has lost its subject
    """

    given: MovingMatte
    motion: Motion | None

    @property
    def matted(self) -> Matted:
        return self.given.matted


def smooth(
    mattes: Iterable[MovingMatte], settings: SmoothSettings, clock: StageTimer | None = None
) -> Generator[MovingMatte, None, None]:
    """Average each alpha with its neighbours'. Order, count, times and motion pass; strength 0 changes nothing.

    Args:
        mattes: neighbouring frames in order, each with the motion from the one before it (None at the first).
        settings: strength 0..1, and radius in frames.
        clock: counts the seconds spent.
    Holds 2 * radius + 1 frames.
    """
    if settings.strength == 0:
        yield from mattes
        return
    clock = clock or StageTimer()
    window: deque[_Held] = deque(maxlen=2 * settings.radius + 1)
    centre = 0  # place of the next frame to give
    lost = False
    for item in mattes:
        before, lost = lost, item.matted.record.state is State.LOST
        if len(window) == window.maxlen:
            centre -= 1
        window.append(_Held(item, None if lost or before else item.motion))
        if len(window) - 1 - centre >= settings.radius:
            with clock.stage("smooth"):
                smoothed = _smoothed(window, centre, settings)
            yield MovingMatte(smoothed, window[centre].given.motion)
            centre += 1
    while centre < len(window):
        with clock.stage("smooth"):
            smoothed = _smoothed(window, centre, settings)
        yield MovingMatte(smoothed, window[centre].given.motion)
        centre += 1


def _smoothed(window: deque[_Held], centre: int, settings: SmoothSettings) -> Matted:
    """Average the matte at `centre` with those within the radius."""
    matted = window[centre].matted
    # Nothing beyond a break in the motion takes part, not even in finding the covered area: shots are smoothed apart.
    first = last = centre
    while first > max(centre - settings.radius, 0) and window[first].motion is not None:
        first -= 1
    while last < min(centre + settings.radius, len(window) - 1) and window[last + 1].motion is not None:
        last += 1
    past, future = range(centre - 1, first - 1, -1), range(centre + 1, last + 1)
    part = _where_it_matters([window[i].matted.alpha for i in (*past, centre, *future)])
    if part is None:
        return matted
    x, y, w, h = part
    here = matted.alpha[y : y + h, x : x + w]
    total, weights = here.copy(), np.ones_like(here)
    for places, back in ((past, False), (future, True)):
        for place in places:
            arrived = _carried(window, place, centre, part, back=back)
            if arrived is None:  # nothing is carried across a break in the motion, nor anything beyond it
                break
            alpha, trust = arrived
            middle = 0.5 * (alpha + here)
            # 4m(1-m) of the mean: 1 in the soft band and where the two disagree, 0 where both are sure of the same
            weight = np.float32(settings.strength) * trust * 4 * middle * (1 - middle)
            total += weight * alpha
            weights += weight
    alpha = matted.alpha.copy()
    alpha[y : y + h, x : x + w] = np.clip(total / weights, 0, 1)
    return replace(matted, alpha=alpha)


def _carried(
    window: deque[_Held], place: int, centre: int, part: tuple[int, int, int, int], *, back: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Carry the alpha of the neighbour at `place` to `centre`; return the part of it, and its trust, 0..1."""
    step = -1 if back else 1
    alpha = window[place].matted.alpha
    colour: np.ndarray | None = None
    trusted: np.ndarray | None = None
    for i in range(place, centre, step):
        motion = window[i if back else i + 1].motion
        if motion is None:
            return None
        h, w = motion.size
        if colour is None:
            colour = cv2.resize(window[place].matted.frame.rgb8, (w, h), interpolation=cv2.INTER_AREA)
            trusted = np.ones((h, w), np.float32)
        assert trusted is not None
        last = i + step == centre
        alpha = motion.carry(alpha, back=back, window=part if last else None)
        colour = motion.carry(colour, back=back)
        trusted = motion.carry(trusted, back=back) * motion.trusted(back=back)
    assert colour is not None and trusted is not None
    here = cv2.resize(window[centre].matted.frame.rgb8, (w, h), interpolation=cv2.INTER_AREA)
    red, green, blue = cv2.split(cv2.absdiff(here, colour))
    difference = cv2.blur(cv2.max(cv2.max(red, green), blue).astype(np.float32), (3, 3))
    trust = trusted * np.exp(-np.square(difference / np.float32(_COLOUR_NOISE)))
    return alpha, _enlarged(trust, window[centre].matted.alpha.shape, part)


def _enlarged(small: np.ndarray, size: tuple[int, ...], part: tuple[int, int, int, int]) -> np.ndarray:
    """Enlarge a map to `size` (H, W), and return its part (x, y, w, h)."""
    x, y, w, h = part
    sx, sy = small.shape[1] / size[1], small.shape[0] / size[0]
    centres = np.array([[sx, 0, (x + 0.5) * sx - 0.5], [0, sy, (y + 0.5) * sy - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(small, centres, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _where_it_matters(alphas: list[np.ndarray]) -> tuple[int, int, int, int] | None:
    """Return (x, y, w, h) around all that any of the alphas covers, or None where none covers anything."""
    covered = alphas[0] > 0
    for alpha in alphas[1:]:
        covered = covered | (alpha > 0)
    x, y, w, h = cv2.boundingRect(covered.view(np.uint8))
    return (x, y, w, h) if w else None
