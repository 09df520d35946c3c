"""Damaged frames of sequences: a stop that names them, or on request the frame before in their place, named too."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from mam_video.core.errors import MediaError
from mam_video.core.settings import InputSettings
from mam_video.media import open_clip
from tests.media.sequence_clips import dpx_bytes, hdr, write_cv, write_exr

REPEAT = InputSettings(on_error="repeat", on_gap="repeat")


def sequence(folder: Path, suffix: str, numbers: range) -> str:
    """Frame of number n is flat, of a value that grows with n."""
    for n in numbers:
        path = folder / f"a.{n:04d}{suffix}"
        flat = np.full((24, 32, 3), 0.5 + n % 100 / 256)
        if suffix == ".exr":
            code = OpenEXR.TimeCode(1, 0, 59, 20 + n % 100, 1, *[0] * 13)
            write_exr(path, flat.astype(np.float16), timeCode=code, framesPerSecond=Fraction(30000, 1001))
        elif suffix == ".dpx":
            path.write_bytes(dpx_bytes(np.rint(flat * 1023).astype(np.uint16)))
        elif suffix == ".jpg":
            write_cv(path, np.rint(flat * 255).astype(np.uint8))
        else:
            write_cv(path, np.rint(flat * 65535).astype(np.uint16))
    return str(folder / f"a.%04d{suffix}")


def cut(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


@pytest.mark.parametrize("suffix", [".exr", ".dpx", ".tif", ".png", ".jpg"])
@pytest.mark.parametrize("damage", ["cut", "head", "empty"])
def test_damaged_frames_stop_or_are_repeated_and_named(tmp_path: Path, suffix: str, damage: str) -> None:
    pattern = sequence(tmp_path, suffix, range(1001, 1009))
    expected = [int(f.rgb8[0, 0, 0]) for f in open_clip(pattern).frames()]
    for n in (1003, 1004, 1008):
        path = tmp_path / f"a.{n}{suffix}"
        if damage == "cut":
            cut(path)
        else:
            path.write_bytes(b"" if damage == "empty" else b"not a picture" * 40)
    with pytest.raises(MediaError, match="1003") as caught:
        list(open_clip(pattern).frames())
    assert "\n" not in str(caught.value) and "--on-error repeat" in str(caught.value)
    with open_clip(pattern, REPEAT) as reader:
        for _ in range(2):  # the second time it is known already
            got = [(f.index, int(f.rgb8[0, 0, 0])) for f in reader.frames()]
            for k in (2, 3):
                expected[k] = expected[1]
            expected[7] = expected[6]
            assert got == list(enumerate(expected)) and reader.broken == [2, 3, 7]
        assert [f.index for f in reader.frames(3, 5)] == [3, 4] and reader.broken == [3]


def test_a_frame_that_stands_in_has_its_own_label(tmp_path: Path) -> None:
    """Truth: labels of a drop-frame clip written by the library, over the minute that leaves two out."""
    pattern = sequence(tmp_path, ".exr", range(1001, 1010))
    for n, ff in ((1008, 28), (1009, 29)):
        assert [f.timecode for f in open_clip(tmp_path / f"a.{n}.exr").frames()] == [f"01:00:59;{ff}"]
    cut(tmp_path / "a.1009.exr")
    (tmp_path / "a.1004.exr").unlink()
    write_exr(tmp_path / "a.1010.exr", np.full((24, 32, 3), 1, np.float16))
    cut(tmp_path / "a.1010.exr")
    reader = open_clip(pattern, REPEAT)
    labels = [f.timecode for f in reader.frames()]
    assert labels[3] == "01:00:59;24" and labels[8:] == ["01:00:59;29", "01:01:00;02"]
    assert reader.broken == [3, 8, 9]


def test_what_is_unlike_is_not_damaged(tmp_path: Path) -> None:
    pattern = sequence(tmp_path, ".png", range(1, 5))
    write_cv(tmp_path / "a.0003.png", np.zeros((24, 30, 3), np.uint16))
    with pytest.raises(MediaError, match=r"a\.0003\.png.*all frames must be of one size"):
        list(open_clip(pattern, REPEAT).frames())


def test_the_first_frame_has_none_before_it(tmp_path: Path) -> None:
    pattern = sequence(tmp_path, ".png", range(1, 5))
    cut(tmp_path / "a.0001.png")
    with pytest.raises(MediaError, match=r"a\.0001\.png"):
        list(open_clip(pattern, REPEAT).frames())


def test_a_damaged_header_does_not_count_for_the_canvas(tmp_path: Path) -> None:
    display = (0, 0, 52, 36)
    for n in (1, 2, 3):
        write_exr(tmp_path / f"a.{n}.exr", hdr(0), corner=(-n, 0), display=display)
    (tmp_path / "a.3.exr").write_bytes(b"\x76\x2f\x31\x01" + bytes(300))
    reader = open_clip(tmp_path / "a.%d.exr", REPEAT)
    frames: list[Any] = list(reader.frames())
    assert reader.info.windows is not None and reader.info.windows.canvas == (-2, 0, 53, 37)
    assert len(frames) == 3 and (frames[2].rgb == frames[1].rgb).all() and reader.broken == [2]
