"""Movies that are damaged or made to do harm: all frames come, or one line says what is wrong, or the frames are named.

The fuzz reads each kind of file in a process of its own, so that a crash, a hang or a hoard of memory would show, and
name its seed. What no reader can see is damage inside pictures that the codec has no check sum for.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mam_video.core.errors import MamVideoError, MediaError
from mam_video.core.settings import InputSettings, OutputSettings
from mam_video.core.timecode import Timecode
from mam_video.media import open_clip, open_writer
from tests.clips import make_clip, matted, ramp, soft_disc
from tests.media.damaged_movies import outcome

COUNT = 12
SOURCES: dict[str, dict[str, Any]] = {
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le", "audio": True},
    "h264.mp4": {"codec": "libx264", "pixel_format": "yuv420p", "options": {"bf": "3"}, "audio": True},
    "hevc.mov": {"codec": "libx265", "pixel_format": "yuv420p10le", "options": {"x265-params": "log-level=none"}},
    "ffv1.mkv": {},
    "vp9.webm": {"codec": "libvpx-vp9", "pixel_format": "yuv420p"},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
}
OURS = ("our_prores.mov", "our_alpha.mov:alpha", "our_ffv1.mkv", "our_vp9.webm", "our_preview.mp4")


@pytest.fixture(scope="module")
def movies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of whole movies of 12 frames of 64x48: other writers' and our own, with timecode and sound."""
    folder = tmp_path_factory.mktemp("movies")
    for name, how in SOURCES.items():
        make_clip(folder / name, [ramp(48, 64, 5 * k) for k in range(COUNT)], **how)
    source = open_clip(folder / "prores.mov")
    info = replace(source.info, timecode=Timecode.parse("01:00:00:00", 25), reel="A001")
    for name in OURS:
        with open_writer(f"{folder}/{name}", info, OutputSettings()) as writer:
            for frame in source.frames():
                writer.write(matted(frame, soft_disc(48, 64)))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("on_error", ["stop", "repeat"])
@pytest.mark.parametrize("name", [*SOURCES, *(name.partition(":")[0] for name in OURS)])
def test_fuzz(movies: Path, name: str, on_error: str) -> None:
    """Cut off and with bits turned over, 150 times each: no crash, no hang, little memory, nothing lost in silence."""
    command = [sys.executable, "-m", "tests.media.damaged_movies", str(movies / name), "0", "150", on_error]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, f"{name}: ended by {done.returncode}; last lines: {done.stderr[-1500:]}"
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each.pop("seed") for each in found] == list(range(-1, 150))
    found[0]["notes"] = [note for note in found[0]["notes"] if not note.startswith("the plate's alpha")]
    assert found[0] == {"frames": COUNT, "broken": [], "notes": []}
    for seed, each in enumerate(found, -1):
        if "error" in each:
            assert each["error"] and "\n" not in each["error"] and f"damaged-{on_error}" in each["error"], each
            continue
        hidden = [note for note in each["notes"] if note.startswith(f"{each['frames']} frames are shown")]
        whole = each["frames"] == COUNT if on_error == "stop" else each["frames"] >= COUNT
        assert whole or hidden, f"seed {seed}: {each}"
        assert each["frames"] - len(each["broken"]) <= COUNT, f"seed {seed}: {each}"
        assert on_error == "repeat" or not each["broken"]


# Damage of one kind, and what is said of it


def refused(path: Path, *words: str) -> str:
    """The one line; reading must fail, fast and without much memory."""
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(MediaError) as caught:
        for _ in open_clip(path).frames():
            pass
    assert time.monotonic() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    said = str(caught.value)
    assert "\n" not in said and str(path) in said and all(word in said for word in words), said
    return said


def changed(source: Path, to: Path, change: Callable[[bytearray], object]) -> Path:
    data = bytearray(source.read_bytes())
    change(data)
    to.write_bytes(bytes(data))
    return to


