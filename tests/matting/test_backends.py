"""The stages on a device do what OpenCV's do: each pair is held together by a bound that follows from arithmetic.

The bounds count roundings. U is what one float32 operation may be off, relative to its result. GRID is how far OpenCV
before 5 may sample from the place that was meant: it rounds positions to whole 32nds of a pixel. PLACE is how far a
device may: positions become shares of the picture's width and back, each step off by U of the width. Where a result is
an average, errors of what is averaged do not grow.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.core.geometry import Box
from mam_video.core.planes import PlaneRecipe
from mam_video.core.settings import FinishSettings, MotionSettings, RefineSettings, SmoothSettings
from mam_video.matting import compositing, edge_ops, foreground, quality, upsample
from mam_video.matting.device import compositing as device_compositing
from mam_video.matting.device import edge_ops as device_edge_ops
from mam_video.matting.device import foreground as device_foreground
from mam_video.matting.device import quality as device_quality
from mam_video.matting.device import temporal_filter as device_temporal_filter
from mam_video.matting.device import upsample as device_upsample
from mam_video.matting.device.frames import Part, ResidentMatted, upload_frame
from mam_video.matting.device.planes import planes
from mam_video.matting.temporal_filter import Moving, MovingMatte, smooth, smooth_by
from mam_video.media.base import Colour
from mam_video.media.movie.codecs import Ffv1Codec, MovieCodec, ProResCodec
from mam_video.media.pixel_formats import as_16_bit, premultiplied
from mam_video.models.resident import views_of
from mam_video.motion.flow import Motion, measure_motion

U = 2.0**-24
GRID = 0.0 if int(cv2.__version__.split(".")[0]) >= 5 else 1 / 64
H, W = 120, 160
PLACE = 8 * W * U + GRID


def soft_alpha(seed: int = 0, height: int = H, width: int = W, edge: float = 12.0) -> np.ndarray:
    """A disc with a soft edge and steps of 1/256, (height, width) float32; no neighbours differ by more than 0.3."""
    yy, xx = np.mgrid[:height, :width] + 0.5
    noise = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((height, width)), (0, 0), 2)
    far = np.hypot(xx - width / 2, yy - height / 2) - 0.3 * height + 2 * noise
    return (np.rint(np.clip(0.5 - far / edge, 0, 1) * 256) / 256).astype(np.float32)


def textured(seed: int = 1, height: int = H, width: int = W, dtype: Any = np.uint16) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((height, width, 3))
    smooth_ = cv2.GaussianBlur(noise, (0, 0), 1.5)
    shown = (smooth_ - smooth_.min()) / np.ptp(smooth_)
    return (shown * np.iinfo(dtype).max).astype(dtype) if np.issubdtype(dtype, np.integer) else shown.astype(dtype)


def step(values: np.ndarray) -> float:
    """The most that neighbours to the right and below differ by, together: what a pixel of shift may change."""
    return float(sum(np.abs(np.diff(values.astype(np.float64), axis=axis)).max() for axis in (0, 1)))


def record(index: int = 0, subject: str = "") -> Record:
    return Record(index, index, State.TRACKED, Box(0, 0, 10, 10), 1.0, 0.1, subject=subject)


def frame_of(index: int, rgb: np.ndarray, **more: Any) -> Frame:
    return Frame(index, index, Fraction(1, 24), rgb, **more)


def resident(matted: Matted, device: torch.device, motion: Motion | None = None) -> ResidentMatted:
    h, w = matted.frame.size
    there = upload_frame(matted.frame, motion, device)
    alpha = torch.from_numpy(matted.alpha.copy()).to(device)
    return ResidentMatted(there, alpha, matted.record, Part(0, h, 0, w))


def moved(index: int, x: float, y: float, size: tuple[int, int] = (H, W)) -> Motion:
    """Everything moves by x and y pixels from a frame to the next."""
    flow = np.broadcast_to(np.array([x, y], np.float32), (*size, 2))
    return Motion(index - 1, index, (H, W), flow.copy(), -flow)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
def test_an_uploaded_frame_is_the_frame(device: torch.device, dtype: Any) -> None:
    """Also what models look at, bit for bit: of 16 bits every code is rounded to the same code of 8."""
    rgb = (
        np.arange(65536).reshape(128, 512, 1).repeat(3, 2).astype(dtype)
        if dtype == np.uint16
        else textured(dtype=dtype)
    )
    own = soft_alpha(height=rgb.shape[0], width=rgb.shape[1])
    frame = frame_of(3, rgb, alpha=own)
    there = upload_frame(frame, moved(3, 1, 2), device)
    assert there.size == frame.size and there.host is frame and there.own_alpha is not None and there.motion is not None
    np.testing.assert_array_equal(array(there.picture), frame.rgb8)
    np.testing.assert_array_equal(array(there.values), rgb.astype(np.float32).transpose(2, 0, 1))
    np.testing.assert_array_equal(array(there.own_alpha), own)
    assert array(there.motion.flows)[:, :, 0, 0].tolist() == [[-1, -2], [1, 2]]


@pytest.mark.parametrize("view", [(20, 10, 90, 70), (0, 0, 160, 120), (3, 5, 64, 40), (30, 20, 33, 70)])
def test_a_crop_cut_on_a_device_has_pillows_bits(device: torch.device, view: tuple[int, int, int, int]) -> None:
    frame, crop = frame_of(0, textured(dtype=np.uint8)), Crop(*view, 64)

    class Model:
        takes_tensors = True

    (there,) = views_of(Model(), [upload_frame(frame, None, device)], crop)  # type: ignore[arg-type]
    assert isinstance(there, torch.Tensor)
    np.testing.assert_array_equal(array(there), crop.cut(frame.rgb8))


@pytest.mark.parametrize("radius", [1, 3])
def test_refining(device: torch.device, radius: int) -> None:
    """One pass is 16 products of a cubic, of three slopes and an offset: 30 roundings of maps as large as `most`.

    A cubic's weights add up to 1.375 along an axis, signs left out, so an enlargement lets errors grow 1.9 times, and
    each of three rounds of back projection adds what it enlarges. Sampling the small alpha off the grid is an error of
    `step` to begin with; the filter's own weights add up to 2 at most.
    """
    view = Crop(0, 0, W, H, 64)
    alpha, picture = soft_alpha(edge=6), textured(dtype=np.uint8)
    settings = RefineSettings(radius=radius)
    expected = upsample.refine(alpha, picture, view, settings)
    assert np.abs(expected - alpha).max() > 0.05  # there was something to sharpen
    given = torch.from_numpy(alpha).to(device), torch.from_numpy(picture).to(device)
    found = array(device_upsample.refine(*given, view, settings))
    small = cv2.resize(picture, view.content[::-1], interpolation=cv2.INTER_AREA)
    most = sum(
        float(np.abs(m).max())
        for m in upsample._guided_coefficients(small, cv2.resize(alpha, view.content[::-1]), radius, settings.eps)
    )
    grown = (1 + 1.9) ** settings.projections
    assert np.abs(found - expected).max() <= grown * 1.9 * (30 * U * most + 2 * GRID * step(alpha))


def test_refining_leaves_alone_what_it_should(device: torch.device) -> None:
    """Nothing is enlarged, it is switched off, or nothing is soft: the bits are the model's."""
    hard = np.where(soft_alpha() > 0.5, np.float32(1), np.float32(0))
    picture = torch.from_numpy(textured(dtype=np.uint8)).to(device)
    for alpha, view, settings in (
        (soft_alpha(), Crop(0, 0, W, H, 200), RefineSettings()),
        (soft_alpha(), Crop(0, 0, W, H, 64), RefineSettings(enabled=False)),
        (hard, Crop(0, 0, W, H, 64), RefineSettings()),
    ):
        found = device_upsample.refine(torch.from_numpy(alpha).to(device), picture, view, settings)
        np.testing.assert_array_equal(array(found), alpha)


