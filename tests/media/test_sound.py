"""Sound in every container: copied, left out with a note before the work, or decoded to PCM in step with pictures."""

import json
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mam_video.core.settings import OutputSettings
from mam_video.media import notes, open_clip, open_writer
from tests.clips import matted, ramp

needs_ffmpeg: Callable[..., Any] = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None, reason="no ffmpeg to write and read with"
)

# What FFmpeg 5.1 and 8 both read as it was meant. Other pairs are left out.
HELD = {
    "aac": ("mov", "mp4", "mkv"),
    "ac3": ("mov", "mp4", "mkv"),
    "eac3": ("mov", "mp4", "mkv"),
    "alac": ("mov", "mp4", "mkv"),
    "flac": ("mp4", "mkv"),
    "libopus": ("mp4", "mkv", "webm"),
    "libvorbis": ("mp4", "mkv", "webm"),
    "libmp3lame": ("mov", "mp4", "mkv"),
    "truehd": ("mkv",),
    "dca": ("mov", "mp4", "mkv"),
    "wmav2": (),
    "pcm_s16le": ("mov", "mp4", "mkv"),
    "pcm_s24le": ("mov", "mkv"),
    "pcm_f32le": ("mov", "mkv"),
    "pcm_u8": ("mov", "mkv"),
    "pcm_mulaw": ("mov",),
}
DEPTHS = {
    "flac:s16": "pcm_s16le",
    "flac:s32": "pcm_s24le",
    "alac:s16p": "pcm_s16le",
    "alac:s32p": "pcm_s24le",
    "pcm_u8": "pcm_s16le",
    "pcm_s24le": "pcm_s24le",
    "pcm_f32le": "pcm_f32le",
    "pcm_mulaw": "pcm_s16le",
    "truehd": "pcm_s24le",
    "aac": "pcm_s24le",
    "libopus": "pcm_s24le",
    "eac3": "pcm_s24le",
    "wmav2": "pcm_s24le",
}
TONE = "aevalsrc='0.5*sin(2*PI*(300+200*t)*t)|0.3*sin(2*PI*(500+100*t)*t)':s=48000:d={}"


def ffmpeg(*arguments: str) -> bytes:
    return subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments], capture_output=True, check=True).stdout


def made(path: Path, codec: str, *, late: str = "0", seconds: str = "0.6", more: tuple[str, ...] = ()) -> Path:
    """15 frames of 64x48 and a tone, by ffmpeg; the sound begins `late` seconds after the picture."""
    picture = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=0.6"]
    sound = ["-itsoffset", late, "-f", "lavfi", "-i", TONE.format(seconds)]
    name, _, depth = codec.partition(":")
    coded = ["-c:v", "mpeg4", "-c:a", name, "-strict", "-2", *(("-sample_fmt", depth) if depth else ()), *more]
    try:
        ffmpeg(*picture, *sound, "-map", "0", "-map", "1", *coded, str(path))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this ffmpeg does not write {codec}: {error.stderr[-80:]!r}")
    return path


def rewrite(source: Path, output: Path, first: int = 0, last: int | None = None, **more: Any) -> list[str]:
    """A matte of the clip, or of a range of it; its notes."""
    reader = open_clip(source)
    settings = OutputSettings(**more)
    part = first > 0 or last is not None
    with open_writer(output, reader.info, settings, part=part) as writer:
        for frame in reader.frames(first, None if last is None else last + 1):
            writer.write(matted(frame, np.ones(frame.size, np.float32)))
    told: list[str] = writer.notes  # type: ignore[attr-defined]
    ahead = notes([output], reader.info, settings.audio)
    assert [note for note in told if "cannot hold" in note or "copied as" in note] == ahead
    return told


def streams(path: Path) -> list[dict[str, Any]]:
    asked = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(path)]
    found = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)["streams"]
    return [each for each in found if each["codec_type"] == "audio"]


