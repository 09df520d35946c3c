"""Prompts on several frames, followed in both directions and joined, on scripted clips with known truth."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.core.crop import Crop
from mam_video.core.errors import UsageError
from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Reason
from mam_video.core.settings import MotionSettings, Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.media import open_clip
from mam_video.models.base import Candidates, Embedding, Reference, ViewPrompt
from mam_video.models.colour_model import ColourModel
from mam_video.motion.flow import with_motion
from mam_video.prompts.prompt import Prompt, Prompts
from mam_video.report.run import RunReport
from mam_video.tracking import bidirectional
from mam_video.tracking.bidirectional import backwards, blend_passes, track_prompts
from mam_video.tracking.mask_ops import agreement
from mam_video.tracking.track_file import Track
from mam_video.tracking.tracker import track
from mam_video.tracking.types import MaskObservation
from tests.synthetic import disc, picture, write_movie
from tests.tracking.test_tracker import COLOUR, GROUND, box_of, covered

SIZE = (120, 160)
RADIUS = 14.0
GROUND_PART = GROUND[: SIZE[0], : SIZE[1], None]
Centre = Callable[[int], tuple[float, float]]


def walking(i: int) -> tuple[float, float]:
    return 30 + 2.0 * i, 60 + 8 * float(np.sin(i / 4))


def frame_of(i: int, centre: Centre = walking) -> Frame:
    alpha = covered((*centre(i), RADIUS), SIZE)[..., None]
    rgb = np.rint(alpha * COLOUR + (1 - alpha) * GROUND_PART).astype(np.uint8)
    return Frame(i, 10 + 3 * i, Fraction(1, 24), rgb)


class Clip:
    """Frames made when asked for, and which were asked for."""

    def __init__(self, count: int, frame: Callable[[int], Frame] = frame_of) -> None:
        self.count, self.frame = count, frame
        self.asked: list[tuple[int, int | None]] = []

    def __call__(self, start: int, stop: int | None) -> Iterator[Frame]:
        self.asked.append((start, stop))
        end = self.count if stop is None else min(stop, self.count)
        return (self.frame(i) for i in range(start, end))


def prompts_on(*frames: int, centre: Centre = walking) -> Prompts:
    return Prompts.of({i: Prompt(box_of((*centre(i), RADIUS))) for i in frames})


def found_of(
    clip: Clip, prompts: Prompts, folder: Path, model: object = None, settings: Settings | None = None, **more: int
) -> list[MaskObservation]:
    model, settings = model or ColourModel(view_size=128), settings or Settings()
    return list(track_prompts(clip, prompts, model, settings, folder, **more))  # type: ignore[arg-type]


def iou(found: MaskObservation, centre: Centre = walking) -> float:
    whole = Crop.whole(SIZE, 128)
    x0, y0, side = whole.x0, whole.y0, whole.size
    assert (x0, y0, side) == (0, 0, 128)
    fine = covered((*centre(found.record.index), RADIUS), SIZE) > 0.5
    truth = np.full((160, 160), -8.0, np.float32)
    truth[: SIZE[0]] = np.where(fine, 8, -8)
    return agreement(found.logits, found.crop, truth, replace(whole, size=128))


def marked(i: int, upper: int, lower: int) -> Frame:
    """A frame of the walk; on two of them `Drifting` goes wrong: it knows them by a slight tint of the ground."""
    frame = frame_of(i)
    if i in (upper, lower):
        grey = np.abs(frame.rgb[..., 0].astype(int) - frame.rgb[..., 1]) < 20
        frame.rgb[..., 0 if i == upper else 2][grey] += 2
    return frame


class Drifting(ColourModel):
    """Takes a part for the whole: the upper or the lower one on marked frames, and where the mask before was one."""

    def __init__(self) -> None:
        super().__init__(view_size=128)
        self.marks: dict[int, tuple[Embedding, list[int]]] = {}

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        embedding = super().embed(pictures)
        marks = []
        for view in pictures:
            values = view.astype(int)
            grey = np.abs(values[..., 0] - values[..., 1]) < 20
            marks.append(int(np.sign(np.rint((values[..., 0] - values[..., 2])[grey].mean() / 2))))
        self.marks[id(embedding)] = embedding, marks
        return embedding

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        offered = super().segment(embedding, index, prompt)
        rows = np.flatnonzero((offered.logits[0] > 0).any(1))
        part = self.marks[id(embedding)][1][index]
        if prompt.logits is not None and not part:
            before = np.flatnonzero((prompt.logits > 0).any(1))
            if len(before) < 0.75 * len(rows):
                part = 1 if before.mean() < rows.mean() else -1
        logits = offered.logits.copy()
        if part > 0:
            logits[:, rows[0] + round(0.55 * len(rows)) :] = -8
        elif part < 0:
            logits[:, : rows[-1] + 1 - round(0.55 * len(rows))] = -8
        return Candidates(logits, offered.scores)


def half(area: float = 0.1, score: float = 0.9, state: State = State.TRACKED) -> Record:
    return Record(0, 0, state, Box(0, 0, 1, 1), score, area)


def joined(earlier: Sequence[Record], later: Sequence[Record], overlaps: Sequence[float]) -> str:
    taken = blend_passes(list(zip(earlier, later, strict=True)), overlaps, (0.1, 0.1))
    return "".join("<>"[not from_later] for from_later in taken)


def test_alike_halves_are_joined_in_the_middle() -> None:
    assert joined([half()] * 6, [half()] * 6, [1.0] * 6) == ">>><<<"


def test_halves_are_joined_where_their_masks_agree() -> None:
    assert joined([half()] * 6, [half()] * 6, [0.2, 0.3, 0.2, 0.2, 1.0, 0.2]) in (">>>>><", ">>>><<")
    assert joined([half()] * 6, [half()] * 6, [0.2, 1.0, 0.2, 0.2, 0.2, 0.2]) in (">><<<<", "><<<<<")


def test_a_half_that_goes_wrong_for_a_while_is_left_and_come_back_to() -> None:
    """Backwards the subject is lost amid the gap, and both agree again before it: there it is followed forwards."""
    lost = [half(), half(), half(0, 0, State.LOST), half(0.01, 0.7), half(), half()]
    agree = [0.95, 0.97, 0.0, 0.05, 0.9, 0.9]
    assert joined([half(score=0.8)] * 6, lost, agree)[2:4] == ">>"
    assert joined(lost, [half(score=0.8)] * 6, agree)[2:4] == "<<"


@pytest.mark.parametrize("wrong", [half(0.005), half(1.0), half(state=State.UNCERTAIN), half(score=0.2)])
def test_what_is_doubted_or_of_a_strange_size_is_left(wrong: Record) -> None:
    assert joined([half()] * 6, [half(), half(), wrong, wrong, wrong, half()], [0.5] * 6).startswith(">>>>>")


def test_one_frame_between_two_prompts() -> None:
    assert joined([half()], [half(state=State.LOST, area=0)], [0.0]) == ">"
    assert joined([half(state=State.LOST, area=0)], [half()], [0.0]) == "<"


def test_every_frame_once_in_order_and_prompts_are_prompted(tmp_path: Path) -> None:
    found = found_of(Clip(30), prompts_on(0, 12, 13, 25), tmp_path)
    assert [f.record.index for f in found] == list(range(30))
    assert [f.record.pts for f in found] == [10 + 3 * i for i in range(30)]
    states = [f.record.state for f in found]
    assert [i for i, state in enumerate(states) if state is State.PROMPTED] == [0, 12, 13, 25]
    assert {state for i, state in enumerate(states) if i not in (0, 12, 13, 25)} == {State.TRACKED}
    assert min(map(iou, found)) > 0.9


def test_a_correction_improves_what_lies_before_and_after(tmp_path: Path) -> None:
    clip = Clip(30, lambda i: marked(i, 8, -1))
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    alone = found_of(clip, prompts_on(0), tmp_path / "a", Drifting())
    corrected = found_of(clip, prompts_on(0, 20), tmp_path / "b", Drifting())
    assert max(map(iou, alone[8:])) < 0.75
    assert min(map(iou, corrected[:8])) > 0.9 and min(map(iou, corrected[9:])) > 0.9
    assert [f.logits.tobytes() for f in corrected[:9]] == [
        f.logits.tobytes() for f in alone[:9]
    ]  # both are wrong there: joined
    assert [f.record.index for f in corrected if f.record.state is State.PROMPTED] == [0, 20]


def test_where_halves_never_agree_the_joint_is_flagged(tmp_path: Path) -> None:
    alone = Settings().with_values({"track": {"search": False}}, "test")  # the search would find each half the other
    found = found_of(Clip(24, lambda i: marked(i, 1, 22)), prompts_on(0, 23), tmp_path, Drifting(), alone)
    joints = [f for f in found if any(finding.reason is Reason.PASSES_DIFFER for finding in f.record.findings)]
    assert len(joints) == 1 and 1 <= joints[0].record.index < 23
    assert joints[0].record.state.flagged


def test_backwards_is_forwards_on_the_reversed_clip(tmp_path: Path) -> None:
    count = 24
    back = found_of(Clip(count), prompts_on(count - 1), tmp_path, first=0)
    assert [f.record.index for f in back] == list(range(count))

    def turned(i: int) -> Frame:
        return replace(frame_of(count - 1 - i), index=i)

    moved = with_motion((turned(i) for i in range(count)), MotionSettings())
    prompt = prompts_on(count - 1)[count - 1]
    forth = list(track(moved, ColourModel(view_size=128), prompt))
    for tracked, found in zip(reversed(forth), back, strict=True):
        assert found.logits.tobytes() == tracked.logits.tobytes() and found.crop == tracked.crop
        assert replace(tracked.record, index=found.record.index) == found.record


@pytest.mark.parametrize("batch", [1, 4])
def test_a_range_is_tracked_back_to_its_first_frame_and_no_further(tmp_path: Path, batch: int) -> None:
    clip = Clip(40)
    found = found_of(clip, prompts_on(20), tmp_path, first=7, stop=31, batch=batch)
    assert [f.record.index for f in found] == list(range(7, 31))
    assert min(map(iou, found)) > 0.9
    assert min(start for start, _ in clip.asked) == 7
    assert all(stop is not None and stop <= 31 for _, stop in clip.asked)


def test_frames_are_given_backwards_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    most = 0

    class Counting(Clip):
        def __call__(self, start: int, stop: int | None) -> Iterator[Frame]:
            nonlocal most
            held.append((stop or self.count) - start)
            most = max(most, held[-1])
            return super().__call__(start, stop)

    monkeypatch.setattr(bidirectional, "_WINDOW_BYTES", 10 * SIZE[0] * SIZE[1] * 3)
    clip = Counting(100)
    assert [f.index for f in backwards(clip, 3, 70)] == list(range(70, 2, -1))
    assert most == 10
    with pytest.raises(UsageError, match="prompt on frame 120: the clip ends before it"):
        list(backwards(clip, 100, 120))


def test_memory_does_not_grow_with_the_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bidirectional, "_WINDOW_FRAMES", 4)

    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        still = Clip(count, lambda i: frame_of(i, lambda _: walking(0)))
        prompts = prompts_on(0, count - 1, centre=lambda _: walking(0))
        tracemalloc.start()
        try:
            for _ in track_prompts(still, prompts, ColourModel(view_size=128), Settings(), folder):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(8)  # what is loaded once
    assert peak(48) < peak(16) * 1.3


class Threads(ColourModel):
    """Notes the thread of each call."""

    def __init__(self) -> None:
        super().__init__(view_size=128)
        self.calls: list[tuple[str, threading.Thread]] = []

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        self.calls.append(("embed", threading.current_thread()))
        return super().embed(pictures)

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        self.calls.append(("segment", threading.current_thread()))
        return super().segment(embedding, index, prompt)


def test_the_model_is_called_in_one_thread_of_its_own(tmp_path: Path) -> None:
    """Threads that call it in turn would each have a pool of OpenMP threads, which hold each other up."""
    model = Threads()
    found_of(Clip(24), prompts_on(4, 14), tmp_path, model)
    callers = {thread for _, thread in model.calls}
    assert [thread.name for thread in callers] == ["model"]
    assert threading.main_thread() not in callers
    names = [name for name, _ in model.calls]
    passes = 20 + 4 + 9  # frames tracked forwards and backwards
    assert names.count("embed") <= passes + 2 + 4  # each prompt's frame once more a pass, and as an anchor
    assert names.count("segment") <= passes + 2  # a correction is asked for with and without the last mask


def test_prompted_frames_are_told_to_every_half(tmp_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    class Comparing(ColourModel):
        references = 3

        def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
            if prompt.logits is not None:
                seen.append(tuple(r.prompted for r in prompt.references))
                assert all(isinstance(r, Reference) for r in prompt.references)
            return super().segment(embedding, index, prompt)

    found_of(Clip(40), prompts_on(0, 15, 30), tmp_path, Comparing(view_size=128))
    alone = [told for told in seen if told[:2] != (True, True)]
    assert len(alone) == 16  # forwards from the first prompt, and the two corrections themselves
    assert all(told[0] and not any(told[1:]) for told in alone)
    assert len(seen) > 3 * len(alone) and max(map(len, seen)) == 3
    assert all(not any(told[2:]) for told in seen)


def test_a_prompt_beyond_the_clip_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="prompt on frame 50: the clip ends before it"):
        found_of(Clip(40), prompts_on(0, 50), tmp_path)


# ------------------------------------------------------------------------------------------------- whole jobs


def plate(tmp_path: Path, count: int = 14) -> Path:
    return write_movie(tmp_path / "plate.mov", count, lambda i: picture(disc(SIZE, walking(i), RADIUS)))


SETTINGS = Settings().with_values({"model": {"name": "fake-colour"}}, "test")


def pixels(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


def test_one_prompt_on_the_first_frame_is_one_pass_and_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mam_video.jobs.mask_sources.track_prompts", None)
    movie, prompts = plate(tmp_path, 6), prompts_on(0)
    matte_clip(movie, f"{tmp_path}/a/:alpha", prompts[0], SETTINGS)
    matte_clip(movie, f"{tmp_path}/b/:alpha", prompts, SETTINGS)
    assert pixels(tmp_path / "a") == pixels(tmp_path / "b") and len(pixels(tmp_path / "a")) == 6


def test_a_job_with_prompts_on_several_frames(tmp_path: Path) -> None:
    movie = plate(tmp_path)
    tracked: list[int] = []
    report = matte_clip(
        movie, f"{tmp_path}/m/:alpha", prompts_on(4, 11), SETTINGS, backward=True,
        track_to=tmp_path / "t.track", on_tracked=lambda: tracked.append(1),
    )  # fmt: skip
    assert [r.index for r in report.records] == list(range(14))
    assert [r.index for r in report.records if r.state is State.PROMPTED] == [4, 11]
    assert len(tracked) == 10 + 5 + 7  # forwards; back from 4; back from 11 to 5
    with Track.load(tmp_path / "t.track") as kept:
        assert (kept.first, kept.count) == (0, 14)
    matte_clip(movie, f"{tmp_path}/n/:alpha", None, SETTINGS, track_from=tmp_path / "t.track")
    assert pixels(tmp_path / "m") == pixels(tmp_path / "n")
    matte_clip(movie, f"{tmp_path}/r/:alpha", prompts_on(4, 11), SETTINGS, backward=True, frames=(2, 12))
    assert len(pixels(tmp_path / "r")) == 11
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("stop", [0, 6])
def test_what_was_tracked_ahead_is_not_tracked_again(tmp_path: Path, stop: int) -> None:
    """A run that is cut off while it mattes goes on with the track that it has, to the same bits."""
    movie = plate(tmp_path)
    whole = matte_clip(movie, f"{tmp_path}/whole/:alpha", prompts_on(0, 11), SETTINGS)

    def interrupt(matted: Matted, report: RunReport) -> None:
        if matted.frame.index == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matte_clip(movie, f"{tmp_path}/m/:alpha", prompts_on(0, 11), SETTINGS, resume=True, on_frame=interrupt)
    with pytest.raises(UsageError, match="prompt changed"):
        matte_clip(movie, f"{tmp_path}/m/:alpha", prompts_on(0, 10), SETTINGS, resume=True)
    tracked: list[int] = []
    report = matte_clip(
        movie, f"{tmp_path}/m/:alpha", prompts_on(0, 11), SETTINGS, resume=True, on_tracked=lambda: tracked.append(1)
    )
    assert not tracked
    assert report.records == whole.records
    assert pixels(tmp_path / "m") == pixels(tmp_path / "whole")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("frames", "more", "says"),
    [
        ((4,), {}, "the first prompt is on frame 4"),
        ((0, 9), {"frames": (0, 6)}, "prompt on frame 9: lies outside the range 0-6"),
        ((0, 9), {"frames": (3, None)}, "prompt on frame 0: lies outside the range 3-"),
        ((0, 99), {}, "prompt on frame 99: the clip ends before it"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_left(
    tmp_path: Path, frames: Sequence[int], more: dict[str, object], says: str
) -> None:
    movie = plate(tmp_path, 12)
    box = Prompt(Box(20, 40, 60, 80))
    with pytest.raises(UsageError, match=says):
        matte_clip(movie, f"{tmp_path}/m/:alpha", Prompts.of(dict.fromkeys(frames, box)), SETTINGS, **more)  # type: ignore[arg-type]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plate.mov"]


def test_movies_are_read_backwards_exactly(tmp_path: Path) -> None:
    with open_clip(plate(tmp_path, 9)) as reader:
        forth = list(reader.frames())
        back = list(backwards(reader.frames, 0, 8))
    assert [(f.index, f.pts) for f in reversed(back)] == [(f.index, f.pts) for f in forth]
    assert all(np.array_equal(b.rgb8, f.rgb8) for b, f in zip(reversed(back), forth, strict=True))


class Taking(Drifting):
    """Takes ground as well on a marked frame, while the clip is read for the first time; with `ever` from then on."""

    def __init__(self, clip: Clip, ever: bool) -> None:
        super().__init__()
        self.clip, self.ever, self.slipped = clip, ever, False

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        offered = ColourModel.segment(self, embedding, index, prompt)
        marked = bool(self.marks[id(embedding)][1][index]) and len(self.clip.asked) == 1
        self.slipped |= marked and self.ever
        if not (marked or self.slipped):
            return offered
        return Candidates(cv2.dilate(offered.logits[0], np.ones((5, 5)))[None], offered.scores)


LAX = {"review_return": 0.85, "min_similarity": 0.2, "review_similarity": 0.3}  # ground in the mask is not flagged


def found_in_passes(count: int, folder: Path, ever: bool) -> list[MaskObservation]:
    settings = Settings().with_values({"track": {"passes": count, **LAX}}, "test")
    clip = Clip(20, lambda i: marked(i, 9, -1))
    (folder / str(count)).mkdir()
    return found_of(clip, prompts_on(0), folder / str(count), Taking(clip, ever), settings)


def test_a_second_pass_from_the_end_mends_what_the_first_one_missed(tmp_path: Path) -> None:
    one, two = found_in_passes(1, tmp_path, False), found_in_passes(2, tmp_path, False)
    assert iou(one[9]) < 0.85 < 0.9 < iou(two[9])
    assert [found.record.index for found in two] == list(range(20))
    assert two[19].record.state is State.TRACKED and np.array_equal(two[19].logits, one[19].logits)


def test_a_second_pass_that_does_not_arrive_at_the_prompt_is_not_used(tmp_path: Path) -> None:
    one, two = found_in_passes(1, tmp_path, True), found_in_passes(2, tmp_path, True)
    assert iou(one[15]) < 0.85 and one[15].record.state is State.TRACKED
    assert [found.record for found in one] == [found.record for found in two]
    assert all(np.array_equal(a.logits, b.logits) for a, b in zip(one, two, strict=True))
