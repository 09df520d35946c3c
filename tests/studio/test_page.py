"""The page in a real browser: from the first box to the report, and the same bytes from a terminal."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

for package in ("httpx", "playwright.sync_api", "starlette", "uvicorn", "websockets"):
    pytest.importorskip(package)

import av
import cv2
import httpx
import numpy as np

from mam_video import Settings, load_model, matte_frames, open_clip
from mam_video.cli.main import main
from mam_video.studio.project import folder_of
from mam_video.testing.studio_page import BROWSERS, StudioPage, browser_program, opened_studio

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "rabbit.mp4"
FRAMES = 10
BOX = (84, 11, 174, 178)  # of the rabbit in the small copy
SIZE = (200, 356)  # (H, W) of the copy


def small_copy(path: Path, count: int = FRAMES) -> Path:
    """Write frames of the sample in small, so that the test is quick."""
    with av.open(str(SAMPLE)) as source, av.open(str(path), "w") as target:
        stream: Any = target.add_stream("libx264", rate=25, options={"crf": "8", "g": "5"})
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for k, frame in enumerate(source.decode(video=0)):
            if k == count:
                break
            picture = frame.reformat(SIZE[1], SIZE[0], "yuv420p")
            picture.pts, picture.time_base = k, Fraction(1, 25)
            target.mux(stream.encode(picture))
        target.mux(stream.encode(None))
    return path


def matte(studio: StudioPage, frame: int, query: str = "", shot: int = 0) -> np.ndarray:
    """The matte as the browser gets it, (H, W) uint8."""
    data = studio.value(
        f"fetch('/api/{shot}/matte/{frame}?size=full{query}').then((a) => a.arrayBuffer())"
        ".then((b) => Array.from(new Uint8Array(b)))"
    )
    picture = cv2.imdecode(np.array(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (*SIZE, 4)
    return np.asarray(picture[..., 3])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_copy(tmp_path_factory.mktemp("page") / "plate.mp4")


@pytest.fixture(scope="module")
def opened(clip: Path) -> Iterator[StudioPage]:
    if browser_program() is None:
        pytest.skip(f"no Chromium here: none of {', '.join(BROWSERS)} is on the PATH")
    with opened_studio(clip) as studio:
        yield studio
        assert studio.complaints == []


def alpha_of(clip: Path, frame: int, prompt: Any, change: Callable[[Settings], Settings] = lambda s: s) -> np.ndarray:
    """What the library makes of one frame, (H, W) uint8."""
    settings = change(Settings())
    with open_clip(clip) as reader:
        (picture,) = reader.frames(frame, frame + 1)
    (matted,) = matte_frames([picture], prompt, load_model(settings.model), settings)
    return np.rint(matted.alpha * 255).astype(np.uint8)


# The tests follow each other on one page, as an artist's work does.


def test_a_box_is_matted_and_tracked(opened: StudioPage, clip: Path) -> None:
    page = opened.page
    assert "Drag a box" in page.locator("#hint").text_content()
    assert page.locator("#track").is_disabled() and page.url.endswith("/")  # the token is not in the address

    opened.drag(BOX)
    opened.until("studio.data.stills.get(0) === 1 && studio.ready()")
    box = tuple(opened.value("studio.data.at.state.prompts[0].box"))
    assert np.abs(np.subtract(box, BOX)).max() < 1.5
    seen, right = matte(opened, 0), alpha_of(clip, 0, box)
    assert np.abs(seen.astype(int) - right).max() <= 1 and seen.max() == 255

    page.click("#track")
    opened.until("studio.data.at.version?.number === 1 && !studio.data.at.running")
    opened.until(f"studio.data.records.size === {FRAMES}")


def test_a_correction_is_compared_and_taken_back(opened: StudioPage) -> None:
    page, tracked = opened.page, matte(opened, 6)
    opened.go(6)
    before = {k: matte(opened, k) for k in (0, 3, 9)}
    page.keyboard.down("Alt")
    page.mouse.click(*opened.screen(130, 160))
    page.keyboard.up("Alt")
    opened.until("studio.data.stills.get(6) === 1 && studio.ready()")
    pointed = opened.value("studio.data.at.state.prompts.at(-1)")
    assert pointed["frame"] == 6 and pointed["box"] and pointed["points"][0][2] is False
    assert page.locator("#track").text_content() == "Correct"
    page.click("#track")
    opened.until("studio.data.at.version?.number === 2 && !studio.data.at.running")
    opened.until(f"studio.data.records.size === {FRAMES}")
    np.testing.assert_array_equal(matte(opened, 0, "&version=2"), before[0])

    page.select_option("#compare", "1")
    opened.until("studio.ready()")
    np.testing.assert_array_equal(matte(opened, 6, "&version=1"), tracked)
    page.select_option("#compare", "")

    page.click("#undo")
    opened.until("studio.data.at.version?.number === 1")
    page.click("#undo")
    opened.until("studio.data.at.state.prompts.length === 1 && studio.data.at.version.current")
    np.testing.assert_array_equal(matte(opened, 6), tracked)
    page.click("#redo")
    page.click("#redo")
    opened.until("studio.data.at.version?.number === 2 && studio.data.at.version.current")


def test_a_run_gives_the_bytes_of_its_command_line(
    opened: StudioPage, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = opened.page
    page.click("#tab-finish")
    plain = matte(opened, 3)
    page.fill("#edge-choke", "2")
    page.press("#edge-choke", "Enter")
    opened.until("studio.data.at.state.values.finish?.choke === 2")
    assert matte(opened, 3).astype(int).sum() < plain.astype(int).sum()

    page.click("#tab-run")
    page.click("#run")
    opened.until("['done', 'flagged', 'failed'].includes(studio.data.desk.runs[0]?.how)")
    run = opened.value("studio.data.desk.runs[0]")
    assert run["how"] in ("done", "flagged"), run
    output = clip.with_name("plate.matte.mov")
    opened.until("studio.data.at.report")
    with page.context.expect_page() as report:
        page.click("#last-report")
    report.value.wait_for_load_state()
    assert "plate" in report.value.title() or "plate" in report.value.content()
    report.value.close()

    shown = page.locator("#command").text_content()
    assert shown == run["command"]
    there = output.with_name("there")
    there.mkdir()
    words = [word.replace(str(output), str(there / output.name)) for word in shlex.split(shown)]
    words[words.index("--report") + 1] = str(there / "report")
    assert words[0] == "mam-video" and main(words[1:]) == 0
    capsys.readouterr()
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (output, there / output.name)]
    assert digests[0] == digests[1]


def test_a_page_that_is_opened_again_shows_the_same(opened: StudioPage) -> None:
    before = opened.value("JSON.stringify(studio.data.at)")
    opened.page.reload()
    opened.until("window.studio && studio.ready()")
    after, known = json.loads(opened.value("JSON.stringify(studio.data.at)")), json.loads(before)
    assert after == known


def test_keys_move_and_look(opened: StudioPage) -> None:
    page = opened.page
    page.locator("#picture").focus()
    for key, frame in (("End", FRAMES - 1), ("Home", 0), ("ArrowRight", 1), ("Shift+ArrowRight", 9), ("ArrowLeft", 8)):
        page.keyboard.press(key)
        opened.until(f"studio.data.frame === {frame}")
    for key, view in (("1", "plate"), ("3", "alpha"), ("4", "over"), ("2", "outline")):
        page.keyboard.press(key)
        assert opened.value("studio.data.view") == view
    page.keyboard.press("Home")
    page.keyboard.press("l")
    opened.until(f"studio.data.frame === {FRAMES - 1} && studio.data.speed === 0")
    page.keyboard.press("j")
    opened.until("studio.data.frame === 0 && studio.data.speed === 0")
    opened.go(2)
    page.keyboard.press("[")
    opened.until("studio.data.at.state.span?.[0] === 2")
    page.keyboard.press("Control+z")
    opened.until("studio.data.at.state.span === null")
    assert page.locator("#timeline").get_attribute("aria-valuenow") == "2"


def test_pixels_are_told_as_the_plate_has_them(opened: StudioPage, clip: Path) -> None:
    opened.go(0)
    opened.page.mouse.move(*opened.screen(120.5, 60.5))
    opened.until("document.getElementById('pixel').textContent.startsWith('x 120 y 60')")
    told = opened.page.locator("#pixel").text_content()
    with open_clip(clip) as reader:
        (frame,) = reader.frames(0, 1)
    most = 255 if frame.rgb.dtype == np.uint8 else 65535
    assert " ".join(f"{v / most:.3f}" for v in frame.rgb[60, 120]) in told and " A " in told


def workers_of(server: int) -> list[int]:
    """The processes that a server has started."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and (each / "stat").exists():
            fields = (each / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == server and fields[0] != "Z":
                found.append(int(each.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to find the workers in")
def test_a_killed_model_is_told_and_survived(opened: StudioPage) -> None:
    known = opened.value("studio.data.at.state")
    opened.go(4)
    killed = workers_of(opened.server.pid)
    assert len(killed) == 2
    opened.page.click("#tab-point")
    opened.drag((BOX[0], BOX[1] + 8, BOX[2], BOX[3]))
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    opened.until("studio.data.stills.get(4) >= 1")
    if "process ended" in opened.page.locator("#banner").text_content():
        opened.page.mouse.click(*opened.screen(130, 100))
        opened.until("studio.data.stills.get(4) >= 2 && studio.ready()")
    prompt = opened.value("studio.data.at.state.prompts.find((p) => p.frame === 4)")
    assert matte(opened, 4).max() == 255 and prompt["box"]
    assert not set(workers_of(opened.server.pid)) & set(killed)
    for _ in range(4):
        if opened.value("studio.data.at.state") != known:
            opened.page.click("#undo")
            time.sleep(0.5)
    assert opened.value("studio.data.at.state") == known


def test_every_control_has_a_name(opened: StudioPage) -> None:
    nameless = opened.value(
        "[...document.querySelectorAll('button, input, select, canvas, progress')].filter((e) => "
        "!(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim() || e.title))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []


def test_nothing_is_asked_of_elsewhere(opened: StudioPage, clip: Path) -> None:
    asked: list[str] = []
    opened.page.on("request", lambda request: asked.append(request.url))
    opened.page.reload()
    opened.until("window.studio && studio.ready()")
    base = opened.page.url.rstrip("/")
    assert asked and all(url.startswith((base, f"blob:{base}", base.replace("http", "ws"))) for url in asked)
    # A page of another origin gets nothing, even in the browser that has the cookie.
    stranger = opened.page.context.new_page()
    port = base.rpartition(":")[2]
    stranger.goto(f"http://localhost:{port}/api/0/state")  # another site to the browser: its cookie is not sent
    assert "open the address" in stranger.content()
    stranger.close()
    assert httpx.get(f"{base}/api/0/state").status_code == 403
    assert folder_of(clip).is_dir()
