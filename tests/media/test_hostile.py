"""Pictures that are damaged or made to do harm: one line, no crash, no hang, no memory beyond what a frame needs.

A file that is cut off is never read as if it were whole. A flipped bit may be seen or not (EXR's own coders have no
checksums), but what comes out is a frame of the right size or one line.
"""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from mam_video.core.errors import MamVideoError, MediaError
from mam_video.media import open_clip
from tests.media.sequence_clips import chart, dpx_bytes, hdr, write_cv, write_exr

FORMATS = ("exr-zip", "exr-piz", "exr-none", "exr-dwaa", "exr-tiled", "dpx", "png", "tif", "jpg")


def good(folder: Path, kind: str) -> Path:
    """A whole file of each format, 53x37."""
    name, _, coder = kind.partition("-")
    path = folder / f"plate.0001.{name}"
    if kind == "exr-tiled":
        tiles = OpenEXR.TileDescription()
        tiles.xSize = tiles.ySize = 16
        planes = {c: np.ascontiguousarray(hdr(0, np.float16)[..., k]) for k, c in enumerate("RGB")}
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.tiledimage, "tiles": tiles}
        OpenEXR.File(header, planes).write(str(path))
    elif name == "exr":
        compression = OpenEXR.NO_COMPRESSION if coder == "none" else getattr(OpenEXR, f"{coder.upper()}_COMPRESSION")
        write_exr(path, hdr(0, np.float16), compression=compression)
    elif name == "dpx":
        path.write_bytes(dpx_bytes(np.rint(chart() * 1023).astype(np.uint16)))
    else:
        write_cv(path, np.rint(chart() * 65535).astype(np.uint16) if name != "jpg" else np.rint(chart() * 255))
    return path


def outcome(path: Path) -> str:
    """Nothing where frames of the right size came out, else the one line. All else is an error of ours."""
    try:
        for frame in open_clip(path).frames():
            assert frame.rgb8.shape[2] == 3
    except MamVideoError as error:
        assert "\n" not in str(error) and str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_off_picture_is_never_read_as_whole(tmp_path: Path, kind: str) -> None:
    path = good(tmp_path, kind)
    assert outcome(path) == ""
    data = path.read_bytes()
    random = np.random.default_rng(1)
    for length in (1, 7, 40, len(data) // 2, len(data) - 3, *random.integers(8, len(data) - 3, 6)):
        path.write_bytes(data[:length])
        assert outcome(path), f"{kind} of {length} bytes out of {len(data)} was read"


def flips(data: bytes, seed: int) -> bytes:
    """A few bits turned over: in the header mostly, which is where harm is done."""
    random = np.random.default_rng(seed)
    damaged = bytearray(data)
    for _ in range(int(random.integers(1, 8))):
        place = int(random.integers(0, min(len(data), 600) if random.random() < 0.6 else len(data)))
        damaged[place] ^= 1 << int(random.integers(0, 8))
    return bytes(damaged)


@pytest.mark.parametrize("kind", FORMATS)
def test_flipped_bits(tmp_path: Path, kind: str) -> None:
    path = good(tmp_path, kind)
    data = path.read_bytes()
    start = time.monotonic()
    for seed in range(12):
        path.write_bytes(flips(data, seed))
        outcome(path)
    assert time.monotonic() - start < 300  # no hang; on a busy machine


def with_size(path: Path, width: int, height: int) -> None:
    """Write another size into the header of a picture."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".png":
        struct.pack_into(">II", data, 16, width, height)
    elif path.suffix == ".dpx":
        struct.pack_into(">II", data, 772, width, height)
    elif path.suffix == ".exr":
        for name in (b"dataWindow", b"displayWindow"):
            place = data.index(name + b"\0box2i\0") + len(name) + 7 + 4
            struct.pack_into("<iiii", data, place, 0, 0, width - 1, height - 1)
    elif path.suffix == ".jpg":
        place = data.index(b"\xff\xc0") + 5
        struct.pack_into(">HH", data, place, height & 0xFFFF, width & 0xFFFF)
    else:
        place = struct.unpack_from("<I", data, 4)[0]
        for entry in range(place + 2, place + 2 + 12 * struct.unpack_from("<H", data, place)[0], 12):
            tag = struct.unpack_from("<H", data, entry)[0]
            if tag in (256, 257):
                struct.pack_into("<HII", data, entry + 2, 4, 1, width if tag == 256 else height)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [(0x7FFFFFFF, 0x7FFFFFFF), (65000, 65000), (0, 37), (53, 30000)])
def test_absurd_sizes_cost_nothing(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    path = good(tmp_path, kind)
    with_size(path, *size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    assert outcome(path)
    assert time.monotonic() - start < 60  # no work for billions of pixels; on a busy machine
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    good(tmp_path, "jpg")
    for suffix in ("exr", "dpx", "png", "tif"):
        path = tmp_path / f"x.0001.{suffix}"
        path.write_bytes((tmp_path / "plate.0001.jpg").read_bytes())
        assert "it is not" in outcome(path)
        path.write_text("no picture at all")
        assert "it is not" in outcome(path)
    endless = tmp_path / "e.0001.png"  # sparse: a small picture in a file of a terabyte
    endless.write_bytes(good(tmp_path, "png").read_bytes())
    with endless.open("r+b") as file:
        file.truncate(1 << 40)
    assert "bytes for a picture" in outcome(endless)


@pytest.mark.parametrize("name", ["\0.%04d.exr", "a\0b/plate.%04d.exr", "x" * 5000 + ".%04d.exr", "/dev/%d.png"])
def test_names_from_hell(tmp_path: Path, name: str) -> None:
    with pytest.raises(MamVideoError) as caught:
        open_clip(name if name.startswith("/") else f"{tmp_path}/{name}")
    assert "\n" not in str(caught.value)


def test_a_pattern_does_not_leave_its_folder(tmp_path: Path) -> None:
    """The middle of a name is digits alone: nothing in it can climb out."""
    (tmp_path / "in").mkdir()
    good(tmp_path, "png")
    with pytest.raises(MediaError, match="no such file"):
        open_clip(f"{tmp_path}/in/%04d/../../plate.0001.png")
    with pytest.raises(MamVideoError):
        open_clip(f"{tmp_path}/in/../../plate.%04d.png")


_FUZZ = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from tests.media.test_hostile import flips, outcome
path, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
data = path.read_bytes()
for seed in range(first, last):
    print(seed, flush=True, file=sys.stderr)
    path.write_bytes(flips(data, seed))
    outcome(path)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_fuzz(tmp_path: Path, kind: str) -> None:
    """In a process of its own, with its memory bounded: a crash of a library would show, and name its seed."""
    path = good(tmp_path, kind)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _FUZZ, str(path), "1000", "1400"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, f"{kind}, last seed and lines: {done.stderr[-1500:]}"
