"""Run jobs on an engine: each job's track step, then its chunks, then its join, as soon as there is a free worker."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count as counting

from mam_video.core.errors import MamVideoError, MediaError
from mam_video.core.ranges import FrameRange
from mam_video.core.untrusted import line_of
from mam_video.farm.engine import Ended, Engine
from mam_video.farm.folder import JobFolder
from mam_video.farm.steps import Joined, missing_frames
from mam_video.farm.task import JOIN, MATTE, TRACK, Task, run_task

_RETRIES = 2  # times that a task whose worker was lost is done again
_TURN = 0.5  # seconds between two looks at the progress


@dataclass(frozen=True)
class Progress:
    """How far jobs are, together.

    tracked, matted  frames, of `total`
    running          tasks that run
    again            tasks that were done again, so far
    """

    tracked: int
    matted: int
    total: int
    running: int
    again: int


@dataclass
class JobRun:
    """A job while it runs, and what came of it.

    joined  what came of it; None: it failed, or was joined before
    error   why it failed, a line
    again   tasks that were done again, a line each
    """

    folder: JobFolder
    joined: Joined | None = None
    error: str | None = None
    again: list[str] = field(default_factory=list)
    _waiting: deque[Task] = field(default_factory=deque)
    _running: int = 0
    _lost: Counter[Task] = field(default_factory=Counter)
    _join: Future[Joined | None] | None = None
    _untouched: list[FrameRange] = field(default_factory=list)  # chunks that no task was made of
    _is_tracked: bool = False
    _whole: int = 0  # frames in chunks that are done

    def begin(self) -> None:
        """Find out what is left to do."""
        folder = self.folder
        self._untouched = folder.missing
        self._whole = _frames(folder.plan.chunks) - _frames(self._untouched)
        if folder.plan.tracks and folder.tracked is None:
            self._waiting.append(Task(TRACK))
        else:
            self._start_matting()

    def _start_matting(self) -> None:
        self._is_tracked = True
        self._offer(self._untouched)

    def _offer(self, chunks: Sequence[FrameRange]) -> None:
        self._waiting.extend(Task(MATTE, chunk) for chunk in chunks)
        self._untouched = [each for each in self._untouched if each not in chunks]

    def look_for_tracks(self) -> None:
        """While tracking goes on: offer the chunks that it has passed."""
        if not self._is_tracked and self._running and self.error is None and self._untouched:
            self._offer([chunk for chunk in self._untouched if self.folder.tracks_for(chunk) is not None])

    def next_task(self) -> Task | None:
        """Take a task that can run now; None: there is none at the moment."""
        if self.error is not None or not self._waiting:
            return None
        self._running += 1
        return self._waiting.popleft()

    def ended(self, task: Task, end: Ended) -> None:
        """Take note of a task that ended."""
        self._running -= 1
        name = task.name(self.folder.plan)
        if end.error is None:
            if task.step == TRACK:
                self._start_matting()
            elif task.chunk is not None:
                self._whole += _frames([task.chunk])
            return
        self._lost[task] += 1
        if end.lost and self._lost[task] <= _RETRIES:
            self.again.append(f"{name}: done again, {end.error}")
            self._waiting.appendleft(task)
        elif self.error is None:
            self.error = f"{name}: {end.error}" + (f" {self._lost[task]} times" if end.lost else "")

    @property
    def ready_to_join(self) -> bool:
        left = self._waiting or self._untouched or self._running
        return self.error is None and not left and self._join is None

    def start_join(self, pool: ThreadPoolExecutor) -> None:
        """Join in a thread of this program."""
        self._join = pool.submit(run_task, self.folder.plan, Task(JOIN))

    @property
    def over(self) -> bool:
        """Whether nothing of it runs or can run any more. Takes over what the join came to."""
        if self._running or (self._join is not None and not self._join.done()):
            return False
        if self._join is not None and self.joined is None and self.error is None:
            try:
                self.joined = self._join.result()
            except MamVideoError as error:
                self.error = f"join: {error}"
            except Exception as error:  # noqa: BLE001  # other shots go on
                self.error = line_of(f"join: unexpected {type(error).__name__}: {error}")
        return self.error is not None or self._join is not None

    def failure(self) -> MediaError:
        """Return the error of a failed job: why, which frames are missing, how to go on."""
        plan = self.folder.plan
        gone = self.folder.missing
        missing = f"; {missing_frames([plan.called(each) for each in gone])}" if gone else ""
        return MediaError(f"{self.error}{missing}; the same command with --resume goes on")

    def progress(self) -> tuple[int, int]:
        """Return frames tracked and frames matted."""
        plan = self.folder.plan
        total = _frames([plan.frames])
        notes = self.folder.running() if self._running else []
        tracked = sum(int(note["done"]) for note in notes if str(note["task"]) == TRACK)
        matted = self._whole + sum(int(note["done"]) for note in notes if str(note["task"]).startswith(MATTE))
        return total if self._is_tracked else min(tracked, total), min(matted, total)


def run_jobs(
    jobs: Iterable[JobRun],
    engine: Engine,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    on_over: Callable[[JobRun], None] | None = None,
) -> None:
    """Run jobs to their ends. What fails is said in each job's `error`; the others go on.

    Args:
        jobs: taken one by one, when there is a free worker and no task for it.
        on_progress: called about twice a second with what the jobs that run have come to.
        on_over: called when a job is done or has failed.
    Raises: UsageError, a job of these outputs is another one, or is running already.
    """
    keys, source = counting(), iter(jobs)
    tasks: dict[int, tuple[JobRun, Task]] = {}
    left: dict[int, tuple[JobRun, ExitStack]] = {}  # by identity, in order
    with ExitStack() as stack:
        pool = ThreadPoolExecutor(1, "join")
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # an interrupt does not wait for a movie
        stack.callback(_release, left)
        more = True
        while left or more:
            while len(tasks) < engine.workers:
                found = _next([job for job, _ in left.values()])
                if found is not None:
                    key = next(keys)
                    tasks[key] = found
                    engine.start(key, found[0].folder, found[1])
                elif more and len(left) <= engine.workers and (new := next(source, None)) is not None:
                    left[id(new)] = new, _begun(new)
                else:
                    more = more and len(left) > engine.workers
                    break
            running = [job for job, _ in left.values()]
            for job in running:
                job.look_for_tracks()
                if job.ready_to_join:
                    job.start_join(pool)
            for end in engine.wait(_TURN) if tasks else _paused():
                job, task = tasks.pop(end.key)
                job.ended(task, end)
            if on_progress is not None:
                on_progress(_progress(running, len(tasks)))
            for job in [each for each in running if each.over]:
                left.pop(id(job))[1].close()
                if on_over is not None:
                    on_over(job)


def _release(left: dict[int, tuple[JobRun, ExitStack]]) -> None:
    for _, own in left.values():
        own.close()


def _begun(job: JobRun) -> ExitStack:
    """Claim a job's outputs and begin it. Returns: what releases it."""
    with ExitStack() as stack:
        job.folder.claim()
        stack.enter_context(job.folder.running_here())
        job.folder.forget_running()
        job.begin()
        return stack.pop_all()


def _paused() -> list[Ended]:
    time.sleep(_TURN / 5)
    return []


def _next(jobs: Sequence[JobRun]) -> tuple[JobRun, Task] | None:
    for job in jobs:
        task = job.next_task()
        if task is not None:
            return job, task
    return None


def _progress(jobs: Sequence[JobRun], running: int) -> Progress:
    each = [job.progress() for job in jobs]
    total = sum(_frames([job.folder.plan.frames]) for job in jobs)
    again = sum(len(job.again) for job in jobs)
    return Progress(sum(t for t, _ in each), sum(m for _, m in each), total, running, again)


def _frames(ranges: Sequence[FrameRange]) -> int:
    return sum((each.stop or 0) - each.start for each in ranges)
