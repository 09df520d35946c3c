"""Context managers for files: `Closeable` always closes; `Transactional` commits on success and rolls back on error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closeable(ABC):
    """A context manager that always closes."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Transactional(Closeable):
    """A context manager that closes on success; on an exception it aborts and leaves nothing."""

    @abstractmethod
    def abort(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class TwoPhaseOutput(Transactional):
    """An output that closes in two steps, so that several files are finished before any of them gets its name."""

    @abstractmethod
    def finish(self) -> None:
        """Complete the file under its hidden name."""

    @abstractmethod
    def commit(self) -> None:
        """Give the finished file its name."""

    def close(self) -> None:
        try:
            self.finish()
            self.commit()
        except BaseException:
            self.abort()
            raise
