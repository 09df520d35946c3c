"""What is trained on: read with its licence, split by a hash, and drawn the same way each time."""

from __future__ import annotations

import random
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.core.errors import MamVideoError
from mam_video.training.data import pictures
from mam_video.training.data.composites import Composites, composite, guessed_mask, over, shaded, unknown_band
from mam_video.training.synth import scene as scene_module
from mam_video.training.synth.hair import render_subject
from mam_video.training.synth.layers import draw_mixed_move
from mam_video.training.synth.scene import FRAMES, SceneGenerator


def test_sources_are_chosen_by_licence(training_set: Path) -> None:
    everything = pictures.read_manifest(training_set)
    assert [s.has_ids for s in everything] == [False, True, False, False]
    assert [s.folder for s in pictures.read_manifest(training_set, deny="research")] == [
        "masks/blobs", "cutouts/blobs", "backgrounds/noise",
    ]  # fmt: skip
    assert [s.folder for s in pictures.read_manifest(training_set, allow="video")] == ["masks/video_blobs"]
    with pytest.raises(MamVideoError, match=r"manifest\.csv"):
        pictures.read_manifest(training_set / "nowhere")


def test_a_tenth_is_held_out_and_clips_stay_whole(training_set: Path) -> None:
    share = np.mean([pictures.held_out("ecssd", f"{i:04d}") for i in range(4000)])
    assert 0.08 < share < 0.12
    assert len({pictures.held_out("video_vsb", f"camel_{i:05d}") for i in range(50)}) == 1
    sources = pictures.read_manifest(training_set)
    train = pictures.read_labelled(training_set, sources, held=False)
    kept = pictures.read_labelled(training_set, sources, held=True)
    assert len(train) + len(kept) == 58
    assert not {(m.source, m.clip or m.name) for m in train} & {(m.source, m.clip or m.name) for m in kept}


def test_composites_are_exact_at_both_ends_and_conserve_light() -> None:
    noise = np.random.default_rng(1)
    f, b, f2 = (noise.uniform(0, 255, (5, 6, 3)).astype(np.float32) for _ in range(3))
    assert np.array_equal(composite(np.zeros((5, 6)), f, b), b)
    assert np.array_equal(composite(np.ones((5, 6)), f, b), f)
    a, a2 = (noise.uniform(0, 1, (5, 6)).astype(np.float32) for _ in range(2))
    assert np.allclose(composite(a, f, b) + composite(a, b, f), f + b, atol=1e-3)
    # One over the other over a background is both joined over it.
    joined, colour = over(a, f, a2, f2)
    assert np.allclose(composite(joined, colour, b), composite(a, f, composite(a2, f2, b)), atol=1e-3)


def test_a_cut_out_is_laid_over_its_scene_by_its_alpha(monkeypatch: pytest.MonkeyPatch) -> None:
    """White of alpha 150 with a rim of alpha 60 over black: the rim is drawn, but not subject."""
    monkeypatch.setattr(scene_module, "photographic", lambda _, drawn: drawn)
    monkeypatch.setattr(SceneGenerator, "_draw_others", lambda *_: [])
    rgba = np.full((96, 96, 4), 255, np.uint8)
    rgba[:, :, 3] = 0
    rgba[20:76, 20:76, 3] = 60
    rgba[32:64, 32:64, 3] = 150
    rgba = cv2.GaussianBlur(rgba, (0, 0), 1)
    cutouts = pictures.labelled_cutouts([("rendered", rgba)])
    # Other pictures of the set may lie behind: all of them black.
    nothing = pictures.LabelledPicture("black", "0", np.zeros((96, 96, 3), np.uint8), np.ones((96, 96), np.uint8), (1,))
    generator = SceneGenerator([nothing], [nothing.picture], 64, 1, cutouts, 1.0)
    rims = 0
    for number in range(12):
        scene = generator.scene(number)
        for picture, truth in zip(scene["picture"], scene["truth"], strict=True):
            mask = cv2.resize(truth[0], (64, 64))
            inside = cv2.erode(mask, np.ones((7, 7))) > 0.99
            assert picture.max() <= 152
            assert not inside.any() or np.median(picture[:, inside]) >= 145
            rims += int(((picture[0] > 50) & (picture[0] < 70) & (mask < 0.01)).sum() > 20)
    assert rims > 24


def test_scenes_depend_on_their_number_alone(training_set: Path) -> None:
    sources = pictures.read_manifest(training_set)
    items = pictures.read_labelled(training_set, sources, held=False)
    grounds = pictures.read_backgrounds(training_set, sources, held=False)
    generator, again = (SceneGenerator(items, grounds, 64, 3) for _ in range(2))
    again.scene(5)
    for number in range(12):
        one, other = generator.scene(number), again.scene(number)
        assert all(np.array_equal(one[k], other[k]) for k in one), number
        assert one["picture"].shape == (FRAMES, 3, 64, 64) and one["picture"].dtype == np.uint8
        assert one["truth"].shape == one["weight"].shape == one["bad"].shape == (FRAMES, 1, 32, 32)
        assert one["truth"][0].max() > 0.5 and one["box"].min() >= 0 and one["box"].max() <= 1
        on = one["labels"] == 1
        x, y = (np.minimum((one["points"][on] * 32).astype(int), 31)).T
        frame = np.nonzero(on)[0]
        assert (one["truth"][frame, 0, y, x] > 0.5).all()


