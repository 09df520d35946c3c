"""High dynamic range and wide gamut: published values of the standards, and zscale's, held against ours."""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mam_video.core.settings import InputSettings, OutputSettings
from mam_video.media import notes, open_clip, open_writer, pixel_formats, transfers
from mam_video.media.light import Light, Mastering, light_of
from mam_video.media.view_transforms import VideoTransform
from tests.clips import make_clip, matted, ramp
from tests.media.sequence_clips import read_exr

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None, reason="ffmpeg is not installed"
)


def grey_codes(*codes: float) -> NDArray:
    return np.repeat(np.rint(np.array(codes) * 65535).astype(np.uint16)[None, :, None], 3, 2)


def test_pq_has_the_published_values() -> None:
    """BT.2408-7, table 1: 203 cd/m2 is 58 % PQ, 1000 is 75 %; ST 2084: 100 cd/m2 is 50.8 %, code 1 is 10,000."""
    light = transfers.decode_pq(np.array([0, 0.5081, 0.5807, 0.7518, 1]))
    assert np.allclose(light, [0, 100, 203, 1000, 10000], rtol=0.002, atol=1e-9)
    codes = np.linspace(0, 1, 1001)
    assert np.abs(transfers.encode_pq(transfers.decode_pq(codes)) - codes).max() < 1e-6


def test_hlg_has_the_published_values() -> None:
    """BT.2100: code 1/2 is 1/12 of the peak, code 1 the peak; BT.2408: 75 % is reference white, 203 of 1000 cd/m2."""
    light = transfers.decode_hlg(np.array([0, 0.5, 1]))
    assert np.allclose(light, [0, 1 / 12, 1], atol=1e-6)
    assert abs(1000 * float(transfers.decode_hlg(np.array(0.75))) ** 1.2 - 203) < 0.5


@pytest.mark.parametrize(
    ("name", "codes", "light"),
    [
        ("pq", (0.5807, 0.7518), (1, 1000 / 203)),
        ("hlg", (0.5, 0.75, 1), (0.3145, 1, 3.7741)),
        ("gamma22", (0.5,), (0.5**2.2,)),
        ("gamma28", (0.5,), (0.5**2.8,)),
        ("dci", (1.0,), (52.37 / 48,)),
        ("log100", (0.0, 0.5, 1), (0, 0.1, 1)),
        ("log316", (0.2, 1), (0.01, 1)),
        ("linear", (0.25, 1), (0.25, 1)),
    ],
)
def test_linear_light_of_codes(name: str, codes: tuple[float, ...], light: tuple[float, ...]) -> None:
    found = VideoTransform(name, "bt2020").linear(grey_codes(*codes))
    assert np.allclose(found[0, :, 1], light, rtol=0.002, atol=1e-5)


def test_matrices_are_those_of_the_standards() -> None:
    """BT.2087-0, 2.3: BT.2020 to BT.709; BT.2100's luminance weights."""
    published = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    assert np.abs(transfers.to_rec709("bt2020") - published).max() < 1e-4
    assert np.allclose(transfers.luminance_weights("bt2020"), [0.2627, 0.6780, 0.0593], atol=1e-4)
    for primaries in transfers.PRIMARIES:  # white stays white
        assert np.allclose(transfers.to_rec709(primaries).sum(1), 1, atol=1e-3)


@pytest.mark.parametrize("name", ["pq", "hlg"])
@pytest.mark.parametrize("peak", [400.0, 1000.0, 4000.0])
def test_what_is_shown_grows_and_keeps_greys(name: str, peak: float) -> None:
    shown = VideoTransform(name, "bt2020", peak).display(grey_codes(*np.linspace(0, 1, 500)))[0].astype(int)
    assert np.ptp(shown, 1).max() <= 64  # a quarter of a step of 8 bits: grey stays grey
    assert (np.diff(shown[:, 1]) >= -1).all() and shown[0].max() == 0 and shown[-1].min() > 65000
    white = VideoTransform(name, "bt2020", peak).display(grey_codes(0.75 if name == "hlg" else 0.5807))[0, 0, 1]
    assert 0.8 < white / 65535 <= 1  # reference white is bright, whatever lies above it


