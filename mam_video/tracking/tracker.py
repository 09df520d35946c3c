"""Track one subject: where it is in each frame, and how reliable its mask is.

For every frame, in order (`SubjectTracker`):

1. Predict. The optical flow warps the previous mask; the box is predicted from it, the last box and the box filter
   (`position.py`).
2. Query. The grown box, the warped mask and the reference frames go to the segmenter, which sees a `Crop` around the
   box (`query.py`, `search_region.py`).
3. Select. One of the offered masks is taken, by score, overlap and agreement with the box filter (`selection.py`), and
   components that stand still are removed from it (`static_parts.py`).
4. Assess. Measurements of the mask become findings, and these decide the frame's state (`confidence.py`).
5. Update. All models of the subject take over the frame; a confident frame becomes a reference (`references.py`).

States:

PROMPTED   the user pointed at the subject in this frame.
TRACKED    found; score, overlap and area are above the bounds of `TrackSettings`. It may have findings that need no
           review.
UNCERTAIN  found, but a finding needs review. Such a frame becomes a reference only if every finding is harmless
           (`safe_to_learn`).
LOST       nothing was found, or the mask was rejected: it is empty. The box is where the subject is assumed to be.
RECOVERED  the first frame in which it is found again, after lost ones or elsewhere at once.

A lost subject is searched in every frame: around its last place, moved by the motion; around where the box filter
expects it, wider from frame to frame; and in the whole frame, where its colours are (`reacquisition.py`). What is found
must look like the subject (`appearance.py`) and not be larger than it was.

Areas are compared with the previous frame and with the area of the whole subject, which grows with the motion's own
scale: a subject that comes nearer grows as its motion says, one that goes behind a pole does not shrink.

Batches fall on absolute frame numbers: group k holds frames k*batch to (k+1)*batch-1 and is embedded at once in the
crop that is held (`embeddings.py`).

Frames may come in reverse order, with the motion that leads backwards; the same rules hold. `bidirectional.py` makes
one track of several prompts.

A track can be continued where it broke off: the state follows from what was found and from the motion. Known frames are
replayed without the model, and then every bit is as if tracking had never stopped.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.errors import UsageError
from mam_video.core.frames import Frame, Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import TrackSettings, ViewSettings
from mam_video.models.base import Candidates, Embedding, Model, Reference, wants_motion, wants_references
from mam_video.models.resident import embed_views
from mam_video.motion.flow import Motion
from mam_video.prompts.prompt import Prompt
from mam_video.runtime.streams import closing_iter
from mam_video.tracking.confidence import before_check, outline_findings, safe_to_learn
from mam_video.tracking.embeddings import DeferredEmbedding, FrameEmbedding, GroupEmbeddings
from mam_video.tracking.mask_ops import (
    BACKGROUND_LOGIT,
    box_of_logits,
    empty_logits,
    first_point_of,
    mask_area,
    mask_logits,
    mask_stability,
)
from mam_video.tracking.position import PositionModel
from mam_video.tracking.query import Query, build_query, first_prompts, segment
from mam_video.tracking.reacquisition import segment_regions
from mam_video.tracking.references import ReferenceMemory
from mam_video.tracking.search_region import held_crop, keep_connected
from mam_video.tracking.selection import select, select_prompted
from mam_video.tracking.static_parts import StaticParts
from mam_video.tracking.subject_model import SubjectModel
from mam_video.tracking.types import MaskObservation, Prediction, TrackedFrame, TrackStart, TrackStep


def track(
    frames: Iterable[tuple[Frame, Motion | None]],
    model: Model,
    prompt: Prompt,
    *,
    settings: TrackSettings | None = None,
    view: ViewSettings | None = None,
    batch: int = 1,
    known: Sequence[MaskObservation] = (),
    start: TrackStart | None = None,
) -> Generator[TrackedFrame, None, None]:
    """Track the subject that `prompt` points at in the first of `frames`.

    Args:
        frames: each frame with the motion that leads to it, as `motion.with_motion` gives them; their indices go up by
            one, or down.
        model: any of the model contract; `torch.inference_mode()` is entered for its calls.
        batch: frames embedded at once; the groups fall on absolute frame numbers.
        known: what this same call found in its first frames, when it was broken off. Whole groups of
            them are replayed without the model.
        start: what else is known of the subject.

    Yields one `TrackedFrame` a frame, in order. At most one group of frames is held (and one frame more).
    Raises: UsageError, the prompt lies outside the frame, or `known` is of another clip.
    """
    tracker = SubjectTracker(model, prompt, settings or TrackSettings(), view or ViewSettings(), start)
    with closing_iter(frames) as source:
        place = 0
        for group in frame_groups(source, batch, look_ahead=wants_motion(model)):
            end = place + len(group)
            if end <= len(known):
                yield from _replay_group(tracker, group, [known[k] for k in range(place, end)])
            else:
                yield from _track_group(tracker, group)
            place = end


def reference_of(frame: Frame, found: MaskObservation, model: Model, embedding: Embedding | None = None) -> Reference:
    """Make a prompted frame with its mask a reference for other frames. `embedding`: its own, if there is one."""
    embedding = embedding or embed_views(model, [frame], found.crop)
    return Reference(embedding, 0, found.logits.astype(np.float32), prompted=True)


def frame_groups(
    source: Iterator[tuple[Frame, Motion | None]], batch: int, look_ahead: bool
) -> Generator[list[TrackStep], None, None]:
    """Group frames by their absolute numbers. With `look_ahead` the first frame knows the motion that follows it."""
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


def _track_group(tracker: SubjectTracker, group: list[TrackStep]) -> Iterator[TrackedFrame]:
    """Track the frames of one group, which are embedded together as long as their crop stays."""

    def embed_rest(crop: Crop, place: int) -> Embedding:
        rest = [step.frame for step in group[place:]]
        known = tracker.start.embedded.get((rest[0].index, crop)) if len(rest) == 1 else None
        return known or embed_views(tracker.model, rest, crop)

    tracker.references.embed_deferred(tracker.model)
    embeddings = GroupEmbeddings(embed_rest)
    found: list[MaskObservation] = []
    for place, step in enumerate(group):
        prediction = tracker.predict(step)
        source = embeddings.at(place, tracker.hold_crop(prediction, step.frame.size))
        if prediction is None:
            observation = tracker.initialise(step, source)
        else:
            observation = tracker.observe(step, prediction, source)
            tracker.held_crop = observation.crop
            embeddings.move(place, observation.crop)  # found elsewhere: the rest of the group is embedded there
        found.append(observation)
    for place, (step, observation) in enumerate(zip(group, found, strict=True)):
        yield TrackedFrame(step.frame, step.motion, observation, embeddings.whole_batch(place))


def _replay_group(
    tracker: SubjectTracker, group: list[TrackStep], known: list[MaskObservation]
) -> Iterator[TrackedFrame]:
    """Take over the known frames of one group, without the model."""
    start = 0
    for place, (step, checked) in enumerate(zip(group, known, strict=True)):
        found = checked.with_record(before_check(checked.record))
        prediction = tracker.predict(step)
        previous, crop = tracker.held_crop, tracker.hold_crop(prediction, step.frame.size)
        elsewhere = found.crop != crop
        same_frame = (step.frame.index, step.frame.pts) == (found.record.index, found.record.pts)
        if not same_frame or (elsewhere and found.record.state is not State.RECOVERED):
            raise UsageError(f"what is known of frame {step.frame.index} was found in another clip")
        if place == 0 or crop != previous or elsewhere:
            start = place
        tracker.held_crop = found.crop
        batch = [s.frame for s in group[start:]]
        tracker.replay(step, prediction, found, DeferredEmbedding(found.crop, batch, place - start))
        yield TrackedFrame(step.frame, step.motion, found)


class SubjectTracker:
    """The state of one subject in one clip, and the five steps for each frame.

    `multi_subject.py` calls the steps one by one, to divide the pixels of several subjects between query and select.
    """

    def __init__(
        self,
        model: Model,
        prompt: Prompt,
        settings: TrackSettings,
        crop_settings: ViewSettings,
        start: TrackStart | None = None,
    ) -> None:
        self.model, self.prompt, self.settings, self.crop_settings = model, prompt, settings, crop_settings
        self.start = start or TrackStart()
        self.held_crop: Crop | None = None
        self.position = PositionModel(prompt.box or Box(0, 0, 1, 1), self.start.before)
        self.subject = SubjectModel(settings)
        self.static_parts = StaticParts()
        self.references = ReferenceMemory(wants_references(model), self.start.anchors)

    # Predict

    def predict(self, step: TrackStep) -> Prediction | None:
        """Predict where the subject is now; None on the prompted frame. To be called once a frame, in order."""
        self.subject.next_frame(step)
        prediction = self.position.predict(step.motion, step.frame.size, self.settings, self.subject.lost)
        if prediction is not None:
            self.subject.areas.predict(prediction.scale)
        return prediction

    def hold_crop(self, prediction: Prediction | None, frame_size: tuple[int, int]) -> Crop:
        """Return the crop for a frame and hold it: the same one as before where the subject still fits it."""
        size = self.model.view_size
        box = prediction.query_box if prediction is not None else self.prompt.box
        if prediction is None and self.start.begun is not None:
            self.held_crop = self.start.begun.crop
        elif self.crop_settings.roi == "frame":
            self.held_crop = Crop.whole(frame_size, size)
        elif box is None:
            self.held_crop = self.held_crop or Crop.whole(frame_size, size)
        else:
            growth = self.position.growth
            self.held_crop = held_crop(self.held_crop, box, frame_size, size, self.crop_settings, growth)
        return self.held_crop

    def replay(
        self, step: TrackStep, prediction: Prediction | None, found: MaskObservation, source: DeferredEmbedding
    ) -> None:
        """Take over a known frame without the model: the state afterwards is the same."""
        record, logits = found.record, found.logits
        if prediction is not None and record.state not in (State.LOST, State.RECOVERED):
            self.subject.touches_distractor(step.frame, record.box, record.area, self.position.speed)
        if found.lost:
            if prediction is not None:
                self.subject.regions_elsewhere(step.frame)
            logits = self.position.lost_mask(step.motion, prediction, record.box, found.crop, self.model.mask_size)
        if found.static_age is not None:
            self.static_parts.age = found.static_age
        self._update(step, record, logits, source, prediction)

    # Query

    def query(self, step: TrackStep, prediction: Prediction, crop: Crop) -> Query:
        """Build the query for a frame after the prompted one."""
        return build_query(self.model, step, self.position, prediction, crop, self.references.all())

    # Select, assess, update

    def initialise(
        self, step: TrackStep, source: FrameEmbedding, answers: Sequence[Candidates] | None = None
    ) -> MaskObservation:
        """Find the subject in the prompted frame, and start from it.

        `answers` are the masks to select from; the segmenter is run where None.
        """
        frame, begun, prompt = step.frame, self.start.begun, self.prompt
        prompt.check_inside(frame.size)
        if begun is not None:
            record, logits = begun.record, begun.logits
        elif prompt.mask is not None and prompt.box is not None:
            logits = mask_logits(prompt.mask, source.crop, self.model.mask_size)
            area = mask_area(logits, source.crop, frame.size)
            record = Record(frame.index, frame.pts, State.PROMPTED, prompt.box, 1.0, area)
        else:
            answers = self.answers(step, source) if answers is None else answers
            record, logits = self._select_prompted(frame, source.crop, answers)
        held = logits
        if record.state is State.LOST:
            held = self.position.lost_mask(step.motion, None, record.box, source.crop, self.model.mask_size)
        self._update(step, record, held, source, None)
        return MaskObservation(record, source.crop, logits, self.static_parts.age)

    def observe(
        self,
        step: TrackStep,
        prediction: Prediction,
        source: FrameEmbedding,
        query: Query | None = None,
        candidates: Candidates | None = None,
        *,
        learn: bool = True,
    ) -> MaskObservation:
        """Find the subject in a frame after the prompted one. Its crop differs from `source` if it is found elsewhere.

        Args:
            query: the frame's query; built where None.
            candidates: the masks to select from; the segmenter is run where None.
            learn: whether the frame may become a reference.
        """
        frame, crop = step.frame, source.crop
        query = query or self.query(step, prediction, crop)
        candidates = candidates or segment(self.model, source, query.prompt)
        found = select(candidates, query.predicted, prediction, crop, self.settings.speck)
        assert step.motion is not None
        static = self.static_parts.update(
            found.logits, crop, self.position.crop, step.motion, prediction, self.settings
        )
        if static.any():
            found.logits[static] = BACKGROUND_LOGIT
            box = box_of_logits(found.logits.astype(np.float32), crop, self.settings.speck)
            found = replace(found, box=box)
        rejected = self.subject.rejection(frame, found, crop, prediction)
        if rejected or found.box is None:
            return self._reacquire(step, prediction, source, rejected) or self._lose(
                step, prediction, source, found.score, rejected
            )
        record = self.subject.assess(frame, found, found.box, crop, bool(static.any()), self.position.speed)
        self._update(step, record, found.logits, source, prediction, learn=learn)
        return MaskObservation(record, crop, found.logits, self.static_parts.age)

    def answers(self, step: TrackStep, source: FrameEmbedding) -> list[Candidates]:
        """Run the segmenter on the prompted frame."""
        references = self.references.all(self.start.recent)
        prompts = first_prompts(self.model, step, self.prompt, self.position, source.crop, references)
        return [segment(self.model, source, prompt) for prompt in prompts]

    def _select_prompted(self, frame: Frame, crop: Crop, answers: Sequence[Candidates]) -> tuple[Record, np.ndarray]:
        """Select the mask of the prompted frame: its record and its (m, m) float16 logits."""
        prompted = self.prompt.box.clipped(frame.size) if self.prompt.box is not None else None
        found = select_prompted(answers, prompted, crop, self.settings.speck)
        if found.box is None:
            box = prompted or keep_connected(Box(0, 0, 1, 1).moved(*first_point_of(self.prompt)), frame.size)
            nothing = (Finding(Reason.NOTHING_AT_PROMPT),)
            record = Record(frame.index, frame.pts, State.LOST, box, found.score, 0.0, nothing)
            return record, empty_logits(self.model.mask_size)
        area = mask_area(found.logits, crop, frame.size)
        findings = outline_findings(mask_stability(found.logits)) if prompted is not None else ()
        return Record(frame.index, frame.pts, State.PROMPTED, found.box, found.score, area, findings), found.logits

    def _lose(
        self,
        step: TrackStep,
        prediction: Prediction,
        source: FrameEmbedding,
        score: float,
        rejected: tuple[Finding, ...],
    ) -> MaskObservation:
        """Take over a frame in which the subject was not found."""
        frame = step.frame
        record = Record(frame.index, frame.pts, State.LOST, prediction.box, score, 0.0, rejected)
        held = self.position.lost_mask(step.motion, prediction, prediction.box, source.crop, self.model.mask_size)
        self._update(step, record, held, source, prediction)
        return MaskObservation(record, source.crop, empty_logits(self.model.mask_size), self.static_parts.age)

    def _reacquire(
        self, step: TrackStep, prediction: Prediction, source: FrameEmbedding, rejected: tuple[Finding, ...]
    ) -> MaskObservation | None:
        """Look for the subject in the whole frame; None where it is not seen."""
        frame = step.frame
        regions = self.subject.regions_elsewhere(frame)
        candidates = segment_regions(
            frame, regions, self.held_crop, self.model, self.references.all(), self.settings, self.crop_settings
        )
        for found, other in candidates:
            if found.box is None or self.subject.rejection(frame, found, other.crop, None):
                continue
            logits = found.logits.astype(np.float16)
            area = mask_area(logits, other.crop, frame.size)
            findings = (*(() if self.subject.lost else rejected), self.subject.found_again())
            record = Record(frame.index, frame.pts, State.RECOVERED, found.box, found.score, area, findings)
            self.static_parts.reset(self.model.mask_size)
            self._update(step, record, logits, other, prediction)
            return MaskObservation(record, other.crop, logits, self.static_parts.age)
        return None

    def _update(
        self,
        step: TrackStep,
        record: Record,
        logits: np.ndarray,
        source: FrameEmbedding | DeferredEmbedding,
        prediction: Prediction | None,
        *,
        learn: bool = True,
    ) -> None:
        """Update every model of the subject. `logits`: of a lost frame, where the subject is assumed to be."""
        if record.state is State.PROMPTED:  # the user says that it is the subject, however unclear its outline is
            record = replace(record, findings=())
        self.position.update(record, logits, source.crop, prediction, self.settings.shrink)
        mask = self.position.logits
        self.subject.update(step.frame, record, mask, source.crop, prediction)
        learnt = record.state not in (State.LOST, State.RECOVERED) and safe_to_learn(record.findings)
        if learn and learnt:
            self.references.add(source.reference(mask, record.state is State.PROMPTED), record.index)
