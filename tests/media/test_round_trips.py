"""Every reader against every writer on one small clip: count, numbers or times, and the largest errors.

The clip is odd (53x37) and holds a ramp, saturated squares, one-pixel lines, and an alpha ramp with solid and empty
borders. What was written is read back by our own readers here; other tests let other programs read it.

Bounds are of colour where alpha is 1, in display-referred code values of [0, 1], and of alpha.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mam_video.core.frames import Frame
from mam_video.core.settings import InputSettings, OutputSettings
from mam_video.media import Reader, open_clip, open_writer
from mam_video.media.view_transforms import SRGB, encode_srgb
from tests.clips import make_clip, matted
from tests.media.sequence_clips import HEIGHT, WIDTH, alpha_ramp, chart, dpx_bytes, write_cv, write_exr

COUNT = 3
CODE_8, CODE_10, CODE_16 = 1 / 255, 1 / 1023, 1 / 65535
HALF = 2.0**-11  # a half's rounding, relative


def linear(k: int) -> np.ndarray:
    """The chart as scene-linear light, float32."""
    codes = np.rint(chart(k) * 65535).astype(np.uint16)
    return SRGB.linear(codes)


def _write_source(kind: str, folder: Path) -> str:
    if kind in ("ffv1", "png-movie"):
        frames = [np.rint(chart(k) * 65535).astype(np.uint16) for k in range(COUNT)]
        return str(make_clip(folder / ("plate.mkv" if kind == "ffv1" else "plate.mov"), frames))
    for k in range(COUNT):
        name = folder / f"plate.{86 + k:04d}"
        if kind in ("png8", "jpg"):
            write_cv(name.with_suffix(f".{86 + k:04d}.{kind.strip('8')}"), np.rint(chart(k) * 255).astype(np.uint8))
        elif kind in ("png", "tif"):
            write_cv(Path(f"{name}.{kind}"), np.rint(chart(k) * 65535).astype(np.uint16))
        elif kind == "dpx":
            Path(f"{name}.dpx").write_bytes(dpx_bytes(np.rint(chart(k) * 1023).astype(np.uint16), transfer=6))
        else:
            write_exr(Path(f"{name}.exr"), linear(k).astype(np.float16 if kind == "exr-half" else np.float32))
    suffix = {"png8": "png", "exr-half": "exr", "exr-float": "exr"}.get(kind, kind)
    return f"{folder}/plate.%04d.{suffix}"


SOURCES = ("ffv1", "png-movie", "png", "png8", "jpg", "tif", "dpx", "exr-half", "exr-float")


@dataclass(frozen=True)
class Bound:
    """Largest errors after reading back: of colour where alpha is 1, of the alpha alone.

    mean  whether they are means: kinds of 8 bits with subsampled chroma have no other bound
    """

    colour: float
    alpha: float
    mean: bool = False


# output, colour's bound, alpha's bound, and the output of the alpha alone
KINDS = {
    "png": ("m.%04d.png", Bound(0, 0.51 * CODE_16)),
    "tiff": ("m.%04d.tif", Bound(0, 0.51 * CODE_16)),
    "exr": ("m.%04d.exr", Bound(2.5e-4, HALF / 2)),  # a half of linear light, seen through sRGB's curve
    "ffv1": ("m.mkv", Bound(0, 0.51 * CODE_16)),
    "prores": ("m.mov", Bound(6 * CODE_10, CODE_10)),
    "prores-xq": ("m.mov:prores-xq", Bound(5.5 * CODE_10, CODE_10)),
    "dpx": ("m.%04d.dpx", Bound(0, 0.51 * CODE_10)),
    "preview": ("m.mp4", Bound(0.02, 0.005, mean=True)),
}


def shown(frame: Frame) -> np.ndarray:
    """Display-referred colour of a frame, float64 in [0, 1]."""
    seen = frame.shown
    return seen / np.iinfo(seen.dtype).max


def _reopened(output: str, folder: Path) -> Reader:
    return open_clip(f"{folder}/{output.partition(':')[0]}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_pair(tmp_path: Path, source: str, kind: str) -> None:
    output, bound = KINDS[kind]
    into = tmp_path / "out"
    into.mkdir()
    reader = open_clip(_write_source(source, tmp_path))
    plate = list(reader.frames())
    assert len(plate) == COUNT and reader.info.size == (HEIGHT, WIDTH)
    # what was read is the chart, as well as its format can hold it
    coarse = {"png8": 0.5 * CODE_8, "jpg": 0.6, "dpx": 0.5 * CODE_10, "exr-half": 1e-3}.get(source, 0)
    for k, frame in enumerate(plate):
        assert np.abs(shown(frame) - chart(k)).max() <= coarse + 1.01 * CODE_16
    alpha = alpha_ramp()
    for name in (output, f"{output.partition(':')[0]}:alpha"):
        with open_writer(f"{into}/{name}", reader.info, OutputSettings(overwrite=True)) as writer:
            for frame in plate:
                writer.write(matted(frame, alpha))
        back = _reopened(name, into)
        frames = list(back.frames())
        assert len(frames) == COUNT
        if back.info.numbers is not None:
            first = 86 if reader.info.numbers is not None else 1001
            assert list(back.info.numbers) == list(range(first, first + COUNT))
        else:
            assert [f.pts * f.time_base for f in frames] == pytest.approx(
                [f.pts * f.time_base for f in plate], abs=1e-3
            )
        for mine, theirs in zip(plate, frames, strict=True):
            if name.endswith(":alpha") or kind == "dpx":
                got = theirs.rgb / np.iinfo(theirs.rgb.dtype).max if theirs.rgb.dtype.kind == "u" else theirs.rgb
                error = np.abs(got[:HEIGHT, :WIDTH] - alpha[..., None])
                assert (error.mean() if bound.mean else error.max()) <= bound.alpha
            elif kind == "preview":
                assert np.abs(shown(theirs)[:HEIGHT, :WIDTH] - shown(mine))[alpha == 1].mean() <= bound.colour
            else:
                solid = np.abs(shown(theirs) - shown(mine))[alpha == 1]
                assert solid.max() <= bound.colour


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exr_to_exr_is_exact(tmp_path: Path, dtype: type[np.generic]) -> None:
    """The pair that must not lose a bit, HDR and negatives included."""
    from tests.media.sequence_clips import hdr

    for k in range(COUNT):
        write_exr(tmp_path / f"plate.{86 + k:04d}.exr", hdr(k, dtype))
    reader = open_clip(tmp_path / "plate.%04d.exr", InputSettings(fps="24000/1001"))
    ones = np.ones((HEIGHT, WIDTH), np.float32)
    with open_writer(f"{tmp_path}/m.%04d.exr", reader.info, OutputSettings()) as writer:
        for frame in reader.frames():
            writer.write(matted(frame, ones))
    back = open_clip(tmp_path / "m.%04d.exr")
    assert back.info.rate == reader.info.rate and list(back.info.numbers or ()) == [86, 87, 88]
    for k, frame in enumerate(back.frames()):
        assert frame.rgb.dtype == dtype and (frame.rgb.view(np.uint8) == hdr(k, dtype).view(np.uint8)).all()


def test_the_curve_and_its_inverse_meet() -> None:
    codes = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, 2)
    assert np.abs(encode_srgb(SRGB.linear(codes)) * 65535 - codes).max() < 0.51