def test_dark_and_middle_tones_pass_the_tone_curve_unchanged() -> None:
    light = np.linspace(0, 0.3, 50)
    assert np.allclose(transfers.tone_mapped(light, 1000 / 203), light, atol=1e-6)


def movie(path: Path, tags: tuple[int, int, int, int], rgb: NDArray | None = None) -> Path:
    """Three frames, lossless. Tags: range, matrix, primaries, transfer as FFmpeg counts them."""
    frames = [ramp(48, 64)] * 3 if rgb is None else [rgb] * 3
    return make_clip(path, frames, codec="ffv1", pixel_format="gbrp16le", tags=tags)


def write(plate: Path, output: Path | str, settings: OutputSettings | None = None) -> list[str]:
    """All frames of the plate under alpha 1; what the writer notes."""
    with open_clip(plate) as reader:
        writer = open_writer(str(output), reader.info, settings or OutputSettings())
        for frame in reader.frames():
            writer.write(matted(frame, np.ones(frame.size, np.float32)))
        writer.close()
        return list(getattr(writer, "notes", []))


@pytest.mark.parametrize(
    ("primaries", "transfer", "chromaticities", "codes", "light"),
    [
        (9, 16, (0.708, 0.292, 0.170, 0.797, 0.131, 0.046), (0.5807, 0.7518), (1, 4.926)),
        (2, 16, (0.708, 0.292, 0.170, 0.797, 0.131, 0.046), (0.5807, 0.7518), (1, 4.926)),
        (9, 18, (0.708, 0.292, 0.170, 0.797, 0.131, 0.046), (0.5, 0.75), (0.3145, 1)),
        (12, 16, (0.680, 0.320, 0.265, 0.690, 0.150, 0.060), (0.5807, 0.7518), (1, 4.926)),
        (12, 13, (0.680, 0.320, 0.265, 0.690, 0.150, 0.060), (0.5, 1), (0.21404, 1)),
        (9, 14, (0.708, 0.292, 0.170, 0.797, 0.131, 0.046), (0.5, 1), (0.21404, 1)),
        (6, 6, (0.630, 0.340, 0.310, 0.595, 0.155, 0.070), (0.5, 1), (0.21404, 1)),
        (5, 6, (0.64, 0.33, 0.29, 0.60, 0.15, 0.06), (0.5, 1), (0.21404, 1)),
        (1, 1, (0.64, 0.33, 0.30, 0.60, 0.15, 0.06), (0.5, 1), (0.21404, 1)),
        (2, 2, (0.64, 0.33, 0.30, 0.60, 0.15, 0.06), (0.5, 1), (0.21404, 1)),
        (1, 4, (0.64, 0.33, 0.30, 0.60, 0.15, 0.06), (0.5, 1), (0.21764, 1)),
        (5, 5, (0.64, 0.33, 0.29, 0.60, 0.15, 0.06), (0.5, 1), (0.14359, 1)),
        (1, 8, (0.64, 0.33, 0.30, 0.60, 0.15, 0.06), (0.5, 1), (0.5, 1)),
    ],
)
def test_exr_of_a_movie_is_linear_by_its_tags(
    tmp_path: Path, primaries: int, transfer: int, chromaticities: tuple[float, ...], codes: tuple[float, ...],
    light: tuple[float, ...],
) -> None:  # fmt: skip
    rgb = np.repeat(np.repeat(grey_codes(*codes), 32, 1), 48, 0)
    plate = movie(tmp_path / "plate.mkv", (2, 0, primaries, transfer), rgb)
    write(plate, tmp_path / "m.####.exr", OutputSettings(exr_type="float"))
    header, channels = read_exr(tmp_path / "m.1001.exr")
    assert np.allclose(header["chromaticities"][:6], chromaticities, atol=1e-6)
    assert np.allclose([channels["G"][5, 32 * k + 5] for k in range(len(codes))], light, rtol=0.002)
    assert ("whiteLuminance" in header) == (transfer == 16)


