"""The contract of readers (`Reader`), held by the reader of every kind of clip."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mam_video.core.errors import MamVideoError
from mam_video.core.frames import Frame
from mam_video.media import Reader, open_clip
from tests.media.contracts import COUNT, READERS, SIZE, source


@pytest.fixture(scope="module", params=READERS)
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    name, settings = source(request.param, tmp_path_factory.mktemp("clip"))
    with open_clip(name, settings) as reader:
        yield reader


def same(one: list[Frame], other: list[Frame]) -> bool:
    """Whether frames are the same, bit for bit."""
    return len(one) == len(other) and all(
        (a.index, a.pts, a.time_base, a.timecode) == (b.index, b.pts, b.time_base, b.timecode)
        and np.array_equal(a.rgb, b.rgb, equal_nan=a.rgb.dtype.kind == "f")
        and (a.alpha is None) == (b.alpha is None)
        and (a.alpha is None or b.alpha is None or np.array_equal(a.alpha, b.alpha))
        for a, b in zip(one, other, strict=True)
    )


def test_frames_are_as_the_clip_is_described(clip: Reader) -> None:
    info, frames = clip.info, list(clip.frames())
    assert len(frames) == (1 if info.path.name == "one.png" else COUNT) == (info.frames_in_header or len(frames))
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert all(a.pts < b.pts for a, b in pairwise(frames))
    for frame in frames:
        assert frame.time_base == info.time_base and frame.size == info.size == SIZE
        assert frame.rgb.shape == (*SIZE, 3) and frame.shown.dtype in (np.uint8, np.uint16)
        assert (frame.alpha is not None) == info.has_alpha
        assert (frame.timecode is not None) == (info.timecode is not None)
        if frame.alpha is not None:
            assert frame.alpha.dtype == np.float32 and 0 <= frame.alpha.min() <= frame.alpha.max() <= 1
    assert clip.broken == [] and all("\n" not in note for note in info.notes)
    assert info.numbers is None or len(info.numbers) == len(frames)


def test_every_pass_gives_the_same_frames(clip: Reader) -> None:
    assert same(list(clip.frames()), list(clip.frames()))


def test_a_part_is_that_part_of_the_whole(clip: Reader) -> None:
    whole = list(clip.frames())
    for start, stop in ((0, 1), (1, 3), (3, None), (2, 2), (2, 99), (99, None)):
        assert same(list(clip.frames(start, stop)), whole[start:stop]), (start, stop)
    clip.index_for_random_access()
    assert same(list(clip.frames()), whole)
    for start, stop in ((3, 5), (1, 2), (4, None), (0, 2)):
        assert same(list(clip.frames(start, stop)), whole[start:stop]), (start, stop)


def test_a_pass_may_be_left(clip: Reader) -> None:
    frames = clip.frames()
    first = next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert same([next(clip.frames())], [first])


@pytest.mark.parametrize("kind", READERS)
def test_a_closed_reader_reads_no_more(tmp_path: Path, kind: str) -> None:
    name, settings = source(kind, tmp_path)
    with open_clip(name, settings) as reader:
        next(reader.frames())
    with pytest.raises(ValueError, match="closed"):
        list(reader.frames())
    reader.close()  # once more does no harm


@pytest.mark.parametrize("kind", READERS)
def test_a_clip_that_is_not_there_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    name, settings = source(kind, tmp_path)
    missing = name.replace(str(tmp_path), f"{tmp_path}/none")
    with pytest.raises(MamVideoError) as caught:
        open_clip(missing, settings)
    assert f"{tmp_path}/none" in str(caught.value) and "\n" not in str(caught.value)
