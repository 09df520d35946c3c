"""Parity with the authors' code, from a uint8 picture and a prompt to the final alpha, through the public functions.

What the authors' float32 is off from float64 sets the bounds of M2M's alphas. On another order of sums a pixel of the
whole path changes only where a logit or an alpha lies at a threshold, so there shares of pixels are compared.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from mam_video.core.crop import Crop
from mam_video.core.geometry import Box, Point
from mam_video.core.settings import MatteSettings
from mam_video.matting.still import matte_picture, view_prompt
from mam_video.models import merge
from mam_video.models.base import ViewPrompt
from mam_video.models.m2m import M2M
from mam_video.models.mam import MamModel
from mam_video.prompts.prompt import Prompt
from tests.models.make_fixtures import m2m_float64
from tests.numerics import Truth
from tests.reference import FOLDER, checkpoint, needs_reference

pytestmark = [needs_reference, pytest.mark.numeric]

CASES = ("a", "b_soft_mask", "c_mask_zero", "d_mask_one", "e_noise")
ROUNDED = 255 * 1e-4  # in codes; test_m2m holds that float32's alphas are nearer to the truth
PICTURES = ("cat_points", "coffee_box", "landscape_box", "odd_point", "portrait_box", "square_box")
SETTINGS = {
    "alpha_raw": MatteSettings(guidance="alpha", box_clean=False),
    "alpha": MatteSettings(guidance="alpha"),
    "mask": MatteSettings(guidance="mask"),
}
SETTINGS |= {
    f"{name}_two": MatteSettings(guidance=s.guidance, box_clean=s.box_clean, two_sided=True)
    for name, s in SETTINGS.items()
}


@cache
def fixture(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


@cache
def trained_m2m() -> M2M:
    m2m = M2M()
    m2m.load(checkpoint("mam_tiny.pth.xz")["state_dict"])
    return m2m.eval()


@cache
def model(fold: bool = True) -> MamModel:
    state = checkpoint("mam_tiny.pth.xz")["state_dict"]
    return MamModel.from_states(
        "tiny", checkpoint("sam_tiny.pth.xz"), state, device="cpu", precision="float32", fold=fold
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("folded", [False, True])
def test_m2m(case: str, folded: bool) -> None:
    data = fixture("m2m_io")
    inputs = [torch.from_numpy(data[f"{case}/{name}_x32"].astype(np.float32) / 32) for name in ("embedding", "image")]
    m2m = trained_m2m().fold() if folded else trained_m2m()
    with torch.inference_mode():
        guide = torch.from_numpy(data[f"{case}/mask"])
        alphas = m2m(*inputs, guide)
        exact = m2m_float64(trained_m2m().state_dict(), inputs[0], inputs[1], guide)
    for name, alpha, true in zip(alphas._fields, alphas, exact, strict=True):
        theirs = Truth.of(true, data[f"{case}/{name}"])  # the authors' float32
        assert theirs.most < 1e-4, f"{name}: this is not what float32 rounds"  # of alphas in [0, 1]
        theirs.check(alpha, name)


def maps_of(kind: str) -> list[tuple[str, int]]:
    return [(n, int(w)) for k, n, w in (key.split("/") for key in fixture("merge_io") if key.startswith(f"{kind}/"))]


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_unknown_regions_are_exactly_the_same(kind: str) -> None:
    data = fixture("merge_io")

    def given(array: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)) if kind == "torch" else np.ascontiguousarray(array)

    def same(found: Any, expected: np.ndarray) -> None:
        np.testing.assert_array_equal(np.asarray(found), expected.astype(bool))

    count = 0
    for sides, two in (("2", True), ("1", False)):
        for name, width in maps_of(f"pred{sides}"):
            for alpha, expected in zip(data[f"alpha/{name}"], data[f"pred{sides}/{name}/{width}"], strict=True):
                same(merge.unknown_from_alpha(given(alpha[0]), width, two_sided=two), expected[0])
                count += 1
        for name, width in maps_of(f"mask{sides}"):
            for mask, expected in zip(data[f"mask/{name}"], data[f"mask{sides}/{name}/{width}"], strict=True):
                same(merge.unknown_from_mask(given(mask[0] > 0), width, two_sided=two), expected[0])
                count += 1
    for name in (key.split("/")[1] for key in data if key.startswith("box/")):
        # the reference looks at the first picture of a batch only
        same(merge.outside_box(given(data[f"mask/{name}"][0, 0] > 0)), data[f"box/{name}"][0, 0])
        count += 1
    for size in range(1, 30):
        np.testing.assert_array_equal(merge.kernel_of(2 * size), data[f"kernel/{size}"])
    assert count >= 210


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_whole_merges(setting: str, kind: str) -> None:
    data = fixture("merge_io")
    cases = json.loads(bytes(data["merge_cases_json"]).decode())
    done = 0
    for case, sizes in cases.items():
        expected = data.get(f"merge/{case}/out/{setting}")
        if expected is None:
            continue
        (h, w), (full_h, full_w) = sizes["pad"], sizes["ori"]
        levels = [data[f"merge/{case}/{name}"].reshape(1, 1, *data[f"merge/{case}/os8"].shape[-2:]) for name in
                  ("os8", "os4", "os1")]  # fmt: skip
        tensors = [torch.from_numpy(level)[..., :h, :w] for level in levels]
        if (h, w) != (full_h, full_w):
            tensors = [
                torch.nn.functional.interpolate(t, size=(full_h, full_w), mode="bilinear", align_corners=False)
                for t in tensors
            ]
        maps: list[Any] = [t[0, 0] if kind == "torch" else t[0, 0].numpy() for t in tensors]
        mask = data[f"merge/{case}/mask"].reshape(full_h, full_w) > 0
        found = merge.merge_levels(*maps, torch.from_numpy(mask) if kind == "torch" else mask, SETTINGS[setting])  # type: ignore[call-arg]
        difference = np.abs(np.asarray(found) - expected.reshape(full_h, full_w))
        # exactly; where the maps were enlarged first, to the rounding of that
        assert difference.max() <= (1e-6 if (h, w) != (full_h, full_w) else 0), case
        done += 1
    assert done >= 6


def prompt_of(data: dict[str, np.ndarray], view: Crop) -> Prompt:
    """The prompt in the picture's pixels."""
    if str(data["prompt_kind"]) == "box":
        return Prompt(Box(*(float(v) for v in data["box"])))
    sx, sy = view.scale
    labels = data["labels"]
    places = [(float(x) / sx, float(y) / sy) for x, y in data["points_1024"]]
    return Prompt(points=tuple(Point(x, y, bool(label)) for (x, y), label in zip(places, labels, strict=True)))