def heard(path: Path, number: int = 0) -> np.ndarray:
    """All samples from the first on, (n, 2) float64, by ffmpeg."""
    return np.frombuffer(ffmpeg("-i", str(path), "-map", f"0:a:{number}", "-f", "f64le", "-"), "<f8").reshape(-1, 2)


def begins(path: Path) -> float:
    """Seconds from the first picture to the first sample that is heard, by ffprobe."""
    times = []
    for which in ("v:0", "a:0"):
        asked = [
            "ffprobe",
            "-v",
            "error",
            "-select_streams",
            which,
            "-show_entries",
            "frame=pts_time",
            "-of",
            "csv=p=0",
        ]
        lines = subprocess.run([*asked, str(path)], capture_output=True, check=True, text=True).stdout.split()
        times.append(float(lines[0].strip(",")))
    return times[1] - times[0]


@needs_ffmpeg
@pytest.mark.parametrize("codec", HELD)
def test_what_a_container_holds_is_copied_and_the_rest_named(codec: str, tmp_path: Path) -> None:
    source = made(tmp_path / "in.mkv", codec)
    (meant,) = streams(source)
    for suffix in ("mov", "mp4", "mkv", "webm"):
        output = tmp_path / f"m.{suffix}"
        told = rewrite(source, output)
        if suffix in HELD[codec]:
            (found,) = streams(output)
            assert not told and [found[k] for k in ("codec_name", "sample_rate", "channels")] == [
                meant[k] for k in ("codec_name", "sample_rate", "channels")
            ]
            if codec in ("alac", "pcm_s16le"):  # whose packets do not say how long they are
                assert abs(len(heard(output)) - len(heard(source))) <= 60  # Matroska's clock has steps of 48 samples
        else:
            assert not streams(output)
            (note,) = told
            assert "cannot hold this sound" in note and f"stream 1, {meant['codec_name']}" in note


@needs_ffmpeg
@pytest.mark.parametrize(
    ("codec", "suffix"),
    [*((codec, "mov") for codec in DEPTHS), ("aac", "mkv"), ("flac:s32", "mkv"), ("pcm_f32le", "mkv")],
)
def test_pcm_has_the_samples_and_the_time_of_the_source(codec: str, suffix: str, tmp_path: Path) -> None:
    source = made(tmp_path / "in.mkv", codec, late="0.1", seconds="0.45")
    output = tmp_path / f"m.{suffix}"
    told = rewrite(source, output, audio="pcm")
    (found,) = streams(output)
    assert not told and found["codec_name"] == DEPTHS[codec] and found["sample_rate"] == "48000"
    before, after = heard(source), heard(output)
    step = 2e-6 if codec in ("aac", "eac3", "libopus", "wmav2") else 0  # two FFmpegs differ by more than rounding
    assert len(before) == len(after) and np.abs(before - after).max() <= step
    assert abs(begins(output) - begins(source)) <= (1.1e-3 if suffix == "mkv" else 1e-4)


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["pcm_s16le", "flac", "aac"])
def test_pcm_of_a_range_is_cut_at_the_sample(codec: str, tmp_path: Path) -> None:
    source = made(tmp_path / "in.mkv", codec)
    rewrite(source, tmp_path / "m.mov", 5, 9, audio="pcm")
    after, before = heard(tmp_path / "m.mov"), heard(source)
    at = round((5 / 25 - begins(source)) * 48000)
    assert len(after) == 9600
    best = min(range(at - 60, at + 61), key=lambda k: float(np.abs(before[k : k + 9600] - after).max()))
    assert np.abs(before[best : best + 9600] - after).max() < 1e-4 and abs(best - at) <= 49  # the source's clock


