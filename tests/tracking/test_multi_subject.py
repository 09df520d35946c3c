"""Several subjects in one clip: each keeps its name and its pixels, and a frame is embedded once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import Settings
from mam_video.matting.compositing import divided
from mam_video.matting.pipeline import matte_frames
from mam_video.models.base import Candidates, Embedding, ViewPrompt, shares_crop
from mam_video.models.classic import ClassicModel
from mam_video.models.lite import LiteModel
from mam_video.models.mam import MamModel
from mam_video.motion.flow import with_motion
from mam_video.prompts.prompt import Prompt
from mam_video.tracking import query, tracker
from mam_video.tracking.multi_subject import track_subjects
from tests.synthetic import disc

SIZE = (144, 256)
RED, BLUE = (230, 40, 40), (40, 60, 230)
GREY = np.array([128.0, 120.0, 136.0])
RADIUS = 18.0
Way = Callable[[int], tuple[float, float]]


class AllColours:
    """A segmenter that cannot tell colours apart: the mask is what is colourful and touches the box (or the mask).

    The matte is how colourful a pixel is, near the mask. Counts what it embeds.
    """

    name = "all-colours"
    view_size = 256
    mask_size = 64
    shared_crop = True

    def __init__(self) -> None:
        self.weights: dict[str, str] = {}
        self.embedded: list[int] = []

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        self.embedded.append(len(pictures))
        h, w = pictures[0].shape[:2]
        alphas = np.zeros((len(pictures), self.view_size, self.view_size), np.float32)
        for alpha, picture in zip(alphas, pictures, strict=True):
            spread = picture.max(2).astype(np.float32) - picture.min(2)
            alpha[:h, :w] = np.clip((spread - 16) / (190 - 16), 0, 1)
        return Embedding(len(pictures), (h, w), alphas)

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        m = self.mask_size
        coarse = cv2.resize(embedding.data[index], (m, m), interpolation=cv2.INTER_AREA)
        logits = (coarse - np.float32(0.5)) * np.float32(20)
        _, labels = cv2.connectedComponents((logits > 0).astype(np.uint8))
        assert prompt.box is not None
        x0, y0, x1, y1 = (max(round(v * m / self.view_size), 0) for v in prompt.box.grown(-2).xyxy)
        touched = np.unique(labels[y0 : y1 + 1, x0 : x1 + 1])
        logits = np.where(np.isin(labels, touched[touched > 0]), logits, np.float32(-10))
        return Candidates(logits[None], np.array([0.95 if (logits > 0).any() else 0.0], np.float32))

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        side = self.view_size
        alphas = np.zeros((embedding.count, 1, side, side), np.float32)
        for alpha, found, mask in zip(alphas, embedding.data, logits, strict=True):
            near = cv2.dilate((mask > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
            alpha[0] = found * cv2.resize(near, (side, side), interpolation=cv2.INTER_NEAREST)
        return torch.from_numpy(alphas)


def crossing(i: int) -> dict[str, tuple[float, float]]:
    """Red goes to the right, blue to the left and higher, behind red: they overlap about the middle of 24 frames."""
    return {"red": (50 + 6.5 * i, 80.0), "blue": (206 - 6.5 * i, 64.0)}


def apart(i: int) -> dict[str, tuple[float, float]]:
    return {"red": (50 + 2 * i, 40.0), "blue": (190 - 2 * i, 100.0)}


def clip(
    count: int, places: Callable[[int], dict[str, tuple[float, float]]], colours: dict[str, tuple[int, int, int]]
) -> Iterator[Frame]:
    """Discs over a grey ground with some texture; those named first lie in front."""
    rough = np.random.default_rng(1).normal(0, 6, (*SIZE, 1))
    for i in range(count):
        rgb = np.broadcast_to(GREY + rough, (*SIZE, 3))
        for name in reversed(list(colours)):
            alpha = disc(SIZE, places(i)[name], RADIUS)[..., None]
            rgb = alpha * np.array(colours[name]) + (1 - alpha) * rgb
        yield Frame(i, 1001 * i, Fraction(1, 24000), np.rint(np.clip(rgb, 0, 255)).astype(np.uint8))


def prompts(places: dict[str, tuple[float, float]]) -> dict[str, Prompt]:
    return {name: Prompt(Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS)) for name, (x, y) in places.items()}


def settings_of(**values: dict[str, object]) -> Settings:
    return Settings().with_values({"view": {"roi": "auto"}, **values}, "test")


def iou(alpha: np.ndarray, truth: np.ndarray) -> float:
    a, b = alpha > 0.5, truth > 0.5
    return float((a & b).sum() / max((a | b).sum(), 1))


@pytest.fixture(scope="module")
def crossed() -> tuple[list[Matted], AllColours]:
    model = AllColours()
    frames = clip(24, crossing, {"red": RED, "blue": BLUE})
    return list(matte_frames(frames, prompts(crossing(0)), model, settings_of())), model


def test_crossing_subjects_keep_their_names_and_pixels(crossed: tuple[list[Matted], AllColours]) -> None:
    mattes, _ = crossed
    assert [m.frame.index for m in mattes] == list(range(24))
    met = 0
    for i, matted in enumerate(mattes):
        red, blue = disc(SIZE, crossing(i)["red"], RADIUS), disc(SIZE, crossing(i)["blue"], RADIUS)
        behind = blue * (1 - red)
        met += bool((blue * red).max() > 0.5)
        (x0, y0), (x1, y1) = crossing(i).values()
        meet = np.hypot(x1 - x0, y1 - y0) < 2 * RADIUS + 16  # this model's mattes then share the rims of their masks
        assert iou(matted.of("red").alpha, red) > (0.75 if meet else 0.95), i
        assert iou(matted.of("blue").alpha, behind) > (0.5 if meet else 0.95), i
        assert iou(matted.alpha, np.maximum(red, blue)) > 0.95, i
    assert met >= 4
    assert mattes[-1].of("red").record.state is mattes[-1].of("blue").record.state is State.TRACKED


def test_no_pixel_is_given_out_twice(crossed: tuple[list[Matted], AllColours]) -> None:
    for matted in crossed[0]:
        total = matted.of("red").alpha.astype(np.float64) + matted.of("blue").alpha
        assert total.max() <= 1 + 1e-7
        assert np.abs(matted.alpha - total).max() < 1e-6


def test_a_frame_is_embedded_once_for_all(crossed: tuple[list[Matted], AllColours]) -> None:
    assert crossed[1].embedded == 24 * [1]


@pytest.mark.parametrize("batch", [1, 4])
def test_with_own_views_each_is_as_if_it_were_alone(batch: int) -> None:
    """Where subjects never meet, the bits of each are those of a run of its own."""
    colours = {"red": RED, "blue": BLUE}
    settings = settings_of(view={"subjects": "own"}, model={"batch": batch})
    together = list(matte_frames(clip(9, apart, colours), prompts(apart(0)), AllColours(), settings))
    for name, prompt in prompts(apart(0)).items():
        alone = list(matte_frames(clip(9, apart, colours), prompt, AllColours(), settings))
        for one, many in zip(alone, together, strict=True):
            part = many.of(name)
            assert (part.alpha == one.alpha).all()
            assert replace(part.record, subject="") == one.record
            assert part.frame is many.frame and part.frame.pts == one.frame.pts


def test_one_view_of_a_batch_is_embedded_once_for_all() -> None:
    model = AllColours()
    frames = clip(8, apart, {"red": RED, "blue": BLUE})
    settings = settings_of(model={"batch": 4}, view={"roi": "frame"})
    list(matte_frames(frames, prompts(apart(0)), model, settings))
    assert model.embedded == [4, 4]


def test_a_frame_has_one_prompt_and_one_camera_for_each_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the masks have two parts, whose motion is compared with the camera's too."""
    queries: list[int] = []
    fits: list[int] = []
    build, find = query.build_query, cv2.findHomography
    monkeypatch.setattr(tracker, "build_query", lambda *a: queries.append(1) or build(*a))
    monkeypatch.setattr(cv2, "findHomography", lambda *a: fits.append(1) or find(*a))

    class Split(AllColours):
        motion = True

        def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
            logits = super().segment(embedding, index, prompt).logits.copy()
            rows = np.flatnonzero((logits[0] > 0).any(1))
            logits[0, rows[len(rows) // 2]] = -8
            return Candidates(logits, np.array([0.95], np.float32))

    moved = list(with_motion(clip(4, apart, {"red": RED, "blue": BLUE}), settings_of().motion))
    list(track_subjects(moved, Split(), prompts(apart(0))))
    assert len(queries) == 2 * 3
    assert len(fits) == 2 * 3 + 2  # and one ahead of each prompt


def test_a_swap_that_cannot_be_excluded_is_flagged_on_both() -> None:
    """Two discs of one colour cross: nothing tells which is which."""
    frames = clip(24, crossing, {"red": RED, "blue": RED})
    mattes = list(matte_frames(frames, prompts(crossing(0)), AllColours(), settings_of()))
    for name, other in (("red", "blue"), ("blue", "red")):
        flagged = [m.of(name).record for m in mattes if m.of(name).record.state.flagged]
        assert any(Finding(Reason.MEETS_SUBJECT, other=other) in record.findings for record in flagged)
    together = [m.record for m in mattes if m.record.state.flagged]
    assert any(Finding(Reason.MEETS_SUBJECT, other="blue", subject="red") in record.findings for record in together)


def test_what_differs_in_colour_is_not_flagged_for_its_meeting(crossed: tuple[list[Matted], AllColours]) -> None:
    findings = [finding for m in crossed[0] for part in m.parts for finding in part.record.findings]
    assert not any(finding.reason is Reason.MEETS_SUBJECT for finding in findings)


def test_alphas_are_divided_where_they_are_too_much() -> None:
    random = np.random.default_rng(3)
    alphas = random.random((3, 60, 80)).astype(np.float32)
    alphas[:, :20] = random.choice([0.0, 0.25, 1.0], (3, 20, 80)).astype(np.float32)
    frame = Frame(0, 0, Fraction(1, 24), np.zeros((60, 80, 3), np.uint8))
    record = Record(0, 0, State.TRACKED, Box(0, 0, 1, 1), 1.0, 0.5)
    parts = divided([Matted(frame, alpha, replace(record, subject=str(k))) for k, alpha in enumerate(alphas)])
    found = np.stack([part.alpha for part in parts])
    total = alphas.sum(0, dtype=np.float64)
    assert found.sum(0, dtype=np.float64)[total > 1].max() <= 1
    assert (found[:, total <= 1] == alphas[:, total <= 1]).all()
    assert np.abs(found - alphas / np.maximum(total, 1)).max() < 1e-6


def beside(i: int) -> dict[str, tuple[float, float]]:
    """Two discs that touch, so that this model offers both for either prompt."""
    return {"red": (100 + i, 70.0), "blue": (136 + i, 74.0)}


@pytest.mark.parametrize("subjects", ["shared", "own"])
def test_what_lies_in_the_others_box_is_the_others_from_the_prompted_frame_on(subjects: str) -> None:
    frames = clip(4, beside, {"red": RED, "blue": BLUE})
    mattes = list(matte_frames(frames, prompts(beside(0)), AllColours(), settings_of(view={"subjects": subjects})))
    for i, matted in enumerate(mattes):
        red = disc(SIZE, beside(i)["red"], RADIUS)
        assert iou(matted.of("red").alpha, red) > 0.8, i
        assert iou(matted.of("blue").alpha, disc(SIZE, beside(i)["blue"], RADIUS) * (1 - red)) > 0.8, i
        assert not matted.record.state.flagged, (i, matted.record.findings)


def test_a_frame_whose_subjects_share_pixels_is_flagged_also_the_prompted_one() -> None:
    """Both boxes hold both discs: nothing tells whose is which."""
    both = Prompt(Box(80, 50, 154, 94))
    frames = clip(2, beside, {"red": RED, "blue": BLUE})
    first = next(matte_frames(frames, {"red": both, "blue": both}, AllColours(), settings_of()))
    for name, other in (("red", "blue"), ("blue", "red")):
        record = first.of(name).record
        assert record.state is State.UNCERTAIN
        assert record.findings == (Finding(Reason.SHARES_PIXELS, 1.0, 0.05, other=other),)


@pytest.mark.parametrize("slow", [True, False])
def test_the_model_says_whether_subjects_share_a_crop(slow: bool) -> None:
    model = AllColours()
    model.shared_crop = slow
    list(matte_frames(clip(3, apart, {"red": RED, "blue": BLUE}), prompts(apart(0)), model, settings_of()))
    assert len(model.embedded) == (3 if slow else 6)


def test_sam_is_slow_and_the_small_models_are_not() -> None:
    assert shares_crop(MamModel) and not shares_crop(LiteModel) and not shares_crop(ClassicModel)  # type: ignore[arg-type]
