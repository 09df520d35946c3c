"""Sequences: found under every name, read to the bit, windows, layers and numbers kept, gaps named."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenEXR
import pytest
from PIL import Image

from mam_video.core.errors import MamVideoError, MediaError, UsageError
from mam_video.core.frames import Frame
from mam_video.core.settings import InputSettings, OutputSettings, parse_rate
from mam_video.media import notes, open_clip, open_writer
from mam_video.media.view_transforms import LINEAR, LOG, NONE, SRGB, decode_srgb, encode_srgb, make_view_transform
from tests.clips import make_clip, matted, ramp
from tests.media.sequence_clips import HEIGHT, WIDTH, alpha_ramp, chart, dpx_bytes, hdr, read_exr, write_cv, write_exr


def reading(**values: Any) -> InputSettings:
    return InputSettings(**values)


def numbered(folder: Path, numbers: list[int], name: str = "plate.%04d.png") -> None:
    """Frame of number n is flat 10 * n (of 16 bits)."""
    for number in numbers:
        write_cv(folder / (name % number), np.full((6, 8, 3), 10 * number % 65536, np.uint16))


def values(path: str | Path, **settings: Any) -> list[int]:
    return [int(frame.rgb[0, 0, 0]) for frame in open_clip(path, reading(**settings)).frames()]


def refused(path: str | Path, *words: str, kind: type[MamVideoError] = MediaError, **settings: Any) -> None:
    with pytest.raises(kind) as caught:
        for _ in open_clip(path, reading(**settings)).frames():
            pass
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text


# Names


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("plate.%04d.png", range(1001, 1011)),
        ("plate.####.png", range(1001, 1011)),
        ("plate.@@@@.png", range(1001, 1011)),
        ("plate.$F4.png", range(1001, 1011)),
        ("plate.%d.png", range(1001, 1011)),
        ("plate.1003-1005.png", range(1003, 1006)),
        ("plate.1001-1010x3.png", range(1001, 1011, 3)),
        ("plate.1001-1010x3####.png", range(1001, 1011, 3)),
        ("plate.1001-1002,1007#.png", (1001, 1002, 1007)),
        ("plate.1001-1003,1006-1010x2.png", (1001, 1002, 1003, 1006, 1008, 1010)),
        ("plate.1004.png", (1004,)),
        (".", range(1001, 1011)),
    ],
)
def test_every_way_to_name_a_sequence(tmp_path: Path, pattern: str, numbers: Any) -> None:
    numbered(tmp_path, list(range(1001, 1011)))
    reader = open_clip(f"{tmp_path}/{pattern}" if pattern != "." else tmp_path)
    frames = list(reader.frames())
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [10 * n for n in numbers]
    assert [(frame.index, frame.pts) for frame in frames] == [(k, k) for k in range(len(numbers))]
    assert reader.info.numbers is not None and list(reader.info.numbers) == list(numbers)
    assert reader.info.padding == (1 if "%d" in pattern or "1007#" in pattern else 4)
    assert reader.info.frames_in_header == len(numbers)


def test_a_name_without_a_number_and_one_in_capitals(tmp_path: Path) -> None:
    numbered(tmp_path, [7], "s%d.PNG")
    (tmp_path / "s7.PNG").rename(tmp_path / "still.PNG")
    assert values(tmp_path / "still.PNG") == [70]


def test_padding_belongs_to_the_pattern(tmp_path: Path) -> None:
    numbered(tmp_path, [8, 9, 10], "a.%04d.png")
    numbered(tmp_path, [98, 99, 100], "a.%d.png")
    assert values(tmp_path / "a.%04d.png") == [80, 90, 100]
    assert values(tmp_path / "a.%d.png") == [980, 990, 1000]
    numbered(tmp_path, [9999, 10000], "b.%04d.png")
    assert values(tmp_path / "b.####.png") == [99990 % 65536, 100000 % 65536]


def test_ranges_of_frames_count_from_the_first(tmp_path: Path) -> None:
    numbered(tmp_path, list(range(10, 20)))
    frames = open_clip(tmp_path / "plate.%04d.png").frames(3, 6)
    assert [(frame.index, int(frame.rgb[0, 0, 0])) for frame in frames] == [(3, 130), (4, 140), (5, 150)]


def test_gaps_are_named_or_repeated(tmp_path: Path) -> None:
    numbered(tmp_path, [1, 2, 5, 6, 8])
    refused(tmp_path / "plate.%04d.png", "3-4, 7", "--on-gap repeat")
    refused(tmp_path / "plate.0001-0009.png", "3-4, 7, 9")
    refused(tmp_path / "plate.0000-0004.png", "first frame 0 is missing", on_gap="repeat")
    assert values(tmp_path / "plate.%04d.png", on_gap="repeat") == [10, 20, 20, 20, 50, 60, 60, 80]
    reader = open_clip(tmp_path / "plate.%04d.png", reading(on_gap="repeat"))
    assert [int(f.rgb[0, 0, 0]) for f in reader.frames(3, 5)] == [20, 50] and reader.broken == [2, 3, 6]
    assert any("3-4, 7" in note and "repeated" in note for note in reader.info.notes)
    assert values(tmp_path / "plate.0002-0008x3.png") == [20, 50, 80]  # a step is no gap


@pytest.mark.parametrize(
    ("text", "exact"),
    [("24", "24"), ("24000/1001", "24000/1001"), ("23.976", "24000/1001"), ("29.97", "30000/1001"), ("12.5", "25/2")],
)
def test_rates_are_exact(tmp_path: Path, text: str, exact: str) -> None:
    assert parse_rate(text) == Fraction(exact)
    numbered(tmp_path, [1, 2])
    info = open_clip(tmp_path / "plate.%04d.png", reading(fps=text)).info
    assert (info.rate, info.time_base) == (Fraction(exact), 1 / Fraction(exact))


def test_a_rate_that_is_assumed_is_said_once(tmp_path: Path) -> None:
    numbered(tmp_path, [1, 2])
    info = open_clip(tmp_path / "plate.%04d.png").info
    assert info.rate == 24 and [note for note in info.notes if "--fps" in note] == list(info.notes)
    for text in ("x", "0", "-24", "1/0", "1e9", "nan", "24/0"):
        with pytest.raises(UsageError, match="rate"):
            parse_rate(text)
    clip = make_clip(tmp_path / "a.mov", [ramp(8, 8)] * 2)
    refused(clip, "--fps", kind=UsageError, fps="24")
    refused(clip, "--layer", kind=UsageError, layer="x")


# Formats, to the bit


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("compression", ["NO", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24"])
def test_exr_is_read_to_the_bit(tmp_path: Path, compression: str, dtype: Any) -> None:
    picture = hdr(0, dtype)
    if compression == "PXR24":  # keeps 24 of float's 32 bits
        picture = picture.astype(np.float16).astype(dtype)
    write_exr(tmp_path / "a.0001.exr", picture, compression=getattr(OpenEXR, f"{compression}_COMPRESSION"))
    reader = open_clip(tmp_path / "a.%04d.exr")
    (frame,) = reader.frames()
    assert frame.rgb.dtype == dtype and (frame.rgb.view(np.uint8) == picture.view(np.uint8)).all()
    assert (reader.info.pixel_format, reader.info.look) == ("half" if dtype is np.float16 else "float", "linear")
    seen = encode_srgb(np.clip(np.nan_to_num(picture.astype(np.float32), posinf=1), 0, 1))
    assert frame.rgb8.dtype == np.uint8 and np.abs(frame.rgb8 / 255 - seen).max() <= 0.5 / 255 + 1e-5


def test_layers_and_parts(tmp_path: Path) -> None:
    a, b, c = hdr(0), hdr(1), hdr(2)

    def planes(rgb: np.ndarray, prefix: str = "") -> dict[str, np.ndarray]:
        return {prefix + name: np.ascontiguousarray(rgb[..., k]) for k, name in enumerate("RGB")}

    def part(rgb: dict[str, np.ndarray], name: str) -> Any:
        return OpenEXR.Part({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, rgb, name)

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    matte = np.ascontiguousarray(alpha_ramp())
    OpenEXR.File(header, {**planes(a), **planes(b, "key.light."), "hero.A": matte}).write(str(tmp_path / "l.1.exr"))
    OpenEXR.File(header, {**planes(b, "key.light."), **planes(c, "fill.")}).write(str(tmp_path / "n.1.exr"))
    OpenEXR.File(header, planes(c, "only.")).write(str(tmp_path / "o.1.exr"))
    OpenEXR.File([part(planes(a), "left"), part({**planes(b), **planes(c, "fill.")}, "right")]).write(
        str(tmp_path / "m.1.exr")
    )
    OpenEXR.File(header, {"Z": matte}).write(str(tmp_path / "z.1.exr"))
    OpenEXR.File(header, {"Y": matte}).write(str(tmp_path / "y.1.exr"))

    def got(name: str, layer: str = "") -> np.ndarray:
        (frame,) = open_clip(tmp_path / f"{name}.%d.exr", reading(layer=layer)).frames()
        return frame.rgb

    for name, layer, expected in (
        ("l", "", a), ("l", "key.light", b), ("n", "fill", c), ("o", "", c), ("o", "only", c),
        ("m", "", a), ("m", "left", a), ("m", "right", b), ("m", "fill", c), ("m", "right.fill", c),
    ):  # fmt: skip
        assert (got(name, layer) == expected).all(), (name, layer)
    assert (got("y") == matte[..., None]).all() and (got("l", "hero") == matte[..., None]).all()
    refused(tmp_path / "l.%d.exr", "key.light", "hero", kind=UsageError, layer="keylight")
    refused(tmp_path / "n.%d.exr", "several layers", "--layer", "fill", kind=UsageError)
    refused(tmp_path / "z.%d.exr", "no channels R, G, B")
    numbered(tmp_path, [1])
    refused(tmp_path / "plate.%04d.png", "only EXR has layers", kind=UsageError, layer="x")


def test_exr_attributes_are_heard(tmp_path: Path) -> None:
    code = OpenEXR.TimeCode(1, 2, 3, 4, 1, *[0] * 13)
    p3 = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329)
    write_exr(
        tmp_path / "a.0001.exr", hdr(), framesPerSecond=Fraction(24000, 1001), timeCode=code, chromaticities=p3,
        pixelAspectRatio=2.0, reelName="A001",
    )  # fmt: skip
    reader = open_clip(tmp_path / "a.%04d.exr")
    (frame,) = reader.frames()
    info = reader.info
    assert (info.rate, info.sample_aspect, info.reel) == (Fraction(24000, 1001), 2, "A001")
    assert frame.timecode == "01:02:03;04" and info.timecode is None  # no drop-frame at 24
    assert str(open_clip(tmp_path / "a.%04d.exr", reading(fps="29.97")).info.timecode) == "01:02:03;04"
    assert info.chromaticities == pytest.approx(p3)
    assert open_clip(tmp_path / "a.%04d.exr", reading(fps="25")).info.rate == 25


@pytest.mark.parametrize(("bits", "order", "packing"), [
    (10, ">", 1), (10, "<", 1), (10, ">", 2), (8, ">", 0), (8, "<", 0), (16, ">", 0), (16, "<", 0), (12, ">", 1),
    (12, "<", 1), (12, ">", 2),
])  # fmt: skip
def test_dpx_by_the_byte(tmp_path: Path, bits: int, order: str, packing: int) -> None:
    """Truth: a file put together field by field, and FFmpeg's reading of it where it reads such a one."""
    top = (1 << bits) - 1
    codes = np.rint(chart() * top).astype(np.uint16)
    path = tmp_path / "a.0001.dpx"
    path.write_bytes(dpx_bytes(codes, bits, order=order, packing=packing, rate=29.97, timecode=0x01020304))
    reader = open_clip(tmp_path / "a.%04d.dpx")
    (frame,) = reader.frames()
    scaled = frame.rgb.astype(np.float64) / np.iinfo(frame.rgb.dtype).max * top
    assert np.abs(scaled - codes).max() <= 0.5 * top / 65535 + 1e-6  # rounded to 16 bits
    assert (reader.info.rate, frame.timecode, reader.info.look) == (Fraction(30000, 1001), "01:02:03:04", "log")
    if packing == 2 or shutil.which("ffmpeg") is None:
        return  # FFmpeg knows method A alone
    pixel_format, dtype = ("gbrp10le", "<u2") if bits == 10 else ("gbrp12le", "<u2") if bits == 12 else ("rgb24", "u1")
    if bits == 16:
        pixel_format, dtype = "rgb48le", "<u2"
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", pixel_format, "-"]
    raw = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, dtype)
    if pixel_format.startswith("gbr"):
        green, blue, red = raw.reshape(3, HEIGHT, WIDTH)
        theirs = np.stack([red, green, blue], -1)
    else:
        theirs = raw.reshape(HEIGHT, WIDTH, 3)
    assert (theirs == codes).all()


