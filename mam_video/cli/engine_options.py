"""The options that share a shot out: which engine, how many workers and threads, how many frames a task."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from mam_video.core.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """How a shot is shared out.

    name     of the engine; None: one process does it all
    workers  tasks that run at once; None: as many as there are GPUs, or cores
    chunk    frames of a task; None: some four tasks a worker
    threads  and so cores of a worker; None: its share of this machine's
    """

    name: str | None = None
    workers: int | None = None
    chunk: int | None = None
    threads: int | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> EngineOptions:
        """From the command line. Raises: UsageError."""
        found = cls(
            name=getattr(options, "engine", None),
            workers=getattr(options, "workers", None),
            chunk=getattr(options, "chunk", None),
            threads=getattr(options, "threads", None),
        )
        given = {"--workers": found.workers, "--threads": found.threads, "--chunk": found.chunk}
        for flag, value in given.items():
            if value is not None and value < 1:
                raise UsageError(f"{flag} must be 1 at least, is {value}")
            if value is not None and found.name is None and hasattr(options, "engine"):
                raise UsageError(f"{flag} shares a shot out; give --engine too, as --engine local")
        return found


def add_engine(group: argparse._ActionsContainer, default: str | None = None) -> None:
    """Add --engine, --workers, --threads and --chunk."""
    group.add_argument(
        "--engine",
        metavar="NAME",
        default=default,
        help="share the frames out to workers: local (processes on this machine), ray, or ray://HOST:PORT "
        f"(default: {default or 'one process'})",
    )
    group.add_argument(
        "--workers", type=int, metavar="N", help="workers at once (default: one for each GPU, or for each core)"
    )
    group.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads, and so cores, of each worker (default: this machine's cores / workers)",
    )
    add_chunk(group)


def add_chunk(group: argparse._ActionsContainer) -> None:
    """Add --chunk."""
    group.add_argument(
        "--chunk",
        type=int,
        metavar="N",
        help="frames a worker mattes at a time (default: 8 to 240, by the clip's length)",
    )
