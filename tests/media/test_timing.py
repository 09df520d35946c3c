"""Clocks that restart, rates that ticks cannot hold, frames that are not read: held against what ffprobe reads."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import InputSettings, OutputSettings
from mam_video.core.timecode import frame_range
from mam_video.media import open_clip, open_writers
from mam_video.media.movie.container_layout import pictures_in_png
from mam_video.media.movie.rates import USUAL, rate_of_stamps
from mam_video.media.movie.reader import MovieReader
from mam_video.media.movie.timeline import continued
from mam_video.media.movie.verify import expected_of_plate, verify_movie
from mam_video.media.sequence.pattern import find_sequence
from mam_video.media.sequence.png_tiff_jpeg import encode_tiff
from tests.clips import matted, soft_disc

needs_ffmpeg: Callable[..., Any] = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg to write with")


def ffmpeg(*words: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, words)], check=True)


def recording(
    path: Path, *options: str, seconds: float = 1, rate: str = "25", sound: bool = True, codec: str = "libx264"
) -> Path:
    """A clip of 64x48 with a sine beside it."""
    words = ["-f", "lavfi", "-i", f"testsrc=s=64x48:r={rate}:d={seconds}"]
    if sound:
        words += ["-f", "lavfi", "-i", f"sine=d={seconds}:r=48000", "-shortest"]
    ffmpeg(*words, "-c:v", codec, "-g", "10", *options, path)
    return path


def probed(path: Path, kind: str, *entries: str) -> list[list[str]]:
    command = ["ffprobe", "-v", "error", "-select_streams", kind, "-show_entries", ",".join(entries), "-of", "csv=p=0"]
    text = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True).stdout
    return [line.rstrip(",").split(",") for line in text.splitlines() if line.strip(",")]


def written(source: Path, path: Path) -> Path:
    with open_clip(source) as reader, open_writers([str(path)], reader.info, OutputSettings()) as group:
        for frame in reader.frames():
            group.write(matted(frame, soft_disc(*frame.size)))
    return path


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@needs_ffmpeg
@pytest.mark.parametrize("offsets", [(0, 0), (100, 0), (0, 100), (0, 0, 100)])
@pytest.mark.parametrize("sound", [True, False])
def test_a_transport_stream_whose_clock_restarts(tmp_path: Path, offsets: tuple[int, ...], sound: bool) -> None:
    parts = [
        recording(tmp_path / f"{k}.ts", "-c:a", "mp2", "-output_ts_offset", str(at), sound=sound)
        for k, at in enumerate(offsets)
    ]
    path = joined(tmp_path / "joined.ts", *parts)
    reader = MovieReader(path)
    times = [frame.pts * frame.time_base for frame in reader.frames()]
    assert len(times) == 25 * len(offsets)
    assert {b - a for a, b in pairwise(times)} == {Fraction(1, 25)}
    assert "clock restarts or jumps at" in reader.info.notes[0]
    assert reader.info.timeline.joins == tuple(times[25 * k] for k in range(1, len(offsets)))
    matte = written(path, tmp_path / "m.mov")
    (found,) = probed(matte, "v", "stream=duration,nb_frames")
    assert found == [f"{len(offsets):.6f}", str(25 * len(offsets))]
    if sound:
        packets = [float(row[0]) for row in probed(matte, "a", "packet=pts_time")]
        assert len(packets) == 42 * len(offsets)
        starts = [packets[k] - float(times[25 * k // 42]) for k in range(0, len(packets), 42)]
        assert max(starts) - min(starts) < 1e-5  # each recording's sound lies beside its pictures as it did
        assert max(b - a for a, b in pairwise(packets)) < 0.03
    checks = verify_movie(matte, expected_of_plate(reader))
    assert all(check.good for check in checks), [str(check) for check in checks]


@needs_ffmpeg
def test_other_containers_go_on_or_say_so(tmp_path: Path) -> None:
    for name, codec, options in (
        ("a.mpg", "mpeg2video", ("-c:a", "mp2", "-f", "mpeg")),
        ("a.mkv", "libx264", ("-c:a", "aac")),
    ):
        part = recording(tmp_path / name, *options, codec=codec)
        path = joined(tmp_path / f"joined{part.suffix}", part, part)
        reader = MovieReader(path)
        times = [frame.pts * frame.time_base for frame in reader.frames()]
        assert len(times) == 50 and {b - a for a, b in pairwise(times)} == {Fraction(1, 25)}, name
        assert "clock restarts" in reader.info.notes[0]
        assert len(probed(written(path, tmp_path / f"{name}.mov"), "v", "packet=pts")) == 50
    for name in ("a.flv", "a.mp4"):
        part = recording(tmp_path / name, "-c:a", "aac")
        info = MovieReader(joined(tmp_path / f"joined{part.suffix}", part, part)).info
        assert f"another recording lies behind the first one, at byte {part.stat().st_size:,}" in info.notes[0]


@needs_ffmpeg
def test_a_clock_that_is_whole_stays_as_it_is(tmp_path: Path) -> None:
    wrapped = recording(tmp_path / "w.ts", "-c:a", "mp2", "-output_ts_offset", "95441", seconds=3)
    short_gap = joined(
        tmp_path / "gap.ts",
        recording(tmp_path / "a.ts", "-c:a", "mp2"),
        recording(tmp_path / "b.ts", "-c:a", "mp2", "-output_ts_offset", "5"),
    )
    for path, count in ((wrapped, 75), (short_gap, 50)):
        reader = MovieReader(path)
        assert not reader.info.timeline.joins and not reader.info.notes
        assert len(list(reader.frames())) == count
    assert not continued(wrapped, 0).stretches


@needs_ffmpeg
def test_pictures_that_pause_under_sound_are_no_restart(tmp_path: Path) -> None:
    path = tmp_path / "slides.ts"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=1/12:d=36", "-f", "lavfi", "-i", "sine=d=36:r=48000",
           "-c:v", "mpeg2video", "-r", "24", "-fps_mode", "passthrough", "-c:a", "mp2", path)  # fmt: skip
    reader = MovieReader(path)
    assert not reader.info.timeline.joins


@pytest.mark.parametrize("rate", [rate for rate in USUAL if 20 < rate < 130])
@pytest.mark.parametrize("unit", [Fraction(1, 1000), Fraction(1, 600)])
def test_a_rate_comes_back_from_rounded_stamps(rate: Fraction, unit: Fraction) -> None:
    for count in (40, 300):
        stamps = [floor(k / rate / unit + Fraction(1, 2)) for k in range(count)]
        near = Fraction(round(rate * 317 * 7), 317 * 7)
        found = rate_of_stamps(stamps, unit, near)
        longest = count / rate / unit
        assert abs(found / rate - 1) * longest < 2  # what is taken agrees with every stamp
        assert count < 300 or found == rate


def test_a_variable_or_unusual_rate_is_left_alone() -> None:
    tick = Fraction(1, 1000)
    assert rate_of_stamps([0, 33, 100, 133, 400, 433], tick, Fraction(141, 10)) == Fraction(141, 10)
    assert rate_of_stamps([round(k * 1000 / 23.5) for k in range(200)], tick, Fraction(47, 2)) == Fraction(47, 2)


@pytest.mark.parametrize("rate", [Fraction(n, 1001) for n in (24000, 48000, 60000, 120000)])
@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libx264"), (".webm", "libvpx"), (".flv", "libx264")])
@pytest.mark.parametrize("count", [4, 40])
def test_rates_of_containers_that_count_milliseconds(
    tmp_path: Path, rate: Fraction, suffix: str, codec: str, count: int
) -> None:
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for k in range(count):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts, frame.time_base = k, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert MovieReader(path).info.rate == rate


@needs_ffmpeg
@pytest.mark.parametrize(
    ("rate", "label"), [("60000/1001", "00:59:59;50"), ("30000/1001", "00:09:59;29"), ("60", "01:00:00:59")]
)
def test_timecode_of_matroska_in_mov(tmp_path: Path, rate: str, label: str) -> None:
    path = recording(tmp_path / "a.mkv", "-timecode", label, seconds=0.5, rate=rate, sound=False)
    reader = MovieReader(path)
    assert str(reader.info.timecode) == label and reader.info.rate == Fraction(rate)
    matte = written(path, tmp_path / "m.mov")
    assert probed(matte, "v", "stream_tags=timecode") == [[label]]
    checks = verify_movie(matte, expected_of_plate(reader))
    assert all(check.good for check in checks), [str(check) for check in checks]


@needs_ffmpeg
@pytest.mark.parametrize("rate", ["24", "60", "30000/1001"])
def test_an_animated_png_is_a_movie(tmp_path: Path, rate: str) -> None:
    path = tmp_path / "a.png"
    ffmpeg("-f", "lavfi", "-i", f"testsrc=s=64x48:r={rate}", "-frames:v", "12", "-f", "apng", path)
    assert pictures_in_png(path) == 12 == len(probed(path, "v", "packet=pts"))
    with open_clip(path) as reader:
        assert len(list(reader.frames())) == 12
        checks = verify_movie(written(path, tmp_path / "m.mov"), expected_of_plate(reader))
    assert all(check.good for check in checks), [str(check) for check in checks]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match=r"cut off: it holds .* of 12 frames whole"):
        open_clip(path)


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".gif", ".avif"])
def test_animations_are_read_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    options = ("-c:v", "libaom-av1", "-cpu-used", "8") if suffix == ".avif" else ()
    try:
        ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=24", "-frames:v", "12", *options, path)
    except subprocess.CalledProcessError:
        pytest.skip(f"this ffmpeg cannot write {suffix}")
    with open_clip(path) as reader:
        assert reader.info.rate == 24 and len(list(reader.frames())) == 12
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(MediaError, match="cut off"):
        open_clip(path)


def test_more_pictures_in_a_still_are_said(tmp_path: Path) -> None:
    page = encode_tiff(np.zeros((8, 8), np.uint16), premultiplied=False)
    (count,) = struct.unpack_from("<H", page, 8)
    place = 10 + 12 * count  # of the next header's offset
    two = bytearray(page) + page[8 : place + 4]
    struct.pack_into("<I", two, place, len(page))
    path = tmp_path / "pages.tif"
    path.write_bytes(page)
    assert not open_clip(path).info.notes
    path.write_bytes(two)
    assert "holds 2 pictures" in open_clip(path).info.notes[0]


@needs_ffmpeg
@pytest.mark.parametrize("name", ["f.mp4", "fs.mp4", "a.mov", "a.flv", "a.mkv", "a.avi"])
@pytest.mark.parametrize("less", [5, 100, 700, 2500])
def test_a_recording_cut_off_in_sound_or_pictures(tmp_path: Path, name: str, less: int) -> None:
    fragments = ("-movflags", "frag_keyframe+empty_moov+default_base_moof")
    options = {"f.mp4": fragments, "fs.mp4": ("-movflags", "+faststart")}.get(name, ())
    codec, coder = ("mjpeg", "pcm_s16le") if name == "a.avi" else ("libx264", "aac")
    path = recording(tmp_path / name, "-c:a", coder, *options, seconds=2, codec=codec)
    assert len(probed(path, "v", "packet=pts")) == 50 and not MovieReader(path).info.notes
    data = path.read_bytes()
    end = data.rindex(b"mfra") - 4 if name == "f.mp4" else len(data)
    path.write_bytes(data[: end - less])
    with pytest.raises(MediaError, match="cut off"):
        MovieReader(path)


@needs_ffmpeg
def test_a_live_recording_cut_off_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    recording(path, "-c:a", "aac", "-live", "1", "-f", "matroska")
    assert not MovieReader(path).info.notes
    path.write_bytes(path.read_bytes()[:-300])
    assert "live recording without a length, is cut off" in MovieReader(path).info.notes[0]


@pytest.mark.parametrize(("below", "digits"), [("-0002", 4), ("-002", 3)])
def test_numbers_below_zero(tmp_path: Path, below: str, digits: int) -> None:
    for k in range(-2, 3):
        name = f"-{-k:0{digits}d}" if k < 0 else f"{k:04d}"
        cv2.imwrite(str(tmp_path / f"m.{name}.png"), np.full((8, 8, 3), 10 * k + 100, np.uint8))
    fps = InputSettings(fps="24")
    for text in (tmp_path / "m.####.png", tmp_path / "m.%04d.png", tmp_path, tmp_path / f"m.{below}-2.png"):
        if digits == 3 and text.name.startswith("m.-"):
            continue  # padding of a bare range is that of its first number
        with open_clip(text, fps) as reader:
            assert list(reader.info.numbers or ()) == [-2, -1, 0, 1, 2], text
            assert [int(frame.rgb8[0, 0, 0]) for frame in reader.frames()] == [80, 90, 100, 110, 120]
    with open_clip(tmp_path / "m.####.png", fps) as reader:
        assert frame_range("-1-1", None, Fraction(24), reader.info.numbers) == FrameRange(1, 4)
        with open_writers([str(tmp_path / "o.####.png")], reader.info, OutputSettings()) as group:
            for frame in reader.frames():
                group.write(matted(frame, soft_disc(*frame.size)))
    assert (tmp_path / f"o.{below}.png").exists() and len(list(tmp_path.glob("o.*.png"))) == 5
    with pytest.raises(UsageError):
        frame_range("-1-1", None, Fraction(24))


def test_a_dash_that_is_no_sign(tmp_path: Path) -> None:
    for k in (1, 2, 3):
        cv2.imwrite(str(tmp_path / f"shot-{k:04d}.png"), np.zeros((8, 8, 3), np.uint8))
    for text in (tmp_path / "shot-####.png", tmp_path):
        assert list(find_sequence(str(text), frozenset({".png"})).numbers) == [1, 2, 3]
    with pytest.raises(MediaError, match="no such file"):
        find_sequence(str(tmp_path / "shot####.png"), frozenset({".png"}))
