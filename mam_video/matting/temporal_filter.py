"""Flow-guided temporal filter: average each alpha with its neighbours in time, carried along by the motion.

It is a window filter over a few frames of past and future, never a recursion. The result at a frame depends on the
frames within `radius` alone, so any range of frames comes out as in the whole run. A neighbour counts where forward and
backward flow agree, where its carried picture matches, and mostly in the soft band. Elsewhere the alpha passes
unchanged. A frame that has lost its subject stays empty, and counts for no other.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import cv2
import numpy as np

from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.core.settings import SmoothSettings
from mam_video.motion.flow import Motion
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import ordered_map

XYWH = tuple[int, int, int, int]  # x, y, width, height: a part of a picture

_ROOM = 3  # pixels of the motion's picture that a blur of 3 pixels and the enlargement see around a part
COLOUR_NOISE = 12.0  # difference of carried colour, in steps of 0..255, at which a neighbour counts for 1/e


class AnyMatte(Protocol):
    """A frame with its alpha, wherever that lies: `Matted`, or `device.frames.ResidentMatted`."""

    @property
    def frame(self) -> Frame: ...

    @property
    def record(self) -> Record: ...


M = TypeVar("M", bound=AnyMatte)


class Moving(NamedTuple, Generic[M]):
    """A matte with the motion that leads to it from the frame before; None where none does."""

    matted: M
    motion: Motion | None


MovingMatte: TypeAlias = Moving[Matted]


@dataclass(slots=True)
class Held(Generic[M]):
    """A matte of the window.

    given   as it came
    motion  what alphas are carried along; None to and from a frame that has lost its subject
    """

    given: Moving[M]
    motion: Motion | None
    _small: np.ndarray | None = None

    @property
    def matted(self) -> M:
        return self.given.matted

    def colour(self, size: tuple[int, int]) -> np.ndarray:
        """Return the frame's picture at the motion's size (h, w): (h, w, 3) uint8, made once."""
        if self._small is None:
            self._small = cv2.resize(self.matted.frame.rgb8, size[::-1], interpolation=cv2.INTER_AREA)
        return self._small


class Neighbours(NamedTuple, Generic[M]):
    """A matte, at `centre`, and those around it that may take part in its smoothing."""

    held: tuple[Held[M], ...]
    centre: int

    def reach(self, radius: int) -> tuple[range, range]:
        """Return the places of those within the radius, before and after, the nearest first.

        Nothing beyond a break in the motion takes part, not even in finding the covered area: shots are smoothed apart.
        """
        window, centre = self
        first = last = centre
        while first > max(centre - radius, 0) and window[first].motion is not None:
            first -= 1
        while last < min(centre + radius, len(window) - 1) and window[last + 1].motion is not None:
            last += 1
        return range(centre - 1, first - 1, -1), range(centre + 1, last + 1)


def smooth(
    mattes: Iterable[MovingMatte], settings: SmoothSettings, clock: StageTimer | None = None, threads: int = 0
) -> Generator[MovingMatte, None, None]:
    """Average each alpha with its neighbours'. Order, count, times and motion pass; strength 0 changes nothing.

    Args:
        mattes: neighbouring frames in order, each with the motion from the one before it (None at the first).
        settings: strength 0..1, and radius in frames.
        clock: counts the seconds spent.
        threads: how many frames are smoothed at once; 0: one, in the caller's thread. The bits are the same.
    Holds 2 * radius + 1 frames, and one more a thread.
    """
    return smooth_by(averaged, mattes, settings, clock, threads)


def smooth_by(
    average: Callable[[Neighbours[M], SmoothSettings], M],
    mattes: Iterable[Moving[M]],
    settings: SmoothSettings,
    clock: StageTimer | None = None,
    threads: int = 0,
) -> Generator[Moving[M], None, None]:
    """Do the work of `smooth` with `average`, which makes one matte of those around it."""
    if settings.strength == 0:
        yield from mattes
        return
    clock = clock or StageTimer()

    def work(view: Neighbours[M]) -> Moving[M]:
        with clock.stage("smooth"):
            return Moving(average(view, settings), view.held[view.centre].given.motion)

    views = _windows(mattes, settings.radius)
    yield from ordered_map(work, views, threads, "smooth") if threads else map(work, views)


def _windows(mattes: Iterable[Moving[M]], radius: int) -> Generator[Neighbours[M], None, None]:
    """Yield each matte with those within the radius."""
    window: deque[Held[M]] = deque(maxlen=2 * radius + 1)
    centre = 0  # place of the next frame to give
    lost = False
    for item in mattes:
        before, lost = lost, item.matted.record.state is State.LOST
        if len(window) == window.maxlen:
            centre -= 1
        window.append(Held(item, None if lost or before else item.motion))
        if len(window) - 1 - centre >= radius:
            yield Neighbours(tuple(window), centre)
            centre += 1
    while centre < len(window):
        yield Neighbours(tuple(window), centre)
        centre += 1


def averaged(view: Neighbours[Matted], settings: SmoothSettings) -> Matted:
    """Average the matte at the centre with those within the radius."""
    window, centre = view
    matted = window[centre].matted
    past, future = view.reach(settings.radius)
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
    window: tuple[Held[Matted], ...], place: int, centre: int, part: XYWH, *, back: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Carry the alpha of the neighbour at `place` to `centre`; return the part of it, and its trust, 0..1."""
    step = -1 if back else 1
    alpha = window[place].matted.alpha
    first = window[place if back else place + 1].motion
    if first is None:
        return None
    small = first.size
    colour = window[place].colour(small)
    trusted: np.ndarray | None = None
    near = _seen_through(part, alpha.shape, small)  # all that the last step needs
    for i in range(place, centre, step):
        motion = window[i if back else i + 1].motion
        if motion is None:
            return None
        last = i + step == centre
        at_small = near if last else None
        agreed = motion.trusted(back=back)[_slices(at_small)].astype(np.float32)
        trusted = agreed if trusted is None else agreed * motion.carry(trusted, back=back, window=at_small)
        colour = motion.carry(colour, back=back, window=at_small)
        alpha = motion.carry(alpha, back=back, window=part if last else None)
    assert trusted is not None
    here = window[centre].colour(small)[_slices(near)]
    red, green, blue = cv2.split(cv2.absdiff(here, colour))
    difference = cv2.blur(cv2.max(cv2.max(red, green), blue).astype(np.float32), (3, 3))
    trust = trusted * np.exp(-np.square(difference / np.float32(COLOUR_NOISE)))
    return alpha, _enlarged(trust, near, small, window[centre].matted.alpha.shape, part)


