"""Masks, trimaps and garbage mattes made elsewhere: which belongs to which frame, and what comes of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import OpenEXR
import pytest

from mam_video.cli import main
from mam_video.core.errors import MamVideoError
from mam_video.core.frames import Matted, State
from mam_video.core.geometry import box_of_mask
from mam_video.core.settings import ViewSettings
from mam_video.jobs.external_masks import middle_of_trimap
from mam_video.jobs.matte_clip import matte_clip
from mam_video.media import open_clip
from mam_video.media.mask_reader import Masks
from mam_video.models.colour_model import ColourModel
from mam_video.prompts.prompt import Prompt
from mam_video.tracking.mask_ops import mask_logits
from mam_video.tracking.search_region import held_crop
from tests.clips import make_clip
from tests.matting.test_pipeline import RADIUS, centre_of, first_box, moving_disc, read_png, settings_of
from tests.media.sequence_clips import write_exr
from tests.synthetic import disc, picture

SIZE = (120, 160)


class Unasked(ColourModel):
    """Mattes, and must not be asked where the subject is."""

    def segment(self, *arguments: object) -> Any:
        raise AssertionError("the segmenter was asked")


def truth(i: int) -> np.ndarray:
    return disc(SIZE, centre_of(i, SIZE), RADIUS)


def write_masks(folder: Path, count: int, first: int = 0, of: Any = truth) -> Path:
    """mask.####.png of 8 bits; the pattern."""
    folder.mkdir(exist_ok=True)
    for i in range(count):
        cv2.imwrite(str(folder / f"mask.{first + i:04d}.png"), np.rint(of(i) * 255).astype(np.uint8))
    return folder / "mask.%04d.png"