def test_moves_carry_the_mask_where_the_motion_is_known(training_set: Path) -> None:
    """A subject that stands still in a still camera is moved onto itself."""
    rng = random.Random(0)
    box = np.array([20.0, 20, 60, 60])
    style = scene_module._CropStyle(64, False, 1.5, 0)
    views = [style.view(rng, box, 0.1) for _ in range(2)]
    moves = np.array([draw_mixed_move(rng, views[0], views[1], np.eye(3)[:2], 64) for _ in range(200)])
    to_a = (np.diag([1 / 64, 1 / 64, 1]) @ views[0].matrix @ np.linalg.inv(views[1].matrix) @ np.diag([64, 64, 1]))[:2]
    assert np.allclose(moves.mean(0), to_a, atol=0.005)


def test_composites_say_what_they_hold(training_set: Path) -> None:
    sources = pictures.read_manifest(training_set)
    subjects = pictures.read_cutouts(training_set, sources, held=False)
    grounds = pictures.read_backgrounds(training_set, sources, held=False)
    drawn = Composites(subjects, grounds, 128, 1).sample(0)
    again = Composites(subjects, grounds, 128, 1).sample(0)
    assert all(np.array_equal(drawn[k], again[k]) for k in drawn)
    assert drawn["picture"].shape == (3, 128, 128) and drawn["mask"].shape == (1, 32, 32)
    assert drawn["alpha"].min() >= 0 and drawn["alpha"].max() <= 1
    x0, y0, x1, y1 = (drawn["box"] * 128).astype(int)
    outside = drawn["alpha"][0].copy()
    outside[y0:y1, x0:x1] = 0
    assert outside.max() <= 0.5


def test_hard_composites_keep_the_truth_and_change_no_others(training_set: Path) -> None:
    sources = pictures.read_manifest(training_set)
    subjects = pictures.read_cutouts(training_set, sources, held=False)
    grounds = pictures.read_backgrounds(training_set, sources, held=False)
    plain, some, all_hard = (Composites(subjects, grounds, 128, 1, None, share) for share in (0.0, 0.5, 1.0))
    kept = [np.array_equal(plain.sample(i)["picture"], some.sample(i)["picture"]) for i in range(12)]
    assert any(kept) and not all(kept)
    wrong = []
    for i in range(12):
        drawn = all_hard.sample(i)
        assert all(np.array_equal(drawn[k], all_hard.sample(i)[k]) for k in drawn)
        assert drawn["mask"].dtype == np.float32 and drawn["mask"].min() >= 0 and drawn["mask"].max() <= 1
        wrong.append(np.abs(drawn["mask"][0] - cv2.resize(drawn["alpha"][0], (32, 32))).mean())
    easy = [
        np.abs(plain.sample(i)["mask"][0] - cv2.resize(plain.sample(i)["alpha"][0], (32, 32))).mean() for i in range(12)
    ]
    assert float(np.mean(wrong)) > float(np.mean(easy))


def test_a_shadow_darkens_the_ground_alone() -> None:
    alpha = np.zeros((64, 64), np.float32)
    alpha[20:50, 25:40] = 1
    ground = np.full((64, 64, 3), 200, np.float32)
    dark = shaded(random.Random(1), alpha, ground)
    assert dark.shape == ground.shape and dark.min() >= 0 and dark.max() <= 200
    assert dark.min() < 190 and not shaded(random.Random(1), np.zeros_like(alpha), ground).min() < 200


def test_guessed_masks_stay_near_the_truth() -> None:
    alpha = np.zeros((128, 128), np.float32)
    alpha[30:100, 40:90] = 1
    small = alpha[2::4, 2::4] > 0.5
    overlaps = []
    for seed in range(20):
        guess = guessed_mask(random.Random(seed), alpha, 32) > 0.5
        overlaps.append((guess & small).sum() / (guess | small).sum())
    assert min(overlaps) > 0.5 and 0.75 < float(np.mean(overlaps)) < 0.95


def test_the_unknown_band_lies_about_the_edge() -> None:
    alpha = np.zeros((40, 40), np.float32)
    alpha[:, 20:] = 1
    band = unknown_band(alpha, 3)
    assert band[:, 17:22].all() and not band[:, :14].any() and not band[:, 26:].any()


def test_rendered_hair_is_soft_outside_the_body() -> None:
    noise = np.random.default_rng(0)
    texture = noise.integers(0, 255, (60, 60, 3)).astype(np.uint8)
    soft = []
    for seed in range(4):
        rgba = render_subject(random.Random(seed), None, None, texture, size=160)
        again = render_subject(random.Random(seed), None, None, texture, size=160)
        assert np.array_equal(rgba, again) and rgba.shape == (160, 160, 4)
        assert rgba[..., 3].max() == 255 and rgba[..., 3].min() == 0
        soft.append(((rgba[..., 3] > 8) & (rgba[..., 3] < 247)).mean())
    assert max(soft) > 0.02
