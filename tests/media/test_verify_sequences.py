"""Reading sequences back: what is as promised passes, and every kind of fault is seen and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from mam_video.core.frames import Frame
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import OutputSettings
from mam_video.core.timecode import Timecode
from mam_video.media import ClipInfo, kinds, open_clip, open_writers, verify_output
from mam_video.media.expected import ExpectedSequence
from mam_video.media.formats import LAYERS
from mam_video.media.sequence.verify import expected_sequence_of_plate, files_of_name, verify_sequence
from tests.clips import make_clip, matted, ramp, soft_disc
from tests.media.sequence_clips import hdr, read_exr, write_cv, write_exr

NTSC = Fraction(30000, 1001)
# exr-layers takes several subjects: tests/cli/test_subjects.py.
SEQUENCES = [(k.name, k.suffixes[0]) for k in kinds() if k.family in ("exr", "png", "tiff", "dpx") and k.name != LAYERS]
Written = tuple[Path, ExpectedSequence, list[tuple[float, float]]]


def written(folder: Path, kind: str, suffix: str, **more: Any) -> Written:
    """Write a short matte of a movie's frames; its path, its writer's promise, its alphas."""
    info = ClipInfo(folder / "plate.mov", 64, 48, NTSC, 1 / NTSC, timecode=Timecode.parse("00:00:59;28", 30), reel="R7")
    alphas = []
    output = f"{folder}/m.%04d{suffix}:{kind}"
    with open_writers([output], info, OutputSettings(**more)) as group:
        for k in range(6):
            alpha = soft_disc(48, 64) * np.float32(0.5 + 0.1 * k)
            alphas.append((float(alpha.min()), float(alpha.max())))
            assert info.timecode is not None
            label = str(info.timecode + k)
            group.write(matted(Frame(k, k, 1 / NTSC, ramp(48, 64, k), timecode=label), alpha))
    ((path, promise),) = group.expected()
    assert isinstance(promise, ExpectedSequence)
    return path, promise, alphas


def wrong(folder: Path, suffix: str, promise: ExpectedSequence) -> list[str]:
    checks = verify_sequence(files_of_name(f"{folder}/m.%04d{suffix}"), promise, every_frame=True)
    assert all("\n" not in check.says and check.says for check in checks)
    return [check.what for check in checks if not check.good]


@pytest.mark.parametrize(("kind", "suffix"), SEQUENCES)
def test_all_that_is_written_is_as_promised(tmp_path: Path, kind: str, suffix: str) -> None:
    path, promise, alphas = written(tmp_path, kind, suffix)
    for checks in (
        verify_output(path, promise, alphas),
        verify_sequence(files_of_name(str(path)), replace(promise, alpha=alphas), every_frame=True),
    ):
        assert all(check.good for check in checks), [str(check) for check in checks]
        assert {"frames", "numbers", "size", "depth", "channels", "alpha"} <= {check.what for check in checks}
    if suffix == ".exr":
        assert {"rate", "timecode", "reel", "frame counter"} <= {check.what for check in checks}
        assert [c.says for c in checks if c.what == "timecode"] == ["00:00:59;28 to 00:01:00;05"]


@pytest.mark.parametrize("more", [{"exr_type": "float"}, {"exr_compression": "dwaa"}, {"exr_layer": "hero"}])
def test_every_exr(tmp_path: Path, more: dict[str, Any]) -> None:
    kind = "exr-alpha" if "exr_layer" in more else "exr"
    path, promise, alphas = written(tmp_path, kind, ".exr", **more)
    checks = verify_output(path, promise, alphas)
    assert all(check.good for check in checks), [str(check) for check in checks]


FAULTS: dict[str, dict[str, Any]] = {
    "frames": {"numbers": range(1001, 1006)},
    "size": {"size": (64, 48), "display": (0, 0, 48, 64)},
    "depth": {"depth": "float"},
    "channels": {"channels": "R"},
    "rate": {"rate": Fraction(30)},
    "timecode": {"labels": ["00:00:59:28"] * 6},
    "reel": {"reel": "R8"},
    "alpha": {"alpha": [(0.0, 1.0)] * 6},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named(tmp_path: Path, fault: str) -> None:
    _, promise, alphas = written(tmp_path, "exr", ".exr")
    found = wrong(tmp_path, ".exr", replace(promise, **{"alpha": alphas, "labels": None, **FAULTS[fault]}))
    assert set(found) - {"numbers"} == {fault}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _swap(path: Path) -> None:
    other = path.with_name(path.name.replace("1003", "1002"))
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(("damage", "named"), [
    (lambda path: path.unlink(), {"frames", "numbers"}),
    (_cut, {"pictures"}),
    (lambda path: path.write_bytes(b""), {"pictures"}),
    (lambda path: path.rename(path.with_name("m.1099.exr")), {"numbers"}),
    (_swap, {"timecode", "frame counter", "alpha"}),
])  # fmt: skip
def test_damage_after_writing_is_seen(tmp_path: Path, damage: Callable[[Path], None], named: set[str]) -> None:
    _, promise, alphas = written(tmp_path, "exr", ".exr")
    damage(tmp_path / "m.1003.exr")
    assert set(wrong(tmp_path, ".exr", replace(promise, alpha=alphas))) == named


def test_an_alpha_that_is_none(tmp_path: Path) -> None:
    _, promise, _ = written(tmp_path, "exr-alpha", ".exr")
    header, channels = read_exr(tmp_path / "m.1002.exr")
    for bad in (np.float16(1.5), np.float16(-0.1), np.float16(np.nan)):
        channels["A"][3, 3] = bad
        OpenEXR.File(header, {"A": channels["A"]}).write(str(tmp_path / "m.1002.exr"))
        assert wrong(tmp_path, ".exr", promise) == ["alpha"]


@pytest.mark.parametrize("suffix", [".exr", ".png", ".tif", ".dpx"])
def test_a_matte_against_its_plate(tmp_path: Path, suffix: str) -> None:
    """The plates: a movie, and a sequence with overscan; whole, and a range."""
    (tmp_path / "a").mkdir()
    movie = make_clip(tmp_path / "plate.mov", [ramp(37, 53, k) for k in range(8)])
    for k in range(8):
        write_exr(tmp_path / "a" / f"a.{86 + k}.exr", hdr(k % 3), corner=(-3, -2), display=(0, 0, 45, 30))
    for name, plate in (("m", movie), ("s", tmp_path / "a")):
        reader = open_clip(plate)
        for part, frames in (("whole", None), ("part", (2, 5))):
            first, last = frames or (0, 7)
            output = f"{tmp_path}/{name}{part}.####{suffix}"
            with open_writers([output], reader.info, OutputSettings(), part=frames is not None) as group:
                for frame in reader.frames(first, last + 1):
                    group.write(matted(frame, soft_disc(*frame.size)))
            promise = expected_sequence_of_plate(reader, FrameRange.of(frames), suffix)
            checks = verify_sequence(files_of_name(output), promise, every_frame=True)
            assert all(check.good for check in checks), [str(check) for check in checks]
        short = verify_sequence(files_of_name(output), expected_sequence_of_plate(reader, None, suffix))
        assert {check.what for check in short if not check.good} == {"frames", "numbers"}


def test_another_sequence_is_not_its_matte(tmp_path: Path) -> None:
    written(tmp_path, "png", ".png")
    for k in range(4):
        write_cv(tmp_path / f"p.{1001 + k}.png", np.zeros((30, 40, 3), np.uint8))
    reader = open_clip(tmp_path / "p.%04d.png")
    assert set(wrong(tmp_path, ".png", expected_sequence_of_plate(reader, None, ".png"))) == {
        "frames",
        "numbers",
        "size",
    }
    plain = verify_sequence(
        files_of_name(str(tmp_path / "p.%04d.png")), expected_sequence_of_plate(reader, None, ".png")
    )
    assert {check.what for check in plain if not check.good} == {"depth"}  # 8 bits are not what is written