@pytest.mark.parametrize(
    ("transfer", "look"), [(1, "log"), (3, "log"), (2, "linear"), (6, "srgb"), (4, "srgb"), (0, "log"), (255, "log")]
)
def test_dpx_means_what_its_tag_says(tmp_path: Path, transfer: int, look: str) -> None:
    path = tmp_path / "a.0001.dpx"
    path.write_bytes(dpx_bytes(np.full((4, 4, 3), 685), transfer=transfer))
    info = open_clip(tmp_path / "a.%04d.dpx").info
    assert info.look == look
    assert any("nothing of its transfer" in note for note in info.notes) == (transfer in (0, 255))
    assert open_clip(tmp_path / "a.%04d.dpx", reading(transform="srgb")).info.look == "srgb"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_and_tiff_to_the_bit(tmp_path: Path, suffix: str, dtype: Any) -> None:
    picture = np.rint(chart() * np.iinfo(dtype).max).astype(dtype)
    write_cv(tmp_path / f"a.0001{suffix}", picture)
    (frame,) = open_clip(tmp_path / f"a.%04d{suffix}").frames()
    assert frame.rgb.dtype == dtype and (frame.rgb == picture).all() and frame.look is None


def test_float_tiff_and_gray_and_alpha(tmp_path: Path) -> None:
    write_cv(tmp_path / "f.1.tif", hdr())
    reader = open_clip(tmp_path / "f.%d.tif")
    (frame,) = reader.frames()
    assert (frame.rgb == hdr()).all() and reader.info.look == "linear" and reader.info.floating
    gray = np.rint(chart()[..., 0] * 65535).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "g.1.png"), gray)
    (frame,) = open_clip(tmp_path / "g.%d.png").frames()
    assert (frame.rgb == gray[..., None]).all()
    rgba = np.dstack([np.rint(chart() * 65535).astype(np.uint16)[..., ::-1], np.zeros((HEIGHT, WIDTH), np.uint16)])
    cv2.imwrite(str(tmp_path / "r.1.png"), rgba)
    reader = open_clip(tmp_path / "r.%d.png")
    (frame,) = reader.frames()
    assert (frame.rgb == rgba[..., 2::-1]).all() and reader.info.has_alpha  # colour under alpha 0 is there


