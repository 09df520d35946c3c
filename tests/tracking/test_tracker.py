"""Scripted clips with known truth, followed with the fake model; and the track's file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mam_video.core.crop import Crop
from mam_video.core.errors import MediaError, UsageError
from mam_video.core.frames import Frame, State
from mam_video.core.geometry import Box, Point
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import MotionSettings, ViewSettings
from mam_video.models.base import Candidates, Embedding, ViewPrompt
from mam_video.models.colour_model import ColourModel
from mam_video.motion.flow import Motion, with_motion
from mam_video.prompts.prompt import Prompt
from mam_video.tracking.mask_ops import carried_logits
from mam_video.tracking.search_region import displacement, limit_shrink
from mam_video.tracking.track_file import Track, TrackWriter, packed, saved, unpacked
from mam_video.tracking.tracker import track
from mam_video.tracking.types import TrackedFrame

SIZE = (240, 320)
COLOUR = np.array([20, 220, 40])
Disc = tuple[float, float, float]  # x, y, radius
Moved = list[tuple[Frame, Motion | None]]


def ground() -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(300, 480)).astype(np.float32)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 30, 220, cv2.NORM_MINMAX)


GROUND = ground()


def covered(disc: Disc, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The disc's alpha, (H, W) float."""
    x, y, radius = disc
    yy, xx = np.mgrid[: size[0], : size[1]] + 0.5
    return np.clip(radius - np.hypot(xx - x, yy - y) + 0.5, 0, 1)


def clip(path_of: Callable[[int], Disc | None], count: int, start: int = 0) -> Moved:
    """A green disc over a textured grey ground that the camera pans along, by a pixel a frame."""

    def frames() -> Iterator[Frame]:
        for i in range(start, start + count):
            grey = GROUND[: SIZE[0], i % 100 : i % 100 + SIZE[1], None]
            disc = path_of(i)
            alpha = covered(disc)[..., None] if disc is not None else 0.0
            rgb = np.rint(alpha * COLOUR + (1 - alpha) * grey).astype(np.uint8)
            yield Frame(i, 100 + i * 1001, Fraction(1, 24000), np.ascontiguousarray(np.broadcast_to(rgb, (*SIZE, 3))))

    return list(with_motion(frames(), MotionSettings()))


def box_of(disc: Disc) -> Box:
    x, y, radius = disc
    return Box(x - radius, y - radius, x + radius, y + radius)


def mask_of(tracked: TrackedFrame) -> np.ndarray:
    logits = torch.from_numpy(tracked.logits.astype(np.float32))[None, None]
    part = tracked.crop.to_rectangle(logits)[0, 0].numpy() > 0
    return tracked.crop.paste(part, tracked.frame.size)


def codes(tracked: TrackedFrame) -> list[Reason]:
    return [finding.reason for finding in tracked.record.findings]


def iou(tracked: TrackedFrame, disc: Disc) -> float:
    mask, truth = mask_of(tracked), covered(disc) > 0.5
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))


def close(box: Box, truth: Box, by: float) -> bool:
    return max(abs(a - b) for a, b in zip(box.xyxy, truth.xyxy, strict=True)) <= by


def walking(i: int) -> Disc:
    return 60 + 4 * i, 120 + 15 * np.sin(i / 4), 24


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("roi", ["auto", "frame"])
def test_a_walk_is_followed_to_the_pixel(roi: str, batch: int) -> None:
    moved = clip(walking, 24)
    prompt = Prompt(box_of(walking(0)))
    followed = list(track(moved, ColourModel(), prompt, view=ViewSettings(roi=roi), batch=batch))
    assert [t.frame for t in followed] == [f for f, _ in moved]
    assert [t.motion for t in followed] == [m for _, m in moved]
    assert followed[0].record.state is State.PROMPTED
    assert {t.record.state for t in followed[1:]} == {State.TRACKED}
    for t in followed:
        truth = walking(t.frame.index)
        assert close(t.record.box, box_of(truth), 1.0 if roi == "auto" else 1.5)
        assert iou(t, truth) > 0.95
        assert t.record.area == pytest.approx(np.pi * 24**2 / (240 * 320), rel=0.05)
        assert t.record.pts == t.frame.pts and t.record.findings == ()


