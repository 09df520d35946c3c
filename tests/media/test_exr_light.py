"""What EXR files hold is the plate's linear light times alpha, whichever way is the quicker one."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mam_video.core.frames import Frame, ViewTransform
from mam_video.media.sequence.light_planes import light_planes, stored_alpha
from mam_video.media.view_transforms import SRGB, CurveTransform, VideoTransform, decode_log

SIZE = (40, 60)


class Mixed:
    """A look that mixes channels, as OpenColorIO's do."""

    name = "mixed"

    def display(self, rgb: np.ndarray) -> np.ndarray:
        return rgb

    def linear(self, rgb: np.ndarray) -> np.ndarray:
        light: np.ndarray = rgb[..., ::-1].astype(np.float32) / 50
        return light


LOOKS = {"none": None, "log": CurveTransform("log", decode_log), "pq": VideoTransform("pq", "bt2020"), "mixed": Mixed()}


def plate(dtype: Any) -> np.ndarray:
    noise = np.random.default_rng(1)
    if np.dtype(dtype).kind == "u":
        return noise.integers(0, np.iinfo(dtype).max, (*SIZE, 3), dtype=dtype, endpoint=True)
    values = (noise.normal(0, 3, (*SIZE, 3)) ** 3).astype(dtype)
    values[0, :5], values[1, :5], values[2, 30:35] = np.nan, np.inf, 60000 if dtype == np.float16 else 1e9
    return values


def alpha_of(kind: str) -> np.ndarray:
    ramp = np.linspace(-8, 9, SIZE[1]) if kind == "hard" else np.linspace(0, 1.1, SIZE[1])
    return np.repeat(np.clip(ramp, 0, 1).astype(np.float32)[None], SIZE[0], 0)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
@pytest.mark.parametrize("stored", [np.float16, np.float32])
def test_the_planes_are_light_times_alpha(dtype: Any, kind: str, stored: Any, look: str) -> None:
    view: ViewTransform | None = LOOKS[look]
    rgb, alpha = plate(dtype), alpha_of(kind)
    inside = (slice(1, 30), slice(2, 59))
    narrow = stored == np.float16 and dtype != np.float16
    with np.errstate(invalid="ignore", over="ignore"):
        found = light_planes(Frame(0, 0, Fraction(1, 24), rgb, view), inside, alpha[inside], stored, narrow=narrow)
        light = rgb.astype(np.float32) if rgb.dtype.kind == "f" else (view or SRGB).linear(rgb)
        for k, plane in enumerate(found):
            product = np.where(alpha == 0, np.float32(0), light[..., k] * alpha)
            wanted = (np.clip(product, -65504, 65504) if narrow else product).astype(stored)[inside]
            assert plane.dtype == stored
            np.testing.assert_array_equal(plane, wanted)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_alpha_is_rounded_once(dtype: Any, kind: str) -> None:
    alpha = alpha_of(kind)[:, 3:50]
    np.testing.assert_array_equal(stored_alpha(alpha, dtype), alpha.astype(dtype))
