"""The subject's own colour at soft edges: against composites whose colours are known, and against PyMatting."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mam_video.core.frames import Frame, Record, State
from mam_video.core.geometry import Box
from mam_video.core.settings import Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.matting.device import foreground as on_device
from mam_video.matting.device.frames import Part, ResidentMatted, upload_frame
from mam_video.matting.device.planes import colour_as_plate
from mam_video.matting.foreground import estimate_foreground, with_foreground
from mam_video.models.transfers import download
from mam_video.prompts.prompt import Prompt
from tests.clips import matted, ramp, soft_disc
from tests.synthetic import GREEN, disc, picture, write_movie

GREEN_SCREEN = np.array([0.1, 0.72, 0.2])
Estimate = Callable[[np.ndarray, np.ndarray], np.ndarray]
Composite = tuple[np.ndarray, np.ndarray, np.ndarray]  # plate and truth (H, W, 3) in [0, 1], alpha (H, W) float32


def hairy(height: int = 240, width: int = 320) -> np.ndarray:
    """Alpha with a solid body, a soft rim, and hairs that stand out of it."""
    alpha = soft_disc(height, width)
    random = np.random.default_rng(3)
    hairs = np.zeros((height, width), np.uint8)
    for angle in random.uniform(0, 2 * np.pi, 120):
        reach = np.array([0.30, random.uniform(0.36, 0.46)])[:, None] * height
        ends = np.rint((np.array([width, height]) / 2 + reach * [np.cos(angle), np.sin(angle)]) * 16).astype(int)
        cv2.line(hairs, ends[0].tolist(), ends[1].tolist(), 255, 1, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(hairs, (0, 0), 0.8).astype(np.float32) / 255
    return np.maximum(alpha, np.minimum(soft * 1.6, 1)).astype(np.float32)


def composite(background: str, height: int = 240, width: int = 320) -> Composite:
    alpha = hairy(height, width)
    truth = ramp(height, width) / 65535 * [0.9, 0.5, 0.4]
    if background == "green":
        back = np.broadcast_to(GREEN_SCREEN, truth.shape) * np.linspace(0.8, 1.1, width)[None, :, None]
    else:
        noise = np.random.default_rng(1).random((height // 20, width // 20, 3)).astype(np.float32)
        back = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1).astype(np.float64)
    return truth * alpha[..., None] + back * (1 - alpha[..., None]), truth, alpha


def estimated_on_a_device(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """By the other implementation, whose rectangle is the whole picture here and not that of the soft pixels."""
    height, width = alpha.shape
    frame = upload_frame(Frame(0, 0, Fraction(1, 24), rgb), None, torch.device("cpu"))
    record = Record(0, 0, State.TRACKED, Box(0, 0, 1, 1), 1, 0)
    found = on_device.with_foreground(
        ResidentMatted(frame, torch.from_numpy(alpha.copy()), record, Part(0, height, 0, width))
    )
    assert found.colour is not None
    return download(colour_as_plate(found.colour, frame.plate.dtype), "test").view(rgb.dtype)


@pytest.fixture(params=[estimate_foreground, estimated_on_a_device], ids=["host", "device"])
def estimate(request: pytest.FixtureRequest) -> Estimate:
    """Each implementation in turn."""
    return request.param


def seen_error(found: np.ndarray, truth: np.ndarray, alpha: np.ndarray) -> float:
    """Mean error of colour where alpha is fractional, weighted by alpha: what a viewer would see of it, in [0, 1]."""
    soft = (alpha > 0) & (alpha < 1)
    return float((np.abs(found - truth).mean(-1) * alpha)[soft].sum() / alpha[soft].sum())


def codes(plate: np.ndarray) -> np.ndarray:
    return np.rint(plate * 65535).astype(np.uint16)


@pytest.mark.parametrize(("background", "bound", "share"), [("green", 1.5 / 255, 0.06), ("busy", 8 / 255, 0.35)])
def test_the_colour_of_a_composite_is_found_again(
    background: str, bound: float, share: float, estimate: Estimate
) -> None:
    plate, truth, alpha = composite(background)
    found = estimate(codes(plate), alpha) / 65535
    assert seen_error(found, truth, alpha) < bound
    assert seen_error(found, truth, alpha) < share * seen_error(plate, truth, alpha)


@pytest.mark.parametrize("background", ["green", "busy"])
def test_over_a_new_background_it_is_the_ideal_composite(background: str, estimate: Estimate) -> None:
    plate, truth, alpha = composite(background)
    found = estimate(codes(plate), alpha) / 65535
    a, new = alpha[..., None], np.array([0.7, 0.1, 0.6])
    errors = np.abs((found - truth) * a)
    as_shot = np.abs((plate - truth) * a)
    assert np.quantile(errors, 0.999) < 0.4 * np.quantile(as_shot, 0.999)
    assert np.abs((found * a + new * (1 - a)) - (truth * a + new * (1 - a))).mean() < 0.35 * as_shot.mean()


@pytest.mark.parametrize(("background", "apart"), [("green", 1.5 / 255), ("busy", 6 / 255)])
def test_about_as_good_as_pymatting(background: str, apart: float) -> None:
    """Measured: 1.3 and 6.6 of 255 from the truth where theirs is 1.0 and 8.0 (green, busy); bounds with some room."""
    pymatting = pytest.importorskip("pymatting")
    plate, truth, alpha = composite(background)
    theirs = pymatting.estimate_foreground_ml(plate, alpha.astype(np.float64))
    ours = estimate_foreground(codes(plate), alpha) / 65535
    assert seen_error(ours, truth, alpha) < 1.4 * seen_error(theirs, truth, alpha)
    # the two agree where it shows, apart from what neither can know
    soft = (alpha > 0.2) & (alpha < 1)
    assert np.abs(ours - theirs)[soft].mean() < apart


def test_solid_pixels_are_the_plate_and_far_ones_too() -> None:
    plate, _, alpha = composite("busy")
    before = codes(plate)
    kept = before.copy()
    found = estimate_foreground(before, alpha)
    assert (before == kept).all() and found.dtype == np.uint16
    assert (found[alpha == 1] == before[alpha == 1]).all()
    far = cv2.dilate((alpha > 0).astype(np.uint8), np.ones((5, 5))) == 0
    assert (found[far] == before[far]).all()


def test_every_depth_and_scale_gives_the_same(estimate: Estimate) -> None:
    plate, _, alpha = composite("green")
    wide = estimate(codes(plate), alpha) / 65535
    small = estimate(np.rint(plate * 255).astype(np.uint8), alpha)
    assert small.dtype == np.uint8 and np.abs(small / 255 - wide).mean() < 1 / 255
    scene = (plate * 16 - 0.5).astype(np.float32)  # beyond 1 and below 0, as scene-linear plates are
    found = estimate(scene, alpha)
    assert found.dtype == np.float32 and (found[alpha == 1] == scene[alpha == 1]).all()
    soft = (alpha > 0.1) & (alpha < 1)
    assert np.abs((found + 0.5) / 16 - wide)[soft].mean() < 1 / 255
    assert found.min() >= scene.min() and found.max() <= scene.max()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_renders_may_hold_half_floats_and_what_is_not_finite(dtype: type[np.generic], estimate: Estimate) -> None:
    plate = (np.random.default_rng(0).random((40, 60, 3)) * 16).astype(dtype)
    alpha = np.linspace(-0.3, 1.3, 60, dtype=np.float32).clip(0, 1)[None].repeat(40, 0)
    plate[3, 55], plate[5, 30], plate[7, 31] = np.inf, np.nan, np.inf
    found = estimate(plate, alpha)
    assert found.dtype == dtype and np.isfinite(found[:, 15:45]).all()
    solid = alpha == 1
    assert (found[solid].view(np.uint8) == plate[solid].view(np.uint8)).all()


def test_a_hard_edge_costs_nothing() -> None:
    plate, _, alpha = composite("green")
    rgb = codes(plate)
    for hard in (np.zeros_like(alpha), np.ones_like(alpha), (alpha > 0.5).astype(np.float32)):
        assert estimate_foreground(rgb, hard) is rgb
        whole = matted(Frame(0, 0, 1, rgb), hard)  # type: ignore[arg-type]
        assert with_foreground(whole) is whole


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2), (33, 65), (97, 40)])
def test_any_size_and_any_alpha(size: tuple[int, int], estimate: Estimate) -> None:
    random = np.random.default_rng(0)
    rgb = random.integers(0, 65536, (*size, 3)).astype(np.uint16)
    for alpha in (random.random(size, np.float32), np.full(size, 0.5, np.float32), np.full(size, 0.002, np.float32)):
        found = estimate(rgb, alpha)
        assert found.shape == rgb.shape and found.dtype == np.uint16


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="alpha"):
        estimate_foreground(np.zeros((4, 5, 3), np.uint16), np.zeros((5, 4), np.float32))


def test_a_run_writes_it_unless_told_not_to(tmp_path: Path) -> None:
    size, centre, radius = (120, 160), (70.0, 60.0), 25.0
    plate = write_movie(tmp_path / "plate.mov", 2, lambda i: picture(disc(size, centre, radius)))
    prompt = Prompt(Box(centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius))
    read: dict[str, np.ndarray] = {}
    for way in ("estimate", "plate"):
        settings = Settings().with_values({"model": {"name": "fake-colour"}, "output": {"foreground": way}}, "test")
        report = matte_clip(plate, f"{tmp_path}/{way}.%d.png", prompt, settings)
        assert ("foreground" in report.seconds) == (way == "estimate")
        read[way] = cv2.imread(f"{tmp_path}/{way}.1002.png", cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]]
        report = matte_clip(plate, f"{tmp_path}/{way}-alpha.%d.png:alpha", prompt, settings)
        assert "foreground" not in report.seconds  # no colour, no work
    alpha = read["estimate"][..., 3]
    assert (alpha == read["plate"][..., 3]).all()
    assert (read["estimate"][alpha == 65535] == read["plate"][alpha == 65535]).all()
    soft = (alpha > 10000) & (alpha < 60000)
    error = {way: np.abs(read[way][soft][:, :3] - GREEN * 257).mean() for way in read}
    assert soft.sum() > 50 and error["estimate"] < 0.5 * error["plate"]