def test_what_grows_is_followed_and_gets_new_views() -> None:
    def growing(i: int) -> Disc:
        return 160, 120, 12 * 1.08**i

    followed = list(track(clip(growing, 28), ColourModel(), Prompt(box_of(growing(0)))))
    assert not any(t.record.state.flagged for t in followed)
    assert all(iou(t, growing(t.frame.index)) > 0.93 for t in followed)
    views = [t.crop for t in followed]
    assert views[-1].width > 4 * views[0].width / 3
    assert len(set(views)) < len(views) / 2


def test_a_view_is_held_as_long_as_the_subject_fits() -> None:
    def trembling(i: int) -> Disc:
        return 160 + 3 * (-1) ** i, 120 + 2 * (i % 3), 30

    followed = list(track(clip(trembling, 30), ColourModel(), Prompt(box_of(trembling(0)))))
    assert len({t.crop for t in followed}) == 1


def test_a_view_is_left_only_when_it_must_be_and_holds_the_subject() -> None:
    followed = list(track(clip(walking, 40), ColourModel(), Prompt(box_of(walking(0)))))
    views = [t.crop for t in followed]
    changes = sum(a != b for a, b in pairwise(views))
    assert 1 <= changes <= 13
    for t in followed:
        true = box_of(walking(t.frame.index))
        inside = t.crop.box
        assert inside.x0 <= true.x0 and inside.y0 <= true.y0 and inside.x1 >= true.x1 and inside.y1 >= true.y1


def test_hidden_is_lost_and_found_again() -> None:
    hidden = range(10, 18)

    def path(i: int) -> Disc | None:
        return None if i in hidden else walking(i)

    followed = list(track(clip(path, 26), ColourModel(), Prompt(box_of(walking(0)))))
    states = [t.record.state for t in followed]
    assert all(states[i] is State.LOST for i in hidden)
    assert all(followed[i].record.findings for i in hidden)
    assert states[18] is State.RECOVERED and followed[18].record.findings == (Finding(Reason.FOUND_AGAIN, 8.0),)
    assert all(s is State.TRACKED for s in states[1:10] + states[19:])
    assert all(iou(followed[i], walking(i)) > 0.95 for i in range(18, 26))
    assert all(not (followed[i].logits > 0).any() and followed[i].record.area == 0 for i in hidden)


def test_what_leaves_the_picture_is_lost_with_an_empty_mask() -> None:
    def leaving(i: int) -> Disc:
        return 250 + 8 * i, 120, 24

    followed = list(track(clip(leaving, 30), ColourModel(), Prompt(box_of(leaving(0)))))
    states = [t.record.state for t in followed]
    assert all(s is not State.LOST for s in states[:10])
    assert all(s is State.LOST for s in states[14:])
    assert not mask_of(followed[-1]).any()
    assert codes(followed[-1]) == [Reason.LEFT_FRAME]
    h, w = SIZE
    for t in followed:
        assert t.record.box.clipped((h, w)) is not None


def test_a_jump_is_never_silent() -> None:
    """The subject jumps far away, as over a cut: no frame that does not show it is called tracked."""

    def jumping(i: int) -> Disc:
        return (60, 60, 20) if i < 8 else (260, 190, 20)

    followed = list(track(clip(jumping, 16), ColourModel(), Prompt(box_of(jumping(0)))))
    for t in followed:
        if not t.record.state.flagged:
            assert iou(t, jumping(t.frame.index)) > 0.9
    assert followed[8].record.state.flagged


