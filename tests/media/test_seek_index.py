"""Parts of a movie without all before them: the same frames to the bit, whatever a seek promises."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mam_video.core.errors import MediaError
from mam_video.core.settings import InputSettings
from mam_video.media import open_clip
from mam_video.media.movie.reader import MovieReader
from mam_video.media.movie.seek_index import SeekIndex, SeekMismatch, _line_bytes
from mam_video.tracking.bidirectional import backwards
from tests.clips import make_clip

COUNT = 48
SIZE = (64, 80)


def shown(i: int) -> np.ndarray:
    """A pattern that moves, with a still half; every frame is another."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    rgb = np.stack([(x * 3 + 5 * i) % 256, (y * 3 + 2 * i) % 256, np.full(SIZE, (7 * i) % 256)], axis=2)
    rgb[: SIZE[0] // 2, :20] = 90
    return rgb.astype(np.uint8)


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264 with B-frames": ("a.mp4", {"codec": "libx264", "options": {"g": "8", "bf": "3"}}),
    "h264, open groups": ("a.mkv", {"codec": "libx264", "options": {"g": "8", "x264-params": "open-gop=1:bframes=3"}}),
    "h264, bit by bit": ("a.mp4", {"codec": "libx264", "options": {"x264-params": "intra-refresh=1:keyint=8"}}),
    "h264, one key frame": ("a.mp4", {"codec": "libx264", "options": {"g": "1000"}}),
    "hevc": ("a.mp4", {"codec": "libx265", "options": {"x265-params": "keyint=8:log-level=none"}}),
    "prores": ("a.mov", {"codec": "prores_ks", "pixel_format": "yuva444p10le"}),
    "ffv1": ("a.mkv", {"codec": "ffv1", "pixel_format": "yuv420p", "options": {"g": "1"}}),
    "png": ("a.mov", {}),
    "a palette in AVI, lost by a seek": ("a.avi", {"codec": "rawvideo", "pixel_format": "monob"}),
    "a palette in MOV, lost by a seek": ("a.mov", {"codec": "rawvideo", "pixel_format": "gray"}),
    "packed": ("a.avi", {"codec": "rawvideo", "pixel_format": "bgr24"}),
    "packed, subsampled": ("a.avi", {"codec": "rawvideo", "pixel_format": "yuyv422"}),
    "one bit": ("a.mov", {"codec": "rawvideo", "pixel_format": "monow"}),
    "mpeg4 in AVI": ("a.avi", {"codec": "mpeg4", "options": {"g": "8"}}),
    "mpeg2 in a transport stream": ("a.ts", {"codec": "mpeg2video", "options": {"g": "8", "bf": "2"}}),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "options": {"g": "8", "deadline": "realtime", "cpu-used": "8"}}),
    "variable rate": (
        "a.mp4",
        {"codec": "libx264", "options": {"g": "8"}, "time_base": Fraction(1, 600),
         "pts": [25 * k + (k * k) % 7 for k in range(COUNT)]},
    ),
    "turned": ("a.mp4", {"codec": "libx264", "options": {"g": "8"}, "rotation": 90.0}),
}  # fmt: skip


def made(folder: Path, kind: str) -> Path:
    name, more = KINDS[kind]
    return make_clip(folder / name, [shown(i) for i in range(COUNT)], **more)


