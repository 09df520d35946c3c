"""Server and workers are killed with signal 9 at random moments: a project holds all that was acknowledged."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

for package in ("httpx", "starlette", "uvicorn", "websockets"):
    pytest.importorskip(package)

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from mam_video.core.settings import FinishSettings
from mam_video.studio.desk import Desk
from mam_video.studio.mattes import Wanted
from mam_video.studio.shot import Shot
from mam_video.studio.state import State
from mam_video.studio.versions import Version
from mam_video.studio.workers import Worker
from tests.synthetic import disc, picture, write_movie

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
FRAMES = 30
SIZE = (72, 96)
# A worker with a model that is exact and quick, and takes its time for each frame, so that a kill finds it at work.
WORKER = """
import time
from mam_video.models.colour_model import ColourModel
from mam_video.studio import worker
worker.load_model = lambda settings: ColourModel(view_size=64)
save = worker.save_frame
worker.save_frame = lambda *given: (time.sleep(0.03), save(*given))[1]
worker.main()
"""
SERVER = """
import sys
from mam_video.studio.desk import Desk
from mam_video.studio.serve import PageServer
from mam_video.studio.workers import Worker
desk = Desk([sys.argv[1]])
desk.hand = desk.tracker = Worker([sys.executable, "-c", sys.argv[2]])
desk.shot(0)
page = PageServer(desk)
print(page.address, flush=True)
page.run()
"""
KILLS = [3, pytest.param(10, marks=pytest.mark.slow)]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_movie(tmp_path / "plate.mov", FRAMES, lambda k: picture(disc(SIZE, (36, 20 + 2 * k), 14)))


class Acknowledged:
    """What the server has said to have done: the last state, and the matted frames of each version."""

    def __init__(self) -> None:
        self.state = State()
        self.frames: dict[int, set[int]] = defaultdict(set)

    def hear(self, entry: dict[str, Any]) -> None:
        """Take an event of the server."""
        if entry["event"] == "frame":
            self.frames[entry["version"]].add(entry["record"]["frame"])

    @property
    def matted(self) -> int:
        """How many frames of all versions are matted."""
        return sum(map(len, list(self.frames.values())))

    def check(self, clip: Path) -> None:
        """Open the project as the next server does, and compare. The state that is found is known from then on."""
        desk = Desk([str(clip)])
        try:
            shot = desk.shot(0)
            # The last act may be saved and not acknowledged, and finding the frames of a killed server is an act too.
            lately = [decisions(state) for _, state in shot.project.history[-3:]]
            assert decisions(self.state) in lately
            self.check_frames(shot)
            for name in ("prompts.toml", "settings.toml", "project.json"):
                assert (shot.folder / name).stat().st_size > 0
            self.state = shot.state
        finally:
            desk.close()

    def check_frames(self, shot: Shot) -> None:
        """Every frame that was said to be matted has its matte."""
        for number, frames in self.frames.items():
            folder = shot.project.version_folder(number)
            if not folder.exists():
                assert number not in {state.version for _, state in shot.project.history}
                assert number < max(self.frames), f"version {number} has gone with its {len(frames)} frames"
                continue
            version = Version.load(folder)
            assert version is not None
            for frame in frames:
                wanted = Wanted(frame, version=number, edges=FinishSettings())
                alpha = shot.mattes.alpha(wanted, shot.mattes.sources(wanted))
                assert alpha is not None and alpha.max() > 0.99, f"frame {frame} of version {number} has no matte"
                assert version.span[0] <= frame <= version.span[1]


def decisions(state: State) -> State:
    """A state but for the version that is shown: the server chooses that by itself when tracking ends."""
    return State.of_dict({**json.loads(json.dumps(state.as_dict())), "version": None})


@contextmanager
def serving(clip: Path, known: Acknowledged) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Start a server, and a client with its cookie that hears all events."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(clip), WORKER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    base = address.partition("/?")[0]
    with httpx.Client(base_url=base, timeout=30, headers={"Origin": base}) as client:
        for _ in range(200):
            with suppress(httpx.ConnectError):
                assert client.get(address).status_code == 303
                break
            time.sleep(0.05)
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        headers = {"Cookie": cookie, "Origin": base}
        try:
            with connect(f"{base.replace('http', 'ws')}/events", additional_headers=headers) as socket:
                listener = threading.Thread(target=hear, args=(socket, known))
                listener.start()
                try:
                    yield process, client
                finally:
                    process.kill()
                    listener.join(20)
        finally:
            process.kill()
            process.wait(20)
            process.stdout.close()


def hear(socket: ClientConnection, known: Acknowledged) -> None:
    """Take events until the server has gone."""
    with suppress(ConnectionClosed):
        while True:
            known.hear(json.loads(socket.recv()))


def act(client: httpx.Client, known: Acknowledged, name: str, /, **given: Any) -> None:
    """Send an act and note the state that the server acknowledges."""
    answer = client.post("/api/0/act", json={"act": name, **given}).json()
    if "state" in answer:
        known.state = State.of_dict(answer["state"])


@pytest.mark.parametrize("kills", KILLS)
def test_a_server_that_is_killed_while_one_points_loses_nothing(clip: Path, kills: int) -> None:
    chance, known = random.Random(kills), Acknowledged()
    for round_ in range(kills):
        with serving(clip, known) as (process, client):
            assert State.of_dict(client.get("/api/0/state").json()["state"]) == known.state
            timer = threading.Timer(chance.uniform(0.0, 0.8), os.kill, (process.pid, signal.SIGKILL))
            timer.start()
            with suppress(httpx.HTTPError):
                act(client, known, "add_subject")
                for k in range(100_000):
                    box = [5, 5, 30 + k % 60, 40 + round_]
                    act(client, known, "set_box", subject=0, frame=k % 12, box=box)
            timer.join()
        known.check(clip)
    assert known.state.prompts


@pytest.mark.parametrize("kills", KILLS)
def test_a_server_that_is_killed_while_it_tracks_keeps_the_frames_that_were_done(clip: Path, kills: int) -> None:
    chance, known = random.Random(100 + kills), Acknowledged()
    for round_ in range(kills):
        with serving(clip, known) as (process, client):
            act(client, known, "rename_subject", subject=0, name=f"disc {round_}")  # all is tracked again
            act(client, known, "set_box", subject=0, frame=0, box=[4, 18, 38, 54])
            act(client, known, "track")
            begun, before = time.monotonic(), known.matted
            while known.matted == before and time.monotonic() - begun < 60:
                time.sleep(0.01)
            timer = threading.Timer(chance.uniform(0.0, 1.2), os.kill, (process.pid, signal.SIGKILL))
            timer.start()
            with suppress(httpx.HTTPError):
                for k in range(100_000):
                    act(client, known, "set_setting", key="finish.choke", value=k % 50 / 2)
            timer.join()
        known.check(clip)
    assert len(known.frames) == kills


@pytest.mark.parametrize("kills", KILLS)
def test_a_worker_that_is_killed_loses_no_frame_and_no_act(clip: Path, kills: int) -> None:
    chance, known = random.Random(200 + kills), Acknowledged()
    desk = Desk([str(clip)])
    desk.hand = desk.tracker = Worker([sys.executable, "-c", WORKER])
    desk.events.tell = lambda event, **more: known.hear({"event": event, **more})  # type: ignore[method-assign]
    lasted = 0.0
    try:
        shot = desk.shot(0)
        for round_ in range(kills + 1):
            shot.act("rename_subject", {"subject": 0, "name": f"disc {round_}"})
            shot.act("set_box", {"subject": 0, "frame": 0, "box": [4, 18, 38, 54]})
            begun = time.monotonic()
            shot.tracking.start()
            if round_ > 0:  # the first one is not killed: it shows how long the work takes, with the model's start
                time.sleep(chance.uniform(0.0, lasted))
                pid = desk.tracker.pid
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
            shot.act("set_setting", {"key": "finish.feather", "value": round_ / 2})
            while shot.tracking.entry() is not None:
                assert time.monotonic() - begun < 120
                time.sleep(0.01)
            lasted = lasted or time.monotonic() - begun
            known.state = shot.state
            known.check_frames(shot)
    finally:
        desk.close()
    known.check(clip)
    assert known.frames[1] == set(range(FRAMES))
