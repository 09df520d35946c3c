"""The profile of a step names its parts and its operators, and the steps it measures train."""

from __future__ import annotations

from dataclasses import replace
from itertools import repeat

import pytest

from mam_video.training import lite_trainer
from mam_video.training.profile import _kind
from mam_video.training.train_segmenter import SegmenterTrainer
from tests.training.test_step import SEGMENTER, scenes


def test_a_profile_tells_parts_and_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite_trainer, "load_imagenet", lambda net: None)
    trainer = SegmenterTrainer(replace(SEGMENTER, batch=2))
    found = trainer.profile(repeat(scenes(64, 2)), 1)
    assert trainer.step == 4  # one to begin with, and one for each of three measurements
    names = ["waiting for data", "inputs", "forward", "backward", "optimizer", "average"]
    assert list(found.parts) == names and all(v >= 0 for v in found.parts.values())
    assert 0.2 * found.whole < found.parts["forward"] + found.parts["backward"] < 5 * found.whole
    assert found.launches > 1000
    calls, seconds = found.operators["convolution_backward depthwise 5x5"]
    assert calls > 10 and seconds > 0
    text = found.table()
    assert "| forward |" in text and "| operator | calls | ms | share |" in text and "others" in text


@pytest.mark.parametrize(
    ("key", "shapes", "name"),
    [
        ("aten::mkldnn_convolution", [[2, 8, 9, 9], [8, 1, 5, 5], [8]], "mkldnn_convolution depthwise 5x5"),
        ("aten::cudnn_convolution", [[2, 8, 9, 9], [16, 8, 1, 1]], "cudnn_convolution 1x1"),
        ("aten::convolution_backward", [[2, 8, 9, 9], [2, 8, 9, 9], [8, 1, 3, 3]],
         "convolution_backward depthwise 3x3"),
        ("aten::convolution_backward", [], "convolution_backward"),
        ("aten::bmm", [[2, 3, 4], [2, 4, 5]], "bmm"),
    ],
)  # fmt: skip
def test_convolutions_are_named_by_their_kernel(key: str, shapes: list[list[int]], name: str) -> None:
    assert _kind(key, shapes) == name
