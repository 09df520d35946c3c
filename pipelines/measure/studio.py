"""Measure the page of `mam-video studio` in headless Chromium, and make its pictures for the docs.

    python pipelines/measure/studio.py latency [CLIP --box X0,Y0,X1,Y1]    # clicks, frame steps, long tasks in a run
    python pipelines/measure/studio.py memory CLIP [--steps 2000]          # opening, and memory over all frames
    python pipelines/measure/studio.py pictures FOLDER                     # docs/pictures/studio-*.webp, of the sample

Times are taken in the page, from the event to the picture that is drawn. Memory is what Linux says of the server and of
Chromium's process for the page (resident, with what processes share). Needs the extras `studio` and `dev` and Chromium.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from PIL import Image

ROOT: Final = Path(__file__).resolve().parents[2]
SAMPLE: Final = ROOT / "samples" / "rabbit.mp4"
SAMPLE_BOX: Final = (300.0, 40.0, 615.0, 630.0)
_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
# From a frame step to its picture, in milliseconds, for frames that are fetched.
_WATCH: Final = """() => {
  window.tasks = [];
  const watch = (list) => window.tasks.push(...list.getEntries().map((each) => each.duration));
  new PerformanceObserver(watch).observe({ entryTypes: ['longtask'] });
}"""
_STEP: Final = """async (count) => {
  const times = [];
  for (let k = 0; k < count; k++) {
    const key = k % 8 < 4 ? 'ArrowRight' : 'ArrowLeft';
    const from = performance.now();
    document.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    const wanted = studio.data.frame;
    while (studio.shown?.frame !== wanted || studio.shown.at < from) await new Promise((r) => setTimeout(r, 0));
    times.push(studio.shown.at - from);
    await new Promise((r) => setTimeout(r, 60));
  }
  return times;
}"""


class Page:
    """The page in a browser and its server."""

    def __init__(self, page: Any, server: subprocess.Popen[str]) -> None:
        self.page, self.server = page, server

    def value(self, expression: str, given: Any = None) -> Any:
        return self.page.evaluate(expression, given)

    def until(self, expression: str, seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while not self.value(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.02)

    def screen(self, x: float, y: float) -> tuple[float, float]:
        left, top, scale, px, py = self.value(
            "(() => { const r = document.getElementById('picture').getBoundingClientRect(); const p = studio.place;"
            " return [r.left, r.top, p.scale, p.x, p.y]; })()"
        )
        return left + px + x * scale, top + py + y * scale

    def drag(self, box: tuple[float, ...]) -> None:
        mouse, end = self.page.mouse, self.screen(box[2], box[3])
        mouse.move(*self.screen(box[0], box[1]))
        mouse.down()
        mouse.move(end[0] - 20, end[1] - 20)
        mouse.move(*end)
        mouse.up()

    def go(self, frame: int) -> None:
        self.page.fill("#frame", str(frame))
        self.page.press("#frame", "Enter")
        self.page.locator("#picture").focus()
        self.until(f"studio.data.frame === {frame} && studio.ready()")


@contextmanager
def opened(
    clip: Path, size: tuple[int, int] = (1280, 720), scheme: Literal["dark", "light"] = "dark"
) -> Iterator[Page]:
    """Open a copy of a clip, so that its project is new."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        sys.exit("no Chromium on the PATH")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playing:
        plate = Path(folder) / "plate.mp4"
        plate.symlink_to(clip.absolute()) if clip != SAMPLE else shutil.copy(clip, plate)
        start = time.perf_counter()
        command = [sys.executable, "-m", "mam_video", "studio", str(plate), "--no-browser"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        ready = time.perf_counter() - start
        browser = playing.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = Page(browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme), server)
        start = time.perf_counter()
        page.page.goto(found[0])
        page.until("window.studio?.shown")
        print(f"opened: server {ready:.2f} s, page with its first frame {time.perf_counter() - start:.2f} s")
        try:
            yield page
        finally:
            browser.close()
            server.terminate()
            server.wait(20)


def latency(clip: Path, box: tuple[float, ...]) -> None:
    """Measure the first mattes, frame steps, and long tasks while a range is tracked."""
    with opened(clip) as page:
        page.until("studio.data.model === ''")
        times, spent = [], []
        for k in range(5):
            before = _cpu_seconds()
            page.value(
                "() => { addEventListener('pointerup', () => { window.begun = performance.now(); }, { once: true }); }"
            )
            page.drag((box[0] - 16 * (k % 2), box[1] - 3 * k, box[2] + 16 * (k % 2), box[3]))
            page.until(f"studio.shown?.stills === {k + 1}")
            times.append(page.value("studio.shown.at - window.begun"))
            spent.append((_cpu_seconds() - before) * 1000)
        print("box to matte: " + ", ".join(f"{t:.0f}" for t in times) + " ms")
        print("  CPU time of all processes in it: " + ", ".join(f"{t:.0f}" for t in spent) + " ms")
        page.until("studio.data.desk && studio.ready()")
        time.sleep(3)  # the frames around are fetched
        told("frame step, nothing running", page.value(_STEP, 40))
        page.value(_WATCH)
        page.page.click("#track")
        page.until("studio.data.live.size > 1")
        told("frame step, while tracking", page.value(_STEP, 40))
        page.until("studio.data.at.version && !studio.data.at.running")
        tasks = page.value("window.tasks")
        worst = f", the longest {max(tasks):.0f} ms" if tasks else ""
        print(f"tasks of the page over 50 ms while tracking: {len(tasks)}{worst}")


