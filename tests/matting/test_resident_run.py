"""Whole runs whose frames stay on a device from upload to download: the files, the copies, and that nothing is read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
import torch

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.core.geometry import Box
from mam_video.core.planes import PlaneRecipe
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.matting.backend import Wanted
from mam_video.matting.device.backend import TorchBackend, _Delivery
from mam_video.matting.edge_ops import Overrides
from mam_video.matting.opencv_backend import OpenCVBackend
from mam_video.matting.pipeline import backend_of, matte_frames
from mam_video.matting.temporal_filter import smooth_by
from mam_video.models.colour_model import ColourModel
from mam_video.models.transfers import counted
from mam_video.motion.flow import with_motion
from mam_video.prompts.prompt import Prompt, Prompts
from mam_video.runtime.stage_timer import StageTimer
from mam_video.tracking.types import MaskObservation, TrackedFrame
from tests.clips import planes_of
from tests.media.sequence_clips import read_exr
from tests.synthetic import disc, picture, write_movie

SIZE = (120, 160)
COUNT = 6
BOX = Box(30, 30, 78, 78)
TRUST = (
    2 * 0.072
)  # what smoothing may differ by where a colour lies half way between codes; tests/matting/test_backends.py


def plate(folder: Path) -> Path:
    return write_movie(folder / "plate.mov", COUNT, lambda i: picture(disc(SIZE, (54 + 2 * i, 54 + i), 22)))


def settings_of(stages: str, **values: dict[str, Any]) -> Settings:
    model = {"name": "fake-colour", "stages": stages, **values.pop("model", {})}
    return Settings().with_values({"model": model, "output": {"overwrite": True}, **values}, "test")


def run(source: Path, output: str, settings: Settings, prompt: Any = None, **more: Any) -> list[Matted]:
    """Matte a clip to a file; return the frames as the caller is shown them."""
    shown: list[Matted] = []
    prompt = {"prompt": prompt or Prompt(BOX)}
    matte_clip(source, output, **prompt, settings=settings, on_frame=lambda m, _: shown.append(m), **more)
    return shown


def test_the_backend_is_chosen_by_device_and_setting() -> None:
    model = ColourModel()
    for stages, kind in (("auto", OpenCVBackend), ("host", OpenCVBackend), ("device", TorchBackend)):
        chosen = backend_of(model, settings_of(stages), Overrides(), StageTimer())
        assert isinstance(chosen, kind)


@pytest.mark.parametrize(
    "output", ["m.mkv", "m.mov", "a.mov:alpha", "a.mkv:alpha", "m.webm", "m.mp4", "m/", "m.%04d.exr"]
)
def test_files_are_those_of_the_other_backend(tmp_path: Path, output: str) -> None:
    """Also where only a writer can make what it writes (WebM, H.264, PNG, EXR): it is given the downloaded frame."""
    source = plate(tmp_path)
    shown, found = [], []
    for stages in ("host", "device"):
        folder = tmp_path / stages
        folder.mkdir()
        shown.append(run(source, f"{folder}/{output}", settings_of(stages)))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        assert files
        found.append([path.name for path in files])
    assert found[0] == found[1]
    for one, other in zip(*shown, strict=True):
        assert np.abs(one.alpha - other.alpha).max() <= TRUST
        assert (np.abs(one.alpha - other.alpha) > 1e-3).mean() < 0.01
        assert one.frame.pts == other.frame.pts and (one.frame.rgb == other.frame.rgb).all()
        assert one.record.state is other.record.state and one.record.box == other.record.box
        assert one.record.agreement == pytest.approx(other.record.agreement, abs=0.01)
        assert one.record.flicker == pytest.approx(other.record.flicker, abs=0.01)


@pytest.mark.parametrize("stages", ["host", "device"])
def test_a_lossless_movie_holds_what_was_shown(tmp_path: Path, stages: str) -> None:
    """Alpha rounded to a code, and the plate's own colour where it is solid; only there and at the edge any change."""
    shown = run(plate(tmp_path), str(tmp_path / "m.mkv"), settings_of(stages))
    files = list(planes_of(tmp_path / "m.mkv"))
    assert len(files) == len(shown) == COUNT
    for (*_, (green, blue, red, alpha)), matted in zip(files, shown, strict=True):
        np.testing.assert_array_equal(alpha, np.rint(matted.alpha * np.float32(65535)).astype(np.uint16))
        rgb = np.stack([red, green, blue], 2)
        wide = matted.frame.rgb if matted.frame.rgb.dtype == np.uint16 else matted.frame.rgb.astype(np.uint16) * 257
        hard = (matted.alpha >= 1) | (disc(SIZE, (54 + 2 * matted.frame.index, 54 + matted.frame.index), 30) == 0)
        np.testing.assert_array_equal(rgb[hard], wide[hard])
        edge = (matted.alpha > 0.2) & (matted.alpha < 0.9)
        assert edge.any() and (rgb[edge] != wide[edge]).any()  # its background was taken out
        assert (
            np.abs(rgb[edge].astype(int) - [0, 65535, 0]).mean() < np.abs(wide[edge].astype(int) - [0, 65535, 0]).mean()
        )


