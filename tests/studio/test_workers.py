"""Processes that work for the page: jobs in order, cancelling, and crashes that are told and survived."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mam_video.studio.events import Events
from mam_video.studio.runs import RunQueue
from mam_video.studio.workers import Worker

# Answers each job, waits where it is told to, and dies where it is told to.
_ECHO = """
import json, os, queue, sys, threading, time
waiting, stopped = queue.Queue(), set()
def listen():
    for line in sys.stdin:
        entry = json.loads(line)
        stopped.add(entry["cancel"]) if "cancel" in entry else waiting.put(entry)
    os._exit(0)
threading.Thread(target=listen, daemon=True).start()
print(json.dumps({"event": "ready"}), flush=True)
print("not JSON", flush=True)
while True:
    job = waiting.get()
    if job["job"] == "die":
        os._exit(7)
    while job["job"] == "wait" and job["id"] not in stopped:
        time.sleep(0.01)
    how = "stopped" if job["id"] in stopped else "done"
    print(json.dumps({"id": job["id"], "event": how, "pid": os.getpid()}), flush=True)
"""


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker([sys.executable, "-c", _ECHO])
    yield made
    made.close()


def test_jobs_are_done_in_order_and_can_be_stopped(worker: Worker) -> None:
    heard: queue.Queue[dict[str, Any]] = queue.Queue()
    first = worker.send({"job": "wait"}, heard.put)
    second = worker.send({"job": "echo"}, heard.put)
    assert worker.busy
    worker.cancel(first)
    assert [(e["id"], e["event"]) for e in (heard.get(timeout=20), heard.get(timeout=20))] == [
        (first, "stopped"), (second, "done"),
    ]  # fmt: skip
    assert not worker.busy


def test_a_crash_is_told_to_every_job_and_the_next_one_is_done(worker: Worker) -> None:
    heard: queue.Queue[dict[str, Any]] = queue.Queue()
    worker.send({"job": "die"}, heard.put)
    worker.send({"job": "echo"}, heard.put)
    lost = [heard.get(timeout=20), heard.get(timeout=20)]
    assert {e["event"] for e in lost} == {"crashed"} and "exit code 7" in lost[0]["message"]
    worker.send({"job": "echo"}, heard.put)
    assert heard.get(timeout=20)["event"] == "done"


def test_the_process_ends_with_its_server(worker: Worker) -> None:
    heard: queue.Queue[dict[str, Any]] = queue.Queue()
    worker.send({"job": "echo"}, heard.put)
    heard.get(timeout=20)
    process = worker._process
    assert process is not None and process.stdin is not None
    process.stdin.close()  # as when the server is killed
    assert process.wait(20) == 0


def finished(runs: RunQueue, number: int) -> dict[str, Any]:
    """Wait for a run to end."""
    for _ in range(600):
        entry = next(e for e in runs.entries() if e["number"] == number)
        if entry["how"] not in ("waiting", "running", "stopping"):
            return entry
        time.sleep(0.05)
    raise AssertionError(f"run {number} does not end")


def test_a_run_that_cannot_be_is_told_in_its_own_words() -> None:
    with RunQueue(Events()) as runs:
        number = runs.add(0, "none.mov", ["mam-video", "matte", "/none.mov", "--box", "1,2,30,40", "-o", "/x.mov"])
        waiting = runs.add(1, "later.mov", ["mam-video", "info", "/none.mov"])
        runs.stop(waiting)
        entry = finished(runs, number)
        assert entry["how"] == "failed" and "/none.mov: no such file" in entry["message"]
        assert finished(runs, waiting)["how"] == "stopped"
