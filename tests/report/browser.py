"""A headless Chromium, where the machine has one: its mouse, its keys, and what a page asks for and complains of.

It is driven through the DevTools protocol over two pipes, which needs no package and no port.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from mam_video.testing.studio_page import BROWSERS, browser_program

_TIMEOUT: Final = 200  # seconds for an answer
_FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe", "--hide-scrollbars",
)  # fmt: skip
# Chromium reads commands from its descriptor 3 and writes answers to 4.
_START: Final = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_KEYS: Final = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27, "Tab": 9, "Enter": 13}
_MODIFIERS: Final = {"Control": 2, "Shift": 8}


class Page:
    """A page that is open. `requests` are the addresses that it asked for, but for itself and data of its own."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = reading, writing
        self._buffer, self._number, self._session = b"", 0, ""
        self._loaded = False
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def attach(self, size: tuple[int, int], folder: Path) -> None:
        """Open an empty page of `size` (width, height); downloads go to `folder`."""
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )

    def open(self, file: Path) -> None:
        """Load a file and wait until it is there."""
        self._loaded = False
        self.call("Page.navigate", url=file.as_uri())
        while not self._loaded:
            self._receive(time.monotonic() + _TIMEOUT)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result. Raises: AssertionError, it failed."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _TIMEOUT
        while (answer := self._receive(deadline)).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    def evaluate(self, script: str) -> Any:
        """Return what an expression is in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, f"{script}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def place_of(self, selector: str) -> tuple[float, float, float, float]:
        """Scroll an element into sight; return its left, top, right and bottom edge in the window."""
        script = f"""(() => {{ const found = document.querySelector({json.dumps(selector)});
            found.scrollIntoView({{block: "center"}}); const r = found.getBoundingClientRect();
            return [r.left, r.top, r.right, r.bottom]; }})()"""
        left, top, right, bottom = self.evaluate(script)
        return left, top, right, bottom

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        left, top, right, bottom = self.place_of(selector)
        at = (left + right) / 2, (top + bottom) / 2
        self.drag(at, at)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at one place of the window and release it at another."""
        x, y = start
        self._mouse("mouseMoved", x, y, 0)
        self._mouse("mousePressed", x, y, 1)
        if start != end:
            self._mouse("mouseMoved", (x + end[0]) / 2, (y + end[1]) / 2, 1)
            self._mouse("mouseMoved", *end, 1)
        self._mouse("mouseReleased", *end, 0)

    def press(self, key: str, *modifiers: str) -> None:
        """Press and release a key."""
        more = {"modifiers": sum(_MODIFIERS[name] for name in modifiers), "windowsVirtualKeyCode": _KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        kind = "keyDown" if text else "rawKeyDown"
        self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **text, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, **more)

    def settle(self) -> None:
        """Wait until the events that are due have been handled."""
        self.evaluate("new Promise((done) => setTimeout(done))")

    def names(self) -> list[tuple[str, str]]:
        """Return role and name of everything that the keyboard can reach, as a screen reader is told them."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored")
            and any(p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", []))
            and node["role"]["value"] != "RootWebArea"
        ]

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """Save what is seen, or the whole page, as PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))

    def _mouse(self, kind: str, x: float, y: float, buttons: int) -> None:
        button = "none" if kind == "mouseMoved" and not buttons else "left"
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons,
            clickCount=0 if kind == "mouseMoved" else 1,
        )  # fmt: skip

    def _receive(self, deadline: float) -> dict[str, Any]:
        """Return the next message, and remember what it tells."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reading], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "Chromium does not answer"
            part = os.read(self._reading, 1 << 20)
            assert part, "Chromium has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(json.dumps(told["args"]))
        elif method == "Network.requestWillBeSent" and not told["request"]["url"].startswith(("data:", "blob:")):
            self.requests.append(told["request"]["url"])


@contextmanager
def browser(*, size: tuple[int, int] = (1400, 900), downloads: Path | None = None) -> Iterator[Page]:
    """Start a browser and give its page. Skips the test where there is no Chromium."""
    program = browser_program()
    if program is None:
        pytest.skip(f"no Chromium here: none of {', '.join(BROWSERS)} is on the PATH")
    if os.name == "nt":
        pytest.skip("Chromium is driven over pipes that Windows cannot hand to it")
    with ExitStack() as stack:
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        theirs, ours, reading, writing = (_high(fd) for pair in (os.pipe(), os.pipe()) for fd in pair)
        command = [
            sys.executable,
            "-c",
            _START,
            str(theirs),
            str(writing),
            program,
            *_FLAGS,
            f"--user-data-dir={profile}",
        ]
        process = subprocess.Popen(
            command, pass_fds=(theirs, writing), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(_end, process)
        for fd in (theirs, writing):
            os.close(fd)
        for fd in (ours, reading):
            stack.callback(os.close, fd)
        page = Page(reading, ours)
        page.attach(size, downloads or Path(profile))
        yield page


def _high(fd: int) -> int:
    """Move a descriptor beyond those that Chromium uses."""
    import fcntl  # there is none on Windows

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return moved


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
