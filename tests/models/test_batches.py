"""What happens where a device runs out of memory, or fails: by injected errors, which need no GPU."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mam_video.core.errors import DeviceError
from mam_video.core.geometry import Box
from mam_video.core.settings import ModelSettings, Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.models.base import Embedding
from mam_video.models.batches import ComputeParts, naming_device_failures
from mam_video.models.colour_model import ColourModel
from mam_video.models.lite import LiteModel
from mam_video.models.registry import load_model
from mam_video.prompts.prompt import Prompt
from tests.clips import planes_of
from tests.synthetic import disc, picture, write_movie

GPU = torch.device("cuda")


def limited(most: int, seen: list[int]) -> Any:
    """Work on a device that holds `most` pictures."""

    def work(part: slice) -> list[int]:
        if part.stop - part.start > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        seen.append(part.stop - part.start)
        return list(range(part.start, part.stop))

    return work


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)


def test_a_batch_is_halved_until_it_fits_and_stays_so() -> None:
    parts, seen = ComputeParts(GPU), []
    assert [*chain(*parts.run(limited(3, seen), 8))] == list(range(8))
    assert seen == [2, 2, 2, 2] and parts.most == 2
    assert [note.split(";")[0] for note in parts.notes] == [
        "cuda: its memory did not hold 8 frames at once",
        "cuda: its memory did not hold 4 frames at once",
    ]
    assert [*chain(*parts.run(limited(8, seen), 5))] == list(range(5)) and seen[4:] == [2, 2, 1]
    assert len(parts.notes) == 2


def test_what_is_done_is_not_done_again() -> None:
    """Memory may run out in the middle of a batch."""
    parts, begun = ComputeParts(GPU), []
    parts.most = 4

    def work(part: slice) -> slice:
        begun.append(part.start)
        if len(begun) == 2:
            raise torch.OutOfMemoryError
        return part

    done = parts.run(work, 8)
    assert [(part.start, part.stop) for part in done] == [(0, 4), (4, 6), (6, 8)] and begun == [0, 4, 4, 6]


def test_one_frame_that_does_not_fit_is_an_error_with_a_way_out() -> None:
    with pytest.raises(DeviceError, match=r"not enough memory for one frame; .*--device-memory.*--device cpu"):
        ComputeParts(GPU).run(limited(0, []), 4)


def test_a_model_goes_on_with_half_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model told that it is on a GPU which holds 2 pictures: the same bits as with parts of 2."""
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (640, 400, 3)).astype(np.uint8) for _ in range(4)]
    logits = (noise.random((4, 160, 160)) * 20 - 10).astype(np.float32)

    def matted(most: int | None, fits: int) -> tuple[torch.Tensor, LiteModel]:
        model = LiteModel.load(device="cpu")
        model._parts = ComputeParts(GPU)
        model._parts.most = most
        net = model._net.matte.forward

        def forward(pictures: torch.Tensor, *more: Any) -> Any:
            if len(pictures) > fits:
                raise torch.OutOfMemoryError
            return net(pictures, *more)

        monkeypatch.setattr(model._net.matte, "forward", forward)
        with torch.inference_mode():
            return model.matte(model.embed(pictures), logits), model

    found, model = matted(None, 2)
    wanted, _ = matted(2, 8)
    assert model.notes == ["cuda: its memory did not hold 4 frames at once; 2 at a time from there on"]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)  # of alphas; only the embedding's parts differ


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "cuda: out of memory; .*--device cpu"),
        (RuntimeError("CUDA error: unspecified launch failure\nmore"), r"mid-run \(CUDA error: unspecified launch f"),
    ],
)
def test_failures_of_a_device_are_one_line(error: Exception, says: str) -> None:
    with pytest.raises(DeviceError, match=says) as raised, naming_device_failures("cuda"):
        raise error
    assert "\n" not in str(raised.value)
    with pytest.raises(RuntimeError, match="shape"), naming_device_failures("cuda"):
        raise RuntimeError("shape mismatch")


class Failing(ColourModel):
    """A model whose device is lost at the given call of `matte`."""

    left: int | None = None

    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise RuntimeError("CUDA error: the launch timed out and was terminated")
        return super().matte(embedding, logits)


def test_a_device_lost_in_mid_run_leaves_what_resume_needs(tmp_path: Path) -> None:
    size = (96, 128)
    plate = write_movie(tmp_path / "p.mov", 14, lambda i: picture(disc(size, (48 + 1.5 * i, 48 + i), 21)))
    settings = Settings().with_values({"model": {"name": "fake-colour", "batch": 2}}, "test")
    prompt = Prompt(Box(26, 26, 70, 70))
    matte_clip(plate, f"{tmp_path}/whole.mov", prompt, settings)
    model = Failing()
    model.left = 5
    with pytest.raises(DeviceError, match=r"failed in mid-run .*--resume"):
        matte_clip(plate, f"{tmp_path}/cut.mov", prompt, settings, model=model, resume=True)
    assert not (tmp_path / "cut.mov").exists()
    taken_over: list[int] = []
    model.left = None
    matte_clip(plate, f"{tmp_path}/cut.mov", prompt, settings, model=model, resume=True, on_resume=taken_over.append)
    assert taken_over[0] > 0
    whole, cut = planes_of(tmp_path / "whole.mov"), planes_of(tmp_path / "cut.mov")
    assert len(whole) == len(cut) == 14
    for a, b in zip(whole, cut, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a[3], b[3], strict=True))


def test_a_cpu_has_no_limit() -> None:
    with pytest.raises(DeviceError, match="--device-memory limits a GPU's memory; this run is on cpu"):
        load_model(ModelSettings(name="classic", device="cpu", memory=4.0))
