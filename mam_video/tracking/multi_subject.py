"""Several subjects by name, followed side by side: one embedding a frame, and each pixel one subject's.

Each subject has a follower of its own, as `track.py` has it, and they go through the frames in step. What they share:

1. The view. It holds what all of them ask for, and is held as one subject's is; so a frame is embedded once for all
   (`ViewSettings.subjects`: "own" gives each its view, and an embedding).
2. The pixels. Two subjects meet where their masks share more than 0.3 of the smaller one, and until they share hardly
   anything. Each cell of what they share goes to the one that explains it better: whose moved mask it lies in, and
   whose colours it has. What a follower then chooses, doubts and remembers is without the cells that are another's. A
   subject that keeps nothing is hidden: lost.
3. Doubt. Where they meet and their colours cannot tell them apart, both frames are uncertain, and the reasons name the
   other one. Such frames teach nothing.

Afterwards no pixel is given out twice: where the alphas of several add up to more than 1 each is divided by the sum.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import combinations

import cv2
import numpy as np
import torch

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame, State
from mam_video.core.geometry import union_of
from mam_video.core.settings import TrackSettings, ViewSettings
from mam_video.models.base import Candidates, Embedding, Model, ViewPrompt, wants_motion
from mam_video.motion.flow import Motion
from mam_video.prompts.prompt import Prompt
from mam_video.runtime.streams import closing_iter
from mam_video.tracking.mask_ops import BACKGROUND_LOGIT, _read, cell_centres_of, keep_supported, mask_iou
from mam_video.tracking.search_region import held_view
from mam_video.tracking.subject_colours import SURE, SubjectColours, bin_of, colour_ratio
from mam_video.tracking.tracker import SubjectTracker, _groups
from mam_video.tracking.types import Prediction, TrackedFrame, TrackStep

_MEET = 0.3  # of the smaller mask: two masks that share more want the same pixels ...
_PART = 0.02  # ... until they share no more than this
_COLOUR = 3.0  # how much colours count beside the moved masks: where they are plain they decide
_TOLD_APART = 1.0  # mean log-likelihood ratio of a subject's colours; below, it may be the other one


def track_subjects(
    frames: Iterable[tuple[Frame, Motion | None]],
    model: Model,
    prompts: Mapping[str, Prompt],
    *,
    settings: TrackSettings | None = None,
    view: ViewSettings | None = None,
    batch: int = 1,
) -> Generator[tuple[TrackedFrame, ...], None, None]:
    """Follow the subjects that `prompts` point at, by name, in the first of `frames`.

    Arguments are as for `track.track`. Yields for each frame what was found of each subject, in the order of `prompts`;
    each record has its subject's name. At most one group of frames is held (and one frame more).
    Raises: UsageError, a prompt lies outside the frame.
    """
    together = MultiSubjectTracker(model, prompts, settings or TrackSettings(), view or ViewSettings())
    with closing_iter(frames) as source:
        for group in _groups(source, batch, look_ahead=wants_motion(model)):
            yield from together.follow(group)


class Member(SubjectTracker):
    """A follower that may be answered beforehand, with what the others leave to it."""

    def __init__(
        self, name: str, model: Model, prompt: Prompt, settings: TrackSettings, view_settings: ViewSettings
    ) -> None:
        super().__init__(model, prompt, settings, view_settings)
        self.name = name
        self.colours = SubjectColours()
        self.answer: Candidates | None = None

    def _ask(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        if self.answer is not None:
            answer, self.answer = self.answer, None
            return answer
        return super()._ask(embedding, index, prompt)


@dataclass(slots=True)
class MaskClaim:
    """What a subject would take of a frame.

    moved    (m, m) float32 logits, its last mask moved here
    mask     (m, m) float32 logits, what it would choose
    seen     (m, m) int, the bin of each cell's colour
    denied   (m, m) bool, cells that are another's
    doubts   reasons that it may be another
    """

    member: Member
    view: Crop
    offered: Candidates
    moved: np.ndarray
    mask: np.ndarray
    seen: np.ndarray
    denied: np.ndarray = field(init=False)
    doubts: list[str] = field(default_factory=list)
    meets: bool = False

    def __post_init__(self) -> None:
        self.denied = np.zeros(self.mask.shape, bool)

    def at(self, logits: np.ndarray, other: MaskClaim) -> np.ndarray:
        """Logits over this claim's cells, read at the cells of another one."""
        if self.view == other.view:
            return logits
        return _read(logits, self.view, *cell_centres_of(other.view, len(logits)))

    @property
    def sure(self) -> np.ndarray:
        """What the moved mask says; that of a subject that is lost is a guess."""
        return np.clip(self.moved, -SURE, SURE) * (0.25 if self.member.lost else 1.0)

    def left(self) -> Candidates:
        """What is offered, without what is another's."""
        if not self.denied.any():
            return self.offered
        logits = np.where(
            self.denied, np.minimum(self.offered.logits, np.float32(BACKGROUND_LOGIT)), self.offered.logits
        )
        return Candidates(logits, self.offered.scores)


