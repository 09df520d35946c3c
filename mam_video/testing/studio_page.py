"""The page of `mam-video studio` in a headless Chromium, for tests and measurements: its server, mouse and pictures.

Needs the extras `studio` and `dev`, and Chromium on the PATH.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS: Final = ("--no-sandbox", "--disable-gpu")
_PLACE: Final = """(() => {
  const r = document.getElementById('picture').getBoundingClientRect();
  const p = studio.place;
  return [r.left, r.top, p.scale, p.x, p.y];
})()"""


def browser_program() -> str | None:
    """Return the path of a Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class StudioPage:
    """A page that is open, and its server.

    page       Playwright's page
    server     the process of `mam-video studio`
    complaints what the page wrote to its console as an error
    opening    seconds until the server said its address, and from there until the first frame was drawn
    """

    def __init__(self, page: Page, server: subprocess.Popen[str]) -> None:
        self.page, self.server = page, server
        self.complaints: list[str] = []
        self.opening = (0.0, 0.0)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def value(self, expression: str, given: Any = None) -> Any:
        """Return what an expression is in the page."""
        return self.page.evaluate(expression, given)

    def until(self, expression: str, seconds: float = 600) -> None:
        """Wait for an expression to be true. (The page's policy forbids Playwright's own way, which is eval.)

        Raises: TimeoutError, with what the page says is wrong.
        """
        end = time.monotonic() + seconds
        while not self.value(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression}: {self.page.locator('#banner').text_content()}")
            time.sleep(0.02)

    def screen(self, x: float, y: float) -> tuple[float, float]:
        """Return where a place of the plate, in pixels, is in the window."""
        left, top, scale, px, py = self.value(_PLACE)
        return left + px + x * scale, top + py + y * scale

    def drag(self, box: Sequence[float]) -> None:
        """Draw a box, x0, y0, x1, y1 in pixels of the plate, with the mouse."""
        mouse, end = self.page.mouse, self.screen(box[2], box[3])
        mouse.move(*self.screen(box[0], box[1]))
        mouse.down()
        mouse.move(end[0] - 20, end[1] - 20)
        mouse.move(*end)
        mouse.up()

    def go(self, frame: int) -> None:
        """Show a frame and wait for its pictures."""
        self.page.fill("#frame", str(frame))
        self.page.press("#frame", "Enter")
        self.page.locator("#picture").focus()
        self.until(f"studio.data.frame === {frame} && studio.ready()")


def start_server(source: Path, more: Sequence[str] = ()) -> tuple[subprocess.Popen[str], str]:
    """Start `mam-video studio SOURCE` with more options; return its process and the address that it says.

    Raises: RuntimeError, it ended without one.
    """
    command = [sys.executable, "-m", "mam_video", "studio", str(source), "--no-browser", *more]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    found = re.search(r"http://\S+", server.stdout.readline())
    if found is None:
        server.stdout.close()
        raise RuntimeError(f"mam-video studio {source} ended with exit code {server.wait(20)}")
    return server, found[0]


def end_server(server: subprocess.Popen[str]) -> None:
    """End a server as Ctrl-C does, and wait for it."""
    server.terminate()
    server.wait(20)
    if server.stdout is not None:
        server.stdout.close()


@contextmanager
def opened_studio(
    source: Path,
    *,
    size: tuple[int, int] = (1280, 720),
    scheme: Literal["dark", "light"] = "dark",
    more: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> Iterator[StudioPage]:
    """Open the page of a clip or a folder in a new browser, and end both.

    Args:
        size: (width, height) of the window.
        more: options of `mam-video studio`.
        flags: of Chromium.
    Raises: RuntimeError, there is no Chromium, or the server ends.
    """
    from playwright.sync_api import sync_playwright

    program = browser_program()
    if program is None:
        raise RuntimeError(f"no Chromium here: none of {', '.join(BROWSERS)} is on the PATH")
    begin = time.perf_counter()
    server, address = start_server(source, more)
    ready = time.perf_counter() - begin
    try:
        with sync_playwright() as playing:
            browser = playing.chromium.launch(executable_path=program, args=[*_FLAGS, *flags])
            context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
            studio = StudioPage(context.new_page(), server)
            begin = time.perf_counter()
            studio.page.goto(address)
            studio.until("window.studio?.shown")
            studio.opening = (ready, time.perf_counter() - begin)
            yield studio
            browser.close()
    finally:
        end_server(server)
