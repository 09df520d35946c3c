"""The classic model on pictures whose truth is known: composites of two textures, and the development clips."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.core.frames import Frame, State
from mam_video.core.geometry import Box
from mam_video.core.settings import MotionSettings
from mam_video.models.base import Model, Reference, ViewPrompt
from mam_video.models.classic import ClassicModel
from mam_video.motion.flow import with_motion
from mam_video.prompts.prompt import Prompt
from mam_video.tracking.tracker import track

pytestmark = pytest.mark.numeric

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev"


def texture(size: tuple[int, int], colour: tuple[int, int, int], sigma: float, seed: int) -> np.ndarray:
    """(H, W, 3) float: noise of one grain about a colour."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=size).astype(np.float32), (0, 0), sigma)
    return np.clip(np.array(colour) + 30 * noise[..., None] / noise.std(), 0, 255)


def blob(size: tuple[int, int], x: float, y: float, radius: float, soft: float = 1) -> np.ndarray:
    """Alpha (H, W) of a blob with four lobes."""
    yy, xx = np.mgrid[: size[0], : size[1]] + 0.5
    angle = np.arctan2(yy - y, xx - x)
    edge = radius * (1 + 0.2 * np.sin(4 * angle))
    return np.clip((edge - np.hypot(xx - x, yy - y)) / soft + 0.5, 0, 1)