class MultiSubjectTracker:
    """The followers of all subjects of one clip."""

    def __init__(
        self, model: Model, prompts: Mapping[str, Prompt], settings: TrackSettings, view_settings: ViewSettings
    ) -> None:
        self.model = model
        self.view_settings = view_settings
        self.view: Crop | None = None  # the one that is shared
        self.met: set[tuple[str, str]] = set()  # pairs that met in the frame before
        # A subject that was found elsewhere would need a view and an embedding of its own.
        settings = replace(settings, search=False)
        self.members = [Member(name, model, prompt, settings, view_settings) for name, prompt in prompts.items()]

    def follow(self, group: list[TrackStep]) -> Generator[tuple[TrackedFrame, ...], None, None]:
        """The frames of one group; those that are looked at in one view are embedded together, once for all."""
        made: dict[tuple[Crop, int], tuple[Embedding, list[np.ndarray]]] = {}
        runs: list[list[tuple[Crop, int, int]]] = [[] for _ in self.members]  # view, first place, frames used
        rows: list[list[TrackedFrame]] = []
        for member in self.members:
            member.references.remember(self.model)
        for place, step in enumerate(group):
            guesses = [member._guess(step) for member in self.members]
            views = self._views(guesses, step.frame.size)
            embedded = []
            for member, view, own in zip(self.members, views, runs, strict=True):
                if not own or view != member.view:
                    own.append((view, place, 0))
                    member.view = view
                    if (view, place) not in made:
                        pictures = [view.cut(s.frame.rgb8) for s in group[place:]]
                        with torch.inference_mode():
                            made[view, place] = self.model.embed(pictures), pictures
                _, start, used = own[-1]
                own[-1] = view, start, used + 1
                embedding, pictures = made[view, start]
                embedded.append((embedding, place - start, pictures[place - start]))
            rows.append(self._found(step, guesses, views, embedded))
        for place, row in enumerate(rows):
            given = []
            for tracked, own in zip(row, runs, strict=True):
                view, start, used = next(run for run in own if run[1] <= place < run[1] + run[2])
                embedding, _ = made[view, start]
                handle = (embedding, place - start) if used == embedding.count else None
                given.append(replace(tracked, embedding=handle))
            yield tuple(given)

    def _views(self, guesses: Sequence[Prediction | None], frame_size: tuple[int, int]) -> list[Crop]:
        if self.view_settings.subjects == "own":
            return [m._view_for(guess, frame_size) for m, guess in zip(self.members, guesses, strict=True)]
        size = self.model.view_size
        wanted = [
            guess.search if guess is not None else member.prompt.box
            for member, guess in zip(self.members, guesses, strict=True)
        ]
        boxes = [box for box in wanted if box is not None]
        if len(boxes) < len(wanted):  # a point says nothing of its subject's size
            self.view = self.view or Crop.whole(frame_size, size)
        else:
            self.view = held_view(self.view, reduce(union_of, boxes), frame_size, size, self.view_settings)
        return [self.view] * len(self.members)

    def _found(
        self,
        step: TrackStep,
        guesses: Sequence[Prediction | None],
        views: Sequence[Crop],
        embedded: Sequence[tuple[Embedding, int, np.ndarray]],
    ) -> list[TrackedFrame]:
        """What is found of each subject in one frame."""
        claims = [
            None if guess is None else _claim(member, step, guess, view, *given)
            for member, guess, view, given in zip(self.members, guesses, views, embedded, strict=True)
        ]
        self.met = resolve_overlaps([claim for claim in claims if claim is not None], self.met)
        found = []
        for member, guess, view, given, claim in zip(self.members, guesses, views, embedded, claims, strict=True):
            embedding, index, picture = given
            known = member.references.copy()
            if guess is None or claim is None:
                record, logits = member._begin(step, view, embedding, index)
            else:
                member.answer = claim.left()
                record, logits, _ = member._continue(step, guess, view, embedding, index)
                if claim.doubts:
                    state = State.UNCERTAIN if record.state is State.TRACKED else record.state
                    record = replace(record, state=state, reasons=(*record.reasons, *claim.doubts))
                    member.references = known
            if not record.state.flagged and not record.reasons and not (claim is not None and claim.meets):
                member.colours.learn(_cells(picture, view, len(logits))[logits > 0])
            record = replace(record, subject=member.name)
            found.append(TrackedFrame(step.frame, step.motion, record, view, logits, standing=member.standing))
        return _without_others(found)


