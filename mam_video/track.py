"""Where the subject is in the next frame, and how sure we are.

For every frame, in order:

1. Move. The optical flow carries the previous mask over; its box is the side-wise median of three opinions: the moved
   mask's own box, the last box moved by the median motion inside the mask, and a constant-velocity filter.
2. Ask. The box, grown by a margin (more where the parts of the subject move differently), the moved mask and the
   reference frames go to the segmenter, which looks at a `View` around the box.
3. Choose. Among several masks by score, overlap with the moved mask and agreement with the box filter together, not
   by score alone (the idea of SAMURAI, arXiv 2411.11922; it needs no training). Parts that neither touch the moved mask
   nor lie in the box are taken off.
4. Doubt. The frame gets its state (`doubt.py`), and only a frame without doubt is remembered as a reference.

What the states mean:

PROMPTED   the user pointed at the subject in this frame.
TRACKED    found; score, overlap and area are all above the bars of `TrackSettings`. It may have reasons that are no
           cause to look: half of it is hidden, or they are known from frames just before. Then it teaches no more
           than an uncertain one.
UNCERTAIN  found and followed, but the score is low, the mask fits the moved one badly, its area is not what it was, its
           colours are not the subject's, a look-alike touches it, or a part that stands still was taken off. Its
           reasons say which. It teaches nothing, but where they say nothing against the mask.
LOST       nothing was found, or what was found is too doubtful to be followed: its mask is empty. Its box is where the
           subject is thought to be.
RECOVERED  the first frame in which it is found again, after lost ones or somewhere else at once.

What is lost is searched in every frame: around its last place, moved by the motion, and around where the box filter
expects it, wider from frame to frame; and in the whole frame, where its colours are. What is found must look like the
subject and not be larger than what was lost. What the subject looks like, `appearance.py` knows.

Areas are compared with the frame before and with what the subject had when all of it was seen, which the motion's own
scale carries along: a subject that comes nearer grows as its motion says, one that goes behind a pole does not.

Embedding falls on absolute frame numbers: group k holds frames k*batch to (k+1)*batch-1 and is embedded at once in the
view that is held. Where the subject stops fitting it within a group, the rest of the group gets a new view and is
embedded again.

The frames may come last one first, with the motion that leads backwards: they are followed by the same rules. Other
prompted frames of the subject may be given as anchors: references like the prompt's own, which never fade.
`corrections.py` makes one track of several prompts.

A track can be gone on with where it broke off: all that the tracker remembers follows from what was found and from the
motion. Known frames are gone through without asking the model, and then every bit is as if it had never stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain

import cv2
import numpy as np
import torch

from mam_video import doubt
from mam_video.appearance import Appearance, Light, Place, look_of
from mam_video.errors import UsageError
from mam_video.frames import Frame, Record, State
from mam_video.models.base import (
    Candidates,
    Embedding,
    Model,
    Reference,
    ViewPrompt,
    wants_motion,
    wants_references,
)
from mam_video.motion import Motion
from mam_video.prompts import Box, Prompt
from mam_video.settings import TrackSettings, ViewSettings
from mam_video.views import View

_OUTSIDE = -8.0  # logit of what a mask says nothing about: surely background


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where the subject is in one frame: all that matting needs beside the model.

    motion     from the frame before to this one, or None for the first
    view       the rectangle that the model looked at
    logits     (m, m) float16 over the view's square; above 0 is subject. Half precision, as it is saved, so that a
               saved Track gives the same matte bit for bit
    embedding  the embedding of the frame's batch and the frame's place in it, or None where it must be made again. It
               is given only where the batch is the whole run of frames of one group that share the view, so that a
               matte of the batch is the same as one made from a saved Track
    standing   (m, m) float32, frames that each place has stood still: what the tracker remembers beside the rest
    """

    frame: Frame
    motion: Motion | None = field(repr=False)
    record: Record
    view: View
    logits: np.ndarray = field(repr=False)
    embedding: tuple[Embedding, int] | None = field(default=None, repr=False)
    standing: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.logits.dtype != np.float16 or self.logits.ndim != 2 or self.logits.shape[0] != self.logits.shape[1]:
            raise TypeError(f"logits must be (m, m) float16, is {self.logits.shape} {self.logits.dtype}")


def track(
    frames: Iterable[tuple[Frame, Motion | None]],
    model: Model,
    prompt: Prompt,
    *,
    settings: TrackSettings | None = None,
    view: ViewSettings | None = None,
    batch: int = 1,
    known: Sequence[Found] = (),
    anchors: Sequence[Reference] = (),
    before: Found | None = None,
    recent: Sequence[Reference] = (),
    begun: Found | None = None,
) -> Generator[Tracked, None, None]:
    """Follow the subject that `prompt` points at in the first of `frames`.

    Args:
        frames: each frame with the motion that leads to it, as `motion.with_motion` gives them; their indices go up by
            one, or down.
        model: any of the model contract; `torch.inference_mode()` is entered for its calls.
        batch: frames embedded at once; the groups fall on absolute frame numbers.
        known: what this same call found in its first frames, when it was broken off. Whole groups of them are not asked
            for again.
        anchors: the subject in other prompted frames, most telling first; as many are kept as the model's references
            allow.
        before: what was found in the frame before the first: the prompt corrects it. The segmenter is asked with it and
            without it, with references and without any, and what fits the prompt best is taken.
        recent: what was found shortly before, latest first: references for the first frame alone.
        begun: what is known of the first frame already.

    Yields one `Tracked` a frame, in order. At most one group of frames is held (and one frame more).
    Raises: UsageError, the prompt lies outside the frame, or what is known is of another clip.
    """
    follower = _Follower(model, prompt, settings or TrackSettings(), view or ViewSettings(), anchors)
    follower.begun = begun
    follower.passed = tuple(recent)
    if before is not None:
        _, follower.mask_view, logits, _ = before
        follower.logits = logits.astype(np.float32)
    source = iter(frames)
    place = 0
    try:
        for group in _groups(source, batch, look_ahead=wants_motion(model)):
            end = place + len(group)
            if end <= len(known):
                yield from follower.repeat(group, [known[k] for k in range(place, end)])
            else:
                yield from follower.follow(group)
            place = end
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()


