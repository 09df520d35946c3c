"""Judge a tracker on scripted clips: its states against the truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch

from mam_video.core.frames import State
from mam_video.core.geometry import tight_box
from mam_video.core.reasons import Finding
from mam_video.core.settings import Settings
from mam_video.metrics.masks import region_j
from mam_video.models.base import Model
from mam_video.motion.flow import with_motion
from mam_video.prompts.prompt import Prompt
from mam_video.testing.scripted_clips import Script, Shot
from mam_video.tracking.track_back import checked
from mam_video.tracking.tracker import track
from mam_video.tracking.types import TrackedFrame

# The tracker's result against the truth

GONE, SEEN = 0.05, 0.2  # visible share of the subject: below the first it is gone, from the second on visible
WRONG, GOOD = 0.5, 0.7  # J: below the first a frame is wrong, from the second on good


@dataclass(frozen=True, slots=True)
class Judged:
    """The tracker's state of a frame, and the truth.

    j      J with the subject
    share  the visible share of the subject
    other  J with the distractor
    """

    state: State
    j: float
    share: float
    other: float
    findings: tuple[Finding, ...]

    @property
    def gone(self) -> bool:
        return self.share < GONE

    @property
    def wrong(self) -> bool:
        return self.j < WRONG

    @property
    def good(self) -> bool:
        return not self.gone and self.j >= GOOD


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of frames, which can be added over clips. Prompted frames do not count.

    A flag on a good frame is a false alarm. In a good frame the subject is not gone and J is at least 0.7.
    """

    lost_said: int  # state "lost", among frames where the subject is gone or at least a fifth of it is visible
    lost_true: int  # those of them where it is gone
    gone: int
    wrong: int
    wrong_flagged: int
    good: int
    good_flagged: int
    swapped_silently: int  # frames that hold the distractor and are not flagged

    @classmethod
    def of(cls, frames: Iterable[Judged]) -> Figures:
        judged = [f for f in frames if f.state is not State.PROMPTED]
        lost = [f for f in judged if f.state is State.LOST and (f.gone or f.share >= SEEN)]
        wrong, good = [f for f in judged if f.wrong], [f for f in judged if f.good]
        return cls(
            len(lost), sum(f.gone for f in lost), sum(f.gone for f in judged),
            len(wrong), sum(f.state.flagged for f in wrong), len(good), sum(f.state.flagged for f in good),
            sum(f.other > max(f.j, WRONG) and not f.state.flagged for f in judged),
        )  # fmt: skip

    def __add__(self, more: Figures) -> Figures:
        ours, theirs = asdict(self), asdict(more)
        return Figures(**{key: ours[key] + theirs[key] for key in ours})

    @property
    def lost_precision(self) -> float:
        return self.lost_true / self.lost_said if self.lost_said else 1.0

    @property
    def lost_recall(self) -> float:
        return self.lost_true / self.gone if self.gone else 1.0

    @property
    def flag_recall(self) -> float:
        return self.wrong_flagged / self.wrong if self.wrong else 1.0

    @property
    def false_flags(self) -> float:
        """Return the share of the good frames that are flagged."""
        return self.good_flagged / self.good if self.good else 0.0


def followed(script: Script, model: Model, settings: Settings) -> Iterator[tuple[TrackedFrame, Shot, Judged]]:
    """Track a clip from the true box of its first frame. Yields the tracked frame, its truth, and their comparison."""
    first = next(script.shots())
    moved = with_motion(script.frames(), settings.motion)
    prompt = Prompt(tight_box(first.seen))
    found = track(moved, model, prompt, settings=settings.track, view=settings.view, batch=settings.model.batch or 1)
    for tracked, shot in zip(checked(found, model, settings), script.shots(), strict=True):
        mask = mask_of(tracked)
        other = region_j(mask, shot.other) if shot.other.any() else 0.0
        record = tracked.record
        yield tracked, shot, Judged(record.state, region_j(mask, shot.seen), shot.share, other, record.findings)


def mask_of(tracked: TrackedFrame) -> np.ndarray:
    """Return the track's mask at the frame's resolution, (H, W) bool."""
    logits = torch.from_numpy(tracked.logits.astype(np.float32))[None, None]
    return tracked.crop.paste(tracked.crop.to_rectangle(logits)[0, 0].numpy() > 0, tracked.frame.size)


def recovery(frames: list[Judged]) -> list[int]:
    """Count the frames until recovery, for each time the subject was gone and came back.

    Counted from the first frame in which a fifth of it is visible to the next one that is neither wrong nor lost; to
    the end of the clip if there is none.
    """
    waits = []
    gone = False
    for index, frame in enumerate(frames):
        if gone and frame.share >= SEEN:
            gone = False
            rest = frames[index:]
            waits.append(next((k for k, f in enumerate(rest) if not f.wrong and f.state is not State.LOST), len(rest)))
        gone = gone or frame.gone
    return waits