def test_jpeg_upright(tmp_path: Path) -> None:
    """EXIF says that the stored picture must be turned."""
    picture = np.rint(cv2.GaussianBlur(chart(), (0, 0), 3) * 255).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.1.jpg", quality=98, subsampling=0)
    (frame,) = open_clip(tmp_path / "a.%d.jpg").frames()
    assert np.abs(frame.rgb.astype(int) - picture).max() <= 6
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.rot90(picture)).save(tmp_path / "b.1.jpg", quality=98, subsampling=0, exif=exif)
    reader = open_clip(tmp_path / "b.%d.jpg")
    (frame,) = reader.frames()
    assert reader.info.size == (HEIGHT, WIDTH) and np.abs(frame.rgb.astype(int) - picture).max() <= 6


def test_frames_unlike_the_first_are_named(tmp_path: Path) -> None:
    numbered(tmp_path, [1, 2])
    write_cv(tmp_path / "plate.0003.png", np.zeros((6, 9, 3), np.uint16))
    refused(tmp_path / "plate.%04d.png", "plate.0003.png", "9x6", "8x6")
    write_cv(tmp_path / "plate.0003.png", np.zeros((6, 8, 3), np.uint8))
    refused(tmp_path / "plate.%04d.png", "plate.0003.png", "rgb24")
    write_exr(tmp_path / "a.1.exr", hdr())
    write_exr(tmp_path / "a.2.exr", hdr(0, np.float16))
    refused(tmp_path / "a.%d.exr", "a.2.exr", "float16", "float32")
    write_exr(tmp_path / "a.2.exr", hdr(), display=(0, 0, 9, 9))
    refused(tmp_path / "a.%d.exr", "a.2.exr", "display window")


