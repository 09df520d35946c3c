"""Where the subject is in the next frame, and how sure we are.

For every frame, in order:

1. Move. The optical flow carries the previous mask over; its box is the side-wise median of three opinions: the moved
   mask's own box, the last box moved by the median motion inside the mask, and a constant-velocity filter.
2. Ask. The box, grown by a margin (more where the parts of the subject move differently), the moved mask and the
   reference frames go to the segmenter, which looks at a `Crop` around the box.
3. Choose. Among several masks by score, overlap with the moved mask and agreement with the box filter together, not
   by score alone (the idea of SAMURAI, arXiv 2411.11922; it needs no training). Parts that neither touch the moved mask
   nor lie in the box are taken off.
4. Doubt. The frame gets its state (`confidence.py`), and only a frame without doubt is remembered as a reference.

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

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import chain

import cv2
import numpy as np
import torch

from mam_video.core.crop import Crop
from mam_video.core.errors import UsageError
from mam_video.core.frames import Frame, Record, State
from mam_video.core.geometry import Box, gap_between, union_of
from mam_video.core.settings import TrackSettings, ViewSettings
from mam_video.models.base import Candidates, Embedding, Model, Reference, ViewPrompt, wants_motion, wants_references
from mam_video.motion.flow import Motion
from mam_video.prompts.prompt import Prompt
from mam_video.runtime.streams import closing_iter
from mam_video.tracking import confidence
from mam_video.tracking.appearance import Appearance, CandidateRegion, Light, histogram_of
from mam_video.tracking.box_filter import BoxFilter
from mam_video.tracking.distractors import DistractorContact
from mam_video.tracking.mask_ops import (
    BACKGROUND_LOGIT,
    carried_logits,
    cell_centres_of,
    drop_specks,
    empty_logits,
    filled_share,
    first_point_of,
    grid_scale,
    keep_supported,
    mask_area,
    mask_bounds,
    mask_iou,
    mask_logits,
    to_frame_pixels,
)
from mam_video.tracking.references import ReferenceMemory
from mam_video.tracking.search_region import (
    displacement,
    held_view,
    is_exiting,
    keep_connected,
    limit_shrink,
    median_box_of,
)
from mam_video.tracking.types import LaterAnswer, MaskObservation, Prediction, TrackBatch, TrackedFrame, TrackStep


def track(
    frames: Iterable[tuple[Frame, Motion | None]],
    model: Model,
    prompt: Prompt,
    *,
    settings: TrackSettings | None = None,
    view: ViewSettings | None = None,
    batch: int = 1,
    known: Sequence[MaskObservation] = (),
    anchors: Sequence[Reference] = (),
    before: MaskObservation | None = None,
    recent: Sequence[Reference] = (),
    begun: MaskObservation | None = None,
) -> Generator[TrackedFrame, None, None]:
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

    Yields one `TrackedFrame` a frame, in order. At most one group of frames is held (and one frame more).
    Raises: UsageError, the prompt lies outside the frame, or what is known is of another clip.
    """
    follower = SubjectTracker(model, prompt, settings or TrackSettings(), view or ViewSettings(), anchors)
    follower.begun = begun
    follower.passed = tuple(recent)
    if before is not None:
        _, follower.mask_view, logits, _ = before
        follower.logits = logits.astype(np.float32)
    place = 0
    with closing_iter(frames) as source:
        for group in _groups(source, batch, look_ahead=wants_motion(model)):
            end = place + len(group)
            if end <= len(known):
                yield from follower.repeat(group, [known[k] for k in range(place, end)])
            else:
                yield from follower.follow(group)
            place = end


def anchor(frame: Frame, found: MaskObservation, model: Model) -> Reference:
    """A prompted frame with what was found in it, for other frames to be compared with."""
    _, view, logits, _ = found
    with torch.inference_mode():
        embedding = model.embed([view.cut(frame.rgb8)])
    return Reference(embedding, 0, logits.astype(np.float32), prompted=True)


