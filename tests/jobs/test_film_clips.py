"""The films that the main job must carry through whole: one case each, from the command line to a second reader.

Every clip goes through `mam-video matte` as it is typed, with the model whose answer is known. What comes out is read
by ffprobe (movies) or OpenEXR and OpenCV (sequences): count, times, timecode, tags, size, sound, and the colour of the
green subject and the grey ground against what was put in.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mam_video.cli import main
from mam_video.media import open_clip
from tests.clips import make_clip
from tests.media.sequence_clips import dpx_bytes, read_exr, write_exr
from tests.synthetic import GREEN, GREY, disc, picture

CLIPS = Path(__file__).parents[3] / "shared" / "data" / "dev" / "clips"
COUNT = 5
NTSC = Fraction(30000, 1001)
pytestmark = pytest.mark.skipif(
    shutil.which("ffprobe") is None or shutil.which("ffmpeg") is None, reason="no ffmpeg and ffprobe to compare with"
)


def alpha_of(k: int, height: int, width: int) -> np.ndarray:
    return disc((height, width), (0.45 * width + k, 0.5 * height), 0.3 * min(height, width))


def pictures(height: int = 72, width: int = 96) -> list[np.ndarray]:
    return [picture(alpha_of(k, height, width)) for k in range(COUNT)]


def box(height: int, width: int) -> str:
    x, y, r = 0.45 * width, 0.5 * height, 0.3 * min(height, width)
    return f"{x - r:.1f},{y - r:.1f},{x + r:.1f},{y + r:.1f}"


def matte(source: Path | str, where: str, *outputs: str, more: Sequence[str] = ()) -> None:
    """The main job, from the command line. The plate's own colour is asked for: it is what is compared."""
    named = [part for output in outputs for part in ("-o", output)]
    command = ["matte", str(source), "--box", where, "--model", "fake-colour", "--foreground", "plate", "--quiet"]
    assert main([*command, *named, *more]) == 0


