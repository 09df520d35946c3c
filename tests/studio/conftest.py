"""A small clip, a desk without a model, and its server in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mam_video.studio.desk import Desk
from tests.synthetic import disc, picture, write_movie

if TYPE_CHECKING:
    import httpx

SIZE = (72, 96)  # (H, W) of the small clip
FRAMES = 12


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A movie of a disc that moves, alone in its folder."""
    folder = tmp_path / "plates"
    folder.mkdir()
    return write_movie(folder / "plate.mov", FRAMES, lambda i: picture(disc(SIZE, (36, 30 + 2 * i), 14)))


@dataclass
class Served:
    """A page that is served, and a client that has its cookie.

    base  its address without the token
    """

    desk: Desk
    address: str
    base: str
    client: httpx.Client

    def act(self, name: str, /, **given: object) -> httpx.Response:
        """Send an act as the page does."""
        return self.client.post("/api/0/act", json={"act": name, **given}, headers={"Origin": self.base})


@pytest.fixture
def served(clip: Path) -> Iterator[Served]:
    """The page of the small clip, without a model. Its tests are skipped where a package is missing."""
    for package in ("httpx", "starlette", "uvicorn", "websockets"):
        pytest.importorskip(package)
    import httpx

    from mam_video.studio.serve import PageServer

    desk = Desk([str(clip)])
    desk.shot(0)  # as `serve` does
    page = PageServer(desk)
    thread = threading.Thread(target=page.run)
    thread.start()
    base = f"http://127.0.0.1:{page.port}"
    try:
        with httpx.Client(base_url=base, timeout=20) as client:
            _answered(client)
            assert client.get(page.address).status_code == 303
            yield Served(desk, page.address, base, client)
    finally:
        page.stop()
        thread.join(20)
        desk.close()


def _answered(client: httpx.Client) -> None:
    """Wait until the server answers."""
    import httpx

    for _ in range(200):
        try:
            client.get("/")
            return
        except httpx.ConnectError:
            time.sleep(0.02)
    raise AssertionError("the server does not answer")
