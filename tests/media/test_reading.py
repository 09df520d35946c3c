"""The reader: every frame once, with its own time, upright; and one clear line where a clip is no good."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mam_video.core.errors import MediaError
from mam_video.media import open_clip
from mam_video.media.ffmpeg_compat import fraction, ticks
from tests.clips import NTSC_FILM, make_clip, make_sound, ramp

CLIPS = Path(__file__).parents[2].parent / "shared" / "data" / "dev" / "clips"


def numbered(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frame k is flat gray of 1000 * k, so that a lost, doubled or swapped frame shows in its pixels."""
    return [np.full((height, width, 3), 1000 * k, np.uint16) for k in range(count)]


def test_every_frame_arrives_once_with_its_own_time(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mov", numbered(12), rate=NTSC_FILM, time_base=Fraction(1, 24000))
    with open_clip(path) as reader:
        frames = list(reader.frames())
        assert [frame.rgb[0, 0, 0] for frame in frames] == [1000 * k for k in range(12)]
        assert [frame.index for frame in frames] == list(range(12))
        assert [frame.pts for frame in frames] == [1001 * k for k in range(12)]
        assert {frame.time_base for frame in frames} == {Fraction(1, 24000)}
        info = reader.info
        assert (info.rate, info.size, info.frames_in_header) == (NTSC_FILM, (48, 64), 12)


@pytest.mark.parametrize(("start", "stop"), [(0, None), (5, 9), (9, 12), (11, 99), (12, None), (3, 3), (0, 1)])
def test_ranges_count_from_the_first_frame(tmp_path: Path, start: int, stop: int | None) -> None:
    path = make_clip(tmp_path / "a.mov", numbered(12))
    frames = list(open_clip(path).frames(start, stop))
    assert [(frame.index, frame.rgb[0, 0, 0]) for frame in frames] == [
        (k, 1000 * k) for k in range(start, min(stop if stop is not None else 12, 12))
    ]


def test_frames_may_be_asked_for_again_and_in_another_thread(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mov", numbered(5))
    with open_clip(path) as reader:
        first = next(iter(reader.frames()))
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.extend(frame.index for frame in reader.frames()))
        thread.start()
        thread.join()
        assert first.index == 0 and seen == list(range(5))


def test_variable_rate_and_a_late_start(tmp_path: Path) -> None:
    times = [1200, 1201, 1300, 1900, 1901, 4000]
    path = make_clip(tmp_path / "a.mov", numbered(6), rate=Fraction(24), time_base=Fraction(1, 600), pts=times)
    assert [frame.pts * frame.time_base for frame in open_clip(path).frames()] == [Fraction(t, 600) for t in times]


def test_b_frames_come_in_display_order(tmp_path: Path) -> None:
    frames = [ramp(64, 96, 3 * k) // 2 + np.uint16(2000 * k) for k in range(20)]
    options = {"bf": "3", "crf": "10"}
    path = make_clip(tmp_path / "a.mp4", frames, codec="libx264", pixel_format="yuv420p", options=options)
    got = list(open_clip(path).frames())
    assert [frame.pts * frame.time_base for frame in got] == [Fraction(k, 25) for k in range(20)]
    errors = np.array([[np.abs(frame.rgb.astype(int) - source).mean() for source in frames] for frame in got])
    assert (errors.argmin(1) == np.arange(20)).all()


def test_one_frame_and_odd_sizes(tmp_path: Path) -> None:
    for height, width in ((1, 1), (1, 7), (479, 853), (33, 2)):
        picture = ramp(height, width)
        (frame,) = open_clip(make_clip(tmp_path / f"{width}.mkv", [picture])).frames()
        assert (frame.rgb == picture).all()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_the_display_matrix_stands_the_picture_upright(tmp_path: Path, angle: int, mirrored: bool) -> None:
    """Truth: FFmpeg's own rotation (its command line turns pictures upright unless told not to)."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg to compare with")
    picture = ramp(32, 48)
    picture[:8, :8] = 65535
    kept = {"codec": "png", "pixel_format": "rgb24"}
    path = make_clip(tmp_path / "a.mov", [picture], rotation=angle, mirrored=mirrored, **kept)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    reader = open_clip(path)
    (frame,) = reader.frames()
    size = (48, 32) if angle % 180 else (32, 48)
    assert frame.size == reader.info.size == size
    expected = np.frombuffer(raw, np.uint8).reshape(*size, 3)
    assert (frame.rgb8 == expected).all()


def test_facts_of_the_clip(tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "a.mov",
        numbered(3),
        codec="prores_ks",
        pixel_format="yuva444p10le",
        tags=(1, 9, 9, 16),
        sample_aspect=Fraction(4, 3),
        rotation=90,
        audio=True,
    )
    info = open_clip(path).info
    assert (info.colour.range, info.colour.matrix) == ("tv", "bt2020nc")
    assert (info.colour.primaries, info.colour.transfer, info.colour.tagged) == ("bt2020", "smpte2084", True)
    assert info.has_alpha and info.bits >= 10 and info.rotation == 90
    assert info.sample_aspect == Fraction(3, 4)  # upright, a wide pixel is a tall one


def test_a_png_sequence_is_a_clip_too(tmp_path: Path) -> None:
    import cv2

    pictures = [ramp(20, 30, k) for k in range(3)]
    for k, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"a.{k:04d}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    frames = list(open_clip(tmp_path / "a.%04d.png").frames())
    assert all((frame.rgb == picture).all() for frame, picture in zip(frames, pictures, strict=True))


def test_a_colon_in_the_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(tmp_path / "a.mov", numbered(2)).rename(tmp_path / "http:a.mov")
    monkeypatch.chdir(tmp_path)
    assert len(list(open_clip("http:a.mov").frames())) == 2


def test_missing_times_are_filled_in(tmp_path: Path) -> None:
    """A raw H.264 stream has no timestamps at all."""
    path = make_clip(tmp_path / "a.mkv", numbered(6), codec="libx264", pixel_format="yuv420p", options={"bf": "0"})
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg to take the container off")
    raw = tmp_path / "a.h264"
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(path), "-c", "copy", str(raw)], check=True)
    frames = list(open_clip(raw).frames())
    steps = {b.pts - a.pts for a, b in itertools.pairwise(frames)}
    assert len(frames) == 6 and steps == {round(1 / (25 * frames[0].time_base))}


class _Rational:
    """As PyAV 19 gives them: not a Fraction, unset is 0/1 and falsy."""

    def __init__(self, numerator: int, denominator: int) -> None:
        self.numerator, self.denominator = numerator, denominator


def test_rationals_of_both_versions_of_pyav() -> None:
    assert fraction(Fraction(1001, 24000)) == fraction(_Rational(1001, 24000)) == Fraction(1001, 24000)
    assert fraction(25) == 25
    for unset in (None, _Rational(0, 1), _Rational(0, 0), _Rational(1, 0), Fraction(0)):
        assert fraction(unset) is None
    assert ticks(None) is None and ticks(-(1 << 63)) is None and ticks(0) == 0 and ticks(-5) == -5


# Clips that are no good


def check_refused(path: Path, *words: str) -> None:
    """Opening and reading must fail with one line that holds the file's name and these words."""
    with pytest.raises(MediaError) as caught:
        for _ in open_clip(path).frames():
            pass
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    assert all(word in text for word in words), text


def test_no_such_file_a_folder_not_a_video(tmp_path: Path) -> None:
    check_refused(tmp_path / "none.mov", "no such file")
    check_refused(tmp_path, "folder")
    (tmp_path / "empty.mov").touch()
    check_refused(tmp_path / "empty.mov", "empty")
    (tmp_path / "text.mov").write_text("this is not a film\n" * 100)
    check_refused(tmp_path / "text.mov", "not a video")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    check_refused(tmp_path / "noise.mp4", "not a video")
    check_refused(make_sound(tmp_path / "sound.wav"), "only sound")


def faststart(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "a.mp4", busy(), codec="libx264", pixel_format="yuv420p", options={"bf": "2"})


def busy(count: int = 40) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 65536, (64, 96, 3)).astype(np.uint16) for _ in range(count)]


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    short = path.with_name(f"cut-{share}{path.suffix}")
    short.write_bytes(data[: int(len(data) * share)])
    return short


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mov", ".webm"])
def test_a_cut_off_file_is_never_a_silent_short_clip(tmp_path: Path, suffix: str, share: float) -> None:
    codec, pixel_format = ("libvpx-vp9", "yuv420p") if suffix == ".webm" else ("libx264", "yuv420p")
    frames = busy(12 if suffix == ".webm" else 40)
    speed = {"cpu-used": "8", "deadline": "realtime"} if suffix == ".webm" else {"bf": "0"}
    path = make_clip(tmp_path / f"a{suffix}", frames, codec=codec, pixel_format=pixel_format, options=speed)
    assert len(list(open_clip(path).frames())) == len(frames)
    check_refused(cut(path, share), "not a video" if suffix == ".mov" else "cut off")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_off_mp4_with_its_index_in_front(tmp_path: Path, share: float) -> None:
    import av

    path = make_clip(tmp_path / "a.mp4", busy(), codec="libx264", pixel_format="yuv420p")
    fast = tmp_path / "fast.mp4"
    with av.open(str(path)) as source, av.open(str(fast), "w", options={"movflags": "+faststart"}) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    assert len(list(open_clip(fast).frames())) == 40
    check_refused(cut(fast, share), "cut off", "of its 40 frames")