# Overscan


def test_overscan_is_matted_and_kept(tmp_path: Path) -> None:
    """Data windows that differ, and are larger or smaller than what a viewer shows."""
    display = (10, 20, 10 + 39, 20 + 29)  # inclusive: 40 x 30
    write_exr(tmp_path / "a.1.exr", hdr(0), corner=(5, 15), display=display)  # overscan on all sides
    small = hdr(1)[:10, :12].copy()
    write_exr(tmp_path / "a.2.exr", small, corner=(30, 18), display=display)
    reader = open_clip(tmp_path / "a.%d.exr")
    info = reader.info
    assert info.windows is not None and info.windows.display == (10, 20, 50, 50)
    assert info.windows.canvas == (5, 15, 5 + WIDTH, 15 + HEIGHT) and info.size == (HEIGHT, WIDTH)
    assert any("5,5" in note for note in info.notes)
    first, second = reader.frames()
    assert first.window is None and (first.rgb == hdr(0)).all()
    assert second.window == (25, 3, 37, 13) and (second.rgb[3:13, 25:37] == small).all()
    assert second.rgb.sum() == pytest.approx(small.sum(), nan_ok=True)

    alpha = alpha_ramp()
    with open_writer(f"{tmp_path}/m.%d.exr", info, OutputSettings()) as writer:
        for frame in (first, second):
            writer.write(matted(frame, alpha))
    for number, data in ((1, ((5, 15), (57, 51))), (2, ((30, 18), (41, 27)))):
        header, channels = read_exr(tmp_path / f"m.{number}.exr")
        assert [tuple(int(v) for v in corner) for corner in header["dataWindow"]] == list(data)
        assert [tuple(int(v) for v in corner) for corner in header["displayWindow"]] == [(10, 20), (49, 49)]
        assert header["imageCounter"] == number
    assert (channels["A"] == alpha[3:13, 25:37]).all()


# Looks