def test_points_alone_find_the_subject_and_then_its_view() -> None:
    prompt = Prompt(points=(Point(60, 120),))
    followed = list(track(clip(walking, 6), ColourModel(), prompt))
    assert followed[0].record.state is State.PROMPTED
    assert close(followed[0].record.box, box_of(walking(0)), 1.5)
    assert followed[3].crop.width < SIZE[1]
    assert close(followed[3].record.box, box_of(walking(3)), 1)


def test_nothing_where_the_prompt_points_is_said() -> None:
    followed = list(track(clip(lambda i: None, 3), ColourModel(), Prompt(Box(100, 50, 160, 110))))
    assert followed[0].record.state is State.LOST
    assert codes(followed[0]) == [Reason.NOTHING_AT_PROMPT]
    assert followed[0].record.box == Box(100, 50, 160, 110)
    assert all(t.record.state is State.LOST for t in followed)


def test_a_prompt_outside_is_refused() -> None:
    with pytest.raises(UsageError, match="outside"):
        list(track(clip(walking, 2), ColourModel(), Prompt(Box(400, 10, 500, 50))))


def test_no_frames_no_track() -> None:
    assert list(track([], ColourModel(), Prompt(Box(0, 0, 10, 10)))) == []


class Counting(ColourModel):
    """Remembers how many pictures each embedding holds."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        self.batches.append(len(pictures))
        return super().embed(pictures)


def test_batches_fall_on_absolute_frame_numbers() -> None:
    model = Counting()
    moved = clip(lambda i: (160, 120, 30), 9, start=6)  # frames 6..14
    followed = list(track(moved, model, Prompt(Box(130, 90, 190, 150)), batch=4))
    assert model.batches == [2, 4, 3]
    assert [t.embedding and t.embedding[1] for t in followed] == [0, 1, 0, 1, 2, 3, 0, 1, 2]


def test_an_embedding_is_given_only_where_its_batch_is_what_a_saved_track_would_make() -> None:
    moved = clip(walking, 24)
    followed = list(track(moved, Counting(), Prompt(box_of(walking(0))), batch=8))
    assert len({t.crop for t in followed}) > 3
    for t in followed:
        run = [u for u in followed if u.crop == t.crop and u.frame.index // 8 == t.frame.index // 8]
        if t.embedding is not None:
            assert t.embedding[0].count == len(run) and run[t.embedding[1]] is t
    assert any(t.embedding is not None for t in followed)


class Remembering(ColourModel):
    """Asks for references and motion, and keeps what it was asked with."""

    references = 3
    motion = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[ViewPrompt] = []

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        self.asked.append(prompt)
        return super().segment(embedding, index, prompt)


def test_references_are_the_prompted_frame_and_confident_ones() -> None:
    hidden = range(12, 15)
    model = Remembering()
    list(track(clip(lambda i: None if i in hidden else walking(i), 24), model, Prompt(box_of(walking(0)))))
    assert model.asked[0].references == () and model.asked[0].logits is None
    assert all(p.references[0].prompted for p in model.asked[1:])
    assert [len(p.references) for p in model.asked[1:]] == [1] * 5 + [2] * 5 + [3] * 13
    assert sum(r.prompted for r in model.asked[-1].references) == 1
    # The camera's pan is taken away: the ground stands still in what the model is told.
    apart = model.asked[0].motion
    assert apart is not None and apart.shape == (64, 64, 2)
    assert np.abs(np.median(apart[:6].reshape(-1, 2), axis=0)).max() < 2  # view pixels
    assert model.asked[8].motion is not None


class Tempting(ColourModel):
    """Offers, with a better score, a mask somewhere else."""

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        right = super().segment(embedding, index, prompt).logits[0]
        wrong = np.full_like(right, -5)
        wrong[2:20, 2:20] = 5
        return Candidates(np.stack([wrong, right]), np.array([0.97, 0.8], np.float32))


def test_not_the_score_alone_chooses() -> None:
    followed = list(track(clip(walking, 10), Tempting(), Prompt(box_of(walking(0))), view=ViewSettings(roi="frame")))
    assert all(iou(t, walking(t.frame.index)) > 0.9 for t in followed)


class Spotted(ColourModel):
    """Finds, far from the subject, a part that is not there."""

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        found = super().segment(embedding, index, prompt)
        logits = found.logits.copy()
        if prompt.logits is not None:
            logits[0, 0:6, 50:60] = 5
        return Candidates(logits, found.scores)


def test_parts_that_nothing_speaks_for_are_taken_off() -> None:
    followed = list(track(clip(walking, 8), Spotted(), Prompt(box_of(walking(0))), view=ViewSettings(roi="frame")))
    for t in followed:
        assert close(t.record.box, box_of(walking(t.frame.index)), 1.5)
        assert iou(t, walking(t.frame.index)) > 0.9


def textured(count: int, step: int, beside: Callable[[np.ndarray, int], None], start: int = 90) -> Moved:
    """A disc walks `step` pixels a frame. It has a texture: its motion can be seen. `beside` draws more over it."""
    noise = np.random.default_rng(3).normal(size=(80, 80)).astype(np.float32)
    skin = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0.7, 1.1, cv2.NORM_MINMAX)

    def frames() -> Iterator[Frame]:
        for frame, _ in clip(lambda i: None, count):
            x = start + step * frame.index
            rgb = frame.rgb.astype(np.float32)
            part = rgb[80:160, x - 40 : x + 40]  # less at the picture's right border
            alpha = covered((x, 120, 36))[80:160, x - 40 : x + 40, None]
            part[:] = alpha * COLOUR * skin[:, : part.shape[1], None] + (1 - alpha) * part
            beside(rgb, frame.index)
            yield Frame(frame.index, frame.pts, frame.time_base, np.rint(rgb).astype(frame.rgb.dtype))

    return list(with_motion(frames(), MotionSettings()))


def test_what_comes_out_behind_a_pole_is_the_subject_still() -> None:
    def pole(rgb: np.ndarray, index: int) -> None:
        rgb[:, 170:188] = 90

    moved = textured(24, 6, pole)
    prompt = Prompt(box_of((90, 120, 36)))
    for t in track(moved, ColourModel(), prompt):
        x = 90 + 6 * t.frame.index
        truth = covered((x, 120, 36)) > 0.5
        truth[:, 170:188] = False
        mask = mask_of(t)
        overlap = (mask & truth).sum() / (mask | truth).sum()
        # It comes out in frame 11, too far off to be known at first.
        assert overlap > (0.45 if 11 <= t.frame.index <= 16 else 0.95), t.record
        assert t.record.state is not State.LOST


def test_what_stays_behind_is_taken_off_and_said() -> None:
    """A patch of the subject's colour stands on the ground, which the camera pans along; first the disc touches it."""
    bumps = np.random.default_rng(4).uniform(0.7, 1.1, (36, 36, 1))

    def patch(rgb: np.ndarray, index: int) -> None:
        rgb[102:138, 40 - index : 76 - index] = COLOUR * bumps

    followed = list(track(textured(16, 6, patch), ColourModel(), Prompt(Box(40, 84, 126, 156))))
    there = [bool(mask_of(t)[110:130, 45 - t.frame.index : 70 - t.frame.index].any()) for t in followed]
    assert there[:5] == [True] * 5 and there[-4:] == [False] * 4
    removed = [t.record for t in followed if Reason.STATIC_PART_REMOVED in codes(t)]
    assert removed and all(record.state is State.UNCERTAIN for record in removed)
    assert close(followed[-1].record.box, box_of((90 + 6 * 15, 120, 36)), 2)


