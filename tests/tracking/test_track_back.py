"""Tracking back tells where a mask slipped to something else. The model follows whatever its last mask covers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame, Record, State
from mam_video.core.geometry import Box, tight_box
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import Settings
from mam_video.models.base import Candidates, Embedding, Model, ViewPrompt, recogniser_of
from mam_video.models.colour_model import ColourModel
from mam_video.motion.flow import with_motion
from mam_video.prompts.prompt import Prompt
from mam_video.tracking.mask_ops import mask_logits
from mam_video.tracking.track_back import WINDOW, checked
from mam_video.tracking.tracker import track
from mam_video.tracking.types import MaskObservation, TrackedFrame

H, W = SIZE = (120, 160)
GREEN, RED = (20, 220, 40), (220, 20, 40)


class Follower:
    """Finds the coloured disc that the previous mask touches; recognises the green one."""

    name, view_size, mask_size = "follower", 160, 40

    def __init__(self) -> None:
        self.weights: dict[str, str] = {}
        self.looks = 0

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        m = self.mask_size
        squares = np.zeros((len(pictures), self.view_size, self.view_size, 3), np.uint8)
        for square, picture in zip(squares, pictures, strict=True):
            square[: picture.shape[0], : picture.shape[1]] = picture
        self.looks += len(pictures)
        small = [cv2.resize(square, (m, m), interpolation=cv2.INTER_AREA).astype(np.int32) for square in squares]
        return Embedding(len(pictures), (pictures[0].shape[0], pictures[0].shape[1]), small)

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        picture = embedding.data[index]
        discs = (picture.max(2) - picture.min(2) > 90).astype(np.uint8)
        _, parts = cv2.connectedComponents(discs)
        assert prompt.logits is not None
        touched = np.bincount(parts[(prompt.logits > 0) & (parts > 0)], minlength=2)
        return self._answer(parts == touched.argmax() if touched.any() else np.zeros_like(parts, bool), 0.9)

    def recognise(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        assert prompt.references and prompt.logits is None and prompt.box is None
        picture = embedding.data[index]
        green = picture[..., 1] - picture[..., 0] > 90
        return self._answer(green, 0.8 if green.any() else 0.1)

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        raise NotImplementedError

    def _answer(self, mask: np.ndarray, score: float) -> Candidates:
        return Candidates(np.where(mask, 8.0, -8.0).astype(np.float32)[None], np.array([score], np.float32))


def disc(colour: tuple[int, int, int], index: int) -> np.ndarray:
    """(H, W) bool: where the disc of a colour is."""
    y, x = np.mgrid[:H, :W]
    cx, cy = (40 + index, 40) if colour == GREEN else (120 - index, 85)
    return np.asarray(np.hypot(x - cx, y - cy) < 14)


def frames(count: int) -> list[Frame]:
    noise = np.random.default_rng(0).integers(90, 150, (H, W, 1), dtype=np.uint8).repeat(3, 2)
    ground = cv2.GaussianBlur(noise, (0, 0), 2)
    made = []
    for index in range(count):
        picture = ground.copy()
        for colour in (GREEN, RED):
            picture[disc(colour, index)] = colour
        made.append(Frame(index, index, Fraction(1, 24), picture))
    return made


def as_found(shown: Sequence[tuple[int, int, int] | None]) -> list[TrackedFrame]:
    """A track whose mask is on the disc of the given colour in each frame, or on nothing."""
    found = []
    for frame, colour in zip(frames(len(shown)), shown, strict=True):
        mask = disc(colour, frame.index) if colour else np.zeros(SIZE, bool)
        box = tight_box(mask) if colour else Box(30, 30, 60, 60)
        crop = Crop.whole(SIZE, Follower.view_size)
        logits = mask_logits(mask.astype(np.float32), crop, Follower.mask_size).astype(np.float16)
        state = State.PROMPTED if frame.index == 0 else State.TRACKED if colour else State.LOST
        record = Record(frame.index, frame.pts, state, box, 0.9, float(mask.mean()))
        found.append(TrackedFrame(frame, None, MaskObservation(record, crop, logits)))
    return found


def unconfirmed(found: Sequence[TrackedFrame]) -> list[int]:
    out = list(checked(found, Follower(), Settings()))
    assert [item.record.index for item in out] == list(range(len(found)))
    for before, after in zip(found, out, strict=True):
        assert after.frame is before.frame and after.observation.logits is before.observation.logits
    doubted = [item.record.index for item in out if item.record.state is State.UNCERTAIN]
    assert doubted == [i.record.index for i in out if any(f.reason is Reason.NOT_CONFIRMED for f in i.record.findings)]
    return doubted


def test_nothing_is_said_of_a_track_that_leads_back() -> None:
    assert unconfirmed(as_found([GREEN] * 30)) == []


def test_a_mask_that_slips_is_uncertain_from_its_window_to_the_end() -> None:
    assert unconfirmed(as_found([GREEN] * 12 + [RED] * 18)) == list(range(8, 30))


def test_the_subject_is_certain_again_once_it_is_recognised() -> None:
    # It is back on frame 20. The window 16-23 does not lead back; the one after it does, and is recognised.
    assert unconfirmed(as_found([GREEN] * 12 + [RED] * 8 + [GREEN] * 20)) == list(range(8, 24))


def test_after_lost_frames_the_subject_has_to_be_recognised() -> None:
    lost = [None] * 4
    back_as_itself = as_found([GREEN] * 9 + lost + [GREEN] * 17)
    assert unconfirmed(back_as_itself) == []
    back_as_another = as_found([GREEN] * 9 + lost + [RED] * 17)
    assert unconfirmed(back_as_another) == list(range(13, 30))


def test_a_prompt_begins_anew() -> None:
    found = as_found([GREEN] * 12 + [RED] * 18)
    there = replace(found[20].record, state=State.PROMPTED)
    found[20] = found[20].with_record(there)
    doubted = unconfirmed(found)
    assert set(range(8, 16)) <= set(doubted) and not set(range(20, 30)) & set(doubted)


def test_a_state_that_is_flagged_already_stays() -> None:
    found = as_found([GREEN] * 12 + [RED] * 18)
    reason = (Finding(Reason.AREA_JUMP, 2.0, 1.6),)
    found[14] = found[14].with_record(replace(found[14].record, state=State.UNCERTAIN, findings=reason))
    out = list(checked(found, Follower(), Settings()))
    assert out[14].record == found[14].record


def test_what_slips_while_it_is_half_hidden_is_doubted() -> None:
    """Frames with findings of their own end a link where no other frame can, in the second half of a window."""
    found = as_found([GREEN] * 18 + [RED] * 12)
    hidden = (Finding(Reason.PARTLY_SEEN, 0.5, 0.6),)
    for place in range(18, 24):
        found[place] = found[place].with_record(replace(found[place].record, findings=hidden))
    assert set(unconfirmed(found)) == set(range(16, 30))


@pytest.mark.parametrize("model", [ColourModel(), Follower()])
def test_models_that_cannot_recognise_and_runs_without_the_check_are_left_alone(model: Model) -> None:
    settings = Settings().with_values({"track": {"check": recogniser_of(model) is None}}, "test")
    found = as_found([GREEN] * 12 + [RED] * 18)
    out = list(checked(iter(found), model, settings))
    assert all(after is before for before, after in zip(found, out, strict=True))


def test_at_most_a_window_is_held() -> None:
    read = 0

    def source() -> Iterator[TrackedFrame]:
        nonlocal read
        for item in as_found([GREEN] * 40):
            read += 1
            yield item

    for given, _ in enumerate(checked(source(), Follower(), Settings())):
        assert read - given <= WINDOW


def test_a_track_that_leads_back_costs_two_looks_a_window() -> None:
    model = Follower()
    list(checked(as_found([GREEN] * 40), model, Settings()))
    assert model.looks == 2 * 40 // WINDOW + 1  # and the prompted frame


def test_frames_that_were_tracked_one_by_one_are_not_embedded_again() -> None:
    whole = Settings().with_values({"view": {"roi": "frame"}}, "test")  # both ways see the same crop
    moved = list(with_motion(frames(24), whole.motion))
    prompt = Prompt.of_mask(disc(GREEN, 0).astype(np.float32))

    def looks(batch: int) -> int:
        model = Follower()
        found = track(moved, model, prompt, settings=whole.track, view=whole.view, batch=batch)
        assert all(item.record.state is not State.UNCERTAIN for item in checked(found, model, whole))
        return model.looks

    assert looks(batch=1) == 24
    assert looks(batch=8) == 24 + 2 * 24 // WINDOW + 1  # a batch's embedding may have other bits than a frame's own


def test_a_run_goes_on_as_if_it_had_not_been_broken_off() -> None:
    strict = Settings().with_values({"track": {"review_return": 1.0}}, "test")  # nothing is good enough
    moved = list(with_motion(frames(24), strict.motion))
    prompt = Prompt.of_mask(disc(GREEN, 0).astype(np.float32))

    def run(known: Sequence[MaskObservation] = ()) -> list[MaskObservation]:
        found = track(moved, Follower(), prompt, settings=strict.track, view=strict.view, batch=8, known=known)
        return [item.observation for item in checked(found, Follower(), strict)]

    whole = run()
    assert any(item.record.state is State.UNCERTAIN for item in whole[:16])
    again = run(whole[:16])
    assert [item.record for item in again] == [item.record for item in whole]
    assert all(np.array_equal(a.logits, b.logits) for a, b in zip(again, whole, strict=True))