def told(frames: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [(f.index, f.pts, f.timecode, f.rgb.tobytes()) for f in frames]


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_the_same_bits(tmp_path: Path, kind: str) -> None:
    with open_clip(made(tmp_path, kind)) as reader:
        reader.index_for_random_access()
        whole = told(list(reader.frames()))
        assert len(whole) == COUNT
        rng = np.random.default_rng(5)
        for _ in range(12):
            start = int(rng.integers(0, COUNT))
            stop = int(rng.integers(start, COUNT + 1))
            assert told(list(reader.frames(start, stop))) == whole[start:stop], (start, stop)
        assert told(list(reader.frames(40, None))) == whole[40:]
        assert told(list(reader.frames(40, COUNT + 9))) == whole[40:]
        back = list(backwards(reader.frames, 0, COUNT - 1))
        assert [(f.index, f.pts) for f in reversed(back)] == [row[:2] for row in whole]


@pytest.mark.parametrize(
    ("kind", "most"),
    [("h264 with B-frames", 14), ("prores", 6), ("ffv1", 6), ("mpeg4 in AVI", 14), ("variable rate", 22), ("vp9", 14)],
)
def test_little_more_is_decoded_than_is_asked_for(tmp_path: Path, kind: str, most: int) -> None:
    with open_clip(made(tmp_path, kind)) as reader:
        assert isinstance(reader, MovieReader)
        reader.index_for_random_access()
        list(reader.frames())
        assert reader.decoded == COUNT
        for start in (40, 30, 20, 10):
            before = reader.decoded
            list(reader.frames(start, start + 4))
            assert reader.decoded - before <= most, start


def test_nothing_is_remembered_unless_asked(tmp_path: Path) -> None:
    with open_clip(made(tmp_path, "prores")) as reader:
        assert isinstance(reader, MovieReader)
        list(reader.frames())
        before = reader.decoded
        list(reader.frames(40, 42))
        assert reader.decoded - before == 42


@pytest.mark.parametrize("lie", ["time", "index", "seek"])
def test_a_seek_that_leads_elsewhere_is_noticed(tmp_path: Path, lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_clip(made(tmp_path, "h264 with B-frames")) as reader:
        reader.index_for_random_access()
        whole = told(list(reader.frames()))
        if lie == "time":
            monkeypatch.setattr(SeekIndex, "time", lambda self, index: self._times[min(index + 8, COUNT - 1)])
        elif lie == "index":
            monkeypatch.setattr(SeekIndex, "before", lambda self, index: 5)
        else:
            monkeypatch.setattr(SeekIndex, "check", _strays_at_22)
        assert told(list(reader.frames(20, 26))) == whole[20:26]
        monkeypatch.undo()
        assert told(list(reader.frames(30, 33))) == whole[30:33]


def _strays_at_22(places: SeekIndex, index: int, picture: object) -> None:
    if index == 22:
        raise SeekMismatch


def test_damage_is_found_as_ever(tmp_path: Path) -> None:
    path = made(tmp_path, "png")
    data = bytearray(path.read_bytes())
    middle = len(data) * 5 // 8
    data[middle : middle + 60] = bytes(60)
    path.write_bytes(data)
    for remember in (False, True):
        with open_clip(path) as reader:
            if remember:
                reader.index_for_random_access()
            with pytest.raises(MediaError, match="cannot be read"):
                list(reader.frames())
            assert len(list(reader.frames(4, 8))) == 4
    with open_clip(path, InputSettings(on_error="repeat")) as reader:
        reader.index_for_random_access()
        assert len(list(reader.frames())) == COUNT
        assert len(list(reader.frames(40, 44))) == 4


@pytest.mark.parametrize(
    "form", ["yuv420p", "yuv422p10le", "gbrp16le", "nv12", "rgb24", "yuyv422", "gray16le", "yuva420p"]
)
def test_a_change_of_any_byte_is_noticed(form: str) -> None:
    """In every plane, in its first, last and some other line and column."""
    picture = av.VideoFrame(30, 22, form)
    picture.pts = 0
    for plane in picture.planes:
        plane.update(bytes(plane.buffer_size))
    places = SeekIndex()
    places.see(0, 0, picture)
    places.check(0, picture)
    for number, plane in enumerate(picture.planes):
        used = _line_bytes(picture.format, number, plane.width)
        assert plane.width <= used <= plane.line_size
        for row in (0, 1, plane.height // 2, plane.height - 1):
            for column in (0, used // 2, used - 1):
                data = bytearray(plane.buffer_size)
                data[row * plane.line_size + column] = 1
                plane.update(bytes(data))
                with pytest.raises(SeekMismatch):
                    places.check(0, picture)
        plane.update(bytes(plane.buffer_size))
    places.check(0, picture)
