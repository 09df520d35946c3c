"""Projects: acts are checked, saved, undone, and whole after a kill at any moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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
    assert not played.state.prompts[0].shows and played.state.prompted == {}
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
    assert list(by_subject(entries).values()) == played.state.several(folder_of(clip) / "masks")
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
