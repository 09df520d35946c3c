"""The writers: read back as promised, in every kind; whole files or none; every refusal before the work."""

from __future__ import annotations

import errno
import json
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mam_video.core.errors import MamVideoError, MediaError, UsageError
from mam_video.core.frames import Frame
from mam_video.core.settings import OutputSettings
from mam_video.core.timecode import Timecode
from mam_video.media import (
    ClipInfo,
    Colour,
    expected_bytes,
    kinds,
    open_clip,
    open_writer,
    open_writers,
    parse_output,
)
from mam_video.media import pixel_formats as conversions
from mam_video.media.background import load_background
from mam_video.media.formats import LAYERS
from mam_video.media.movie.writer import MovieWriter
from tests.clips import NTSC_FILM, make_clip, matted, planes_of, ramp, soft_disc

ALPHA_BOUND = 48 / 65535  # half a step of 10 bits (32) and a 12-bit decoder's truncation (16)
COLOUR_MOST, COLOUR_NEARLY_ALL = 12 / 1023, 5 / 1023  # all samples; 99.9 % of them
DEFAULTS = OutputSettings()

Pair = tuple[NDArray, NDArray]  # rgb (H, W, 3) uint16, alpha (H, W) float32


def clip_info(height: int = 96, width: int = 128, **changes: Any) -> ClipInfo:
    return ClipInfo(Path("plate.mov"), width, height, **{"rate": Fraction(25), "time_base": Fraction(1, 25), **changes})


def pictures(count: int = 4, height: int = 96, width: int = 128) -> list[Pair]:
    """A smooth ramp with noise, saturated squares and one-pixel lines; a soft disc that moves."""
    random = np.random.default_rng(0)
    result = []
    for k in range(count):
        rgb = ramp(height, width, k).astype(np.int64) + random.integers(-2000, 2000, (height, width, 3))
        if min(height, width) > 40:
            for i, corner in enumerate(((65535, 0, 0), (0, 65535, 0), (0, 0, 65535), (65535, 0, 65535))):
                rgb[40:56, 16 * i + 20 : 16 * i + 36] = corner
            rgb[:, 70 + k] = 65535
            rgb[30 + k] = 0
        alpha = np.roll(soft_disc(height, width), k, 1)
        result.append((np.clip(rgb, 0, 65535).astype(np.uint16), alpha))
    return result


def write(output: str, info: ClipInfo, pairs: Sequence[Pair], settings: OutputSettings = DEFAULTS, **kept: Any) -> Path:
    times = kept.get("pts") or [round(k / info.rate / info.time_base) for k in range(len(pairs))]
    with open_writer(output, info, settings) as writer:
        for k, ((rgb, alpha), pts) in enumerate(zip(pairs, times, strict=True)):
            writer.write(matted(Frame(k, pts, info.time_base, rgb), alpha))
    return writer.path


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def check_colour(got: NDArray, expected: NDArray, where: NDArray) -> None:
    error = np.abs(got.astype(float) - expected)[where] / 65535
    assert error.max() <= COLOUR_MOST and np.quantile(error, 0.999) <= COLOUR_NEARLY_ALL


# ProRes 4444


@pytest.mark.parametrize("size", [(96, 128), (95, 127), (479, 853)])
def test_prores_4444_read_back(tmp_path: Path, size: tuple[int, int]) -> None:
    pairs = pictures(4, *size)
    path = write(f"{tmp_path}/matte.mov", clip_info(*size), pairs)
    frames, codes = list(open_clip(path).frames()), planes_of(path)
    assert len(frames) == len(codes) == 4
    for (rgb, alpha), frame, (_, _, name, planes) in zip(pairs, frames, codes, strict=True):
        top = 2 ** int(name.removeprefix("yuva444p").removesuffix("le")) - 1
        assert np.abs(planes[3] / top - alpha).max() <= ALPHA_BOUND
        check_colour(frame.rgb, rgb, alpha == 1)
    assert names(tmp_path) == ["matte.mov"]


