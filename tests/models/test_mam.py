"""MAM as a model against Meta's own SAM and a slow M2M and merge, in float64; loading, devices, names."""

import platform
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mam_video.core.crop import Crop
from mam_video.core.errors import DeviceError, UsageError, WeightsError
from mam_video.core.geometry import Box, Point
from mam_video.core.settings import MatteSettings, ModelSettings
from mam_video.matting.still import matte_picture, view_prompt
from mam_video.models import devices
from mam_video.models.base import Model, ViewPrompt
from mam_video.models.m2m import M2M, REACH
from mam_video.models.mam import MamModel
from mam_video.models.merge import compose_alpha, mask_of
from mam_video.models.registry import MODELS, load_model
from mam_video.models.sam import VARIANTS, Sam
from mam_video.prompts.prompt import Prompt
from tests.models import formula
from tests.models.make_fixtures import SamTruth, m2m_float64
from tests.numerics import MULTIPLE, Truth

pytestmark = pytest.mark.numeric

TRUTH = Path(__file__).parent / "data" / "whole.npz"
SIZE = (150, 200)
VIEW = Crop.whole(SIZE, 1024)
BOX = Prompt(Box(52, 18, 168, 131))
POINTS = (Point(110, 75), Point(12, 140, subject=False))
PROMPTS = {"box": BOX, "points": Prompt(points=POINTS), "both": Prompt(BOX.box, POINTS)}
SETTINGS = {
    "mask": MatteSettings(guidance="mask"),
    "alpha": MatteSettings(guidance="alpha"),
    "raw_two": MatteSettings(guidance="alpha", box_clean=False, two_sided=True),
}


@cache
def states() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    sam, m2m = Sam(VARIANTS["tiny"]).state_dict(), M2M().state_dict()
    return formula.filled(sam), formula.m2m_state(m2m)


@cache
def m2m() -> M2M:
    network = M2M()
    network.load(states()[1])
    return network.fold()


@cache
def model() -> MamModel:
    return MamModel.from_states("tiny", *states(), device="cpu", precision="float32")


@cache
def truth() -> dict[str, np.ndarray]:
    with np.load(TRUTH) as file:
        return dict(file)


def test_it_keeps_the_contract() -> None:
    assert isinstance(model(), Model)


@cache
def sam_truth() -> SamTruth:
    """The package's SAM for the picture of these tests, in float64 and in float32."""
    return SamTruth(VIEW.cut(formula.picture(*SIZE)))


def test_embedding_and_masks_agree_with_the_package() -> None:
    """A decoder of scrambled weights enlarges the embedding's rounding a thousandfold, in the package too."""
    embedding = model().embed([VIEW.cut(formula.picture(*SIZE))])
    sam_truth().embedding.check(embedding.data.features, "embedding")
    prompts = {name: view_prompt(prompt, VIEW) for name, prompt in PROMPTS.items()}
    prompts["again"] = ViewPrompt(prompts["box"].box, logits=formula.mask_logits())
    for name, asked in prompts.items():
        offered = model().segment(embedding, 0, asked)
        assert offered.logits.shape == (3, 256, 256) and offered.logits.dtype == np.float32
        logits, scores = sam_truth().offered(asked)
        scores.check(offered.scores, f"{name}: scores")
        logits.check(offered.logits, f"{name}: logits")
        # The mask of these very logits, but where enlarging them in float32 may turn it over.
        best = offered.logits[int(offered.scores.argmax())]
        in_picture = sam_truth().in_picture(best.astype(np.float64), VIEW.content, SIZE)
        sure = np.abs(in_picture) > MULTIPLE * np.finfo(np.float32).eps * np.abs(best).max()
        assert sure.mean() > 0.99, f"{name}: proves little"
        np.testing.assert_array_equal(mask_of(best, VIEW).numpy()[sure], (in_picture > 0)[sure])


