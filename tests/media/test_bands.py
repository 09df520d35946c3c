"""Pictures are converted in bands of rows and drawn into again: no seam shows, and nothing that is in use changes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph

from mam_video.core.frames import Frame
from mam_video.media import bands, pixel_formats
from mam_video.media.chroma import SITINGS
from mam_video.media.formats import FORMATS, OutputFormat
from mam_video.media.movie.picture_pool import PicturePool
from mam_video.media.movie.writer import MovieWriter
from mam_video.runtime.cores import cores
from tests.clips import as_frame, matted
from tests.media import contracts
from tests.media.contracts import writer_of

SIZE = (119, 333)  # of neither whole vectors nor whole chroma cells
RATE = Fraction(24)
MOVIES = [row for row in FORMATS.values() if row.writer == "movie"]


def noise(shape: tuple[int, ...], top: int = 65536, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed).integers(0, top, shape)
    return random.astype(np.uint8 if top == 256 else np.uint16)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), SIZE, (2160, 3840)])
def test_bands_are_the_picture(size: tuple[int, int]) -> None:
    rows = list(bands.bands(*size))
    assert [k for each in rows for k in range(each.start, each.stop)] == list(range(size[0]))
    assert all(each.start % 16 == 0 for each in rows)


@pytest.mark.parametrize("siting", list(SITINGS))
@pytest.mark.parametrize(("name", "bits", "across", "down"), [
    ("yuv444p", 8, 1, 1), ("yuv444p12le", 12, 1, 1), ("yuv422p10le", 10, 2, 1), ("yuv420p", 8, 2, 2),
    ("yuv440p", 8, 1, 2), ("yuv411p", 8, 4, 1), ("yuv410p", 8, 4, 4),
])  # fmt: skip
def test_reading_has_no_seams(
    monkeypatch: pytest.MonkeyPatch, name: str, bits: int, across: int, down: int, siting: str
) -> None:
    small = (-(-SIZE[0] // down), -(-SIZE[1] // across))
    planes = [noise(size, 1 << bits, k) for k, size in enumerate((SIZE, small, small))]
    frame = as_frame(planes, name, SIZE[1], SIZE[0])
    decoding = pixel_formats.Decoding("bt709", False, siting)
    monkeypatch.setattr(bands, "_PIXELS", 1 << 30)
    whole = decoding(frame)
    monkeypatch.setattr(bands, "_PIXELS", 1)
    assert len(list(bands.bands(*SIZE))) == 8
    np.testing.assert_array_equal(decoding(frame), whole)


@pytest.mark.parametrize("premultiply", [False, True])
@pytest.mark.parametrize("row", MOVIES, ids=lambda row: row.name)
def test_writing_has_no_seams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: OutputFormat, premultiply: bool
) -> None:
    writer = writer_of(row, tmp_path, premultiply=premultiply)
    assert isinstance(writer, MovieWriter)
    height, width = writer.info.size
    alpha = np.random.default_rng(1).random((height, width), np.float32)
    picture = matted(Frame(0, 0, writer.info.time_base, noise((height, width, 3))), alpha)
    monkeypatch.setattr(bands, "_PIXELS", 1 << 30)
    whole = [plane.copy() for plane in pixel_formats.writable_planes(writer.convert(picture))]
    monkeypatch.setattr(bands, "_PIXELS", 1)
    banded = pixel_formats.writable_planes(writer.convert(picture))
    writer.abort()
    assert len(list(bands.bands(height, width))) > 1
    for one, other in zip(banded, whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_picture_is_drawn_into_again_once_it_is_encoded() -> None:
    pool = PicturePool(24, 32, "yuv420p")
    first, second = pool.take(), pool.take()
    for picture in (first, second):
        pool.handed_over(picture)
    pool.encoded(1)
    assert pool.take() is first
    assert pool.take() not in (first, second)  # that one is with the encoder still
    pool.encoded(2)
    assert pool.take() is second


def test_a_picture_that_is_read_elsewhere_is_not_drawn_over() -> None:
    """As by an encoder that gives its packet and keeps the picture: here a filter's output shares the memory."""
    pool = PicturePool(24, 32, "gray")
    picture = pool.take()
    pixel_formats.fill(picture, [np.full((24, 32), 7, np.uint8)])
    picture.pts, picture.time_base = 0, 1 / RATE
    graph = Graph()
    graph.link_nodes(graph.add_buffer(width=32, height=24, format="gray", time_base=1 / RATE), graph.add("buffersink"))
    graph.configure()
    graph.push(picture)
    shared = graph.pull()
    assert isinstance(shared, av.VideoFrame)
    assert shared.planes[0].buffer_ptr == picture.planes[0].buffer_ptr
    pool.handed_over(picture)
    pool.encoded(1)
    pixel_formats.fill(pool.take(), [np.zeros((24, 32), np.uint8)])
    assert (pixel_formats.writable_planes(shared)[0] == 7).all()


@pytest.mark.parametrize("row", [row for row in MOVIES if row.resumable], ids=lambda row: row.name)
def test_a_movie_is_the_same_with_new_pictures_and_used_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: OutputFormat
) -> None:
    """Of the encoders that have several pictures in work."""
    count = cores() + 8
    frames = [Frame(k, k, 1 / RATE, noise((*contracts.SIZE, 3), seed=k)) for k in range(count)]

    def written(name: str) -> list[bytes]:
        folder = tmp_path / name
        folder.mkdir()
        writer = writer_of(row, folder)
        for frame in frames:
            writer.write(matted(frame, np.full(contracts.SIZE, 0.1 * (frame.index % 10), np.float32)))
        writer.close()
        with av.open(str(writer.path)) as container:
            return [plane.tobytes() for picture in container.decode(video=0)
                    for plane in pixel_formats.writable_planes(picture)]  # fmt: skip

    used = written("used")
    monkeypatch.setattr(PicturePool, "encoded", lambda self, count: None)
    assert used == written("new")
