"""What says where the subjects are: one class a kind, checked when made; and an opened clip is not opened again."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mam_video.cli import main
from mam_video.core.errors import UsageError
from mam_video.core.geometry import Box
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings
from mam_video.jobs.mask_sources import FirstFramePrompt, MultiFramePrompts, mask_source
from mam_video.jobs.matte_clip import matte_clip
from mam_video.media import ClipInfo, open_clip
from mam_video.media.movie.reader import MovieReader
from mam_video.prompts.prompt import Prompt, Prompts
from tests.synthetic import disc, picture, write_movie

CLIP = ClipInfo(Path("plate.mov"), 128, 96, Fraction(24), Fraction(1, 24))
BOX = Prompt(Box(20, 20, 60, 60))


def test_prompts_on_the_first_frame_need_one_pass() -> None:
    alone = mask_source(BOX, CLIP, None)
    assert isinstance(alone, FirstFramePrompt) and alone.subjects == ("subject",) and alone.record_names == ("",)
    assert alone.fingerprint() == {"prompt": "box=20,20,60,60", "mask": "none"}
    two = [Prompts.of({5: BOX}, "a"), Prompts.of({5: BOX}, "b")]
    both = mask_source(two, CLIP, FrameRange(5))
    assert isinstance(both, FirstFramePrompt) and both.subjects == both.record_names == ("a", "b")


def test_prompts_on_other_frames_need_two() -> None:
    several = mask_source([Prompts.of({5: BOX, 8: BOX}, "a"), Prompts.of({5: BOX}, "b")], CLIP, FrameRange(5))
    assert isinstance(several, MultiFramePrompts) and several.prompted == (5, 8)
    assert several.fingerprint()["prompt"].count("box=20,20,60,60") == 3
    assert isinstance(mask_source(Prompts.of({5: BOX}), CLIP, None, backward=True), MultiFramePrompts)
    assert isinstance(mask_source(BOX, CLIP, None, passes=2), MultiFramePrompts)  # tracked ahead


@pytest.mark.parametrize(("prompt", "frames", "more", "says"), [
    (None, None, {}, "no prompt: give a box"),
    (BOX, None, {"track": "t.track"}, "t.track: no such track file"),  # the two go together: a correction
    (None, None, {"track": "t.track", "masks": "m"}, "--track and --masks both say where the subject is"),
    (BOX, None, {"masks": "m", "trimaps": "t"}, "a prompt and --masks and --trimaps both"),
    (Prompt(Box(200, 20, 260, 60)), None, {}, "lies outside the frame"),
    (Prompts.of({3: BOX}), None, {}, "the first prompt is on frame 3 (by index): add one for frame 0"),
    (Prompts.of({0: BOX, 9: BOX}), FrameRange(0, 9), {}, "prompt on frame 9: lies outside the range 0-8"),
    ([Prompts.of({0: BOX}, "a"), Prompts.of({0: BOX}, "b")], None, {"passes": 2}, "works with one subject"),
    ([Prompts.of({0: BOX}, "a"), Prompts.of({0: BOX}, "a")], None, {}, "two subjects have one name"),
    ([Prompts.of({0: BOX}, "a"), Prompts.of({2: BOX}, "b")], None, {}, "subject 'b': the first prompt is on frame 2"),
])  # fmt: skip
def test_what_cannot_be_is_refused(prompt: Any, frames: FrameRange | None, more: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        mask_source(prompt, CLIP, frames, **more)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_clip_is_opened_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plate = write_movie(tmp_path / "plate.mov", 4, lambda i: picture(disc((96, 128), (48 + i, 48), 21)))
    opened: list[Path] = []
    original = MovieReader.__init__

    def counted(self: MovieReader, path: Path, *more: Any) -> None:
        opened.append(Path(path))
        original(self, path, *more)

    monkeypatch.setattr(MovieReader, "__init__", counted)
    arguments = [str(plate), "--box", "20,20,80,80", "--model", "fake-colour"]
    assert main(["matte", *arguments, "-o", str(tmp_path / "m.%04d.png"), "--quiet"]) == 0
    assert opened.count(plate) == 1
    opened.clear()
    assert main(["preview", *arguments, "-o", str(tmp_path / "p.png")]) == 0
    assert opened.count(plate) == 1
    opened.clear()
    with open_clip(plate) as reader:
        settings = Settings().with_values({"model": {"name": "fake-colour"}}, "test")
        matte_clip(reader, tmp_path / "a.%04d.png", Prompt(Box(20, 20, 80, 80)), settings)
        matte_clip(reader, tmp_path / "b.%04d.png", Prompt(Box(20, 20, 80, 80)), settings)
    assert opened.count(plate) == 1
    names = [[(tmp_path / f"{kind}.{1001 + i}.png").read_bytes() for i in range(4)] for kind in "mab"]
    assert names[0] == names[1] == names[2]
