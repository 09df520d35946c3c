"""Frames through decord: the right ones where it is believed, ours where it is not."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mam_video.media import open_clip, open_for_viewing
from mam_video.media.movie.decord_reader import DecordReader
from tests.clips import make_clip

COUNT, SIZE = 30, (64, 128)
TAGGED = (1, 1, 1, 1)


def shown(i: int) -> np.ndarray:
    """A smooth picture, so that ways to enlarge chroma differ little; every frame is another."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([x + 3 * i, y * 2 + i, np.full(SIZE, 6 * i)], axis=2).clip(0, 255).astype(np.uint8)


def made(folder: Path, name: str = "a.mp4", **more: Any) -> Path:
    more = {"codec": "libx264", "options": {"g": "8", "bf": "2", "crf": "4"}, "tags": TAGGED, **more}
    return make_clip(folder / name, [shown(i) for i in range(COUNT)], **more)


def reader_of(path: Path) -> DecordReader:
    reader = open_for_viewing(path)
    assert isinstance(reader, DecordReader)
    return reader


def test_frames_are_the_right_ones_in_any_order(tmp_path: Path) -> None:
    here = sys.platform == "linux" and platform.machine() == "x86_64"
    reason = "decord is not installed (extra: decord)" if here else "decord has no wheel for this platform"
    pytest.importorskip("decord", reason=reason)
    path = made(tmp_path)
    with open_clip(path) as ours:
        expected = list(ours.frames())
    with reader_of(path) as reader:
        for start, stop in ((20, 23), (3, 4), (28, 40), (9, 10), (0, 2), (COUNT, None)):
            found = list(reader.frames(start, stop))
            assert [(f.index, f.pts) for f in found] == [(f.index, f.pts) for f in expected[start:stop]]
            for frame in found:
                assert start == 0 or frame.rgb.dtype == np.uint8  # the first frame is near: it is ours
                assert np.abs(frame.rgb8.astype(int) - expected[frame.index].rgb8).mean() < 3
        assert reader.refusal == ""


@pytest.mark.parametrize(
    "case",
    [
        {"options": {"x264-params": "intra-refresh=1:keyint=8"}},  # entered there, pictures are half refreshed
        {"pixel_format": "yuv420p10le"},
        {"tags": None},
        {"rotation": 90.0},
        {"name": "a.mkv"},
        {"name": "a.mov", "codec": "prores_ks", "options": {}, "pixel_format": "yuv422p10le"},
    ],
    ids=["bit by bit", "10 bits", "untagged", "turned", "without a count", "prores"],
)
def test_other_clips_have_our_own_bits(tmp_path: Path, case: dict[str, Any]) -> None:
    path = made(tmp_path, **case)
    with open_clip(path) as ours, reader_of(path) as reader:
        expected = [f.rgb for f in ours.frames(11, 14)]
        assert all(np.array_equal(a, f.rgb) for a, f in zip(expected, reader.frames(11, 14), strict=True))
        assert reader.refusal


class _Liar:
    """A decord that gives frames off by one, with right times, or the other way round."""

    def __init__(self, pixels: int, times: int, count: int) -> None:
        self.pixels, self.times, self.count = pixels, times, count

    def VideoReader(self, path: str, **_: Any) -> Any:
        import av

        with av.open(path) as container:
            pictures = list(container.decode(video=0))
        liar = self

        class Video:
            def __len__(self) -> int:
                return len(pictures) + liar.count

            def __getitem__(self, index: int) -> Any:
                rgb = pictures[index + liar.pixels].to_ndarray(format="rgb24")
                return SimpleNamespace(asnumpy=lambda: rgb)

            def get_frame_timestamp(self, index: int) -> tuple[float, float]:
                picture = pictures[index + liar.times]
                return float(picture.pts * picture.time_base), 0.0

        return Video()


@pytest.mark.parametrize(
    ("pixels", "times", "count", "reason"),
    [(0, 0, 0, ""), (1, 0, 0, "pixels"), (0, 1, 0, "time"), (0, 0, -1, "counts")],
)
def test_what_decord_says_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int, times: int, count: int, reason: str
) -> None:
    monkeypatch.setitem(sys.modules, "decord", _Liar(pixels, times, count))  # type: ignore[arg-type]
    path = made(tmp_path)
    with open_clip(path) as ours, reader_of(path) as reader:
        expected = list(ours.frames(11, 14))
        found = list(reader.frames(11, 14))
        assert [(f.index, f.pts) for f in found] == [(f.index, f.pts) for f in expected]
        if reason:
            assert reason in reader.refusal
            assert all(np.array_equal(a.rgb, b.rgb) for a, b in zip(expected, found, strict=True))
        else:
            assert reader.refusal == ""


def test_without_decord_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    path = made(tmp_path)
    with open_clip(path) as ours, reader_of(path) as reader:
        assert np.array_equal(next(ours.frames(5, 6)).rgb, next(reader.frames(5, 6)).rgb)
        assert reader.refusal == "decord is not installed"