@pytest.mark.parametrize("name", PICTURES)
def test_from_picture_and_prompt_to_alpha(name: str) -> None:
    """The whole path; every setting of the merge, from one run of the networks."""
    data = fixture(f"e2e_{name}")
    picture = data["image"]
    size = (picture.shape[0], picture.shape[1])
    view = Crop.whole(size, 1024)
    assert view.content == tuple(data["pad_shape"])
    tiny = model()
    prompt = prompt_of(data, view)
    with torch.inference_mode():
        embedding = tiny.embed([view.cut(picture)])
        asked = view_prompt(prompt, view)
        if "points_1024" in data:
            np.testing.assert_allclose(asked.points, data["points_1024"], atol=1e-3)
        else:
            np.testing.assert_allclose(asked.box.xyxy if asked.box else (), data["box_1024"].ravel(), atol=1e-3)
        offered = tiny.segment(embedding, 0, asked)
        np.testing.assert_allclose(offered.scores, data["iou"].ravel(), atol=1e-4)
        best = int(offered.scores.argmax())
        assert best == int(data["chosen"])
        logits = offered.logits[best]
        np.testing.assert_allclose(logits, data["low_res_chosen"], atol=1e-3)
        levels = tiny.matte(embedding, logits[None])[0]
    for setting, expected in ((s, data[f"final_u8/{s}"].astype(int)) for s in SETTINGS):
        found = merge.compose_alpha(levels, logits, view, SETTINGS[setting])
        # The reference truncates, and many alphas lie on a code but for float32's rounding: a code is an interval.
        codes = found.astype(np.float64) * 255
        outside = (codes < expected - ROUNDED) | (codes >= expected + 1 + ROUNDED)
        assert outside.mean() <= 1e-3, setting
    for setting in ("alpha", "mask"):
        found = merge.compose_alpha(levels, logits, view, SETTINGS[setting])
        off = np.abs(found - data[f"final_u16/{setting}"] / 65535) > 1e-3
        assert off.mean() <= 1e-3, setting


@pytest.mark.parametrize("fold", [True, False])
def test_the_picture_function_is_the_same_path(fold: bool) -> None:
    data = fixture("e2e_portrait_box")
    view = Crop.whole((data["image"].shape[0], data["image"].shape[1]), 1024)
    alpha = matte_picture(model(fold), data["image"], prompt_of(data, view), SETTINGS["mask"])
    assert (np.abs(alpha - data["final_u16/mask"] / 65535) > 1e-3).mean() <= 1e-3


def test_a_mask_prompt_changes_the_answer() -> None:
    """MAM never gives one, so the reference holds none; but the tracker does."""
    data = fixture("e2e_square_box")
    view = Crop.whole((256, 256), 1024)
    tiny = model()
    with torch.inference_mode():
        embedding = tiny.embed([view.cut(data["image"])])
        box = view_prompt(prompt_of(data, view), view).box
        plain = tiny.segment(embedding, 0, ViewPrompt(box))
        guided = tiny.segment(embedding, 0, ViewPrompt(box, logits=plain.logits[0]))
    assert np.abs(plain.logits - guided.logits).max() > 1e-2