def test_masks_take_the_segmenters_place(tmp_path: Path) -> None:
    plate = moving_disc(tmp_path, SIZE, 6)
    masks = write_masks(tmp_path / "masks", 6)
    model, settings, track = Unasked(), settings_of(), tmp_path / "t.track"
    report = matte_clip(plate, f"{tmp_path}/m/:alpha", None, settings, model=model, masks=masks, track_to=track)
    for i, file in enumerate(sorted((tmp_path / "m").glob("*.png"))):
        assert np.abs(read_png(file) - truth(i)).mean() < 0.004
        box = box_of_mask(truth(i))
        assert box is not None and report.records[i].box == box and report.records[i].state is State.PROMPTED
    matte_clip(plate, f"{tmp_path}/again/:alpha", None, settings, model=model, track_from=track)
    for one, other in zip(sorted((tmp_path / "m").iterdir()), sorted((tmp_path / "again").iterdir()), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_masks_as_a_movie_and_a_range_of_them_are_the_same_bits(tmp_path: Path) -> None:
    plate = moving_disc(tmp_path, SIZE, 14)
    grey = [np.repeat(np.rint(truth(i) * 255).astype(np.uint8)[..., None], 3, 2) for i in range(14)]
    movie = make_clip(tmp_path / "masks.mkv", grey, codec="ffv1", pixel_format="bgr0")
    settings = settings_of(smooth={"strength": 0.7, "radius": 2}, model={"name": "fake-colour", "batch": 4})
    matte_clip(plate, tmp_path / "whole.####.png", None, settings, masks=movie)
    matte_clip(plate, tmp_path / "files.####.png", None, settings, masks=write_masks(tmp_path / "masks", 14, 86))
    matte_clip(plate, tmp_path / "part.####.png", None, settings, masks=movie, frames=(5, 9))
    parts = sorted(p.name for p in tmp_path.glob("part.*.png"))
    assert len(parts) == 5
    for name in parts:
        assert (tmp_path / name).read_bytes() == (tmp_path / name.replace("part", "whole")).read_bytes()
        assert (tmp_path / name).read_bytes() == (tmp_path / name.replace("part", "files")).read_bytes()


def test_a_run_of_masks_is_gone_on_with_and_only_with_the_same_masks(tmp_path: Path) -> None:
    plate, settings = moving_disc(tmp_path, SIZE, 8), settings_of()
    masks = write_masks(tmp_path / "masks", 8)

    def stop(matted: Matted, report: Any) -> None:
        if matted.frame.index == 3:
            raise KeyboardInterrupt

    matte_clip(plate, tmp_path / "whole.####.png", None, settings, masks=masks)
    with pytest.raises(KeyboardInterrupt):
        matte_clip(plate, tmp_path / "cut.####.png", None, settings, masks=masks, resume=True, on_frame=stop)
    other = write_masks(tmp_path / "other", 8, of=lambda i: np.ones(SIZE, np.float32))
    with pytest.raises(MamVideoError, match="cannot be resumed: masks: "):
        matte_clip(plate, tmp_path / "cut.####.png", None, settings, masks=other, resume=True)
    report = matte_clip(plate, tmp_path / "cut.####.png", None, settings, masks=masks, resume=True)
    assert "resumed after 4 frames" in report.notes[-1] and len(report.records) == 8
    for name in sorted(p.name for p in tmp_path.glob("whole.*.png")):
        assert (tmp_path / name).read_bytes() == (tmp_path / name.replace("whole", "cut")).read_bytes()


def test_frames_without_a_subject_have_an_empty_alpha(tmp_path: Path) -> None:
    plate = moving_disc(tmp_path, SIZE, 4)
    masks = write_masks(tmp_path / "m", 4, of=lambda i: truth(i) if i == 2 else np.zeros(SIZE, np.float32))
    matte_clip(plate, f"{tmp_path}/a/:alpha", None, settings_of(smooth={"strength": 0.0}), masks=masks)
    sums = [read_png(f).sum() > 0 for f in sorted((tmp_path / "a").glob("*.png"))]
    assert sums == [False, False, True, False]


def test_a_first_mask_stands_in_place_of_a_box(tmp_path: Path) -> None:
    """The subject is told by the mask: of two discs of one colour the one that it covers, and it is followed."""
    plate = moving_disc(tmp_path, SIZE, 5)
    first = write_masks(tmp_path / "masks", 1).parent / "mask.0000.png"
    arguments = ["matte", str(plate), "--mask", str(first), "--model", "fake-colour", "--quiet"]
    assert main([*arguments, "-o", f"{tmp_path}/m/:alpha"]) == 0
    for i, file in enumerate(sorted((tmp_path / "m").glob("*.png"))):
        assert np.abs(read_png(file) - truth(i)).mean() < 0.01
    half = truth(0)
    half[:, int(centre_of(0, SIZE)[0]) :] = 0
    prompt = Prompt.of_mask(half)
    report = matte_clip(plate, f"{tmp_path}/h/:alpha", prompt, settings_of(smooth={"strength": 0.0}))
    assert report.records[0].state is State.PROMPTED and report.records[0].box == prompt.box
    alpha = read_png(sorted((tmp_path / "h").glob("*.png"))[0])
    assert alpha[:, int(centre_of(0, SIZE)[0]) + 12 :].max() == 0 and alpha.sum() > 0.4 * truth(0).sum()


def test_a_trimap_is_final_outside_its_grey(tmp_path: Path) -> None:
    """The trimap is surely subject in a square that the model would leave out, and surely not on the disc's right."""
    plate = moving_disc(tmp_path, SIZE, 3)

    def trimap(i: int) -> np.ndarray:
        x, y = centre_of(i, SIZE)
        tri = np.where(disc(SIZE, (x, y), RADIUS + 6) > 0, np.float32(0.5), np.float32(0))
        tri[disc(SIZE, (x, y), RADIUS - 6) == 1] = 1
        tri[:, int(x) + 10 :] = 0
        tri[100:110, 5:15] = 1
        return tri

    matte_clip(plate, f"{tmp_path}/a/:alpha", None, settings_of(), trimaps=write_masks(tmp_path / "t", 3, of=trimap))
    for i, file in enumerate(sorted((tmp_path / "a").glob("*.png"))):
        alpha, tri = read_png(file), trimap(i)
        assert (alpha[tri == 0] == 0).all() and (alpha[tri == 1] == 1).all()
        assert np.abs(alpha - truth(i))[tri == 0.5].mean() < 0.02


def test_a_trimap_without_a_sure_subject_or_background() -> None:
    grey = np.full((20, 30), 0.5, np.float32)
    assert (middle_of_trimap(grey) == 1).all()
    grey[:, :10], grey[:, 20:] = 0, 1
    along = middle_of_trimap(grey)[10]
    assert along[9] == 0 and along[20] == 1 and (np.diff(along[9:21]) > 0).all() and along[14] < 0.5 < along[15]


def test_garbage_mattes_by_still_and_by_frame(tmp_path: Path) -> None:
    plate = moving_disc(tmp_path, SIZE, 3)
    left = np.zeros(SIZE, np.float32)
    left[:, :50] = 1
    still = write_masks(tmp_path / "still", 1, of=lambda i: left).parent / "mask.0000.png"
    moving = write_masks(tmp_path / "moving", 3, of=lambda i: np.roll(left, 100 + i, 1) * (np.arange(160) > 90))
    arguments = ["matte", str(plate), "--box", str(first_box(SIZE).box), "--model", "fake-colour", "--quiet"]
    more = ["--exclude", str(still), "--include", str(moving)]
    assert main([*arguments, *more, "-o", f"{tmp_path}/m/:alpha"]) == 0
    for i, file in enumerate(sorted((tmp_path / "m").glob("*.png"))):
        alpha = read_png(file)
        assert alpha[:, :50].max() == 0 and (alpha[:, 100 + i : 150 + i] == 1).all() and alpha.sum() > 0
        assert np.abs(alpha[:, 50:90] - truth(i)[:, 50:90]).max() < 0.2


# Which belongs to which frame


def masks_of(source: Path, plate: Path) -> Masks:
    with open_clip(plate) as reader:
        return Masks(source, reader.info, "--masks")


def write_plate(folder: Path, first: int, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        cv2.imwrite(str(folder / f"plate.{first + i}.png"), picture(truth(i))[..., ::-1])
    return folder / "plate.%04d.png"


def mean_levels(masks: Masks, frames: range) -> list[int]:
    with masks:
        return [round(float(masks.at(i).mean()) * 255) for i in frames]


def flat(i: int) -> np.ndarray:
    return np.full(SIZE, (10 + 10 * i) / 255, np.float32)


def test_frames_go_by_number_else_by_order(tmp_path: Path) -> None:
    plate = write_plate(tmp_path / "plate", 1001, 4)
    same = masks_of(write_masks(tmp_path / "same", 6, 1000, flat), plate)
    assert (same.first, same.stop) == (0, 4) and mean_levels(same, range(4)) == [20, 30, 40, 50]
    some = masks_of(write_masks(tmp_path / "some", 2, 1002, flat), plate)
    assert (some.first, some.stop) == (1, 3) and mean_levels(some, range(1, 3)) == [10, 20]
    zero = masks_of(write_masks(tmp_path / "zero", 4, 0, flat), plate)
    assert mean_levels(zero, range(4)) == [10, 20, 30, 40]
    movie = moving_disc(tmp_path, SIZE, 4)
    assert mean_levels(masks_of(write_masks(tmp_path / "any", 4, 77, flat), movie), range(4)) == [10, 20, 30, 40]
    folder = write_masks(tmp_path / "folder", 4, 5, flat).parent
    assert mean_levels(masks_of(folder, movie), range(4)) == [10, 20, 30, 40]
    back = masks_of(folder, movie)
    with back:
        assert [round(float(back.at(i).mean()) * 255) for i in (3, 0, 2, 2)] == [40, 10, 30, 30]


def test_the_alpha_channel_where_there_is_one_and_exr_by_its_windows(tmp_path: Path) -> None:
    plate = write_plate(tmp_path / "plate", 1001, 1)
    alpha = truth(0)
    bgra = np.dstack([np.zeros((*SIZE, 3), np.uint8), np.rint(alpha * 255).astype(np.uint8)])
    cv2.imwrite(str(tmp_path / "rgba.png"), bgra)
    with masks_of(tmp_path / "rgba.png", plate) as masks:
        np.testing.assert_allclose(masks.at(0), alpha, atol=0.51 / 255)
    part = np.ascontiguousarray(alpha[20:100, 10:130])
    header = {
        "compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage,
        "dataWindow": ((10, 20), (129, 99)), "displayWindow": ((0, 0), (SIZE[1] - 1, SIZE[0] - 1)),
    }  # fmt: skip
    for name in ("A", "matte.A", "Y"):
        OpenEXR.File(header, {name: part}).write(str(tmp_path / "m.exr"))
        with masks_of(tmp_path / "m.exr", plate) as masks:
            whole = np.zeros(SIZE, np.float32)
            whole[20:100, 10:130] = part
            np.testing.assert_array_equal(masks.at(0), whole)
    OpenEXR.File(header, {"one": part, "two": part}).write(str(tmp_path / "m.exr"))
    with masks_of(tmp_path / "m.exr", plate) as masks, pytest.raises(MamVideoError, match="which of its channels"):
        masks.at(0)


def test_an_overscanned_plate_and_its_own_matte_as_masks(tmp_path: Path) -> None:
    """What we write of a plate with overscan is read as its mask again, at the same place."""
    from mam_video.media.view_transforms import SRGB

    for i in range(2):
        rgb = SRGB.linear(picture(truth(i))).astype(np.float16)
        display = (10, 10, SIZE[1] - 20, SIZE[0] - 20)
        write_exr(tmp_path / f"plate.{1001 + i}.exr", rgb, corner=(0, 0), display=display)
    plate, settings = tmp_path / "plate.%04d.exr", settings_of(smooth={"strength": 0.0})
    matte_clip(plate, tmp_path / "m.%04d.exr:alpha", first_box(SIZE), settings)
    matte_clip(plate, tmp_path / "n.%04d.exr:alpha", None, settings, masks=tmp_path / "m.%04d.exr")
    for number in (1001, 1002):
        one, other = (OpenEXR.File(str(tmp_path / f"{k}.{number}.exr"), separate_channels=True) for k in "mn")
        a, b = (f.channels()["A"].pixels.astype(np.float32) for f in (one, other))
        assert np.abs(a - b).max() < 0.01 and a.sum() > 100


@pytest.mark.parametrize(("arguments", "says"), [
    ("--masks {three}", "holds 3 masks, the clip 4 frames"),
    ("--masks {small}", "is 80x60, the clip 160x120"),
    ("--masks {still}", "is one picture"),
    ("--masks {gap}", "mask 2 is missing"),
    ("--masks {none}/x.%04d.png", "no such file"),
    ("--masks {faint}", "no pixel of them is brighter than half (the brightest is 0.00392 of 1)"),
    ("--mask {faint_one}", "no pixel of this mask is brighter than half"),
    ("--mask {four}", "give one picture"),
    ("--mask {opaque_one}", "white everywhere; if the file has an alpha channel"),
    ("--masks {opaque}", "white everywhere; if the file has an alpha channel"),
    ("--mask {small_one}", "is 80x60, the clip 160x120"),
    ("--mask {still} --box 1,1,50,50", "in place of --box"),
    ("--masks {four} --box 1,1,50,50", "both say where the subject is"),
    ("--masks {four} --trimaps {four}", "both say where the subject is"),
    ("--box 20,20,90,90 --exclude {three}", "--exclude"),
    ("--box 20,20,90,90 --include {small}", "is 80x60"),
    ("--box 20,20,90,90 --grow 200", "--grow must be between 0 and 100"),
])  # fmt: skip
def test_what_cannot_be_is_told_in_a_line(
    tmp_path: Path, arguments: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plate = moving_disc(tmp_path, SIZE, 4)
    faint, small = (lambda i: truth(i) / 255), (lambda i: np.ones((60, 80), np.float32))
    gap = write_masks(tmp_path / "gap", 4)
    (tmp_path / "gap/mask.0002.png").unlink()
    (tmp_path / "opaque").mkdir()
    for i in range(4):
        opaque = cv2.cvtColor(np.rint(truth(i) * 255).astype(np.uint8), cv2.COLOR_GRAY2BGRA)
        cv2.imwrite(str(tmp_path / f"opaque/mask.{i:04d}.png"), opaque)
    names = {
        "three": write_masks(tmp_path / "three", 3), "four": write_masks(tmp_path / "four", 4), "gap": gap,
        "small": write_masks(tmp_path / "small", 4, of=small), "small_one": tmp_path / "small/mask.0000.png",
        "still": tmp_path / "four/mask.0000.png", "none": tmp_path, "faint": write_masks(tmp_path / "f", 4, of=faint),
        "faint_one": tmp_path / "f/mask.0000.png", "opaque": tmp_path / "opaque/mask.%04d.png",
        "opaque_one": tmp_path / "opaque/mask.0000.png",
    }  # fmt: skip
    asked = arguments.format(**names).split()
    code = main(["matte", str(plate), "--model", "fake-colour", "-o", str(tmp_path / "m.mov"), *asked])
    said = capsys.readouterr()
    assert code in (1, 2) and says in said.err and len(said.err.splitlines()) == 1, said.err
    assert not list(tmp_path.glob("*m.mov*"))


def test_masks_of_a_part_need_a_range(tmp_path: Path) -> None:
    plate = write_plate(tmp_path / "plate", 1001, 8)
    masks = write_masks(tmp_path / "masks", 3, 1003, lambda i: truth(i + 2))
    with pytest.raises(MamVideoError, match=r"are of frames 1003-1005; give a --range among them"):
        matte_clip(plate, tmp_path / "a.####.png", None, settings_of(), masks=masks)
    matte_clip(plate, tmp_path / "a.####.png", None, settings_of(), masks=masks, frames=(2, 4))
    assert sorted(p.name for p in tmp_path.glob("a.*")) == ["a.1003.png", "a.1004.png", "a.1005.png"]


def test_a_mask_becomes_logits_where_it_is() -> None:
    """Enlarged again and cut at 0, the logits are the mask, to a cell of the view."""
    from mam_video.models.merge import mask_of

    mask = disc((180, 300), (200.2, 80.7), 40)
    box = box_of_mask(mask)
    assert box is not None
    view = held_crop(None, box, mask.shape, 256, ViewSettings())
    logits = mask_logits(mask, view, 64)
    found = view.paste(mask_of(logits.astype(np.float32), view).numpy(), mask.shape)
    wrong = (found ^ (mask > 0.5)).sum()
    assert logits.dtype == np.float16 and wrong < 0.2 * 2 * np.pi * 40
    assert Fraction(int(found.sum()), int((mask > 0.5).sum())) == pytest.approx(1, abs=0.01)
