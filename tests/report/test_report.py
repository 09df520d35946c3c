"""What a run tells afterwards: run.json, the page, the lines in the terminal."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mam_video.cli.main import main
from mam_video.cli.progress import show_progress
from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.core.geometry import Box
from mam_video.core.reasons import Finding, Reason
from mam_video.core.settings import Settings
from mam_video.core.timecode import Timecode
from mam_video.media import open_clip
from mam_video.report.page import page
from mam_video.report.run import FlaggedRange, RunReport, flagged_ranges
from mam_video.report.thumbnails import MOST, MOST_EVEN, Thumbnails
from tests.synthetic import disc, picture, write_movie

SIZE = (96, 144)
HIDDEN = range(5, 8)
COUNT = 12


def centre(i: int) -> tuple[float, float]:
    return 40 + 2.0 * i, 48


def box_of(i: int, radius: float = 16) -> str:
    x, y = centre(i)
    return ",".join(f"{v:g}" for v in (x - radius, y - radius, x + radius, y + radius))


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disc that is hidden for three frames, in a file whose name must be escaped."""
    folder = tmp_path_factory.mktemp("report")
    nothing = np.zeros(SIZE, np.float32)
    return write_movie(
        folder / "a <b>&'c\".mov", COUNT, lambda i: picture(nothing if i in HIDDEN else disc(SIZE, centre(i), 16))
    )


def matte(plate: Path, folder: Path, *more: str) -> int:
    given = ["matte", str(plate), "--box", box_of(0), "-o", f"{folder}/m.mov:alpha", "--set", "model.name=fake-colour"]
    return main([*given, "--report", f"{folder}/report", *more])