def test_curves_at_known_points() -> None:
    """IEC 61966-2-1 and Kodak's conversion: black 95 is 0, white 685 is 1, middle grey 445 is 0.15 to 0.2."""
    assert encode_srgb(np.float32([0, 0.0031308, 0.18, 1, 2, -1, np.nan])) == pytest.approx(
        [0, 0.04045, 0.46135, 1, 1, 0, 0], abs=1e-4
    )
    assert decode_srgb(encode_srgb(np.linspace(0, 1, 99))) == pytest.approx(np.linspace(0, 1, 99), abs=1e-5)
    codes = np.rint(np.float64([95, 685, 445, 1023]) / 1023 * 65535).astype(np.uint16).reshape(1, -1, 1).repeat(3, 2)
    light = LOG.linear(codes)[0, :, 0]
    assert (
        light[:2] == pytest.approx([0, 1], abs=1e-4)
        and 0.14 < light[2] < 0.2
        and light[3] == pytest.approx(13.5, rel=0.01)
    )
    assert LOG.display(codes)[0, :2, 0] == pytest.approx([0, 65535], abs=2)


@pytest.mark.parametrize("look", [SRGB, LINEAR, LOG, NONE], ids=lambda look: look.name)
def test_tables_and_formulas_agree(look: Any) -> None:
    values = np.float16(hdr(0, np.float16))
    np.testing.assert_array_equal(look.display(values), look.display(values.astype(np.float32)))
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    np.testing.assert_array_equal(look.display(eight), look.display(eight.astype(np.uint16) * 257))
    before = values.copy()
    look.linear(values)
    assert (before.view(np.uint16) == values.view(np.uint16)).all()


def test_aces_through_opencolorio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PyOpenColorIO")
    write_exr(tmp_path / "a.1.exr", np.full((4, 4, 3), 0.18, np.float32))
    (frame,) = open_clip(tmp_path / "a.%d.exr", reading(transform="ACEScg")).frames()
    assert 80 < frame.rgb8[0, 0, 0] < 130  # middle grey stays grey of the middle under ACES
    assert frame.rgb[0, 0, 0] == np.float32(0.18)
    codes = np.full((4, 4, 3), 25000, np.uint16)
    write_cv(tmp_path / "l.1.png", codes)
    (frame,) = open_clip(tmp_path / "l.%d.png", reading(transform="ARRI LogC4")).frames()
    assert frame.look is not None and 0.05 < frame.look.linear(frame.rgb)[0, 0, 0] < 1
    clip = make_clip(tmp_path / "a.mov", [ramp(8, 8)] * 2)
    reader = open_clip(clip, reading(transform="ARRI LogC4"))
    assert reader.info.look == "ARRI LogC4" and all(f.look is not None for f in reader.frames())
    refused(tmp_path / "a.%d.exr", "it knows", "ARRI LogC4", kind=UsageError, transform="LogC")
    monkeypatch.setenv("OCIO", str(tmp_path / "none.ocio"))
    refused(tmp_path / "a.%d.exr", "OpenColorIO cannot use", kind=UsageError, transform="ACEScg")


def test_without_opencolorio_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PyOpenColorIO", None)
    with pytest.raises(UsageError, match=r"pip install 'mam-video\[ocio\]'"):
        make_view_transform("ACEScg", "linear")
    assert make_view_transform("auto", "srgb") is None and make_view_transform("auto", "linear") is LINEAR


# Writing


def one(output: str, frame: Frame, alpha: np.ndarray, info: Any, **settings: Any) -> Path:
    with open_writer(output, info, OutputSettings(**settings)) as writer:
        writer.write(matted(frame, alpha))
    (path,) = list(writer.path.parent.glob(writer.path.name.replace("%04d", "*").replace("%01d", "*")))
    return path


