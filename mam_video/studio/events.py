"""What pages are told as it happens: every open page has a queue of bounded length."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any, Final

_LONGEST: Final = 512  # events that wait for a slow page; then it is told to load all anew


class Events:
    """Hands events from any thread to the pages that are open."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: set[asyncio.Queue[str]] = set()

    @property
    def pages(self) -> int:
        """How many pages listen."""
        return len(self._queues)

    def join(self) -> asyncio.Queue[str]:
        """Begin to listen; call it in the event loop."""
        self._loop = asyncio.get_running_loop()
        events: asyncio.Queue[str] = asyncio.Queue()
        self._queues.add(events)
        return events

    def leave(self, events: asyncio.Queue[str]) -> None:
        """Stop listening."""
        self._queues.discard(events)

    def tell(self, event: str, **more: Any) -> None:
        """Tell all pages, from any thread."""
        if self._loop is None:
            return
        text = json.dumps({"event": event, **more})
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._put, text)

    def _put(self, text: str) -> None:
        for events in self._queues:
            if events.qsize() < _LONGEST:
                events.put_nowait(text)
            elif events.qsize() == _LONGEST:
                events.put_nowait('{"event": "missed"}')
