"""The table of speeds on a device runs on a CPU too, at a tiny size."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

MEASURE = Path(__file__).resolve().parents[2] / "pipelines" / "measure"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the benchmark; it lies in a folder of programs."""
    monkeypatch.syspath_prepend(str(MEASURE))
    return import_module("gpu")


@pytest.mark.timeout(600)
def test_the_table_on_a_cpu(tmp_path: Path, gpu: Any) -> None:
    """Both loops follow one saved track. A frame goes up once, and comes down once."""
    lite, ours, obvious = gpu.table(tmp_path, (160, 90), "cpu", "tiny", 2, warm=1)
    assert [row.what.partition(",")[0] for row in (lite, ours, obvious)] == [
        "lite",
        "SAM tiny + M2M in torch.float32" if "float32" in ours.what else "SAM tiny + M2M in torch.bfloat16",
        "the obvious loop",
    ]
    assert all(row.seconds > 0 and row.work > 0 for row in (lite, ours, obvious))
    # A frame: once up, one read by the tracker (17 more where the user points, 1 back), once down.
    assert lite.moved["up frame"] == 1 and lite.moved["down frame"] == 1
    assert not {"up pictures", "down alpha"} & lite.moved.keys()
    assert lite.moved["down candidates"] == lite.moved["up prompt"] == (2 + 17 + 1) / 2
    assert ours.moved["up frame"] == 1 and {key for key in ours.moved if key.startswith("down")} == {"down frame"}
    assert {"embed", "matte", "smooth", "foreground"} <= set(ours.stages) and not obvious.stages
    assert "frames a second" in lite.text() and "copies a frame" in lite.text()
