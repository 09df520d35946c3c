"""What runs tasks: the contract of an engine, and the engines by name."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from mam_video.core.errors import UsageError, need_extra
from mam_video.core.tables import suggestion
from mam_video.runtime.cores import cores

if TYPE_CHECKING:  # an engine starts before the caller loads PyTorch, which takes seconds
    from mam_video.farm.folder import JobFolder
    from mam_video.farm.plan import JobPlan
    from mam_video.farm.task import Task

ENGINES: Final = {
    "local": "worker processes on this machine",
    "ray": "Ray on this machine; ray://HOST:PORT is a cluster's head (needs the extra: ray)",
}
_GPU_FILES: Final = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")  # in /dev, where CUDA or ROCm finds a device
_HEAD: Final = re.compile(r"ray://(?P<host>[^:/\s]+|\[[^\]]+\]):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class Ended:
    """A task that ended.

    key    as it was started with
    error  why it failed, a line; None: it is done
    lost   whether its worker went away under it, so that it may be done again
    """

    key: int
    error: str | None = None
    lost: bool = False


class Engine(Protocol):
    """Runs tasks side by side. Results are files in the job's folder; nothing but a line comes back.

    workers  tasks that run at once
    """

    workers: int

    def fingerprint(self, draft: JobPlan) -> JobPlan:
        """Complete the plan of a job before its first task: see `farm.task.fingerprinted`."""
        ...

    def start(self, key: int, folder: JobFolder, task: Task) -> None:
        """Begin a task; at most `workers` at once. `key` names it in `wait`."""
        ...

    def wait(self, seconds: float) -> list[Ended]:
        """Return the tasks that have ended; wait up to `seconds` for the first."""
        ...

    def close(self) -> None:
        """End every worker, and every task that runs."""
        ...


def gpus() -> int:
    """Return how many CUDA devices this machine has. Where its system shows none PyTorch is not asked."""
    if sys.platform == "linux" and not any(any(Path("/dev").glob(name)) for name in _GPU_FILES):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def share_of_cores(workers: int) -> int:
    """Return the threads of each of several workers on this machine."""
    return max(cores() // max(workers, 1), 1)


def check_engine(name: str) -> None:
    """Check an engine's name. Raises: UsageError, it is unknown, or needs what is not installed."""
    if name == "ray" or name.startswith("ray:"):
        if name != "ray" and _HEAD.fullmatch(name) is None:
            raise UsageError(f"--engine {name}: a head is written ray://HOST:PORT, as ray://head:10001")
        need_extra("ray", "ray", f"--engine {name}")
    elif name not in ENGINES:
        hint = suggestion(name, ENGINES)
        raise UsageError(f"--engine {name}: no such engine; {hint}choose one of: {', '.join(ENGINES)}, ray://HOST:PORT")


def open_engine(
    name: str, workers: int | None, device: str = "auto", threads: int | None = None, *, tasks: int = 0
) -> Engine:
    """Start an engine.

    Args:
        workers: None: as many as this machine has GPUs, or cores.
        device: of the model; with `cpu` GPUs are not shared out.
        threads: of a worker; None: its share of this machine's cores.
        tasks: that there will be at least: local workers for them start to load at once.
    Raises: UsageError, the engine is unknown, not installed, or `workers` is less than 1; MediaError, its head does not
        answer.
    """
    check_engine(name)
    count = default_workers(workers, device)
    threads = threads or share_of_cores(count)
    if name == "local":
        from mam_video.farm.local_engine import LocalEngine

        return LocalEngine(count, threads, 0 if device == "cpu" else gpus(), ready=min(tasks, count))
    from mam_video.farm.ray_engine import RayEngine

    head = _HEAD.fullmatch(name)
    return RayEngine(count, threads, None if head is None else (head["host"], int(head["port"])), device)


def default_workers(workers: int | None, device: str = "auto") -> int:
    """Return `workers`, or as many as this machine has GPUs, or cores. Raises: UsageError, it is less than 1."""
    if workers is not None:
        if workers < 1:
            raise UsageError(f"--workers must be 1 at least, is {workers}")
        return workers
    return (0 if device == "cpu" else gpus()) or cores()
