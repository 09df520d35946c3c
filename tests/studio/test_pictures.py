"""Pictures for the page: every frame as it is, in any order, with ETags; bounded caches; several shots."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

for package in ("httpx", "starlette", "uvicorn", "websockets"):
    pytest.importorskip(package)

import av
import cv2
import numpy as np

from mam_video.core.errors import UsageError
from mam_video.core.settings import Settings, SmoothSettings
from mam_video.media import open_clip
from mam_video.media.background import load_background
from mam_video.media.movie.reader import MovieReader
from mam_video.studio.caches import BoundedCache
from mam_video.studio.command import command_of, default_outputs
from mam_video.studio.correction import joined, widened
from mam_video.studio.desk import Desk
from mam_video.studio.frame_store import FrameStore
from mam_video.studio.pictures import VIEW_WIDTH, alpha_of_png, codes_png, view_size
from mam_video.studio.serve import clips_in
from mam_video.studio.state import Output, State
from tests.clips import make_clip, soft_disc
from tests.studio.conftest import FRAMES, SIZE, Served
from tests.synthetic import disc, picture


def decoded(data: bytes) -> np.ndarray:
    """A picture as RGB."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@pytest.fixture
def long_clip(tmp_path: Path) -> Path:
    """An H.264 movie of 90 frames, with a key frame every 30."""
    pictures = [picture(disc((90, 160), (45, 20 + k), 18)) for k in range(90)]
    options = {"crf": "12", "g": "30", "bf": "2"}
    return make_clip(tmp_path / "long.mp4", pictures, codec="libx264", pixel_format="yuv420p", options=options,
                     tags=(1, 1, 1, 1))  # fmt: skip


def test_frames_in_any_order_are_those_of_one_pass(long_clip: Path) -> None:
    with open_clip(long_clip) as reader:
        right = [frame.rgb8 for frame in reader.frames()]
    ended = threading.Event()
    with FrameStore(open_clip(long_clip), lambda indexed, count, done: ended.set() if done else None) as store:
        for k in (0, 5, 80, 79, 78, 30, 31, 89, 2, 60):  # 80 waits until the background pass has come to it
            np.testing.assert_array_equal(decoded(store.picture(k, full=True)), right[k])
            assert np.abs(decoded(store.picture(k, full=False)).astype(float) - right[k]).mean() < 4
        assert ended.wait(20) and (store.count, store.indexed, store.whole) == (90, 90, True)
        with pytest.raises(UsageError, match="holds no frame 90"):
            store.picture(90, full=False)


def test_quick_views_are_the_frames_but_for_some_codes(long_clip: Path) -> None:
    with MovieReader(long_clip) as reader:
        frames = {frame.index: frame.rgb8 for frame in reader.frames(10, 20)}
        views = dict(reader.views(160, 90, 10, 20) or ())
        assert list(views) == list(frames)
        for k, view in views.items():
            assert np.abs(view.astype(float) - frames[k]).mean() < 2.5
        small = next(iter(reader.views(80, 45, 3, 4) or ()))
        assert small[0] == 3 and small[1].shape == (45, 80, 3)


def test_a_movie_without_a_quick_way_says_so(clip: Path) -> None:
    with MovieReader(clip) as reader:  # RGB
        assert reader.views(48, 36, 0, 1) is None


def test_plates_come_with_tags_and_every_pixel(served: Served, clip: Path) -> None:
    with open_clip(clip) as reader:
        frames = list(reader.frames())
    for k in (0, 7, FRAMES - 1):
        answer = served.client.get(f"/api/0/frame/{k}?size=full")
        assert answer.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(decoded(answer.content), frames[k].rgb8)
        again = served.client.get(f"/api/0/frame/{k}?size=full", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304 and again.content == b""
    assert served.client.get(f"/api/0/frame/{FRAMES}").status_code == 400
    assert served.client.get("/api/0/matte/0").status_code == 204
    assert served.client.get("/api/1/frame/0").status_code == 400
    told: dict[str, Any] = served.client.get("/api/0/pixel/3?x=40&y=30").json()
    assert told["rgb"] == frames[3].rgb[30, 40].tolist() and told["alpha"] is None


def test_a_cache_holds_no_more_than_it_may() -> None:
    cache: BoundedCache[int] = BoundedCache(100)
    for k in range(50):
        cache.put(k, k, 30)
        cache.get(47)
        assert cache.held <= 100
    assert [k for k in range(50) if cache.get(k) is not None] == [47, 48, 49]
    cache.put("large", 1, 1000)  # one value is kept, however large
    assert cache.get("large") == 1 and cache.get(49) is None
    cache.put("large", 2, 10)
    assert cache.held == 10


def test_mattes_are_kept_with_16_bits() -> None:
    alpha = soft_disc(40, 60)
    assert np.abs(alpha_of_png(codes_png(alpha)) - alpha).max() <= 0.5 / 65535 + 1e-7
    with pytest.raises(ValueError, match="not a matte"):
        alpha_of_png(b"\x89PNG cut off")


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (4096, 2160), (640, 360), (1101, 1), (1, 1), (2048, 858)])
def test_views_are_halved_until_they_are_small(width: int, height: int) -> None:
    w, h = view_size(width, height)
    assert 1 <= w <= VIEW_WIDTH and h >= 1 and (w == width or w > VIEW_WIDTH / 2 - 1)