def _cpu_seconds() -> float:
    """CPU time so far of all processes below this one: server, workers and browser."""
    parents, spent = {}, {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                fields = (each / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(each.name)], spent[int(each.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    below = {os.getpid()}
    for _ in range(8):
        below |= {pid for pid, parent in parents.items() if parent in below}
    return sum(spent[pid] for pid in below if pid != os.getpid()) / os.sysconf("SC_CLK_TCK")


def told(what: str, times: list[float]) -> None:
    """Print the median, the 95th percentile and the largest of times in milliseconds."""
    ordered = sorted(times)
    print(f"{what}: median {statistics.median(times):.0f} ms, 95 % {ordered[int(len(ordered) * 0.95)]:.0f} ms, "
          f"largest {ordered[-1]:.0f} ms, of {len(times)}")  # fmt: skip


def memory(clip: Path, steps: int) -> None:
    """See every frame in order, then frames here and there, and print memory on the way."""
    with opened(clip) as page:
        count = page.value("studio.data.at.count")
        begin = time.perf_counter()
        page.until("studio.data.at.indexed === studio.data.at.count")
        print(f"the whole clip was read in the background {time.perf_counter() - begin:.1f} s after that")
        begin = time.perf_counter()
        for k in range(steps):
            page.value(f"document.getElementById('frame').value = {k % count}, "
                       "document.getElementById('frame').dispatchEvent(new Event('change'))")  # fmt: skip
            page.until(f"studio.shown?.frame === {k % count}")
            if k in (steps // 10, steps // 4, steps // 2, steps - 1):
                resident = {"server": _resident(page.server.pid), "page": _renderer(page)}
                print(f"after {k + 1} frames: " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in resident.items()))
        print(f"{steps / (time.perf_counter() - begin):.1f} frames a second, each waited for")


def _resident(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


def _renderer(page: Page) -> float:
    """Resident memory of the largest renderer of the browser that this process started, in MiB."""
    found = [0.0]
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                command = (each / "cmdline").read_bytes()
                if b"--type=renderer" in command and b"playwright" in command:
                    found.append(_resident(int(each.name)))
            except (OSError, IndexError):
                continue
    return max(found)


def pictures(folder: Path) -> None:
    """Make the pictures of docs/studio.md."""
    folder.mkdir(parents=True, exist_ok=True)

    def save(page: Page, name: str) -> None:
        page.until("studio.ready()")
        time.sleep(0.6)
        path = folder / f"studio-{name}.png"
        page.page.screenshot(path=path)
        Image.open(path).convert("RGB").save(path.with_suffix(".webp"), quality=80, method=6)
        path.unlink()
        print(path.with_suffix(".webp"))

    with opened(SAMPLE) as page:
        page.until("studio.data.model === ''")
        save(page, "first")
        page.drag(SAMPLE_BOX)
        page.until("studio.data.stills.get(0) === 1")
        page.page.mouse.click(*page.screen(430, 90))
        page.until("studio.data.stills.get(0) === 2")
        save(page, "point")
        page.page.click("#track")
        page.until("studio.data.at.version && !studio.data.at.running")
        page.until("studio.data.records.size === 23")
        page.go(12)
        page.page.mouse.click(*page.screen(320, 153))
        page.until("studio.data.stills.get(12) === 1")
        page.page.click("#track")
        page.until("studio.data.at.running")
        page.until("studio.data.at.version?.number === 2 && !studio.data.at.running")
        page.page.select_option("#compare", "1")
        page.value("() => { studio.data.wipe = 0.33; }")
        save(page, "correct")
        page.page.select_option("#compare", "")
        page.page.click("#tab-finish")
        page.page.fill("#edge-choke", "1.5")
        page.page.press("#edge-choke", "Enter")
        page.until("studio.data.at.state.values.finish?.choke === 1.5")
        save(page, "finish")
        page.page.click("#tab-run")
        page.page.click("#run")
        page.until("(studio.data.desk.runs[0]?.progress.done ?? 0) > 2")
        save(page, "run")
    with opened(SAMPLE, scheme="light") as page:
        page.until("studio.data.model === ''")
        page.drag((560.0, 380.0, 660.0, 460.0))
        page.until("studio.data.stills.get(0) === 1")
        page.page.click("#track")
        page.until("studio.data.at.version && !studio.data.at.running")
        page.until("studio.data.records.size === 23")
        page.page.locator("#picture").focus()
        page.page.keyboard.press("n")
        save(page, "flagged")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("latency", "memory", "pictures"))
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--box", default=",".join(map(str, SAMPLE_BOX)))
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    if options.what == "latency":
        latency(options.path or SAMPLE, tuple(map(float, options.box.split(","))))
    elif options.path is None:
        parser.error("name a clip, or a folder for the pictures")
    elif options.what == "memory":
        memory(options.path, options.steps)
    else:
        pictures(options.path)


if __name__ == "__main__":
    main()