@pytest.mark.parametrize("compression", ["none", "zips", "zip", "piz"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_solid_pixels_of_exr_do_not_change_by_a_bit(tmp_path: Path, dtype: Any, compression: str) -> None:
    write_exr(tmp_path / "a.1.exr", hdr(0, dtype))
    reader = open_clip(tmp_path / "a.%d.exr")
    (frame,) = reader.frames()
    alpha = alpha_ramp()
    alpha[0] = 1
    path = one(f"{tmp_path}/m.%04d.exr", frame, alpha, reader.info, exr_compression=compression)
    assert path.name == "m.0001.exr"  # the sequence's own number
    _, channels = read_exr(path)
    rgb = np.dstack([channels[name] for name in "RGB"])
    assert rgb.dtype == dtype and set(channels) == set("RGBA")
    bits = np.uint16 if dtype is np.float16 else np.uint32
    assert (rgb[alpha == 1].view(bits) == hdr(0, dtype)[alpha == 1].view(bits)).all()
    assert rgb[np.isfinite(rgb)].max() == 16 and (rgb[alpha == 0] == 0).all()
    assert channels["A"].dtype == dtype and np.abs(channels["A"] - alpha).max() <= (
        2**-12 if dtype is np.float16 else 0
    )


@pytest.mark.parametrize("compression", ["dwaa", "dwab"])
def test_lossy_exr_stays_near(tmp_path: Path, compression: str) -> None:
    smooth = (ramp(64, 96) / 65535 * 4).astype(np.float16)
    write_exr(tmp_path / "a.1.exr", smooth)
    reader = open_clip(tmp_path / "a.%d.exr")
    (frame,) = reader.frames()
    alpha = np.ones((64, 96), np.float32)
    _, channels = read_exr(one(f"{tmp_path}/m.%04d.exr", frame, alpha, reader.info, exr_compression=compression))
    assert np.abs(channels["R"] / smooth[..., 0] - 1).max() < 0.05 and (channels["A"] == 1).all()


def test_the_attributes_of_exr(tmp_path: Path) -> None:
    code = OpenEXR.TimeCode(1, 2, 3, 4, 1, *[0] * 13)
    p3 = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329)
    given = {"framesPerSecond": Fraction(24000, 1001), "timeCode": code, "chromaticities": p3, "reelName": "A001"}
    write_exr(tmp_path / "a.0086.exr", hdr(), pixelAspectRatio=2.0, **given)
    reader = open_clip(tmp_path / "a.%04d.exr")
    (frame,) = reader.frames()
    header, _ = read_exr(one(f"{tmp_path}/m.%04d.exr", frame, alpha_ramp(), reader.info))
    assert header["framesPerSecond"] == Fraction(24000, 1001) and header["imageCounter"] == 86
    assert header["chromaticities"] == pytest.approx(p3) and header["reelName"] == "A001"
    assert header["pixelAspectRatio"] == 2 and str(header["timeCode"]) == str(code)
    header, channels = read_exr(one(f"{tmp_path}/n.%04d.exr:alpha", frame, alpha_ramp(), reader.info, exr_layer="hero"))
    assert list(channels) == ["hero.A"] and (channels["hero.A"] == alpha_ramp()).all()
    for bad in ("1", "a.b", "a b", "ü"):
        with pytest.raises(UsageError, match="exr_layer"):
            OutputSettings(exr_layer=bad)


def test_exr_of_a_display_referred_plate_is_linear_light(tmp_path: Path) -> None:
    codes = np.rint(chart() * 65535).astype(np.uint16)
    write_cv(tmp_path / "a.0007.png", codes)
    reader = open_clip(tmp_path / "a.%04d.png")
    (frame,) = reader.frames()
    alpha = alpha_ramp()
    header, channels = read_exr(one(f"{tmp_path}/m.%04d.exr", frame, alpha, reader.info, exr_type="float"))
    expected = decode_srgb((codes / 65535).astype(np.float32)) * alpha[..., None]
    assert np.abs(np.dstack([channels[n] for n in "RGB"]) - expected).max() < 1e-6
    assert header["chromaticities"] == pytest.approx((0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329))


def test_what_cannot_hold_float_is_shown_and_says_so(tmp_path: Path) -> None:
    write_exr(tmp_path / "a.1.exr", hdr())
    reader = open_clip(tmp_path / "a.%d.exr")
    (frame,) = reader.frames()
    got = cv2.imread(str(one(f"{tmp_path}/m.%04d.png", frame, alpha_ramp(), reader.info)), cv2.IMREAD_UNCHANGED)
    seen = np.rint(encode_srgb(hdr()) * 65535)
    assert np.abs(got[..., 2::-1] - seen).max() <= 1
    told = notes([f"{tmp_path}/m.%04d.png", f"{tmp_path}/n.mov", f"{tmp_path}/m.%04d.exr"], reader.info)
    assert len([line for line in told if "png, prores cannot hold float" in line]) == 1
    assert not [line for line in notes([f"{tmp_path}/m.%04d.exr"], reader.info) if "cannot hold" in line]


def test_log_codes_stay_log_in_files_of_whole_numbers(tmp_path: Path) -> None:
    codes = np.rint(chart() * 1023).astype(np.uint16)
    (tmp_path / "a.0001.dpx").write_bytes(dpx_bytes(codes))
    reader = open_clip(tmp_path / "a.%04d.dpx")
    (frame,) = reader.frames()
    assert frame.rgb8[frame.rgb == 65535].min() == 255 and frame.rgb8.mean() != pytest.approx(
        (frame.rgb >> 8).mean(), abs=3
    )
    got = cv2.imread(str(one(f"{tmp_path}/m.%04d.tif", frame, alpha_ramp(), reader.info)), cv2.IMREAD_UNCHANGED)
    assert (got[..., 2::-1] == frame.rgb).all()
    assert any("keeps the plate's own log codes" in line for line in notes(["m.mov"], reader.info))
    _, channels = read_exr(one(f"{tmp_path}/m.%04d.exr", frame, np.ones((HEIGHT, WIDTH), np.float32), reader.info))
    assert channels["R"].max() == pytest.approx(13.5, rel=0.01)  # code 1023 in linear light


def test_tiff_by_three_other_readers(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    codes, alpha = np.rint(chart() * 65535).astype(np.uint16), alpha_ramp()
    write_cv(tmp_path / "a.0001.png", codes)
    reader = open_clip(tmp_path / "a.%04d.png")
    (frame,) = reader.frames()
    for premultiply, extra in ((False, 2), (True, 1)):
        path = one(f"{tmp_path}/{extra}.%04d.tif", frame, alpha, reader.info, premultiply=premultiply)
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].tags["ExtraSamples"].value == (extra,)
            theirs = file.asarray()
        expected = codes * (alpha[..., None].astype(np.float64) if premultiply else 1)
        assert np.abs(theirs[..., :3] - expected).max() <= 0.51
        assert (theirs[..., 3] == np.rint(alpha * np.float32(65535))).all()
        opencv = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert (opencv[..., [2, 1, 0, 3]] == theirs).all()
    path = one(f"{tmp_path}/m.%04d.tif:alpha", frame, alpha, reader.info)
    if shutil.which("ffmpeg"):
        command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "gray16le", "-"]
        raw = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<u2")
        assert (raw.reshape(HEIGHT, WIDTH) == np.rint(alpha * np.float32(65535))).all()