def test_prores_4444_xq_is_that_profile_and_no_worse(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rgb = random.integers(8000, 58000, (128, 160, 3)).astype(np.uint16)
    alpha = np.linspace(0, 1, 128 * 160, dtype=np.float32).reshape(128, 160)
    errors = {}
    for kind, profile in (("prores", "4444"), ("prores-xq", "XQ")):
        path = write(f"{tmp_path}/{kind}.mov:{kind}", clip_info(128, 160), [(rgb, alpha)])
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.codec_tag == {"4444": "ap4h", "XQ": "ap4x"}[profile]
        if shutil.which("ffprobe") is not None:
            command = ["ffprobe", "-v", "error", "-show_entries", "stream=profile", "-of", "csv=p=0", str(path)]
            assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip() == profile
        (frame,), ((_, _, name, planes),) = open_clip(path).frames(), planes_of(path)
        errors[kind] = float(((frame.rgb.astype(float) - rgb) ** 2).mean())
        assert np.abs(planes[3] / (2 ** int(name[8:10]) - 1) - alpha).max() <= ALPHA_BOUND
    assert errors["prores-xq"] < errors["prores"]


def test_prores_holds_its_bound_on_noise(tmp_path: Path) -> None:
    """A bit-rate target would give way here; a constant quantiser does not."""
    random = np.random.default_rng(0)
    rgb = random.integers(8000, 58000, (128, 160, 3)).astype(np.uint16)
    path = write(f"{tmp_path}/matte.mov", clip_info(128, 160), [(rgb, np.ones((128, 160), np.float32))])
    (frame,) = open_clip(path).frames()
    check_colour(frame.rgb, rgb, np.ones((128, 160), bool))


def test_prores_alpha_is_rounded_at_every_level(tmp_path: Path) -> None:
    alpha = np.linspace(0, 1, 128 * 96, dtype=np.float32).reshape(96, 128)
    path = write(f"{tmp_path}/matte.mov", clip_info(), [(np.zeros((96, 128, 3), np.uint16), alpha)])
    ((_, _, name, planes),) = planes_of(path)
    assert np.abs(planes[3] / (2 ** int(name[8:10]) - 1) - alpha).max() <= ALPHA_BOUND


def test_prores_alpha_alone_is_a_gray_clip(tmp_path: Path) -> None:
    alpha = soft_disc(96, 128)
    path = write(f"{tmp_path}/matte.mov:alpha", clip_info(), [(ramp(96, 128), alpha)])
    reader = open_clip(path)
    (frame,) = reader.frames()
    assert not reader.info.has_alpha and names(tmp_path) == ["matte.mov"]
    assert np.abs(frame.rgb / 65535 - alpha[..., None]).max() <= COLOUR_NEARLY_ALL
    assert np.abs(frame.rgb.astype(int) - frame.rgb[..., :1]).max() <= 200  # neutral: chroma is 512 to the code


def test_premultiplied_on_request(tmp_path: Path) -> None:
    rgb, alpha = np.full((96, 128, 3), 50000, np.uint16), np.full((96, 128), 0.5, np.float32)
    for output in ("a.mov", "a.mkv"):
        path = write(f"{tmp_path}/{output}", clip_info(), [(rgb, alpha)], OutputSettings(premultiply=True))
        (frame,) = open_clip(path).frames()
        assert np.abs(frame.rgb.astype(int) - 25000).max() <= 5 / 1023 * 65535


# Time


@pytest.mark.parametrize("output", ["a.mov", "a.mov:alpha", "a.mp4"])
@pytest.mark.parametrize(("time_base", "times"), [
    (Fraction(1, 24000), [1001 * k for k in range(6)]),
    (Fraction(1001, 30000), list(range(6))),
    (Fraction(1, 600), [1200, 1201, 1300, 1900, 1901, 4000]),
    (Fraction(1, 90000), [7, 3003, 6010, 9011, 12012, 15017]),
    (Fraction(1, 12800), [0, 512, 1024, 1536, 2048, 2560]),
    (Fraction(1, 1000), [33, 67, 100, 133, 167, 200]),
    (Fraction(1, 1_000_000), [0, 33367, 66733, 100100, 133467, 166833]),
])  # fmt: skip
def test_every_timestamp_is_kept_exactly(tmp_path: Path, output: str, time_base: Fraction, times: list[int]) -> None:
    info = clip_info(rate=NTSC_FILM, time_base=time_base)
    path = write(f"{tmp_path}/{output}", info, pictures(6), pts=times)
    frames = list(open_clip(path).frames())
    assert [frame.pts * frame.time_base for frame in frames] == [pts * time_base for pts in times]
    assert frames[0].time_base == Fraction(1, time_base.denominator)


@pytest.mark.parametrize("output", ["a.mkv", "a.mkv:alpha", "a.webm"])
def test_matroska_rounds_to_a_millisecond(tmp_path: Path, output: str) -> None:
    times = [1001 * k for k in range(6)]
    info = clip_info(rate=NTSC_FILM, time_base=Fraction(1, 24000))
    path = write(f"{tmp_path}/{output}", info, pictures(6), pts=times)
    for frame, pts in zip(open_clip(path).frames(), times, strict=True):
        assert abs(frame.pts * frame.time_base - Fraction(pts, 24000)) <= Fraction(1, 2000)


@pytest.mark.parametrize("output", ["a.mov", "a.mkv", "a.mp4"])
def test_no_frame_is_lost_before_time_0(tmp_path: Path, output: str) -> None:
    info = clip_info(time_base=Fraction(1, 600))
    path = write(f"{tmp_path}/{output}", info, pictures(4), pts=[-48, -24, 0, 24])
    assert [frame.pts * frame.time_base for frame in open_clip(path).frames()] == [Fraction(k, 25) for k in range(4)]


def test_rate_tags_and_aspect_are_kept(tmp_path: Path) -> None:
    tags = Colour("tv", "bt2020nc", "bt2020", "smpte2084", True)
    info = clip_info(rate=NTSC_FILM, time_base=Fraction(1, 24000), colour=tags, sample_aspect=Fraction(4, 3))
    for output in ("a.mov", "a.mp4", "b.mov:alpha"):
        back = open_clip(write(f"{tmp_path}/{output}", info, pictures(5))).info
        assert back.colour == tags and back.rate == NTSC_FILM and back.sample_aspect == Fraction(4, 3)


def test_full_range_and_rgb_sources_become_limited_yuv_that_says_so(tmp_path: Path) -> None:
    for tags in (Colour("pc", "bt709", "bt709", "bt709", True), Colour("pc", "gbr", "bt709", "iec61966-2-1", True)):
        info = clip_info(720, 1280, colour=tags)
        rgb, alpha = ramp(720, 1280), np.ones((720, 1280), np.float32)
        path = write(f"{tmp_path}/a.mov", info, [(rgb, alpha)], OutputSettings(overwrite=True))
        reader = open_clip(path)
        assert reader.info.colour == replace(tags, range="tv", matrix="bt709")
        check_colour(next(iter(reader.frames())).rgb, rgb, alpha == 1)


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
def test_an_independent_reader_sees_the_same(tmp_path: Path, matrix: str) -> None:
    """Debian's ffprobe and ffmpeg, older than ours and built by others."""
    if shutil.which("ffprobe") is None or shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg to read with")
    times = [100, 103, 200, 700]
    info = clip_info(time_base=Fraction(1, 600), colour=Colour("tv", matrix, "bt709", "bt709", True))
    pairs = pictures(4)
    path = write(f"{tmp_path}/a.mov", info, pairs, pts=times)
    entries = "stream=codec_name,profile,pix_fmt,color_space,color_primaries,color_transfer,time_base:frame=pts"
    command = ["ffprobe", "-v", "error", "-show_entries", entries, "-of", "json", str(path)]
    probed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    (stream,) = probed["streams"]
    assert (stream["codec_name"], stream["profile"], stream["color_space"]) == ("prores", "4444", matrix)
    assert stream["time_base"] == "1/600" and [frame["pts"] for frame in probed["frames"]] == times
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", "alphaextract", "-f", "rawvideo", "-fps_mode"]
    raw = subprocess.run([*command, "passthrough", "-pix_fmt", "gray16le", "-"], capture_output=True, check=True).stdout
    alphas = np.frombuffer(raw, "<u2").reshape(4, 96, 128)
    # This path widens 10 or 12 bits to 16 by shifting, so white may read as 65472 or 65520.
    for got, (_, alpha) in zip(alphas, pairs, strict=True):
        assert np.abs(got / 65535 - alpha).max() <= ALPHA_BOUND + 64 / 65535


# Exact kinds


def test_ffv1_is_exact(tmp_path: Path) -> None:
    for size in ((96, 128), (33, 47), (1, 1)):
        pairs = pictures(3, *size)
        path = write(f"{tmp_path}/a.mkv", clip_info(*size), pairs, OutputSettings(overwrite=True))
        for (rgb, alpha), (_, _, name, (green, blue, red, codes)) in zip(pairs, planes_of(path), strict=True):
            assert name == "gbrap16le" and (np.dstack([red, green, blue]) == rgb).all()
            assert (codes == np.rint(alpha * np.float32(65535))).all()
        path = write(f"{tmp_path}/b.mkv:alpha", clip_info(*size), pairs, OutputSettings(overwrite=True))
        for (_, alpha), (_, _, name, (codes,)) in zip(pairs, planes_of(path), strict=True):
            assert name == "gray16le" and (codes == np.rint(alpha * np.float32(65535))).all()


@pytest.mark.parametrize(("output", "expected"), [
    ("m.%04d.png", "m.1001.png"), ("m.######.png", "m.001001.png"), ("m.$F3.png", "m.1001.png"),
    ("m_%d.png", "m_1001.png"), ("mattes/", "mattes/mattes.1001.png"), ("m.png", "m.1001.png"),
    ("mattes/:png", "mattes/mattes.1001.png"),
])  # fmt: skip
def test_png_is_exact_under_every_name(tmp_path: Path, output: str, expected: str) -> None:
    pairs = pictures(3)
    write(f"{tmp_path}/{output}", clip_info(), pairs)
    folder = (tmp_path / expected).parent
    assert (tmp_path / expected).exists() and len(names(folder)) == 3
    for (rgb, alpha), name in zip(pairs, names(folder), strict=True):
        got = cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)
        assert got.dtype == np.uint16 and (got[..., 2::-1] == rgb).all()
        assert (got[..., 3] == np.rint(alpha * np.float32(65535))).all()