def place_of(movie: Path, frame: int) -> int:
    """Where a frame's data lies."""
    with av.open(str(movie)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    return movie.read_bytes().index(packets[frame])


@pytest.mark.parametrize("damage", ["unknown element", "another element", "too long", "another track"])
def test_matroska_that_ffmpeg_would_skip_over(movies: Path, tmp_path: Path, damage: str) -> None:
    """The demuxer leaves out the frame without a word."""
    source = movies / "vp9.webm"
    position = place_of(source, 5)

    def change(data: bytearray) -> None:
        block = position - 6  # name, length, track, time, flags
        assert data[block] == 0xA3
        if damage == "unknown element":
            data[block] = 0x85
        elif damage == "another element":
            data[block] = 0xA7
        elif damage == "too long":
            data[block + 1] = 0xFE
        else:
            data[block + 2] = 0x85

    path = changed(source, tmp_path / "a.webm", change)
    refused(path, "damaged at byte")


def test_a_lost_picture_in_the_middle_is_a_gap(movies: Path, tmp_path: Path) -> None:
    """A decoder that gives no picture for a packet and no error either: the frame is named."""
    source = movies / "vp9.webm"
    position = place_of(source, 5)

    def hide(data: bytearray) -> None:
        assert data[position] >> 1 == 0b1000011  # VP9: a frame of profile 0, not a key frame, shown
        data[position] ^= 0b10

    path = changed(source, tmp_path / "a.webm", hide)
    assert "frame 5 cannot be read" in refused(path)


def atom(data: bytearray, name: bytes) -> int:
    """First byte of the content of the first QuickTime atom of this name."""
    return data.index(name) + 4


def retimed(movie: Path, to: Path, change: Callable[[list[int]], None]) -> Path:
    """The same pictures with other display times: `change` gets those of all frames, in coded order, in ticks.

    The movie's list of composition offsets is made anew, at the end of the file where no other place depends on it.
    """
    data = bytearray(movie.read_bytes())
    step = struct.unpack_from(">I", data, atom(data, b"stts") + 12)[0]
    at = atom(data, b"ctts")
    count = struct.unpack_from(">I", data, at + 4)[0]
    entries = [struct.unpack_from(">Ii", data, at + 8 + 8 * k) for k in range(count)]
    offsets = [offset for often, offset in entries for _ in range(often)]
    times = [k * step + offset for k, offset in enumerate(offsets)]
    change(times)
    offsets = [time - k * step for k, time in enumerate(times)]
    table = struct.pack(">II", 1 << 24, COUNT) + b"".join(struct.pack(">Ii", 1, offset) for offset in offsets)
    grown = len(table) + 8 - struct.unpack_from(">I", data, at - 8)[0]
    data[at - 8 : at - 8 + struct.unpack_from(">I", data, at - 8)[0]] = (
        struct.pack(">I", len(table) + 8) + b"ctts" + table
    )
    assert data.index(b"moov") > data.index(b"mdat"), "places of the frames' data would move"
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        where = data.rindex(name, 0, at) - 4
        struct.pack_into(">I", data, where, struct.unpack_from(">I", data, where)[0] + grown)
    to.write_bytes(bytes(data))
    return to


def indices_shown(movie: Path, source: Path) -> list[int]:
    """Which picture of `source` each frame of `movie` is nearest to."""
    known = np.array([frame.rgb.astype(float) for frame in open_clip(source).frames()])
    frames = open_clip(movie, InputSettings(on_error="repeat")).frames()
    return [int(np.abs(known - frame.rgb).mean((1, 2, 3)).argmin()) for frame in frames]


def test_pictures_that_come_out_of_their_time_are_none_too_many(movies: Path, tmp_path: Path) -> None:
    """Two display times are damaged: a decoder gives its pictures in their own order, and none of them is lost."""
    source = movies / "h264.mp4"

    def swap(times: list[int]) -> None:
        one, other = (times.index(t) for t in sorted(times)[5:7])
        times[one], times[other] = times[other], times[one]

    path = retimed(source, tmp_path / "a.mp4", swap)
    found = [outcome(path, InputSettings(on_error=how)) for how in ("stop", "repeat")]
    assert found == [{"frames": COUNT, "broken": [], "notes": ()}] * 2
    assert indices_shown(path, source) == list(range(COUNT))


def test_a_frame_lost_beside_another_of_its_time_is_not_one_too_few(movies: Path, tmp_path: Path) -> None:
    """A display time is damaged so that two frames have the same, and one of the two cannot be decoded."""
    source = movies / "h264.mp4"
    with av.open(str(source)) as container:
        packets = [(p.size, p.pts) for p in container.demux(video=0) if p.size]
    smallest = min(range(3, COUNT - 2), key=lambda k: packets[k][0])  # a B frame

    def same(times: list[int]) -> None:
        times[smallest] = sorted(times)[sorted(times).index(times[smallest]) - 1]

    def blank(data: bytearray) -> None:
        place, size = place_of(source, smallest), packets[smallest][0]
        data[place : place + size] = bytes(size)

    path = changed(retimed(source, tmp_path / "a.mp4", same), tmp_path / "b.mp4", blank)
    found = outcome(path, InputSettings(on_error="repeat"))
    lost = sorted(pts for _, pts in packets).index(packets[smallest][1])
    assert found == {"frames": COUNT, "broken": [lost], "notes": ()}
    assert indices_shown(path, source)[: lost + 1] == [*range(lost), lost - 1]


def test_frames_that_an_edit_list_hides_are_told_of(movies: Path, tmp_path: Path) -> None:
    """May be meant: so they are left out, and that is said."""

    def shorten(data: bytearray) -> None:
        at = atom(data, b"elst")
        (duration,) = struct.unpack_from(">I", data, at + 8)
        struct.pack_into(">I", data, at + 8, duration // 2)

    clip = open_clip(changed(movies / "h264.mp4", tmp_path / "a.mp4", shorten))
    shown = len(list(clip.frames()))
    assert 4 <= shown < COUNT
    assert clip.info.notes[0].startswith(f"{shown} frames are shown where the header counts {COUNT}")


def test_an_avi_that_ends_before_its_header_says(movies: Path, tmp_path: Path) -> None:
    def cut_index(data: bytearray) -> None:
        last = data.index(b"idx1") + 8 + 16 * (COUNT - 1)
        data[last : last + 4] = b"junk"

    path = changed(movies / "mjpeg.avi", tmp_path / "a.avi", cut_index)
    found = outcome(path, InputSettings())
    assert found.get("frames") == COUNT or "should go on to 0.480 s" in found["error"], found


@pytest.mark.parametrize("size", [(0xFFFF, 0xFFFF), (0, 48), (0x4000, 0x4000)])
@pytest.mark.parametrize("name", ["prores.mov", "mjpeg.avi", "ffv1.mkv"])
def test_absurd_sizes(movies: Path, tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    """In all headers that tell it, the pictures' own too."""
    width, height = size

    def change(data: bytearray) -> None:
        if name == "prores.mov":
            at = atom(data, b"stsd") + 8
            struct.pack_into(">HH", data, at + 32, width, height)
            for k in range(COUNT):
                struct.pack_into(">HH", data, place_of(movies / name, k) + 16, width, height)
        elif name == "mjpeg.avi":
            at = data.index(b"strf") + 8
            struct.pack_into("<II", data, at + 4, width, height)
            at = 0
            while (at := data.find(b"\xff\xc0", at + 1)) > 0:
                struct.pack_into(">HH", data, at + 5, height, width)
        else:
            at = data.index(b"\xb0\x81\x40")
            data[at : at + 6] = b"\xb0\x82" + struct.pack(">H", width) + data[at + 4 : at + 6]

    if name == "ffv1.mkv" and size[1] != 48:
        size = (size[0], 48)
    path = changed(movies / name, tmp_path / name, change)
    refused(path)


@pytest.mark.parametrize("scale", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("which", [b"mvhd", b"mdhd"])
def test_zero_and_absurd_time_bases(movies: Path, tmp_path: Path, which: bytes, scale: int) -> None:
    path = changed(
        movies / "prores.mov", tmp_path / "a.mov", lambda d: struct.pack_into(">I", d, atom(d, which) + 12, scale)
    )
    found = outcome(path, InputSettings())
    assert "error" in found or found["frames"] == COUNT or found["notes"], found
    if which == b"mvhd" and scale == 0:  # the movie's own clock is not the pictures'
        assert found.get("frames") == COUNT, found


@pytest.mark.parametrize("delta", [0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_absurd_durations_of_frames(movies: Path, tmp_path: Path, delta: int) -> None:
    """Times of 2^31 ticks a frame, or none: frames keep their number, and times grow."""
    path = changed(
        movies / "prores.mov", tmp_path / "a.mov", lambda d: struct.pack_into(">I", d, atom(d, b"stts") + 12, delta)
    )
    found = outcome(path, InputSettings())
    assert "error" in found or found["frames"] == COUNT or found["notes"], found


def test_timestamps_of_two_to_the_31_are_kept(tmp_path: Path) -> None:
    pts = [(1 << 31) - 2 + k for k in range(5)]
    path = make_clip(tmp_path / "a.mkv", [ramp(48, 64, k) for k in range(5)], pts=pts, time_base=Fraction(1, 1000))
    clip = open_clip(path)
    times = [frame.pts * frame.time_base for frame in clip.frames()]
    assert times == [Fraction(t, 1000) for t in pts]
    with open_writer(f"{tmp_path}/m.mov", clip.info, OutputSettings()) as writer:
        for frame in clip.frames():
            writer.write(matted(frame, np.ones(frame.size, np.float32)))
    assert [frame.pts * frame.time_base for frame in open_clip(tmp_path / "m.mov").frames()] == times


# Names that are no plain files


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "pipe.mov"
    os.mkfifo(path)
    yield path


def test_a_pipe_without_a_writer_does_not_hang(pipe: Path) -> None:
    start = time.monotonic()
    refused(pipe, "pipe")
    frame = pipe.with_name("a.0001.png")
    os.mkfifo(frame)
    with pytest.raises(MamVideoError):
        list(open_clip(pipe.with_name("a.%04d.png")).frames())
    assert time.monotonic() - start < 20  # at once; a hang would last for ever


def test_a_link_to_itself(tmp_path: Path) -> None:
    for name in ("a.mov", "a.0001.png"):
        link = tmp_path / name
        link.symlink_to(link)
        with pytest.raises(MamVideoError) as caught:
            open_clip(link)
        assert "\n" not in str(caught.value) and str(link) in str(caught.value)
    for number in range(2, 4):
        (tmp_path / f"a.{number:04d}.png").symlink_to(tmp_path / f"a.{5 - number:04d}.png")
    with pytest.raises(MamVideoError):
        list(open_clip(tmp_path / "a.%04d.png").frames())


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/dev/random"])
def test_devices(name: str) -> None:
    start = time.monotonic()
    refused(Path(name), "device")
    assert time.monotonic() - start < 20  # at once; a hang would last for ever


@pytest.mark.parametrize("text", ["concat:a.mov|b.mov", "http://127.0.0.1:9/a.mov", "file:a.mov", "subfile,,:a.mov"])
def test_names_that_look_like_protocols_are_names(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MamVideoError, match="no such file"):
        open_clip(text)