def yuv(rgb: np.ndarray, bits: int, full: bool, across: int) -> list[np.ndarray]:
    """Planes of BT.709 codes of (H, W, 3) uint8, by H.273 in float64; chroma of every `across`-th pixel."""
    red, green, blue = np.moveaxis(rgb.astype(np.float64) / 255, -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    chroma = [(blue - luma) / 1.8556, (red - luma) / 1.5748]
    unit, top = 1 << (bits - 8), (1 << bits) - 1
    codes = [luma * top] if full else [(16 + 219 * luma) * unit]
    codes += [c * top + (1 << (bits - 1)) if full else (128 + 224 * c) * unit for c in chroma]
    return [np.rint(plane[:, :: across if k else 1]).clip(0, top).astype(np.uint16) for k, plane in enumerate(codes)]


@dataclass(frozen=True)
class Film:
    """A movie to make, and what its matte must have.

    colour  largest error on the subject and the ground, of display-referred 1: 6/1023 of ProRes (docs/formats.md), and
            what a lossy source adds
    times   of each frame, in seconds
    """

    make: Callable[[Path], Path]
    size: tuple[int, int]
    times: Sequence[Fraction]
    colour: float
    tags: dict[str, str]
    rate: Fraction | None = None
    timecode: str = ""
    sound: int = 0


def prores_10(folder: Path) -> Path:
    planes: Any = [yuv(each, 10, False, 2) for each in pictures()]
    how: dict[str, Any] = {"codec": "prores_ks", "pixel_format": "yuv422p10le"}
    how["options"] = {"profile": "hq", "flags": "+qscale", "global_quality": "118"}
    return make_clip(folder / "plate.mov", planes, rate=Fraction(24000, 1001), tags=(1, 1, 1, 1), **how)


def full_12(folder: Path) -> Path:
    planes: Any = [yuv(each, 12, True, 1) for each in pictures()]
    return make_clip(folder / "plate.mkv", planes, codec="ffv1", pixel_format="yuv444p12le", tags=(2, 1, 1, 1))


PHONE_TICKS = (0, 512, 1024, 2111, 2600)


def phone(folder: Path) -> Path:
    """Upright film of a phone that lay on its side: stored turned, with times as they came, and sound."""
    stored: Any = [np.ascontiguousarray(np.rot90(each)) for each in pictures()]  # a quarter turn counter-clockwise
    how: dict[str, Any] = {"codec": "libx264", "pixel_format": "yuv420p", "options": {"crf": "8", "bf": "2"}}
    how |= {"pts": PHONE_TICKS, "time_base": Fraction(1, 15360), "rate": Fraction(30)}
    return make_clip(folder / "plate.mp4", stored, rotation=-90, audio=True, **how)


def drop_frame(folder: Path) -> Path:
    plain = make_clip(folder / "plain.mov", pictures(), rate=NTSC, time_base=Fraction(1, 30000))
    labelled = folder / "plate.mov"
    command = ["ffmpeg", "-v", "error", "-i", plain, "-c", "copy", "-timecode", "01:00:00;02", labelled]
    subprocess.run(command, check=True)
    return labelled


def odd(folder: Path) -> Path:
    return make_clip(folder / "plate.mov", pictures(479, 853), rate=Fraction(25))


def steady(rate: Fraction) -> list[Fraction]:
    return [k / rate for k in range(COUNT)]


UNTAGGED = {"color_primaries": "unknown", "color_transfer": "unknown"}
BT709 = {"color_range": "tv", "color_space": "bt709", "color_primaries": "bt709", "color_transfer": "bt709"}
FILMS = {
    "10-bit-limited-prores": Film(
        prores_10, (72, 96), steady(Fraction(24000, 1001)), 12 / 1023, BT709, Fraction(24000, 1001)
    ),
    "12-bit-full-range": Film(full_12, (72, 96), steady(Fraction(25)), 6 / 1023, BT709),
    "phone": Film(phone, (72, 96), [Fraction(t, 15360) for t in PHONE_TICKS], 6 / 255, {"color_range": "tv"}, sound=1),
    "drop-frame": Film(drop_frame, (72, 96), steady(NTSC), 6 / 1023, UNTAGGED, NTSC, "01:00:00;02"),
    "odd-853x479": Film(odd, (479, 853), steady(Fraction(25)), 6 / 1023, UNTAGGED, Fraction(25)),
}


def probe(path: Path) -> tuple[dict[str, Any], list[Fraction], list[dict[str, Any]]]:
    """The video stream, the time of each frame decoded, and all streams, as ffprobe reads them."""
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_frames", "-select_streams", "v:0", "-of", "json", path]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", path]
    streams = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["streams"]
    video = found["streams"][0]
    return video, [frame["pts"] * Fraction(video["time_base"]) for frame in found["frames"]], streams


def label_of(streams: list[dict[str, Any]]) -> str:
    return next((s["tags"]["timecode"] for s in streams if "timecode" in s.get("tags", {})), "")


@pytest.mark.parametrize("name", FILMS)
def test_movies(tmp_path: Path, name: str) -> None:
    film = FILMS[name]
    plate, out = film.make(tmp_path), tmp_path / "m.mov"
    look = tmp_path / "look.mp4"
    matte(plate, box(*film.size), str(out), str(look))
    video, times, streams = probe(out)
    height, width = film.size
    assert (video["height"], video["width"], video["pix_fmt"][:4]) == (height, width, "yuva")
    assert times == list(film.times)
    assert film.rate is None or Fraction(video["r_frame_rate"]) == film.rate
    assert {key: video.get(key, "unknown") for key in film.tags} == film.tags
    assert label_of(streams) == film.timecode
    assert sum(stream["codec_type"] == "audio" for stream in streams) == film.sound
    assert not any(side.get("rotation") for side in video.get("side_data_list", []))
    with open_clip(out) as clip:
        frames = list(clip.frames())
        alphas = list(clip.alphas())  # type: ignore[attr-defined]
    for k, (frame, alpha) in enumerate(zip(frames, alphas, strict=True)):
        truth = alpha_of(k, height, width)
        rgb = frame.rgb.astype(np.float64) / 65535
        for inside, value in ((erode(truth == 1), GREEN), (erode(truth == 0), GREY)):
            assert np.abs(rgb[inside] - value / 255).max() <= film.colour, k
        assert alpha[erode(truth == 1)].min() > 0.99 and alpha[erode(truth == 0)].max() < 0.01
    seen, looked, _ = probe(look)
    assert (seen["height"], seen["width"]) == (height + height % 2, width + width % 2)
    assert looked == list(film.times)


