"""Check a track by tracking it back: a mask that slipped to something else does not lead back to the subject.

Every `WINDOW` frames the last mask is tracked back to where the window began, at first in one step. Where it arrives at
another mask, the window is tracked back frame by frame. If the masks still differ, the link between the window's ends
is broken: its frames and what follows may be something else. They are uncertain until, at the end of a window whose
link holds, the model recognises the subject: asked with the prompted frame alone, without box and previous mask, it
finds the same mask. After lost frames it has to be recognised too.

No mask changes. The flags of a frame are known when its window ends, so up to `WINDOW` frames are held. Windows fall on
absolute frame numbers. The last window of a range may be shorter than in the whole clip, and its flags others. A model
that cannot recognise a subject (`models/base.py`) is not checked.

Source: the forward-backward error of Kalal, Mikolajczyk, Matas (ICPR 2010), with masks instead of points. How well it
works is in docs/measurements.md.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from mam_video.core.frames import Frame, State
from mam_video.core.settings import Settings
from mam_video.models.base import Model, Recogniser, Reference, ViewPrompt, recogniser_of
from mam_video.models.resident import ResidentFrame, embed_views
from mam_video.motion.flow import measure_motion
from mam_video.prompts.prompt import Prompt
from mam_video.runtime.streams import closing_iter
from mam_video.tracking.confidence import unconfirmed
from mam_video.tracking.mask_ops import agreement
from mam_video.tracking.tracker import reference_of, track
from mam_video.tracking.types import MaskObservation, TrackedFrame, TrackStart

WINDOW = 8  # frames
_LEAST_SCORE = 0.5  # of a mask that is recognised; most right ones have 0.5 to 0.9, wrong ones less
_LEAST_OVERLAP = 0.75  # IoU of the tracked mask and the recognised one


def checked(found: Iterable[TrackedFrame], model: Model, settings: Settings) -> Generator[TrackedFrame, None, None]:
    """Pass a subject's tracked frames on, in order, and make those uncertain that are not confirmed.

    Args:
        found: neighbouring frames of one shot, forwards, as the tracker gives them.
        settings: `track.check` False: frames pass unchanged.
    """
    recogniser = recogniser_of(model)
    if recogniser is None or not settings.track.check:
        with closing_iter(found) as source:
            yield from source
        return
    check = TrackBack(model, recogniser, settings)
    held: list[TrackedFrame] = []
    with closing_iter(found) as source:
        for item in source:
            held.append(item)
            if (item.frame.index + 1) % WINDOW == 0:
                yield from check.window(held)
                held = []
    yield from check.window(held)


class TrackBack:
    """What is known of one subject's track, window by window.

    broken  the IoU of the worst link since the subject was last recognised, 0 after lost frames; None where all hold
    """

    def __init__(self, model: Model, recogniser: Recogniser, settings: Settings) -> None:
        self.model, self.recogniser, self.settings = model, recogniser, settings
        self.broken: float | None = None
        self._prompted: Reference | None = None
        self._last: TrackedFrame | None = None  # where the next link begins; None after lost frames

    def window(self, frames: Sequence[TrackedFrame]) -> list[TrackedFrame]:
        """Check the next frames, and return them with their records."""
        for place, item in enumerate(frames):
            if item.record.state is State.PROMPTED:
                self._prompted = reference_of(item.frame, item.observation, self.model, item.own_embedding)
                self._last, self.broken = None, None
                return [*frames[: place + 1], *self._checked(item, frames[place + 1 :])]
        return self._checked(self._last, frames) if self._prompted is not None else list(frames)

    def _checked(self, begin: TrackedFrame | None, frames: Sequence[TrackedFrame]) -> list[TrackedFrame]:
        """Check the frames after `begin`, the last one before them that a link may begin at."""
        out: list[TrackedFrame] = []
        for lost, run in groupby(frames, key=lambda item: item.observation.lost):
            part = list(run)
            if lost:
                out, begin = out + part, None
            else:
                found, begin = self._found(begin, part)
                out += found
        self._last = begin and _small(begin)
        return out

    def _found(
        self, begin: TrackedFrame | None, part: Sequence[TrackedFrame]
    ) -> tuple[list[TrackedFrame], TrackedFrame | None]:
        """Check neighbouring frames in which something was found.

        A link ends at a frame without findings if one lies in the second half of them: findings may come from a subject
        that is half hidden, whose mask is right and does not lead back. Without one it ends at the last frame, or what
        slips while it is hidden would pass.

        Args:
            begin: where the link begins; None after lost frames.
        Returns the frames, and where the next link begins.
        """
        bound = self.settings.track.review_return
        clean = [place for place, item in enumerate(part) if not item.record.findings]
        end = clean[-1] if clean and 2 * clean[-1] >= len(part) else len(part) - 1
        if begin is None and self.broken is None:
            self.broken = 0.0
        link = self._link([begin, *part[: end + 1]], bound) if begin is not None else 1.0
        if link < bound:
            self.broken = min(link, self.broken) if self.broken is not None else link
        elif self.broken is not None and self._recognised(part[end]):
            self.broken = None
        begin = part[end]
        if self.broken is None:
            return list(part), begin
        return [item.with_record(unconfirmed(item.record, self.broken, bound)) for item in part], begin

    def _link(self, seen: Sequence[TrackedFrame], bound: float) -> float:
        """Return the least IoU of the masks with those tracked back from the last one."""
        at_once = self._back(seen[:: len(seen) - 1])
        return at_once if at_once >= bound else max(at_once, self._back(seen))

    def _back(self, chosen: Sequence[TrackedFrame]) -> float:
        """Track back from the last of the frames to the first, as if they were neighbours; return the least IoU."""
        frames = [_eight_bit(item.frame, place) for place, item in enumerate(chosen)][::-1]
        steps = [(frames[0], None)] + [
            (frame, measure_motion(before, frame, self.settings.motion)) for before, frame in pairwise(frames)
        ]
        last = chosen[-1].observation
        begun = last.with_record(replace(last.record, index=frames[0].index, state=State.PROMPTED, findings=()))
        embedded = {
            (place, item.crop): item.own_embedding
            for place, item in enumerate(chosen)
            if item.own_embedding is not None
        }
        found = track(
            steps, self.model, Prompt(last.record.box), settings=self.settings.track, view=self.settings.view,
            start=TrackStart(begun=begun, embedded=embedded),
        )  # fmt: skip
        overlaps = [
            _overlap(back.observation, item.observation) for back, item in zip(found, chosen[::-1], strict=True)
        ]
        return min(overlaps)

    def _recognised(self, item: TrackedFrame) -> bool:
        """Return whether the prompted frame alone leads to the mask of a frame."""
        assert self._prompted is not None
        embedding = item.own_embedding or embed_views(self.model, [item.frame], item.crop)
        import torch

        with torch.inference_mode():
            again = self.recogniser.recognise(embedding, 0, ViewPrompt(references=(self._prompted,)))
        overlap = agreement(again.logits[0], item.crop, item.logits, item.crop)
        return float(again.scores[0]) >= _LEAST_SCORE and overlap >= _LEAST_OVERLAP


def _overlap(a: MaskObservation, b: MaskObservation) -> float:
    return agreement(a.logits, a.crop, b.logits, b.crop)


def _eight_bit(frame: Frame, index: int) -> Frame:
    """Return a frame with the picture that tracking needs, under another index; on its device if it is there."""
    if isinstance(frame, ResidentFrame):
        return replace(frame, index=index, pts=index)
    return Frame(index, index, frame.time_base, frame.rgb8)


def _small(item: TrackedFrame) -> TrackedFrame:
    """Return a tracked frame without what only matting needs."""
    embedding = item.embedding if item.own_embedding is not None else None
    return TrackedFrame(_eight_bit(item.frame, item.frame.index), None, item.observation, embedding)
