"""Start the processes that hold a model, hand them jobs and pass on what they answer; survive their crashes."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from mam_video.core.untrusted import parse_json
from mam_video.runtime.lifecycle import Closeable

BACKGROUND: Final = "--background"
Heard = Callable[[dict[str, Any]], None]


class Worker(Closeable):
    """One process with a model, started at its first job and again after a crash.

    Each job has a function that is called, from a thread, with every answer; the last one's event is "done", "stopped",
    "error" or "crashed". Jobs are done one at a time, in order.
    """

    def __init__(self, command: list[str] | None = None, *, background: bool = False) -> None:
        """`background`: the process yields to others, such as the page and what a click asks for."""
        self._command = command or [sys.executable, "-m", "mam_video.studio.worker"]
        self._command += [BACKGROUND] if background else []
        self._process: subprocess.Popen[bytes] | None = None
        self._heard: dict[int, Heard] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a job is waiting or being done."""
        return bool(self._heard)

    @property
    def pid(self) -> int | None:
        """The process's id; None where none runs."""
        return None if self._process is None else self._process.pid

    def send(self, job: Mapping[str, Any], heard: Heard) -> int:
        """Hand over a job; returns its number, for `cancel`."""
        with self._lock:
            if self._closed:
                raise ValueError("the worker is closed")
            number = next(self._numbers)
            self._heard[number] = heard
            self._write({**job, "id": number})
        return number

    def cancel(self, number: int) -> None:
        """Ask a job to stop; it answers "stopped" unless it is done before."""
        with self._lock:
            if number in self._heard and self._process is not None:
                self._write({"cancel": number})

    def close(self) -> None:
        """End the process, also in the middle of a job."""
        with self._lock:
            self._closed = True
            process, self._process = self._process, None
            self._heard.clear()
        if process is not None:
            process.kill()
            process.wait()

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None and self._process.stdin is not None
        with suppress(OSError):  # it has just crashed: its listener tells all jobs
            self._process.stdin.write(json.dumps(entry).encode() + b"\n")
            self._process.stdin.flush()

    def _start(self) -> None:
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self._process = process
        threading.Thread(target=self._listen, args=(process,), name="worker", daemon=True).start()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with suppress(ValueError, KeyError):
                entry = parse_json(line)
                if "id" in entry:
                    self._pass_on(int(entry["id"]), entry)
        code = process.wait()
        _close(process)
        with self._lock:
            if self._process is not process:
                return
            self._process = None
            lost, self._heard = self._heard, {}
        for number, heard in lost.items():
            heard({"id": number, "event": "crashed", "message": f"the model's process ended ({_ending(code)})"})

    def _pass_on(self, number: int, entry: dict[str, Any]) -> None:
        with self._lock:
            last = entry["event"] in ("done", "stopped", "error")
            heard = self._heard.pop(number, None) if last else self._heard.get(number)
        if heard is not None:
            heard(entry)


def _close(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes of a process that has ended."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what was not read any more
                pipe.close()


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
