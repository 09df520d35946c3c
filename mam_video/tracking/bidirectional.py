"""Track a subject that has prompts on several frames.

A prompt restarts the tracker on its frame. The frames between two prompts are tracked in two passes: forwards from the
earlier prompt and backwards from the later one. Each frame gets the more plausible of the two masks (`blend_passes`),
so a correction improves the frames before it as well as those after it. Frames before the first prompt are tracked
backwards. With `track.passes` 2 the frames after the last prompt get a second pass too (`track_return`).

    frame      0 . . . . . . . . 120 . . . . . . . . 200 . . .
    forwards   P > > > > > > > >  P  > > > > > > > >  P  > > >
    backwards    < < < < < < < <  P  < < < < < < < <  P
                      | blended, and here |

On a prompted frame, the segmenter runs with and without the mask that was tracked until there, and with and without
references; the mask that fits the prompt best is taken. Each pass gets nearby prompted frames with known masks as
anchors: references that never fade. Forwards these are the earlier ones; a later prompt has no mask yet.

Forwards, the clip is decoded once. Backwards, it is decoded in windows of some frames, given last frame first, with the
motion between neighbours measured in that direction. Observations lie on disk until the passes are blended, so memory
does not grow with the clip. Matting from the blended track is a second run over the clip: a frame near a prompt is
final only when the prompt has been reached.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from mam_video.core.errors import UsageError
from mam_video.core.frames import Frame, Record, State
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import Settings
from mam_video.models.base import Model, Reference, wants_references
from mam_video.motion.flow import Motion, with_motion
from mam_video.motion.shot_detection import SEEN_AFTER, CutFinder
from mam_video.prompts.prompt import Prompt, Prompts
from mam_video.runtime.append_log import AppendLog
from mam_video.runtime.stage_timer import StageTimer
from mam_video.runtime.streams import ahead
from mam_video.tracking.mask_ops import agreement
from mam_video.tracking.references import anchor_capacity
from mam_video.tracking.shots import Shots, with_cut, without_prompt
from mam_video.tracking.track_back import checked
from mam_video.tracking.track_file import packed, unpacked
from mam_video.tracking.tracker import reference_of, track
from mam_video.tracking.types import MaskObservation, TrackStart

# Frames start <= index < stop of a clip, as `media.Reader.frames` gives them; may be called repeatedly.
FramesOf = Callable[[int, int | None], Iterable[Frame]]

_DECODED_AHEAD = 4  # frames
BLENDED_AHEAD = 2  # frames
_WINDOW_BYTES = 192 << 20  # of the 8-bit pictures of a window; two windows may be held
_WINDOW_FRAMES = 48
_RECENT = (2, 7)  # frames back from a prompt that become references for it: nearer ones add nothing

# Costs of a pass in a frame, and of switching to the other one; see `blend_passes`.
_LOST_COST = 1.5
_FLAGGED_COST = 0.3
_SCORE_COST = 0.5  # of a score of 0
_DISTANCE_COST = 0.3  # at the other pass's prompt
_MAX_AREA_COST = 2.0  # of an area other than expected between the prompts (logarithm of the ratio)
_OVERLAP_COST = 2.0  # of switching where the masks share nothing
_SWITCH_COST = 0.02  # of switching at all


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
    """Track a subject with prompts on several frames through the frames first <= index < stop.

    The model is called in one thread, named "model" as in matting. OpenMP keeps a pool for each thread that calls it.
    The main thread often has one from loading the model.

    Args:
        frames_of: the clip.
        folder: an empty folder for observations; they are left there.
        cuts: finds the cuts; made where None.
        batch: frames embedded at once; the groups fall on absolute frame numbers.
        on_frame: called for each frame that was tracked, in either direction; in the model's thread.

    Yields one `MaskObservation` a frame, in order, when both passes are done.
    Raises: UsageError, a prompt lies outside its frame or beyond the clip.
    """
    clock = clock or StageTimer()
    cuts = cuts or CutFinder(settings.cuts, settings.motion)
    tracker = BidirectionalTracker(
        frames_of, prompts, model, settings, folder, cuts, batch, clock, on_frame or (lambda: None)
    )

    def observations() -> Generator[MaskObservation, None, None]:
        try:
            tracker.find_early_cuts(first)
            tracker.track_forwards(stop)
            tracker.track_backwards(first)
            if settings.track.passes == 2:
                track_return(tracker)
            yield from tracker.blended(first)
        finally:
            tracker.close()

    yield from ahead(observations(), BLENDED_AHEAD, "model")


class PassLogs:
    """The observations of both passes, on disk.

    forward     from the first prompted frame on, one a frame
    backward    passes from each prompt, last frame first; `backward_place` says where a frame's is
    unprompted  frames in shots before the first prompt
    """

    def __init__(self, folder: Path, first_prompted: int) -> None:
        self.first_prompted = first_prompted
        self.forward = AppendLog(folder / "forwards")
        self.backward = AppendLog(folder / "backwards")
        self.backward_place: dict[int, int] = {}
        self.unprompted = AppendLog(folder / "early")

    def forward_at(self, index: int) -> MaskObservation:
        return unpacked(self.forward[index - self.first_prompted])

    def backward_at(self, index: int) -> MaskObservation:
        return unpacked(self.backward[self.backward_place[index]])

    def overlap_at(self, index: int) -> float:
        """Return the IoU of the masks of both passes in a frame."""
        earlier, later = self.forward_at(index), self.backward_at(index)
        return agreement(earlier.logits, earlier.crop, later.logits, later.crop)

    def before_first_prompt(self, first: int) -> Generator[MaskObservation, None, None]:
        """Yield the observations of the frames from `first` to the first prompted one."""
        for index in range(first, self.first_prompted):
            tracked = index in self.backward_place
            yield self.backward_at(index) if tracked else unpacked(self.unprompted[index - first])

    def close(self) -> None:
        self.forward.close()
        self.backward.close()
        self.unprompted.close()


class BidirectionalTracker:
    """Both passes over every gap between prompts, on disk.

    `known` are observations of prompted frames that are taken over as they are.
    """

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
        known: Mapping[int, MaskObservation] | None = None,
    ) -> None:
        self.frames_of, self.prompts, self.model, self.settings = frames_of, prompts, model, settings
        self.known = known or {}
        self.cuts = cuts
        self.batch, self.clock, self.on_frame = batch, clock, on_frame
        self.prompted = prompts.frames
        self.anchor_count = anchor_capacity(wants_references(model))
        self.anchors: dict[int, Reference] = {}  # by frame; those last used
        self.last_frames: deque[Frame] = deque(maxlen=max(_RECENT))  # those tracked last
        self.logs = PassLogs(folder, self.prompted[0])

    def find_early_cuts(self, first: int) -> None:
        """Find the cuts among the frames from `first` to the first prompt."""
        if first >= self.prompted[0]:
            return
        frames = ahead(self.clock.timed(self.frames_of(first, self.prompted[0] + SEEN_AFTER), "decode"), 4, "decode")
        moved = with_motion(frames, self.settings.motion, clock=self.clock)
        finder = CutFinder(replace(self.cuts.settings, on_cut="continue"), self.settings.motion)
        begin = first
        with closing(finder.watch(moved, self.clock)) as watched:
            for frame, motion in watched:
                if frame.index > self.prompted[0]:
                    break
                begin = frame.index if frame.index in finder.found else begin
                self.logs.unprompted.append(packed(without_prompt(frame, motion, begin, self.model).observation))
        self.cuts.found += [cut for cut in finder.found if cut <= self.prompted[0]]

    def track_forwards(self, stop: int | None) -> None:
        """Track from each prompt to the next or to the cut before it, and from the last one to the end."""
        frames = ahead(self.clock.timed(self.frames_of(self.prompted[0], stop), "decode"), _DECODED_AHEAD, "decode")
        moved = with_motion(frames, self.settings.motion, clock=self.clock)
        with closing(self.cuts.watch(moved, self.clock)) as watched:
            shots = Shots(watched)
            for k, place in enumerate(self.prompted):
                end = self.prompted[k + 1] if k + 1 < len(self.prompted) else None
                if shots.next is None:
                    raise self._beyond(place)
                apart = k == 0 or place in self.known or self._different_shots(self.prompted[k - 1], place)
                before, recent = (None, []) if apart else (self.logs.forward_at(place - 1), self._recent(place))
                near = [
                    other
                    for other in reversed(self.prompted)
                    if other < place and not self._different_shots(other, place)
                ]
                self._track_pass(
                    shots.take(end), place, near, self.logs.forward, before=before, recent=recent,
                    begun=self.known.get(place), confirm=end is None,
                )  # fmt: skip
                while shots.next is not None and (end is None or shots.next[0].index < end):
                    begin = shots.next[0].index
                    for frame, motion in shots.take(end):
                        self.logs.forward.append(packed(without_prompt(frame, motion, begin, self.model).observation))
                        self.on_frame()

    def _cuts_between(self, low: int, high: int) -> list[int]:
        """Return the first frames of shots, low < index <= high; none where tracking goes on through cuts."""
        on = self.cuts.settings.on_cut == "continue"
        return [] if on else [cut for cut in self.cuts.found if low < cut <= high]

    def _different_shots(self, a: int, b: int) -> bool:
        """Return whether two frames are of different shots."""
        return bool(self._cuts_between(min(a, b), max(a, b)))

    def track_backwards(self, first: int) -> None:
        """Track from each prompt back to the previous one or to the cut after it, and from the first one to `first`."""
        lowest = [first, *(place + 1 for place in self.prompted)]
        for low, place in zip(lowest, self.prompted, strict=False):
            low = max([low, *self._cuts_between(low - 1, place)])
            if low < place:
                self.track_gap(low, place, self.logs.forward_at(place))

    def track_gap(self, low: int, place: int, begun: MaskObservation) -> None:
        """Track from frame `place`, where `begun` was found, back to frame `low`."""
        begin = len(self.logs.backward)
        frames = ahead(self.clock.timed(backwards(self.frames_of, low, place), "decode"), 1, "decode")
        moved = with_motion(frames, self.settings.motion, clock=self.clock)
        near = sorted(self.prompted, key=lambda other: (other != low - 1, abs(other - place)))
        near = [other for other in near if other != place and not self._different_shots(other, place)]
        self._track_pass(moved, place, near, self.logs.backward, begun=begun)
        self.logs.backward_place.update((index, begin + place - index) for index in range(low, place))

    def _track_pass(
        self,
        moved: Iterable[tuple[Frame, Motion | None]],
        place: int,
        near: Sequence[int],
        log: AppendLog,
        *,
        before: MaskObservation | None = None,
        recent: Sequence[Reference] = (),
        begun: MaskObservation | None = None,
        confirm: bool = False,
    ) -> None:
        """Track from the prompt on frame `place` into `log`.

        Args:
            near: the other prompted frames that may be anchors, most telling first.
            confirm: check the pass by tracking back; where two passes meet they check each other.
        """
        settings = self.settings
        known = [other for other in near if self.logs.forward_at(other).record.state is State.PROMPTED]
        anchors = [self._anchor(other) for other in known[: self.anchor_count]]
        tracked_frames = track(
            moved, self.model, self.prompts[place], settings=settings.track, view=settings.view, batch=self.batch,
            start=TrackStart(anchors, before, recent, begun),
        )  # fmt: skip
        if confirm:
            tracked_frames = checked(tracked_frames, self.model, settings)
        with closing(tracked_frames):
            for tracked in tracked_frames:
                log.append(packed(tracked.observation))
                self.last_frames.append(tracked.frame)
                self.on_frame()

    def _recent(self, place: int) -> list[Reference]:
        """Return references from confident frames shortly before a prompted frame, latest first."""
        frames = {frame.index: frame for frame in self.last_frames}
        recent = []
        for index in (place - back for back in _RECENT):
            if index in frames and self.logs.forward_at(index).record.state is State.TRACKED:
                recent.append(
                    replace(reference_of(frames[index], self.logs.forward_at(index), self.model), prompted=False)
                )
        return recent

    def _anchor(self, place: int) -> Reference:
        """Return the reference of a prompted frame that has been tracked."""
        if place not in self.anchors:
            while len(self.anchors) > self.anchor_count:
                del self.anchors[next(iter(self.anchors))]
            frame = next(iter(self.frames_of(place, place + 1)))
            self.anchors[place] = reference_of(frame, self.logs.forward_at(place), self.model)
        return self.anchors[place]

    def blended(self, first: int) -> Generator[MaskObservation, None, None]:
        """Yield the chosen observation of each frame from `first` on; its record knows where a shot begins."""
        for found in self._blended(first):
            yield found.with_record(with_cut(found.record, self.cuts))

    def _blended(self, first: int) -> Generator[MaskObservation, None, None]:
        yield from self.logs.before_first_prompt(first)
        for k, place in enumerate(self.prompted):
            yield self.logs.forward_at(place)
            if k + 1 == len(self.prompted):
                for index in range(place + 1, self.prompted[0] + len(self.logs.forward)):
                    yield self.logs.forward_at(index)
                return
            gap = range(place + 1, self.prompted[k + 1])
            if not gap:
                continue
            cuts = self._cuts_between(place, self.prompted[k + 1])
            if cuts:  # forwards up to the last cut, backwards from there to the next prompt
                for index in gap:
                    yield self.logs.forward_at(index) if index < cuts[-1] else self.logs.backward_at(index)
                continue
            yield from self._both(gap)

    def _both(self, gap: range) -> Generator[MaskObservation, None, None]:
        """Blend the passes over a gap that lies within one shot."""
        overlaps = [self.logs.overlap_at(index) for index in gap]
        passes = [(self.logs.forward_at(index).record, self.logs.backward_at(index).record) for index in gap]
        later = blend_passes(
            passes,
            overlaps,
            (self.logs.forward_at(gap[0] - 1).record.area, self.logs.forward_at(gap[-1] + 1).record.area),
        )
        for place, index in enumerate(gap):
            found = self.logs.backward_at(index) if later[place] else self.logs.forward_at(index)
            switches = place + 1 < len(gap) and later[place] != later[place + 1]
            at_end = place + 1 == len(gap) and not later[place]  # the next prompt does not confirm this pass
            yield self._with_difference(found, overlaps[place]) if switches or at_end else found

    def _with_difference(self, found: MaskObservation, overlap: float) -> MaskObservation:
        """Flag the last frame before the pass changes, if the other pass has another mask there."""
        if overlap >= self.settings.track.review_overlap:
            return found
        record = found.record
        differ = Finding(Reason.PASSES_DIFFER, overlap, self.settings.track.review_overlap)
        state = record.state if record.state.flagged else State.UNCERTAIN
        return found.with_record(replace(record, state=state, findings=(*record.findings, differ)))

    def _beyond(self, place: int) -> UsageError:
        if self.cuts.settings.on_cut == "stop" and self.cuts.found:
            cut = self.cuts.found[-1]
            return UsageError(
                f"prompt on frame {place}: lies after the cut before frame {cut}, where --on-cut stop ends the run; "
                "leave it out, or say --on-cut reprompt"
            )
        return _beyond(place)

    def close(self) -> None:
        self.logs.close()


def track_return(tracker: BidirectionalTracker) -> None:
    """Track back from the last confirmed frame to the last prompt, as if the confirmed frame were prompted.

    The frames between are then blended as between two prompts. A pass that does not arrive at the prompt's mask is not
    used.
    """
    logs, last = tracker.logs, tracker.prompted[-1]
    turn = last
    for index in range(last + 1, logs.first_prompted + len(logs.forward)):
        state = logs.forward_at(index).record.state
        if state is State.CUT:
            break
        turn = index if state is State.TRACKED else turn
    if turn < last + 2:
        return
    found = logs.forward_at(turn)
    entries, prompted = tracker.prompts, tracker.prompted
    tracker.prompts = Prompts.of({**dict(entries.entries), turn: Prompt(found.record.box)}, entries.subject)
    tracker.prompted = tracker.prompts.frames
    tracker.track_gap(last + 1, turn, found.with_record(replace(found.record, state=State.PROMPTED, findings=())))
    if logs.overlap_at(last + 1) < tracker.settings.track.review_return:
        tracker.prompts, tracker.prompted = entries, prompted


def blend_passes(
    passes: Sequence[tuple[Record, Record]], overlaps: Sequence[float], areas: tuple[float, float]
) -> list[bool]:
    """Choose a pass for each frame of a gap: False the one from the prompt before, True the one from after.

    The choice is the path of least cost through the gap (Viterbi). A pass costs where it is lost or flagged, where its
    score is low, with the distance from its prompt, and where its area differs from that expected between the two
    prompted frames, interpolated on a logarithmic scale: a mask of the wrong thing shows there. Switching costs where
    the masks differ.

    Args:
        passes: records of both passes in each frame.
        overlaps: IoU of their masks in each frame.
        areas: of the masks in the prompted frames before and after.
    """
    first, last = (math.log(max(area, _LEAST_AREA)) for area in areas)
    best = [0.0, 0.0]
    came: list[list[int]] = []
    for place, records in enumerate(passes):
        position = (place + 1) / (len(passes) + 1)
        expected = (1 - position) * first + position * last
        around = overlaps[max(place - 1, 0) : place + 1]
        switch = _SWITCH_COST + _OVERLAP_COST * (1 - max(around))
        came.append([k if best[k] <= best[1 - k] + switch else 1 - k for k in (0, 1)])
        until = [min(best[k], best[1 - k] + switch) for k in (0, 1)]
        distance = (position, 1 - position)
        best = [until[k] + _cost(records[k], expected) + _DISTANCE_COST * distance[k] for k in (0, 1)]
    chosen = int(best[1] < best[0])
    path = []
    for previous in reversed(came):
        path.append(bool(chosen))
        chosen = previous[chosen]
    return path[::-1]


_LEAST_AREA = 1e-6  # of the frame


def _cost(record: Record, expected: float) -> float:
    """Return the cost of a pass in one frame; `expected` is the logarithm of the expected area."""
    area = min(abs(math.log(max(record.area, _LEAST_AREA)) - expected), _MAX_AREA_COST)
    state = _LOST_COST if record.state is State.LOST else _FLAGGED_COST if record.state.flagged else 0.0
    return area + state + _SCORE_COST * (1 - record.score)


def backwards(frames_of: FramesOf, low: int, high: int) -> Generator[Frame, None, None]:
    """Yield the frames `high`, `high` - 1, ... `low` of a clip, in 8 bits as displayed, as tracking needs them.

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