def test_run_json_and_the_terminal(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert matte(plate, tmp_path, "--strict") == 3
    said = capsys.readouterr().out
    assert "please check these frames:" in said
    assert re.search(r"frames 5-8: lost \(5-7: nothing was found; 8: found again", said)
    told = json.loads((tmp_path / "report" / "run.json").read_text())
    assert (
        told["version"] == 2 and told["input"]["path"] == str(plate) and told["command"][:2] == ["mam-video", "matte"]
    )
    frames = told["frames"]
    assert [f["index"] for f in frames] == list(range(COUNT))
    assert [f["pts"] for f in frames] == [1001 * i for i in range(COUNT)]
    assert frames[3]["time"] == pytest.approx(3 * 1001 / 24000, abs=1e-6)
    states = ["prompted", *4 * ["tracked"], *3 * ["lost"], "recovered", *3 * ["tracked"]]
    assert [f["state"] for f in frames] == states
    assert told["states"] == {"prompted": 1, "tracked": 7, "lost": 3, "recovered": 1}
    assert frames[0]["flicker"] is None and all(0 <= f["flicker"] <= 1 for f in frames[1:])
    assert max(f["flicker"] for f in frames[1:5]) < 0.1
    assert all(f["agreement"] > 0.85 for f in frames[:5])  # a coarse mask of a small disc
    assert frames[6]["agreement"] == 1 and frames[6]["area"] == 0  # lost: mask and alpha are empty
    # Stages run ahead on threads: between two frames that are written none may have ended.
    assert all(s > 0 for f in frames for s in f["stage_seconds"].values())
    assert sum(len(f["stage_seconds"]) for f in frames) > COUNT
    total = sum(f["stage_seconds"].get("decode", 0) for f in frames)
    # What is decoded after the last frame, to see that the clip ends, is no frame's; all is rounded.
    assert 0 < total <= told["stage_seconds"]["decode"] + 0.001 * COUNT
    assert set(told["stage_seconds"]) >= {"decode", "segment", "judge", "encode"}


def test_nothing_flagged_is_said(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert matte(plate, tmp_path, "--range", "0-4", "--strict") == 0
    assert "no frame was flagged" in capsys.readouterr().out
    text = (tmp_path / "report" / "report.html").read_text()
    assert "No frame of 5 was flagged." in text and 'class="card"' not in text
    assert text.count('class="picture"') == 5  # each frame of a short clip


def test_ranges_are_told_with_timecode() -> None:
    found = FlaggedRange(2, 3, State.LOST, (Finding(Reason.OTHER, text="why"),))
    start = Timecode.parse("01:00:00:22", 24)
    assert found.message(None, start) == "frames 2-3 [01:00:01:00 - 01:00:01:01]: lost (why)"
    assert found.message(range(1001, 1010), start) == "frames 1003-1004 [01:00:01:00 - 01:00:01:01]: lost (why)"
    assert FlaggedRange(2, 2, State.LOST, ()).message(None, start) == "frame 2 [01:00:01:00]: lost"


def test_progress_for_render_managers(plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert matte(plate, tmp_path, "--progress", "json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    first, last = lines[0], lines[-1]
    assert first["event"] == "progress" and all(line["event"] == "progress" for line in lines[:-1])
    assert (first["frame"], first["done"], first["total"]) == (0, 1, COUNT)
    assert first["fps"] > 0 and first["eta"] >= 0 and first["states"] == {"prompted": 1}
    assert first["stages"] and lines[-2]["done"] == COUNT  # the last frame is told before the files are closed
    assert last["event"] == "end" and last["done"] == COUNT and last["states"]["lost"] == len(HIDDEN)
    assert last["outputs"] == [f"{tmp_path}/m.mov"] and last["flagged"][0]["first"] == HIDDEN.start


def test_progress_of_tracking_ahead(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(10, progress="json", quiet=False) as (_, tracked):
        assert tracked is not None
        for _ in range(5):
            tracked()
    assert json.loads(capsys.readouterr().out) == {"event": "progress", "tracked": 1, "done": 0, "total": 10}


@pytest.mark.parametrize("name", ["run.json", "report.html"])
def test_a_file_is_no_folder(plate: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert matte(plate, tmp_path, "--report", f"{tmp_path}/{name}") == 2
    assert name in capsys.readouterr().err and not list(tmp_path.iterdir())


def record(i: int, state: State, score: float = 0.9) -> Record:
    box = Box(10 + i % 7, 10, 50, 50)
    why = (Finding(Reason.OTHER, text="why"),) if state.flagged else ()
    return Record(i, i, state, box, score, 0.1, why, 0.9, None if i == 0 else 0.01)


def report_of(records: list[Record], plate: Path) -> RunReport:
    with open_clip(plate) as reader:
        info = reader.info
    report = RunReport(info, "fake-colour", {}, "cpu", Settings(), [Path("m.mov")])
    report.records, report.frame_seconds = records, [0.1] * len(records)
    for _ in records:
        report.add_stages({})
    return report


@pytest.mark.parametrize("count", [1, 10, 10000])
def test_size_does_not_grow_with_the_clip(plate: Path, count: int) -> None:
    """Every third frame is flagged and one is lost: the worst case for a timeline."""
    looks = Thumbnails()
    rgb, alpha = np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.float32)
    records = [record(i, State.UNCERTAIN if i % 3 == 2 else State.TRACKED, 0.5 + i % 100 / 1000) for i in range(count)]
    lost = count - 2
    if count > 2:
        records[lost] = record(lost, State.LOST, 0.99)
    for r in records:
        looks.add(Matted(Frame(r.index, r.pts, Fraction(1, 24), rgb), alpha, r))
    assert len(looks.found) <= MOST
    even = [row[0].index for row, _ in looks.even]
    assert even[0] == 0 and even[-1] == count - 1 and min(count, 8) <= len(even) <= MOST_EVEN
    text = page(report_of(records, plate), looks)
    assert len(text) < 500_000
    assert text.count("<rect") <= 1000
    if count > 2:
        assert lost in [look.record.index for look in looks.found]
    if count == 10000:
        assert len(looks.found) == MOST
        assert {look.record.score for look in looks.found} <= {0.5, 0.501, 0.502, 0.99}  # the worst of them


def test_a_peak_is_never_lost(plate: Path) -> None:
    records = [record(i, State.TRACKED) for i in range(10000)]
    report = report_of(records, plate)
    report.frame_seconds[4321] = 2.0
    text = page(report, Thumbnails())
    curve = re.search(r"<b>Seconds</b>.*?</figure>", text, re.DOTALL)
    assert curve and "to 2" in curve[0]
    heights = [float(y) for y in re.findall(r",([\d.]+)", re.findall(r'd="([^"]+)"', curve[0])[0])]
    assert min(heights) < 10 and sorted(heights)[1] > 90


def test_ranges_have_the_worst_state() -> None:
    states = [
        State.TRACKED,
        State.UNCERTAIN,
        State.LOST,
        State.RECOVERED,
        State.TRACKED,
        State.RECOVERED,
        State.TRACKED,
    ]
    found = flagged_ranges(record(i, s) for i, s in enumerate(states))
    assert [(r.first, r.last, r.state) for r in found] == [(1, 3, State.LOST), (5, 5, State.RECOVERED)]