def scene(size: tuple[int, int], alpha: np.ndarray, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    subject = np.roll(texture(size, (150, 95, 60), 2, 1), shift, axis=(1, 0))
    ground = texture(size, (80, 110, 90), 5, 2)
    return np.rint(alpha[..., None] * subject + (1 - alpha[..., None]) * ground).astype(np.uint8)


def tight(mask: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def iou(logits: np.ndarray, alpha: np.ndarray) -> float:
    """Of mask logits (256, 256) with a truth over the view's content."""
    h, w = alpha.shape
    found = cv2.resize(logits, (512, 512), interpolation=cv2.INTER_LINEAR)[:h, :w] > 0
    return float((found & (alpha > 0.5)).sum() / (found | (alpha > 0.5)).sum())


SIZES = [(512, 512), (512, 300), (201, 512)]


def test_it_fulfils_the_contract() -> None:
    model = ClassicModel()
    assert isinstance(model, Model) and model.name == "classic" and model.weights == {}


@pytest.mark.parametrize("size", SIZES)
def test_the_box_finds_the_subject(size: tuple[int, int]) -> None:
    model = ClassicModel()
    alpha = blob(size, size[1] / 2 + 10, size[0] / 2 - 6, min(size) / 4)
    embedding = model.embed([scene(size, alpha)])
    found = model.segment(embedding, 0, ViewPrompt(tight(alpha > 0.5)))
    assert found.logits.shape == (1, 256, 256) and found.logits.dtype == np.float32
    assert iou(found.logits[0], alpha) > 0.8
    assert found.scores[0] > 0.8
    h, w = (-(-s // 2) for s in size)
    assert (found.logits[0, h:] < 0).all() and (found.logits[0, :, w:] < 0).all()


def test_points_are_heeded() -> None:
    """Two blobs of one look in one box: a background point in the second leaves its place out."""
    model = ClassicModel()
    size = 512, 512
    both = np.maximum(blob(size, 150, 250, 70), blob(size, 370, 250, 70))
    embedding = model.embed([scene(size, both)])
    box = tight(both > 0.5)
    points = np.array([[150, 250], [370, 250]], np.float32)
    logits = model.segment(embedding, 0, ViewPrompt(box, points, np.array([1, 0]))).logits[0]
    assert logits[125, 75] > 0 and logits[125, 185] < 0


def test_the_same_question_has_the_same_answer() -> None:
    size = 300, 400
    alpha = blob(size, 200, 150, 70)
    answers = []
    for _ in range(2):
        model = ClassicModel()
        embedding = model.embed([scene(size, alpha)])
        answers.append(model.segment(embedding, 0, ViewPrompt(tight(alpha > 0.5))).logits)
    np.testing.assert_array_equal(*answers)


def test_a_later_frame_follows_the_look_and_the_score_tells_right_from_wrong() -> None:
    model = ClassicModel()
    size = 512, 512
    first, later = blob(size, 240, 250, 90), blob(size, 262, 256, 90)
    embedding = model.embed([scene(size, first), scene(size, later, (22, 6))])
    prompted = model.segment(embedding, 0, ViewPrompt(tight(first > 0.5))).logits[0]
    references = (Reference(embedding, 0, prompted, True),)
    # The mask is not moved, so that the look has to mend it.
    right = model.segment(embedding, 1, ViewPrompt(tight(later > 0.5), logits=prompted, references=references))
    assert iou(right.logits[0], later) > max(0.85, iou(prompted, later))
    assert right.scores[0] > 0.8
    elsewhere = np.full((256, 256), -6, np.float32)
    elsewhere[10:60, 10:60] = 6
    wrong = model.segment(embedding, 1, ViewPrompt(Box(20, 20, 120, 120), logits=elsewhere, references=references))
    assert wrong.scores[0] < 0.6


def test_motion_tells_apart_what_looks_alike() -> None:
    """Subject and ground have one texture; only the subject moves against the camera."""
    model = ClassicModel()
    size = 512, 512
    alpha = blob(size, 260, 250, 80)
    picture = np.rint(texture(size, (120, 120, 120), 3, 4)).astype(np.uint8)
    embedding = model.embed([picture])
    apart = np.zeros((256, 256, 2), np.float32)
    apart[cv2.resize(alpha, (256, 256)) > 0.5] = (9, -4)
    box = tight(alpha > 0.5)
    without = model.segment(embedding, 0, ViewPrompt(box)).logits[0]
    told = model.segment(embedding, 0, ViewPrompt(box, motion=apart)).logits[0]
    assert iou(told, alpha) > max(iou(without, alpha), 0.8)


def test_empty_and_full_masks_are_answered() -> None:
    model = ClassicModel()
    embedding = model.embed([scene((512, 512), blob((512, 512), 250, 250, 90))])
    empty = model.segment(embedding, 0, ViewPrompt(Box(0, 0, 512, 512), logits=np.full((256, 256), -8, np.float32)))
    assert not (empty.logits > 0).any() and empty.scores[0] == 0
    model.segment(embedding, 0, ViewPrompt(Box(0, 0, 512, 512), logits=np.full((256, 256), 8, np.float32)))
    model.segment(embedding, 0, ViewPrompt(Box(0, 0, 512, 512)))
    tiny = model.embed([np.zeros((1, 512, 3), np.uint8)])
    model.segment(tiny, 0, ViewPrompt(Box(0, 0, 512, 1)))
    assert model.matte(tiny, np.zeros((1, 256, 256), np.float32)).shape == (1, 1, 512, 512)


@pytest.mark.parametrize("size", SIZES)
def test_the_matte_is_soft_where_the_subject_is(size: tuple[int, int]) -> None:
    """The alpha of a soft edge is nearer to the truth than the mask, and exact away from the edge."""
    model = ClassicModel()
    alpha = blob(size, size[1] / 2, size[0] / 2, min(size) / 4, soft=9).astype(np.float32)
    embedding = model.embed([scene(size, alpha)] * 2)
    coarse = np.zeros((512, 512), np.float32)
    coarse[: size[0], : size[1]] = alpha
    logits = (cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_AREA) - 0.5) * 12
    found = model.matte(embedding, np.stack([logits, logits])).numpy()
    assert found.shape == (2, 1, 512, 512) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    inside = found[1, 0, : size[0], : size[1]]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[:, :, size[0] :] == 0).all() and (found[..., size[1] :] == 0).all()
    edge = (alpha > 0) & (alpha < 1)
    assert np.abs(inside - alpha)[edge].mean() < 0.7 * np.abs((alpha > 0.5) - alpha)[edge].mean()
    grown = cv2.dilate(edge.astype(np.uint8), np.ones((41, 41), np.uint8)) > 0
    assert np.abs(inside - alpha)[~grown].max() < 0.02


@pytest.mark.skipif(not SHARED.is_dir(), reason="the development clips are not beside the checkout")
def test_a_real_clip_is_followed() -> None:
    """The first 12 frames of car-shadow, from the true box."""
    folder = SHARED / "davis" / "car-shadow"
    box = Box(*json.loads((SHARED / "davis" / "boxes.json").read_text())["car-shadow"])
    paths = sorted((folder / "frames").glob("*.jpg"))[:12]
    frames = (
        Frame(i, i, Fraction(1, 24), cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
        for i, path in enumerate(paths)
    )
    followed = list(track(with_motion(frames, MotionSettings()), ClassicModel(), Prompt(box)))
    assert not any(t.record.state is State.LOST for t in followed)
    truth = cv2.imread(str(folder / "masks" / f"{paths[-1].stem}.png"), cv2.IMREAD_GRAYSCALE) > 127
    assert followed[-1].record.box.iou(tight(truth)) > 0.7