def test_several_shots_of_a_folder(clip: Path) -> None:
    shutil.copy(clip, clip.with_name("b.mov"))
    (clip.parent / "notes.txt").write_text("no clip")
    frames = clip.parent / "seq"
    frames.mkdir()
    for k in range(3):
        cv2.imwrite(str(frames / f"f.{1001 + k}.png"), np.full((40, 60, 3), 40 * k, np.uint8))
    assert [Path(each).name for each in clips_in(str(clip.parent))] == ["b.mov", "plate.mov", "seq"]
    assert clips_in(str(frames)) == [str(frames)]
    desk = Desk(clips_in(str(clip.parent)))
    try:
        with pytest.raises(UsageError, match="no shot is left to run"):
            desk.queue({"all": True})
        assert [desk.shot(k).frames.count for k in range(3)] == [FRAMES, FRAMES, 3]
        assert desk.shot(2).clip_entry()["numbers"] == [1001, 1003]
        desk.shot(2).act("set_box", {"subject": 0, "frame": 1, "box": [5, 5, 30, 30]})
        assert "frame = 1002" in (clip.parent / "seq.studio" / "prompts.toml").read_text()
        assert desk.shot(0).state == State()
        with pytest.raises(UsageError, match="draw a box around the subject first"):
            desk.queue({"shot": 0})
    finally:
        desk.close()


def test_a_folder_without_clips_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no clip"):
        clips_in(str(tmp_path))


def test_the_command_says_all(clip: Path) -> None:
    with open_clip(clip) as reader:
        info = reader.info
    state = State(span=(2, 8), outputs=(Output("a.mov", "prores"), Output("b.mp4", "preview", 1)))
    places = (clip.parent, clip.parent / "p")
    words = command_of(str(clip), clip.parent / "p", info, state, state.outputs, places, None)
    assert words[:5] == ["mam-video", "matte", str(clip), "--prompts", str(clip.parent / "p" / "prompts.toml")]
    assert words[words.index("--range") + 1] == "2-8" and "--resume" not in words  # .mp4 cannot be resumed
    assert f"{clip.parent / 'p' / 'b.mp4'}:preview" in words
    assert default_outputs(Path("shots/a.%04d.exr"), ["x", "y"])[0].name == "a.{subject}.matte.mov"


def test_ranges_that_are_tracked_again_are_joined_and_widened() -> None:
    assert joined([range(20, 30), range(3, 9), range(9, 12), range(25, 40)]) == [range(3, 12), range(20, 40)]
    assert widened(range(3, 9), (0, 9), SmoothSettings(radius=2)) == range(1, 10)
    assert widened(range(3, 9), (0, 99), SmoothSettings(strength=0)) == range(3, 9)


def test_the_sample_has_a_quick_way() -> None:
    sample = Path(__file__).resolve().parents[2] / "samples" / "rabbit.mp4"
    with MovieReader(sample) as reader, av.open(str(sample)) as container:
        views = reader.views(640, 360, 0, 1)
        assert views is not None and container.streams.video[0].width == 1280
        assert next(iter(views))[1].shape == (360, 640, 3)


def test_backgrounds_lie_as_behind_a_written_preview(clip: Path, tmp_path: Path) -> None:
    behind = make_clip(tmp_path / "behind.mov", [np.full((40, 96, 3), 60 * k, np.uint8) for k in range(4)])
    wall = np.zeros((30, 30, 3), np.uint8)
    wall[:, 15:] = 200
    cv2.imwrite(str(tmp_path / "wall.png"), wall)
    desk = Desk([str(clip)], backgrounds=[str(tmp_path / "wall.png"), str(behind)])
    try:
        assert desk.entry()["backgrounds"] == [
            {"name": "wall.png", "moves": False}, {"name": "behind.mov", "moves": True},
        ]  # fmt: skip
        shown = decoded(desk.backdrops.picture(0, 5, SIZE))
        assert shown.shape == (*SIZE, 3) and shown[:, :40].max() < 12 and shown[:, 60:].min() > 188
        values = [decoded(desk.backdrops.picture(1, k, SIZE)).mean() for k in (3, 0, 1, 11)]
        right = load_background(str(behind), *SIZE, open_clip)
        wanted = [right.picture(k).mean() / 257 for k in (3, 0, 1, 11)]
        right.close()
        assert np.abs(np.subtract(values, wanted)).max() < 2 and wanted[0] == wanted[3]  # the last one stays
        shot = desk.shot(0)
        shot.act("set_background", {"background": 1})
        settings = Settings.load(str(shot.folder / "settings.toml"))
        assert settings.output.background == str(behind) and settings == shot.state.settings()
        for number in (2, -1, True, "1", str(behind)):
            with pytest.raises(UsageError):
                shot.act("set_background", {"background": number})
        with pytest.raises(UsageError, match="no such background"):
            desk.backdrops.picture(2, 0, SIZE)
        shot.act("set_background", {"background": None})
        assert shot.state.settings() == Settings()
    finally:
        desk.close()
    with pytest.raises(UsageError, match="cannot be read"):
        Desk([str(clip)], backgrounds=[str(tmp_path / "none.png")])
