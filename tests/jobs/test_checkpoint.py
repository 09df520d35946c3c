"""A run that was cut off and goes on gives what it would have given: after Ctrl-C, and after kill -9 at any place."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mam_video.cli import main
from mam_video.core.errors import UsageError
from mam_video.core.frames import Matted
from mam_video.core.geometry import Box
from mam_video.core.settings import Settings
from mam_video.jobs.checkpoint import Checkpoint
from mam_video.jobs.matte_clip import matte_clip
from mam_video.media import WriterGroup, open_clip
from mam_video.models.colour_model import ColourModel
from mam_video.prompts.prompt import Prompt
from mam_video.report.run import RunReport
from mam_video.runtime.append_log import AppendLog
from tests.clips import planes_of
from tests.synthetic import disc, picture, write_movie

SIZE = (96, 128)
COUNT = 24
PROMPT = Prompt(Box(26, 26, 70, 70))
BOX = "26,26,70,70"
OUTPUTS = ("m.%04d.png", "m.mov", "m.mkv", "a.mov:alpha")


def plate_in(folder: Path, count: int = COUNT, **more: Any) -> Path:
    """A disc that moves, and leaves its view now and then, so that views change."""
    return write_movie(folder / "plate.mov", count, lambda i: picture(disc(SIZE, (48 + 1.5 * i, 48 + i), 21)), **more)


def settings_of(**values: dict[str, object]) -> Settings:
    return Settings().with_values({"model": {"name": "fake-colour", "batch": 4}, **values}, "test")


def stop_at(index: int) -> Callable[[Matted, RunReport], None]:
    def stop(matted: Matted, report: RunReport) -> None:
        if matted.frame.index == index:
            raise KeyboardInterrupt

    return stop


def outputs_in(folder: Path, names: tuple[str, ...] = OUTPUTS) -> list[str]:
    folder.mkdir(exist_ok=True)
    return [f"{folder}/{name}" for name in names]


def sound_of(path: Path) -> list[tuple[int | None, bytes]]:
    with av.open(str(path)) as movie:
        return [(p.pts, bytes(p)) for p in movie.demux(audio=0) if p.size] if movie.streams.audio else []


def assert_same(one: Path, other: Path) -> None:
    """Files of the same names in both folders: sequences and tracks by their bytes, movies by all that is in them."""
    names = sorted(p.name for p in one.iterdir())
    assert sorted(p.name for p in other.iterdir()) == names
    assert not [name for name in names if name.startswith(".")]
    for name in names:
        a, b = one / name, other / name
        if a.suffix == ".mkv":  # has a random number in its header
            for x, y in zip(planes_of(a), planes_of(b), strict=True):
                assert x[:3] == y[:3]
                assert all((p == q).all() for p, q in zip(x[3], y[3], strict=True))
            assert open_clip(a).info.timecode == open_clip(b).info.timecode
            assert sound_of(a) == sound_of(b)
        else:
            assert a.read_bytes() == b.read_bytes(), name


def with_label_and_sound(path: Path, timecode: str) -> Path:
    """A clip at 24000/1001 with a timecode track and PCM sound."""
    pictures = [picture(disc(SIZE, (48 + 1.5 * i, 48 + i), 21)) for i in range(COUNT)]
    with av.open(str(path), "w", options={"video_track_timescale": "24000"}) as movie:
        stream: Any = movie.add_stream("png", rate=Fraction(24000, 1001))
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "rgb24"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 24000)
        stream.metadata["timecode"] = timecode
        sound: Any = movie.add_stream("pcm_s16le", rate=48000)
        for i, rgb in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
            frame.pts, frame.time_base = 1001 * i, Fraction(1, 24000)
            movie.mux(stream.encode(frame))
            wave = np.random.default_rng(i).integers(-9000, 9000, (1, 2 * 2002)).astype(np.int16)
            heard = av.AudioFrame.from_ndarray(wave, "s16", "stereo")
            heard.sample_rate, heard.pts, heard.time_base = 48000, 2002 * i, Fraction(1, 48000)
            movie.mux(sound.encode(heard))
        movie.mux(sound.encode(None))
        movie.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("stops", [(0,), (3, 4, 17), (COUNT - 1,)])
def test_gone_on_after_an_interrupt(tmp_path: Path, stops: tuple[int, ...]) -> None:
    """Pictures, times, timecode and sound are those of a run that was never stopped, and of one that kept nothing."""
    plate = with_label_and_sound(tmp_path / "plate.mov", "01:00:00:00")
    settings = settings_of(smooth={"strength": 0.7, "radius": 2})
    for folder, keep in (("plain", False), ("whole", True)):
        outputs = outputs_in(tmp_path / folder)
        matte_clip(plate, outputs, PROMPT, settings, track_to=tmp_path / folder / "t.track", resume=keep)
    outputs = outputs_in(tmp_path / "cut")

    def run(**more: Any) -> RunReport:
        return matte_clip(plate, outputs, PROMPT, settings, track_to=tmp_path / "cut/t.track", resume=True, **more)

    for stop in stops:
        with pytest.raises(KeyboardInterrupt, match=f"frames done: {stop + 1}; the same command with --resume"):
            run(on_frame=stop_at(stop))
    report = run()
    assert f"resumed after {stops[-1] + 1} frames" in report.notes[-1]
    assert [r.index for r in report.records] == list(range(COUNT)) and len(report.frame_seconds) == COUNT
    assert not report.failed_checks and report.checks
    assert_same(tmp_path / "plain", tmp_path / "whole")
    assert_same(tmp_path / "plain", tmp_path / "cut")
    info = open_clip(tmp_path / "cut/m.mov").info
    assert str(info.timecode) == "01:00:00:00" and sound_of(tmp_path / "cut/m.mov") == sound_of(plate)


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [1001 * i + (300 if i % 3 else 0) for i in range(12)]
    plate = plate_in(tmp_path, 12, pts=times)
    matte_clip(plate, outputs_in(tmp_path / "whole"), PROMPT, settings_of())
    outputs = outputs_in(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        matte_clip(plate, outputs, PROMPT, settings_of(), resume=True, on_frame=stop_at(6))
    matte_clip(plate, outputs, PROMPT, settings_of(), resume=True)
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert [pts for pts, *_ in planes_of(tmp_path / "cut/m.mov")] == times


def test_ranges_and_tracks_are_gone_on_with(tmp_path: Path) -> None:
    """A range that begins within a batch; and one that follows a saved track, for which no model is asked where."""
    plate = plate_in(tmp_path)
    for kind in ("tracked", "followed"):
        folder = tmp_path / kind
        more: dict[str, Any] = {"frames": (5, 20), "track_to": folder / "t.track"}
        prompt: Prompt | None = PROMPT
        outputs = outputs_in(folder / "whole" if folder.mkdir() is None else folder)
        if kind == "followed":
            matte_clip(plate, f"{tmp_path}/x.####.png", PROMPT, settings_of(), track_to=tmp_path / "t.track")
            more, prompt = {"frames": (5, 20), "track_from": tmp_path / "t.track"}, None
        matte_clip(plate, outputs, prompt, settings_of(), **more)
        (folder / "t.track").unlink(missing_ok=True)
        outputs = outputs_in(folder / "cut")
        with pytest.raises(KeyboardInterrupt):
            matte_clip(plate, outputs, prompt, settings_of(), resume=True, on_frame=stop_at(13), **more)
        report = matte_clip(plate, outputs, prompt, settings_of(), resume=True, **more)
        assert [r.index for r in report.records] == list(range(5, 21))
        assert_same(folder / "whole", folder / "cut")


class Lookless(ColourModel):
    """Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.embedded = self.segmented = 0

    def embed(self, pictures: Any) -> Any:
        self.embedded += len(pictures)
        return super().embed(pictures)

    def segment(self, *arguments: Any) -> Any:
        self.segmented += 1
        return super().segment(*arguments)