def test_png_alpha_alone(tmp_path: Path) -> None:
    ((_, alpha),) = pairs = pictures(1)
    write(f"{tmp_path}/m.%02d.png:alpha", clip_info(), pairs)
    got = cv2.imread(str(tmp_path / "m.1001.png"), cv2.IMREAD_UNCHANGED)
    assert got.dtype == np.uint16 and (got == np.rint(alpha * np.float32(65535))).all()


def test_a_sequence_is_numbered_by_index_and_what_is_left_of_an_older_one_is_said(tmp_path: Path) -> None:
    (tmp_path / "m.note.png").touch()
    write(f"{tmp_path}/m.%04d.png", clip_info(), pictures(4))
    older = (tmp_path / "m.1003.png").read_bytes()
    with open_writers([f"{tmp_path}/m.%04d.png"], clip_info(), OutputSettings(overwrite=True)) as group:
        rgb, alpha = pictures(1)[0]
        group.write(matted(Frame(2, 2, Fraction(1, 25), rgb), alpha))
    assert names(tmp_path) == [*(f"m.100{k}.png" for k in (1, 2, 3, 4)), "m.note.png"]
    assert (tmp_path / "m.1003.png").read_bytes() != older
    (note,) = group.notes
    assert "3 frames of an earlier run" in note and "1001-1002, 1004" in note


