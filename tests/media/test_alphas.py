"""Alphas alone, of everything that can hold them: the codes that were written are the values that are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.core.errors import MamVideoError, MediaError, UsageError
from mam_video.core.frames import Frame
from mam_video.core.settings import OutputSettings
from mam_video.media import open_clip, open_writer
from mam_video.media.alphas import Movie, Pictures, find_alphas, open_alphas
from mam_video.media.still_images import read_alpha, read_rgb
from tests.clips import make_clip, matted, ramp, soft_disc

SIZE = (48, 64)
EXACT = 0.5 / 65535 + 1e-6  # rounding to 16 bits
PRORES = 60 / 65535  # alpha of 10 bits, rounded: 44 at most was measured
VP9 = 0.04  # 8 bits and lossy


def alphas(count: int = 3) -> list[np.ndarray]:
    return [np.roll(soft_disc(*SIZE), i, axis=1) for i in range(count)]


def write(folder: Path, output: str) -> str:
    """Three mattes as this project writes them."""
    plate = make_clip(folder / "plate.mov", [ramp(*SIZE, i) for i in range(3)])
    with open_clip(plate) as reader, open_writer(folder / output, reader.info, OutputSettings()) as writer:
        for frame, alpha in zip(reader.frames(), alphas(), strict=True):
            writer.write(matted(Frame(frame.index, frame.pts, frame.time_base, frame.rgb), alpha))
    return str(folder / output.partition(":")[0])


@pytest.mark.parametrize(
    ("output", "tolerance"),
    [
        ("m.mov", PRORES),
        ("m.mov:prores-alpha", 4 / 876),  # its luma: a lossy one of 10 bits, limited range
        ("m.mkv", EXACT),
        ("m.mkv:ffv1-alpha", EXACT),
        ("m.%04d.png", EXACT),
        ("m.####.png:alpha", EXACT),
        ("m.webm", VP9),
        ("m.webm:vp9-alpha", VP9),
    ],
)
def test_what_was_written_is_read(tmp_path: Path, output: str, tolerance: float) -> None:
    found = [alpha for _, alpha in open_alphas(write(tmp_path, output))]
    assert len(found) == 3 and {a.dtype for a in found} == {np.dtype(np.float32)}
    for ours, theirs in zip(found, alphas(), strict=True):
        assert ours.shape == SIZE
        # VP9's codes ring at the disc's edge: there the mean counts
        error = np.abs(ours - theirs)
        assert (error.mean() if tolerance == VP9 else error.max()) <= tolerance


def test_a_movie_stands_upright(tmp_path: Path) -> None:
    top = np.zeros((40, 60, 3), np.uint16)
    top[:10] = 65535
    path = make_clip(tmp_path / "a.mov", [top], rotation=90)
    (_, alpha), = open_alphas(path)  # fmt: skip
    with open_clip(path) as reader:
        frame = next(iter(reader.frames()))
    np.testing.assert_array_equal(alpha, (frame.rgb[..., 0] / 65535).astype(np.float32))
    assert alpha.shape == (60, 40)


def test_pictures_of_every_depth(tmp_path: Path) -> None:
    codes = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    colour = np.full((6, 8, 3), 77, np.uint8)
    cv2.imwrite(str(tmp_path / "grey8.png"), codes)
    cv2.imwrite(str(tmp_path / "grey16.png"), codes.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "rgba8.png"), np.dstack([colour, codes]))
    cv2.imwrite(str(tmp_path / "rgba16.png"), np.dstack([colour, codes]).astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "rgb.png"), np.dstack([codes] * 3))
    cv2.imwrite(str(tmp_path / "float.tif"), codes.astype(np.float32) / 255)
    clip = open_alphas(tmp_path)
    assert isinstance(clip, Pictures) and clip.names == ("float", "grey8", "grey16", "rgb", "rgba8", "rgba16")
    for name, alpha in clip:
        np.testing.assert_allclose(alpha, codes / 255, atol=1e-6, err_msg=name)
    cv2.imwrite(str(tmp_path / "one.jpg"), codes, [cv2.IMWRITE_JPEG_QUALITY, 100])
    np.testing.assert_allclose(read_alpha(tmp_path / "one.jpg"), codes / 255, atol=3 / 255)
    assert read_rgb(tmp_path / "rgba8.png").tolist() == colour.tolist()


def test_a_sequence_is_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for i in (2, 10, 1):
        cv2.imwrite(str(tmp_path / f"f_{i}.png"), np.full((4, 4), i, np.uint8))
    for source in (tmp_path, tmp_path / "f_%d.png"):
        clip = open_alphas(source)
        assert isinstance(clip, Pictures) and clip.numbers == (1, 2, 10)
        assert [round(float(a[0, 0]) * 255) for _, a in clip] == [1, 2, 10]


def test_clips_are_found_in_the_layouts_that_are_about(tmp_path: Path) -> None:
    def picture(*parts: str) -> None:
        path = tmp_path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((4, 4), np.uint8))

    for clip in ("0000", "0001"):
        for kind in ("com", "fgr", "pha"):
            picture("videomatte", "motion", clip, kind, "0000.png")
    for clip in ("camel", "libby"):
        for kind in ("frames", "masks"):
            picture("davis", clip, kind, "00000.png")
    picture("plain", "b", "0.png")
    make_clip(tmp_path / "plain" / "a.mov", [ramp(48, 64)])
    (tmp_path / "plain" / "notes.txt").write_text("")
    picture("vm240k", "fgr", "0001.png")
    (tmp_path / "vm240k" / "pha").mkdir()
    make_clip(tmp_path / "vm240k" / "pha" / "0001.mp4", [ramp(48, 64)], codec="libx264")
    assert list(find_alphas(tmp_path / "videomatte")) == ["motion/0000", "motion/0001"]
    assert list(find_alphas(tmp_path / "davis")) == ["camel", "libby"]
    plain = find_alphas(tmp_path / "plain")
    assert list(plain) == ["a", "b"] and isinstance(plain["a"], Movie)
    assert list(find_alphas(tmp_path / "vm240k")) == ["0001"]
    assert list(find_alphas(tmp_path / "plain" / "a.mov")) == [""]


WRONG: dict[str, tuple[Callable[[Path], object], type[MamVideoError], str]] = {
    "absent": (lambda p: open_alphas(p / "no.mov"), MediaError, "no such file"),
    "empty folder": (lambda p: open_alphas(p), MediaError, "holds no pictures"),
    "empty tree": (lambda p: find_alphas(p), MediaError, "neither pictures nor clips"),
    "no frames": (lambda p: open_alphas(p / "a.####.png"), MediaError, "no file of this sequence"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, case: str) -> None:
    call, kind, says = WRONG[case]
    with pytest.raises(kind, match=says) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_and_doubled_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"a\.png: not a picture"):
        list(open_alphas(tmp_path))
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((4, 4), np.uint8))
    with pytest.raises(UsageError, match="two pictures called 'a'"):
        open_alphas(tmp_path)
    cv2.imwrite(str(tmp_path / "nan.tif"), np.full((4, 4), np.nan, np.float32))
    with pytest.raises(MediaError, match="not finite"):
        read_alpha(tmp_path / "nan.tif")
