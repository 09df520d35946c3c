"""The page of a folder of shots in a real browser: two subjects, a mask, a background, and all shots in the queue."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

for package in ("httpx", "playwright.sync_api", "starlette", "uvicorn", "websockets"):
    pytest.importorskip(package)

import cv2
import numpy as np

from mam_video import open_clip
from mam_video.cli.main import main
from mam_video.testing.studio_page import BROWSERS, StudioPage, browser_program, opened_studio
from tests.studio.test_page import SIZE, matte, small_copy

LEFT, RIGHT = (84, 11, 130, 178), (128, 11, 174, 178)  # two halves of the rabbit
FRAMES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, a picture to lie behind them, and a mask."""
    home = tmp_path_factory.mktemp("shots")
    (home / "plates").mkdir()
    small_copy(home / "plates" / "a.mp4", FRAMES)
    shutil.copy(home / "plates" / "a.mp4", home / "plates" / "b.mp4")
    cv2.imwrite(str(home / "wall.png"), np.full((*SIZE, 3), (200, 40, 40), np.uint8))
    mask = np.zeros(SIZE, np.uint8)
    mask[20:170, 92:166] = 255
    cv2.imwrite(str(home / "mask.png"), mask)
    return home


@pytest.fixture(scope="module")
def opened(folder: Path) -> Iterator[StudioPage]:
    if browser_program() is None:
        pytest.skip(f"no Chromium here: none of {', '.join(BROWSERS)} is on the PATH")
    with opened_studio(folder / "plates", more=["--background", str(folder / "wall.png")]) as studio:
        yield studio
        assert studio.complaints == []


# The tests follow each other on one page, as an artist's work does.


def test_two_subjects_have_names_colours_and_mattes(opened: StudioPage) -> None:
    page = opened.page
    assert page.locator("#shots option").all_text_contents() == ["a.mp4", "b.mp4"]
    page.fill("input[aria-label='Name of subject']", "left half")
    page.keyboard.press("Enter")
    opened.until("studio.data.at.state.subjects[0].name === 'left half'")
    page.click("#add-subject")
    opened.until("studio.data.at.state.subjects.length === 2 && studio.data.subject === 1")
    page.fill("input[aria-label='Name of subject 2']", "right half")
    page.keyboard.press("Enter")
    opened.until("studio.data.at.state.subjects[1].name === 'right half'")
    page.locator("input[aria-label='Colour of right half']").evaluate(
        "(e) => { e.value = '#aa00ff'; e.dispatchEvent(new Event('change')); }"
    )
    opened.until("studio.data.at.state.subjects[1].colour === '#aa00ff'")

    assert "right half" in page.locator("#hint").text_content() or "Drag a box" in page.locator("#hint").text_content()
    opened.drag(RIGHT)
    opened.until("studio.data.stills.get(0) === 1 && studio.ready()")
    page.locator("#subjects li").first.click(position={"x": 2, "y": 2})
    opened.until("studio.data.subject === 0")
    opened.drag(LEFT)
    opened.until("studio.data.stills.get(0) === 2 && studio.ready()")
    prompts = opened.value("studio.data.at.state.prompts")
    assert [p["subject"] for p in prompts] == [0, 1]

    page.click("#track")
    opened.until("studio.data.at.version?.number === 1 && !studio.data.at.running")
    opened.until(f"studio.data.records.size === {FRAMES}")
    for frame in range(FRAMES):
        both, left, right = (matte(opened, frame, query).astype(int) for query in ("", "&subject=0", "&subject=1"))
        assert left.max() == 255 and right.max() == 255
        assert (left + right).max() <= 256  # each is rounded by itself
        assert np.abs(np.minimum(left + right, 255) - both).max() <= 1
    assert "{subject}" in page.evaluate("studio.data.at.command")


def test_a_mask_of_a_file_shows_the_subject_of_the_other_shot(opened: StudioPage, folder: Path) -> None:
    page = opened.page
    page.select_option("#shots", "1")
    opened.until("studio.data.clip.shot === 1 && studio.ready() && studio.data.at.state.prompts.length === 0")
    page.set_input_files("#mask-file", str(folder / "wall.png"))
    opened.until("!document.getElementById('banner').hidden")  # no pixel of it is white enough
    assert [text for text in opened.complaints if "400" not in text] == []
    opened.complaints.clear()
    page.set_input_files("#mask-file", str(folder / "mask.png"))
    opened.until("studio.data.stills.get(0) === 1 && studio.ready()")
    assert page.locator("#prompts li").text_content().startswith("frame 0: mask")
    inside = cv2.imread(str(folder / "mask.png"), cv2.IMREAD_GRAYSCALE) > 0
    alpha = matte(opened, 0, shot=1)
    assert alpha[inside].mean() > 100 > 30 > alpha[~inside].mean()


def test_the_subject_lies_over_a_picture(opened: StudioPage) -> None:
    page = opened.page
    page.keyboard.press("4")
    page.select_option("#backdrop", "file:0")
    opened.until("studio.data.view === 'over' && studio.ready()")
    page.wait_for_timeout(200)
    corner = opened.value(
        "(() => { const p = studio.place, r = devicePixelRatio; return Array.from(document.getElementById('picture')"
        ".getContext('2d').getImageData((p.x + 8 * p.scale) * r, (p.y + 8 * p.scale) * r, 1, 1).data); })()"
    )
    assert np.abs(np.subtract(corner[:3], (40, 40, 200))).max() < 12  # the picture is blue, written as BGR
    page.select_option("#backdrop", "checker")


def test_all_shots_run_and_their_commands_give_the_same_bytes(
    opened: StudioPage, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, plates = opened.page, folder / "plates"
    page.click("#tab-run")
    page.click("#add-output")
    opened.until("studio.data.at.outputs.length === 2 && studio.data.at.outputs[1].kind === 'preview'")
    page.select_option("#behind", "file:0")
    opened.until("studio.data.at.state.values.output?.background.endsWith('wall.png')")
    page.click("#run-all")
    opened.until("studio.data.desk.runs.length === 2")
    opened.until("studio.data.desk.runs.every((r) => ['done', 'flagged', 'failed'].includes(r.how))")
    runs = opened.value("studio.data.desk.runs")
    assert [run["name"] for run in runs] == ["b.mp4", "a.mp4"] and {run["how"] for run in runs} <= {"done", "flagged"}
    written = ["a.left half.matte.mov", "a.right half.matte.mov", "b.matte.mov", "b.matte.look.mp4"]
    assert sorted(p.name for p in plates.iterdir() if ".matte" in p.name and p.is_file()) == sorted(written)
    there = folder / "there"
    there.mkdir()
    for run in runs:
        words = shlex.split(run["command"])
        words = [w.replace(f"{plates}/", f"{there}/") if words[k - 1] == "-o" else w for k, w in enumerate(words)]
        words[words.index("--report") + 1] = str(there / "report")
        assert words[0] == "mam-video" and main([*words[1:], "--overwrite"]) == 0
    capsys.readouterr()
    for name in written:
        digests = {hashlib.sha256((home / name).read_bytes()).hexdigest() for home in (plates, there)}
        assert len(digests) == 1, name
    with open_clip(plates / "b.matte.look.mp4") as reader:
        corner = next(iter(reader.frames())).rgb8[4:12, 4:12].reshape(-1, 3).mean(axis=0)
    assert np.abs(corner - (40, 40, 200)).max() < 12