def erode(inside: np.ndarray) -> np.ndarray:
    """What lies 8 pixels within: chroma and lossy blocks spread as far."""
    small: np.ndarray = cv2.erode(inside.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
    assert small.any()
    return small


def test_sound_of_the_phone_is_untouched(tmp_path: Path) -> None:
    plate = phone(tmp_path)
    matte(plate, box(72, 96), f"{tmp_path}/m.mov")
    sums = []
    for path in (plate, tmp_path / "m.mov"):
        command = ["ffmpeg", "-v", "error", "-i", path, "-map", "0:a", "-c", "copy", "-f", "md5", "-"]
        sums.append(subprocess.run(command, capture_output=True, check=True).stdout)
    assert sums[0] == sums[1]


def test_exr_to_16_with_an_offset_window(tmp_path: Path) -> None:
    """Half floats far above white, in a data window that begins outside the picture: kept bit for bit where solid."""
    corner, display = (-8, 5), (0, 0, 79, 71)
    alphas = [alpha_of(k, 72, 96) for k in range(COUNT)]
    plates = []
    for k, alpha in enumerate(alphas):
        linear = np.where(alpha[..., None] > 0.5, [0.0, 16.0, 0.0], [0.2, 0.2, 0.2]).astype(np.float16)
        linear[36, 30:50, 1] = np.linspace(1, 16, 20)
        plates.append(linear)
        rate = Fraction(24000, 1001)
        write_exr(tmp_path / f"plate.{1001 + k}.exr", linear, corner=corner, display=display, framesPerSecond=rate)
    out = tmp_path / "m.####.exr"
    # coordinates count from the corner of all that is matted: 8 to the left of the display, and its top
    x0, y0, x1, y1 = (float(v) for v in box(72, 96).split(","))
    matte(tmp_path / "plate.%04d.exr", f"{x0},{y0 + 5},{x1},{y1 + 5}", str(out))
    assert [p.name for p in sorted(tmp_path.glob("m.*"))] == [f"m.{1001 + k}.exr" for k in range(COUNT)]
    for k, (alpha, linear) in enumerate(zip(alphas, plates, strict=True)):
        header, planes = read_exr(tmp_path / f"m.{1001 + k}.exr")
        low, high = header["dataWindow"]
        assert tuple(low) == corner and tuple(high) == (corner[0] + 95, corner[1] + 71)
        assert tuple(header["displayWindow"][1]) == display[2:] and header["framesPerSecond"] == Fraction(24000, 1001)
        solid = (planes["A"] == 1) & (alpha == 1)
        assert solid.sum() > 0.8 * (alpha == 1).sum()
        for channel, name in enumerate("RGB"):
            assert (planes[name][solid] == linear[..., channel][solid]).all()
        assert planes["G"].max() == 16 and (planes["A"][erode(alpha == 0)] == 0).all()


def test_dpx_log(tmp_path: Path) -> None:
    """Log codes: the same codes in TIFF, linear light in EXR (code 685 is 1.0)."""
    subject, ground = np.array([95, 685, 95]), np.array([470, 470, 470])
    codes = []
    for k in range(COUNT):
        solid = alpha_of(k, 72, 96)[..., None] > 0.5
        codes.append(np.where(solid, subject, ground).astype(np.uint16))
        (tmp_path / f"plate.{86400 + k}.dpx").write_bytes(dpx_bytes(codes[-1], transfer=1, rate=25.0))
    matte(tmp_path / "plate.%05d.dpx", box(72, 96), f"{tmp_path}/m.#####.tif", f"{tmp_path}/m.#####.exr")
    for k in range(COUNT):
        written = cv2.imread(str(tmp_path / f"m.{86400 + k}.tif"), cv2.IMREAD_UNCHANGED)
        assert (written[..., 2::-1] == np.rint(codes[k] * (65535 / 1023))).all()
        header, planes = read_exr(tmp_path / f"m.{86400 + k}.exr")
        solid = planes["A"] == 1
        assert header["framesPerSecond"] == 25 and solid.sum() > 500
        assert np.abs(planes["G"][solid & (codes[k][..., 1] == 685)] - 1).max() < 1e-3
    assert len(list(tmp_path.glob("m.*"))) == 2 * COUNT


@pytest.mark.parametrize("name", sorted(path.name for path in CLIPS.glob("*.mp4")) or ["none"])
def test_real_clips(tmp_path: Path, name: str) -> None:
    """Frames 3 to 6 of each: a movie of its own, at time 0, with the label and the sound of its frames."""
    plate = CLIPS / name
    if not plate.is_file():
        pytest.skip("the shared development clips are not beside this checkout")
    out = tmp_path / "m.mov"
    matte(plate, "20%,20%,80%,80%", str(out), more=["--range", "3-6"])
    source, all_times, streams = probe_start(plate)
    video, times, ours = probe(out)
    assert times == [time - all_times[3] for time in all_times[3:7]]
    turned = any(abs(side.get("rotation", 0)) == 90 for side in source.get("side_data_list", []))
    size = (source["width"], source["height"]) if turned else (source["height"], source["width"])
    assert (video["height"], video["width"]) == size
    for tag in ("color_primaries", "color_transfer"):
        assert video.get(tag, "unknown") == source.get(tag, "unknown")
    heard = [s["codec_name"] for s in streams if s["codec_type"] == "audio"]
    assert [s["codec_name"] for s in ours if s["codec_type"] == "audio"] == heard
    start = label_of(streams)
    assert label_of(ours) == (start[:-2] + f"{int(start[-2:]) + 3:02d}" if start else "")
    frames = list(open_clip(out).frames())
    assert len(frames) == 4
    ours_rgb = np.stack([frame.rgb for frame in frames]).astype(np.float32)
    matrix = matrix_of(source)
    right, wrong = (
        np.abs(ours_rgb - decoded_by_ffmpeg(plate, each, source, size)) * (255 / 65535)
        for each in (matrix, "smpte170m" if matrix == "bt709" else "bt709")
    )
    assert np.median(right) < 1  # edges differ by how chroma is spread, areas do not; a wrong range is 10 off
    assert right.mean() < wrong.mean()


def matrix_of(source: dict[str, Any]) -> str:
    """As tagged, else by the rule of size."""
    named: str = source.get("color_space", "unknown")
    return named if named != "unknown" else "bt709" if source["width"] >= 1280 else "smpte170m"


def probe_start(path: Path) -> tuple[dict[str, Any], list[Fraction], list[dict[str, Any]]]:
    """As `probe`, of the first frames alone."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_frames", "-read_intervals", "%+#12"]
    found = json.loads(subprocess.run([*command, "-of", "json", path], capture_output=True, check=True).stdout)
    command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", path]
    streams = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["streams"]
    video = next(stream for stream in streams if stream["codec_type"] == "video")
    return video, [frame["pts"] * Fraction(video["time_base"]) for frame in found["frames"]], streams


def decoded_by_ffmpeg(path: Path, matrix: str, source: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Frames 3 to 6, upright, (4, H, W, 3) uint16, by ffmpeg's own scaler."""
    full = "full" if source.get("color_range") == "pc" else "limited"
    chosen = f"select='between(n,3,6)',scale=in_color_matrix={matrix}:in_range={full}:out_range=full"
    flags = ":flags=accurate_rnd+full_chroma_int+full_chroma_inp"
    command = ["ffmpeg", "-v", "error", "-i", path, "-vf", chosen + flags, "-frames:v", "4", "-fps_mode", "passthrough"]
    command += ["-pix_fmt", "rgb48le", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, "<u2").reshape(4, *size, 3)
