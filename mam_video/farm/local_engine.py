"""The local engine: worker processes on this machine, each with its share of cores or a GPU of its own."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mam_video.core import errors
from mam_video.core.errors import MediaError
from mam_video.farm.engine import Ended
from mam_video.farm.worker import PLAN, request_of

if TYPE_CHECKING:
    from mam_video.farm.folder import JobFolder
    from mam_video.farm.plan import JobPlan
    from mam_video.farm.task import Task

_GRACE = 3.0  # seconds that a worker has to end by itself


@dataclass
class _Slot:
    """A place for a worker: its process, and the key of the task that it runs."""

    number: int
    process: subprocess.Popen[str] | None = None
    key: int | None = None
    reader: threading.Thread | None = field(default=None, repr=False)


class LocalEngine:
    """Processes that stay for many tasks. One that dies is replaced when the next task needs it."""

    def __init__(self, workers: int, threads: int, gpus: int = 0, *, ready: int = 0) -> None:
        """Start the engine.

        Args:
            threads: of a worker.
            gpus: devices that workers take in turn; 0: they compute on the CPU.
            ready: workers that are started at once, so that they load what they need while the caller does the same.
        """
        self.workers, self._gpus = workers, gpus
        self._threads = threads
        self._slots = [_Slot(number) for number in range(workers)]
        self._events: queue.SimpleQueue[tuple[_Slot, subprocess.Popen[str], str | None]] = queue.SimpleQueue()
        for slot in self._slots[:ready]:
            slot.process = self._spawn(slot)

    def start(self, key: int, folder: JobFolder, task: Task) -> None:
        slot = next(each for each in self._slots if each.key is None)
        if slot.process is None or slot.process.poll() is not None:
            slot.process = self._spawn(slot)
        chunk = None if task.chunk is None else (task.chunk.start, task.chunk.stop)
        slot.key = key
        assert slot.process.stdin is not None
        with suppress(OSError):  # it died: its end is reported by `wait`
            slot.process.stdin.write(json.dumps(request_of(folder.plan.text(), task.step, chunk)) + "\n")
            slot.process.stdin.flush()

    def fingerprint(self, draft: JobPlan) -> JobPlan:
        """Let a worker complete the plan of a job, so that this process loads no model. Before the first task.

        Raises: what `farm.task.fingerprinted` raises; MediaError, the worker is gone.
        """
        slot = self._slots[0]
        process = slot.process = slot.process or self._spawn(slot)
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.write(json.dumps(request_of(draft.text(), PLAN, None)) + "\n")
            process.stdin.flush()
        while True:
            try:
                _, own, line = self._events.get(timeout=1.0)  # short: Ctrl-C must get through
            except queue.Empty:
                continue
            answer = None if own is not process or line is None else json.loads(line)
            if own is process and answer is None:
                raise MediaError(f"cannot plan the job: {_how_it_ended(process.wait())}")
            if answer is None or "ready" in answer:
                continue
            if "error" in answer:
                raise getattr(errors, answer["kind"], errors.MamVideoError)(answer["error"])
            return replace(draft, fingerprint=answer["fingerprint"])

    def _spawn(self, slot: _Slot) -> subprocess.Popen[str]:
        own = {"OMP_NUM_THREADS": str(self._threads), "MKL_NUM_THREADS": str(self._threads)}
        if self._gpus:
            own["CUDA_VISIBLE_DEVICES"] = _visible_gpu(slot.number % self._gpus)
        process = subprocess.Popen(
            [sys.executable, "-m", "mam_video.farm.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            encoding="utf-8", env={**os.environ, **own}, start_new_session=True,
        )  # fmt: skip
        slot.reader = threading.Thread(target=self._listen, args=(slot, process), daemon=True)
        slot.reader.start()
        return process

    def _listen(self, slot: _Slot, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._events.put((slot, process, line))
        self._events.put((slot, process, None))

    def wait(self, seconds: float) -> list[Ended]:
        ended: list[Ended] = []
        until = time.monotonic() + seconds
        while not ended:
            try:
                slot, process, line = self._events.get(timeout=max(until - time.monotonic(), 0.001))
            except queue.Empty:
                return ended
            if process is not slot.process or slot.key is None or (line is not None and "ready" in json.loads(line)):
                continue
            key, slot.key = slot.key, None
            if line is None:
                slot.process = None
                ended.append(Ended(key, _how_it_ended(process.wait()), lost=True))
            else:
                ended.append(Ended(key, json.loads(line).get("error")))
        return ended

    def close(self) -> None:
        processes = [slot.process for slot in self._slots if slot.process is not None]
        for process in processes:
            with suppress(OSError):
                process.terminate()
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
        for process in processes:
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for slot in self._slots:
            if slot.reader is not None:
                slot.reader.join(_GRACE)
            slot.process = slot.key = None


def _visible_gpu(number: int) -> str:
    """Return the name of the GPU `number` of those that this process sees."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name for name in seen.split(",") if name]
    return names[number] if number < len(names) else str(number)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"its worker ended with code {code}"
    with suppress(ValueError):
        return f"its worker was killed ({signal.Signals(-code).name})"
    return f"its worker was killed (signal {-code})"