@pytest.mark.parametrize("suffix", [".ts", ".h264"])
def test_a_stream_without_an_index_says_where_it_breaks(tmp_path: Path, suffix: str) -> None:
    path = make_clip(tmp_path / f"a{suffix}", busy(), codec="libx264", pixel_format="yuv420p", options={"bf": "0"})
    check_refused(cut(path, 0.63), "frame 2", "cannot be read", "frames 0 to 2")


def test_damage_in_the_middle_names_the_frame(tmp_path: Path) -> None:
    path = faststart(tmp_path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    path.write_bytes(bytes(data))
    check_refused(path, "cannot be read", "frame ", "damaged")


def test_a_wrong_stop_of_a_consumer_leaves_no_thread(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mov", numbered(30))
    before = threading.active_count()
    frames = open_clip(path).frames()
    next(frames)
    close: Callable[[], None] = frames.close  # type: ignore[attr-defined]
    close()
    assert threading.active_count() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in CLIPS.glob("*.mp4")) or ["none"])
def test_real_clips_against_ffprobe(name: str) -> None:
    if not (CLIPS / name).exists():
        pytest.skip("the shared development clips are not beside this checkout")
    if shutil.which("ffprobe") is None:
        pytest.skip("no ffprobe to compare with")
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "frame=pts", "-of", "json"]
    probed = json.loads(subprocess.run([*command, str(CLIPS / name)], capture_output=True, check=True).stdout)
    assert [frame.pts for frame in open_clip(CLIPS / name).frames()] == [frame["pts"] for frame in probed["frames"]]