def test_what_stays_behind_is_not_the_subject_though_that_one_is_half_out_of_the_picture() -> None:
    """A patch stands beside the border. When the disc has come off it, more of the patch is seen than of the disc."""
    bumps = np.random.default_rng(4).uniform(0.7, 1.1, (70, 45, 1))

    def patch(rgb: np.ndarray, index: int) -> None:
        rgb[85:155, 205:250] = COLOUR * bumps

    followed = list(track(textured(14, 4, patch, start=276), ColourModel(), Prompt(Box(205, 84, 312, 156))))
    there = [bool(mask_of(t)[90:150, 210:240].any()) for t in followed]
    assert there[:5] == [True] * 5 and there[-2:] == [False] * 2
    assert any(Reason.STATIC_PART_REMOVED in codes(t) for t in followed)
    assert close(followed[-1].record.box, Box(276 + 4 * 13 - 36, 84, 320, 156), 3)


class Leaking(ColourModel):
    """Takes two places of the ground, where the disc's left is first, for parts of it."""

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        found = super().segment(embedding, index, prompt)
        logits = found.logits.copy()
        m = logits.shape[1]
        for x0, x1 in ((56, 66), (72, 82)):
            logits[0, 112 * m // 320 : 128 * m // 320, x0 * m // 320 : x1 * m // 320] = 5
        return Candidates(logits, found.scores)


def test_what_is_taken_off_again_is_said_again_and_flagged_once() -> None:
    moved = textured(16, 4, lambda rgb, index: None, start=104)
    followed = list(track(moved, Leaking(), Prompt(Box(56, 84, 140, 156)), view=ViewSettings(roi="frame")))
    said = [Reason.STATIC_PART_REMOVED in codes(t) for t in followed]
    assert sum(said) == 2
    states = [t.record.state for t in followed if t.record.state is not State.TRACKED]
    assert states == [State.PROMPTED, State.UNCERTAIN]
    assert followed[said.index(True)].record.state is State.UNCERTAIN


def test_a_stride_is_that_of_the_side_that_is_seen() -> None:
    before = Box(100, 100, 200, 150)
    assert displacement(before, Box(106, 100, 200, 150)) == (6, 0)
    assert displacement(before, Box(106, 97, 206, 147)) == (6, -3)
    assert displacement(before, Box(95, 104, 205, 146)) == (0, 0)  # it grows across and shrinks down


def test_a_box_grows_at_once_and_shrinks_slowly() -> None:
    reach = Box(100, 100, 200, 150)
    assert limit_shrink(reach, Box(90, 90, 210, 160), 0.05).xyxy == (90, 90, 210, 160)
    assert limit_shrink(reach, Box(120, 101, 150, 150), 0.05).xyxy == (105, 101, 195, 150)


def test_logits_are_carried_between_views_along_the_motion() -> None:
    h, w = SIZE
    flow = np.zeros((h, w, 2), np.float32)
    flow[..., 0] = 10
    motion = Motion(0, 1, SIZE, flow, -flow)
    old, new = Crop(40, 40, 120, 120, 256), Crop(60, 30, 150, 150, 256)
    model = ColourModel()
    alpha = covered((100, 100, 30))
    rgb = np.rint(alpha[..., None] * COLOUR + (1 - alpha[..., None]) * 120).astype(np.uint8)
    logits = model.segment(model.embed([old.cut(rgb)]), 0, ViewPrompt()).logits[0]
    carried = carried_logits(logits, old, new, motion, 64)
    mask = new.to_rectangle(torch.from_numpy(carried)[None, None])[0, 0].numpy() > 0
    yy, xx = np.nonzero(new.paste(mask, SIZE))
    assert (xx.mean() + 0.5, yy.mean() + 0.5) == pytest.approx((110, 100), abs=0.3)
    assert np.sqrt(len(xx) / np.pi) == pytest.approx(30, abs=0.5)


# The file


@pytest.fixture(scope="module")
def walk() -> Moved:
    return clip(walking, 16)


@pytest.fixture
def written(tmp_path: Path, walk: Moved) -> tuple[Path, list[TrackedFrame]]:
    path = tmp_path / "walk.track"
    model = ColourModel()
    with TrackWriter(path, SIZE, model, {"view": {"roi": "auto"}}) as writer:
        live = list(saved(track(walk, model, Prompt(box_of(walking(0)))), writer))
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["walk.track"]
    return path, live


def test_a_saved_track_is_the_live_one(written: tuple[Path, list[TrackedFrame]], walk: Moved) -> None:
    path, live = written
    with Track.load(path, SIZE) as loaded:
        assert (loaded.first, len(loaded), loaded.model, loaded.mask_size) == (0, 16, "fake-colour", 64)
        assert loaded.settings == {"view": {"roi": "auto"}}
        for ours, theirs in zip(loaded.follow(walk), live, strict=True):
            assert ours.record == theirs.record and ours.crop == theirs.crop
            assert ours.frame is theirs.frame and ours.motion is theirs.motion
            assert ours.logits.tobytes() == theirs.logits.tobytes() and ours.logits.dtype == np.float16
            assert ours.embedding is None
        assert [t.frame.index for t in loaded.follow(walk[5:9])] == [5, 6, 7, 8]
        assert loaded.frame(11).record == live[11].record


def test_the_same_track_is_the_same_file(tmp_path: Path, walk: Moved) -> None:
    for name in ("a.track", "b.track"):
        with TrackWriter(tmp_path / name, SIZE, ColourModel()) as writer:
            for item in track(walk[:4], ColourModel(), Prompt(box_of(walking(0)))):
                writer.write(item)
    assert (tmp_path / "a.track").read_bytes() == (tmp_path / "b.track").read_bytes()


def test_a_failed_run_leaves_nothing(tmp_path: Path, walk: Moved) -> None:
    def failing() -> Iterator[TrackedFrame]:
        yield from track(walk[:3], ColourModel(), Prompt(box_of(walking(0))))
        raise RuntimeError("the model fell over")

    with (
        pytest.raises(RuntimeError, match="fell over"),
        TrackWriter(tmp_path / "x.track", SIZE, ColourModel()) as writer,
    ):
        list(saved(failing(), writer))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_track_is_kept(written: tuple[Path, list[TrackedFrame]]) -> None:
    path, _ = written
    with pytest.raises(UsageError, match="exists"):
        TrackWriter(path, SIZE, ColourModel())
    before = path.read_bytes()
    TrackWriter(path, SIZE, ColourModel(), overwrite=True).abort()
    assert path.read_bytes() == before


def test_a_track_serves_a_model_of_another_size(written: tuple[Path, list[TrackedFrame]], walk: Moved) -> None:
    path, _ = written
    model = ColourModel(view_size=512)
    with Track.load(path) as loaded:
        for t in loaded.follow(walk, model):
            assert t.crop.size == 512 and t.logits.shape == (128, 128)
            assert iou(t, walking(t.frame.index)) > 0.95


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy of a track with its members changed or left out."""
    other = path.with_name("changed.track")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            content = change(name, source.read(name))
            if content is not None:
                target.writestr(name, content)
    return other


def test_a_wrong_or_damaged_track_is_one_line(
    written: tuple[Path, list[TrackedFrame]], walk: Moved, tmp_path: Path
) -> None:
    path, _ = written

    def fails(wrong: Path, kind: type[Exception], says: str, size: tuple[int, int] | None = SIZE) -> None:
        with pytest.raises(kind, match=says) as caught:
            list(Track.load(wrong, size).follow(walk))
        assert "\n" not in str(caught.value) and str(wrong) in str(caught.value)

    fails(tmp_path / "none.track", UsageError, "no such track file")
    fails(path, UsageError, "made from a clip of 320x240, this one is 640x480", (480, 640))
    cut = tmp_path / "cut.track"
    cut.write_bytes(path.read_bytes()[:-200])
    fails(cut, UsageError, "not a track file, or was cut off")
    text = tmp_path / "text.track"
    text.write_text("hello")
    fails(text, UsageError, "not a track file")
    fails(rewritten(path, lambda n, c: None if n == "track.json" else c), UsageError, "not a track file")
    fails(rewritten(path, lambda n, c: None if n == "end.json" else c), MediaError, "not whole")
    fails(rewritten(path, lambda n, c: None if n.endswith("7.f16") else c), MediaError, "not whole")
    fails(rewritten(path, lambda n, c: c[:-2] if n.endswith("7.f16") else c), MediaError, "frame 7 .* damaged")
    fails(rewritten(path, lambda n, c: b"{" if n.endswith("7.json") else c), MediaError, "damaged")
    fails(rewritten(path, lambda n, c: b"{}" if n.endswith("7.json") else c), MediaError, "damaged")
    newer = rewritten(path, lambda n, c: c.replace(b'"version": 2', b'"version": 9') if n == "track.json" else c)
    fails(newer, UsageError, "version 9")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    flipped = tmp_path / "flipped.track"
    flipped.write_bytes(bytes(raw))
    fails(flipped, MediaError, "damaged|not whole|cut off")


def test_a_track_of_another_clip_is_refused(written: tuple[Path, list[TrackedFrame]], walk: Moved) -> None:
    path, _ = written
    later = [(Frame(f.index, f.pts + 1, f.time_base, f.rgb), m) for f, m in walk]
    longer = clip(walking, 18)
    with Track.load(path) as loaded:
        with pytest.raises(UsageError, match=r"a different clip: its frame 0 has another time \(100 there, 101 here\)"):
            list(loaded.follow(later))
        with pytest.raises(UsageError, match="holds frames 0-15; frame 16"):
            list(loaded.follow(longer))


def test_what_is_in_the_file_can_be_read_by_hand(written: tuple[Path, list[TrackedFrame]]) -> None:
    path, live = written
    with zipfile.ZipFile(path) as archive:
        entry = json.loads(archive.read("frames/00000003.json"))
        assert entry["state"] == "tracked" and entry["box"] == list(live[3].record.box.xyxy)
        low, high = np.frombuffer(archive.read("frames/00000003.f16"), np.uint8).reshape(2, -1)
    by_hand = (low.astype(np.uint16) | high.astype(np.uint16) << 8).view(np.float16).reshape(64, 64)
    np.testing.assert_array_equal(by_hand, live[3].logits)


def test_a_track_without_codes_still_loads(written: tuple[Path, list[TrackedFrame]], walk: Moved) -> None:
    path, live = written
    texts = ["score 0.55 is below 0.6", "only 40% of it is seen"]

    def older(name: str, content: bytes) -> bytes:
        if not name.endswith("7.json"):
            return content
        entry = json.loads(content)
        del entry["findings"]
        return json.dumps({**entry, "reasons": texts}).encode()

    with Track.load(rewritten(path, older)) as loaded:
        found = list(loaded.follow(walk))
    assert [finding.text for finding in found[7].record.findings] == texts
    assert codes(found[7]) == [Reason.OTHER, Reason.PARTLY_SEEN]
    assert [t.record for t in found[8:]] == [t.record for t in live[8:]]


@pytest.mark.parametrize("cut", [5, 6, 7, 8, 10])
def test_a_track_that_was_broken_off_goes_on_bit_for_bit(cut: int) -> None:
    """Through parts that stand still and are taken off, from what was packed of the first frames."""
    bumps = np.random.default_rng(4).uniform(0.7, 1.1, (36, 36, 1))

    def patch(rgb: np.ndarray, index: int) -> None:
        rgb[102:138, 40 - index : 76 - index] = COLOUR * bumps

    moved, prompt = textured(16, 6, patch), Prompt(Box(40, 84, 126, 156))
    whole = list(track(moved, ColourModel(), prompt))
    known = [unpacked(packed(t.observation)) for t in whole[:cut]]
    again = list(track(moved, ColourModel(), prompt, known=known))
    for a, b in zip(whole, again, strict=True):
        assert (a.record, a.crop) == (b.record, b.crop) and (a.logits == b.logits).all()
        if a.frame.index >= cut:
            ages = a.observation.static_age, b.observation.static_age
            assert ages[0] is not None and ages[1] is not None and (ages[0] == ages[1]).all()