def _seen_through(part: XYWH, size: tuple[int, ...], small: tuple[int, int]) -> XYWH:
    """Return the part (x, y, w, h) of a picture of `size` (H, W) in one of size `small`, with room for both filters."""
    x, y, w, h = part
    sx, sy = small[1] / size[1], small[0] / size[0]
    x0, y0 = max(math.floor(x * sx) - _ROOM, 0), max(math.floor(y * sy) - _ROOM, 0)
    x1, y1 = min(math.ceil((x + w) * sx) + _ROOM, small[1]), min(math.ceil((y + h) * sy) + _ROOM, small[0])
    return x0, y0, x1 - x0, y1 - y0


def _slices(part: XYWH | None) -> tuple[slice, slice]:
    """Return rows and columns of a part; all where None."""
    if part is None:
        return slice(None), slice(None)
    x, y, w, h = part
    return slice(y, y + h), slice(x, x + w)


def _enlarged(values: np.ndarray, near: XYWH, small: tuple[int, int], size: tuple[int, ...], part: XYWH) -> np.ndarray:
    """Enlarge a map of size `small`, of which `values` are the part `near`, to `size`; return its part `part`."""
    x, y, w, h = part
    sx, sy = small[1] / size[1], small[0] / size[0]
    centres = np.array([[sx, 0, (x + 0.5) * sx - 0.5 - near[0]], [0, sy, (y + 0.5) * sy - 0.5 - near[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(values, centres, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _where_it_matters(alphas: list[np.ndarray]) -> XYWH | None:
    """Return (x, y, w, h) around all that any of the alphas covers, or None where none covers anything."""
    covered = alphas[0] > 0
    for alpha in alphas[1:]:
        covered |= alpha > 0
    x, y, w, h = cv2.boundingRect(covered.view(np.uint8))
    return (x, y, w, h) if w else None
