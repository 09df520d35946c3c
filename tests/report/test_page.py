"""The page in a browser: frames enlarge, boxes are drawn, and the command that comes of it runs as printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from mam_video.cli.main import main
from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.core.geometry import Box
from mam_video.core.settings import Settings
from mam_video.media import open_clip
from mam_video.report.page import _link
from mam_video.report.page import page as render
from mam_video.report.rerun import Rerun
from mam_video.report.run import RunReport
from mam_video.report.thumbnails import Thumbnails
from tests.report.browser import Page, browser
from tests.synthetic import disc, picture, write_movie

SIZE = (96, 144)
COUNT = 12
HIDDEN = range(5, 8)
OTHER_HIDDEN = range(8, 10)
MODEL = ("--model", "fake-colour", "--set", "view.subjects=own")
HOSTILE = "</script><img src=x onerror=alert(1)>'\"`$(touch x)"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


def alpha_of(i: int, *, two: bool) -> np.ndarray:
    """A disc that is hidden for three frames, and, if there are two, one that is hidden for two others."""
    nothing = np.zeros(SIZE, np.float32)
    first = nothing if i in HIDDEN else disc(SIZE, (40 + 2 * i if not two else 30, 40), 14)
    second = nothing if i in OTHER_HIDDEN or not two else disc(SIZE, (110, 60), 12)
    return np.maximum(first, second)


def plate(folder: Path, name: str, *, two: bool = False) -> Path:
    return write_movie(folder / name, COUNT, lambda i: picture(alpha_of(i, two=two)))


def matte(folder: Path, *given: str) -> Path:
    """Matte in `folder`, as from a shell there; return the report's page."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["matte", *given, *MODEL, "--report", "out put"]) == 0
    finally:
        os.chdir(before)
    return folder / "out put" / "report.html"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    plate(folder, "a <b>&'c\".mov")
    return matte(folder, "a <b>&'c\".mov", "--box", "26,26,54,54", "-o", "m.mov:alpha")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    plate(folder, "two.mov", two=True)
    prompts = ("--prompt", "the 1st o'clock@0:box=16,26,44,54", "--prompt", "b@0:box=98,48,122,72")
    return matte(folder, "two.mov", *prompts, "-o", "both.mov:alpha")


def run_as_printed(command: str, folder: Path, tmp_path: Path, *files: Path) -> tuple[str, dict[str, Any]]:
    """Run a command in a shell in a copy of `folder`, with `files` beside; return what it prints, and its report."""
    folder = Path(shutil.copytree(folder, tmp_path / "copy"))
    for file in files:
        shutil.copy(file, folder)
    start = tmp_path / "mam-video"
    start.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mam_video "$@"\n')
    start.chmod(0o755)
    done = subprocess.run(
        command, shell=True, cwd=folder, text=True, capture_output=True, timeout=500,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "out put" / "run.json").read_text())


