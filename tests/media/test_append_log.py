"""What a written movie keeps of its source beside the pictures: timecode, sound, reel, creation time; and repairs."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mam_video.core.errors import MediaError
from mam_video.core.frames import Frame
from mam_video.core.settings import InputSettings, OutputSettings
from mam_video.core.timecode import Timecode
from mam_video.media import ClipInfo, open_clip, open_writer
from mam_video.media.movie.quicktime_timecode import read_track
from tests.clips import NTSC_FILM, make_clip, matted, ramp, soft_disc
from tests.media.sequence_clips import read_exr

NTSC = Fraction(30000, 1001)
DEFAULTS = OutputSettings()
needs_ffprobe: Callable[..., Any] = pytest.mark.skipif(
    shutil.which("ffprobe") is None, reason="no ffprobe to read with"
)
needs_ffmpeg: Callable[..., Any] = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg to write with")


def info_of(rate: Fraction = Fraction(25), **changes: Any) -> ClipInfo:
    return ClipInfo(Path("plate.mov"), 64, 48, rate, **{"time_base": 1 / rate, **changes})


def write(output: Path | str, info: ClipInfo, count: int = 5, first: int = 0, part: bool = False, **more: Any) -> Path:
    settings = OutputSettings(**more)
    with open_writer(str(output), info, settings, part=part) as writer:
        for k in range(first, first + count):
            frame = Frame(k, round(k / info.rate / info.time_base), info.time_base, ramp(info.height, info.width, k))
            writer.write(matted(frame, soft_disc(info.height, info.width)))
    return writer.path


def probe(path: Path, *entries: str) -> Any:
    command = ["ffprobe", "-v", "error", *entries, "-of", "json", str(path)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


# Timecode

LABELS = [
    (Fraction(24), "00:00:00:00"), (NTSC_FILM, "01:00:00:00"), (Fraction(25), "10:11:12:13"), (NTSC, "01:00:00;02"),
    (NTSC, "01:00:00:02"), (Fraction(60000, 1001), "00:09:59;59"), (Fraction(50), "23:59:59:49"),
    (Fraction(30), "23:59:59:29"),
]  # fmt: skip


@pytest.mark.parametrize("output", ["a.mov", "a.mov:alpha", "a.mp4", "a.mkv", "a.webm"])
@pytest.mark.parametrize(("rate", "label"), LABELS)
def test_timecode_is_written_and_read_back(tmp_path: Path, output: str, rate: Fraction, label: str) -> None:
    start = Timecode.parse(label, round(rate))
    path = write(f"{tmp_path}/{output}", info_of(rate, timecode=start, reel="A001_C002"), 3)
    info = open_clip(path).info
    assert info.timecode == start and str(info.timecode) == label
    assert info.reel == ("A001_C002" if path.suffix == ".mov" else info.reel)
    if path.suffix in (".mov", ".mp4"):
        stored = read_track(path)
        assert stored is not None and stored[0] == start


@needs_ffprobe
@pytest.mark.parametrize(("rate", "label"), LABELS)
def test_ffprobe_reads_the_same_timecode(tmp_path: Path, rate: Fraction, label: str) -> None:
    path = write(tmp_path / "a.mov", info_of(rate, timecode=Timecode.parse(label, round(rate))), 3)
    streams = probe(path, "-show_entries", "stream=codec_tag_string,codec_type:stream_tags=timecode")["streams"]
    assert [each["tags"]["timecode"] for each in streams if each["codec_tag_string"] == "tmcd"] == [label]


@needs_ffmpeg
@pytest.mark.parametrize(("rate", "label"), LABELS)
def test_timecode_of_another_writer(tmp_path: Path, rate: Fraction, label: str) -> None:
    """Debian's ffmpeg writes, ours reads: the track itself, and the tag in Matroska."""
    for name in ("a.mov", "a.mkv"):
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc=size=64x48:rate={rate}:duration=0.2"]
        subprocess.run([*command, "-timecode", label, "-c:v", "mpeg4", str(tmp_path / name)], check=True)
        assert str(open_clip(tmp_path / name).info.timecode) == label