def test_a_picture_becomes_the_expected_alpha() -> None:
    """Of the settings it was asked for, and of no other: the rounding of each step is bounded where that is tested.

    A mask or an unknown region turns over where rounding crosses a threshold, and with it all pixels that a kernel
    reaches. So the whole is told by its mean: it lies ten times nearer to its own truth than any other setting does.
    """
    picture = formula.picture(*SIZE)
    embedding = model().embed([VIEW.cut(picture)])
    offered = model().segment(embedding, 0, view_prompt(BOX, VIEW))
    logits = offered.logits[int(offered.scores.argmax())]
    levels = model().matte(embedding, logits[None])[0]
    alphas = {name: compose_alpha(levels, logits, VIEW, settings) for name, settings in SETTINGS.items()}
    expected = {name: truth()[f"alpha/{name}"] / 65535 for name in SETTINGS}
    for name, alpha in alphas.items():
        assert alpha.dtype == np.float32 and alpha.shape == SIZE
        apart = min(np.abs(expected[name] - other).mean() for own, other in expected.items() if own != name)
        assert np.abs(alpha - expected[name]).mean() < apart / 10, name
    np.testing.assert_array_equal(matte_picture(model(), picture, BOX, SETTINGS["mask"]), alphas["mask"])


def test_a_batch_is_its_pictures_bit_for_bit() -> None:
    """On a CPU: so the size of a batch, or where it begins, never shows."""
    picture = formula.picture(*SIZE)
    cuts = [VIEW.cut(picture), VIEW.cut(255 - picture)]
    both = model().embed(cuts)
    asked = view_prompt(BOX, VIEW)
    logits = np.stack([model().segment(both, i, asked).logits[0] for i in range(2)])
    levels = model().matte(both, logits)
    assert levels.shape == (2, 3, 1024, 1024) and levels.dtype == torch.float32
    alone = model().embed(cuts[1:])
    assert np.array_equal(model().segment(alone, 0, asked).logits[0], logits[1])
    assert torch.equal(model().matte(alone, logits[1:])[0], levels[1])


@pytest.mark.parametrize("size", [(40, 90), (90, 40)])
def test_padding_that_nothing_feels_is_left_out(size: tuple[int, int]) -> None:
    """Alphas of the picture are those that M2M gives for the whole square, and in a corner those of float64."""
    view = Crop.whole(size, 1024)
    h, w = view.content
    embedding = model().embed([view.cut(formula.picture(*size))])
    logits = formula.mask_logits()[None]
    levels = model().matte(embedding, logits)
    features, pictures = embedding.data.features, embedding.data.pictures
    guide = (torch.from_numpy(logits) > 0)[:, None]
    # 16 cells of the embedding, of which the first 8 are out of the reach of what is cut off
    corner = features[..., :16, :16], pictures[..., :256, :256], guide[..., :64, :64].float()
    with torch.inference_mode():
        exact = torch.cat(m2m_float64(states()[1], *corner), dim=1)
        known = Truth.of(exact, torch.cat(m2m()(*corner), dim=1))
        whole = torch.cat(m2m()(features, pictures, guide.float()), dim=1)
    cells = np.s_[..., : 16 * (16 - REACH), : 16 * (16 - REACH)]
    known[cells].check(levels[cells])
    torch.testing.assert_close(levels[..., :h, :w], whole[..., :h, :w], atol=2 * known.bound, rtol=0)
    assert not levels[..., -16:, -16:].any()


