"""How things that hold a file end: closed in any case, or whole where all went well and nothing where it did not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closeable(ABC):
    """A context manager that closes at its end, whatever ended it."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Transactional(Closeable):
    """A context manager that closes where all went well, and where an exception passes aborts: nothing is left."""

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
    """Closeable in two steps, so that several files can be finished before any of them gets its name."""

    @abstractmethod
    def finish(self) -> None:
        """Complete it under its hidden name."""

    @abstractmethod
    def publish(self) -> None:
        """Give what is finished its name."""

    def close(self) -> None:
        try:
            self.finish()
            self.publish()
        except BaseException:
            self.abort()
            raise