@pytest.mark.parametrize("finish", [{}, {"grow": 1.5, "feather": 2.0}, {"invert": True}])
def test_several_subjects(tmp_path: Path, finish: dict[str, Any]) -> None:
    source = plate(tmp_path)
    prompts = [Prompts.of({0: Prompt(BOX)}, "one"), Prompts.of({0: Prompt(Box(32, 20, 84, 60))}, "two")]
    rows = []
    for stages in ("host", "device"):
        outputs = str(tmp_path / f"{stages}-{{subject}}.mkv")
        rows.append(run(source, outputs, settings_of(stages, finish=finish), prompts))
    for one, other in zip(*rows, strict=True):
        assert [p.record.subject for p in other.parts] == ["one", "two"]
        for a, b in zip((one, *one.parts), (other, *other.parts), strict=True):
            assert np.abs(a.alpha - b.alpha).max() <= 2 * TRUST and (np.abs(a.alpha - b.alpha) > 1e-3).mean() < 0.01
            assert a.record.agreement == pytest.approx(b.record.agreement, abs=0.01)
        assert other.record.flicker == max(
            (p.record.flicker for p in other.parts if p.record.flicker is not None), default=None
        )


def test_a_float_plate_with_alpha(tmp_path: Path) -> None:
    """Half floats through a look, with an alpha of the plate's own, to EXR: values beyond white and beyond 0."""
    (tmp_path / "plate").mkdir()
    for i in range(3):
        alpha = disc(SIZE, (54 + 2 * i, 54), 22)
        rgb = (picture(alpha).astype(np.float32) / 255) ** 2.2 * 1.5 - 0.01
        own = np.clip(1.4 - np.mgrid[: SIZE[0], : SIZE[1]][1] / 120, 0, 1).astype(np.float32)
        channels = dict(zip("RGB", np.moveaxis((rgb * own[..., None]).astype(np.float16), 2, 0), strict=True))
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        file = OpenEXR.File(header, {**channels, "A": own.astype(np.float16)})
        file.write(str(tmp_path / "plate" / f"p.{i:04d}.exr"))
    read = []
    for stages in ("host", "device"):
        run(tmp_path / "plate" / "p.%04d.exr", f"{tmp_path}/{stages}/m.%04d.exr", settings_of(stages))
        read.append([read_exr(path)[1] for path in sorted((tmp_path / stages).glob("*.exr"))])
    assert len(read[0]) == len(read[1]) == 3
    for one, other in zip(*read, strict=True):
        for name in "RGBA":
            a, b = (np.asarray(each[name], np.float32) for each in (one, other))
            assert np.abs(a - b).max() <= 2 * TRUST and (np.abs(a - b) > 0.01).mean() < 0.01


def test_a_range_has_the_bits_of_the_whole(device: torch.device, tmp_path: Path) -> None:
    source = plate(tmp_path)
    settings = settings_of("device", model={"name": "lite", "device": device.type, "batch": 2})
    track = str(tmp_path / "t.track")
    whole = run(source, str(tmp_path / "m.mkv"), settings, track_to=track)
    part: list[Matted] = []
    matte_clip(
        source, tmp_path / "p.mkv", settings=settings, track_from=track, frames=FrameRange(2, 5),
        on_frame=lambda m, _: part.append(m),
    )  # fmt: skip
    assert [m.frame.index for m in part] == [2, 3, 4]
    for matted in part:
        np.testing.assert_array_equal(matted.alpha, whole[matted.frame.index].alpha)
    pictures = [list(planes_of(tmp_path / name)) for name in ("m.mkv", "p.mkv")]
    for k, (*_, planes) in enumerate(pictures[1]):
        assert all(np.array_equal(a, b) for a, b in zip(planes, pictures[0][2 + k][-1], strict=True))