def _groups(
    source: Iterator[tuple[Frame, Motion | None]], batch: int, look_ahead: bool
) -> Generator[list[TrackStep], None, None]:
    """Frames by absolute groups. With `look_ahead` the first frame is told the motion that follows it."""
    first = next(source, None)
    if first is None:
        return
    second = next(source, None) if look_ahead else None
    steps = [TrackStep(*first, second[1] if second is not None else None)]
    rest = source if second is None else chain([second], source)
    for frame, motion in rest:
        if frame.index // batch != steps[0].frame.index // batch:
            yield steps
            steps = []
        steps.append(TrackStep(frame, motion))
    yield steps


class SubjectTracker:
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
        self.view: Crop | None = None
        self.box = prompt.box or Box(0, 0, 1, 1)
        self.reach: Box | None = None  # the box, but slow to shrink; None until the subject has been found
        self.logits = np.zeros((0, 0), np.float32)  # of the last frame, over `mask_view`
        self.mask_view: Crop | None = None
        self.standing = np.zeros((0, 0), np.float32)  # frames that each place has stood still, over `mask_view`
        self.good_area = 0.0  # share of the frame, when last seen
        self.full_area = 0.0  # what it would be, were all of it seen
        self.full_box: Box | None = None  # when last seen without doubt
        self.light = Light()
        self.appearance = Appearance()
        self.others: list[Box] = []  # where look-alikes were last seen
        self.others_before: list[Box] = []  # the same, as of the frame before
        self.contact: DistractorContact | None = None  # a look-alike has touched it, and they have not parted since
        self.filter: BoxFilter | None = None
        self.lost = 0  # frames since it was last seen
        self.memory = confidence.WarningMemory()
        self.references = ReferenceMemory(wants_references(model), anchors)
        self.begun: MaskObservation | None = None
        self.passed: tuple[Reference, ...] = ()  # what was followed up to the prompt

    def follow(self, group: list[TrackStep]) -> Iterator[TrackedFrame]:
        """The frames of one group, which are embedded together as long as their view stays."""
        self.references.remember(self.model)
        found: list[TrackedFrame] = []
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
            found.append(TrackedFrame(step.frame, step.motion, record, view, logits, standing=self.standing))
        for embedding, start, used in runs:
            for i in range(start, start + used):
                t = found[i]
                handle = (embedding, i - start) if used == embedding.count else None
                yield TrackedFrame(t.frame, t.motion, t.record, t.view, t.logits, handle, t.standing)

    def repeat(self, group: list[TrackStep], known: list[MaskObservation]) -> Iterator[TrackedFrame]:
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
                self.filter = BoxFilter(record.box)
            else:
                if record.state not in (State.LOST, State.RECOVERED):
                    self._touched(step.frame, record.box, record.area)
                self._follow_box(record)
            if record.state is State.LOST:
                if guess is not None:
                    self._elsewhere(step.frame)
                logits = self._thought(step, guess, record.box, view)
            batch = TrackBatch(view, [s.frame for s in group[start:]])
            if standing is not None:
                self.standing = standing
            self._remember(step, record, logits, view, batch, place - start, guess)
            yield TrackedFrame(step.frame, step.motion, record, view, known[place][2])

    # Move

    def _guess(self, step: TrackStep) -> Prediction | None:
        """Where the subject should be now; None on the first frame."""
        motion = step.motion
        self.light.see(step.frame, motion)
        self.others_before = self.others
        if self.mask_view is None or self.filter is None or motion is None:  # there is no filter before the prompt
            return None
        before = to_frame_pixels(self.logits, self.mask_view, motion)
        shift = motion.shift(before > 0)
        moved_box = keep_connected(self.box.moved(shift.dx, shift.dy), step.frame.size)
        expected = self.filter.predict()
        sx, sy = motion.scale
        moved_mask = motion.carry((before > 0).astype(np.float32)) > 0.5
        if not self.lost:
            self.full_area *= grid_scale(motion, before > 0) ** 2
        own = mask_bounds(drop_specks(moved_mask, self.settings.speck), sx, sy)
        leaves = own is None or is_exiting(self.box, self.filter.speed, step.frame.size)
        box = median_box_of([moved_box, expected, own]) if own is not None and not self.lost else moved_box
        box = keep_connected(box, step.frame.size)
        margin = self.settings.margin * max(box.width, box.height) + shift.spread
        search = box.grown(margin)
        reach = self.reach.moved(shift.dx, shift.dy) if self.reach is not None else None
        if reach is not None:
            search = union_of(search, reach)
        if self.lost:
            # The flow under a standing mask follows whatever hides the subject; the filter keeps its course.
            search = union_of(search, expected).grown(margin * min(2 * self.lost, 8))
        search = search.clipped(step.frame.size) or search
        return Prediction(box, search, expected, leaves, reach)

    def _view_for(self, guess: Prediction | None, frame_size: tuple[int, int]) -> Crop:
        """The view for a frame: the one that is held where the subject still fits it."""
        size = self.model.view_size
        if self.view_settings.roi == "frame":
            return Crop.whole(frame_size, size)
        box = guess.search if guess is not None else self.prompt.box
        if box is None:
            return self.view or Crop.whole(frame_size, size)
        return held_view(self.view, box, frame_size, size, self.view_settings)

    # Ask, choose, doubt

    def _begin(self, step: TrackStep, view: Crop, embedding: Embedding, index: int) -> tuple[Record, np.ndarray]:
        """The prompted frame."""
        frame = step.frame
        self.prompt.check_inside(frame.size)
        if self.begun is not None:
            record, _, logits, _ = self.begun
            self.filter = BoxFilter(record.box)
            held = self._thought(step, None, record.box, view) if record.state is State.LOST else logits
            self._remember(step, record, held, view, embedding, index, None)
            return record, logits
        if self.prompt.mask is not None and self.prompt.box is not None:
            logits = mask_logits(self.prompt.mask, view, self.model.mask_size)
            self.filter = BoxFilter(self.prompt.box)
            area = mask_area(logits, view, frame.size)
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
            box = asked or keep_connected(Box(0, 0, 1, 1).moved(*first_point_of(self.prompt)), frame.size)
            logits = empty_logits(self.model.mask_size)
        self.filter = BoxFilter(box)
        area = mask_area(logits, view, frame.size)
        record = Record(frame.index, frame.pts, state, box, score, area, reasons)
        held = self._thought(step, None, box, view) if state is State.LOST else logits
        self._remember(step, record, held, view, embedding, index, None)
        return record, logits

    def _prompt(self, step: TrackStep, guess: Prediction, view: Crop) -> tuple[np.ndarray, ViewPrompt]:
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
        self, step: TrackStep, guess: Prediction, view: Crop, embedding: Embedding, index: int
    ) -> tuple[Record, np.ndarray, Crop]:
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
            logits = keep_supported(logits, moved, view.to_view(guess.search), view.size)
            box = self._box_of(logits, view)
            overlap = mask_iou(logits > 0, moved > 0)
            cleaned.append(logits)
            boxes.append(box)
            value = 0.4 * float(score) + 0.4 * overlap + (0.2 * box.iou(guess.expected) if box else 0.0)
            if value > best_value:
                best, best_value, best_overlap = k, value, overlap

        score = float(offered.scores[best])
        chosen, box = cleaned[best].astype(np.float16), boxes[best]
        left_behind = self._left_behind(chosen, motion, guess, view)
        if left_behind.any():
            chosen[left_behind] = BACKGROUND_LOGIT
            box = self._box_of(chosen.astype(np.float32), view)
        missing = self._missing(frame, chosen, box, view, score, best_overlap, guess)
        area = mask_area(chosen, view, frame.size)
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
            return record, empty_logits(m), view
        evidence = self._evidence(frame, chosen, view, score, best_overlap)
        doubts = confidence.warnings(evidence, self.settings, sought=self.lost > 0)
        if self._touched(frame, box, area):
            doubts.append(confidence.TOUCHED)
        if left_behind.any():
            doubts.append(confidence.TAKEN_OFF)
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
        view: Crop,
        score: float,
        overlap: float,
        guess: Prediction | None,
    ) -> list[str]:
        """Why a mask is not the subject's; empty where it may be. Without a guess it was found elsewhere."""
        if box is None or not (logits > 0).any():
            return ["it has left the picture" if guess is not None and guess.leaves else "nothing was found"]
        evidence = self._evidence(frame, logits, view, score, overlap)
        reason = confidence.rejection(evidence, self.settings, sought=self.lost > 0 or guess is None)
        return [reason] if reason is not None else []

    def _evidence(
        self, frame: Frame, logits: np.ndarray, view: Crop, score: float, overlap: float
    ) -> confidence.MaskEvidence:
        area = mask_area(logits, view, frame.size)
        jump, share = area / max(self.good_area, 1e-9), area / max(self.full_area, 1e-9)
        return confidence.MaskEvidence(score, overlap, jump, share, self._alike(frame, logits, view), self.light.step)

    def _again(self) -> str:
        if not self.lost:
            return "found again by its colours"
        return f"found again after {self.lost} lost frame{'s' if self.lost > 1 else ''}"

    def _alike(self, frame: Frame, logits: np.ndarray, view: Crop) -> float:
        return max(self.appearance.alike(histogram_of(frame, view, logits, gain)) for gain in self.light.gains)

    def _touched(self, frame: Frame, box: Box, area: float) -> bool:
        """Whether something else that looks like the subject touches it, or has, and they have not parted since.

        They part where both are seen apart again and the subject is nearer than the other to where it was heading.
        """
        own = box.grown(0.02 * max(box.width, box.height))
        seen = self.appearance.places(frame, self.light.gain, box, apart_from=own, most=2)
        alike = [p for p in seen if p.area > _RIVAL * area and p.alike > self.settings.review_similarity]
        # What comes out beyond a pole is no look-alike: new ones are made out only where the whole subject is seen. Of
        # the known ones windows as small as what is left of the subject show but parts: they do not shrink meanwhile.
        whole = area >= _WHOLE * self.full_area
        known = [
            reduce(union_of, parts, other)
            for other in self.others
            if (parts := [p.box for p in alike if gap_between(p.box, other) < 0.1])
        ]
        self.others = [p.box for p in alike if gap_between(own, p.box) >= 0.1] if whole else known
        pixels = frame.size[0] * frame.size[1]
        dense = _AS_DENSE * area * pixels / (box.width * box.height)
        rivals = [
            p.box for p in alike if p.alike > _LOOK_ALIKE and p.area * pixels > dense * p.box.width * p.box.height
        ]
        contact = self.contact
        touching = next((rival for rival in rivals if gap_between(own, rival) < 0.1), None)
        if touching is not None:
            speed = self.filter.speed if self.filter is not None else (0, 0)
            self.contact = contact or DistractorContact(box.centre, speed, touching)
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
        contact.apart |= nearer(
            [p.box for p in alike if gap_between(p.box, contact.other) < 0.1 <= gap_between(own, p.box)]
        )
        return self.contact is not None

    def _elsewhere(self, frame: Frame) -> list[CandidateRegion]:
        """Where else in the frame a lost subject may be. Known look-alikes are followed, and not taken for it."""
        if not self.settings.search or self.full_box is None:
            return []
        bars = self.settings
        seen = [p for gain in self.light.gains for p in self.appearance.places(frame, gain, self.full_box)]
        others: list[CandidateRegion] = []
        free: list[CandidateRegion] = []
        for place in seen:
            if place.alike < bars.min_similarity or place.area < bars.min_area * self.full_area:
                continue
            (others if any(gap_between(place.box, other) < 0.1 for other in self.others) else free).append(place)
        still = [o for o in self.others if not any(gap_between(p.box, o) < 0.1 for p in others)]
        self.others = [p.box for p in others] + still
        return free

    def _search(self, frame: Frame) -> tuple[Record, np.ndarray, Crop, Embedding] | None:
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
            logits = keep_supported(offered.logits[best], filled_share(asked, view, m), view.to_view(asked), view.size)
            score, box = float(offered.scores[best]), self._box_of(logits, view)
            if box is None or self._missing(frame, logits, box, view, score, 1.0, None):
                continue
            logits = logits.astype(np.float16)
            area = mask_area(logits, view, frame.size)
            record = Record(frame.index, frame.pts, State.RECOVERED, box, score, area, (self._again(),))
            return record, logits, view, embedding
        return None

    def _thought(self, step: TrackStep, guess: Prediction | None, box: Box, view: Crop) -> np.ndarray:
        """Where a lost subject is thought to be, (m, m) float16 logits: the last mask, moved by the motion.

        Nothing, once it has left the picture: no mask may stay behind at the border.
        """
        m = self.model.mask_size
        if guess is None or self.mask_view is None or step.motion is None:
            return filled_share(box, view, m).astype(np.float16)
        if guess.leaves:
            return empty_logits(m)
        return carried_logits(self.logits, self.mask_view, view, step.motion, m).astype(np.float16)

    def _follow_box(self, record: Record) -> None:
        if record.state is State.RECOVERED:
            self.others = [other for other in self.others_before if gap_between(other, record.box) >= 0]
            self.contact = None
        if (
            record.state is State.RECOVERED and gap_between(record.box, self.box) > 0
        ):  # it has not come here by its own speed
            self.filter = BoxFilter(record.box)
        elif record.state is not State.LOST and self.filter is not None:
            self.filter.update(record.box)

    def _left_behind(self, logits: np.ndarray, motion: Motion, guess: Prediction, view: Crop) -> np.ndarray:
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

    def _apart(self, motion: Motion | None, box: Box | None, view: Crop, ahead: bool) -> np.ndarray | None:
        """The motion apart from the camera over the view's square, for models that want it; view pixels a frame."""
        if motion is None or not wants_motion(self.model):
            return None
        return self._apart_over(motion, box, view, ahead)

    def _apart_over(self, motion: Motion, box: Box | None, view: Crop, ahead: bool = False) -> np.ndarray:
        """(m, m, 2) float32: the motion apart from the camera over the view's square, view pixels a frame."""
        apart = motion.apart(box, back=ahead)
        x, y = cell_centres_of(view, self.model.mask_size)
        sx, sy = motion.scale
        found = cv2.remap(apart, x / sx - 0.5, y / sy - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(found * np.array([sx * view.scale[0], sy * view.scale[1]], np.float32), np.float32)

    def _box_of(self, logits: np.ndarray, view: Crop) -> Box | None:
        """Tight box of a mask in frame pixels, ignoring specks; None where the mask is empty."""
        h, w = view.content
        kept = drop_specks(logits > 0, self.settings.speck)
        clean = np.where(kept | (logits <= 0), logits, np.float32(BACKGROUND_LOGIT)).astype(np.float32)
        fine = cv2.resize(clean, (view.size, view.size), interpolation=cv2.INTER_LINEAR)[:h, :w] > 0
        sx, sy = view.scale
        box = mask_bounds(fine, 1 / sx, 1 / sy)
        return box.moved(view.x0, view.y0) if box is not None else None

    def _remember(
        self,
        step: TrackStep,
        record: Record,
        logits: np.ndarray,
        view: Crop,
        embedding: Embedding | TrackBatch,
        index: int,
        guess: Prediction | None,
    ) -> None:
        """What the next frames go by. `logits`: of a lost frame, where the subject is thought to be."""
        self.memory.keep(record.reasons)
        reach = guess.reach if guess is not None else None
        if record.state is State.RECOVERED or reach is None or self.reach is None:
            self.reach = record.box
        else:
            if record.state is not State.LOST:
                reach = self.reach.moved(*displacement(self.box, record.box))
            self.reach = limit_shrink(reach, record.box, self.settings.shrink)
        self.logits, self.mask_view, self.box = logits.astype(np.float32), view, record.box
        if record.state is State.LOST:
            self.lost += 1
            if self.good_area == 0.0:
                self.good_area = self.full_area = mask_area(logits, view, step.frame.size)
            return
        self.lost = 0
        self.good_area = record.area
        prompted = record.state is State.PROMPTED
        low, high = self.full_area / _SHRINKS, self.full_area * _GROWS
        self.full_area = record.area if prompted else float(np.clip(record.area, low, high))
        seen = record.state is not State.RECOVERED
        if seen and not record.reasons:
            self.full_box = record.box
            self.appearance.learn(histogram_of(step.frame, view, self.logits, self.light.gain), record.index, prompted)
        if seen and confidence.safe_to_learn(record.reasons):
            if isinstance(embedding, TrackBatch):
                self.references.offer(LaterAnswer(embedding, index, self.logits, prompted), record.index)
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
