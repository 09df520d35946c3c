"""Conversion between files' pixels and 16-bit RGB, held against float64 arithmetic written out here."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from mam_video.media import open_clip, pixel_formats
from tests.clips import as_frame, make_clip, ramp

ROUNDING = 1.5  # of 65535: float32 sums in the matrix, and one rounding
CHROMA = 3.0  # of 65535: chroma is rounded to 16 bits once a direction of interpolation, and weighs up to 1.88

WEIGHTS = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}


def slow_rgb(y: NDArray, u: NDArray, v: NDArray, bits: int, full: bool, matrix: str) -> NDArray:
    """H.273 in float64, unclipped steps first, then clipped and scaled to 65535."""
    y, u, v = (plane.astype(np.float64) for plane in (y, u, v))
    unit = 2.0 ** (bits - 8)
    if full:
        top = 2.0**bits - 1
        y, u, v = y / top, (u - 128 * unit) / top, (v - 128 * unit) / top
    else:
        y, u, v = (y - 16 * unit) / (219 * unit), (u - 128 * unit) / (224 * unit), (v - 128 * unit) / (224 * unit)
    kr, kb = WEIGHTS[matrix]
    red = y + 2 * (1 - kr) * v
    blue = y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.stack([red, green, blue], -1), 0, 1) * 65535


def codes(shape: tuple[int, int], bits: int, seed: int) -> NDArray:
    random = np.random.default_rng(seed).integers(0, 2**bits, shape)
    return random.astype(np.uint8 if bits == 8 else np.uint16)


@pytest.mark.parametrize("matrix", list(WEIGHTS))
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("name", "bits"), [("yuv444p", 8), ("yuv444p10le", 10), ("yuv444p12le", 12), ("yuv444p16le", 16)]
)
def test_full_chroma_is_exact_but_for_rounding(name: str, bits: int, full: bool, matrix: str) -> None:
    planes = [codes((37, 53), bits, seed) for seed in range(3)]
    rgb = pixel_formats.Decoding(matrix, full)(as_frame(planes, name, 53, 37))
    assert rgb.dtype == np.uint16
    assert np.abs(rgb - slow_rgb(*planes, bits, full, matrix)).max() <= ROUNDING  # type: ignore[call-arg]


def slow_upsampled(plane: NDArray, across: int, down: int, height: int, width: int) -> NDArray:
    """Linear interpolation by the formula: sample positions of the standards, one pixel at a time along each axis."""
    rows = (np.arange(height) + 0.5) / down - 0.5
    columns = np.arange(width) / across
    vertical = np.stack([np.interp(rows, np.arange(plane.shape[0]), column) for column in plane.T], 1)
    return np.stack([np.interp(columns, np.arange(plane.shape[1]), row) for row in vertical])


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1), (2, 3)])
@pytest.mark.parametrize(("name", "bits", "across", "down"), [
    ("yuv420p", 8, 2, 2), ("yuvj420p", 8, 2, 2), ("yuv422p10le", 10, 2, 1), ("yuv420p10le", 10, 2, 2),
    ("yuv420p12le", 12, 2, 2), ("yuv440p", 8, 1, 2), ("yuv411p", 8, 4, 1), ("yuva420p", 8, 2, 2),
])  # fmt: skip
def test_subsampled_chroma_is_interpolated_where_it_sits(
    name: str, bits: int, across: int, down: int, size: tuple[int, int]
) -> None:
    height, width = size
    small = (-(-height // down), -(-width // across))
    planes = [codes(size, bits, 0), codes(small, bits, 1), codes(small, bits, 2)]
    whole = [*planes, codes(size, 8, 3)] if name == "yuva420p" else planes
    rgb = pixel_formats.Decoding("bt709", False)(as_frame(whole, name, width, height))
    u, v = (slow_upsampled(plane.astype(np.float64), across, down, height, width) for plane in planes[1:])
    assert np.abs(rgb - slow_rgb(planes[0], u, v, bits, False, "bt709")).max() <= CHROMA


@pytest.mark.parametrize(("name", "bits"), [("gray", 8), ("gray10le", 10), ("gray16le", 16)])
def test_gray(name: str, bits: int) -> None:
    plane = codes((9, 11), bits, 0)
    full = pixel_formats.Decoding("gbr", True)(as_frame([plane], name, 11, 9))
    assert (full == np.rint(plane / (2.0**bits - 1) * 65535)[..., None]).all()
    limited = pixel_formats.Decoding("gbr", False)(as_frame([plane], name, 11, 9))
    unit = 2.0 ** (bits - 8)
    expected = np.clip((plane - 16 * unit) / (219 * unit), 0, 1) * 65535
    assert np.abs(limited - expected[..., None]).max() <= ROUNDING


@pytest.mark.parametrize(("name", "bits"), [("gbrp", 8), ("gbrp10le", 10), ("gbrp12le", 12), ("gbrp16le", 16)])
def test_planar_rgb_is_scaled_and_nothing_else(name: str, bits: int) -> None:
    green, blue, red = (codes((9, 11), bits, seed) for seed in range(3))
    rgb = pixel_formats.Decoding("gbr", True)(as_frame([green, blue, red], name, 11, 9))
    assert (rgb == np.rint(np.stack([red, green, blue], -1) / (2.0**bits - 1) * 65535)).all()


@pytest.mark.parametrize(
    "name", ["rgb24", "bgr24", "rgba", "bgra", "argb", "abgr", "bgr0", "rgb48le", "rgb48be", "rgba64le"]
)
def test_packed_rgb(name: str) -> None:
    rgb8 = codes((9, 11), 8, 0)[..., None] + np.array([0, 40, 90], np.uint8)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb8), "rgb24").reformat(format=name)
    rgb = pixel_formats.Decoding("gbr", True)(frame)
    if "48" in name or "64" in name:  # FFmpeg widens 8 bits to 16 in its own way; to within a step of 8 bits
        assert np.abs(rgb / 257 - rgb8).max() < 1
    else:
        assert (rgb == rgb8.astype(np.uint16) * 257).all()


@pytest.mark.parametrize(("name", "planar"), [
    ("nv12", "yuv420p"), ("nv21", "yuv420p"), ("p010le", "yuv420p10le"), ("yuyv422", "yuv422p"), ("uyvy422", "yuv422p"),
    ("yuv420p10be", "yuv420p10le"),
])  # fmt: skip
def test_other_layouts_are_rearranged_without_loss(name: str, planar: str) -> None:
    bits = 10 if "10" in planar else 8
    down = 2 if "420" in planar else 1
    planes = [codes((16, 32), bits, 0), codes((16 // down, 16), bits, 1), codes((16 // down, 16), bits, 2)]
    frame = as_frame(planes, planar, 32, 16)
    decoding = pixel_formats.Decoding("bt709", False)
    assert (decoding(frame.reformat(format=name)) == decoding(frame)).all()


@pytest.mark.parametrize("matrix", list(WEIGHTS))
def test_rgb_to_yuv_and_back_is_within_half_a_code(matrix: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 65536, (40, 50, 3)).astype(np.uint16)
    planes = pixel_formats.yuv444(rgb, matrix, 16)
    back = pixel_formats.Decoding(matrix, False)(as_frame(planes, "yuv444p16le", 50, 40))
    assert np.abs(back.astype(int) - rgb).max() <= 3  # half a code of 16-bit limited range in each of Y, U, V
    exact = slow_rgb(*pixel_formats.yuv444(rgb, matrix, 10), 10, False, matrix)  # type: ignore[call-arg]
    assert np.abs(exact - rgb).max() <= 0.5 * 65535 * (1 / 876 + 1.89 / 896) + ROUNDING


def test_420_of_a_flat_colour_is_that_colour() -> None:
    rgb = np.broadcast_to(np.array([52000, 9000, 30000], np.uint16), (17, 23, 3)).copy()
    y, u, v = pixel_formats.yuv420(rgb, "bt709")
    assert (y.shape, u.shape, v.shape) == ((17, 23), (9, 12), (9, 12))
    assert np.abs(slow_rgb(y[0, 0], u[0, 0], v[0, 0], 8, False, "bt709") - rgb[0, 0]).max() <= 65535 * 1.5 / 219
    assert all(len(np.unique(plane)) == 1 for plane in (y, u, v))


def test_420_takes_chroma_from_where_it_sits() -> None:
    """A ramp along x: chroma sample k must be that of column 2 k (MPEG's siting), not of 2 k + 0.5."""
    x = np.arange(64)
    rgb = np.zeros((8, 64, 3), np.uint16)
    rgb[..., 2] = x * 1000
    u = pixel_formats.yuv420(rgb, "bt709")[1].astype(float)
    expected = pixel_formats.yuv444(rgb, "bt709", 16)[1][::2, ::2] / 256
    assert np.abs(u - expected)[:, 1:].max() <= 0.51


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_alpha_is_rounded_not_truncated(bits: int) -> None:
    top = 2**bits - 1
    alpha = np.random.default_rng(0).random((50, 60), np.float32)
    alpha[0, :2] = 0, 1
    got = pixel_formats.alpha_codes(alpha, bits)
    assert np.abs(got - alpha.astype(np.float64) * top).max() <= 0.5 + 0.004  # float32's own rounding at 16 bits
    assert got[0, 0] == 0 and got[0, 1] == top
    assert (got == np.rint(alpha * np.float32(top))).all()


def test_composite_and_premultiplied() -> None:
    random = np.random.default_rng(0)
    rgb, back = (random.integers(0, 65536, (20, 30, 3)).astype(np.uint16) for _ in range(2))
    alpha = random.random((20, 30), np.float32)
    a = alpha[..., None].astype(np.float64)
    assert np.abs(pixel_formats.composite(rgb, alpha, back) - (rgb * a + back * (1 - a))).max() <= 0.51
    assert np.abs(pixel_formats.premultiplied(rgb, alpha) - rgb * a).max() <= 0.51
    solid = np.ones((20, 30), np.float32)
    assert (pixel_formats.composite(rgb, solid, back) == rgb).all() and (
        pixel_formats.premultiplied(rgb, solid) == rgb
    ).all()


@pytest.mark.parametrize(("name", "size", "tags", "expected"), [
    ("yuv420p", (480, 720), (0, 2), ("tv", "smpte170m", False)),
    ("yuv420p", (720, 1280), (0, 2), ("tv", "bt709", False)),
    ("yuv420p", (576, 1024), (0, 2), ("tv", "smpte170m", False)),
    ("yuvj420p", (720, 1280), (0, 1), ("pc", "bt709", True)),
    ("yuv420p10le", (720, 1280), (1, 9), ("tv", "bt2020nc", True)),
    ("yuv420p", (720, 1280), (2, 5), ("pc", "bt470bg", True)),
    ("rgb24", (720, 1280), (0, 2), ("pc", "gbr", True)),
    ("gray", (720, 1280), (0, 2), ("pc", "gbr", False)),
    ("gray", (720, 1280), (1, 2), ("tv", "gbr", True)),
])  # fmt: skip
def test_tags_and_the_usual_rules(
    name: str, size: tuple[int, int], tags: tuple[int, int], expected: tuple[str, str, bool]
) -> None:
    frame = av.VideoFrame(size[1], size[0], name)
    frame.color_range, frame.colorspace = tags
    frame.color_primaries = frame.color_trc = 2
    found = pixel_formats.colour_of(frame, "ffv1")
    assert (found.range, found.matrix, found.tagged) == expected


PLACES = {
    "left": (0.0, 0.5), "center": (0.5, 0.5), "topleft": (0.0, 0.0), "top": (0.5, 0.0), "bottomleft": (0.0, 1.0),
    "bottom": (0.5, 1.0),
}  # fmt: skip


def slow_sited(plane: NDArray, across: int, down: int, size: tuple[int, int], siting: str) -> NDArray:
    """As `slow_upsampled`, for chroma samples at any place among their luma samples."""
    x, y = PLACES[siting]
    rows = (np.arange(size[0]) - y * (down - 1)) / down
    columns = (np.arange(size[1]) - x * (across - 1)) / across
    vertical = np.stack([np.interp(rows, np.arange(plane.shape[0]), column) for column in plane.T], 1)
    return np.stack([np.interp(columns, np.arange(plane.shape[1]), row) for row in vertical])


@pytest.mark.parametrize("siting", list(PLACES))
@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1), (2, 3)])
@pytest.mark.parametrize(("name", "bits", "across", "down"), [
    ("yuv420p", 8, 2, 2), ("yuv422p10le", 10, 2, 1), ("yuv440p", 8, 1, 2), ("yuv411p", 8, 4, 1), ("yuv410p", 8, 4, 4),
])  # fmt: skip
def test_chroma_is_interpolated_from_where_its_tag_puts_it(
    name: str, bits: int, across: int, down: int, size: tuple[int, int], siting: str
) -> None:
    small = (-(-size[0] // down), -(-size[1] // across))
    planes = [codes(size, bits, 0), codes(small, bits, 1), codes(small, bits, 2)]
    rgb = pixel_formats.Decoding("bt709", False, siting)(as_frame(planes, name, size[1], size[0]))
    u, v = (slow_sited(plane.astype(np.float64), across, down, size, siting) for plane in planes[1:])
    assert np.abs(rgb - slow_rgb(planes[0], u, v, bits, False, "bt709")).max() <= CHROMA


@pytest.mark.parametrize(("codec", "pixel_format", "siting"), [
    (codec, pixel_format, siting)
    for codec, pixel_format in (
        ("libx264", "yuv420p"), ("libx264", "yuv420p10le"), ("ffv1", "yuv420p"), ("ffv1", "yuv420p16le"),
    )
    for siting in PLACES
    if codec != "ffv1" or not siting.startswith("bottom")  # Matroska has no tag for these
])  # fmt: skip
def test_the_siting_tag_of_a_movie_is_found(tmp_path: Path, codec: str, pixel_format: str, siting: str) -> None:
    clip = make_clip(
        tmp_path / "plate.mkv", [ramp(48, 64)] * 2, codec=codec, pixel_format=pixel_format,
        options={"chroma_sample_location": siting},
    )  # fmt: skip
    with open_clip(clip) as reader:
        assert reader.info.siting == siting


@pytest.mark.parametrize(("codec", "pixel_format", "siting"), [
    ("libx264", "yuv420p", "left"), ("mpeg2video", "yuv420p", "left"), ("mpeg1video", "yuv420p", "center"),
    ("mjpeg", "yuvj420p", "center"), ("mjpeg", "yuvj422p", "center"), ("ffv1", "yuv420p", "left"),
    ("ffv1", "yuv422p10le", "left"), ("ffv1", "yuv444p", ""), ("ffv1", "gray", ""),
    ("prores_ks", "yuv422p10le", "left"),
])  # fmt: skip
def test_untagged_chroma_sits_where_the_codec_has_it(
    tmp_path: Path, codec: str, pixel_format: str, siting: str
) -> None:
    clip = make_clip(tmp_path / "plate.mkv", [ramp(48, 64)] * 2, codec=codec, pixel_format=pixel_format)
    with open_clip(clip) as reader:
        assert reader.info.siting == siting
