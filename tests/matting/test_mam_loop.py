"""The classes of MAM with random weights through the whole loop: official weights only have to be dropped in."""

from pathlib import Path

import pytest

from mam_video.core.geometry import Box
from mam_video.core.settings import Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.models.mam import MamModel
from mam_video.prompts.prompt import Prompt
from tests.synthetic import disc, picture, write_movie

SIZE = (180, 240)
COUNT = 4


@pytest.fixture(scope="module")
def model() -> MamModel:
    return MamModel.random("tiny", 3, device="cpu")


def test_every_frame_comes_out_and_a_range_is_the_same_bits(tmp_path: Path, model: MamModel) -> None:
    plate = write_movie(tmp_path / "plate.mov", COUNT, lambda i: picture(disc(SIZE, (90 + 3 * i, 90), 40)))
    settings = Settings().with_values({"model": {"batch": 2}}, "test")
    prompt = Prompt(Box(50, 50, 130, 130))
    track = tmp_path / "plate.track"
    report = matte_clip(plate, f"{tmp_path}/w.####.png", prompt, settings, model=model, track_to=track)
    assert [r.index for r in report.records] == list(range(COUNT))
    again = matte_clip(plate, f"{tmp_path}/p.####.png", None, settings, model=model, track_from=track, frames=(2, 3))
    assert [r.index for r in again.records] == [2, 3]
    for i in (2, 3):
        assert (tmp_path / f"p.{1001 + i}.png").read_bytes() == (tmp_path / f"w.{1001 + i}.png").read_bytes()