def anchor(frame: Frame, found: Found, model: Model) -> Reference:
    """A prompted frame with what was found in it, for other frames to be compared with."""
    _, view, logits, _ = found
    with torch.inference_mode():
        embedding = model.embed([view.cut(frame.rgb8)])
    return Reference(embedding, 0, logits.astype(np.float32), prompted=True)


# Of one frame: its record, its view, its logits, (m, m) float16, and `Tracked.standing`.
Found = tuple[Record, View, np.ndarray, np.ndarray | None]


@dataclass(slots=True)
class _Step:
    """A frame on its way: `next_motion` leads from it to the next, and is known for the first frame only."""

    frame: Frame
    motion: Motion | None
    next_motion: Motion | None = None


def _groups(
    source: Iterator[tuple[Frame, Motion | None]], batch: int, look_ahead: bool
) -> Generator[list[_Step], None, None]:
    """Frames by absolute groups. With `look_ahead` the first frame is told the motion that follows it."""
    first = next(source, None)
    if first is None:
        return
    second = next(source, None) if look_ahead else None
    steps = [_Step(*first, second[1] if second is not None else None)]
    rest = source if second is None else chain([second], source)
    for frame, motion in rest:
        if frame.index // batch != steps[0].frame.index // batch:
            yield steps
            steps = []
        steps.append(_Step(frame, motion))
    yield steps


