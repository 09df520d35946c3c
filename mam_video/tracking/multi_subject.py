"""Track several subjects side by side: one embedding a frame, and each pixel belongs to one subject.

Each subject has a `SubjectTracker` of its own, and all go through the frames together. They share:

1. The crop, where embedding is slow. It holds the query boxes of all, so that a frame is embedded once for all
   subjects (`ViewSettings.subjects`; with "own" each has its crop and its embeddings).
2. The pixels. Each cell that two masks share goes to the subject that explains it better: whose predicted mask covers
   it, and, where both or neither do, whose colours it has. In the prompted frame it goes to the one whose box holds it.
   Each tracker then selects from masks without the cells of others. A subject that keeps no cell is hidden: lost.
3. Findings. Two subjects meet when their masks share more than 0.3 of the smaller one, until they share hardly
   anything. Where their colours are then too similar to tell them apart, both frames are uncertain, and each finding
   names the other subject. Such frames do not become references.

Afterwards no pixel is given out twice: where the alphas of several subjects add up to more than 1, each is divided by
their sum.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import combinations
from typing import NamedTuple

import cv2
import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame, Record, State
from mam_video.core.geometry import Box, union_of
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import TrackSettings, ViewSettings
from mam_video.models.base import Candidates, Model, shares_crop, wants_motion
from mam_video.motion.flow import Motion
from mam_video.prompts.prompt import Prompt
from mam_video.runtime.streams import closing_iter
from mam_video.tracking.embeddings import FrameEmbedding, GroupEmbeddings, SharedEmbeddings
from mam_video.tracking.mask_ops import (
    BACKGROUND_LOGIT,
    cell_centres_of,
    keep_supported,
    mask_iou,
    mask_logits,
    sample_logits,
)
from mam_video.tracking.query import Query, segment
from mam_video.tracking.search_region import held_crop
from mam_video.tracking.selection import select_prompted
from mam_video.tracking.subject_colours import SURE, SubjectColours, bin_of, colour_ratio
from mam_video.tracking.tracker import SubjectTracker, frame_groups
from mam_video.tracking.types import Prediction, TrackedFrame, TrackStep

_MEET = 0.3  # share of the smaller mask from which on two masks meet ...
_PART = 0.02  # ... until they share no more than this; up to here both keep what they share
_COLOUR_WEIGHT = 3.0  # of colours beside the predicted masks: where colours are distinct they decide
_SHARED = 0.05  # share of the smaller mask; where two masks share more, both frames need review
_DISTINCT = 1.0  # mean log-likelihood ratio of a subject's colours; below, it may be the other subject


def track_subjects(
    frames: Iterable[tuple[Frame, Motion | None]],
    model: Model,
    prompts: Mapping[str, Prompt],
    *,
    settings: TrackSettings | None = None,
    view: ViewSettings | None = None,
    batch: int = 1,
) -> Generator[tuple[TrackedFrame, ...], None, None]:
    """Track the subjects that `prompts` point at, by name, in the first of `frames`.

    Arguments are as for `tracker.track`. Yields a `TrackedFrame` for each subject of each frame, in the order of
    `prompts`; each record has its subject's name. At most one group of frames is held (and one frame more).
    Raises: UsageError, a prompt lies outside the frame.
    """
    tracker = MultiSubjectTracker(model, prompts, settings or TrackSettings(), view or ViewSettings())
    with closing_iter(frames) as source:
        for group in frame_groups(source, batch, look_ahead=wants_motion(model)):
            yield from tracker.track_group(group)


@dataclass(slots=True)
class Member:
    """One of the subjects: its tracker, and its colours pixel by pixel."""

    name: str
    tracker: SubjectTracker
    colours: SubjectColours = field(default_factory=SubjectColours)


@dataclass(slots=True)
class MaskClaim:
    """What a subject would take of a frame.

    mask      (m, m) float32 logits, the mask it would select
    colours   (m, m) int, the bin of each cell's colour
    denied    (m, m) bool, cells that are another's
    findings  why it may be another subject
    """

    member: Member
    crop: Crop
    query: Query
    offered: Candidates
    mask: np.ndarray
    colours: np.ndarray
    denied: np.ndarray = field(init=False)
    findings: list[Finding] = field(default_factory=list)
    meets: bool = False

    def __post_init__(self) -> None:
        self.denied = np.zeros(self.mask.shape, bool)

    def at(self, logits: np.ndarray, other: MaskClaim) -> np.ndarray:
        """Read logits over this claim's cells at the cells of another one."""
        if self.crop == other.crop:
            return logits
        return sample_logits(logits, self.crop, *cell_centres_of(other.crop, len(logits)))

    @property
    def prior(self) -> np.ndarray:
        """(m, m) what the predicted mask says of each cell; that of a lost subject is a guess."""
        return np.clip(self.query.predicted, -SURE, SURE) * (0.25 if self.member.tracker.subject.lost else 1.0)

    def remaining(self) -> Candidates:
        """Return the offered masks without the cells that are another's."""
        return _without(self.offered, self.denied)


