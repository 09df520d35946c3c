"""Reading back: what is as promised passes, and every kind of fault is seen and named."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mam_video.core.frames import Frame
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import OutputSettings
from mam_video.core.timecode import Timecode
from mam_video.media import ClipInfo, Colour, kinds, open_writers
from mam_video.media.expected import ExpectedMedia
from mam_video.media.movie.reader import MovieReader
from mam_video.media.movie.verify import expected_of_plate, verify_movie
from tests.clips import NTSC_FILM, make_clip, matted, ramp, soft_disc
from tests.media.test_append_log import with_sound

TAGS = Colour("tv", "bt709", "bt709", "bt709", True)
MOVIES = [
    (k.name, s) for k in kinds() for s in k.suffixes if k.family in ("prores", "prores-xq", "ffv1", "vp9", "preview")
]


def written(path: Path, kind: str, size: tuple[int, int] = (95, 127), times: list[int] | None = None) -> ExpectedMedia:
    """Write a short matte and return its writer's promise, alphas included."""
    info = ClipInfo(path.with_name("plate.mov"), size[1], size[0], NTSC_FILM, Fraction(1, 24000), colour=TAGS,
                    timecode=Timecode.parse("01:00:00:00", 24), sample_aspect=Fraction(4, 3))  # fmt: skip
    alphas = []
    with open_writers([f"{path}:{kind}"], info, OutputSettings(overwrite=True)) as group:
        for k, pts in enumerate(times or [1001 * k for k in range(6)]):
            alpha = soft_disc(*size) * np.float32(0.5 + 0.1 * k)
            alphas.append((float(alpha.min()), float(alpha.max())))
            group.write(matted(Frame(k, pts, info.time_base, ramp(*size, k)), alpha))
    ((_, promise),) = group.expected()
    return promise.with_alpha(alphas)


@pytest.mark.parametrize("every_frame", [False, True])
@pytest.mark.parametrize(("kind", "suffix"), MOVIES)
def test_all_that_is_written_is_as_promised(tmp_path: Path, kind: str, suffix: str, every_frame: bool) -> None:
    path = tmp_path / f"m{suffix}"
    checks = verify_movie(path, written(path, kind), every_frame=every_frame)
    assert all(check.good for check in checks), [str(check) for check in checks]
    seen = "pictures" if kind == "preview" else "alpha"
    assert {"frames", "timestamps", "timecode", "colour tags", seen} <= {check.what for check in checks}


@pytest.mark.parametrize("times", [[1200, 1300, 1900, 1901, 4000], [-2002, -1001, 0, 1001], [24000]])
def test_odd_times(tmp_path: Path, times: list[int]) -> None:
    for name, kind in (("m.mov", "prores"), ("m.mp4", "preview"), ("m.mkv", "ffv1")):
        promise = written(tmp_path / name, kind, times=times)
        checks = verify_movie(tmp_path / name, promise)
        assert all(check.good for check in checks), [str(check) for check in checks]


FAULTS: dict[str, dict[str, Any]] = {
    "frames": {"times": [Fraction(1001 * k, 24000) for k in range(7)]},
    "timestamps": {"times": [Fraction(1001 * k, 24000) + (k == 3) for k in range(6)]},
    "size": {"size": (96, 128)},
    "sample aspect": {"aspect": Fraction(1)},
    "rate": {"rate": Fraction(24)},
    "timecode": {"timecode": Timecode(1, 24)},
    "colour tags": {"colour": replace(TAGS, primaries="bt2020")},
    "audio streams": {"sound": 1},
    "alpha channel": {"has_alpha": False},
    "alpha": {"alpha": [(0.0, 1.0)] * 6},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named(tmp_path: Path, fault: str) -> None:
    promise = written(tmp_path / "m.mov", "prores")
    checks = verify_movie(tmp_path / "m.mov", replace(promise, **FAULTS[fault]))
    wrong = [check for check in checks if not check.good]
    assert [check.what for check in wrong] == [fault] and "\n" not in wrong[0].says and wrong[0].says


def test_damage_is_seen_where_a_frame_is_looked_at(tmp_path: Path) -> None:
    import av

    path = tmp_path / "m.mov"
    promise = written(path, "prores")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = list(container.demux(video=0))[2]
        assert packet.pos is not None
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(bytes(data))
    thorough = {check.what: check.good for check in verify_movie(path, promise, every_frame=True)}
    assert thorough["pictures"] is False
    assert all(check.good for check in verify_movie(path, promise))  # the quick way looks at frames 0, 3 and 5


def test_a_matte_against_its_plate(tmp_path: Path) -> None:
    plate = with_sound(tmp_path / "plate.mov", 12)
    reader = MovieReader(plate)
    for name, frames in (("whole.mov", None), ("part.mov", (3, 7))):
        first, last = frames or (0, 11)
        group = open_writers([str(tmp_path / name)], reader.info, OutputSettings(), part=frames is not None)
        with group:
            for frame in reader.frames(first, last + 1):
                group.write(matted(frame, soft_disc(*frame.size)))
        checks = verify_movie(tmp_path / name, expected_of_plate(reader, FrameRange.of(frames)), every_frame=True)
        assert all(check.good for check in checks), [str(check) for check in checks]
    short = verify_movie(tmp_path / "part.mov", expected_of_plate(reader))
    assert {check.what for check in short if not check.good} == {"frames"}


def test_another_clip_is_not_its_plate(tmp_path: Path) -> None:
    written(tmp_path / "m.mov", "prores")
    other = MovieReader(make_clip(tmp_path / "other.mov", [ramp(48, 64)] * 6))
    wrong = {check.what for check in verify_movie(tmp_path / "m.mov", expected_of_plate(other)) if not check.good}
    assert {"size", "timestamps", "rate", "timecode", "sample aspect"} <= wrong
