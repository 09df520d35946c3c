"""Measure the page of `mam-video studio` in headless Chromium, and make its pictures for the docs.

    python pipelines/measure/studio.py latency [CLIP --box X0,Y0,X1,Y1]    # clicks, frame steps, long tasks in a run
    python pipelines/measure/studio.py memory [CLIP] [--steps 2000]        # opening, and memory over all frames
    python pipelines/measure/studio.py pictures FOLDER                     # docs/pictures/studio-*.webp, of the sample

Times are taken in the page, from the event to the picture that is drawn. Memory is what Linux says of the server and of
Chromium's process for the page (resident, with what processes share). Needs the extras `studio` and `dev` and Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from memory import write_plate
from PIL import Image

from mam_video.testing.studio_page import StudioPage, opened_studio

ROOT: Final = Path(__file__).resolve().parents[2]
SAMPLE: Final = ROOT / "samples" / "rabbit.mp4"
SAMPLE_BOX: Final = (300.0, 40.0, 615.0, 630.0)
PLATE_BOX: Final = (700.0, 325.0, 1140.0, 765.0)  # of the disc that `write_plate` draws
# What of a trace tells the tasks of the page's main thread, with their CPU time.
_TRACED: Final = ("toplevel", "devtools.timeline")
# From a frame step to its picture, in milliseconds, for frames that are fetched.
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


@contextmanager
def opened(clip: Path, scheme: Literal["dark", "light"] = "dark") -> Iterator[StudioPage]:
    """Open a copy of a clip, so that its project is new."""
    with tempfile.TemporaryDirectory() as folder:
        plate = Path(folder) / f"plate{clip.suffix}"
        plate.symlink_to(clip.absolute()) if clip != SAMPLE else shutil.copy(clip, plate)
        try:
            with opened_studio(plate, scheme=scheme) as studio:
                print("opened: server {:.2f} s, page with its first frame {:.2f} s".format(*studio.opening))
                yield studio
        except RuntimeError as error:
            sys.exit(str(error))


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
        browser = page.page.context.browser
        assert browser is not None
        browser.start_tracing(page=page.page, categories=list(_TRACED))
        page.page.click("#track")
        page.until("studio.data.live.size > 1")
        told("frame step, while tracking", page.value(_STEP, 40))
        page.until("studio.data.at.version && !studio.data.at.running")
        told_tasks(browser.stop_tracing())


def told_tasks(trace: bytes) -> None:
    """Print how long the tasks of the page's main thread were, by the clock and in CPU time."""
    events = json.loads(trace)["traceEvents"]
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        (event["dur"] / 1000, event.get("tdur", 0) / 1000)
        for event in events
        if event["name"] == "ThreadControllerImpl::RunTask"
        and event["ph"] == "X"
        and (event["pid"], event["tid"]) in mains
    ]
    wall, spent = zip(*tasks, strict=True)
    for what, times in (("by the clock", wall), ("of CPU time", spent)):
        over = sum(time > 50 for time in times)
        print(f"tasks of the page while tracking: {over} over 50 ms {what}, the longest {max(times):.0f} ms")


def below(process: int) -> set[int]:
    """The processes that a process has started, and those that they have."""
    parents = {pid: parent for pid, (parent, _) in _processes().items()}
    found = {process}
    for _ in range(8):
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found - {process}


def _cpu_seconds() -> float:
    """CPU time so far of all processes below this one: server, workers and browser."""
    spent = _processes()
    return sum(spent[pid][1] for pid in below(os.getpid()) if pid in spent) / os.sysconf("SC_CLK_TCK")