class MultiSubjectTracker:
    """The trackers of all subjects of one clip."""

    def __init__(
        self, model: Model, prompts: Mapping[str, Prompt], settings: TrackSettings, crop_settings: ViewSettings
    ) -> None:
        self.model = model
        self.crop_settings = crop_settings
        self.shared = shares_crop(model) if crop_settings.subjects == "auto" else crop_settings.subjects == "shared"
        self.crop: Crop | None = None  # the one that is shared
        self.met: set[tuple[str, str]] = set()  # pairs that met in the previous frame
        # A subject that is found elsewhere would need a crop and an embedding of its own.
        settings = replace(settings, search=False)
        self.members = [
            Member(name, SubjectTracker(model, prompt, settings, crop_settings)) for name, prompt in prompts.items()
        ]

    def track_group(self, group: list[TrackStep]) -> Generator[tuple[TrackedFrame, ...], None, None]:
        """Track the frames of one group; those that share a crop are embedded together, once for all subjects."""
        for member in self.members:
            member.tracker.references.embed_deferred(self.model)
        shared = SharedEmbeddings(self.model, group)
        embeddings = [GroupEmbeddings(shared.embed_rest) for _ in self.members]
        rows: list[list[TrackedFrame]] = []
        for place, step in enumerate(group):
            predictions = [member.tracker.predict(step) for member in self.members]
            crops = self._crops(predictions, step.frame.size)
            sources = [own.at(place, crop) for own, crop in zip(embeddings, crops, strict=True)]
            pictures = [shared.picture(crop, place) for crop in crops]
            rows.append(self._observe(step, predictions, sources, pictures))
        for place, row in enumerate(rows):
            yield tuple(
                replace(tracked, embedding=own.whole_batch(place)) for tracked, own in zip(row, embeddings, strict=True)
            )

    def _crops(self, predictions: Sequence[Prediction | None], frame_size: tuple[int, int]) -> list[Crop]:
        """Return the crop for each subject: one for all, or each one's own."""
        if not self.shared:
            return [
                member.tracker.hold_crop(prediction, frame_size)
                for member, prediction in zip(self.members, predictions, strict=True)
            ]
        size = self.model.view_size
        wanted = [
            prediction.query_box if prediction is not None else member.tracker.prompt.box
            for member, prediction in zip(self.members, predictions, strict=True)
        ]
        boxes = [box for box in wanted if box is not None]
        if len(boxes) < len(wanted):  # a point says nothing of its subject's size
            self.crop = self.crop or Crop.whole(frame_size, size)
        else:
            self.crop = held_crop(self.crop, reduce(union_of, boxes), frame_size, size, self.crop_settings)
        return [self.crop] * len(self.members)

    def _observe(
        self,
        step: TrackStep,
        predictions: Sequence[Prediction | None],
        sources: Sequence[FrameEmbedding],
        pictures: Sequence[np.ndarray],
    ) -> list[TrackedFrame]:
        """Find each subject in one frame."""
        claims = [
            None if prediction is None else _claim(member, step, prediction, source, picture)
            for member, prediction, source, picture in zip(self.members, predictions, sources, pictures, strict=True)
        ]
        self.met = resolve_overlaps([claim for claim in claims if claim is not None], self.met)
        begun = self._answers(step, sources) if any(claim is None for claim in claims) else [None] * len(claims)
        found = []
        for member, prediction, source, picture, claim, answers in zip(
            self.members, predictions, sources, pictures, claims, begun, strict=True
        ):
            if prediction is None or claim is None:
                observation = member.tracker.initialise(step, source, answers)
            else:
                observation = member.tracker.observe(
                    step, prediction, source, claim.query, claim.remaining(), learn=not claim.findings
                )
                if claim.findings:
                    observation = observation.with_record(_with_findings(observation.record, claim.findings))
            record, logits = observation.record, observation.logits
            clear = record.state is State.PROMPTED or not (record.state.flagged or record.findings)
            if clear and not (claim is not None and claim.meets):
                member.colours.learn(_cells(picture, source.crop, len(logits))[logits > 0])
            observation = observation.with_record(replace(record, subject=member.name))
            found.append(TrackedFrame(step.frame, step.motion, observation))
        return _with_shared_pixels(_without_others(found))

    def _answers(self, step: TrackStep, sources: Sequence[FrameEmbedding]) -> list[list[Candidates] | None]:
        """Ask the segmenter for each subject in the prompted frame; None for one whose mask is given.

        A cell that two masks share is denied to the subject whose box does not hold it, if the other one's does.
        """
        answers: list[list[Candidates] | None] = []
        masks: list[np.ndarray] = []
        prompts = [member.tracker.prompt for member in self.members]
        for member, prompt, source in zip(self.members, prompts, sources, strict=True):
            prompt.check_inside(step.frame.size)
            if prompt.mask is not None:
                answers.append(None)
                masks.append(mask_logits(prompt.mask, source.crop, self.model.mask_size))
                continue
            offered = member.tracker.answers(step, source)
            answers.append(offered)
            box = prompt.box.clipped(step.frame.size) if prompt.box is not None else None
            masks.append(select_prompted(offered, box, source.crop, member.tracker.settings.speck).logits)
        margin = self.members[0].tracker.settings.margin
        for k, (prompt, source) in enumerate(zip(prompts, sources, strict=True)):
            own = answers[k]
            if own is None or prompt.box is None:
                continue
            x, y = cell_centres_of(source.crop, self.model.mask_size)
            denied = np.zeros(np.broadcast(x, y).shape, bool)
            for other, where, mask in zip(prompts, sources, masks, strict=True):
                if other is not prompt and other.box is not None:
                    taken = sample_logits(mask.astype(np.float32), where.crop, x, y) > 0
                    denied |= taken & _inside(other.box, x, y)
            denied &= ~_inside(prompt.box.grown(margin * max(prompt.box.width, prompt.box.height)), x, y)
            answers[k] = [_without(each, denied) for each in own]
        return answers