def test_the_tracks_own_sample_rate_and_flag_count(tmp_path: Path) -> None:
    """The bytes in the file decide, not FFmpeg's tag: a changed sample and a cleared flag are seen."""
    start = Timecode.parse("01:00:00;02", 30)
    path = write(tmp_path / "a.mov", info_of(NTSC, timecode=start, reel="REEL 7"), 3)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"tmcd\0\0\0\0\0\0\0\1")
    flags, _, _, rate = struct.unpack_from(">IIIB", data, at + 16)
    assert (flags & 1, rate) == (1, 30)
    struct.pack_into(">I", data, at + 16, flags & ~1)
    struct.pack_into(">B", data, at + 28, 60)
    path.write_bytes(data)
    assert read_track(path) == (Timecode(start.count, 60), "REEL 7")
    assert open_clip(path).info.timecode == Timecode(start.count // 2, 30)  # at the picture's own rate


@pytest.mark.parametrize("damage", range(40))
def test_a_damaged_track_is_no_timecode_or_one(tmp_path: Path, damage: int) -> None:
    path = write(tmp_path / "a.mov", info_of(timecode=Timecode(0, 25)), 2)
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(damage)
    start = data.rindex(b"moov")
    for place in random.integers(start, len(data), 30):
        data[place] = random.integers(256)
    path.write_bytes(bytes(data[: random.integers(start, len(data))]) if damage % 2 else bytes(data))
    found = read_track(path)
    assert found is None or isinstance(found[0], Timecode)


def test_files_without_timecode(tmp_path: Path) -> None:
    for name in ("a.mov", "a.mkv"):
        path = make_clip(tmp_path / name, [ramp(48, 64)] * 2)
        assert open_clip(path).info.timecode is None and read_track(path) is None
    assert read_track(tmp_path / "absent.mov") is None


def test_creation_time_is_kept(tmp_path: Path) -> None:
    made = "2024-02-29T12:34:56.000000Z"
    for name in ("a.mov", "a.mp4", "a.mkv"):
        path = write(tmp_path / name, info_of(created=made), 2)
        assert open_clip(path).info.created == made


# Sound


def with_sound(
    path: Path, count: int = 25, rate: Fraction = Fraction(25), codec: str = "pcm_s16le", **more: Any
) -> Path:
    """A clip whose sound is a tone, so that packets differ."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound: Any = container.add_stream(codec, rate=48000)
        for k in range(count):
            frame = av.VideoFrame.from_ndarray((ramp(48, 64, k) >> 8).astype(np.uint8), "rgb24").reformat(
                format="yuv420p"
            )
            frame.pts, frame.time_base = k, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        samples = np.arange(int(48000 * count / rate))
        tone = (8000 * np.sin(samples * (1 + samples / 5e5) / 20)).astype(np.int16)
        for at in range(0, len(tone), 1024):
            piece = np.repeat(tone[at : at + 1024], 2)[None]
            chunk = av.AudioFrame.from_ndarray(piece, "s16", "stereo")
            chunk.sample_rate, chunk.pts, chunk.time_base = 48000, at, Fraction(1, 48000)
            container.mux(sound.encode(chunk))
        container.mux(sound.encode(None))
    return path


def packets(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        found: list[Any] = [p for p in container.demux(audio=0) if p.size]
        return [(Fraction(p.pts) * Fraction(p.time_base.numerator, p.time_base.denominator), bytes(p)) for p in found]


def rewrite(source: Path, output: str, first: int = 0, last: int | None = None, **more: Any) -> Path:
    """A matte of the clip, or of a range of it, through reader and writer."""
    reader = open_clip(source)
    info = reader.info
    part = first > 0 or last is not None
    if info.timecode is not None:
        info = replace(info, timecode=info.timecode + first)
    with open_writer(output, info, OutputSettings(**more), part=part) as writer:
        for frame in reader.frames(first, None if last is None else last + 1):
            writer.write(matted(frame, np.ones(frame.size, np.float32)))
    return writer.path


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mov", "pcm_s16le"), ("a.mp4", "aac"), ("a.mkv", "flac"), ("b.mkv", "libopus")]
)
def test_sound_is_copied_untouched(tmp_path: Path, name: str, codec: str) -> None:
    source = with_sound(tmp_path / name, codec=codec)
    outputs = {"pcm_s16le": ["m.mov", "m.mkv"], "aac": ["m.mov", "m.mp4", "m.mkv"]}.get(codec, ["m.mkv", "m.webm"])
    for output in outputs:
        if (codec, output) == ("flac", "m.webm"):
            continue
        path = rewrite(source, f"{tmp_path}/{output}")
        before, after = packets(source), packets(path)
        if path.suffix == ".mkv" and before[0][0] < 0 and codec == "aac":
            before = before[1:]  # unheard: it only warms the decoder up; Matroska has no time before 0
        assert b"".join(data for _, data in after) == b"".join(data for _, data in before)
        if len(before) == len(after):  # PCM may be cut into packets otherwise
            slack = Fraction(1, 1000) if path.suffix in (".mkv", ".webm") or source.suffix == ".mkv" else 0
            assert all(abs(a - b) <= slack for (a, _), (b, _) in zip(after, before, strict=True))
        assert len(open_clip(path).info.sound) == 1
        assert [f.pts * f.time_base for f in open_clip(path).frames()] == pytest.approx(
            [f.pts * f.time_base for f in open_clip(source).frames()], abs=0.001
        )


def test_sound_that_a_format_cannot_hold_is_named(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "a.mov")
    with open_writer(f"{tmp_path}/m.webm", open_clip(source).info, DEFAULTS) as writer:
        for frame in open_clip(source).frames(0, 3):
            writer.write(matted(frame, np.ones(frame.size, np.float32)))
    (note,) = writer.notes  # type: ignore[attr-defined]
    assert "pcm_s16le" in note and ".webm" in note
    assert open_clip(tmp_path / "m.webm").info.sound == ()


def test_no_audio_on_request(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "a.mov")
    assert open_clip(rewrite(source, f"{tmp_path}/m.mov", audio="none")).info.sound == ()


def test_a_range_has_its_own_sound_and_label(tmp_path: Path) -> None:
    source = rewrite(with_sound(tmp_path / "a.mov"), f"{tmp_path}/plain.mov")
    labelled = tmp_path / "labelled.mov"
    info = replace(open_clip(source).info, timecode=Timecode.parse("01:00:00:20", 25))
    with open_writer(str(labelled), info, DEFAULTS) as writer:
        for frame in open_clip(source).frames():
            writer.write(matted(frame, np.ones(frame.size, np.float32)))
    path = rewrite(labelled, f"{tmp_path}/m.mov", 10, 19)
    reader = open_clip(path)
    assert str(reader.info.timecode) == "01:00:01:05"
    assert [f.pts * f.time_base for f in reader.frames()] == [Fraction(k, 25) for k in range(10)]
    before = {data: time for time, data in packets(labelled)}
    after = packets(path)
    assert after and all(-Fraction(1, 1000) <= time < Fraction(10, 25) for time, _ in after)
    joined = b"".join(data for data in before)
    piece = b"".join(data for _, data in after)
    place = joined.index(piece) / 4 / 48000  # 16-bit stereo
    assert abs(place - (10 / 25 + float(after[0][0]))) < 1e-3  # in step with the pictures
    assert 10 / 25 - len(piece) / 4 / 48000 < 0.05


def test_a_clip_before_time_0_takes_its_sound_along(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "a.mov", 10)
    info = open_clip(source).info
    with open_writer(f"{tmp_path}/m.mov", info, DEFAULTS) as writer:
        for k, frame in enumerate(open_clip(source).frames()):
            pts = round(Fraction(k - 2, 25) / frame.time_base)
            writer.write(matted(replace(frame, pts=pts), np.ones(frame.size, np.float32)))
    assert packets(tmp_path / "m.mov")[0][0] == pytest.approx(2 / 25, abs=1e-3)


# Interlaced pictures


def interlaced(path: Path, count: int = 8) -> Path:
    """A bar that moves from field to field, coded as fields."""
    frames = []
    for k in range(count):
        rgb = np.full((96, 128, 3), 40, np.uint8)
        rgb[0::2, 10 + 8 * k : 40 + 8 * k] = 220
        rgb[1::2, 14 + 8 * k : 44 + 8 * k] = 220
        frames.append(rgb)
    options = {"x264-params": "tff=1:bframes=0", "crf": "4"}
    return make_clip(path, frames, codec="libx264", pixel_format="yuv420p", options=options)


def combs(rgb: np.ndarray) -> float:
    """How much every line differs from its neighbours on both sides alike."""
    grey = rgb[..., 1].astype(np.float64) / 65535
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


def test_interlaced_clips_are_named_once_and_mended_on_request(tmp_path: Path) -> None:
    path = interlaced(tmp_path / "a.mov")
    as_shot = open_clip(path)
    assert as_shot.info.interlaced and len(as_shot.info.notes) == 1 and "--deinterlace" in as_shot.info.notes[0]
    whole = open_clip(path, InputSettings(deinterlace=True))
    assert not whole.info.notes
    before, after = list(as_shot.frames()), list(whole.frames())
    assert [(f.index, f.pts) for f in after] == [(f.index, f.pts) for f in before] and len(after) == 8
    assert max(combs(f.rgb) for f in after) < 0.25 * min(combs(f.rgb) for f in before)
    part = list(whole.frames(3, 6))
    assert all((a.rgb == b.rgb).all() and a.pts == b.pts for a, b in zip(part, after[3:6], strict=True))


def test_progressive_clips_need_no_note(tmp_path: Path) -> None:
    info = open_clip(make_clip(tmp_path / "a.mov", [ramp(48, 64)] * 2)).info
    assert not info.interlaced and info.notes == ()


# Broken frames


def damaged(path: Path, codec: str, frames: tuple[int, ...]) -> Path:
    """A clip of 12 frames of which some packets are noise."""
    pixel_format = {"prores_ks": "yuv422p10le", "png": "rgb24"}[codec]
    make_clip(path, [ramp(48, 64, 5 * k) for k in range(12)], codec=codec, pixel_format=pixel_format)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for k, packet in enumerate(container.demux(video=0)):
            if k in frames and packet.pos is not None:
                data[packet.pos : packet.pos + packet.size] = np.random.default_rng(k).bytes(packet.size)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("codec", ["prores_ks", "png"])
@pytest.mark.parametrize("frames", [(5,), (5, 6, 9), (11,)])
def test_broken_frames_are_repeated_on_request_and_named(tmp_path: Path, codec: str, frames: tuple[int, ...]) -> None:
    path = damaged(tmp_path / "a.mov", codec, frames)
    with pytest.raises(MediaError, match=f"frame {frames[0]} cannot be read"):
        list(open_clip(path).frames())
    reader = open_clip(path, InputSettings(on_error="repeat"))
    got = list(reader.frames())
    assert [f.index for f in got] == list(range(12)) and reader.broken == list(frames)
    assert [f.pts * f.time_base for f in got] == [Fraction(k, 25) for k in range(12)]
    for k in range(1, 12):
        assert (got[k].rgb == got[k - 1].rgb).all() == (k in frames)


def test_whole_clips_read_the_same_either_way(tmp_path: Path) -> None:
    frames = [ramp(64, 96, 3 * k) for k in range(15)]
    path = make_clip(tmp_path / "a.mp4", frames, codec="libx264", pixel_format="yuv420p", options={"bf": "3"})
    mending = open_clip(path, InputSettings(on_error="repeat"))
    for one, other in zip(open_clip(path).frames(), mending.frames(), strict=True):
        assert one.pts == other.pts and (one.rgb == other.rgb).all()
    assert mending.broken == []


# An EXR sequence of a movie


@pytest.mark.parametrize(
    ("rate", "label", "expected"),
    [
        (NTSC_FILM, "01:00:00:22", ["01:00:00:22", "01:00:00:23", "01:00:01:00", "01:00:01:01"]),
        (NTSC, "00:00:59;28", ["00:00:59;28", "00:00:59;29", "00:01:00;02", "00:01:00;03"]),
        (Fraction(60000, 1001), "00:00:59;58", ["00:00:59;29.0", "00:00:59;29.1", "00:01:00;02.0", "00:01:00;02.1"]),
        (Fraction(50), "10:00:00:47", ["10:00:00:23.1", "10:00:00:24.0", "10:00:00:24.1", "10:00:01:00.0"]),
        (Fraction(120), "00:00:01:100", [None] * 4),
    ],
)
@pytest.mark.parametrize("first", [0, 2])
def test_exr_of_a_movie_counts_its_labels(
    tmp_path: Path, rate: Fraction, label: str, expected: list[str | None], first: int
) -> None:
    """Above 30 frames a second pairs are counted, and the field mark (.0, .1) tells their frames apart."""
    start = Timecode.parse(label, round(rate))
    plate = write(tmp_path / "a.mov", info_of(rate, timecode=start, reel="A001"), 6)
    rewrite(plate, f"{tmp_path}/m.%04d.exr", first, first + 1)
    for k in range(first, first + 2):
        header, _ = read_exr(tmp_path / f"m.{1001 + k}.exr")
        assert header["framesPerSecond"] == rate and header["reelName"] == "A001"
        assert header["imageCounter"] == 1001 + k
        code, wanted = header.get("timeCode"), expected[k]
        if wanted is None:
            assert code is None
            continue
        mark = f".{int(code.fieldPhase)}" if rate > 30 else ""
        sign = ";" if code.dropFrame else ":"
        assert f"{code.hours:02}:{code.minutes:02}:{code.seconds:02}{sign}{code.frame:02}{mark}" == wanted
    if expected[0] is not None:
        info = open_clip(tmp_path / "m.%04d.exr").info
        assert info.timecode == start + first and info.rate == rate and info.reel == "A001"
