"""The first box from words: a tiny random Grounding DINO of the real classes, and a stand-in in the loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mam_video.cli import main
from mam_video.core.errors import UsageError, WeightsError
from mam_video.core.geometry import Box
from mam_video.core.settings import TextSettings
from mam_video.prompts import text as text_module
from mam_video.prompts.text import Spotted, find_by_text
from tests.synthetic import disc, picture, write_movie

SIZE = (96, 128)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "dancer", "in", "red", ".", "a"]
MODEL = ("--model", "fake-colour")
BOX = "18,28,42,52"


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the published layout, very small, as save_pretrained writes them."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[text]'")
    import torch

    folder = tmp_path_factory.mktemp("detector")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS))
    backbone = transformers.SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1], num_heads=[1, 1, 1], window_size=4,
        out_features=["stage2", "stage3"],
    )  # fmt: skip
    words = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone, text_config=words, d_model=32, encoder_layers=2, decoder_layers=2, num_queries=20,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        num_feature_levels=2, max_text_len=16, encoder_n_points=2, decoder_n_points=2,
    )  # fmt: skip
    torch.manual_seed(3)
    transformers.GroundingDinoForObjectDetection(config).eval().save_pretrained(folder)
    images = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    tokenizer = transformers.BertTokenizer(str(vocabulary))
    transformers.GroundingDinoProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def test_a_real_detector_gives_a_box_inside_the_picture(detector: Path) -> None:
    settings = TextSettings(model=str(detector), threshold=0)
    found = find_by_text(noise(), "The dancer in RED. ", settings, "cpu")
    assert found == find_by_text(noise(), "the dancer  in red", settings, "cpu")
    assert 0 <= found.box.x0 < found.box.x1 <= SIZE[1] and 0 <= found.box.y0 < found.box.y1 <= SIZE[0]
    assert all(v == int(v) for v in found.box.xyxy)
    assert 0 < found.score < 1 and found.others == 19


def test_its_boxes_and_scores_are_those_of_transformers_itself(detector: Path) -> None:
    import torch
    import transformers

    processor = transformers.AutoProcessor.from_pretrained(detector)
    model = transformers.GroundingDinoForObjectDetection.from_pretrained(detector).eval()
    inputs = processor(images=noise(), text="the dancer in red.", return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
    (theirs,) = processor.post_process_grounded_object_detection(
        outputs, inputs.input_ids, text_threshold=0.0, target_sizes=[SIZE], **_threshold(processor, 0.0)
    )
    best = int(theirs["scores"].argmax())
    ours = find_by_text(noise(), "the dancer in red", TextSettings(model=str(detector), threshold=0), "cpu")
    assert ours.score == pytest.approx(float(theirs["scores"][best]), abs=1e-6)
    clipped = np.clip(theirs["boxes"][best].numpy(), 0, [SIZE[1], SIZE[0]] * 2)
    np.testing.assert_allclose(ours.box.xyxy, clipped, atol=1.01)


def _threshold(processor: Any, value: float) -> dict[str, float]:
    """Its name changed with time."""
    names = type(processor).post_process_grounded_object_detection.__code__.co_varnames
    return {"threshold" if "threshold" in names else "box_threshold": value}


def test_what_does_not_reach_the_threshold_is_not_taken(detector: Path) -> None:
    settings = TextSettings(model=str(detector), threshold=0)
    score = find_by_text(noise(), "the dancer", settings, "cpu").score
    at = TextSettings(model=str(detector), threshold=score - 1e-4)
    assert find_by_text(noise(), "the dancer", at, "cpu").score == score
    above = TextSettings(model=str(detector), threshold=min(score + 1e-3, 1))
    with pytest.raises(UsageError, match=rf"nothing like it was found \(the best fits by {score:.2f}"):
        find_by_text(noise(), "the dancer", above, "cpu")


def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[text]'")
    with pytest.raises(WeightsError, match="there is no such folder"):
        find_by_text(noise(), "a dancer", TextSettings(model=str(tmp_path / "none")), "cpu")
    with pytest.raises(WeightsError, match="must hold what save_pretrained writes"):
        find_by_text(noise(), "a dancer", TextSettings(model=str(tmp_path)), "cpu")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="where there is no network, fetch it elsewhere") as told:
        find_by_text(noise(), "a dancer", TextSettings(model="mam-video/no-such-detector"), "cpu")
    assert "\n" not in str(told.value)


def test_without_transformers_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mam_video.core.errors.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--text needs transformers.*pip install 'mam-video\[text\]'"):
        find_by_text(noise(), "a dancer", TextSettings(), "cpu")


def test_no_words() -> None:
    with pytest.raises(UsageError, match="--text is empty"):
        find_by_text(noise(), " . ", TextSettings(), "cpu")


# In the loop


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    return write_movie(tmp_path / "plate.mov", 5, lambda i: picture(disc(SIZE, (30 + 3 * i, 40), 12)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, str]]:
    """What a stand-in was asked, which finds the disc."""
    seen: list[tuple[np.ndarray, str]] = []

    def find(rgb: np.ndarray, words: str, settings: TextSettings, device: str) -> Spotted:
        seen.append((rgb, words))
        return Spotted(Box(18, 28, 42, 52), 0.62, 2)

    monkeypatch.setattr(text_module, "find_by_text", find)
    return seen


def test_words_are_as_good_as_the_box(
    plate: Path, tmp_path: Path, asked: list[tuple[np.ndarray, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report"
    options = ("--text", "the green disc", "-o", f"{tmp_path}/words/:alpha", "--report", str(report), *MODEL)
    assert main(["matte", str(plate), *options]) == 0
    assert f"is --box {BOX} (score 0.62; 2 more boxes are good enough)" in capsys.readouterr().err
    assert main(["matte", str(plate), "--box", BOX, "-o", f"{tmp_path}/box/:alpha", *MODEL]) == 0
    words, box = (sorted((tmp_path / name).glob("*.png")) for name in ("words", "box"))
    assert len(words) == 5
    assert [p.read_bytes() for p in words] == [p.read_bytes() for p in box]
    assert [words for _, words in asked] == ["the green disc"]
    assert json.loads((report / "run.json").read_text())["frames"][0]["state"] == "prompted"


def test_it_looks_at_the_first_frame_of_the_range_or_the_one_that_is_shown(
    plate: Path, tmp_path: Path, asked: list[tuple[np.ndarray, str]]
) -> None:
    assert main(["matte", str(plate), "--text", "disc", "--range", "2-4", "-o", f"{tmp_path}/m.mov", *MODEL]) == 0
    assert main(["preview", str(plate), "--text", "disc", "--frame", "1", "-o", f"{tmp_path}/p.png", *MODEL]) == 0
    for (rgb, _), i in zip(asked, (2, 1), strict=True):
        assert np.abs(rgb.astype(int) - picture(disc(SIZE, (30 + 3 * i, 40), 12)).astype(int)).mean() < 4


@pytest.mark.parametrize(
    "more", [("--box", "1,1,9,9"), ("--prompt", "0:box=1,1,9,9"), ("--track", "x.track"), ("--masks", "m/")]
)
def test_words_and_something_else(
    plate: Path, tmp_path: Path, more: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matte", str(plate), "--text", "disc", *more, "-o", f"{tmp_path}/m.mov", *MODEL]) == 2
    assert f"leave out {more[0]}, or --text" in capsys.readouterr().err
    assert not (tmp_path / "m.mov").exists()