def test_dpx_matte_by_ffmpeg(tmp_path: Path) -> None:
    write_cv(tmp_path / "a.0001.png", np.zeros((HEIGHT, WIDTH, 3), np.uint16))
    reader = open_clip(tmp_path / "a.%04d.png")
    (frame,) = reader.frames()
    path = one(f"{tmp_path}/m.%04d.dpx", frame, alpha_ramp(), reader.info)
    (back,) = open_clip(tmp_path / "m.%04d.dpx").frames()
    assert np.abs(back.rgb / 65535 - alpha_ramp()[..., None]).max() <= 0.51 / 1023
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg to compare with")
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "gbrp10le", "-"]
    planes = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<u2")
    assert (planes.reshape(3, HEIGHT, WIDTH) == np.rint(alpha_ramp() * np.float32(1023))).all()


def test_webp_by_pillow(tmp_path: Path) -> None:
    for k in range(5):
        write_cv(tmp_path / f"a.{k:04d}.png", np.full((HEIGHT, WIDTH, 3), 8000 * k, np.uint16))
    reader = open_clip(tmp_path / "a.%04d.png", reading(fps="23.976"))
    alpha = alpha_ramp()
    with open_writer(f"{tmp_path}/m.webp", reader.info, OutputSettings()) as writer:
        for frame in reader.frames():
            writer.write(matted(frame, alpha))
    with Image.open(tmp_path / "m.webp") as film:
        assert (getattr(film, "n_frames", 1), film.size) == (5, (WIDTH, HEIGHT))
        for k, length in enumerate((42, 41, 42, 42, 42)):
            film.seek(k)
            got = np.asarray(film.convert("RGBA")).astype(int)
            assert film.info["duration"] == length
            assert np.abs(got[..., 3] - alpha * 255).max() <= 1 and np.abs(got[..., :3] - 8000 * k / 257).max() <= 3


def test_the_first_number_can_be_told(tmp_path: Path) -> None:
    numbered(tmp_path, [5, 6])
    reader = open_clip(tmp_path / "plate.%04d.png")
    for name, start, expected in (("a/", -1, ["a.0005.png", "a.0006.png"]), ("b/", 0, ["b.0000.png", "b.0001.png"])):
        with open_writer(f"{tmp_path}/{name}", reader.info, OutputSettings(start_number=start)) as writer:
            for frame in reader.frames():
                writer.write(matted(frame, np.zeros((6, 8), np.float32)))
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == expected


def test_an_input_is_never_written_over(tmp_path: Path) -> None:
    numbered(tmp_path, [5, 6])
    info = open_clip(tmp_path / "plate.%04d.png").info
    for output in ("plate.%04d.png", "plate.####.png", "plate.%d.png", "./plate.$F4.png"):
        if output == "plate.%d.png":
            continue  # other names: plate.5.png
        with pytest.raises(UsageError, match="input"):
            open_writer(f"{tmp_path}/{output}", info, OutputSettings(overwrite=True))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="input"):
        open_writer(f"{tmp_path}/link/plate.####.png", info, OutputSettings(overwrite=True))


# Compositing by another program's rules: what docs/formats.md promises of straight and premultiplied


def srgb_over(codes: np.ndarray, alpha: np.ndarray, ground: float) -> np.ndarray:
    return codes * alpha[..., None] + ground * (1 - alpha[..., None])


