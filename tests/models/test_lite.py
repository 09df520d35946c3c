"""The embedded small model: its backbone against timm's, its contract, and its shipped weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mam_video.core.errors import WeightsError
from mam_video.core.geometry import Box
from mam_video.models import cpu_convolutions, lite
from mam_video.models.base import Embedding, Model, Reference, ViewPrompt
from mam_video.models.lite import LiteModel, folded
from mam_video.models.lite_backbone import (
    ARCHITECTURES,
    LITE0,
    LITE2,
    LiteArchitecture,
    SameConv,
    Stage,
    architecture_of,
)
from mam_video.models.lite_layers import FEATURES, Features, halved
from mam_video.models.lite_matte import between, local_colours
from mam_video.models.lite_net import LOOK, MATCH_MAPS, PROMPT_MAPS, LiteNet
from mam_video.models.lite_prompts import prompt_maps
from mam_video.training.checkpoints import save_weights
from tests.numerics import Truth, in_double

pytestmark = pytest.mark.numeric


def shaken(seed: int = 0, architecture: LiteArchitecture = LITE0) -> LiteNet:
    """An untrained network whose batch norms do something."""
    torch.manual_seed(seed)
    net = LiteNet(architecture)
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith("running_mean") or (name.endswith("weight") and not value.any()):
            value.normal_(0, 0.2)
    return net.eval()


@pytest.fixture(scope="module")
def model() -> LiteModel:
    return LiteModel(shaken(), "cpu")


def pictures(count: int = 2, h: int = 640, w: int = 500) -> list[np.ndarray]:
    noise = np.random.default_rng(5)
    return [noise.integers(0, 256, (h, w, 3)).astype(np.uint8) for _ in range(count)]


@pytest.mark.parametrize("which", ARCHITECTURES)
def test_backbone_equals_timm(which: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed (it is not needed to run the model)")
    theirs = timm.create_model(f"tf_efficientnet_{which}", pretrained=False, num_classes=0).eval()
    torch.manual_seed(0)
    for name, value in theirs.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.1)
    features = timm.create_model(f"tf_efficientnet_{which}", pretrained=False, features_only=True).eval()
    features.load_state_dict(theirs.state_dict(), strict=False)
    ours = LiteNet(ARCHITECTURES[which]).backbone.eval()
    ours.load_efficientnet_lite(theirs.state_dict())
    x = torch.rand(2, 3, 96, 64) * 2 - 1
    with torch.inference_mode():
        f2, f4 = ours.low(x)
        exact = in_double(features)(x.double())
        for mine, other, true in zip((f2, f4, *ours.deep(f4)), features(x), exact, strict=True):
            Truth.of(true, other).check(mine)


def test_folding_changes_nothing() -> None:
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    prompts, matches = torch.rand(1, PROMPT_MAPS, 32, 32), torch.rand(1, MATCH_MAPS, 8, 8)
    big = torch.rand(1, 3, 128, 128) * 2 - 1

    def run(net: LiteNet, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
        features = net.features(x.to(dtype))
        # The decoder rounds what it gives to float32, once and in the end.
        logits = net.segmenter.decode(features, prompts.to(dtype), matches.to(dtype))[0].to(dtype)
        f2, f4 = net.backbone.low(F.avg_pool2d(big.to(dtype), 2))
        return logits, net.matte(big.to(dtype), f2, f4, features, logits)[0]

    with torch.inference_mode():
        exact = run(in_double(shaken()), torch.float64)
        for true, plain, quick in zip(exact, run(shaken()), run(folded(shaken())), strict=True):
            Truth.of(true, plain).check(quick)


def test_the_head_is_told_how_far_a_colour_lies_between_subject_and_background() -> None:
    """A red disc with a soft edge over blue: what is told is its alpha, though the mask is sure of neither there."""
    axis = torch.arange(64.0) - 31.5
    alpha = ((20 - (axis[:, None] ** 2 + axis**2).sqrt()) / 8 + 0.5).clamp(0, 1)[None, None]
    red, blue = (torch.tensor(c).view(1, 3, 1, 1) for c in ([0.8, -0.6, -0.5], [-0.7, -0.4, 0.6]))
    picture = alpha * red + (1 - alpha) * blue
    rough = (0.5 + 0.4 * (alpha - 0.5).sign() * ((alpha - 0.5).abs() > 0.45)).clamp(0.1, 0.9)
    subject, background = local_colours(picture, rough)
    assert (subject - red).abs().max() < 0.07 and (background - blue).abs().max() < 0.07
    assert (between(picture, subject, background) - alpha).abs().max() < 0.06
    # Nothing known of the subject: no colour at all comes out, and no number that is none.
    nobody, _ = local_colours(picture, torch.zeros_like(alpha))
    assert torch.isfinite(nobody).all() and nobody.abs().max() < 1e-6


def test_it_keeps_the_contract(model: LiteModel) -> None:
    assert isinstance(model, Model)
    with torch.inference_mode():
        embedding = model.embed(pictures())
        assert (embedding.count, embedding.content) == (2, (640, 500))
        found = model.segment(embedding, 1, ViewPrompt(Box(50, 60, 300, 400)))
        assert found.logits.shape == (1, model.mask_size, model.mask_size) and found.logits.dtype == np.float32
        assert found.scores.shape == (1,) and 0 <= found.scores[0] <= 1
        # 500 of 640 pixels are picture: from column 125 on there is padding, and nobody's subject.
        assert (found.logits[0][:, 125:] < 0).all()
        alpha = model.matte(embedding, np.repeat(found.logits, 2, 0))
        assert alpha.shape == (2, 1, 640, 640) and alpha.dtype == torch.float32
        assert float(alpha.min()) >= 0 and float(alpha.max()) <= 1


def test_every_prompt_is_heard(model: LiteModel) -> None:
    points, labels = np.array([[100.0, 100], [300, 300]], np.float32), np.array([1, 0])
    previous = np.full((model.mask_size, model.mask_size), -4, np.float32)
    previous[40:80, 40:80] = 4
    with torch.inference_mode():
        embedding = model.embed(pictures())
        box = Box(50, 60, 300, 400)
        reference = Reference(embedding, 0, previous, prompted=True)
        recent = Reference(embedding, 0, -previous)
        asked = [
            ViewPrompt(box),
            ViewPrompt(None, points, labels),
            ViewPrompt(None, points, 1 - labels),
            ViewPrompt(box, points, labels),
            ViewPrompt(box, logits=previous),
            ViewPrompt(box, logits=previous, references=(reference,)),
            ViewPrompt(box, logits=previous, references=(reference, recent)),
            ViewPrompt(),
        ]
        answers = [model.segment(embedding, 1, p).logits for p in asked]
        again = [model.segment(embedding, 1, p).logits for p in asked]
    assert all(np.array_equal(a, b) for a, b in zip(answers, again, strict=True))
    for i, a in enumerate(answers):
        assert not any(np.array_equal(a, b) for b in answers[:i]), i


def test_a_frame_does_not_depend_on_its_batch(model: LiteModel) -> None:
    one, two = pictures()
    with torch.inference_mode():
        both, alone = model.embed([one, two]), model.embed([two])
        prompt = ViewPrompt(Box(50, 60, 300, 400))
        a, b = model.segment(both, 1, prompt).logits, model.segment(alone, 0, prompt).logits
    assert np.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("content", [(640, 500), (353, 640), (640, 640)])
def test_the_number_of_threads_changes_no_bit(content: tuple[int, int]) -> None:
    """With the shipped weights, since the sums that could differ are of many unlike numbers there."""
    trained = LiteModel.load(device="cpu")
    found: list[list[np.ndarray]] = []
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            with torch.inference_mode():
                embedding = trained.embed(pictures(3, *content))
                first = trained.segment(embedding, 0, ViewPrompt(Box(50, 60, 300, 320), prompted=True))
                known = Reference(embedding, 0, first.logits[0], prompted=True)
                latest = Reference(embedding, 1, first.logits[0], prompted=False)
                prompt = ViewPrompt(Box(40, 50, 320, 330), logits=first.logits[0], references=(known, latest))
                second = trained.segment(embedding, 2, prompt)
                again = trained.recognise(embedding, 2, prompt)
                alpha = trained.matte(embedding, np.concatenate([first.logits, first.logits, second.logits]))
            found.append([first.logits, first.scores, second.logits, second.scores, again.logits, alpha.numpy()])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize("content", [(640, 500), (353, 640)])
def test_what_lies_in_the_padding_takes_no_work_and_changes_nothing(content: tuple[int, int]) -> None:
    """The matte head with and without the content's size: what float32 may be off is the only difference."""
    net = shaken()
    h, w = content
    with torch.inference_mode():
        picture = torch.zeros(1, 3, 640, 640)
        picture[..., :h, :w] = torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(4)) * 2 - 1
        small = F.avg_pool2d(picture, 2)
        f2, f4 = net.backbone.low(small)
        logits = 4 * torch.randn(1, 1, 160, 160, generator=torch.Generator().manual_seed(5))
        whole, _ = net.matte(picture, f2, f4, net.features(small), logits)
        part, _ = net.matte(picture, f2, f4, net.features(small), logits, content)
    assert part.shape == whole.shape
    torch.testing.assert_close(part[..., :h, :w], whole[..., :h, :w], rtol=1e-5, atol=1e-4)
    beyond = part[..., h + 29 :, :].flatten().tolist() + part[..., w + 29 :].flatten().tolist()
    assert beyond and max(beyond) == -20