def _processes() -> dict[int, tuple[int, int]]:
    """Parent and ticks of CPU time of every process of the machine."""
    found = {}
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                fields = (each / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found[int(each.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    return found


def told(what: str, times: list[float]) -> None:
    """Print the median, the 95th percentile and the largest of times in milliseconds."""
    ordered = sorted(times)
    print(f"{what}: median {statistics.median(times):.0f} ms, 95 % {ordered[int(len(ordered) * 0.95)]:.0f} ms, "
          f"largest {ordered[-1]:.0f} ms, of {len(times)}")  # fmt: skip


def memory(clip: Path, steps: int, box: tuple[float, ...], tracked: int) -> None:
    """See every frame in order, then track the first frames while they are looked at; print memory on the way."""
    with opened(clip) as studio:
        count = studio.value("studio.data.at.count")
        begin = time.perf_counter()
        studio.until("studio.data.at.indexed === studio.data.at.count")
        print(f"the whole clip was read in the background {time.perf_counter() - begin:.1f} s after that")
        studio.until("studio.data.model === ''")
        table = MemoryTable(studio)
        begin = time.perf_counter()
        moments = {round(share * steps) for share in (0.05, 0.1, 0.25, 0.5, 0.75, 1)}
        for k in range(1, steps + 1):
            look(studio, (k - 1) % count)
            if k in moments:
                table.row(f"{k} frames seen")
        print(f"{steps / (time.perf_counter() - begin):.1f} frames a second, each waited for")
        if tracked:
            track_and_look(studio, box, min(tracked, count), table)


def look(studio: StudioPage, frame: int) -> None:
    """Show a frame and wait for its picture."""
    studio.value(
        f"document.getElementById('frame').value = {frame}, "
        "document.getElementById('frame').dispatchEvent(new Event('change'))"
    )
    studio.until(f"studio.shown?.frame === {frame}")


def track_and_look(studio: StudioPage, box: tuple[float, ...], frames: int, table: MemoryTable) -> None:
    """Track the first frames, look at each when it is done, and print memory on the way."""
    studio.go(frames - 1)
    studio.page.keyboard.press("]")
    studio.until("studio.data.at.state.span !== null || studio.data.at.count === studio.data.frame + 1")
    studio.go(0)
    studio.drag(box)
    studio.until("studio.data.stills.get(0) === 1")
    table.row("first matte")
    studio.page.click("#track")
    studio.until("studio.data.at.running")
    moments = sorted({round(share * frames) for share in (0.1, 0.25, 0.5, 0.75, 0.95)})
    while studio.value("studio.data.at.running !== null"):
        done = studio.value("studio.data.live.size")
        look(studio, max(done - 1, 0))
        if moments and done >= moments[0]:
            table.row(f"{moments.pop(0)} frames matted")
    studio.until("studio.data.records.size > 0")
    for frame in range(frames):
        look(studio, frame)
    table.row(f"all {frames} mattes seen")


class MemoryTable:
    """Prints resident memory of the processes and the heap of the page, a row for each moment."""

    def __init__(self, studio: StudioPage) -> None:
        self._studio = studio
        self._devtools = studio.page.context.new_cdp_session(studio.page)
        self._devtools.send("Performance.enable")
        print("MiB                     server   clicks  tracker  renderer   JS heap   decoded")

    def row(self, moment: str) -> None:
        """Print what Linux and Chromium say now. The page's garbage is collected before."""
        self._devtools.send("HeapProfiler.collectGarbage")
        heap = {each["name"]: each["value"] for each in self._devtools.send("Performance.getMetrics")["metrics"]}
        server = self._studio.server.pid
        workers = [pid for pid in sorted(below(server)) if b"studio.worker" in _command(pid)]
        hand = sum(resident(pid) for pid in workers if b"--background" not in _command(pid))
        tracker = sum(resident(pid) for pid in workers if b"--background" in _command(pid))
        renderer = max((resident(pid) for pid in below(os.getpid()) if b"--type=renderer" in _command(pid)), default=0)
        held = self._studio.value("studio.pictures.bytesHeld()") / 2**20
        print(f"{moment:22}{resident(server):8.0f} {hand:8.0f} {tracker:8.0f}  {renderer:8.0f}  "
              f"{heap['JSHeapUsedSize'] / 2**20:8.1f}  {held:8.0f}", flush=True)  # fmt: skip


def resident(pid: int) -> float:
    """Resident memory of a process in MiB; 0 where it has ended."""
    try:
        found = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[0]) / 1024 if found else 0.0


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def pictures(folder: Path) -> None:
    """Make the pictures of docs/studio.md."""
    folder.mkdir(parents=True, exist_ok=True)

    def save(page: StudioPage, name: str) -> None:
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
    parser.add_argument("--steps", type=int, default=2000, help="frames to see; of a clip that is written")
    parser.add_argument("--track", type=int, default=0, metavar="N", help="memory: then track the first N frames")
    options = parser.parse_args()
    box = tuple(map(float, options.box.split(",")))
    if options.what == "latency":
        latency(options.path or SAMPLE, box)
    elif options.what == "pictures":
        if options.path is None:
            parser.error("name a folder for the pictures")
        pictures(options.path)
    elif options.path is not None:
        memory(options.path, options.steps, box, options.track)
    else:
        with tempfile.TemporaryDirectory() as folder:
            plate = Path(folder) / "long.mp4"
            write_plate(plate, options.steps)
            memory(plate, options.steps, PLATE_BOX, options.track)


if __name__ == "__main__":
    main()
