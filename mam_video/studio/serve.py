"""Start the server and say where the page is."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import uvicorn

from mam_video.core.errors import UsageError
from mam_video.media.sequence.image_formats import SUFFIXES
from mam_video.runtime.os_errors import reason
from mam_video.studio.app import make_app
from mam_video.studio.desk import Desk
from mam_video.studio.project import folder_of
from mam_video.studio.security import Guard
from mam_video.studio.sockets import LONGEST_MESSAGE

LOCAL: Final = "127.0.0.1"
MOVIES: Final = (".mov", ".mp4", ".mkv", ".webm", ".m4v", ".avi", ".mxf", ".mpg", ".mts", ".gif", ".y4m")


def clips_in(source: str) -> list[str]:
    """Return the clips that an argument names: itself, or every movie and sequence of a folder, by name.

    A folder of numbered pictures is one clip. Raises: UsageError, the folder holds none.
    """
    path = Path(source)
    if not path.is_dir():
        return [source]
    home = path.resolve()
    entries = sorted(p for p in path.iterdir() if not p.name.startswith(".") and p.resolve().is_relative_to(home))
    movies = [str(p) for p in entries if p.is_file() and p.suffix.lower() in MOVIES and not _is_ours(p)]
    if any(p.is_file() and p.suffix.lower() in SUFFIXES for p in entries) and not movies:
        return [source]
    folders = [
        str(p)
        for p in entries
        if p.is_dir() and not p.name.endswith(".studio") and any(q.suffix.lower() in SUFFIXES for q in p.iterdir())
    ]
    found = sorted([*movies, *folders])
    if not found:
        raise UsageError(f"{source}: holds no clip; name a movie, a sequence or a folder of them")
    return found


def _is_ours(path: Path) -> bool:
    """Whether a movie is the matte of another one beside it, as the studio names it."""
    return path.stem.endswith(".matte") and any(
        folder_of(path.with_name(path.stem.removesuffix(".matte") + suffix)).exists() for suffix in MOVIES
    )


class PageServer:
    """The server of a desk's page, bound to its port.

    address  what the user opens, with the token
    """

    def __init__(self, desk: Desk, host: str = LOCAL, port: int = 0) -> None:
        """Bind to a port; 0 takes one that is free. Raises: UsageError, it cannot be used."""
        self._listening = _listening(host, port)
        self.port = int(self._listening.getsockname()[1])
        names = {host, LOCAL, "localhost"} if ipaddress.ip_address(host).is_loopback else {host}
        guard = Guard(make_app(desk), names, self.port)
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/?token={guard.token}"
        config = uvicorn.Config(
            guard, log_level="warning", access_log=False, lifespan="off", ws="websockets-sansio",
            ws_max_size=LONGEST_MESSAGE, ws_max_queue=8, timeout_graceful_shutdown=1, server_header=False,
            limit_concurrency=200, h11_max_incomplete_event_size=32 << 10, proxy_headers=False,
        )  # fmt: skip
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve until Ctrl-C, or until `stop` is called from another thread."""
        try:
            self._server.run(sockets=[self._listening])
        finally:
            self._listening.close()

    def stop(self) -> None:
        """End `run`."""
        self._server.should_exit = True


def serve(
    source: str,
    *,
    host: str,
    port: int,
    places: Sequence[Path],
    backgrounds: Sequence[str],
    said: Callable[[str], None],
    opens: Callable[[str], object],
) -> None:
    """Serve the page until Ctrl-C. `said` prints a line, `opens` shows an address in a browser.

    Raises: UsageError or MediaError, the clip or a background cannot be opened or the port cannot be used.
    """
    desk = Desk(clips_in(source), places, backgrounds)
    try:
        desk.shot(0)
        page = PageServer(desk, host, port)
        said(f"the page is at {page.address}")
        said("Ctrl-C ends it; everything is saved as you go")
        desk.warm()
        opens(page.address)
        with contextlib.suppress(KeyboardInterrupt):
            page.run()
    finally:
        desk.close()


def _listening(host: str, port: int) -> socket.socket:
    """Open the socket that the server listens on. Raises: UsageError."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        raise UsageError(f"port {port} of {host} cannot be used ({reason(error)}); choose another --port") from None
    return listening