def _inside(box: Box, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray((x >= box.x0) & (x <= box.x1) & (y >= box.y0) & (y <= box.y1))


def _without(offered: Candidates, denied: np.ndarray) -> Candidates:
    """Return the masks without the `denied` cells, (m, m) bool."""
    if not denied.any():
        return offered
    logits = np.where(denied, np.minimum(offered.logits, np.float32(BACKGROUND_LOGIT)), offered.logits)
    return Candidates(logits, offered.scores)


def _with_findings(record: Record, findings: Sequence[Finding]) -> Record:
    """Add findings that need review."""
    state = record.state if record.state.flagged else State.UNCERTAIN
    return replace(record, state=state, findings=(*record.findings, *findings))


def _claim(
    member: Member, step: TrackStep, prediction: Prediction, source: FrameEmbedding, picture: np.ndarray
) -> MaskClaim:
    """Ask the segmenter for one subject, and select what it would take if it were alone."""
    crop = source.crop
    query = member.tracker.query(step, prediction, crop)
    offered = segment(member.tracker.model, source, query.prompt)
    query_box = crop.to_view(prediction.query_box)
    masks = [keep_supported(logits, query.predicted, query_box, crop.size) for logits in offered.logits]
    values = [float(s) + mask_iou(mask > 0, query.predicted > 0) for s, mask in zip(offered.scores, masks, strict=True)]
    colours = bin_of(_cells(picture, crop, len(query.predicted)))
    return MaskClaim(member, crop, query, offered, masks[int(np.argmax(values))], colours)


def _cells(picture: np.ndarray, crop: Crop, m: int) -> np.ndarray:
    """Return the mean colour of each cell of a crop's square, (m, m, 3) uint8; the padding is black."""
    square = np.zeros((crop.size, crop.size, 3), np.uint8)
    square[: picture.shape[0], : picture.shape[1]] = picture
    return np.asarray(cv2.resize(square, (m, m), interpolation=cv2.INTER_AREA))


def resolve_overlaps(claims: Sequence[MaskClaim], before: Container[tuple[str, str]]) -> set[tuple[str, str]]:
    """Deny each claim the cells that another one explains better, and add findings where colours do not tell.

    `before` are the pairs of subjects that met in the previous frame. Returns the pairs that meet now.
    """
    met: set[tuple[str, str]] = set()
    for a, b in combinations(claims, 2):
        pair = a.member.name, b.member.name
        share = _share(_Area(a.mask, a.crop), _Area(b.mask, b.crop)) if a.crop.box.iou(b.crop.box) > 0 else 0.0
        if share <= _PART:
            continue
        own, other = a.member.colours.chances, b.member.colours.chances
        ratio = colour_ratio(own, other)
        assign_pixels(a, b, ratio, tie=False)
        assign_pixels(b, a, -ratio, tie=True)
        if share <= _MEET and pair not in before:
            continue
        met.add(pair)
        a.meets = b.meets = True
        similar = min(float(own @ ratio), float(other @ -ratio)) < _DISTINCT
        if similar or _may_be_other(a, ratio) or _may_be_other(b, -ratio):
            for claim, other_one in ((a, b), (b, a)):
                claim.findings.append(Finding(Reason.MEETS_SUBJECT, other=other_one.member.name))
    return met


class _Area(NamedTuple):
    """Where a mask lies: (m, m) float32 logits over the cells of a crop."""

    mask: np.ndarray
    crop: Crop

    @classmethod
    def of(cls, tracked: TrackedFrame) -> _Area:
        return cls(tracked.logits.astype(np.float32), tracked.crop)

    @property
    def cell(self) -> float:
        """The area of a cell, in frame pixels."""
        sx, sy = self.crop.scale
        return (self.crop.size / len(self.mask)) ** 2 / (sx * sy)


def _share(a: _Area, b: _Area) -> float:
    """Return the area that two masks share, divided by that of the smaller one."""
    seen = a.mask > 0
    there = b.mask if a.crop == b.crop else sample_logits(b.mask, b.crop, *cell_centres_of(a.crop, len(a.mask)))
    least = min(np.count_nonzero(seen) * a.cell, np.count_nonzero(b.mask > 0) * b.cell)
    return np.count_nonzero(seen & (there > 0)) * a.cell / least if least else 0.0


def assign_pixels(claim: MaskClaim, other: MaskClaim, ratio: np.ndarray, *, tie: bool) -> None:
    """Deny `claim` the shared cells that `other` explains better; with `tie` also those it explains as well.

    `ratio` is the log-likelihood ratio of each colour bin, `claim` against `other`.
    """
    colour = cv2.blur(ratio[claim.colours].astype(np.float32), (3, 3))
    evidence = claim.prior - other.at(other.prior.astype(np.float32), claim) + _COLOUR_WEIGHT * colour
    both = (claim.mask > 0) & (other.at(other.mask, claim) > 0)
    claim.denied |= both & ((evidence <= 0) if tie else (evidence < 0))


def _may_be_other(claim: MaskClaim, ratio: np.ndarray) -> bool:
    """Return whether the cells that a claim keeps may be the other subject, by their colours."""
    kept = (claim.mask > 0) & ~claim.denied
    return bool(kept.any()) and float(ratio[claim.colours[kept]].mean()) < _DISTINCT


def _with_shared_pixels(found: list[TrackedFrame]) -> list[TrackedFrame]:
    """Flag the subjects whose masks still share pixels: there the alphas are divided between them."""
    findings: dict[int, list[Finding]] = {}
    for (k, a), (j, b) in combinations(enumerate(found), 2):
        share = _share(_Area.of(a), _Area.of(b))
        if share > _SHARED:
            for one, other in ((k, b), (j, a)):
                named = Finding(Reason.SHARES_PIXELS, share, _SHARED, other=other.record.subject)
                findings.setdefault(one, []).append(named)
    return [
        tracked.with_record(_with_findings(tracked.record, findings[k])) if k in findings else tracked
        for k, tracked in enumerate(found)
    ]


def _without_others(found: list[TrackedFrame]) -> list[TrackedFrame]:
    """Remove from the masks of lost subjects the cells of subjects that are seen."""
    visible = [t for t in found if not t.observation.lost]
    if len(visible) == len(found):
        return found
    cleaned = []
    for tracked in found:
        if tracked.observation.lost:
            logits = tracked.logits.copy()
            x, y = cell_centres_of(tracked.crop, len(logits))
            for other in visible:
                logits[sample_logits(other.logits.astype(np.float32), other.crop, x, y) > 0] = BACKGROUND_LOGIT
            tracked = replace(tracked, observation=replace(tracked.observation, logits=logits))
        cleaned.append(tracked)
    return cleaned