@needs_ffmpeg
def test_sound_that_begins_before_the_picture_keeps_step(tmp_path: Path) -> None:
    source = made(tmp_path / "in.mov", "pcm_s24le", late="-0.2", seconds="0.8")
    for audio in ("copy", "pcm"):
        rewrite(source, tmp_path / "m.mov", audio=audio, overwrite=True)
        assert begins(tmp_path / "m.mov") == pytest.approx(begins(source), abs=1e-4)
        assert np.array_equal(heard(tmp_path / "m.mov"), heard(source))


@needs_ffmpeg
def test_each_of_several_streams_has_its_own_way(tmp_path: Path) -> None:
    one, two = made(tmp_path / "one.mkv", "aac"), made(tmp_path / "two.mkv", "flac:s16")
    both = tmp_path / "both.mkv"
    ffmpeg("-i", str(one), "-i", str(two), "-map", "0", "-map", "1:a", "-c", "copy", str(both))
    (note,) = rewrite(both, tmp_path / "m.mov")
    assert "stream 2, flac" in note and [each["codec_name"] for each in streams(tmp_path / "m.mov")] == ["aac"]
    assert not rewrite(both, tmp_path / "p.mov", audio="pcm")
    assert [each["codec_name"] for each in streams(tmp_path / "p.mov")] == ["pcm_s24le", "pcm_s16le"]
    (note,) = rewrite(both, tmp_path / "p.mp4", audio="pcm")  # 24 bits are noise there to older readers
    assert "copied as it is: stream 1, aac" in note
    assert [each["codec_name"] for each in streams(tmp_path / "p.mp4")] == ["aac", "pcm_s16le"]
    assert not rewrite(both, tmp_path / "n.mov", audio="none") and not streams(tmp_path / "n.mov")


def silent(path: Path) -> Path:
    """A clip whose audio stream has no packet."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.add_stream("pcm_s16le", rate=48000)
        for k in range(5):
            picture = av.VideoFrame.from_ndarray((ramp(48, 64, k) >> 8).astype(np.uint8), "rgb24")
            picture.pts, picture.time_base = k, Fraction(1, 25)
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("audio", ["copy", "pcm"])
@pytest.mark.parametrize("suffix", ["mov", "mp4", "mkv", "webm"])
def test_a_stream_without_packets_is_told(audio: str, suffix: str, tmp_path: Path) -> None:
    from mam_video.media.movie.verify import verify_movie

    source = silent(tmp_path / "in.mkv")
    reader = open_clip(source)
    with open_writer(tmp_path / f"m.{suffix}", reader.info, OutputSettings(audio=audio)) as writer:  # type: ignore[arg-type]
        for frame in reader.frames():
            writer.write(matted(frame, np.ones(frame.size, np.float32)))
    assert len(writer.notes) == 1  # type: ignore[attr-defined]
    checks = verify_movie(tmp_path / f"m.{suffix}", writer.expected())  # type: ignore[arg-type]
    assert all(check.good for check in checks), checks


@needs_ffmpeg
def test_a_gap_is_silence(tmp_path: Path) -> None:
    source = made(tmp_path / "whole.mkv", "pcm_s16le")
    gap = tmp_path / "in.mkv"
    with av.open(str(source)) as reading, av.open(str(gap), "w") as container:
        copies = [container.add_stream_from_template(each) for each in reading.streams]
        for packet in reading.demux():
            at = packet.pts * packet.time_base if packet.size else None
            if at is not None and (packet.stream.type == "video" or not 0.2 < at < 0.3):
                packet.stream = copies[packet.stream_index]
                container.mux(packet)
    rewrite(gap, tmp_path / "m.mov", audio="pcm")
    before, after = heard(source), heard(tmp_path / "m.mov")
    same = np.abs(before[: len(after)] - after).max(axis=1) == 0
    assert len(before) == len(after) and same[:9000].all()
    assert not after[11000:13000].any()
    late = after[16000:20000]  # in step again, to the millisecond that the source's clock has
    assert min(float(np.abs(before[16000 + d : 20000 + d] - late).max()) for d in range(-48, 49)) == 0
