"""What sharing a shot out costs and gains: one process, one worker, two workers, on one thread each.

    measure_farm.py [--clip NAME] [--box X0,Y0,X1,Y1] [--range FIRST-LAST] [--model NAME] [--chunk N] [--rounds N]

Each way is timed in turn, `--rounds` times: seconds on the clock, seconds of CPU of all processes, and the bytes that
the shared folder held at most, by kind. Seconds on the clock tell of the engine only on a machine that does nothing
else; the load average is printed for that. CPU seconds tell how much work is done twice, and those of the busiest
worker how long two free cores would take at least.
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

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", default=str(DATA / "davis/camel/frames"))
    parser.add_argument("--box", default="261,85,709,430")
    parser.add_argument("--range", default="0-47")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--chunk", default="16")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    shared = ["--chunk", given.chunk, "--engine", "local", "--workers"]
    ways = {"one process": [], "one worker": [*shared, "1"], "two workers": [*shared, "2"]}
    for _ in range(given.rounds):
        for name, more in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                command = [
                    sys.executable, "-m", "mam_video", "matte", given.clip, "--box", given.box, "--range", given.range,
                    "--model", given.model, "-o", f"{folder}/m.####.exr", "-o", f"{folder}/m.mov", "--quiet", *more,
                ]  # fmt: skip
                workers: dict[int, float] = {}
                before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                with watched(Path(folder), workers) as most:
                    subprocess.run(command, check=True, env={**os.environ, **one_thread})
                after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
                cpu = after.ru_utime - before.ru_utime
                sizes = ", ".join(f"{kind} {size / 1e6:.2f} MB" for kind, size in most.items() if size)
                each = ", ".join(f"{seconds:.1f}" for seconds in workers.values())
                own = f" (workers {each})" if each else ""
                print(f"{name}: {wall:.1f} s, CPU {cpu:.1f} s{own}, load {os.getloadavg()[0]:.1f}; {sizes}", flush=True)


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