class _Follower:
    """The state of one subject in one clip."""

    def __init__(
        self,
        model: Model,
        prompt: Prompt,
        settings: TrackSettings,
        view_settings: ViewSettings,
        anchors: Sequence[Reference] = (),
    ) -> None:
        self.model = model
        self.prompt = prompt
        self.settings = settings
        self.view_settings = view_settings
        self.view: View | None = None
        self.box = prompt.box or Box(0, 0, 1, 1)
        self.reach: Box | None = None  # the box, but slow to shrink; None until the subject has been found
        self.logits = np.zeros((0, 0), np.float32)  # of the last frame, over `mask_view`
        self.mask_view: View | None = None
        self.standing = np.zeros((0, 0), np.float32)  # frames that each place has stood still, over `mask_view`
        self.good_area = 0.0  # share of the frame, when last seen
        self.full_area = 0.0  # what it would be, were all of it seen
        self.full_box: Box | None = None  # when last seen without doubt
        self.light = Light()
        self.appearance = Appearance()
        self.others: list[Box] = []  # where look-alikes were last seen
        self.others_before: list[Box] = []  # the same, as of the frame before
        self.contact: _Contact | None = None  # a look-alike has touched it, and they have not parted since
        self.filter: _BoxFilter | None = None
        self.lost = 0  # frames since it was last seen
        self.memory = doubt.Memory()
        self.references = _References(wants_references(model), anchors)
        self.begun: Found | None = None
        self.passed: tuple[Reference, ...] = ()  # what was followed up to the prompt

    def follow(self, group: list[_Step]) -> Iterator[Tracked]:
        """The frames of one group, which are embedded together as long as their view stays."""
        self.references.remember(self.model)
        found: list[Tracked] = []
        runs: list[tuple[Embedding, int, int]] = []  # embedding; its first frame's place in the group; frames used
        for place, step in enumerate(group):
            guess = self._guess(step)
            view = self._view_for(guess, step.frame.size)
            if not runs or view != self.view:
                pictures = [view.cut(s.frame.rgb8) for s in group[place:]]
                with torch.inference_mode():
                    runs.append((self.model.embed(pictures), place, 0))
                self.view = view
            embedding, start, used = runs[-1]
            runs[-1] = embedding, start, used + 1
            if guess is None:
                record, logits = self._begin(step, view, embedding, place - start)
            else:
                record, logits, view = self._continue(step, guess, view, embedding, place - start)
                if view != self.view:  # found elsewhere: the rest of the group looks there
                    runs[-1] = embedding, start, used
                    with torch.inference_mode():
                        runs.append((self.model.embed([view.cut(s.frame.rgb8) for s in group[place:]]), place, 1))
                    self.view = view
            found.append(Tracked(step.frame, step.motion, record, view, logits, standing=self.standing))
        for embedding, start, used in runs:
            for i in range(start, start + used):
                t = found[i]
                handle = (embedding, i - start) if used == embedding.count else None
                yield Tracked(t.frame, t.motion, t.record, t.view, t.logits, handle, t.standing)

    def repeat(self, group: list[_Step], known: list[Found]) -> Iterator[Tracked]:
        """The same for a group that was followed before: the state afterwards is the same, and no model was asked."""
        start = 0
        for place, (step, (record, view, logits, standing)) in enumerate(zip(group, known, strict=True)):
            guess = self._guess(step)
            strange = view != self._view_for(guess, step.frame.size) and record.state is not State.RECOVERED
            if (step.frame.index, step.frame.pts) != (record.index, record.pts) or strange:
                raise UsageError(f"what is known of frame {step.frame.index} was found in another clip")
            if place == 0 or view != self.view:
                start = place
            self.view = view
            if guess is None:
                self.filter = _BoxFilter(record.box)
            else:
                if record.state not in (State.LOST, State.RECOVERED):
                    self._touched(step.frame, record.box, record.area)
                self._follow_box(record)
            if record.state is State.LOST:
                if guess is not None:
                    self._elsewhere(step.frame)
                logits = self._thought(step, guess, record.box, view)
            batch = _Batch(view, [s.frame for s in group[start:]])
            if standing is not None:
                self.standing = standing
            self._remember(step, record, logits, view, batch, place - start, guess)
            yield Tracked(step.frame, step.motion, record, view, known[place][2])

    # Move

    def _guess(self, step: _Step) -> _Guess | None:
        """Where the subject should be now; None on the first frame."""
        motion = step.motion
        self.light.see(step.frame, motion)
        self.others_before = self.others
        if self.mask_view is None or self.filter is None or motion is None:  # there is no filter before the prompt
            return None
        before = _over_frame(self.logits, self.mask_view, motion)
        shift = motion.shift(before > 0)
        moved_box = _keep_in_touch(self.box.moved(shift.dx, shift.dy), step.frame.size)
        expected = self.filter.predict()
        sx, sy = motion.scale
        moved_mask = motion.carry((before > 0).astype(np.float32)) > 0.5
        if not self.lost:
            self.full_area *= _scale(motion, before > 0) ** 2
        own = _tight_box(_without_specks(moved_mask, self.settings.speck), sx, sy)
        leaves = own is None or _leaves(self.box, self.filter.speed, step.frame.size)
        box = _median_box([moved_box, expected, own]) if own is not None and not self.lost else moved_box
        box = _keep_in_touch(box, step.frame.size)
        margin = self.settings.margin * max(box.width, box.height) + shift.spread
        search = box.grown(margin)
        reach = self.reach.moved(shift.dx, shift.dy) if self.reach is not None else None
        if reach is not None:
            search = _union(search, reach)
        if self.lost:
            # The flow under a standing mask follows whatever hides the subject; the filter keeps its course.
            search = _union(search, expected).grown(margin * min(2 * self.lost, 8))
        search = search.clipped(step.frame.size) or search
        return _Guess(box, search, expected, leaves, reach)

    def _view_for(self, guess: _Guess | None, frame_size: tuple[int, int]) -> View:
        """The view for a frame: the one that is held where the subject still fits it."""
        size = self.model.view_size
        if self.view_settings.roi == "frame":
            return View.whole(frame_size, size)
        box = guess.search if guess is not None else self.prompt.box
        if box is None:
            return self.view or View.whole(frame_size, size)
        return held_view(self.view, box, frame_size, size, self.view_settings)

    # Ask, choose, doubt

    def _begin(self, step: _Step, view: View, embedding: Embedding, index: int) -> tuple[Record, np.ndarray]:
        """The prompted frame."""
        frame = step.frame
        self.prompt.check_inside(frame.size)
        if self.begun is not None:
            record, _, logits, _ = self.begun
            self.filter = _BoxFilter(record.box)
            held = self._thought(step, None, record.box, view) if record.state is State.LOST else logits
            self._remember(step, record, held, view, embedding, index, None)
            return record, logits
        if self.prompt.mask is not None and self.prompt.box is not None:
            logits = mask_logits(self.prompt.mask, view, self.model.mask_size)
            self.filter = _BoxFilter(self.prompt.box)
            area = _area(logits, view, frame.size)
            record = Record(frame.index, frame.pts, State.PROMPTED, self.prompt.box, 1.0, area)
            self._remember(step, record, logits, view, embedding, index, None)
            return record, logits
        motion = step.next_motion
        asked = self.prompt.box.clipped(frame.size) if self.prompt.box is not None else None
        points = np.array([view.point_to_view(p.x, p.y) for p in self.prompt.points], np.float32).reshape(-1, 2)
        labels = np.array([int(p.subject) for p in self.prompt.points], np.int64)
        apart = self._apart(motion, asked, view, ahead=True)
        told = self.references.all(self.passed)
        prompt = ViewPrompt(view.to_view(asked) if asked else None, points, labels, motion=apart, references=told)
        answers = [self._ask(embedding, index, prompt)]
        if self.mask_view is not None and step.motion is not None and (self.logits > 0).any():
            moved = carried_logits(self.logits, self.mask_view, view, step.motion, self.model.mask_size)
            answers.append(self._ask(embedding, index, replace(prompt, logits=moved)))
            if told:  # what was followed may be what has to be corrected
                answers.append(self._ask(embedding, index, replace(prompt, references=())))
        offered = Candidates(np.concatenate([a.logits for a in answers]), np.concatenate([a.scores for a in answers]))
        values = []
        for logits, score in zip(offered.logits, offered.scores, strict=True):
            box = self._box_of(logits, view)
            values.append(float(score) + (0.5 * asked.iou(box) if asked and box else 0.0))
        best = int(np.argmax(values))
        logits, score = offered.logits[best].astype(np.float16), float(offered.scores[best])
        box = self._box_of(logits.astype(np.float32), view)
        state = State.PROMPTED
        reasons: tuple[str, ...] = ()
        if box is None:
            state = State.LOST
            reasons = ("nothing was found where the prompt points",)
            box = asked or _keep_in_touch(Box(0, 0, 1, 1).moved(*_first_point(self.prompt)), frame.size)
            logits = _nothing(self.model.mask_size)
        self.filter = _BoxFilter(box)
        area = _area(logits, view, frame.size)
        record = Record(frame.index, frame.pts, state, box, score, area, reasons)
        held = self._thought(step, None, box, view) if state is State.LOST else logits
        self._remember(step, record, held, view, embedding, index, None)
        return record, logits

    def _prompt(self, step: _Step, guess: _Guess, view: View) -> tuple[np.ndarray, ViewPrompt]:
        """The last mask moved into the view, (m, m) float32 logits, and what a later frame is asked with."""
        assert self.mask_view is not None and step.motion is not None
        moved = carried_logits(self.logits, self.mask_view, view, step.motion, self.model.mask_size)
        return moved, ViewPrompt(
            view.to_view(guess.search),
            logits=moved,
            motion=self._apart(step.motion, guess.search, view, ahead=False),
            references=self.references.all(),
        )

    def _continue(
        self, step: _Step, guess: _Guess, view: View, embedding: Embedding, index: int
    ) -> tuple[Record, np.ndarray, View]:
        """A later frame: its record, its logits, and the view they are of, another one where it was found elsewhere."""
        frame, motion = step.frame, step.motion
        assert self.filter is not None and motion is not None
        m = self.model.mask_size
        moved, prompt = self._prompt(step, guess, view)
        offered = self._ask(embedding, index, prompt)

        best, best_value, best_overlap = -1, -1.0, 0.0
        cleaned: list[np.ndarray] = []
        boxes: list[Box | None] = []
        for k, (logits, score) in enumerate(zip(offered.logits, offered.scores, strict=True)):
            logits = _supported(logits, moved, view.to_view(guess.search), view.size)
            box = self._box_of(logits, view)
            overlap = _iou(logits > 0, moved > 0)
            cleaned.append(logits)
            boxes.append(box)
            value = 0.4 * float(score) + 0.4 * overlap + (0.2 * box.iou(guess.expected) if box else 0.0)
            if value > best_value:
                best, best_value, best_overlap = k, value, overlap

        score = float(offered.scores[best])
        chosen, box = cleaned[best].astype(np.float16), boxes[best]
        left_behind = self._left_behind(chosen, motion, guess, view)
        if left_behind.any():
            chosen[left_behind] = _OUTSIDE
            box = self._box_of(chosen.astype(np.float32), view)
        missing = self._missing(frame, chosen, box, view, score, best_overlap, guess)
        area = _area(chosen, view, frame.size)
        if missing or box is None:
            elsewhere = self._search(frame)
            if elsewhere is not None:
                record, chosen, view, embedding = elsewhere
                if not self.lost:
                    record = replace(record, reasons=(*missing, *record.reasons))
                self._follow_box(record)
                self.standing = np.zeros((m, m), np.float32)
                self._remember(step, record, chosen, view, embedding, 0, guess)
                return record, chosen, view
            record = Record(frame.index, frame.pts, State.LOST, guess.box, score, 0.0, tuple(missing))
            self._follow_box(record)
            self._remember(step, record, self._thought(step, guess, guess.box, view), view, embedding, index, guess)
            return record, _nothing(m), view
        evidence = self._evidence(frame, chosen, view, score, best_overlap)
        doubts = doubt.doubts(evidence, self.settings, sought=self.lost > 0)
        if self._touched(frame, box, area):
            doubts.append(doubt.TOUCHED)
        if left_behind.any():
            doubts.append(doubt.TAKEN_OFF)
        parted = self.contact is not None and self.contact.apart
        news = self.memory.news(doubts, evidence, self.settings, parted)
        state = State.RECOVERED if self.lost else State.UNCERTAIN if news else State.TRACKED
        if self.lost:
            doubts.insert(0, self._again())
        record = Record(frame.index, frame.pts, state, box, score, area, tuple(doubts))
        self._follow_box(record)
        self._remember(step, record, chosen, view, embedding, index, guess)
        return record, chosen, view

    def _missing(
        self,
        frame: Frame,
        logits: np.ndarray,
        box: Box | None,
        view: View,
        score: float,
        overlap: float,
        guess: _Guess | None,
    ) -> list[str]:
        """Why a mask is not the subject's; empty where it may be. Without a guess it was found elsewhere."""
        if box is None or not (logits > 0).any():
            return ["it has left the picture" if guess is not None and guess.leaves else "nothing was found"]
        evidence = self._evidence(frame, logits, view, score, overlap)
        reason = doubt.missing(evidence, self.settings, sought=self.lost > 0 or guess is None)
        return [reason] if reason is not None else []

    def _evidence(self, frame: Frame, logits: np.ndarray, view: View, score: float, overlap: float) -> doubt.Evidence:
        area = _area(logits, view, frame.size)
        jump, share = area / max(self.good_area, 1e-9), area / max(self.full_area, 1e-9)
        return doubt.Evidence(score, overlap, jump, share, self._alike(frame, logits, view), self.light.step)

    def _again(self) -> str:
        if not self.lost:
            return "found again by its colours"
        return f"found again after {self.lost} lost frame{'s' if self.lost > 1 else ''}"

    def _alike(self, frame: Frame, logits: np.ndarray, view: View) -> float:
        return max(self.appearance.alike(look_of(frame, view, logits, gain)) for gain in self.light.gains)

    def _touched(self, frame: Frame, box: Box, area: float) -> bool:
        """Whether something else that looks like the subject touches it, or has, and they have not parted since.

        They part where both are seen apart again and the subject is nearer than the other to where it was heading.
        """
        own = box.grown(0.02 * max(box.width, box.height))
        seen = self.appearance.places(frame, self.light.gain, box, apart_from=own, most=2)
        alike = [p for p in seen if p.area > _RIVAL * area and p.alike > self.settings.doubt_look]
        # What comes out beyond a pole is no look-alike: new ones are made out only where the whole subject is seen. Of
        # the known ones windows as small as what is left of the subject show but parts: they do not shrink meanwhile.
        whole = area >= _WHOLE * self.full_area
        known = [
            reduce(_union, parts, other)
            for other in self.others
            if (parts := [p.box for p in alike if _gap(p.box, other) < 0.1])
        ]
        self.others = [p.box for p in alike if _gap(own, p.box) >= 0.1] if whole else known
        pixels = frame.size[0] * frame.size[1]
        dense = _AS_DENSE * area * pixels / (box.width * box.height)
        rivals = [
            p.box for p in alike if p.alike > _LOOK_ALIKE and p.area * pixels > dense * p.box.width * p.box.height
        ]
        contact = self.contact
        touching = next((rival for rival in rivals if _gap(own, rival) < 0.1), None)
        if touching is not None:
            speed = self.filter.speed if self.filter is not None else (0, 0)
            self.contact = contact or _Contact(box.centre, speed, touching)
            self.contact.other, self.contact.apart = touching, False
            self.contact.frames += 1
            return True
        if contact is None:
            return False
        contact.frames += 1
        x, y = contact.expected

        def nearer(others: list[Box]) -> bool:
            ways = [float(np.hypot(b.centre[0] - x, b.centre[1] - y)) for b in (box, *others)]
            return len(ways) > 1 and ways[0] < min(ways[1:])

        if contact.frames > _PARTED or nearer(rivals):
            self.contact = None
        # Apart from the subject, what has touched it is known again by less than what made it a look-alike.
        contact.apart |= nearer([p.box for p in alike if _gap(p.box, contact.other) < 0.1 <= _gap(own, p.box)])
        return self.contact is not None

    def _elsewhere(self, frame: Frame) -> list[Place]:
        """Where else in the frame a lost subject may be. Known look-alikes are followed, and not taken for it."""
        if not self.settings.search or self.full_box is None:
            return []
        bars = self.settings
        seen = [p for gain in self.light.gains for p in self.appearance.places(frame, gain, self.full_box)]
        others: list[Place] = []
        free: list[Place] = []
        for place in seen:
            if place.alike < bars.min_look or place.area < bars.min_area * self.full_area:
                continue
            (others if any(_gap(place.box, other) < 0.1 for other in self.others) else free).append(place)
        still = [o for o in self.others if not any(_gap(p.box, o) < 0.1 for p in others)]
        self.others = [p.box for p in others] + still
        return free

    def _search(self, frame: Frame) -> tuple[Record, np.ndarray, View, Embedding] | None:
        """The subject somewhere in the whole frame: record, logits, view and embedding; None where it is not seen."""
        m = self.model.mask_size
        whole = Box(0, 0, frame.size[1], frame.size[0])
        for place in self._elsewhere(frame):
            asked = place.box.grown(self.settings.margin * max(place.box.width, place.box.height))
            asked = asked.clipped(frame.size) or whole
            view = held_view(self.view, asked, frame.size, self.model.view_size, self.view_settings)
            with torch.inference_mode():
                embedding = self.model.embed([view.cut(frame.rgb8)])
            offered = self._ask(embedding, 0, ViewPrompt(view.to_view(asked), references=self.references.all()))
            best = int(np.argmax(offered.scores))
            logits = _supported(offered.logits[best], _filled(asked, view, m), view.to_view(asked), view.size)
            score, box = float(offered.scores[best]), self._box_of(logits, view)
            if box is None or self._missing(frame, logits, box, view, score, 1.0, None):
                continue
            logits = logits.astype(np.float16)
            area = _area(logits, view, frame.size)
            record = Record(frame.index, frame.pts, State.RECOVERED, box, score, area, (self._again(),))
            return record, logits, view, embedding
        return None

    def _thought(self, step: _Step, guess: _Guess | None, box: Box, view: View) -> np.ndarray:
        """Where a lost subject is thought to be, (m, m) float16 logits: the last mask, moved by the motion.

        Nothing, once it has left the picture: no mask may stay behind at the border.
        """
        m = self.model.mask_size
        if guess is None or self.mask_view is None or step.motion is None:
            return _filled(box, view, m).astype(np.float16)
        if guess.leaves:
            return _nothing(m)
        return carried_logits(self.logits, self.mask_view, view, step.motion, m).astype(np.float16)

    def _follow_box(self, record: Record) -> None:
        if record.state is State.RECOVERED:
            self.others = [other for other in self.others_before if _gap(other, record.box) >= 0]
            self.contact = None
        if record.state is State.RECOVERED and _gap(record.box, self.box) > 0:  # it has not come here by its own speed
            self.filter = _BoxFilter(record.box)
        elif record.state is not State.LOST and self.filter is not None:
            self.filter.update(record.box)

    def _left_behind(self, logits: np.ndarray, motion: Motion, guess: _Guess, view: View) -> np.ndarray:
        """(m, m) bool: separate parts of the mask that have stood still for long enough while the largest moved.

        Moving and standing are before the ground, the camera's own motion taken off. How long each part has stood is
        carried along with the motion in `standing`.
        """
        m = len(logits)
        count, labels, stats, _ = cv2.connectedComponentsWithStats((logits > 0).astype(np.uint8), connectivity=8)
        before, self.standing = self.standing, np.zeros((m, m), np.float32)
        taken = np.zeros((m, m), bool)
        if count <= 2 or not self.settings.stand or self.mask_view is None:
            return taken
        if before.size:
            before = np.maximum(carried_logits(before, self.mask_view, view, motion, m), 0)
        else:
            before = np.zeros((m, m), np.float32)
        apart = self._apart_over(motion, guess.search, view)
        bar = max(_MOVES * max(view.to_view(guess.box).width, view.to_view(guess.box).height), _FLOW_NOISE)
        areas = stats[1:, cv2.CC_STAT_AREA]
        # What has stood still while another part moved is not the subject, though it be the larger one once that one is
        # half out of the picture.
        parts = [labels == part for part in range(1, count)]
        speeds = np.array([np.hypot(*np.median(apart[here], axis=0)) for here in parts])
        stands = (speeds <= bar) & np.array([before[here].mean() >= 0.5 for here in parts])
        free = np.where(stands | (areas < self.settings.speck * areas.max()), 0, areas)
        main = 1 + int((free if free.any() else areas).argmax())
        way, speed = np.median(apart[labels == main], axis=0), float(speeds[main - 1])
        moves = speed > bar
        for part in range(1, count):
            if part == main:
                continue
            here = labels == part
            frames = float(before[here].mean())
            if moves:
                share = float(np.median(apart[here], axis=0) @ way) / speed**2
                frames = frames + 1 if share < 0.35 else max(frames - 1, 0.0)
            self.standing[here] = frames
            taken |= here & (frames > self.settings.stand - 0.5)
        return taken

    def _ask(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        with torch.inference_mode():
            return self.model.segment(embedding, index, prompt)

    def _apart(self, motion: Motion | None, box: Box | None, view: View, ahead: bool) -> np.ndarray | None:
        """The motion apart from the camera over the view's square, for models that want it; view pixels a frame."""
        if motion is None or not wants_motion(self.model):
            return None
        return self._apart_over(motion, box, view, ahead)

    def _apart_over(self, motion: Motion, box: Box | None, view: View, ahead: bool = False) -> np.ndarray:
        """(m, m, 2) float32: the motion apart from the camera over the view's square, view pixels a frame."""
        apart = motion.apart(box, back=ahead)
        x, y = _cell_centres(view, self.model.mask_size)
        sx, sy = motion.scale
        found = cv2.remap(apart, x / sx - 0.5, y / sy - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(found * np.array([sx * view.scale[0], sy * view.scale[1]], np.float32), np.float32)

    def _box_of(self, logits: np.ndarray, view: View) -> Box | None:
        """Tight box of a mask in frame pixels, ignoring specks; None where the mask is empty."""
        h, w = view.content
        kept = _without_specks(logits > 0, self.settings.speck)
        clean = np.where(kept | (logits <= 0), logits, np.float32(_OUTSIDE)).astype(np.float32)
        fine = cv2.resize(clean, (view.size, view.size), interpolation=cv2.INTER_LINEAR)[:h, :w] > 0
        sx, sy = view.scale
        box = _tight_box(fine, 1 / sx, 1 / sy)
        return box.moved(view.x0, view.y0) if box is not None else None

    def _remember(
        self,
        step: _Step,
        record: Record,
        logits: np.ndarray,
        view: View,
        embedding: Embedding | _Batch,
        index: int,
        guess: _Guess | None,
    ) -> None:
        """What the next frames go by. `logits`: of a lost frame, where the subject is thought to be."""
        self.memory.keep(record.reasons)
        reach = guess.reach if guess is not None else None
        if record.state is State.RECOVERED or reach is None or self.reach is None:
            self.reach = record.box
        else:
            if record.state is not State.LOST:
                reach = self.reach.moved(*_stride(self.box, record.box))
            self.reach = _shrunk(reach, record.box, self.settings.shrink)
        self.logits, self.mask_view, self.box = logits.astype(np.float32), view, record.box
        if record.state is State.LOST:
            self.lost += 1
            if self.good_area == 0.0:
                self.good_area = self.full_area = _area(logits, view, step.frame.size)
            return
        self.lost = 0
        self.good_area = record.area
        prompted = record.state is State.PROMPTED
        low, high = self.full_area / _SHRINKS, self.full_area * _GROWS
        self.full_area = record.area if prompted else float(np.clip(record.area, low, high))
        seen = record.state is not State.RECOVERED
        if seen and not record.reasons:
            self.full_box = record.box
            self.appearance.learn(look_of(step.frame, view, self.logits, self.light.gain), record.index, prompted)
        if seen and doubt.harmless(record.reasons):
            if isinstance(embedding, _Batch):
                self.references.offer(_Later(embedding, index, self.logits, prompted), record.index)
            else:
                self.references.offer(Reference(embedding, index, self.logits, prompted), record.index)


_MOVES = 0.004  # of the box's longer side a frame: slower is standing still
_FLOW_NOISE = 1.0  # view pixels a frame
_SHRINKS, _GROWS = 1.02, 1.08  # by which the whole subject's area may change a frame beyond what its motion says
_RIVAL = 0.4  # of the subject's area: a look-alike of less is none
_LOOK_ALIKE = 0.85  # likeness from which on something else is one
_AS_DENSE = 0.7  # of the share of its box that the subject fills: strewn patches of its colours are no look-alike
_WHOLE = 0.8  # share of the whole subject's area from which on all of it is taken to be seen
_PARTED = 60  # frames after which a look-alike that has not been seen apart is forgotten


@dataclass(slots=True)
class _Contact:
    """A subject and a look-alike that touch.

    centre, speed  of the subject when it began, in frame pixels
    other          where the look-alike was when they last touched
    apart          what is likely the look-alike has been seen apart since: no more cause to look
    """

    centre: tuple[float, float]
    speed: tuple[float, float]
    other: Box
    apart: bool = False
    frames: int = 0

    @property
    def expected(self) -> tuple[float, float]:
        """Where the subject should be by now."""
        return self.centre[0] + self.frames * self.speed[0], self.centre[1] + self.frames * self.speed[1]


@dataclass(frozen=True, slots=True)
class _Guess:
    """Where the subject should be, in frame pixels.

    box       tight; what a lost frame's record says
    search    grown; what the segmenter is asked with
    expected  by the box filter alone
    leaves    it stands at the frame's border and moves outwards, or nothing of the moved mask is in the picture
    reach     the box that is slow to shrink, moved here; None right after the prompt
    """

    box: Box
    search: Box
    expected: Box
    leaves: bool
    reach: Box | None


@dataclass(frozen=True, slots=True)
class _Batch:
    """Frames that were embedded together."""

    view: View
    frames: list[Frame] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Later:
    """A reference that is embedded only if it is still one when the model is asked again."""

    batch: _Batch
    index: int
    logits: np.ndarray = field(repr=False)
    prompted: bool

    def embedded(self, model: Model) -> Reference:
        with torch.inference_mode():
            embedding = model.embed([self.batch.view.cut(frame.rgb8) for frame in self.batch.frames])
        return Reference(embedding, self.index, self.logits, self.prompted)


class _References:
    """The prompted frames, which never fade, and the latest confident ones, some frames apart.

    `others` are prompted frames beside the one that is followed from, nearest first. One place of three and more is
    left to the latest frames.
    """

    def __init__(self, most: int, others: Sequence[Reference] = ()) -> None:
        self._anchors: list[Reference | _Later] = []
        self._others = tuple(others)[: anchors_beside(most)]
        self._recent: deque[Reference | _Later] = deque(maxlen=max(most - 1 - len(self._others), 0))
        self._most = most
        self._last = 0

    def remember(self, model: Model) -> None:
        """Embed what was found before."""
        for kept in (self._anchors, self._recent):
            for place, reference in enumerate(kept):
                if isinstance(reference, _Later):
                    kept[place] = reference.embedded(model)

    def copy(self) -> _References:
        """As they are now: what is offered later is not in it."""
        same = copy(self)
        same._recent = copy(self._recent)
        return same

    def offer(self, reference: Reference | _Later, frame_index: int) -> None:
        if self._most == 0:
            return
        if reference.prompted:
            self._anchors = [reference]
            self._last = frame_index
        elif abs(frame_index - self._last) >= _REFERENCE_STEP:
            self._recent.append(reference)
            self._last = frame_index

    def all(self, more: Sequence[Reference] = ()) -> tuple[Reference, ...]:
        """Those that are kept; in places that are free, the first of `more`."""
        kept = (*self._anchors, *self._others, *reversed(self._recent))
        return (*(r for r in kept if isinstance(r, Reference)), *more)[: self._most]


def anchors_beside(references: int) -> int:
    """How many prompted frames are kept beside the one that is followed from, for a model of so many references."""
    return max(references - 2, min(references - 1, 1), 0)


_REFERENCE_STEP = 5  # frames between two references: neighbours tell nothing new


class _BoxFilter:
    """Constant-velocity Kalman filter of a box: centre, and the logarithms of width and height, each by itself.

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
        """One frame on."""
        step = np.array([[1.0, 1.0], [0.0, 1.0]])
        self._mean = self._mean @ step.T
        self._cov = step @ self._cov @ step.T + self._pushed * np.array([[0.25, 0.5], [0.5, 1.0]])
        return self._box()

    @property
    def speed(self) -> tuple[float, float]:
        """(x, y) of the centre, frame pixels a frame."""
        return float(self._mean[0, 1]), float(self._mean[1, 1])

    def update(self, box: Box) -> None:
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


# Masks and boxes


def held_view(view: View | None, box: Box, frame_size: tuple[int, int], size: int, settings: ViewSettings) -> View:
    """The view for a subject in `box`: the one that is held where it still fits, else a new one around the box."""
    inside = box.clipped(frame_size)
    if settings.roi == "frame" or (inside is None and view is None):
        return View.whole(frame_size, size)
    if view is not None and (inside is None or _fits(view, inside, frame_size, settings)):
        return view
    assert inside is not None
    return View.around(inside, frame_size, size, settings.grow)


def mask_logits(mask: np.ndarray, view: View, m: int) -> np.ndarray:
    """A mask of the whole frame, (H, W) float32 in [0, 1], as logits over a view's square: (m, m) float16.

    Each cell is asked for the share of it that the mask covers.
    """
    h, w = view.content
    part = np.ascontiguousarray(mask[view.y0 : view.y0 + view.height, view.x0 : view.x0 + view.width])
    square = np.zeros((view.size, view.size), np.float32)
    way = cv2.INTER_AREA if h <= view.height else cv2.INTER_LINEAR
    square[:h, :w] = cv2.resize(part, (w, h), interpolation=way)
    share = cv2.resize(square, (m, m), interpolation=cv2.INTER_AREA)
    least = np.float32(1 / (1 + np.exp(-_OUTSIDE)))
    share = np.clip(share, least, 1 - least)
    return np.log(share / (1 - share)).astype(np.float16)


def carried_logits(logits: np.ndarray, old: View, new: View, motion: Motion, m: int) -> np.ndarray:
    """A mask of the frame before, (n, n) over the square of view `old`, moved into the square of `new`: (m, m) float32.

    One resampling through view, flow and view. What comes from outside the frame repeats the frame's border; what comes
    from outside the old view is surely background.
    """
    x, y = _cell_centres(new, m)
    dx, dy = motion.at(x, y)
    h, w = motion.frame_size
    x = np.clip(x + dx, 0.5, w - 0.5)
    y = np.clip(y + dy, 0.5, h - 0.5)
    carried = _read(logits, old, x, y)
    rows, columns = new.content
    cell = new.size / m
    carried[int(np.ceil(rows / cell)) :] = _OUTSIDE
    carried[:, int(np.ceil(columns / cell)) :] = _OUTSIDE
    return carried


def agreement(a: np.ndarray, view_a: View, b: np.ndarray, view_b: View) -> float:
    """IoU of two masks of one frame, (m, m) logits over the squares of their views; 1 where both are empty."""
    x0, y0 = min(view_a.x0, view_b.x0), min(view_a.y0, view_b.y0)
    x1 = max(view_a.x0 + view_a.width, view_b.x0 + view_b.width)
    y1 = max(view_a.y0 + view_a.height, view_b.y0 + view_b.height)
    n = 2 * max(a.shape[0], b.shape[0])
    x, y = np.meshgrid(x0 + (np.arange(n) + 0.5) * ((x1 - x0) / n), y0 + (np.arange(n) + 0.5) * ((y1 - y0) / n))
    x, y = x.astype(np.float32), y.astype(np.float32)
    one, other = _read(a.astype(np.float32), view_a, x, y) > 0, _read(b.astype(np.float32), view_b, x, y) > 0
    return _iou(one, other) if one.any() or other.any() else 1.0


def _cell_centres(view: View, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the (m, m) cells of a view's square in frame pixels, x and y, each (m, m) float32."""
    sx, sy = view.scale
    centre = (np.arange(m, dtype=np.float64) + 0.5) * (view.size / m)
    x, y = np.meshgrid(view.x0 + centre / sx, view.y0 + centre / sy)
    return x.astype(np.float32), y.astype(np.float32)


def _read(logits: np.ndarray, view: View, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logits (n, n) of a view's square at frame positions; background outside the view."""
    n = logits.shape[0]
    sx, sy = view.scale
    map_x = ((x - view.x0) * (sx * n / view.size) - 0.5).astype(np.float32)
    map_y = ((y - view.y0) * (sy * n / view.size) - 0.5).astype(np.float32)
    found = cv2.remap(logits, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    outside = (x < view.x0) | (x > view.x0 + view.width) | (y < view.y0) | (y > view.y0 + view.height)
    found[outside] = _OUTSIDE
    return np.asarray(found)


def _over_frame(logits: np.ndarray, view: View, motion: Motion) -> np.ndarray:
    """A view's logits over the whole frame at the size of the motion pictures."""
    h, w = motion.size
    sx, sy = motion.scale
    x, y = np.meshgrid((np.arange(w, dtype=np.float32) + 0.5) * sx, (np.arange(h, dtype=np.float32) + 0.5) * sy)
    return _read(logits, view, x.astype(np.float32), y.astype(np.float32))


def _without_specks(mask: np.ndarray, speck: float) -> np.ndarray:
    """(h, w) bool without the connected parts that are smaller than `speck` times the largest."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    keep = areas >= speck * areas.max()
    keep[0] = False
    return np.asarray(keep[labels])


def _supported(logits: np.ndarray, moved: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Logits without the parts that touch neither the moved mask nor the box (view pixels)."""
    m = logits.shape[0]
    count, labels = cv2.connectedComponents((logits > 0).astype(np.uint8), connectivity=8)
    if count <= 1:
        return logits
    reach = max(m // 64, 1)
    near = cv2.dilate((moved > 0).astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    keep = np.zeros(count, bool)
    keep[np.unique(labels[near])] = True
    x0, y0, x1, y1 = (max(round(v * m / size), 0) for v in box.xyxy)
    keep[np.unique(labels[y0:y1, x0:x1])] = True
    keep[0] = True
    return np.where(keep[labels], logits, np.minimum(logits, np.float32(_OUTSIDE)))


def _tight_box(mask: np.ndarray, unit_x: float, unit_y: float) -> Box | None:
    """Half-open box of a mask's pixels, scaled by units; None where it is empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if len(columns) == 0:
        return None
    return Box(
        float(columns[0] * unit_x), float(rows[0] * unit_y),
        float((columns[-1] + 1) * unit_x), float((rows[-1] + 1) * unit_y),
    )  # fmt: skip


def _nothing(m: int) -> np.ndarray:
    """Logits of an empty mask, (m, m) float16."""
    return np.full((m, m), _OUTSIDE, np.float16)


def _scale(motion: Motion, mask: np.ndarray) -> float:
    """By how much what lies in `mask`, (h, w) bool of the source's motion picture, grows to the target: a line fitted
    to the motion over the place, where both flows agree; 1 where too little can be trusted."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    y, x = np.nonzero(inner & motion.trusted(back=True))
    if len(x) < 50 or 2 * len(x) < np.count_nonzero(inner):
        return 1.0
    flow = motion.forward[y, x].astype(np.float64)
    place = np.stack([x, y], axis=1) - np.array([x.mean(), y.mean()])
    apart = flow - flow.mean(0)
    return float(np.clip(1 + (place * apart).sum() / max(np.square(place).sum(), 1.0), 1 / _ZOOM, _ZOOM))


_ZOOM = 1.15  # at most, a frame


def _filled(box: Box, view: View, m: int) -> np.ndarray:
    """Logits of a mask that is the box."""
    x, y = _cell_centres(view, m)
    inside = (x >= box.x0) & (x <= box.x1) & (y >= box.y0) & (y <= box.y1)
    return np.where(inside, np.float32(1), np.float32(_OUTSIDE))


def _area(logits: np.ndarray, view: View, frame_size: tuple[int, int]) -> float:
    """Share of the frame that a mask covers."""
    cell = view.size / logits.shape[0]
    sx, sy = view.scale
    inside = np.count_nonzero(logits > 0)
    return min(inside * cell * cell / (sx * sy * frame_size[0] * frame_size[1]), 1.0)


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    union = float((a | b).sum())
    return float((a & b).sum()) / union if union else 0.0


def _fits(view: View, box: Box, frame_size: tuple[int, int], settings: ViewSettings) -> bool:
    """Whether a box may stay in a view: clear of its edges (the frame's own edges are free) and not too small in it."""
    h, w = frame_size
    side = max(view.width, view.height)
    room = settings.room * side
    clear = (
        (view.x0 == 0 or box.x0 - view.x0 >= room)
        and (view.y0 == 0 or box.y0 - view.y0 >= room)
        and (view.x0 + view.width == w or view.x0 + view.width - box.x1 >= room)
        and (view.y0 + view.height == h or view.y0 + view.height - box.y1 >= room)
    )
    return clear and max(box.width, box.height) >= settings.fill * side


def _keep_in_touch(box: Box, frame_size: tuple[int, int]) -> Box:
    """The box, pushed back where it has left the frame so that a pixel of it stays inside."""
    h, w = frame_size
    dx = max(1 - box.x1, 0.0) - max(box.x0 - (w - 1), 0.0)
    dy = max(1 - box.y1, 0.0) - max(box.y0 - (h - 1), 0.0)
    return box.moved(dx, dy)


def _leaves(box: Box, speed: tuple[float, float], frame_size: tuple[int, int]) -> bool:
    """Whether a box at the frame's border moves outwards there, by more than noise (a share of its size)."""
    h, w = frame_size
    vx, vy = speed[0] / box.width, speed[1] / box.height
    bar = 0.02
    return (
        (box.x0 <= 1 and vx < -bar)
        or (box.y0 <= 1 and vy < -bar)
        or (box.x1 >= w - 1 and vx > bar)
        or (box.y1 >= h - 1 and vy > bar)
    )


def _median_box(boxes: list[Box]) -> Box:
    """Side-wise median: one opinion that is far off has no say."""
    x0, y0, x1, y1 = np.median([b.xyxy for b in boxes], axis=0)
    return Box(float(x0), float(y0), float(max(x1, x0 + 1)), float(max(y1, y0 + 1)))


def _stride(before: Box, now: Box) -> tuple[float, float]:
    """How far a subject has moved, of which one side may have stood still at the edge of what hides it.

    Along each axis: what both sides moved together, else what the quicker one did.
    """

    def along(low: float, high: float) -> float:
        return low + high if low * high < 0 else max(low, high, key=abs)

    return along(now.x0 - before.x0, now.x1 - before.x1), along(now.y0 - before.y0, now.y1 - before.y1)


def _shrunk(reach: Box, box: Box, share: float) -> Box:
    """`reach` on its way to `box`: a side moves out at once, and in by at most `share` of the reach's own size.

    What hides a part of the subject for a few frames shows it again on the other side: that has to be in the box.
    """
    dx, dy = share * reach.width, share * reach.height
    return Box(
        min(box.x0, reach.x0 + dx), min(box.y0, reach.y0 + dy), max(box.x1, reach.x1 - dx), max(box.y1, reach.y1 - dy)
    )


def _union(a: Box, b: Box) -> Box:
    return Box(min(a.x0, b.x0), min(a.y0, b.y0), max(a.x1, b.x1), max(a.y1, b.y1))


def _gap(a: Box, b: Box) -> float:
    """How far apart two boxes are along the axis on which they are farther, in sizes of `b`; below 0 they overlap."""
    x = max(a.x0 - b.x1, b.x0 - a.x1) / b.width
    y = max(a.y0 - b.y1, b.y0 - a.y1) / b.height
    return max(x, y)


def _first_point(prompt: Prompt) -> tuple[float, float]:
    point = next(p for p in prompt.points if p.subject)
    return point.x, point.y