@pytest.mark.parametrize("output", ["m.%04d.png", "m.%04d.tif", "m.mkv"])
def test_straight_files_composite_in_code_values(tmp_path: Path, output: str) -> None:
    """FFmpeg reads the file and gives what it thinks is straight RGBA; laid over, it is the ideal composite."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg to compare with")
    codes, alpha = np.rint(chart() * 65535).astype(np.uint16), alpha_ramp()
    write_cv(tmp_path / "a.0001.png", codes)
    reader = open_clip(tmp_path / "a.%04d.png")
    (frame,) = reader.frames()
    path = one(f"{tmp_path}/{output}", frame, alpha, reader.info)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgba64le", "-"]
    raw = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<u2")
    theirs = raw.reshape(HEIGHT, WIDTH, 4) / 65535
    ideal = srgb_over(codes / 65535, alpha, 0.25)
    assert np.abs(srgb_over(theirs[..., :3], theirs[..., 3], 0.25) - ideal).max() < 3 / 65535
    assert np.abs(theirs[..., :3] - codes / 65535).max() < 2 / 65535  # colour where alpha is 0 survives


def test_exr_composites_premultiplied_in_linear_light(tmp_path: Path) -> None:
    """The Over of any compositor: F + B * (1 - a)."""
    write_exr(tmp_path / "a.1.exr", hdr()[1:])
    reader = open_clip(tmp_path / "a.%d.exr")
    (frame,) = reader.frames()
    alpha = alpha_ramp()[1:]
    _, channels = read_exr(one(f"{tmp_path}/m.%04d.exr", frame, alpha, reader.info))
    over = np.dstack([channels[n] for n in "RGB"]) + 0.25 * (1 - channels["A"][..., None])
    ideal = hdr()[1:].astype(np.float64) * alpha[..., None] + 0.25 * (1 - alpha[..., None])
    assert (np.abs(over - ideal) / np.maximum(ideal, 1)).max() < 1e-6


# Bad ones: see also test_hostile.py


def test_names_that_cannot_be(tmp_path: Path) -> None:
    numbered(tmp_path, [1, 2])
    refused(tmp_path / "none.%04d.png", "no such file")
    refused(tmp_path / "plate.%04d.%04d.png", "one place", kind=UsageError)
    refused(f"{tmp_path}/%04d/plate.png", "no such file")
    refused(tmp_path / "plate.%099999999999d.png", "too long", kind=UsageError)
    refused(tmp_path / "plate.1-99999999999999999999.png", "too long", kind=UsageError)
    refused(tmp_path / "plate.1-999999999.png", "range", kind=UsageError)
    refused(tmp_path / "plate.5-1x2.png", kind=UsageError)
    refused(tmp_path / "plate.1-5x0.png", "not a range", kind=UsageError)
    refused(tmp_path / "plate.%04d.tga", ".tga", "not read")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "without a sequence")
    numbered(tmp_path, [1, 2], "other.%04d.png")
    refused(tmp_path, "2 sequences", "other.%d.png", "plate.%d.png")
    numbered(tmp_path, [1], "far.%09d.png")
    numbered(tmp_path, [999_999_999], "far.%09d.png")
    refused(tmp_path / "far.%09d.png", "too far apart", on_gap="repeat")


def test_memory_does_not_grow_and_threads_end(tmp_path: Path) -> None:
    import threading

    numbered(tmp_path, list(range(1, 30)))
    before = threading.active_count()
    frames = open_clip(tmp_path / "plate.%04d.png").frames()
    next(frames)
    close: Callable[[], None] = frames.close  # type: ignore[attr-defined]
    close()
    assert threading.active_count() == before


def test_a_pipe_a_loop_and_a_folder_among_the_files(tmp_path: Path) -> None:
    numbered(tmp_path, [1])
    os.mkfifo(tmp_path / "plate.0002.png")
    refused(tmp_path / "plate.%04d.png", "plate.0002.png", "pipe")
    os.mkfifo(tmp_path / "pipe.0001.exr")
    refused(tmp_path / "pipe.%04d.exr", "pipe")
    (tmp_path / "loop.0001.dpx").symlink_to(tmp_path / "loop.0001.dpx")
    refused(tmp_path / "loop.%04d.dpx", "loop.0001.dpx", "cannot be read")
    (tmp_path / "dir.0001.tif").mkdir()
    refused(tmp_path / "dir.%04d.tif", "folder")
    refused(tmp_path / "pipe.0001.exr", "pipe")  # by its own name: must not wait for a writer either
    refused(tmp_path / "loop.0001.dpx", "loop.0001.dpx")
    refused(tmp_path / "none.png", "no such file")
    (tmp_path / "none.0001.png").touch()
    refused(tmp_path / "none.%04d.png", "empty")