def draw(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag over the large picture from one place of the plate, in pixels, to another."""
    left, top, right, bottom = page.place_of("#stage")
    sx, sy = (right - left) / SIZE[1], (bottom - top) / SIZE[0]
    page.drag((left + start[0] * sx, top + start[1] * sy), (left + end[0] * sx, top + end[1] * sy))


def numbers(page: Page) -> list[int]:
    return [int(page.evaluate(f"byId('{name}').value")) for name in ("x0", "y0", "x1", "y1")]


def command(page: Page) -> str:
    return str(page.evaluate("byId('command').textContent"))


def test_two_frames_are_corrected_in_one_run(page: Page, one: Path, tmp_path: Path) -> None:
    page.open(one)
    found = page.evaluate("[...document.querySelectorAll('.card')].map((c) => data.items[c.dataset.item].index)")
    assert found == [HIDDEN.start, HIDDEN.stop]  # lost, and found again
    ticks = page.evaluate("[...document.querySelectorAll('.card input')].map((input) => input.disabled)")
    assert ticks[0]  # no box is proposed where nothing was found
    page.click(".card .picture")
    draw(page, (60, 20), (90, 61))
    assert numbers(page) == [60, 20, 90, 61]
    page.press("ArrowRight")
    page.press("ArrowDown", "Shift")
    page.press("ArrowLeft", "Control")
    assert numbers(page) == [61, 30, 90, 71]
    page.click("#next")
    draw(page, (42, 26), (70, 54))
    page.press("Escape")
    said, told = run_as_printed(command(page), one.parent.parent, tmp_path)
    assert re.search(
        r"prompt: frame 0: box=26,26,54,54\nprompt: frame 5: box=61,30,90,71\nprompt: frame 8: box=42,", said
    )
    assert told["frames"][HIDDEN.stop]["state"] == "prompted"


def test_of_two_subjects_each_is_corrected(page: Page, two: Path, tmp_path: Path) -> None:
    page.open(two)
    cards = page.evaluate("[...document.querySelectorAll('.card')].map((c) => data.items[c.dataset.item])")
    assert {(card["index"], card["subject"]) for card in cards} == {(5, 0), (8, 0), (8, 1), (10, 1)}
    assert page.evaluate("document.querySelectorAll('header .legend li').length") == 2
    place = next(k for k, card in enumerate(cards) if (card["index"], card["subject"]) == (8, 0))
    page.click(f".card[data-item='{place}'] .picture")
    draw(page, (16, 26), (44, 54))
    page.press("Escape")
    place = next(k for k, card in enumerate(cards) if (card["index"], card["subject"]) == (10, 1))
    page.click(f".card[data-item='{place}'] .set")
    draw(page, (98, 48), (122, 72))
    page.press("Escape")
    assert "--prompt 'the 1st o'\"'\"'clock@8:box=16,26,44,54' --prompt b@10:box=98,48,122,72" in command(page)
    _, told = run_as_printed(command(page), two.parent.parent, tmp_path)
    states = {(f["index"], f["subject"]): f["state"] for f in told["frames"]}
    assert states[8, "the 1st o'clock"] == states[10, "b"] == "prompted"


def test_a_correction_of_the_prompted_frame_takes_its_place(page: Page, one: Path) -> None:
    page.open(one)
    page.click(".strip .picture")
    page.click("#take")
    assert "--box" not in command(page) and command(page).count("--prompt 0:box=") == 1
    page.click("#tick")
    assert command(page) == "" and page.evaluate("byId('box').hidden") is False


def test_the_box_stays_in_the_picture(page: Page, one: Path) -> None:
    page.open(one)
    page.click(".card .picture")
    draw(page, (100, 50), (400, 400))
    assert numbers(page) == [100, 50, SIZE[1], SIZE[0]]
    draw(page, (120, 70), (-900, 60))  # moves it
    assert numbers(page) == [0, 40, 44, 86]
    draw(page, (44, 86), (60, 300))  # its last corner
    assert numbers(page) == [0, 40, 60, SIZE[0]]
    draw(page, (0, 40), (300, 300))  # its first corner, beyond the last
    assert numbers(page) == [58, 94, 60, SIZE[0]]
    page.evaluate("byId('x0').value = -7; byId('x0').dispatchEvent(new Event('change'))")
    assert numbers(page) == [0, 94, 60, SIZE[0]]
    draw(page, (100, 10), (100, 10))  # a click draws nothing
    assert numbers(page) == [0, 94, 60, SIZE[0]]


def test_the_keyboard_is_enough(page: Page, one: Path) -> None:
    page.open(one)
    page.evaluate("document.querySelector('.card .picture').focus()")
    page.press("Enter")
    title = "byId('viewer-title').textContent"
    assert page.evaluate("byId('viewer').open") and page.evaluate(title) == "frame 5 · lost"
    page.press("ArrowRight")
    assert page.evaluate(title) == "frame 8 · recovered"
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    assert page.evaluate(title) == "frame 11 · tracked"  # the last of the strip
    page.press("Escape")
    page.settle()
    assert not page.evaluate("byId('viewer').open")
    assert page.evaluate("data.items[document.activeElement.dataset.item].index") == 11


def test_a_file_of_prompts_says_the_same(two: Path, tmp_path: Path) -> None:
    with browser(downloads=tmp_path) as page:
        page.open(two)
        page.click(".card .picture")
        draw(page, (16, 26), (44, 54))
        page.press("Escape")
        page.click("[data-form=file]")
        page.click("#download")
        file = tmp_path / "corrections.toml"
        for _ in range(100):
            if file.exists():
                break
            page.evaluate("new Promise((done) => setTimeout(done, 50))")
        shown = command(page)
    assert shown.endswith("--prompts corrections.toml --overwrite") and "--prompt " not in shown
    said, _ = run_as_printed(shown, two.parent.parent, tmp_path, file)
    assert "prompt: the 1st o'clock frame 5: box=16,26,44,54" in said and "b frame 0: box=98,48,122,72" in said


def test_names_are_text(page: Page, tmp_path: Path) -> None:
    """A subject and a clip whose names are markup, scripts and shell commands."""
    folder = tmp_path / "folder"
    folder.mkdir()
    clip = plate(folder, "x'`touch y`'<img src=x onerror=alert(1)>.mov", two=True)
    prompts = ("--prompt", f"{HOSTILE}@0:box=16,26,44,54", "--prompt", "b@0:box=98,48,122,72")
    file = matte(folder, clip.name, *prompts, "-o", "both.mov:alpha")
    page.complaints.clear()
    page.requests.clear()
    page.open(file)
    assert page.evaluate("document.querySelector('h1').textContent") == clip.name
    assert page.evaluate("document.querySelector('.legend li').textContent") == HOSTILE
    assert page.evaluate("document.querySelectorAll('[onerror]').length") == 0
    page.click(".card .picture")
    draw(page, (16, 26), (44, 54))
    page.press("Escape")
    run_as_printed(command(page), folder, tmp_path)
    assert not list(tmp_path.rglob("[xy]"))
    assert page.requests == [file.as_uri()] and not page.complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_has_a_name_and_nothing_is_asked_for(page: Page, two: Path, scheme: str) -> None:
    page.complaints.clear()
    page.requests.clear()
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.open(two)
    named = page.names()
    page.click(".strip .picture")
    draw(page, (16, 26), (44, 54))
    named += page.names()
    assert {"spinbutton", "combobox", "button", "checkbox", "link"} <= {role for role, _ in named}
    assert all(name.strip() for _, name in named), named
    assert page.requests == [two.as_uri()] and not page.complaints
    ink, ground = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    dark = sum(map(int, re.findall(r"\d+", ink))) > sum(map(int, re.findall(r"\d+", ground)))
    assert dark == (scheme == "dark")


def test_the_browser_tells_of_requests(page: Page, one: Path, tmp_path: Path) -> None:
    """The checks above can fail: the same page with a picture from elsewhere and an element that is not allowed."""
    file = tmp_path / "page.html"
    file.write_text(one.read_text().replace("</main>", '<img src="http://127.0.0.1:9/x.png" onerror="a()"></main>'))
    page.complaints.clear()
    page.open(file)
    assert any("127.0.0.1:9" in line for line in page.complaints)


def test_it_prints(page: Page, two: Path) -> None:
    page.open(two)
    page.call("Emulation.setEmulatedMedia", media="print")
    shown = "getComputedStyle(document.querySelector('{}')).display"
    assert page.evaluate(shown.format(".actions")) == page.evaluate(shown.format(".rerun")) == "none"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.call("Emulation.setEmulatedMedia", media="")


def test_outputs_are_linked(one: Path) -> None:
    (link,) = re.findall(r'<a href="([^"]*)">', one.read_text())
    assert link == "./../m.mov" and (one.parent / link).resolve().is_file()


def test_links_hold_any_name(tmp_path: Path) -> None:
    """Names with markup, with the form of another address, and with bytes that are no text."""
    for name in ('a"><b>.mov', "javascript:alert(1).mov", "x\udcff.mov"):
        try:
            (tmp_path / name).touch()
        except (OSError, UnicodeError):
            continue  # a file system that does not take such a name
        link = _link(name, tmp_path / name, tmp_path / "report")
        (place,) = re.findall(r'^<a href="(\./\.\./[^":<>]*)">[^<]*</a>$', link)
        assert unquote(place, errors="surrogateescape") == f"./../{name}"


def rendered(folder: Path, records: list[Record], rerun: Rerun | None) -> Path:
    """The page of a run that was not made."""
    with open_clip(plate(folder, "plate.mov")) as reader:
        report = RunReport(reader.info, "fake-colour", {}, "cpu", Settings(), [], records=records, rerun=rerun)
    report.frame_seconds, looks = [0.1] * len(records), Thumbnails()
    for record in records:
        frame = Frame(record.index, record.pts, Fraction(1, 24), np.zeros((*SIZE, 3), np.uint8))
        looks.add(Matted(frame, np.zeros(SIZE, np.float32), record))
    (folder / "report.html").write_text(render(report, looks), encoding="utf-8")
    return folder / "report.html"


def test_a_reliable_box_needs_a_tick_alone(page: Page, tmp_path: Path) -> None:
    records = [Record(i, i, State.TRACKED, Box(10.2, 12, 30, 40.4), 0.9, 0.1) for i in range(5)]
    records.append(Record(5, 5, State.UNCERTAIN, Box(50, 12, 90, 40), 0.5, 0.2))
    page.open(rendered(tmp_path, records, Rerun(("mam-video", "matte", "my plate.mov"))))
    line = "document.querySelector('.card .box').textContent"
    assert page.evaluate(line) == "Box 10, 12, 30, 40, that of frame 4"
    page.click(".card input")
    assert command(page) == "mam-video matte 'my plate.mov' --prompt 5:box=10,12,30,40 --overwrite"
    page.click("#copy")
    page.settle()
    assert page.evaluate("byId('copy').textContent") == "Copied"
    page.click(".card input")
    assert command(page) == "" and "No frame is ticked" in page.evaluate("byId('count').textContent")


def test_views(page: Page, one: Path) -> None:
    """The strip is cut out over a checker at first, a card is tinted; both the strip and the viewer can be switched."""
    page.open(one)
    seen = "getComputedStyle(document.querySelector('{} .matte')).display + getComputedStyle("
    seen += "document.querySelector('{} .plate')).maskImage.slice(0, 8)"
    cut, tinted = 'noneurl("dat', "blocknone"
    assert page.evaluate(seen.replace("{}", ".strip")) == cut
    assert page.evaluate(seen.replace("{}", ".card")) == tinted
    page.click(".along [data-view=tint]")
    assert page.evaluate(seen.replace("{}", ".strip")) == tinted
    page.click(".card .picture")
    page.click("#viewer [data-view=cut]")
    assert page.evaluate(seen.replace("{}", "#large")) == cut
    page.click("#viewer [data-view=plain]")
    assert page.evaluate(seen.replace("{}", "#large")) == "nonenone"


def test_what_cannot_be_corrected_says_why(page: Page, tmp_path: Path) -> None:
    """Masks that came from elsewhere have no prompt; a run from Python has no command, only options to add."""
    records = [Record(0, 0, State.UNCERTAIN, Box(1, 2, 30, 40), 0.5, 0.1)]
    for rerun in (None, Rerun(refused="The masks came from --masks.")):
        page.open(rendered(tmp_path, records, rerun))
        page.click(".card .picture")
        draw(page, (10, 10), (20, 30))
        if rerun is None:
            assert command(page) == "--prompt 0:box=10,10,20,30"
        else:
            assert page.evaluate("byId('rerun') === null && byId('editor').hidden")
            assert page.evaluate("document.querySelector('.refused').textContent") == rerun.refused