def test_asked_with_a_mask_alone_it_answers_and_with_nothing_it_does_not() -> None:
    embedding = model().embed([VIEW.cut(formula.picture(*SIZE))])
    moved = np.full((256, 256), -5, np.float32)
    moved[60:140, 60:140] = 5
    assert model().segment(embedding, 0, ViewPrompt(logits=moved)).logits.shape == (3, 256, 256)
    with pytest.raises(ValueError, match="prompt is empty"):
        model().segment(embedding, 0, ViewPrompt())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_the_official_layouts_load(tmp_path: Path, suffix: str) -> None:
    sam, mam = states()
    paths = tmp_path / f"sam{suffix}", tmp_path / f"mam{suffix}"
    if suffix == ".pth":
        torch.save(sam, paths[0])
        # what the authors' trainer writes: the network among counters and the optimiser's state
        optimiser = {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
        torch.save({"iter": 7, "loss": torch.tensor(0.5), "state_dict": mam, "opt_state_dict": optimiser}, paths[1])
    else:
        save_file(sam, paths[0])
        save_file(mam, paths[1])
    loaded = MamModel.load("tiny", *paths, device="cpu", precision="float32")
    assert set(loaded.weights) == {paths[0].name, paths[1].name}
    assert all(len(h) == 64 for h in loaded.weights.values())
    cut = VIEW.cut(formula.picture(*SIZE))
    assert torch.equal(loaded.embed([cut]).data.features, model().embed([cut]).data.features)


def test_the_wrong_file_is_named(tmp_path: Path) -> None:
    sam, mam = states()
    torch.save(sam, tmp_path / "sam.pth")
    torch.save(mam, tmp_path / "mam.pth")
    with pytest.raises(WeightsError, match=r"mam\.pth: not a SAM checkpoint"):
        MamModel.load("tiny", tmp_path / "mam.pth", tmp_path / "mam.pth", device="cpu")
    with pytest.raises(WeightsError, match=r"sam\.pth: not a MAM checkpoint"):
        MamModel.load("tiny", tmp_path / "sam.pth", tmp_path / "sam.pth", device="cpu")
    with pytest.raises(WeightsError, match=r"sam\.pth: these are SAM's weights for tiny, not vit-b"):
        MamModel.load("vit-b", tmp_path / "sam.pth", tmp_path / "mam.pth", device="cpu")


def test_random_weights_follow_their_seed() -> None:
    a, b, c = (MamModel.random("tiny", seed, device="cpu") for seed in (3, 3, 4))
    cut = VIEW.cut(formula.picture(*SIZE))
    features = [m.embed([cut]).data.features for m in (a, b, c)]
    assert torch.equal(features[0], features[1]) and not torch.equal(features[0], features[2])
    with pytest.raises(UsageError, match="seed"):
        MamModel.load("tiny", "random:x", "random:0", device="cpu")


def test_the_registry_knows_its_names() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'sam'.*`mam-video models` lists them"):
        load_model(ModelSettings(name="sam"))
    assert {"classic", "mam-vit-b", "mam-vit-l", "mam-vit-h", "fake-colour"} <= MODELS.keys()
    for name in ("classic", "fake-colour"):
        assert isinstance(load_model(ModelSettings(name=name)), Model)


def test_devices_and_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.resolve_device("auto") == cpu
    with pytest.raises(DeviceError, match="cuda is not available"):
        devices.resolve_device("cuda")
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr(devices, "cpu_prefers_bfloat16", lambda: False)
    assert devices.resolve_precision("auto", cpu) == torch.float32
    with pytest.raises(DeviceError, match="no native bfloat16"):
        devices.resolve_precision("bfloat16", cpu)
    with pytest.raises(DeviceError, match="a CPU does not support"):
        devices.resolve_precision("float16", cpu)
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: True)
    assert devices.resolve_precision("auto", cpu) == torch.float32
    assert devices.resolve_precision("bfloat16", cpu) == torch.bfloat16
    monkeypatch.setattr(devices, "cpu_prefers_bfloat16", lambda: True)
    assert devices.resolve_precision("auto", cpu) == torch.bfloat16
    assert devices.resolve_precision("auto", torch.device("mps")) == torch.float32


@pytest.mark.parametrize(
    ("cpuinfo", "has", "fast"),
    [
        ("model name\t: a\nflags\t\t: fpu avx2 fma\n", False, False),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f avx512_bf16\n", True, True),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512f avx512_bf16\n", True, False),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n", True, True),
        ("Features\t: fp asimd bf16 i8mm\n", True, True),
        ("Features\t: fp asimd\n", False, False),
        ("", False, False),
    ],
)
def test_bfloat16_of_a_cpu_is_read_from_its_flags(cpuinfo: str, has: bool, fast: bool) -> None:
    assert devices.has_bfloat16_flag(cpuinfo) is has
    assert devices.has_fast_bfloat16(cpuinfo) is fast


def test_memory_is_kept_where_there_is_glibc() -> None:
    assert devices.keep_memory() in (True, False)
    assert devices.keep_memory() is devices.keep_memory()
    if sys.platform.startswith("linux") and "glibc" in platform.libc_ver()[0]:
        assert devices.keep_memory()
