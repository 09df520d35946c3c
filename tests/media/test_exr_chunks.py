"""EXR files that are put together here are those that OpenEXR's own writer makes, byte for byte."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mam_video.core.errors import MediaError
from mam_video.media.sequence import exr, exr_chunks

KINDS = {"RGBA": ("R", "G", "B", "A"), "A": ("A",), "layers": ("dog.A", "Ünï.A", "a name of more than 31 bytes.A")}


def channels(names: tuple[str, ...], size: tuple[int, int], dtype: Any, content: str) -> dict[str, np.ndarray]:
    planes = {}
    for k, name in enumerate(names):
        plane = np.random.default_rng(k).standard_normal(size).astype(dtype)
        plane[: {"noise": 0, "part": size[0] // 2, "empty": size[0]}[content]] = 0
        planes[name] = plane
    return planes


def header(size: tuple[int, int], compression: str) -> dict[str, Any]:
    return {
        "data": (-3, 5, size[1] - 3, size[0] + 5),
        "display": (0, 0, 100, 90),
        "compression": compression,
        "framesPerSecond": Fraction(24000, 1001),
        "imageCounter": 7,
        "timeCode": exr.time_code("01:00:00:05", 24),
        "reelName": "A001",
    }


@pytest.mark.parametrize("content", ["noise", "part", "empty"])
@pytest.mark.parametrize("compression", ["zip", "zips"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (75, 53)])
@pytest.mark.parametrize("names", KINDS.values(), ids=KINDS)
def test_the_bytes_are_the_librarys(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    size: tuple[int, int],
    dtype: Any,
    compression: str,
    content: str,
) -> None:
    if exr_chunks.library_deflate() is None:
        pytest.skip("this build of OpenEXR hides its compression")
    planes = channels(names, size, dtype, content)
    exr.write_exr(tmp_path / "ours.exr", planes, header(size, compression))
    monkeypatch.setattr(exr, "library_deflate", lambda: None)
    monkeypatch.setattr(exr, "write_chunks", None)
    exr.write_exr(tmp_path / "theirs.exr", planes, header(size, compression))
    assert (tmp_path / "ours.exr").read_bytes() == (tmp_path / "theirs.exr").read_bytes()
    found, read = exr.read_channels(tmp_path / "ours.exr")
    assert found["imageCounter"] == 7
    for name, plane in planes.items():
        np.testing.assert_array_equal(read[name], plane)


def test_channels_of_several_types(tmp_path: Path) -> None:
    size = (40, 30)
    planes = channels(("R", "G", "B"), size, np.float16, "noise") | channels(("A",), size, np.float32, "noise")
    exr.write_exr(tmp_path / "x.exr", planes, header(size, "zip"))
    _, read = exr.read_channels(tmp_path / "x.exr")
    for name, plane in planes.items():
        assert read[name].dtype == plane.dtype
        np.testing.assert_array_equal(read[name], plane)


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exr, "write_chunks", full)
    monkeypatch.setattr(exr, "library_deflate", lambda: len)
    with pytest.raises(MediaError, match="is there room on the disk"):
        exr.write_exr(tmp_path / "x.exr", channels(("A",), (4, 4), np.float16, "noise"), header((4, 4), "zip"))
