"""What the workers do for a shot: single frames, tracking, corrections, stopping; with a model that is exact."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mam_video.core.errors import UsageError
from mam_video.core.geometry import Box
from mam_video.jobs.matte_clip import matte_clip
from mam_video.media import open_clip
from mam_video.media.mask_reader import Masks
from mam_video.models.colour_model import ColourModel
from mam_video.prompts.text import Spotted
from mam_video.studio import worker as worker_module
from mam_video.studio.desk import Desk
from mam_video.studio.mattes import Wanted
from mam_video.studio.shot import Shot
from mam_video.studio.state import State
from mam_video.studio.versions import matte_file
from mam_video.studio.worker import Jobs
from mam_video.studio.workers import Heard, Worker
from tests.studio.conftest import FRAMES, SIZE
from tests.synthetic import disc, picture, write_movie


class InThread(Worker):
    """Does jobs in a thread of this process, one after the other, instead of in a process of their own."""

    def __init__(self) -> None:
        super().__init__(["none"])
        self._jobs = Jobs(self._answered)
        self._turn = threading.Lock()
        self.slowly = 0.0  # seconds between answers

    def send(self, job: Mapping[str, Any], heard: Heard) -> int:
        number = next(self._numbers)
        self._heard[number] = heard
        threading.Thread(target=self._do, args=({**job, "id": number},)).start()
        return number

    def cancel(self, number: int) -> None:
        self._jobs.cancelled.add(number)

    def close(self) -> None:
        with self._turn:
            pass

    def _do(self, job: Mapping[str, Any]) -> None:
        with self._turn:
            self._jobs.run(job)

    def _answered(self, entry: dict[str, Any]) -> None:
        time.sleep(self.slowly)
        self._pass_on(int(entry["id"]), entry)


@pytest.fixture
def shot(clip: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shot]:
    model = ColourModel(view_size=64)
    monkeypatch.setattr(worker_module, "load_model", lambda settings: model)
    desk = Desk([str(clip)])
    desk.hand, desk.tracker = InThread(), InThread()
    try:
        yield desk.shot(0)
    finally:
        desk.close()


def until(done: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def tracked(shot: Shot) -> int:
    """Track, wait, and return the version."""
    number = shot.tracking.start()
    until(lambda: shot.tracking.entry() is None)
    assert shot.state.version == number
    return number


def truth(k: int) -> np.ndarray:
    return disc(SIZE, (36, 30 + 2 * k), 14)


def seen(shot: Shot, frame: int, **more: Any) -> np.ndarray | None:
    wanted = Wanted(frame, **more)
    files = shot.mattes.sources(wanted)
    return shot.mattes.alpha(wanted, files) if files else None


def point(shot: Shot, frame: int, **more: Any) -> None:
    y = 30 + 2 * frame
    shot.act("set_box", {"subject": 0, "frame": frame, "box": [20, y - 16, 52, y + 16], **more})


def test_a_prompted_frame_is_matted_by_itself(shot: Shot) -> None:
    assert not shot.still(3) and seen(shot, 3) is None
    point(shot, 3)
    assert shot.still(3)
    until(lambda: seen(shot, 3) is not None)
    alpha = seen(shot, 3)
    assert alpha is not None and np.abs(alpha - truth(3)).mean() < 0.02
    assert not list((shot.folder / "stills").glob(".*"))
    point(shot, 3, box=[18, 20, 54, 54])  # another prompt has another matte, and undo brings the first one back
    assert seen(shot, 3) is None
    shot.step(back=True)
    np.testing.assert_array_equal(seen(shot, 3), alpha)


def test_words_become_a_box(shot: Shot, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[dict[str, Any]] = []
    shot._events.tell = lambda event, **more: heard.append({"event": event, **more})  # type: ignore[method-assign]

    def found(picture: np.ndarray, words: str, settings: Any, device: str) -> Spotted:
        assert picture.shape == (*SIZE, 3)
        if words != "the disc":
            raise UsageError("nothing like it was found")
        return Spotted(Box(20, 20, 52, 52), 0.8, 0)

    monkeypatch.setattr(worker_module, "find_by_text", found)
    shot.stills.find(0, 3, " the disc ")
    until(lambda: seen(shot, 3) is not None)
    assert (
        shot.state.prompts[0].box == (20, 20, 52, 52)
        and "box = [20.0, 20.0, 52.0, 52.0]" in (shot.folder / "prompts.toml").read_text()
    )
    shot.stills.find(0, 5, "a cube")
    until(lambda: any(e.get("message") == "nothing like it was found" and e["frame"] == 5 for e in heard))
    assert len(shot.state.prompts) == 1 and not list((shot.folder / "stills").glob(".*"))
    for words in ("", "  ", "x" * 300):
        with pytest.raises(UsageError, match="say in 1 to 200"):
            shot.stills.find(0, 5, words)
    with pytest.raises(UsageError, match="no subject 7"):
        shot.stills.find(7, 5, "the disc")


def test_tracking_gives_the_mattes_of_a_run(shot: Shot, clip: Path, tmp_path: Path) -> None:
    point(shot, 0)
    number = tracked(shot)
    found = shot.tracking.records_of(number)
    assert found is not None and found["whole"] and found["current"]
    assert [record["frame"] for record in found["records"]] == list(range(FRAMES))
    assert found["records"][0]["subjects"]["0"]["state"] == "prompted"
    version = shot.usable()
    assert version is not None and Path(version.track).exists() and "--track" in shot.command()
    output = f"{tmp_path / 'm.%04d.png'}:png-alpha"
    matte_clip(clip, output, track_from=version.track, model=ColourModel(view_size=64))
    with open_clip(clip) as reader, Masks(tmp_path / "m.%04d.png", reader.info, "--masks", None) as masks:
        for k in range(FRAMES):
            alpha = seen(shot, k)
            assert alpha is not None and np.abs(alpha - masks.at(k)).max() <= 1 / 65535


def test_edges_are_finished_as_they_are_shown(shot: Shot) -> None:
    point(shot, 0)
    tracked(shot)
    plain = seen(shot, 5)
    shot.act("set_setting", {"key": "finish.choke", "value": 3})
    choked = seen(shot, 5)
    assert plain is not None and choked is not None and choked.sum() < 0.8 * plain.sum()
    assert shot.usable() is not None  # nothing has to be tracked again
    shot.act("set_setting", {"key": "smooth.strength", "value": 0.5})
    assert shot.usable() is None and "--prompts" in shot.command()
    shot.step(back=True)
    assert shot.usable() is not None


def test_a_correction_makes_only_what_it_touches(shot: Shot) -> None:
    for frame in (0, 5):
        point(shot, frame)
    first = tracked(shot)
    assert not shot.tracking.corrects()
    point(shot, 9)
    assert shot.tracking.corrects()
    second = tracked(shot)
    assert second > first and shot.usable() is not None
    same = {
        k for k in range(FRAMES)
        if matte_file(shot.project.version_folder(first), k, 0).samefile(
            matte_file(shot.project.version_folder(second), k, 0))
    }  # fmt: skip
    assert same == set(range(5))  # smoothing sees one frame beyond those after frame 5
    records = shot.tracking.records_of(second)
    assert records is not None and [r["frame"] for r in records["records"]] == list(range(FRAMES))
    assert records["records"][9]["subjects"]["0"]["state"] == "prompted"
    for k in range(FRAMES):
        alpha = seen(shot, k)
        assert alpha is not None and np.abs(alpha - truth(k)).mean() < 0.02
    shot.step(back=True)
    assert shot.state.version == first and seen(shot, 9, version=second) is not None


def test_a_prompt_that_goes_has_everything_tracked_again(shot: Shot) -> None:
    for frame in (0, 5):
        point(shot, frame)
    tracked(shot)
    shot.act("clear_prompt", {"subject": 0, "frame": 5})
    assert not shot.tracking.corrects() and shot.usable() is None


def test_what_is_done_is_kept_when_tracking_is_stopped(shot: Shot) -> None:
    assert isinstance(shot.tracking._worker, InThread)
    shot.tracking._worker.slowly = 0.05
    point(shot, 0)
    number = shot.tracking.start()
    with pytest.raises(UsageError, match="stop it first"):
        shot.tracking.start()
    until(lambda: (shot.tracking.entry() or {"matted": 9})["matted"] >= 2)
    shot.tracking.stop()
    until(lambda: shot.tracking.entry() is None)
    version = shot.mattes.version(number)
    assert version is not None and not version.whole and version.span[1] < FRAMES - 1
    assert shot.usable() is None and seen(shot, 1) is not None and seen(shot, FRAMES - 1) is None
    assert not list(version.folder.glob("*.track"))


def test_a_range_is_tracked_alone(shot: Shot) -> None:
    point(shot, 6)
    shot.act("set_span", {"span": [4, 8]})
    number = tracked(shot)
    version = shot.mattes.version(number)
    assert version is not None and version.span == (4, 8)
    assert seen(shot, 3) is None and seen(shot, 4) is not None
    shot.act("set_span", {"span": [2, 8]})
    assert shot.usable() is None and "--backward" in shot.command()
    shot.act("set_span", {"span": [7, 8]})
    with pytest.raises(UsageError, match="frame 6 has a prompt outside the range"):
        shot.tracking.start()


def test_two_subjects_share_pixels_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ColourModel(view_size=64)
    monkeypatch.setattr(worker_module, "load_model", lambda settings: model)
    alphas = [np.maximum(disc(SIZE, (24, 30 + k), 10), disc(SIZE, (72, 30 + k), 10)) for k in range(4)]
    clip = write_movie(tmp_path / "two.mov", 4, lambda k: picture(alphas[k]))
    desk = Desk([str(clip)])
    desk.hand, desk.tracker = InThread(), InThread()
    try:
        shot = desk.shot(0)
        shot.act("rename_subject", {"subject": 0, "name": "left"})
        shot.act("add_subject", {"name": "right"})
        shot.act("set_box", {"subject": 0, "frame": 0, "box": [12, 18, 36, 42]})
        shot.act("set_box", {"subject": 1, "frame": 0, "box": [60, 18, 84, 42]})
        number = tracked(shot)
        records = shot.tracking.records_of(number)
        assert records is not None and all(set(r["subjects"]) == {"0", "1"} for r in records["records"])
        assert "{subject}.track" in " ".join(shot.command())
        for k in range(4):
            both, left, right = seen(shot, k), seen(shot, k, subject=0), seen(shot, k, subject=1)
            assert both is not None and left is not None and right is not None
            assert float((left + right).max()) <= 1 + 1e-4
            np.testing.assert_allclose(both, np.minimum(left + right, 1), atol=1e-4)
        shot.act("set_setting", {"key": "finish.grow", "value": 2, "subject": 1})
        assert shot.state.settings().edges == {"right": {"grow": 2.0}}
        wider = seen(shot, 2, subject=1)
        assert wider is not None and right is not None and wider.sum() > 1.2 * right.sum()
        shot.act("set_box", {"subject": 1, "frame": 2, "box": [60, 18, 84, 46]})
        assert shot.tracking.corrects()
        tracked(shot)
        assert shot.usable() is not None
    finally:
        desk.close()


def test_what_a_worker_cannot_do_is_told_in_a_line(shot: Shot, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: Any) -> Any:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(worker_module, "load_model", broken)
    heard: list[dict[str, Any]] = []
    point(shot, 0)
    shot._events.tell = lambda event, **more: heard.append({"event": event, **more})  # type: ignore[method-assign]
    shot.tracking.start()
    until(lambda: shot.tracking.entry() is None)
    ended = [entry for entry in heard if entry["event"] == "ended"]
    assert ended[0]["how"] == "error" and ended[0]["message"] == "RuntimeError: out of memory"
    assert shot.state.version is None and isinstance(shot.state, State)
    assert list((shot.folder / "versions").iterdir()) == []
