"""A worker of the local engine: reads tasks from its standard input, a line of JSON each, and answers with one.

It ends when its input ends, also in the middle of a task: a worker does not outlive the program that started it. Models
stay loaded from task to task.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from typing import Any

from mam_video.core.errors import MamVideoError
from mam_video.core.untrusted import line_of

PLAN = "plan"  # the step that makes the fingerprint of a draft


def main() -> None:
    """Run tasks until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    print(json.dumps({"ready": os.getpid()}), file=answers, flush=True)
    import mam_video.farm.task  # noqa: F401  # PyTorch takes seconds, and the first task may not be there yet

    while True:
        print(json.dumps(_answer(json.loads(lines.get()))), file=answers, flush=True)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["step"] == PLAN:
        return _answer_to_plan(request["plan"])
    error = run_request(request)
    return {} if error is None else {"error": error}


def _answer_to_plan(text: str) -> dict[str, Any]:
    """Return the fingerprint of a draft, {"fingerprint": ...}; or {"error": a line, "kind": of `core.errors`}."""
    from mam_video.farm.plan import JobPlan
    from mam_video.farm.task import fingerprinted
    from mam_video.media import open_clip

    try:
        plan = JobPlan.from_text(text, "the job's plan")
        with open_clip(plan.source, plan.settings.input) as reader:
            return {"fingerprint": dict(fingerprinted(plan, reader).fingerprint)}
    except MamVideoError as error:
        return {"error": line_of(str(error)), "kind": type(error).__name__}
    except Exception as error:  # noqa: BLE001  # whatever it is, the program that asked must hear of it
        return {"error": line_of(f"unexpected {type(error).__name__}: {error}"), "kind": "MamVideoError"}


def run_request(request: dict[str, Any]) -> str | None:
    """Run the task of a request {"plan": JSON, "step": ..., "chunk": [first, stop]}; return why it failed, or None."""
    from mam_video.core.ranges import FrameRange
    from mam_video.farm.plan import JobPlan
    from mam_video.farm.task import Task, run_task

    try:
        plan = JobPlan.from_text(request["plan"], "the job's plan")
        chunk = request["chunk"]
        run_task(plan, Task(request["step"], None if chunk is None else FrameRange(*chunk)))
    except MamVideoError as error:
        return line_of(str(error))
    except Exception as error:  # noqa: BLE001  # whatever it is, the program that asked must hear of it
        return line_of(f"unexpected {type(error).__name__}: {error}")
    return None


def request_of(plan: str, step: str, chunk: tuple[int, int | None] | None) -> dict[str, Any]:
    """Return the request that `run_request` takes; `plan` is its JSON."""
    return {"plan": plan, "step": step, "chunk": chunk}


if __name__ == "__main__":
    main()