def test_what_is_known_is_not_asked_again(tmp_path: Path) -> None:
    plate, outputs = plate_in(tmp_path), outputs_in(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        matte_clip(plate, outputs, PROMPT, settings_of(), resume=True, on_frame=stop_at(COUNT - 2))
    model = Lookless()
    matte_clip(plate, outputs, PROMPT, settings_of(), model=model, resume=True)
    assert model.segmented <= 4 and model.embedded <= 12


class Comparing(ColourModel):
    """What it finds depends on every bit of the references, of the moved mask and of the motion."""

    references = 3
    motion = True

    def segment(self, embedding: Any, index: int, prompt: Any) -> Any:
        found = super().segment(embedding, index, prompt)
        seen = sum(float(r.embedding.data[r.index].sum()) + float(r.logits.sum()) for r in prompt.references)
        moved = 0.0 if prompt.logits is None else float(prompt.logits.sum())
        apart = 0.0 if prompt.motion is None else float(np.abs(prompt.motion).sum())
        return replace(found, logits=found.logits + np.float32((seen + moved + apart) % 1))


@pytest.mark.parametrize("name", ["comparing", pytest.param("classic", marks=pytest.mark.slow)])
def test_a_tracker_with_references_and_motion_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    """References and motion are restored; the saved track shows every bit of what the tracker found."""
    plate = plate_in(tmp_path)
    settings = Settings().with_values({"model": {"name": "classic", "batch": 3}}, "test")
    model = Comparing() if name == "comparing" else None
    names = ("m.%04d.png",)
    whole, cut = outputs_in(tmp_path / "whole", names), outputs_in(tmp_path / "cut", names)
    matte_clip(plate, whole, PROMPT, settings, model=model, track_to=tmp_path / "whole/t.track")

    def run(**more: Any) -> None:
        track = tmp_path / "cut/t.track"
        matte_clip(plate, cut, PROMPT, settings, model=model, track_to=track, resume=True, **more)

    for stop in (7, 16):
        with pytest.raises(KeyboardInterrupt):
            run(on_frame=stop_at(stop))
    run()
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_parts_from_one_track_join_to_the_whole(tmp_path: Path) -> None:
    plate = plate_in(tmp_path)
    settings = settings_of(smooth={"strength": 0.7, "radius": 2})
    names = ("m.%04d.png", "m.%04d.exr")
    matte_clip(plate, outputs_in(tmp_path / "whole", names), PROMPT, settings, track_to=tmp_path / "t.track")
    for part in ((0, 9), (10, COUNT - 1)):
        matte_clip(
            plate, outputs_in(tmp_path / f"part{part[0]}", names), None, settings,
            track_from=tmp_path / "t.track", frames=part,
        )  # fmt: skip
    joined = tmp_path / "part0"
    for file in (tmp_path / "part10").iterdir():
        assert not (joined / file.name).exists()
        file.rename(joined / file.name)
    assert_same(tmp_path / "whole", joined)


def test_cut_off_when_the_track_has_its_name_and_the_outputs_have_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run finds its own track under its name; one that stood there before is refused."""
    plate = plate_in(tmp_path)

    def run(name: str) -> RunReport:
        outputs = outputs_in(tmp_path / name)
        return matte_clip(plate, outputs, PROMPT, settings_of(), track_to=tmp_path / name / "t.track", resume=True)

    def interrupted(kept: Checkpoint) -> None:
        raise KeyboardInterrupt

    run("whole")
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "mark", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("cut")
    assert (tmp_path / "cut/t.track").exists() and not (tmp_path / "cut/m.mov").exists()
    run("cut")
    assert_same(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/t.track").write_bytes(b"another run's")
    with pytest.raises(UsageError, match=r"t\.track: exists already"):
        run("other")
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["t.track"]


# Refused


@pytest.fixture
def cut_off(tmp_path: Path) -> Path:
    """A folder with a plate and an interrupted run of it."""
    plate = plate_in(tmp_path, 8)
    with pytest.raises(KeyboardInterrupt):
        matte_clip(plate, outputs_in(tmp_path / "out"), PROMPT, settings_of(), resume=True, on_frame=stop_at(3))
    return tmp_path


def kept_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_anything_changed_is_named_and_refused(cut_off: Path) -> None:
    plate, outputs, before = cut_off / "plate.mov", outputs_in(cut_off / "out"), kept_bytes(cut_off / "out")
    other = Prompt(Box(26, 26, 71, 70))
    retrained = ColourModel()
    retrained.weights = {"colour.safetensors": "ab" * 32}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("settings: smooth: strength changed from 0.75 to 0.5", {"settings": settings_of(smooth={"strength": 0.5})}),
        ("prompt changed", {"prompt": other}),
        ("range changed from all to 0-4", {"frames": (0, 4)}),
        ("weights: colour.safetensors changed", {"model": retrained}),
        ("outputs changed", {"outputs": outputs[:2]}),
    ]
    for says, changed in cases:
        asked = {"outputs": outputs, "prompt": PROMPT, "settings": settings_of(), **changed}
        with pytest.raises(UsageError, match=says) as refused:
            matte_clip(plate, resume=True, **asked)
        assert "\n" not in str(refused.value) and "--overwrite" in str(refused.value)
    os.utime(plate, ns=(0, 0))
    with pytest.raises(UsageError, match="input: names and times of change changed"):
        matte_clip(plate, outputs, PROMPT, settings_of(), resume=True)
    assert kept_bytes(cut_off / "out") == before


def test_without_resume_it_is_refused_or_begun_anew(cut_off: Path) -> None:
    plate, outputs = cut_off / "plate.mov", outputs_in(cut_off / "out")
    with pytest.raises(UsageError, match="--resume goes on with it, --overwrite begins anew"):
        matte_clip(plate, outputs, PROMPT, settings_of())
    matte_clip(plate, outputs, PROMPT, settings_of(output={"overwrite": True}))
    matte_clip(plate, outputs_in(cut_off / "whole"), PROMPT, settings_of())
    assert_same(cut_off / "whole", cut_off / "out")


@pytest.mark.parametrize("name", ["m.mp4", "m.webm", "m.webp", "m.mov:preview"])
def test_kinds_whose_frames_need_each_other_are_refused(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plate = plate_in(tmp_path, 3)
    code = main(["matte", str(plate), "--box", BOX, "--model", "fake-colour", "--resume", "-o", f"{tmp_path}/{name}"])
    said = capfd.readouterr().err.splitlines()
    assert code == 2 and len(said) == 1 and "--resume needs frames that stand alone" in said[0]
    assert [p.name for p in tmp_path.iterdir()] == ["plate.mov"]


def test_a_failure_before_the_first_frame_leaves_nothing(tmp_path: Path) -> None:
    plate, outputs = plate_in(tmp_path, 3), outputs_in(tmp_path / "out")
    with pytest.raises(UsageError, match="outside"):
        matte_clip(plate, outputs, Prompt(Box(500, 5, 600, 50)), settings_of(), resume=True)
    with pytest.raises(UsageError, match="90-99"):
        matte_clip(plate, outputs, PROMPT, settings_of(), resume=True, frames=(90, 99))
    assert list((tmp_path / "out").iterdir()) == []


def test_logs_end_with_their_last_whole_entry(tmp_path: Path) -> None:
    """Whatever a kill leaves of the file is a beginning of the entries; what is appended then follows it."""
    entries = [b"one", b"", b"three" * 9, b"\0" * 30]
    log = AppendLog(tmp_path / "log")
    for entry in entries:
        log.append(entry)
    log.close()
    data = (tmp_path / "log").read_bytes()
    for end in range(len(data) + 1):
        for tail in (b"", b"\0" * 40, b"\xff" * 7):
            (tmp_path / "log").write_bytes(data[:end] + tail)
            log = AppendLog(tmp_path / "log")
            found = list(log)
            assert found == entries[: len(found)] and (end < len(data) or len(found) >= 4)
            log.append(b"more")
            assert log[len(found)] == b"more"
            log.close()


# Killed


def moment(kept: Path, chance: random.Random) -> Callable[[], bool]:
    """Choose when to kill: so many frames further on, or while names are given, or while what was kept is removed.

    By what the run has done and not by the clock, which on a busy machine would always be too late or too early.
    """
    mark = chance.choice((None, None, None, "publishing", "published"))
    if mark is not None:
        return (kept / mark).exists
    wanted = len(list(kept.glob("frames/*.png"))) + chance.randrange(8)
    return lambda: len(list(kept.glob("frames/*.png"))) >= wanted


def test_cut_off_between_the_names_of_tracks_and_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The saved track has its name then, and is no other run's that must not be replaced."""
    plate, names = plate_in(tmp_path), ("m.%04d.png", "m.mov")
    whole, cut = outputs_in(tmp_path / "whole", names), outputs_in(tmp_path / "cut", names)
    matte_clip(plate, whole, PROMPT, settings_of(), track_to=tmp_path / "whole/t.track")

    def interrupted(self: WriterGroup) -> None:
        self.abort()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WriterGroup, "close", interrupted)
        with pytest.raises(KeyboardInterrupt, match=f"frames done: {COUNT}"):
            matte_clip(plate, cut, PROMPT, settings_of(), track_to=tmp_path / "cut/t.track", resume=True)
    assert (tmp_path / "cut/t.track").exists()
    matte_clip(plate, cut, PROMPT, settings_of(), track_to=tmp_path / "cut/t.track", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def kill_and_go_on(folder: Path, kills: int) -> None:
    """Runs as processes of their own, killed at random moments until they have come to an end; then compared."""
    plate = with_label_and_sound(folder / "plate.mov", "01:00:00:00")
    command = [sys.executable, "-m", "mam_video", "matte", str(plate), "--box", BOX, "--quiet", "--resume"]
    command += ["--model", "fake-colour", "--set", "model.batch=4"]
    kept = folder / "cut/.m.%04d.png.resume"

    def arguments(name: str) -> list[str]:
        named = [part for output in outputs_in(folder / name) for part in ("-o", output)]
        return [*command, *named, "--save-track", f"{folder}/{name}/t.track"]

    def ended() -> bool:
        """Whether a run has come to its end; then its outputs are compared and removed."""
        standing = [entry.name for entry in (folder / "cut").iterdir()]
        if not standing or any(name.endswith(".resume") for name in standing):
            return False
        assert_same(folder / "whole", folder / "cut")
        for file in (folder / "cut").iterdir():
            file.unlink()
        return True

    done = subprocess.run(arguments("whole"), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    chance = random.Random(9)
    killed = 0
    while killed < kills:
        (kept / "lock").unlink(missing_ok=True)
        process = subprocess.Popen(arguments("cut"), stderr=subprocess.PIPE)
        # What is done before a run has opened its outputs, no kill can harm.
        for now in ((kept / "lock").exists, moment(kept, chance)):
            while process.poll() is None and not now():
                time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        process.kill()
        _, said = process.communicate()
        killed += process.returncode == -signal.SIGKILL
        # The run before it may have been killed when all had their names and what was kept was being removed.
        complete = process.returncode == 2 and b"exist" in said and b"give --overwrite" in said
        assert complete or process.returncode in (0, -signal.SIGKILL), said.decode()
        assert ended() or process.returncode == -signal.SIGKILL
    done = subprocess.run(arguments("cut"), capture_output=True, check=False)
    complete = done.returncode == 2 and b"exist" in done.stderr and b"give --overwrite" in done.stderr
    assert complete or done.returncode == 0, done.stderr.decode()
    assert ended()


def test_killed_three_times(tmp_path: Path) -> None:
    kill_and_go_on(tmp_path, 3)


@pytest.mark.slow
def test_killed_ten_times(tmp_path: Path) -> None:
    kill_and_go_on(tmp_path, 10)
