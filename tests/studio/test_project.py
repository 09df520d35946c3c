"""Projects: acts are checked, saved, undone, and whole after a kill at any moment."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

for package in ("httpx", "starlette", "uvicorn", "websockets"):
    pytest.importorskip(package)

import httpx

from mam_video.core.errors import UsageError
from mam_video.core.settings import Settings
from mam_video.media import open_clip
from mam_video.prompts.parse import PromptClip, by_subject, read_entries
from mam_video.studio.acts import Clip, apply_act, shown_knobs
from mam_video.studio.project import Project, folder_of
from mam_video.studio.state import Output, State
from tests.studio.conftest import FRAMES, SIZE


class Played:
    """A state that acts are applied to."""

    def __init__(self, clip: Path) -> None:
        with open_clip(clip) as reader:
            self.info = reader.info
        self.clip, self.state, self.label = Clip(self.info, FRAMES), State(), ""

    def act(self, name: str, /, **given: Any) -> State:
        self.state, self.label = apply_act(self.state, name, given, self.clip)
        return self.state


@pytest.fixture
def played(clip: Path) -> Played:
    return Played(clip)


def test_a_state_survives_json(played: Played) -> None:
    played.act("add_subject", name="dancer")
    played.act("set_box", subject=1, frame=3, box=[50, 60, 10, 5])
    played.act("add_point", subject=1, frame=3, x=20.25, y=30, on=False)
    played.act("set_span", span=[2, 8])
    played.act("set_setting", key="finish.choke", value=2, subject=1)
    played.act("set_setting", key="smooth.radius", value=2)
    played.act("set_outputs", outputs=[{"name": "a.%04d.png", "kind": "png", "place": 1}])
    assert State.of_dict(played.state.as_dict()) == played.state
    assert played.state.prompts[0].box == (10, 5, 50, 60)
    assert played.state.settings().edges == {"dancer": {"choke": 2.0}}
    assert played.state.outputs == (Output("a.%04d.png", "png", 1),)


def test_a_point_on_the_subject_widens_the_box_and_a_correction_starts_from_what_was_found(played: Played) -> None:
    played.act("add_point", subject=0, frame=5, x=70, y=40, on=True, box=[20, 20, 60, 60])
    assert played.state.prompts[0].box == (20, 20, 70, 60)
    played.act("add_point", subject=0, frame=5, x=90, y=70, on=False)
    assert played.state.prompts[0].box == (20, 20, 70, 60) and len(played.state.prompts[0].points) == 2
    played.act("remove_point", subject=0, frame=5, point=0)
    played.act("set_box", subject=0, frame=5, box=None)
    assert not played.state.prompts[0].shows and played.state.several == []
    played.act("remove_point", subject=0, frame=5, point=0)
    assert played.state.prompts == ()


def test_a_point_in_the_corner_is_not_read_as_fractions(played: Played, tmp_path: Path) -> None:
    played.act("add_point", subject=0, frame=0, x=0.5, y=0.5, on=True)
    assert max(played.state.prompts[0].points[0][:2]) > 1


@pytest.mark.parametrize(("name", "given"), [
    ("set_box", {"subject": 0, "frame": FRAMES, "box": [1, 1, 9, 9]}), ("set_box", {"subject": 4, "frame": 0}),
    ("set_box", {"subject": 0, "frame": 0, "box": [1, 1, 2, 2]}), ("set_box", {"subject": 0, "frame": 0, "box": "x"}),
    ("set_box", {"subject": 0, "frame": 0, "box": [1, 1, float("nan"), 9]}),
    ("add_point", {"subject": 0, "frame": 0, "x": 1e9, "y": 1}), ("add_point", {"subject": True, "frame": 0}),
    ("set_span", {"span": [5, 2]}), ("set_span", {"span": [0, FRAMES]}), ("remove_subject", {"subject": 0}),
    ("set_setting", {"key": "finish.choke", "value": -1}), ("set_setting", {"key": "no.key", "value": 1}),
    ("set_setting", {"key": "smooth.strength", "value": "much"}), ("rm -rf", {}), ("colour_subject", {"subject": 0}),
])  # fmt: skip
def test_wrong_acts_change_nothing(played: Played, name: str, given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        played.act(name, **given)
    assert played.state == State()


def test_every_setting_that_is_shown_can_be_set(played: Played) -> None:
    for each in shown_knobs():
        if each.kind is bool:
            value: Any = not each.default
        elif each.choices:
            value = each.choices[-1]
        elif each.knob.low is not None and each.knob.high is not None:
            value = each.kind((each.knob.low + each.knob.high) / 2)
        else:
            continue
        played.state = State()
        played.act("set_setting", key=each.key, value=value)
        assert getattr(getattr(played.state.settings(), each.section), each.name) == value, each.key


def test_the_plain_files_are_those_of_the_command_line(clip: Path, played: Played) -> None:
    played.act("rename_subject", subject=0, name="Müller 1")
    played.act("set_box", subject=0, frame=0, box=[10.5, 5, 50, 60])
    played.act("add_point", subject=0, frame=4, x=20, y=30.5, on=True)
    played.act("add_point", subject=0, frame=4, x=70, y=30.5, on=False)
    played.act("add_subject", name="second")
    played.act("set_box", subject=1, frame=0, box=[60, 5, 90, 60])
    played.act("set_setting", key="finish.feather", value=1.5, subject=1)
    played.act("set_setting", key="finish.black", value=0.1)
    played.act("set_setting", key="output.background", value="#102030")
    with Project(folder_of(clip), played.info) as project:
        project.act(played.state, "all")
    entries = read_entries(folder_of(clip) / "prompts.toml", PromptClip(SIZE, int, FRAMES))
    assert list(by_subject(entries).values()) == played.state.several
    assert Settings.load(str(folder_of(clip) / "settings.toml")) == played.state.settings()


def test_undo_redo_and_reopening(clip: Path, played: Played) -> None:
    states = [played.state]
    with Project(folder_of(clip), played.info) as project:
        for k in range(4):
            states.append(played.act("set_box", subject=0, frame=k, box=[10, 10, 40 + k, 50]))
            project.act(states[-1], f"box {k}")
        project.undo()
        project.undo()
        assert (project.state, project.undoes, project.redoes) == (states[2], "box 1", "box 2")
    with Project(folder_of(clip), played.info) as project:
        assert (project.state, project.undoes, project.redoes) == (states[2], "box 1", "box 2")
        project.redo()
        assert project.state == states[3]
        project.act(states[1], "other")
        with pytest.raises(UsageError, match="nothing to redo"):
            project.redo()
    with Project(folder_of(clip), played.info) as project:
        for _ in range(4):
            project.undo()
        assert project.state == State()
        with pytest.raises(UsageError, match="nothing to undo"):
            project.undo()


def test_a_long_journal_is_written_again_shorter(clip: Path, played: Played) -> None:
    with Project(folder_of(clip), played.info) as project:
        for k in range(900):
            project._append({"label": f"box {k}", "state": played.act(
                "set_box", subject=0, frame=k % FRAMES, box=[10, 10, 40 + k % 30, 50]).as_dict()})  # fmt: skip
        project._append({"step": -1})
    size = (folder_of(clip) / "journal").stat().st_size
    for _ in range(2):
        with Project(folder_of(clip), played.info) as project:
            assert (project.undoes, project.redoes) == ("box 898", "box 899")
            assert len(project.history) <= 203
    assert (folder_of(clip) / "journal").stat().st_size < size / 3


def test_versions_that_nothing_leads_to_are_removed(clip: Path, played: Played) -> None:
    from dataclasses import replace

    with Project(folder_of(clip), played.info) as project:
        kept, _ = project.new_version()
        lost, _ = project.new_version()
        project.act(replace(project.state, version=kept), "track")
        project.undo()  # redo still leads to it
    with Project(folder_of(clip), played.info) as project:
        assert project.version_folder(kept).exists() and not project.version_folder(lost).exists()
        assert project.new_version()[0] > kept


def test_a_cut_journal_keeps_what_is_whole(clip: Path, played: Played) -> None:
    with Project(folder_of(clip), played.info) as project:
        for k in range(3):
            project.act(played.act("set_box", subject=0, frame=k, box=[10, 10, 40, 50]), f"box {k}")
    journal = folder_of(clip) / "journal"
    journal.write_bytes(journal.read_bytes()[:-7])
    with Project(folder_of(clip), played.info) as project:
        assert project.undoes == "box 1"


def start_studio(clip: Path) -> tuple[subprocess.Popen[str], httpx.Client]:
    """Start `mam-video studio` and a client with its cookie."""
    command = [sys.executable, "-m", "mam_video", "studio", str(clip), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found is not None
    client = httpx.Client(base_url=found[0].partition("/?")[0], timeout=30)
    client.headers["Origin"] = str(client.base_url).rstrip("/")
    for _ in range(100):
        try:
            assert client.get(found[0]).status_code == 303
            break
        except httpx.ConnectError:
            time.sleep(0.05)
    return process, client


def killed_and_reopened(clip: Path, moment: float, known: dict[str, Any]) -> None:
    """Start the server, act until it is killed after `moment` seconds, and note the last acknowledged state."""
    process, client = start_studio(clip)
    with closing(client):
        assert client.get("/api/0/state").json()["state"] == known["state"] or "sent" in known
        timer = threading.Timer(moment, os.kill, (process.pid, signal.SIGKILL))
        timer.start()
        k = 0
        try:
            while True:
                k += 1
                box = [5, 5, 30 + k % 60, 40 + known["kills"]]
                body = (
                    {"act": "add_subject"} if k == 1 else {"act": "set_box", "subject": 0, "frame": k % 12, "box": box}
                )
                known["state"] = client.post("/api/0/act", json=body).json().get("state", known["state"])
        except httpx.HTTPError:
            pass
        timer.join()
    process.wait(20)
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_what_was_acknowledged_survives_kill_9(clip: Path, played: Played, kills: int) -> None:
    """The last act may have been saved and not acknowledged: then the state is one act further."""
    chance = random.Random(kills)
    known: dict[str, Any] = {"state": State().as_dict(), "kills": 0}
    for _ in range(kills):
        known["kills"] += 1
        killed_and_reopened(clip, chance.uniform(0.05, 0.8), known)
        with Project(folder_of(clip), played.info) as project:
            lately = [state.as_dict() for _, state in project.history[-2:]]
            assert State.of_dict(known["state"]) in [State.of_dict(each) for each in lately]
            known["state"] = State.of_dict(project.state.as_dict()).as_dict()
            entries = (folder_of(clip) / "prompts.toml").read_text(encoding="utf-8")
            assert entries.startswith("version = 1")
        known["sent"] = True
