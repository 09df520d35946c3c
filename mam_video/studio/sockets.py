"""The socket of a page: it hears events. What it sends is read, bounded and thrown away."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from mam_video.studio.events import Events

MOST_PAGES: Final = 12
MOST_MESSAGES: Final = 50  # a second that a page may send
LONGEST_MESSAGE: Final = 4096  # bytes; uvicorn refuses longer ones


async def listen(socket: WebSocket, events: Events) -> None:
    """Serve one page's socket until either side ends it."""
    if events.pages >= MOST_PAGES:
        await socket.close(1013, "too many pages are open; close one")
        return
    await socket.accept()
    told = events.join()
    sender = asyncio.create_task(_send(socket, told))
    try:
        await _receive(socket)
    except WebSocketDisconnect:
        pass
    finally:
        events.leave(told)
        sender.cancel()
        with suppress(asyncio.CancelledError, RuntimeError, WebSocketDisconnect):
            await sender


async def _send(socket: WebSocket, told: asyncio.Queue[str]) -> None:
    while True:
        await socket.send_text(await told.get())


async def _receive(socket: WebSocket) -> None:
    """Read until the page leaves, or sends more than it may."""
    began, count = time.monotonic(), 0
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        now = time.monotonic()
        if now - began > 1:
            began, count = now, 0
        count += 1
        if count > MOST_MESSAGES or len(message.get("text") or message.get("bytes") or "") > LONGEST_MESSAGE:
            await socket.close(1008, "too many messages")
            return
