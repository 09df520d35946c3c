"""What sharing a shot out costs and gains: one process, one worker, two workers, on one thread each.

    measure_farm.py [--clip FOLDER] [--box X0,Y0,X1,Y1] [--frames N] [--model NAME] [--chunk N]
                    [--rounds N] [--ways NAME ...]

The clip's frames are shown forwards and backwards until there are `--frames`. Each way is timed in turn, `--rounds`
times: seconds on the clock, seconds of CPU of all processes and of each, and the bytes that the shared folder held at
most, by kind. Seconds on the clock tell of the engine only on a machine that does nothing else; the load average is
printed for that. CPU seconds tell how much work is done twice. A last line has the speed-up of two workers over one, by
the best seconds on the clock of each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WAYS = {
    "one process": [],
    "one worker": ["--engine", "local", "--threads", "1", "--workers", "1"],
    "two workers": ["--engine", "local", "--threads", "1", "--workers", "2"],
}
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", default=str(DATA / "davis/camel/frames"))
    parser.add_argument("--box", default="261,85,709,430")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--chunk", type=int, help="default: that of the program")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    given = parser.parse_args()
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        clip = shown_again(Path(given.clip), Path(folder), given.frames)
        for _ in range(given.rounds):
            for name in given.ways:
                best[name] = min(timed(name, clip, given), best.get(name, float("inf")))
    if {"one worker", "two workers"} <= best.keys():
        print(f"two workers are {best['one worker'] / best['two workers']:.2f} times as fast as one")


def shown_again(clip: Path, folder: Path, count: int) -> str:
    """Make a sequence of `count` frames of links: those of a folder, forwards and backwards. Return its pattern."""
    files = sorted(path for path in clip.iterdir() if path.is_file())
    round_trip = [*files, *files[-2:0:-1]]
    for k in range(count):
        file = round_trip[k % len(round_trip)]
        (folder / f"clip.{k:04d}{file.suffix}").symlink_to(file.absolute())
    return str(folder / f"clip.%04d{files[0].suffix}")


def timed(name: str, clip: str, given: argparse.Namespace) -> float:
    """Run one way, print what it took, and return its seconds on the clock."""
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    chunk = [] if given.chunk is None or not WAYS[name] else ["--chunk", str(given.chunk)]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "mam_video", "matte", clip, "--box", given.box, "--model", given.model,
            "-o", f"{folder}/m.####.exr", "-o", f"{folder}/m.mov", "--quiet", *WAYS[name], *chunk,
        ]  # fmt: skip
        workers: dict[int, float] = {}
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with watched(Path(folder), workers) as most:
            subprocess.run(command, check=True, env={**os.environ, **one_thread})
        after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sizes = ", ".join(f"{kind} {size / 1e6:.2f} MB" for kind, size in most.items() if size)
    each = ", ".join(f"{seconds:.1f}" for seconds in workers.values())
    own = f" (workers {each}; the program itself {cpu - sum(workers.values()):.1f})" if each else ""
    print(f"{name}: {wall:.1f} s, CPU {cpu:.1f} s{own}, load {os.getloadavg()[0]:.1f}; {sizes}", flush=True)
    return wall


@contextmanager
def watched(folder: Path, workers: dict[int, float]) -> Iterator[dict[str, int]]:
    """Note the most bytes that files of each kind below a folder have had, and the CPU seconds of each worker.

    Yields the bytes; `workers` is filled by process, where the system has /proc.
    """
    most = {"track": 0, "frames": 0, "exr": 0, "mov": 0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            now = dict.fromkeys(most, 0)
            for path in folder.rglob("*"):
                kind = path.suffix.removeprefix(".")
                try:
                    if kind in now and not (kind == "track" and path.parent.name == "tracks"):
                        now[kind] += path.stat().st_size
                except OSError:
                    continue
            for path in folder.glob(".*.job/running/*.json"):
                with suppress(OSError, ValueError):
                    pid = int(json.loads(path.read_text())["pid"])
                    workers.setdefault(pid, 0.0)
            for pid in workers:
                with suppress(OSError, ValueError, IndexError):
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    workers[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            for kind, size in now.items():
                most[kind] = max(most[kind], size)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    main()