def test_8_bit_frames_are_widened(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    path = write(f"{tmp_path}/a.mkv", clip_info(), [(rgb, np.ones((96, 128), np.float32))])
    (frame,) = open_clip(path).frames()
    assert (frame.rgb == rgb.astype(np.uint16) * 257).all()


# For the web and for looking at


@pytest.mark.parametrize("size", [(96, 128), (95, 127)])
def test_webm_carries_alpha_for_libvpx(tmp_path: Path, size: tuple[int, int]) -> None:
    """FFmpeg's own VP9 decoder drops the side channel, so libvpx reads."""
    pairs = pictures(4, *size)
    path = write(f"{tmp_path}/a.webm", clip_info(*size), pairs)
    frames = planes_of(path, decoder="libvpx-vp9")
    assert len(frames) == 4
    for (_, alpha), (_, _, name, planes) in zip(pairs, frames, strict=True):
        assert name == "yuva420p" and np.abs(planes[3] / 255 - alpha).mean() < 0.01
        assert planes[3][alpha == 1].mean() > 252 and planes[3][alpha == 0].mean() < 3
    with av.open(str(path)) as container:
        tags = {key.lower(): value for key, value in container.streams.video[0].metadata.items()}
        assert tags["alpha_mode"] == "1"


@pytest.mark.parametrize("size", [(96, 128), (95, 127)])
def test_the_preview_lies_over_a_colour(tmp_path: Path, size: tuple[int, int]) -> None:
    rgb, alpha = np.full((*size, 3), 30000, np.uint16), soft_disc(*size)
    path = write(f"{tmp_path}/a.mp4", clip_info(*size), [(rgb, alpha)] * 3, OutputSettings(background="#3060c0"))
    frames = list(open_clip(path).frames())
    height, width = size
    assert len(frames) == 3 and frames[0].size == (height + height % 2, width + width % 2)
    a, back = alpha[..., None], np.array([0x30, 0x60, 0xC0]) * 257.0
    expected = rgb * a + back * (1 - a)
    assert np.abs(frames[1].rgb[:height, :width] - expected).mean() < 600


def test_the_preview_lies_over_a_picture(tmp_path: Path) -> None:
    wide = np.zeros((50, 300, 3), np.uint8)
    wide[:, 100:200] = (0, 0, 255)  # red, in OpenCV's order
    cv2.imwrite(str(tmp_path / "back.png"), wide)
    rgb, alpha = np.zeros((96, 128, 3), np.uint16), np.zeros((96, 128), np.float32)
    settings = OutputSettings(background=str(tmp_path / "back.png"))
    (frame,) = open_clip(write(f"{tmp_path}/a.mp4", clip_info(), [(rgb, alpha)], settings)).frames()
    assert frame.rgb8[48, 64, 0] > 230 and frame.rgb8[48, 64, 1] < 20


def backdrop(tmp_path: Path, count: int, size: tuple[int, int] = (96, 128)) -> tuple[Path, list[NDArray]]:
    """A clip whose frame k is of one gray, and those pictures."""
    grays = [np.full((*size, 3), 4000 * (k + 1), np.uint16) for k in range(count)]
    return make_clip(tmp_path / "back.mkv", grays), grays


def test_the_preview_lies_over_a_clip_frame_by_frame(tmp_path: Path) -> None:
    back, grays = backdrop(tmp_path, 4)
    pairs = pictures(6)
    path = write(f"{tmp_path}/a.mp4", clip_info(), pairs, OutputSettings(background=str(back)))
    frames = list(open_clip(path).frames())
    assert len(frames) == 6
    for k, ((rgb, alpha), frame) in enumerate(zip(pairs, frames, strict=True)):
        under = grays[min(k, 3)]  # the last one stays where there are no more
        ideal = rgb * alpha[..., None].astype(np.float64) + under * (1 - alpha[..., None].astype(np.float64))
        error = np.abs(frame.rgb - ideal)
        assert error[alpha == 0].mean() < 300 and error.mean() < 1500


def test_a_short_background_is_told_of(tmp_path: Path) -> None:
    back, _ = backdrop(tmp_path, 2)
    with open_writer(f"{tmp_path}/a.mp4", clip_info(), OutputSettings(background=str(back))) as writer:
        for k, (rgb, alpha) in enumerate(pictures(4)):
            writer.write(matted(Frame(k, k, Fraction(1, 25), rgb), alpha))
    assert isinstance(writer, MovieWriter)
    (note,) = writer.notes
    assert "2 frames" in note and "a.mp4" in note


def test_a_clip_behind_is_asked_for_in_any_order(tmp_path: Path) -> None:
    back, grays = backdrop(tmp_path, 7)
    moving = load_background(str(back), 96, 128, open_clip)
    for k in (0, 1, 3, 2, 6, 0, 9, 5, 8):
        assert np.array_equal(moving.picture(k), grays[min(k, 6)]), k
    assert len(moving.notes) == 1
    moving.close()


def test_a_background_of_another_shape_covers_the_frame_around_its_middle(tmp_path: Path) -> None:
    wide = np.zeros((48, 256, 3), np.uint16)
    wide[:, 96:160] = 60000  # the middle 64 of 256, twice as large: exactly the frame's 128
    moving = load_background(str(make_clip(tmp_path / "wide.mkv", [wide])), 96, 128, open_clip)
    picture = moving.picture(0)
    assert picture.shape == (96, 128, 3) and picture[:, 8:120].min() > 59000
    moving.close()


def test_the_checker_has_two_grays() -> None:
    board = load_background("checker", 95, 127, open_clip).picture(0)
    assert board.shape == (95, 127, 3) and set(np.unique(board)) == {0x6666, 0x9999}
    assert board[0, 0, 0] != board[0, 4, 0] and board[0, 0, 0] == board[4, 4, 0]


# exr-layers takes several subjects: tests/cli/test_subjects.py.
@pytest.mark.parametrize("kind", [kind.name for kind in kinds() if kind.name != LAYERS])
def test_every_kind_writes_what_can_be_read(tmp_path: Path, kind: str) -> None:
    chosen = next(each for each in kinds() if each.name == kind)
    for suffix in chosen.suffixes:
        if suffix == ".webp":
            continue  # no reader of ours; see test_sequences.py
        folder = tmp_path / f"of{suffix.strip('/')}"
        folder.mkdir()
        path = write(f"{folder}/a{suffix}:{kind}", clip_info(), pictures(5))
        assert len(list(open_clip(path).frames())) == 5
        assert names(folder) == [path.name] or len(names(folder / "a" if suffix == "/" else folder)) == 5


# Names and kinds


@pytest.mark.parametrize(("output", "name", "kind"), [
    ("a.mov", "a.mov", "prores"), ("a.MOV", "a.MOV", "prores"), ("a.mov:alpha", "a.mov", "prores-alpha"),
    ("C:\\x\\a.mov", "C:\\x\\a.mov", "prores"), ("C:\\a.mov:alpha", "C:\\a.mov", "prores-alpha"),
    ("C:/a/b.mkv", "C:/a/b.mkv", "ffv1"), ("a:b.mov", "a:b.mov", "prores"), ("a.mkv:prores", "a.mkv", "prores"),
    ("x/", "x/", "png"), ("x/:alpha", "x/", "png-alpha"), ("a.%04d.png:alpha", "a.%04d.png", "png-alpha"),
    ("a.webm", "a.webm", "vp9"), ("a.mp4", "a.mp4", "preview"), ("a.mov:preview", "a.mov", "preview"),
    ("a.exr", "a.exr", "exr"), ("a.%d.exr:alpha", "a.%d.exr", "exr-alpha"), ("a.tiff", "a.tiff", "tiff"),
    ("a.dpx", "a.dpx", "dpx-alpha"), ("a.dpx:alpha", "a.dpx", "dpx-alpha"), ("x/:exr", "x/", "exr"),
    ("a.webp", "a.webp", "webp"),
])  # fmt: skip
def test_names_and_kinds(output: str, name: str, kind: str) -> None:
    found, chosen = parse_output(output)
    assert (found, chosen.name) == (name, kind)


@pytest.mark.parametrize(
    "output",
    [
        "a.tga",
        "a",
        "a.webp:alpha",
        "a.mov:alhpa",
        "a.mov:vp9",
        "a.webm:prores",
        "a:alpha",
        "",
        " ",
        "C:mov",
        "a.txt:png",
    ],
)
def test_unknown_kinds_are_refused_by_name(output: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_output(output)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("output", ["a.%d.%d.png", "a%03d/b.png"])
def test_a_frame_number_has_one_place_in_the_file_name(tmp_path: Path, output: str) -> None:
    with pytest.raises(UsageError, match="frame number"):
        open_writer(f"{tmp_path}/{output}", clip_info(), DEFAULTS)


def test_expected_bytes_is_of_the_right_order(tmp_path: Path) -> None:
    pairs = pictures(4, 270, 480)
    for output in ("a.mov", "a.mkv"):
        real = write(f"{tmp_path}/{output}", clip_info(270, 480), pairs).stat().st_size
        guess = expected_bytes(output, clip_info(270, 480), 4)
        assert guess is not None and 0.2 < guess / real < 5
    assert expected_bytes("a.mov", clip_info()) is None
    assert expected_bytes("a.mov", clip_info(frames_in_header=100)) == expected_bytes("a.mov", clip_info(), 100)


# A constant rate

VARIABLE = [0, 40, 83, 200, 210, 212, 300]  # milliseconds; frame k is one gray


def paced(folder: Path, output: str, rate: str, **more: Any) -> tuple[MovieWriter, list[int], list[Fraction]]:
    """Written at a constant rate: the writer, which frame each picture is, and its time."""
    info = clip_info(time_base=Fraction(1, 1000), rate=Fraction(25), timecode=Timecode.parse("01:00:00:10", 25))
    with open_writer(f"{folder}/{output}", info, OutputSettings(rate=rate), **more) as writer:
        for k, pts in enumerate(VARIABLE):
            rgb, alpha = np.full((96, 128, 3), 8000 * k, np.uint16), np.ones((96, 128), np.float32)
            writer.write(matted(Frame(k, pts, info.time_base, rgb), alpha))
    assert isinstance(writer, MovieWriter)
    frames = list(open_clip(writer.path).frames())
    return writer, [round(float(f.rgb.mean()) / 8000) for f in frames], [f.pts * f.time_base for f in frames]


@pytest.mark.parametrize("output", ["a.mov", "a.mp4", "a.mkv"])
@pytest.mark.parametrize("rate", ["25", "24000/1001", "10", "60"])
def test_a_constant_rate_shows_the_frame_of_the_nearest_time(tmp_path: Path, output: str, rate: str) -> None:
    writer, shown, times = paced(tmp_path, output, rate)
    exact, end = Fraction(rate), Fraction(VARIABLE[-1], 1000) + Fraction(1, 25)
    count = int(end * exact + Fraction(1, 2))
    # the slow way: of the frames that begin before a picture's time and half a picture more, the last
    expected = [
        max(k for k, ms in enumerate(VARIABLE) if Fraction(ms, 1000) < (n + Fraction(1, 2)) / exact)
        for n in range(count)
    ]
    assert shown == expected == writer.shows
    slack = Fraction(1, 2000) if output == "a.mkv" else 0
    assert all(abs(time - n / exact) <= slack for n, time in enumerate(times))
    dropped = len(VARIABLE) - len(set(expected))
    assert f"{dropped} frame" in writer.notes[0] and f"{count - len(set(expected))} repeated" in writer.notes[0]


def test_a_constant_rate_as_ffprobe_sees_it(tmp_path: Path) -> None:
    if shutil.which("ffprobe") is None:
        pytest.skip("no ffprobe to read with")
    writer, shown, _ = paced(tmp_path, "a.mov", "24")
    entries = "stream=r_frame_rate,avg_frame_rate,nb_frames,time_base:stream_tags=timecode:packet=pts"
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", entries, "-of", "json"]
    probed = json.loads(subprocess.run([*command, str(writer.path)], capture_output=True, check=True).stdout)
    (stream,) = probed["streams"]
    assert stream["r_frame_rate"] == stream["avg_frame_rate"] == "24/1" and int(stream["nb_frames"]) == len(shown)
    assert stream["tags"]["timecode"] == "01:00:00:09"  # the moment of 01:00:00:10 at 25
    unit = Fraction(stream["time_base"])
    assert [p["pts"] * unit for p in probed["packets"]] == [Fraction(n, 24) for n in range(len(shown))]


def test_a_constant_rate_of_steady_times_changes_nothing(tmp_path: Path) -> None:
    info = clip_info(time_base=Fraction(1, 1000), rate=Fraction(30))
    rounded = [round(1000 * k / 30) for k in range(30)]  # as Matroska has them: 0, 33, 67, 100 ...
    with open_writer(f"{tmp_path}/a.mov", info, OutputSettings(rate="30")) as writer:
        for k, pts in enumerate(rounded):
            writer.write(matted(Frame(k, pts, info.time_base, ramp(96, 128)), soft_disc(96, 128)))
    assert isinstance(writer, MovieWriter) and writer.shows == list(range(30))
    assert "0 frames dropped, 0 repeated" in writer.notes[0]


def test_one_frame_of_no_length_is_shown_once(tmp_path: Path) -> None:
    info = clip_info(time_base=Fraction(1, 1000), rate=Fraction(1000))
    with open_writer(f"{tmp_path}/a.mov", info, OutputSettings(rate="1")) as writer:
        writer.write(matted(Frame(0, 0, info.time_base, ramp(96, 128)), soft_disc(96, 128)))
    assert len(list(open_clip(writer.path).frames())) == 1


def test_a_constant_rate_is_for_movies(tmp_path: Path) -> None:
    for output in ("a.####.png", "a.webp", "a/:exr"):
        refused(UsageError, f"{tmp_path}/{output}", clip_info(), "--rate", "movies", rate="24")
    with pytest.raises(UsageError, match="--resume"):
        open_writer(f"{tmp_path}/a.mov", clip_info(), OutputSettings(rate="24"), keep=tmp_path / "kept")


# Whole files or none


@pytest.mark.parametrize(
    "output", ["a.mov", "a.mkv", "a.mp4", "a.webm", "a.%04d.png", "a/", "a.exr", "a/:exr", "a.dpx", "a.tif", "a.webp"]
)
def test_an_error_on_the_way_leaves_nothing(tmp_path: Path, output: str) -> None:
    rgb, alpha = pictures(1)[0]
    with pytest.raises(KeyboardInterrupt), open_writer(f"{tmp_path}/{output}", clip_info(), DEFAULTS) as writer:
        writer.write(matted(Frame(0, 0, Fraction(1, 25), rgb), alpha))
        raise KeyboardInterrupt
    assert names(tmp_path) == []


@pytest.mark.parametrize("output", ["a.mov", "a.%04d.png", "a.mkv", "a.exr", "a.webp"])
def test_no_frame_is_no_file(tmp_path: Path, output: str) -> None:
    with pytest.raises(MediaError, match="no frame"), open_writer(f"{tmp_path}/{output}", clip_info(), DEFAULTS):
        pass
    assert names(tmp_path) == []


def test_an_existing_output_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    path.write_text("older")
    with pytest.raises(UsageError, match="overwrite"):
        open_writer(str(path), clip_info(), DEFAULTS)
    rgb, alpha = pictures(1)[0]
    with pytest.raises(RuntimeError), open_writer(str(path), clip_info(), OutputSettings(overwrite=True)) as writer:
        writer.write(matted(Frame(0, 0, Fraction(1, 25), rgb), alpha))
        assert path.read_text() == "older"
        raise RuntimeError
    assert path.read_text() == "older" and names(tmp_path) == ["a.mov"]
    write(str(path), clip_info(), pictures(2), OutputSettings(overwrite=True))
    assert len(list(open_clip(path).frames())) == 2


def test_several_outputs_get_their_names_together(tmp_path: Path) -> None:
    outputs = [f"{tmp_path}/{name}" for name in ("a.mov", "b.mov:alpha", "c/", "d.mkv")]
    with open_writers(outputs, clip_info(), DEFAULTS) as group:
        for k, (rgb, alpha) in enumerate(pictures(3)):
            group.write(matted(Frame(k, k, Fraction(1, 25), rgb), alpha))
        assert all(name.startswith(".") for name in names(tmp_path))
    assert names(tmp_path) == ["a.mov", "b.mov", "c", "d.mkv"] and len(names(tmp_path / "c")) == 3
    for path in tmp_path.glob("*.m*"):
        path.unlink()
    shutil.rmtree(tmp_path / "c")
    with pytest.raises(UsageError), open_writers([*outputs, f"{tmp_path}/e.xyz"], clip_info(), DEFAULTS):
        pass
    with pytest.raises(UsageError, match="twice"), open_writers([outputs[0]] * 2, clip_info(), DEFAULTS):
        pass
    with pytest.raises(UsageError), open_writers([], clip_info(), DEFAULTS):
        pass
    assert names(tmp_path) == []


def test_one_that_fails_at_the_end_takes_all_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = open_writers([f"{tmp_path}/a.mov", f"{tmp_path}/b.mkv"], clip_info(), DEFAULTS)
    rgb, alpha = pictures(1)[0]
    group.write(matted(Frame(0, 0, Fraction(1, 25), rgb), alpha))

    def fail() -> None:
        raise MediaError("b.mkv: cannot be written")

    monkeypatch.setattr(list(group)[1], "finish", fail)
    with pytest.raises(MediaError):
        group.close()
    assert names(tmp_path) == []


def test_frames_may_be_prepared_in_threads(tmp_path: Path) -> None:
    from mam_video.runtime.streams import ordered_map

    pairs = pictures(8)
    frames = [matted(Frame(k, k, Fraction(1, 25), rgb), alpha) for k, (rgb, alpha) in enumerate(pairs)]
    with open_writers([f"{tmp_path}/a.mkv", f"{tmp_path}/a.%d.png"], clip_info(), DEFAULTS) as group:
        for prepared in ordered_map(group.convert, frames, 3):
            group.encode(prepared)
    for (rgb, _), frame in zip(pairs, open_clip(tmp_path / "a.mkv").frames(), strict=True):
        assert (frame.rgb == rgb).all()


# Refused before the work


def refused(kind: type[MamVideoError], output: str, info: ClipInfo, *words: str, **settings: Any) -> None:
    with pytest.raises(kind) as caught:
        open_writer(output, info, OutputSettings(**settings))
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text


def test_refusals(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "plate.mov", [ramp(96, 128)] * 2)
    info = open_clip(source).info
    refused(UsageError, str(source), info, "input")
    refused(UsageError, str(source), info, "input", overwrite=True)
    link = tmp_path / "link.mov"
    link.symlink_to(source)
    refused(UsageError, str(link), info, "input", overwrite=True)
    refused(MediaError, f"{tmp_path}/none/a.mov", info, "no folder")
    refused(MediaError, f"{tmp_path}/none/a.%d.png", info, "no folder")
    refused(MediaError, f"{source}/a.mov", info, "is a file")
    (tmp_path / "b.mov").mkdir()
    refused(UsageError, f"{tmp_path}/b.mov", info, "folder")
    refused(UsageError, f"{tmp_path}/a.mp4", info, "background", background="#12345")
    refused(UsageError, f"{tmp_path}/a.mp4", info, "background", background="none.png")
    (tmp_path / "back.mov").write_bytes(source.read_bytes()[:300])
    refused(UsageError, f"{tmp_path}/a.mp4", info, "background", "clip", background=f"{tmp_path}/back.mov")
    (tmp_path / "back.png").write_bytes(source.read_bytes()[:300])
    refused(UsageError, f"{tmp_path}/a.mp4", info, "picture", background=f"{tmp_path}/back.png")
    for name in ("back.mov", "back.png"):
        (tmp_path / name).unlink()
    write(f"{tmp_path}/s.%04d.png", info, pictures(2))
    refused(UsageError, f"{tmp_path}/s.####.png", info, "2 files", "overwrite")
    frames = open_clip(tmp_path / "s.%04d.png").info
    refused(UsageError, f"{tmp_path}/s.%04d.png", frames, "input", overwrite=True)
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the system's answer is played."""

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", denied)
    monkeypatch.setattr(Path, "mkdir", denied)
    refused(MediaError, f"{tmp_path}/a.mov", clip_info(), "Permission denied", "a.mov")
    refused(MediaError, f"{tmp_path}/a.%d.png", clip_info(), "Permission denied")


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def small_files(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill_up(folder: Path, output: str) -> str:
    random = np.random.default_rng(0)
    rgb = random.integers(0, 65536, (270, 480, 3)).astype(np.uint16)
    alpha = random.random((270, 480), np.float32)
    with pytest.raises(MediaError) as caught:
        write(f"{folder}/{output}", clip_info(270, 480), [(rgb, alpha)] * 12)
    assert names(folder) == []
    text = str(caught.value)
    assert "\n" not in text and "a." in text
    return text


ALL: Callable[..., Any] = pytest.mark.parametrize(
    "output", ["a.mov", "a.mkv", "a.mp4", "a.webm", "a.%04d.png", "a.exr", "a.tif", "a.dpx", "a.webp"]
)


@ALL
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, output: str) -> None:
    with small_disk(tmp_path, 100):
        assert "space" in fill_up(tmp_path, output)


@ALL
def test_a_file_that_may_not_grow_is_one_line_and_leaves_nothing(tmp_path: Path, output: str) -> None:
    with small_files(20_000):
        fill_up(tmp_path, output)


def test_conversions_keep_their_input() -> None:
    """Frames are shared between stages: a writer must not change what it is given."""
    rgb, alpha = pictures(1)[0]
    before = rgb.copy(), alpha.copy()
    conversions.premultiplied(rgb, alpha)
    conversions.yuv420(rgb, "bt709")
    conversions.alpha_codes(alpha, 10)
    conversions.composite(rgb, alpha, rgb)
    assert (rgb == before[0]).all() and (alpha == before[1]).all()