def _claim(
    member: Member,
    step: TrackStep,
    guess: Prediction,
    view: Crop,
    embedding: Embedding,
    index: int,
    picture: np.ndarray,
) -> MaskClaim:
    moved, prompt = member._prompt(step, guess, view)
    offered = member._ask(embedding, index, prompt)
    asked = view.to_view(guess.search)
    masks = [keep_supported(logits, moved, asked, view.size) for logits in offered.logits]
    values = [float(s) + mask_iou(mask > 0, moved > 0) for s, mask in zip(offered.scores, masks, strict=True)]
    seen = bin_of(_cells(picture, view, len(moved)))
    return MaskClaim(member, view, offered, moved, masks[int(np.argmax(values))], seen)


def _cells(picture: np.ndarray, view: Crop, m: int) -> np.ndarray:
    """(m, m, 3) uint8: the mean colour of each cell of a view's square; the padding is black."""
    square = np.zeros((view.size, view.size, 3), np.uint8)
    square[: picture.shape[0], : picture.shape[1]] = picture
    return np.asarray(cv2.resize(square, (m, m), interpolation=cv2.INTER_AREA))


def resolve_overlaps(claims: Sequence[MaskClaim], before: Container[tuple[str, str]]) -> set[tuple[str, str]]:
    """Deny each claim the cells that another one explains better, and say where that cannot be told.

    `before` are the pairs that met in the frame before. Returns those that meet now.
    """
    met: set[tuple[str, str]] = set()
    for a, b in combinations(claims, 2):
        pair = a.member.name, b.member.name
        if a.view.box.iou(b.view.box) <= 0 or _share(a, b) <= (_PART if pair in before else _MEET):
            continue
        met.add(pair)
        a.meets = b.meets = True
        own, other = a.member.colours.chances, b.member.colours.chances
        ratio = colour_ratio(own, other)
        assign_pixels(a, b, ratio, tie=False)
        assign_pixels(b, a, -ratio, tie=True)
        alike = min(float(own @ ratio), float(other @ -ratio)) < _TOLD_APART
        if alike or _may_be_other(a, ratio) or _may_be_other(b, -ratio):
            for claim, other_one in ((a, b), (b, a)):
                claim.doubts.append(
                    f"meets {other_one.member.name} and looks like it: they may be swapped from here on"
                )
    return met


def _share(a: MaskClaim, b: MaskClaim) -> float:
    """What two masks share, as a share of the smaller one."""

    def cell(claim: MaskClaim) -> float:
        sx, sy = claim.view.scale
        return (claim.view.size / len(claim.mask)) ** 2 / (sx * sy)

    both = np.count_nonzero((a.mask > 0) & (b.at(b.mask, a) > 0)) * cell(a)
    least = min(np.count_nonzero(a.mask > 0) * cell(a), np.count_nonzero(b.mask > 0) * cell(b))
    return both / least if least else 0.0


def assign_pixels(claim: MaskClaim, other: MaskClaim, ratio: np.ndarray, *, tie: bool) -> None:
    """Take from `claim` what both want and `other` explains better; or as well, with `tie`."""
    colour = cv2.blur(ratio[claim.seen].astype(np.float32), (3, 3))
    evidence = claim.sure - other.at(other.sure.astype(np.float32), claim) + _COLOUR * colour
    both = (claim.mask > 0) & (other.at(other.mask, claim) > 0)
    claim.denied |= both & ((evidence <= 0) if tie else (evidence < 0))


def _may_be_other(claim: MaskClaim, ratio: np.ndarray) -> bool:
    kept = (claim.mask > 0) & ~claim.denied
    return bool(kept.any()) and float(ratio[claim.seen[kept]].mean()) < _TOLD_APART


def _without_others(found: list[TrackedFrame]) -> list[TrackedFrame]:
    """Where a subject is lost, what stands in for it is not seen where another one is."""
    seen = [t for t in found if t.record.state is not State.LOST]
    if len(seen) == len(found):
        return found
    kept = []
    for tracked in found:
        if tracked.record.state is State.LOST:
            logits = tracked.logits.copy()
            x, y = cell_centres_of(tracked.view, len(logits))
            for other in seen:
                logits[_read(other.logits.astype(np.float32), other.view, x, y) > 0] = BACKGROUND_LOGIT
            tracked = replace(tracked, logits=logits)
        kept.append(tracked)
    return kept