@pytest.mark.parametrize("tags", [(2, 0, 9, 16), (2, 0, 9, 18), (2, 0, 12, 13)])
def test_movies_of_many_bits_keep_codes_and_tags_and_others_get_the_view(
    tmp_path: Path, tags: tuple[int, int, int, int]
) -> None:
    plate = movie(tmp_path / "plate.mkv", tags)
    names = ["m.mkv", "m.mov", "m.mp4", "m.webm", "m.####.png", "m.####.tif"]
    for name in names:
        write(plate, tmp_path / name)
    with open_clip(plate) as reader:
        frame, own, told = next(iter(reader.frames())), reader.info.colour, notes(names, reader.info)
    for name in ("m.mkv", "m.mov"):
        with open_clip(tmp_path / name) as reader:
            assert (reader.info.colour.primaries, reader.info.colour.transfer) == (own.primaries, own.transfer)
            assert np.abs(next(iter(reader.frames())).rgb.astype(int) - frame.rgb).max() <= (
                0 if "mkv" in name else 400
            )
    for name in ("m.mp4", "m.webm", "m.1001.png", "m.1001.tif"):
        with open_clip(tmp_path / name) as reader:
            assert (reader.info.colour.primaries, reader.info.colour.transfer) in (
                ("bt709", "iec61966-2-1"), ("unknown", "unknown"),
            )  # fmt: skip
            apart = np.abs(next(iter(reader.frames())).rgb8.astype(int) - frame.rgb8)
            assert apart.mean() < (0.6 if "1001" in name else 4), name
    assert any(line.startswith("preview, vp9, png, tiff: ") and "not carried" in line for line in told)
    assert any(line.startswith("ffv1, prores: ") and "kept with their tags" in line for line in told)


def test_ordinary_video_is_shown_and_written_as_ever(tmp_path: Path) -> None:
    for transfer in (1, 2, 6, 7, 11, 13, 14, 15):
        plate = movie(tmp_path / f"{transfer}.mkv", (2, 0, 1, transfer))
        with open_clip(plate) as reader:
            assert reader.info.look == "srgb" and reader.info.shown is None and not reader.info.notes
            frame = next(iter(reader.frames()))
            assert frame.look is None and frame.shown is frame.rgb


def test_a_transform_that_is_asked_for_stands_above_the_tags(tmp_path: Path) -> None:
    plate = movie(tmp_path / "pq.mkv", (2, 0, 9, 16))
    with open_clip(plate, InputSettings(transform="srgb")) as reader:
        assert next(iter(reader.frames())).look is None
    untagged = movie(tmp_path / "none.mkv", (2, 0, 2, 2))
    with open_clip(untagged, InputSettings(transform="hlg")) as reader:
        assert reader.info.look == "hlg" and reader.info.chromaticities == transfers.PRIMARIES["bt2020"]


def test_a_tag_that_is_not_read_is_named(tmp_path: Path) -> None:
    rgb = ramp(48, 64)
    planes = [plane >> 6 for plane in pixel_formats.yuv444(rgb, "bt709", 16)]
    plate = make_clip(
        tmp_path / "ictcp.mkv", [planes] * 2, codec="ffv1", pixel_format="yuv444p10le", tags=(1, 14, 9, 16)
    )  # type: ignore[list-item]
    with open_clip(plate) as reader:
        assert any("matrix tag ictcp is not read here" in line for line in reader.info.notes)