def test_a_frame_goes_up_once_is_read_once_and_comes_down_once(device: torch.device, tmp_path: Path) -> None:
    """Beside that a frame's prompt goes up, and a batch's masks; tables only where a crop or a size is new."""
    settings = settings_of("device", model={"name": "lite", "device": device.type, "batch": 3})
    source = plate(tmp_path)
    before = counted()
    run(source, str(tmp_path / "m.mov"), settings)
    up, down = (
        {what: n - old.get(what, 0) for what, n in new.items() if n > old.get(what, 0)}
        for old, new in zip(before, counted(), strict=True)
    )
    # More where the user points (four views, four times each, then two times), and one back (`tracking/track_back.py`).
    looks = (4 * 4 + 2 - 1) + 1
    batches = COUNT / 3
    assert up.pop("frame") == down.pop("frame") == COUNT
    assert down.pop("candidates") == up.pop("prompt") == COUNT + looks
    assert down.pop("cells") == up.pop("masks") == up.pop("limits") == up.pop("guides") == batches
    assert down == {} and set(up) <= {"references", "tables"}


def test_mattes_hold_no_memory_of_the_device(tmp_path: Path) -> None:
    frames = [picture(disc(SIZE, (54 + 2 * i, 54), 22)) for i in range(3)]
    for matted in matte_frames(frames, BOX, None, settings_of("device")):
        assert type(matted.frame) is Frame and isinstance(matted.alpha, np.ndarray)


@pytest.mark.parametrize(
    ("levels", "guidance", "dtype"), [(1, "alpha", np.uint8), (3, "mask", np.uint16), (3, "alpha", np.float16)]
)
def test_no_stage_reads_a_number_of_the_device(levels: int, guidance: str, dtype: Any) -> None:
    """PyTorch's device `meta` has shapes and no numbers: whatever reads one fails there. Every stage passes."""
    values = {"finish": {"choke": 1.0, "grow": 2.5, "feather": 3.0, "white": 0.9}, "matte": {"guidance": guidance}}
    settings = Settings().with_values({**values, "smooth": {"radius": 2}}, "test")
    size = (60, 80)
    mask = np.full(size, 0.5, np.float32)

    class Mask:
        def at(self, index: int) -> np.ndarray:
            return mask

    where = torch.device("meta")
    backend = TorchBackend(where, settings, Overrides(Mask(), Mask(), Mask()))
    rgb = np.zeros((*size, 3), dtype)
    plain = (Frame(i, i, Fraction(1, 24), rgb, alpha=mask) for i in range(3))
    crop = Crop(10, 5, 60, 50, 32)
    logits = np.where(np.mgrid[:16, :16][0] > 6, np.float16(3), np.float16(-3))
    rows = []
    for frame, motion in backend.frames(with_motion(plain, settings.motion)):
        items = []
        for subject in ("one", "two"):
            record = Record(frame.index, frame.pts, State.TRACKED, BOX, 1, 0.1, subject=subject)
            items.append(TrackedFrame(frame, motion, MaskObservation(record, crop, logits)))
        maps = torch.zeros(2, levels, 32, 32, device=where)
        rows.append([backend.refined(c) for c in backend.crops(items, maps, np.stack([logits] * 2).astype(np.float32))])
    wanted = Wanted(
        frozenset((None, "one", "two")),
        ((None, PlaneRecipe(((1, 0, 0, 0, 0), (0, 0, 0, 65535, 0)), True)), ("one", None)),
    )
    columns = [
        list(backend.flickers(smooth_by(backend.averaged, column, settings.smooth)))
        for column in zip(*rows, strict=True)
    ]
    for row in zip(*columns, strict=True):
        matted = backend.edited(row)
        assert matted.alpha.shape == size and matted.alpha.device == where
        delivery = backend._begun(matted, wanted)
        assert isinstance(delivery, _Delivery) and delivery.keys
