"""The Ray engine: tasks on Ray's workers, on this machine or on a cluster. Ray places GPUs and starts lost workers."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mam_video.core.errors import MediaError
from mam_video.farm.engine import Ended
from mam_video.farm.worker import request_of, run_request
from mam_video.runtime.cores import cores

if TYPE_CHECKING:
    from mam_video.farm.folder import JobFolder
    from mam_video.farm.plan import JobPlan
    from mam_video.farm.task import Task

_ANSWERS_IN = 5.0  # seconds that a head has to answer


class RayEngine:
    """Tasks of Ray. A task asks for a GPU where the cluster has any, else for the threads of its model.

    Ray itself repeats nothing: the job counts how often a chunk was done again.
    """

    def __init__(self, workers: int, threads: int, head: tuple[str, int] | None = None, device: str = "auto") -> None:
        """`head`: host and port of a cluster; None: Ray is started on this machine, for this run alone.

        Raises: MediaError, the head does not answer.
        """
        _prepare_environment(os.environ, head is not None)
        import ray

        self._ray, self.workers = ray, workers
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if head is None:
            ray.init("local", num_cpus=max(cores(), workers * threads), include_dashboard=False, **quiet)
        else:
            _check_answers(*head)
            try:
                ray.init(f"ray://{head[0]}:{head[1]}", **quiet)
            except Exception as error:
                text = " ".join(str(error).split())
                raise MediaError(f"ray://{head[0]}:{head[1]}: cannot join this cluster ({text})") from error
        resources: Any = ray.cluster_resources
        wants_gpu = device != "cpu" and resources().get("GPU", 0) > 0
        self._run = ray.remote(
            num_cpus=1 if wants_gpu else threads, num_gpus=1 if wants_gpu else 0, max_retries=0
        )(run_request)  # fmt: skip
        self._tasks: dict[Any, int] = {}

    def fingerprint(self, draft: JobPlan) -> JobPlan:
        from mam_video.farm.task import cached_model, fingerprinted
        from mam_video.media import open_clip

        with open_clip(draft.source, draft.settings.input) as reader:
            plan = fingerprinted(draft, reader)
        cached_model.cache_clear()  # it was loaded for its hashes; workers load their own
        return plan

    def start(self, key: int, folder: JobFolder, task: Task) -> None:
        chunk = None if task.chunk is None else (task.chunk.start, task.chunk.stop)
        self._tasks[self._run.remote(request_of(folder.plan.text(), task.step, chunk))] = key

    def wait(self, seconds: float) -> list[Ended]:
        if not self._tasks:
            return []
        done, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=seconds)
        return [self._ended(each) for each in done]

    def _ended(self, reference: Any) -> Ended:
        key = self._tasks.pop(reference)
        try:
            return Ended(key, self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            return Ended(key, f"its worker was lost ({first})", lost=True)

    def close(self) -> None:
        for reference in self._tasks:
            with suppress(Exception):  # whatever became of it
                self._ray.cancel(reference, force=True)
        self._tasks.clear()
        self._ray.shutdown()


def _prepare_environment(environment: MutableMapping[str, str], cluster: bool) -> None:
    """Set what Ray reads when it is imported, unless the user has: no statistics; a token where there is one."""
    environment.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    environment.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & environment.keys()
    if cluster and (token or (Path.home() / ".ray" / "auth_token").exists()):
        environment.setdefault("RAY_AUTH_MODE", "token")


def _check_answers(host: str, port: int) -> None:
    """Raises: MediaError, nothing listens there."""
    try:
        socket.create_connection((host.strip("[]"), port), timeout=_ANSWERS_IN).close()
    except OSError as error:
        raise MediaError(
            f"ray://{host}:{port}: the head cannot be reached ({error.strerror or error}); start it there with "
            "`ray start --head --ray-client-server-port=10001`"
        ) from error