def averages(
    mattes: list[Matted], motions: list[Motion | None], settings: SmoothSettings, device: torch.device
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Smoothed alphas by both backends."""
    moving = [MovingMatte(m, motion) for m, motion in zip(mattes, motions, strict=True)]
    there = [Moving(resident(m, device, motion), motion) for m, motion in moving]
    by_device = smooth_by(device_temporal_filter.averaged, there, settings)
    return [m.matted.alpha for m in smooth(moving, settings)], [array(m.matted.alpha) for m in by_device]


@pytest.mark.parametrize("radius", [1, 2])
def test_smoothing_along_whole_pixels(device: torch.device, radius: int) -> None:
    """Colours are then carried without rounding, so only alphas are off, by PLACE of their step for each carry.

    The average moves by at most 2.5 times what a neighbour's alpha does: its weight is at most a half, and changes by
    twice as much as the alpha. Weights are made of about 20 operations on numbers up to 1, each neighbour's.
    """
    picture = textured(dtype=np.uint8)
    mattes = [Matted(frame_of(i, np.roll(picture, (i, 2 * i), (0, 1))), soft_alpha(i), record(i)) for i in range(6)]
    motions: list[Motion | None] = [None, *(moved(i, 2, 1) for i in range(1, 6))]
    expected, found = averages(mattes, motions, SmoothSettings(strength=1, radius=radius), device)
    off = 2 * radius * (2.5 * radius * (PLACE - GRID) * step(soft_alpha()) * 2 + 20 * U)
    for one, other, before in zip(expected, found, mattes, strict=True):
        assert np.abs(one - before.alpha).max() > 0.05 and np.abs(one - other).max() <= off


def test_smoothing_along_measured_motion(device: torch.device) -> None:
    """A carried colour is rounded to a code, and what lies half way may fall to either: the trust, exp(-(d / 12)^2),
    then changes by sqrt(2 / e) / 12 = 0.072 at most, and the average by that much of what the neighbour differs by.
    """
    base = textured(dtype=np.uint8, width=W + 40)
    frames = [frame_of(i, np.ascontiguousarray(base[:, 3 * i : 3 * i + W])) for i in range(4)]
    mattes = [Matted(frame, soft_alpha(frame.index), record(frame.index)) for frame in frames]
    motions: list[Motion | None] = [None]
    motions += [measure_motion(a, b, MotionSettings(side=96)) for a, b in pairwise(frames)]
    expected, found = averages(mattes, motions, SmoothSettings(strength=1), device)
    slack = 2 * 2.5 * 2 * PLACE * step(soft_alpha())  # twice PLACE: the motion is enlarged first
    for one, other in zip(expected, found, strict=True):
        assert np.abs(one - other).max() <= 2 * 0.072 + slack
        assert (np.abs(one - other) > slack + 40 * U).mean() < 0.02  # half ways are rare


def test_a_break_in_the_motion_is_not_smoothed_over(device: torch.device) -> None:
    mattes = [Matted(frame_of(i, textured(dtype=np.uint8)), soft_alpha(i), record(i)) for i in range(3)]
    _, found = averages(mattes, [None, None, None], SmoothSettings(strength=1), device)
    for alpha, matted in zip(found, mattes, strict=True):
        np.testing.assert_array_equal(alpha, matted.alpha)


def test_measures(device: torch.device) -> None:
    """Sums of n numbers up to 1 are off by n * U of the sum at most; of flicker also by PLACE of a step."""
    pairs = [(soft_alpha(i), moved(i, 2, 1, (60, 80))) for i in range(2)]
    frames = [upload_frame(frame_of(i, textured()), motion, device) for i, (_, motion) in enumerate(pairs)]
    there = [torch.from_numpy(alpha).to(device) for alpha, _ in pairs]
    moving = [
        MovingMatte(Matted(frame_of(i, textured()), alpha, record()), motion) for i, (alpha, motion) in enumerate(pairs)
    ]
    expected = [m.record.flicker for m in quality.measure_flicker(moving)][1]
    _, past_there = device_quality.flicker(None, there[0], frames[0].motion)
    found, _ = device_quality.flicker(past_there, there[1], frames[1].motion)
    assert expected is not None and found is not None and expected > 0.05
    subject = float(soft_alpha(0).sum()) / 4
    assert abs(float(found) - expected) <= 4800 * U + 4800 * PLACE * step(soft_alpha()) / subject
    assert device_quality.flicker(past_there, there[1], None)[0] is None
    empty = torch.zeros(H, W, device=device)
    assert float(device_quality.flicker(empty, empty, frames[1].motion)[0]) == 0  # type: ignore[arg-type]

    view, logits = Crop(0, 0, W, H, 64), cv2.resize(soft_alpha(1), (32, 24)) - 0.5
    square = np.full((32, 32), -1, np.float32)
    square[:24] = logits
    expected = quality.agreement(pairs[0][0], square, view)
    found = device_quality.agreement(there[0], torch.from_numpy(square).to(device), view)
    # The small alpha's means may lie on the other side of a half where they are nearly that: one cell of each side.
    assert 0.5 < expected < 1 and abs(float(found) - expected) <= 2 / (square > 0).sum()
    assert float(device_quality.agreement(empty, torch.full((32, 32), -1.0, device=device), view)) == 1


@pytest.mark.parametrize("window", [None, (10, 5, 150, 110)])
@pytest.mark.parametrize(
    ("edges", "roundings", "places"),
    [({"black": 0.1, "white": 0.8}, 0, 0), ({"choke": 2.5}, 4, 1), ({"grow": 1.0}, 4, 1), ({"grow": 0.4}, 4, 1),
     ({"feather": 6.0}, 60, 0), ({"white": 0.9, "choke": 3.0, "feather": 3.0}, 60, 1)],
)  # fmt: skip
def test_edge_operations(
    device: torch.device,
    edges: dict[str, float],
    roundings: int,
    places: int,
    window: tuple[int, int, int, int] | None,
) -> None:
    """Levels are the same two operations. A rim is sampled between pixels: PLACE of a step. A Gaussian is a mean of
    as many products as `roundings` says, and the largest of numbers is as far off as they are.
    """
    alpha, settings = soft_alpha(), FinishSettings(**edges)
    expected = edge_ops.finish(alpha, settings, window)
    found = array(device_edge_ops.finish(torch.from_numpy(alpha).to(device), settings, window))
    assert np.abs(expected - alpha).max() > 0.02
    steep = step(alpha) / (settings.white - settings.black)
    assert np.abs(found - expected).max() <= roundings * U + places * PLACE * steep


class Still:
    """One mask for every frame."""

    def __init__(self, mask: np.ndarray) -> None:
        self._mask = mask

    def at(self, index: int) -> np.ndarray:
        return self._mask


@pytest.mark.parametrize("invert", [False, True])
def test_what_is_made_by_hand_overrides_to_the_bit(device: torch.device, invert: bool) -> None:
    own = soft_alpha(9)
    matted = Matted(frame_of(0, textured(), alpha=own), soft_alpha(), record())
    trimap = np.where(soft_alpha(4) > 0.9, 1, np.where(soft_alpha(4) < 0.1, 0, 0.5)).astype(np.float32)
    forced = edge_ops.Overrides(Still(trimap), Still(soft_alpha(2)), Still(soft_alpha(3)))
    settings = FinishSettings(invert=invert)
    expected = edge_ops.with_plate_alpha(edge_ops.apply_edge_ops(matted, settings, forced))
    found = device_edge_ops.with_plate_alpha(device_edge_ops.apply_edge_ops(resident(matted, device), settings, forced))
    for name in ("alpha", "coverage", "matte"):
        np.testing.assert_array_equal(array(getattr(found, name)), getattr(expected, name))


def test_several_subjects_are_divided_alike(device: torch.device) -> None:
    """A share is a quotient, and one correction of the last place: three roundings. No sum is above 1."""
    alphas = [soft_alpha(0), soft_alpha(1) * np.float32(0.7), np.roll(soft_alpha(2), 30, 1)]
    alphas = [np.where(alpha > 0, alpha * np.float32(0.977), 0).astype(np.float32) for alpha in alphas]
    parts = [Matted(frame_of(0, textured()), a, record(subject=str(k))) for k, a in enumerate(alphas)]
    there = [resident(part, device) for part in parts]
    expected = compositing.divided(parts)
    found = device_compositing.divided(there)
    sums = np.sum([array(part.alpha).astype(np.float64) for part in found], axis=0)
    assert sums.max() <= 1 and np.sum(alphas, axis=0).max() > 1
    for one, other in zip(expected, found, strict=True):
        assert np.abs(one.alpha - array(other.alpha)).max() <= 3 * U * 2
    include = soft_alpha(5)
    raised = compositing.share_included(expected, include)
    raised_there = device_compositing.share_included(found, torch.from_numpy(include).to(device))
    for one, other in zip(raised, raised_there, strict=True):
        assert np.abs(one.alpha - array(other.alpha)).max() <= 12 * U
    whole, whole_there = compositing.united(raised), device_compositing.united(raised_there)
    assert np.abs(whole.alpha - array(whole_there.alpha)).max() <= 36 * U and len(whole_there.parts) == 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("with_own_alpha", [False, True])
def test_the_foreground(device: torch.device, dtype: Any, with_own_alpha: bool) -> None:
    """Each visit of a pixel averages its neighbours and projects F and B on what explains the plate: errors do not
    grow, so those of 14 operations on codes add up over the visits. Alpha has steps of 1/256, so that its means, and
    with them the weights, are exact on every level. The coarsest colours begin as a mean of up to 1024 pixels. A plate
    of whole numbers is rounded when it is halved first, perhaps half way to the other code, and at the end.

    The soft pixels reach the picture's rim, so both backends compute the same rectangle.
    """
    alpha = soft_alpha(edge=200)
    alpha[0, :], alpha[:, 0], alpha[-1, :], alpha[:, -1] = 0.5, 0.5, 0.5, 0.5
    rgb = textured(dtype=dtype)
    own = np.clip(soft_alpha(7, edge=20) * 4, 0, 1) if with_own_alpha else None
    expected = foreground.estimate_foreground(rgb, alpha, own)
    matted = resident(Matted(frame_of(0, rgb, alpha=own), alpha, record()), device)
    colour = device_foreground.with_foreground(matted).colour
    assert colour is not None
    top = float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0
    changed = np.abs(expected.astype(np.float64) - rgb).max()
    assert changed > 0.03 * top
    visits = 2 * (foreground.ROUNDS_COARSEST + foreground.ROUNDS * 3)
    off = np.sqrt(2) * U * top * (14 * visits + 1024) + (2.5 if top > 1 else 0)
    if with_own_alpha:  # colours are extended through as many levels, each a weighted mean and a quotient
        off += 8 * 20 * U * top
    assert np.abs(array(colour).transpose(1, 2, 0) - expected).max() <= off


def test_the_foreground_of_a_hard_alpha_is_the_plate(device: torch.device) -> None:
    hard = np.where(soft_alpha() > 0.5, np.float32(1), np.float32(0))
    matted = resident(Matted(frame_of(0, textured()), hard, record()), device)
    np.testing.assert_array_equal(array(device_foreground.with_foreground(matted).colour), array(matted.frame.values))


def codecs() -> list[MovieCodec]:
    kinds = [(codec, content) for codec in (ProResCodec, Ffv1Codec) for content in ("rgba", "alpha")]
    return [codec(content, Colour(), H, W) for codec, content in kinds]


@pytest.mark.parametrize("codec", codecs(), ids=lambda codec: f"{codec.codec}-{codec.pixel_format}")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("premultiply", [False, True])
def test_planes(device: torch.device, codec: MovieCodec, dtype: Any, premultiply: bool) -> None:
    """A plane is a sum of at most five numbers up to its largest code, so both are a half and 8 roundings from the
    exact one; before that a product of colour and alpha may be rounded to either of two codes.
    """
    recipe = codec.recipe
    assert recipe is not None
    recipe = PlaneRecipe(recipe.rows, premultiplied=premultiply)
    rgb, alpha = textured(dtype=dtype), soft_alpha() * np.float32(0.9999)
    wide = as_16_bit(rgb)
    expected = codec.planes(premultiplied(wide, alpha) if premultiply else wide, alpha, None)
    matted = resident(Matted(frame_of(0, rgb), alpha, record()), device)
    found = array(planes(matted, recipe)).view(np.uint16)
    given = np.concatenate([premultiplied(wide, alpha) if premultiply else wide, alpha[..., None]], 2).astype(
        np.float64
    )
    for (*weights, offset), plane, one in zip(recipe.rows, found, expected, strict=True):
        exact = given @ weights + offset
        slack = 0.5 + 8 * U * 65535 + (sum(np.abs(weights[:3])) if premultiply else 0)
        assert np.abs(plane - exact).max() <= slack
        assert np.abs(one - exact).max() <= slack
        assert np.abs(plane.astype(int) - one).max() <= 1