@pytest.mark.parametrize(("primaries", "transfer"), [(9, 2), (2, 16), (2, 18)])
def test_an_untagged_matrix_is_that_of_bt2020_where_the_other_tags_are(
    tmp_path: Path, primaries: int, transfer: int
) -> None:
    planes = [plane >> 6 for plane in pixel_formats.yuv444(ramp(48, 64), "bt2020nc", 16)]
    tags = (1, 2, primaries, transfer)
    plate = make_clip(tmp_path / "a.mkv", [planes] * 2, codec="ffv1", pixel_format="yuv444p10le", tags=tags)
    with open_clip(plate) as reader:
        assert reader.info.colour.matrix == "bt2020nc" and not reader.info.colour.tagged
        assert (
            np.abs(next(iter(reader.frames())).rgb.astype(int) - ramp(48, 64)).max() < 400
        )  # codes of 10 bits, cut off; of BT.709's matrix 3000


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_mastering_display_and_light_levels(tmp_path: Path, suffix: str) -> None:
    plate = tmp_path / "hdr10.mp4"
    made = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=24:d=0.2", "-c:v", "libx265", "-pix_fmt",
         "yuv420p10le", "-x265-params", "log-level=error:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:"
         "chromaloc=2:hdr10=1:master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(40000000,50):"
         "max-cll=1234,321", str(plate)], check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("this ffmpeg cannot write HEVC")
    with open_clip(plate) as reader:
        light = reader.info.light
        assert light.levels == (1234, 321) and light.peak(1000) == 1234 and reader.info.siting == "topleft"
        assert light.mastering is not None and light.mastering.luminance == (Fraction(1, 200), Fraction(4000))
    told = write(plate, tmp_path / f"m{suffix}")
    if suffix == ".mkv":
        assert told == ["m.mkv: mastering display and light levels of the clip are not kept in it"]
        return
    assert not told
    probed = subprocess.run(
        ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(tmp_path / "m.mov")],
        check=True, capture_output=True,
    )  # fmt: skip
    data = json.loads(probed.stdout)["streams"][0]["side_data_list"]
    merged = {key: value for each in data for key, value in each.items()}
    shares = {key: float(Fraction(merged[key])) for key in ("red_x", "green_y", "max_luminance", "min_luminance")}
    assert shares == {"red_x": 0.708, "green_y": 0.797, "max_luminance": 4000, "min_luminance": 0.005}
    assert (merged["max_content"], merged["max_average"]) == (1234, 321)
    with open_clip(tmp_path / "m.mov") as reader:
        assert reader.info.light == light and len(list(reader.frames())) == 5


def test_a_frame_without_metadata_says_nothing(tmp_path: Path) -> None:
    with open_clip(movie(tmp_path / "a.mkv", (2, 0, 9, 16))) as reader:
        assert reader.info.light == Light() and reader.info.light.peak(1000) == 1000
    assert light_of(type("Frame", (), {"side_data": ()})()) == Light()
    assert Light(Mastering(None, (Fraction(0), Fraction(600)))).peak(1000) == 600


@needs_ffmpeg
@pytest.mark.parametrize(("transfer", "options"), [("smpte2084", "npl=203"), ("arib-std-b67", "npl=1000")])
def test_display_light_is_that_of_zscale(tmp_path: Path, transfer: str, options: str) -> None:
    """zimg brings PQ and HLG to display light; of HLG it is our scene light to the power of gamma."""
    look = VideoTransform("pq" if transfer == "smpte2084" else "hlg", "bt2020")
    rgb = ramp(32, 48)
    red, green, blue = (rgb[..., k] for k in range(3))
    raw = b"".join(plane.astype("<u2").tobytes() for plane in (green, blue, red))
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "gbrp16le", "-s", "48x32", "-i", "-", "-vf",
         f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=gbr:range=pc,"
         f"zscale=t=linear:{options},format=gbrpf32le", "-f", "rawvideo", "-"],
        input=raw, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("this ffmpeg has no zscale")
    planes = np.frombuffer(done.stdout, "<f4").reshape(3, 32, 48)
    theirs = np.stack([planes[2], planes[0], planes[1]], -1).astype(np.float64)
    ours = look.linear(rgb).astype(np.float64)
    if look.name == "hlg":
        scene = ours * transfers.HLG_WHITE
        ours = scene**1.2  # zscale takes the OOTF channel by channel unless told otherwise
    scale = np.median(theirs[ours > 0.1] / ours[ours > 0.1])
    assert np.abs(theirs / scale - ours).max() < 0.01 * ours.max()