@pytest.mark.parametrize("content", [(375, 640), (640, 300), (1, 1)])
def test_the_first_layers_leave_out_what_sees_no_picture(content: tuple[int, int]) -> None:
    """Of the largest architecture, whose layers see the farthest; a picture that is padding far away is like none."""
    model = LiteModel(shaken(architecture=LITE2), "cpu")
    backbone, (h, w) = model._net.backbone, content
    assert backbone.worth_leaving_out((-(-h // 2), -(-w // 2)), 320)
    with torch.inference_mode():
        found = model.embed(pictures(2, h, w)).data
        f2, f4 = backbone.low(halved(found.pictures))
        torch.testing.assert_close(found.f2, f2, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.f4, f4, rtol=0, atol=1e-5)
    assert not torch.equal(found.f4[0], found.f4[1]) and found.f4.stride() == f4.stride()
    share = torch.zeros(1, 1, 640, 640)
    share[..., :h, :w] = 1
    assert torch.equal(found.valid, F.avg_pool2d(share, 16))


def test_many_cells_are_matched_as_one_by_one() -> None:
    """On a CPU the cells are compared some at a time: against all at once, as with gradients."""
    segmenter = LiteNet().segmenter.requires_grad_(False)
    noise = torch.Generator().manual_seed(1)
    key, other = (F.normalize(torch.randn(2, 32, 30, 31, generator=noise), dim=1) for _ in range(2))
    inside = torch.rand(2, 1, 30, 31, generator=noise)
    with torch.enable_grad():
        whole = segmenter.match(key, other, inside, torch.ones_like(inside))
    with torch.inference_mode():
        torch.testing.assert_close(
            segmenter.match(key, other, inside, torch.ones_like(inside)), whole, rtol=0, atol=2e-6
        )  # sums of 32 products of at most 1


def test_matches_tell_the_inside_from_the_outside() -> None:
    segmenter = LiteNet().segmenter
    key = F.normalize(torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    inside = torch.zeros(1, 1, 8, 8)
    inside[..., 2:5, 2:5] = 1
    maps = segmenter.match(key, key, inside, torch.ones_like(inside))
    assert ((maps[:, 0] > maps[:, 1]) == (inside[:, 0] > 0)).all()
    # A cell of padding matches nothing.
    valid = torch.ones_like(inside)
    valid[..., 7] = 0
    assert float(segmenter.match(key, key, inside, valid)[0, 1, :, 7].max()) < 1


def test_the_target_map_is_a_ridge_regression() -> None:
    """Against numpy's least squares with the ridge as further rows; and nothing said gives nothing."""
    segmenter = LiteNet().segmenter
    noise = torch.Generator().manual_seed(2)
    look = F.normalize(torch.randn(1, LOOK, 8, 8, generator=noise), dim=1)
    inside = torch.rand(1, 1, 8, 8, generator=noise)
    valid = torch.ones_like(inside)
    valid[..., 7] = 0
    with torch.no_grad():
        said = segmenter.evidence(look, inside, valid)
        found = segmenter.target(look, said)[0, 0].numpy()
        assert not segmenter.target(look, said.times(torch.zeros(1))).any()
        twice = segmenter.target(look, said.plus(said)).numpy()
    x = np.vstack([look[0].flatten(1).numpy(), np.ones((1, 64))]).T.astype(np.float64)
    a, v = inside.flatten().numpy().astype(np.float64), valid.flatten().numpy()
    subject, rest = 0.5 * a * v / (a * v).sum(), 0.5 * (1 - a) * v / ((1 - a) * v).sum()
    weight = subject + rest
    y = (subject - rest) / np.where(weight > 0, weight, 1)
    rows = np.vstack([np.sqrt(weight)[:, None] * x, np.exp(-5 / 2) * np.eye(LOOK + 1)])
    solution = np.linalg.lstsq(rows, np.concatenate([np.sqrt(weight) * y, np.zeros(LOOK + 1)]), rcond=None)[0]
    assert np.abs(found - (x @ solution).clip(-2, 2).reshape(8, 8)).max() < 1e-4
    assert np.abs(twice).mean() > np.abs(found).mean(), "more evidence, less ridge"


def test_the_box_is_told_as_places_too() -> None:
    maps = prompt_maps(
        16, torch.tensor([[0.25, 0.5, 0.75, 1.0]]), torch.ones(1), torch.zeros(1, 1, 16, 16), torch.zeros(1),
        torch.zeros(1, 0, 2), torch.zeros(1, 0),
    )[0]  # fmt: skip
    assert maps.shape == (PROMPT_MAPS, 16, 16)
    inside, u, v = maps[0], maps[2], maps[3]
    assert inside[10, 6] == 1 and inside[2, 6] == 0
    # Cells 4..11 across and 8..15 down are the box: its middle lies between cells.
    assert float(u[0, 4]) == pytest.approx(-0.875) and float(u[0, 11]) == pytest.approx(0.875)
    assert float(v[8, 0]) == pytest.approx(-0.875) and float(v[0, 0]) == -2


def test_wrong_weights_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read"):
        LiteModel.load(tmp_path / "none.safetensors", "cpu")
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 100)
    with pytest.raises(WeightsError, match="cannot read"):
        LiteModel.load(tmp_path / "junk.safetensors", "cpu")
    save_weights({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="not of the model lite"):
        LiteModel.load(tmp_path / "other.safetensors", "cpu")


def test_weights_of_the_trainer_load(tmp_path: Path) -> None:
    net = shaken(3)
    save_weights(net.state_dict(), tmp_path / "own.safetensors", half=True)
    loaded = LiteModel.load(tmp_path / "own.safetensors", "cpu")
    assert set(loaded.weights) == {"own.safetensors"}
    with torch.inference_mode():
        a, b = LiteModel(net, "cpu"), loaded
        prompt = ViewPrompt(Box(50, 60, 300, 400))
        x, y = (m.segment(m.embed(pictures(1)), 0, prompt).logits for m in (a, b))
    assert np.abs(x - y).max() < 0.05 * np.abs(x).max()


def test_a_file_tells_its_architecture(tmp_path: Path) -> None:
    """With metadata and without, in half precision; where the two differ, one line says so."""
    small = replace(LITE2, wide=32, middle=24, narrow=16, attentions=1)
    for architecture in (LITE2, small):
        state = shaken(1, architecture).state_dict()
        assert architecture_of(state) == architecture == architecture_of(state, architecture.to_text())
    path = tmp_path / "small.safetensors"
    for told in ("", small.to_text()):
        save_weights(state, path, half=True, architecture=told)
        found = LiteModel.load(path, "cpu")
        assert found._net.architecture == small
        with torch.inference_mode():
            seen = found.embed(pictures(1))
            logits = found.segment(seen, 0, ViewPrompt(Box(50, 60, 300, 400))).logits
            assert torch.isfinite(found.matte(seen, logits)).all()
    for told in (LITE0.to_text(), "{}", "7", '{"stages": [], "wide": 32, "middle": 8, "narrow": 8, "attentions": 1}'):
        save_weights(state, path, architecture=told)
        with pytest.raises(WeightsError, match="not of the model lite") as error:
            LiteModel.load(path, "cpu")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wide": 100}, "no multiple of 32"),
        ({"attentions": 0}, "above 0"),
        ({"narrow": 1.5}, "whole numbers"),
        ({"stages": LITE0.stages[:6]}, "7 stages, not 6"),
        ({"stages": (*LITE0.stages[:6], Stage(6, 4, 320, 1))}, "odd"),
    ],
)
def test_no_network_of_an_impossible_architecture(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LITE0, **change)


@pytest.mark.skipif(not lite.SHA256, reason="no weights are shipped yet")
def test_the_shipped_weights_are_pinned() -> None:
    assert lite.WEIGHTS.stat().st_size <= 24_000_000
    assert LiteModel.load().weights == {lite.WEIGHTS.name: lite.SHA256}


def test_features_pick_one_of_a_batch() -> None:
    f = Features(*(torch.arange(2.0).view(2, 1, 1, 1) for _ in FEATURES))
    assert [float(v) for v in (f.pick(1).l4, f.pick(1).key)] == [1, 1]
    assert isinstance(Embedding(1, (2, 2), f).data, Features)


@pytest.mark.skipif(not cpu_convolutions.available(), reason="this build of PyTorch has no oneDNN")
@pytest.mark.parametrize("content", [(640, 640), (640, 374)])
def test_a_network_made_ready_for_a_cpu_computes_the_same(content: tuple[int, int]) -> None:
    """Each of its halves, up to what float32 may be off: float64 is the truth."""
    noise = torch.Generator().manual_seed(3)
    picture = torch.zeros(1, 3, 640, 640)
    picture[..., : content[0], : content[1]] = torch.rand(1, 3, *content, generator=noise) * 2 - 1
    logits = 4 * torch.randn(1, 1, 160, 160, generator=noise)
    prompts = torch.rand(1, PROMPT_MAPS, 160, 160, generator=noise)
    matches = torch.rand(1, MATCH_MAPS, 40, 40, generator=noise)

    def run(net: LiteNet, kind: torch.dtype) -> list[torch.Tensor]:
        with torch.inference_mode():
            small = F.avg_pool2d(picture.to(kind), 2).contiguous(memory_format=torch.channels_last)
            f2, f4 = net.backbone.low(small)
            features = net.segmenter.features(f4, *net.backbone.deep(f4))
            mask, score = net.segmenter.decode(features, prompts.to(kind), matches.to(kind))
            alpha, _ = net.matte(picture.to(kind), f2, f4, features, logits.to(kind), content)
            h, w = content
            return [mask, score, alpha[..., :h, :w]]

    plain = folded(shaken())
    exact, rounded = run(in_double(plain), torch.float64), run(plain, torch.float32)
    found = run(lite.packed(plain), torch.float32)
    for name, right, once, ours in zip(("mask", "score", "alpha"), exact, rounded, found, strict=True):
        Truth.of(right.double(), once).check(ours, name)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 16])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.skipif(not cpu_convolutions.available(), reason="this build of PyTorch has no oneDNN")
def test_a_packed_convolution_pads_as_the_plain_one(stride: int, groups: int, kernel: int) -> None:
    torch.manual_seed(0)
    conv = SameConv(16, 16, kernel, stride, groups, act=True).requires_grad_(False)
    x = torch.randn(1, 16, 24, 36).contiguous(memory_format=torch.channels_last)
    packed = cpu_convolutions.PackedConvolution(conv, act=True, same=conv.same)
    right, once = in_double(conv)(x.double()), conv(x)
    assert packed(x).shape == right.shape
    Truth.of(right, once).check(packed(x), "packed")
