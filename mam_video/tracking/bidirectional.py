"""Track a subject that has prompts on several frames.

A prompt restarts the tracker on its frame. The frames between two prompts are tracked twice: forwards from the earlier
prompt and backwards from the later one. Each frame gets the more plausible of the two masks (`blend_passes`), so a
correction improves the frames before it as well as those after it. Frames before the first prompt are tracked
backwards.

    frame      0 . . . . . . . . 120 . . . . . . . . 200 . . .
    forwards   P > > > > > > > >  P  > > > > > > > >  P  > > >
    backwards    < < < < < < < <  P  < < < < < < < <  P
                         | joined, and here |

Where a prompt is come to, the segmenter is asked with what was followed until there as well as without it, with
references and without; what fits the prompt best is taken. Every half is told the prompted frames near it whose masks
are known: references whose appearance never fades. Forwards these are the earlier ones; a prompt that lies ahead has no
mask yet.

Forwards the clip is decoded once. Backwards it is decoded in windows of some frames, which are given last frame first,
with the motion between neighbours measured in that direction. What is found lies on disk until the halves are joined,
so memory does not grow with the clip. Matting from the joined track is a second pass over the clip: a frame near a
prompt is final only when the prompt has been reached.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from mam_video.core.errors import UsageError
from mam_video.core.frames import Frame, Record, State
from mam_video.core.settings import Settings
from mam_video.models.base import Model, Reference, wants_references
from mam_video.motion.flow import Motion, with_motion
from mam_video.motion.shot_detection import SEEN_AFTER, CutFinder
from mam_video.prompts.prompt import Prompts
from mam_video.runtime.append_log import AppendLog
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import ahead
from mam_video.tracking.mask_ops import agreement
from mam_video.tracking.references import anchors_beside
from mam_video.tracking.shots import Shots, with_cut, without_prompt
from mam_video.tracking.track_file import packed, unpacked
from mam_video.tracking.tracker import anchor, track
from mam_video.tracking.types import MaskObservation

# Frames start <= index < stop of a clip, as `media.Reader.frames` gives them; may be asked again and again.
FramesOf = Callable[[int, int | None], Iterable[Frame]]

_DECODED_AHEAD = 4  # frames
_WINDOW_BYTES = 192 << 20  # of the 8-bit pictures of a window; two windows may be held
_WINDOW_FRAMES = 48
_RECENT = (2, 7)  # frames back from a prompt, of what was followed there: neighbours tell nothing new

# What speaks against a half in a frame, and against going over from one to the other; see `blend_passes`.
_LOST = 1.5
_DOUBTED = 0.3
_UNSURE = 0.5  # a score of 0
_FAR = 0.3  # as far from its own prompt as the other one is
_STRANGE = 2.0  # at most, of an area that is not what lies between the prompts' (logarithm of the ratio)
_APART = 2.0  # going over where the masks share nothing
_OVER = 0.02  # going over at all


def track_prompts(
    frames_of: FramesOf,
    prompts: Prompts,
    model: Model,
    settings: Settings,
    folder: Path,
    *,
    first: int = 0,
    stop: int | None = None,
    cuts: CutFinder | None = None,
    batch: int = 1,
    clock: StageTimer | None = None,
    on_frame: Callable[[], None] | None = None,
) -> Generator[MaskObservation, None, None]:
    """What is found in each of the frames first <= index < stop: record, view, logits, and `Tracked.standing`.

    Args:
        frames_of: the clip.
        folder: an empty folder for what is found on the way, which is left there.
        cuts: finds the cuts, and says what is done there; made where None.
        batch: frames embedded at once; the groups fall on absolute frame numbers.
        on_frame: called for each frame that was followed, in either direction.

    Yields one `MaskObservation` a frame, in order, when all has been followed.
    Raises: UsageError, a prompt lies outside its frame or beyond the clip.
    """
    clock = clock or StageTimer()
    cuts = cuts or CutFinder(settings.cuts, settings.motion)
    made = BidirectionalTracker(
        frames_of, prompts, model, settings, folder, cuts, batch, clock, on_frame or (lambda: None)
    )
    try:
        made.look_before(first)
        made.forwards(stop)
        made.backwards(first)
        yield from made.joined(first)
    finally:
        made.close()


class BidirectionalTracker:
    """Both halves of every gap between prompts, on disk."""

    def __init__(
        self,
        frames_of: FramesOf,
        prompts: Prompts,
        model: Model,
        settings: Settings,
        folder: Path,
        cuts: CutFinder,
        batch: int,
        clock: StageTimer,
        on_frame: Callable[[], None],
    ) -> None:
        self.frames_of, self.prompts, self.model, self.settings = frames_of, prompts, model, settings
        self.cuts = cuts
        self.batch, self.clock, self.on_frame = batch, clock, on_frame
        self.places = prompts.frames
        self.most_near = anchors_beside(wants_references(model))
        self.anchors: dict[int, Reference] = {}  # those last used
        self.passed: deque[Frame] = deque(maxlen=max(_RECENT))  # those last followed
        self.forth = AppendLog(folder / "forwards")  # from the first prompt on, a frame after the other
        self.back = AppendLog(folder / "backwards")
        self.back_at: dict[int, int] = {}  # place in that log of a frame's backward half
        self.early = AppendLog(folder / "early")  # frames before the first prompt's shot

    def look_before(self, first: int) -> None:
        """Find the cuts among the frames from `first` to the first prompt."""
        if first >= self.places[0]:
            return
        frames = ahead(self.clock.timed(self.frames_of(first, self.places[0] + SEEN_AFTER), "decode"), 4, "decode")
        moved = with_motion(frames, self.settings.motion, clock=self.clock)
        finder = CutFinder(replace(self.cuts.settings, on_cut="continue"), self.settings.motion)
        begin = first
        with closing(finder.watch(moved, self.clock)) as watched:
            for frame, motion in watched:
                if frame.index > self.places[0]:
                    break
                begin = frame.index if frame.index in finder.found else begin
                self.early.append(packed(without_prompt(frame, motion, begin, self.model)))
        self.cuts.found += [cut for cut in finder.found if cut <= self.places[0]]

    def forwards(self, stop: int | None) -> None:
        """From each prompt to the next or to the cut before it, and from the last one to the end."""
        frames = ahead(self.clock.timed(self.frames_of(self.places[0], stop), "decode"), _DECODED_AHEAD, "decode")
        moved = with_motion(frames, self.settings.motion, clock=self.clock)
        with closing(self.cuts.watch(moved, self.clock)) as watched:
            shots = Shots(watched)
            for k, place in enumerate(self.places):
                end = self.places[k + 1] if k + 1 < len(self.places) else None
                if shots.next is None:
                    raise self._beyond(place)
                apart = k == 0 or self._apart(self.places[k - 1], place)
                before, recent = (None, []) if apart else (self._forward(place - 1), self._recent(place))
                near = [other for other in reversed(self.places) if other < place and not self._apart(other, place)]
                self._follow(shots.take(end), place, near, self.forth, before=before, recent=recent)
                while shots.next is not None and (end is None or shots.next[0].index < end):
                    begin = shots.next[0].index
                    for frame, motion in shots.take(end):
                        self.forth.append(packed(without_prompt(frame, motion, begin, self.model)))
                        self.on_frame()

    def _between(self, low: int, high: int) -> list[int]:
        """First frames of shots, low < index <= high; none where tracking goes on through cuts."""
        on = self.cuts.settings.on_cut == "continue"
        return [] if on else [cut for cut in self.cuts.found if low < cut <= high]

    def _apart(self, a: int, b: int) -> bool:
        """Whether two frames are of different shots."""
        return bool(self._between(min(a, b), max(a, b)))

    def backwards(self, first: int) -> None:
        """From each prompt to the one before or to the cut after that, and from the first one to the frame `first`."""
        lowest = [first, *(place + 1 for place in self.places)]
        for low, place in zip(lowest, self.places, strict=False):
            low = max([low, *self._between(low - 1, place)])
            if low < place:
                begin = len(self.back)
                frames = ahead(self.clock.timed(backwards(self.frames_of, low, place), "decode"), 1, "decode")
                moved = with_motion(frames, self.settings.motion, clock=self.clock)
                near = sorted(self.places, key=lambda other: (other != low - 1, abs(other - place)))
                near = [other for other in near if other != place and not self._apart(other, place)]
                self._follow(moved, place, near, self.back, begun=self._forward(place))
                self.back_at.update((index, begin + place - index) for index in range(low, place))

    def _follow(
        self,
        moved: Iterable[tuple[Frame, Motion | None]],
        place: int,
        near: Sequence[int],
        log: AppendLog,
        *,
        before: MaskObservation | None = None,
        recent: Sequence[Reference] = (),
        begun: MaskObservation | None = None,
    ) -> int:
        """One half, from the prompt on frame `place`, into `log`; how many frames it has.

        `near` are the other prompted frames that it may be told, most telling first.
        """
        settings = self.settings
        known = [other for other in near if self._forward(other)[0].state is State.PROMPTED]
        anchors = [self._anchor(other) for other in known[: self.most_near]]
        followed = track(
            moved, self.model, self.prompts[place], settings=settings.track, view=settings.view, batch=self.batch,
            anchors=anchors, before=before, recent=recent, begun=begun,
        )  # fmt: skip
        count = 0
        with closing(followed):
            for tracked in followed:
                log.append(packed(tracked))
                self.passed.append(tracked.frame)
                self.on_frame()
                count += 1
        return count

    def _recent(self, place: int) -> list[Reference]:
        """What was followed shortly before a prompted frame without doubt, latest first."""
        frames = {frame.index: frame for frame in self.passed}
        recent = []
        for index in (place - back for back in _RECENT):
            if index in frames and self._forward(index)[0].state is State.TRACKED:
                recent.append(replace(anchor(frames[index], self._forward(index), self.model), prompted=False))
        return recent

    def _anchor(self, place: int) -> Reference:
        if place not in self.anchors:
            while len(self.anchors) > self.most_near:
                del self.anchors[next(iter(self.anchors))]
            frame = next(iter(self.frames_of(place, place + 1)))
            self.anchors[place] = anchor(frame, self._forward(place), self.model)
        return self.anchors[place]

    def joined(self, first: int) -> Generator[MaskObservation, None, None]:
        """One of both halves for each frame from `first` on, which says where a shot begins."""
        for record, view, logits, standing in self._joined(first):
            yield with_cut(record, self.cuts), view, logits, standing

    def _joined(self, first: int) -> Generator[MaskObservation, None, None]:
        for index in range(first, self.places[0]):
            yield self._backward(index) if index in self.back_at else unpacked(self.early[index - first])
        for k, place in enumerate(self.places):
            yield self._forward(place)
            if k + 1 == len(self.places):
                for index in range(place + 1, self.places[0] + len(self.forth)):
                    yield self._forward(index)
                return
            gap = range(place + 1, self.places[k + 1])
            if not gap:
                continue
            cuts = self._between(place, self.places[k + 1])
            if cuts:  # up to the cut forwards, from the next prompt's shot on backwards, in between nobody pointed
                for index in gap:
                    yield self._forward(index) if index < cuts[-1] else self._backward(index)
                continue
            yield from self._both(gap)

    def _both(self, gap: range) -> Generator[MaskObservation, None, None]:
        """A gap of one shot, followed from both sides."""
        overlaps = [self._agree(index) for index in gap]
        halves = [(self._forward(index)[0], self._backward(index)[0]) for index in gap]
        later = blend_passes(halves, overlaps, (self._forward(gap[0] - 1)[0].area, self._forward(gap[-1] + 1)[0].area))
        for place, index in enumerate(gap):
            found = self._backward(index) if later[place] else self._forward(index)
            over = place + 1 < len(gap) and later[place] != later[place + 1]
            at_end = place + 1 == len(gap) and not later[place]  # the prompt lies beyond, and is not come to
            yield self._doubted(found, overlaps[place]) if over or at_end else found

    def _forward(self, index: int) -> MaskObservation:
        return unpacked(self.forth[index - self.places[0]])

    def _backward(self, index: int) -> MaskObservation:
        return unpacked(self.back[self.back_at[index]])

    def _agree(self, index: int) -> float:
        (_, view, logits, _), (_, other_view, other, _) = self._forward(index), self._backward(index)
        return agreement(logits, view, other, other_view)

    def _doubted(self, found: MaskObservation, overlap: float) -> MaskObservation:
        """The frame before one half is left for the other, flagged where that says something else."""
        if overlap >= self.settings.track.review_overlap:
            return found
        record = found[0]
        reason = f"followed from the prompts before and after, whose masks overlap by {overlap:.2f} here"
        state = record.state if record.state.flagged else State.UNCERTAIN
        return replace(record, state=state, reasons=(*record.reasons, reason)), *found[1:]

    def _beyond(self, place: int) -> UsageError:
        if self.cuts.settings.on_cut == "stop" and self.cuts.found:
            cut = self.cuts.found[-1]
            return UsageError(
                f"prompt on frame {place}: lies after the cut before frame {cut}, where --on-cut stop ends the run; "
                "leave it out, or say --on-cut reprompt"
            )
        return _beyond(place)

    def close(self) -> None:
        self.forth.close()
        self.back.close()
        self.early.close()


def blend_passes(
    halves: Sequence[tuple[Record, Record]], overlaps: Sequence[float], areas: tuple[float, float]
) -> list[bool]:
    """Which half to take in each frame of a gap: False the one from the prompt before, True the one from after.

    The least costly way through the gap (dynamic programming). A half costs where it is lost or doubted, where its
    score is low, with the distance from its prompt, and where its area is far from what lies between those in the two
    prompted frames (in between on a logarithmic scale): what took the wrong thing or lost most of it shows there. Going
    over from one half to the other costs where their masks differ.

    Args:
        halves: records of both halves in each frame.
        overlaps: IoU of their masks, likewise.
        areas: in the prompted frames before and after.
    """
    first, last = (math.log(max(area, _LEAST_AREA)) for area in areas)
    best = [0.0, 0.0]
    came: list[list[int]] = []
    for place, records in enumerate(halves):
        way = (place + 1) / (len(halves) + 1)
        usual = (1 - way) * first + way * last
        around = overlaps[max(place - 1, 0) : place + 1]
        over = _OVER + _APART * (1 - max(around))
        came.append([half if best[half] <= best[1 - half] + over else 1 - half for half in (0, 1)])
        until = [min(best[half], best[1 - half] + over) for half in (0, 1)]
        far = (way, 1 - way)
        best = [until[half] + _cost(records[half], usual) + _FAR * far[half] for half in (0, 1)]
    half = int(best[1] < best[0])
    taken = []
    for choice in reversed(came):
        taken.append(bool(half))
        half = choice[half]
    return taken[::-1]


_LEAST_AREA = 1e-6  # of the frame


def _cost(record: Record, usual: float) -> float:
    """What speaks against a half in a frame; `usual` is the logarithm of the area that is to be expected."""
    strange = min(abs(math.log(max(record.area, _LEAST_AREA)) - usual), _STRANGE)
    doubt = _LOST if record.state is State.LOST else _DOUBTED if record.state.flagged else 0.0
    return strange + doubt + _UNSURE * (1 - record.score)


def backwards(frames_of: FramesOf, low: int, high: int) -> Generator[Frame, None, None]:
    """The frames `high`, `high` - 1, ... `low` of a clip, in 8 bits as displayed: what tracking looks at.

    They are decoded in windows of at most 48 frames, and no more than some 200 MB of pixels at once.
    Raises: UsageError, the clip has no frame `high`.
    """
    window = 1
    while high >= low:
        start = max(high - window + 1, low)
        held = [
            replace(frame, rgb=frame.rgb8, look=None, window=None, alpha=None) for frame in frames_of(start, high + 1)
        ]
        if len(held) != high + 1 - start:
            raise _beyond(high)
        window = min(max(_WINDOW_BYTES // held[0].rgb.nbytes, 1), _WINDOW_FRAMES)
        high = start - 1
        while held:
            yield held.pop()


def _beyond(place: int) -> UsageError:
    return UsageError(f"prompt on frame {place}: the clip ends before it; frames are counted from 0")
