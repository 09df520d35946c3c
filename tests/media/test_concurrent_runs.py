"""Runs that write at the same time, as processes of their own: no frame is lost, and no name is given twice."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

# Opens an output, says so, waits for `go`, writes its frames with their own grey, and closes. `blind`: the process does
# not look for others at its start, as if both had started in the same instant.
_RUN = """
import sys, time
from fractions import Fraction
from pathlib import Path
import numpy as np
from mam_video.core.errors import MamVideoError
from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.media import ClipInfo, open_writers
from mam_video.media import atomic_output
from mam_video.runtime import commit
from mam_video.core.geometry import Box
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import OutputSettings

output, first, last, grey, overwrite, blind, folder, name = sys.argv[1:]
if blind == "yes":
    atomic_output.in_use = commit.in_use = lambda path: False
info = ClipInfo(Path("none"), 32, 16, Fraction(25), Fraction(1, 25))
span = None if last == "all" else FrameRange.inclusive(int(first), int(last))
try:
    settings = OutputSettings(overwrite=overwrite == "yes")
    with open_writers([output], info, settings, part=span is not None, frames=span) as group:
        (Path(folder) / f"{name}.ready").touch()
        while not (Path(folder) / "go").exists():
            time.sleep(0.002)
        for k in range(int(first), (8 if span is None else span.stop)):
            rgb = np.full((16, 32, 3), int(grey) * 257, np.uint16)
            frame = Frame(k, k, Fraction(1, 25), rgb)
            record = Record(k, k, State.TRACKED, Box(1, 1, 9, 9), 1.0, 0.5, ())
            group.write(Matted(frame, np.ones((16, 32), np.float32), record))
except MamVideoError as error:
    print(error)
    sys.exit(error.exit_code)
"""


class Run:
    """A process that holds its output open until `go`."""

    def __init__(
        self, folder: Path, output: str, first: int, last: int | str, grey: int, *, overwrite: bool, blind: bool
    ) -> None:
        self.ready = folder / f"{grey}.ready"
        choices = ["yes" if each else "no" for each in (overwrite, blind)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _RUN, output, str(first), str(last), str(grey), *choices, str(folder), str(grey)],
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        until = time.monotonic() + 60
        while self.process.poll() is None and not self.ready.exists() and time.monotonic() < until:
            time.sleep(0.005)

    def end(self) -> tuple[int, str]:
        said = self.process.communicate(timeout=60)[0]
        return self.process.returncode, said


def both(
    folder: Path, output: str, parts: tuple[tuple[int, int | str], ...], *, overwrite: bool = False, blind: bool = False
) -> list[tuple[int, str]]:
    """Two runs, greys 60 and 200, that have both begun before either writes; exit codes and what they said."""
    runs = []
    for (first, last), grey in zip(parts, (60, 200), strict=True):
        runs.append(Run(folder, output, first, last, grey, overwrite=overwrite, blind=blind))
        runs[-1].wait_until_ready()
    (folder / "go").touch()
    return [run.end() for run in runs]


def greys(folder: Path, pattern: str) -> dict[str, int]:
    return {p.name: int(cv2.imread(str(p), cv2.IMREAD_UNCHANGED)[0, 0, 0]) // 257 for p in sorted(folder.glob(pattern))}


def no_litter(folder: Path) -> bool:
    return not [p.name for p in folder.rglob(".*")]


@pytest.mark.parametrize("output", ["m.####.png", "frames/"])
def test_halves_of_one_sequence_end_with_all_frames(tmp_path: Path, output: str) -> None:
    results = both(tmp_path, f"{tmp_path}/{output}", ((0, 3), (4, 7)))
    assert [code for code, _ in results] == [0, 0], results
    found = greys(tmp_path, "**/*.png")
    assert list(found.values()) == [60] * 4 + [200] * 4 and no_litter(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("blind", [False, True])
def test_the_same_frames_are_written_by_one_of_two(tmp_path: Path, overwrite: bool, blind: bool) -> None:
    """At the start where they find each other, at the end where they do not; with --overwrite too."""
    results = both(tmp_path, f"{tmp_path}/m.%04d.png", ((0, 4), (4, 7)), overwrite=overwrite, blind=blind)
    codes = sorted(code for code, _ in results)
    assert codes == ([0, 1] if blind else [0, 2]), results
    said = "".join(text for code, text in results if code)
    assert said.count("\n") == 1 and "another run" in said
    found = greys(tmp_path, "*.png")
    assert len(set(found.values())) == 1 and len(found) in (4, 5) and no_litter(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("blind", [False, True])
def test_the_same_movie_is_written_by_one_of_two(tmp_path: Path, overwrite: bool, blind: bool) -> None:
    results = both(tmp_path, f"{tmp_path}/m.mkv", ((0, "all"), (0, "all")), overwrite=overwrite, blind=blind)
    assert sorted(code for code, _ in results) == ([0, 1] if blind else [0, 2]), results
    assert [p.name for p in tmp_path.glob("m.*")] == ["m.mkv"] and no_litter(tmp_path)


def test_a_file_that_someone_else_puts_there_stays(tmp_path: Path) -> None:
    """Also in place of one that --overwrite would have replaced."""
    target = tmp_path / "m.mkv"
    target.write_text("older")
    run = Run(tmp_path, str(target), 0, "all", 60, overwrite=True, blind=False)
    run.wait_until_ready()
    (tmp_path / "other").write_text("newer")
    (tmp_path / "other").replace(target)
    (tmp_path / "go").touch()
    code, said = run.end()
    assert code == 1 and "m.mkv: another run wrote this file" in said
    assert target.read_text() == "newer" and no_litter(tmp_path)


def test_a_run_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    """What it left behind is hidden, and its lock is gone."""
    for output in ("m.mkv", "m.%04d.png"):
        run = Run(tmp_path, f"{tmp_path}/{output}", 0, "all", 60, overwrite=False, blind=False)
        run.wait_until_ready()
        run.process.kill()
        run.end()
        (tmp_path / "60.ready").unlink()
    assert len([p for p in tmp_path.iterdir() if ".part-" in p.name]) == 2
    (tmp_path / "go").touch()
    for output in ("m.mkv", "m.%04d.png"):
        assert Run(tmp_path, f"{tmp_path}/{output}", 0, "all", 60, overwrite=False, blind=False).end()[0] == 0
    assert len(greys(tmp_path, "*.png")) == 8
