"""The queue of runs: each is the very command line that the page shows, one at a time, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from mam_video.core.errors import UsageError
from mam_video.core.untrusted import line_of, parse_json
from mam_video.runtime.lifecycle import Closeable
from mam_video.studio.command import command_text
from mam_video.studio.events import Events

_MOST: Final = 200  # runs that the page lists
_KEPT_LINES: Final = 12  # of what a run says about errors


@dataclass
class Run:
    """One run.

    how       waiting, running, done, flagged, failed or stopped
    progress  the last line of `--progress json`, or its end
    """

    number: int
    shot: int
    name: str
    command: list[str]
    how: str = "waiting"
    message: str = ""
    progress: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def entry(self) -> dict[str, Any]:
        """What the page shows of it."""
        return {
            "number": self.number, "shot": self.shot, "name": self.name, "how": self.how, "message": self.message,
            "progress": self.progress, "seconds": round(self.seconds, 1), "command": command_text(self.command),
        }  # fmt: skip


class RunQueue(Closeable):
    """Runs of all shots, in the order in which they were asked for."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._runs: list[Run] = []
        self._waiting: deque[Run] = deque()
        self._change = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._current: Run | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="runs", daemon=True)
        self._thread.start()

    def entries(self) -> list[dict[str, Any]]:
        """All runs for the page, the latest first."""
        with self._change:
            return [run.entry() for run in reversed(self._runs)]

    def add(self, shot: int, name: str, command: Sequence[str]) -> int:
        """Put a run at the end of the queue; returns its number. Raises: UsageError, its shot has one there."""
        with self._change:
            if self.has(shot):
                raise UsageError("this shot is in the queue already")
            run = Run(len(self._runs) + 1 if not self._runs else self._runs[-1].number + 1, shot, name, list(command))
            self._runs = [*self._runs[-_MOST:], run]
            self._waiting.append(run)
            self._change.notify_all()
        self._tell()
        return run.number

    def has(self, shot: int) -> bool:
        """Whether a run of a shot is waiting or running."""
        with self._change:
            return any(run.shot == shot and run.how in ("waiting", "running", "stopping") for run in self._runs)

    def stop(self, number: int) -> None:
        """Stop a run, or take it out of the queue. What is done is kept where the run can be resumed."""
        with self._change:
            run = next((each for each in self._runs if each.number == number), None)
            if run is None:
                raise UsageError("there is no such run")
            if run.how == "waiting":
                run.how = "stopped"
                self._waiting.remove(run)
            elif run is self._current and self._process is not None:
                run.how = "stopping"
                _interrupt(self._process)
        self._tell()

    def close(self) -> None:
        with self._change:
            self._closed = True
            process = self._process
            self._change.notify_all()
        if process is not None:
            _interrupt(process)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()

    def _work(self) -> None:
        while True:
            with self._change:
                while not self._waiting and not self._closed:
                    self._change.wait()
                if self._closed:
                    return
                run = self._current = self._waiting.popleft()
                run.how = "running"
            self._tell()
            self._run(run)
            with self._change:
                self._current = self._process = None
            self._tell()

    def _run(self, run: Run) -> None:
        """Run the command and follow what it says."""
        start = time.monotonic()
        command = [sys.executable, "-m", "mam_video", *run.command[1:], "--progress", "json"]
        errors: deque[str] = deque(maxlen=_KEPT_LINES)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            run.how, run.message = "failed", line_of(str(error))
            return
        with self._change:
            self._process = process
        assert process.stdout is not None and process.stderr is not None
        said = process.stderr
        listener = threading.Thread(target=lambda: errors.extend(_lines(said)), name="errors", daemon=True)
        listener.start()
        for line in process.stdout:
            with suppress(ValueError):
                entry = parse_json(line)
                if isinstance(entry, dict):
                    run.progress, run.seconds = entry, time.monotonic() - start
                    self._tell()
        code = process.wait()
        listener.join(5)
        process.stdout.close()
        process.stderr.close()
        run.seconds = time.monotonic() - start
        self._judge(run, code, list(errors))

    def _judge(self, run: Run, code: int, errors: list[str]) -> None:
        stopped = run.how == "stopping" or code in (130, -signal.SIGINT)
        if code == 0:
            run.how = "flagged" if run.progress.get("flagged") else "done"
        elif stopped:
            run.how = "stopped"
            run.message = errors[-1].removeprefix("mam-video: ") if errors else ""
        else:
            run.how = "failed"
            ended = f"the run's process ended with signal {-code}" if code < 0 else f"exit code {code}"
            run.message = errors[-1].removeprefix("mam-video: ") if errors else ended

    def _tell(self) -> None:
        self._events.tell("runs", runs=self.entries())


def _lines(stream: Any) -> list[str]:
    return [line_of(line.decode("utf-8", "replace")) for line in stream if line.strip()]


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to stop as Ctrl-C does."""
    with suppress(OSError):
        if os.name == "nt":
            process.terminate()
        else:
            process.send_signal(signal.SIGINT)
