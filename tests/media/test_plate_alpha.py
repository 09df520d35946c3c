"""Plates that have an alpha already: what independent readers say of it, and what comes out times the matte."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from mam_video.cli.main import main
from mam_video.core.errors import MediaError
from mam_video.core.frames import Frame, Matted
from mam_video.core.settings import InputSettings, OutputSettings, Settings
from mam_video.matting.edge_ops import with_plate_alpha
from mam_video.matting.foreground import estimate_foreground, with_foreground
from mam_video.matting.pipeline import matte_frames
from mam_video.media import ClipInfo, open_clip, open_writer, open_writers, verify_output
from mam_video.media.plate_alpha import settled, unpremultiplied
from tests.clips import matted

H, W = 48, 64
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg makes these clips and reads them back")

X, Y = np.meshgrid(np.arange(W), np.arange(H))
RGB = np.dstack([X * 4, Y * 5, np.full_like(X, 80)]).astype(np.uint8)
ALPHA = np.select([X < 20, X < 40], [0, 128], 255).astype(np.uint8)
MATTE = np.where(Y < 24, np.float32(1), np.float32(0.5))


def ffmpeg(*arguments: str, data: bytes | None = None) -> bytes:
    done = subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments], input=data, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this ffmpeg cannot: {done.stderr.decode()[-200:]}")
    return done.stdout


def made(path: Path, *options: str, count: int = 3) -> Path:
    """A clip of `count` frames of RGB with ALPHA, in whatever ffmpeg is asked for."""
    pixels = np.dstack([RGB, ALPHA]).tobytes() * count
    ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{W}x{H}", "-r", "24", "-i", "-", *options, str(path), data=pixels
    )
    return path


def alpha_by_ffmpeg(path: Path, decoder: str = "", *, deep: bool = False) -> np.ndarray:
    """(H, W) of the first frame, in [0, 1], as ffmpeg extracts it; `deep`: of more than 8 bits."""
    own = ("-c:v", decoder) if decoder else ()
    form = "gray16le" if deep else "gray"
    raw = ffmpeg(
        *own, "-i", str(path), "-frames:v", "1", "-vf", "alphaextract", "-pix_fmt", form, "-f", "rawvideo", "-"
    )  # fmt: skip
    found = np.frombuffer(raw, "<u2" if deep else np.uint8).reshape(H, W)
    return found / np.iinfo(found.dtype).max


def first(path: Path | str, **settings: Any) -> tuple[ClipInfo, Frame]:
    with open_clip(path, InputSettings(**settings)) as reader:
        return reader.info, next(iter(reader.frames(0, 1)))


def written(output: str, path: Path | str, matte: np.ndarray = MATTE, **settings: Any) -> Path:
    """The whole clip, with `matte` in every frame, as an output."""
    with open_clip(path) as reader, open_writer(output, reader.info, OutputSettings(**settings)) as writer:
        for frame in reader.frames():
            writer.write(with_plate_alpha(matted(frame, matte)))
        return writer.path


MOVIES = {
    "prores.mov": ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"),
    "qtrle.mov": ("-c:v", "qtrle", "-pix_fmt", "argb"),
    "png.mov": ("-c:v", "png", "-pix_fmt", "rgba"),
    "png16.mov": ("-c:v", "png", "-pix_fmt", "rgba64be"),
    "grey16.mov": ("-c:v", "png", "-pix_fmt", "ya16be"),
    "yuva420.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuva420p"),
    "yuva422p10.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuva422p10le"),
    "gbrap.mkv": ("-c:v", "ffv1", "-pix_fmt", "gbrap"),
    "gbrap16.mkv": ("-c:v", "ffv1", "-pix_fmt", "gbrap16le"),
    "utvideo.avi": ("-c:v", "utvideo", "-pix_fmt", "gbrap"),
    "raw.avi": ("-c:v", "rawvideo", "-pix_fmt", "bgra"),
    "apng.apng": ("-pix_fmt", "rgba"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"),
    "vp9.mkv": ("-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p"),
    "vp8.webm": ("-c:v", "libvpx", "-pix_fmt", "yuva420p", "-auto-alt-ref", "0"),
}


@needs_ffmpeg
@pytest.mark.parametrize("name", MOVIES)
def test_alpha_of_movies_as_ffmpeg_has_it(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = made(tmp_path / name, *MOVIES[name])
    info, frame = first(path)
    assert info.has_alpha and (info.alpha, info.alpha_basis) == ("straight", "assumed")
    assert frame.alpha is not None
    if name == "grey16.mov":  # ffmpeg 5 extracts half a line of it
        truth = ALPHA / 255
    else:
        deep = name in ("prores.mov", "png16.mov", "yuva422p10.mkv", "gbrap16.mkv")
        truth = alpha_by_ffmpeg(path, {"vp9": "libvpx-vp9", "vp8": "libvpx"}.get(name[:3], ""), deep=deep)
    # Of 10 bits ffmpeg makes 16 by shifting; and libraries differ in the depth that they decode ProRes in.
    assert np.abs(frame.alpha - truth).max() <= (
        1.1 / 1023 if name in ("prores.mov", "yuva422p10.mkv") else 5e-5 if name == "grey16.mov" else 1e-6
    )

    assert main(["info", str(path)]) == 0
    said = capsys.readouterr().out
    assert (
        "alpha             straight" in " ".join(said.splitlines()).replace("  ", " ") or "straight (assumed)" in said
    )

    ignored, same = first(path, alpha="ignore")
    assert same.alpha is None and ignored.alpha == "ignored" and ignored.has_alpha
    assert (same.rgb == frame.rgb).all()  # libvpx gives the colours that FFmpeg's own decoder gives


@needs_ffmpeg
def test_alpha_beside_the_pictures_after_a_seek_and_with_times(tmp_path: Path) -> None:
    path = made(tmp_path / "a.webm", *MOVIES["vp9.webm"], "-g", "8", count=30)
    with open_clip(path) as reader:
        reader.index_for_random_access()
        all_frames = list(reader.frames())
        part = list(reader.frames(17, 21))
    with open_clip(path, InputSettings(alpha="ignore")) as reader:
        assert [f.pts for f in reader.frames()] == [f.pts for f in all_frames] and len(all_frames) == 30
    for again, frame in zip(part, all_frames[17:21], strict=True):
        assert frame.alpha is not None and again.alpha is not None
        assert again.pts == frame.pts and (again.alpha == frame.alpha).all() and (again.rgb == frame.rgb).all()


@needs_ffmpeg
def test_a_damaged_packet_of_a_movie_with_alpha_is_named(tmp_path: Path) -> None:
    path = made(tmp_path / "a.webm", *MOVIES["vp9.webm"], count=12)
    data = bytearray(path.read_bytes())
    del data[-len(data) // 3 :]
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"cut off|ends here|whole copy"), open_clip(path) as reader:
        list(reader.frames())


def png(path: Path, kind: int, bits: int, rows: np.ndarray, *beside: tuple[bytes, bytes]) -> Path:
    """A PNG of these samples, (H, W) or (H, W, C), as the standard has it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    lines = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", head), *beside, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks))
    return path


def _png_rgba(path: Path) -> None:
    Image.fromarray(np.dstack([RGB, ALPHA])).save(path)


def _png_grey(path: Path) -> None:
    Image.fromarray(np.dstack([RGB[..., 0], ALPHA])).save(path)


def _png_turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stands upright after a quarter turn clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(np.dstack([RGB, ALPHA])))).save(path, exif=exif)


def _png_palette(path: Path) -> None:
    picture = Image.fromarray((X // 2).astype(np.uint8))
    picture.putpalette([value for k in range(32) for value in (k * 8, k, 255 - k)])
    picture.save(path, transparency=bytes(0 if 2 * k < 20 else 128 if 2 * k < 40 else 255 for k in range(32)))


def _png_deep(path: Path) -> None:
    png(path, 6, 16, np.dstack([RGB, ALPHA]).astype(np.uint16) * 257)


def _png_deep_grey(path: Path) -> None:
    png(path, 4, 16, np.dstack([RGB[..., 0], ALPHA]).astype(np.uint16) * 257)


PICTURES: dict[str, Callable[[Path], None]] = {
    "rgba": _png_rgba,
    "grey": _png_grey,
    "turned": _png_turned,
    "palette": _png_palette,
    "deep": _png_deep,
    "deep grey": _png_deep_grey,
}


@pytest.mark.parametrize("name", PICTURES)
def test_alpha_of_png_as_pillow_has_it(tmp_path: Path, name: str) -> None:
    PICTURES[name](tmp_path / "a.0001.png")
    info, frame = first(tmp_path / "a.0001.png")
    assert (info.has_alpha, info.alpha, frame.size) == (True, "straight", (H, W))
    assert frame.alpha is not None and np.abs(frame.alpha * 255 - ALPHA).max() < 0.01
    if name in ("rgba", "turned", "deep"):
        assert (frame.rgb8 == RGB).all()  # under alpha 0 too


@pytest.mark.parametrize(("kind", "bits"), [(0, 8), (0, 16), (2, 8), (2, 16)])
def test_png_in_which_one_colour_is_transparent(tmp_path: Path, kind: int, bits: int) -> None:
    rows = (RGB if kind == 2 else RGB[..., 0]).astype(np.uint16) * (257 if bits == 16 else 1)
    key = np.atleast_1d(rows[3, 30])
    path = png(tmp_path / "a.0001.png", kind, bits, rows, (b"tRNS", struct.pack(f">{len(key)}H", *key.tolist())))
    info, frame = first(path)
    meant = (rows == rows[3, 30]).all(-1) if kind == 2 else rows == rows[3, 30]
    assert info.has_alpha and frame.alpha is not None and ((frame.alpha == 0) == meant).all()
    assert set(np.unique(frame.alpha)) == {0, 1}


def test_opaque_alpha_costs_nothing(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RGB, np.full_like(ALPHA, 255)])).save(tmp_path / "a.png")
    info, frame = first(tmp_path / "a.png")
    assert info.has_alpha and frame.alpha is None and not [n for n in info.notes if "alpha" in n]


TIFFS = [(np.uint8, "unassalpha"), (np.uint8, "assocalpha"), (np.uint16, "unassalpha"), (np.uint16, "assocalpha")]


@pytest.mark.parametrize(("grey", "dtype", "kind"), [
    *((grey, *each) for grey in (False, True) for each in TIFFS),
    (False, np.float32, "unassalpha"), (False, np.float32, "assocalpha"),  # no reader here knows grey floats with alpha
])  # fmt: skip
def test_tiff_by_its_tag(tmp_path: Path, dtype: type, kind: str, grey: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    colour, alpha = (RGB[..., :1] if grey else RGB) / 255, ALPHA / 255
    weight = alpha if kind == "assocalpha" else 1 + 0 * alpha
    stored = np.dstack([colour * weight[..., None], alpha]) * top
    stored = (np.rint(stored) if top > 1 else stored).astype(dtype)
    path = tmp_path / "a.0001.tif"
    how = {"photometric": "minisblack", "planarconfig": "contig"} if grey else {"photometric": "rgb"}
    tifffile.imwrite(path, stored, extrasamples=[kind], **how)

    info, frame = first(path)
    assert info.alpha == ("premultiplied" if kind == "assocalpha" else "straight") and "tag" in info.alpha_basis
    assert frame.alpha is not None and np.abs(frame.alpha - alpha).max() < 1e-6
    scale = 1 if frame.rgb.dtype.kind == "f" else np.iinfo(frame.rgb.dtype).max
    found = frame.rgb.astype(np.float64) / scale
    step = 0.51 / top / (128 / 255) if top > 1 else 1e-6
    assert np.abs(found - colour)[alpha > 0].max() <= step + 1e-5
    if kind == "unassalpha":
        assert np.abs(found - colour).max() <= 1e-6  # stored colour under alpha 0


def exr(path: Path, rgb: np.ndarray, alpha: np.ndarray, names: str = "RGBA") -> None:
    planes = {n: np.ascontiguousarray(p) for n, p in zip(names, [*np.moveaxis(rgb, -1, 0), alpha], strict=True)}
    OpenEXR.File({"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION}, planes).write(str(path))


def planes_of(path: Path) -> dict[str, np.ndarray]:
    return {n: c.pixels for n, c in OpenEXR.File(str(path), separate_channels=True).parts[0].channels.items()}


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exr_is_premultiplied_once_by_the_new_alpha(tmp_path: Path, dtype: type) -> None:
    """What the matte leaves whole passes: in half bit for bit, in float to the last bit but one; light too."""
    random = np.random.default_rng(1)
    alpha = random.choice([0, 0.001, 0.25, 128 / 255, 1, 1.5], (H, W)).astype(dtype)
    rgb = (random.uniform(0, 4, (H, W, 3)) * np.where(alpha > 0, alpha, 0.5)[..., None]).astype(dtype)
    exr(tmp_path / "a.0001.exr", rgb, alpha)
    info, frame = first(tmp_path / "a.0001.exr")
    assert (info.alpha, frame.rgb.dtype) == ("premultiplied", np.float32) and frame.alpha is not None
    sure = (alpha > 0) & (alpha < 1)
    wanted = rgb.astype(np.float64)[sure] / alpha.astype(np.float64)[sure][:, None]
    assert np.allclose(frame.rgb[sure], wanted, rtol=1e-6) and (frame.rgb[alpha == 0] == rgb[alpha == 0]).all()

    found = planes_of(written(f"{tmp_path}/o.####.exr", tmp_path / "a.0001.exr").with_name("o.0001.exr"))
    cut = np.minimum(alpha.astype(np.float32), 1)
    assert found["A"].dtype == dtype and (found["A"] == (cut * MATTE).astype(dtype)).all()
    for k, name in enumerate("RGB"):
        meant = (rgb[..., k].astype(np.float32) * MATTE).astype(dtype)
        if dtype is np.float16:
            assert (found[name][Y < 24] == meant[Y < 24]).all()
        assert np.allclose(
            found[name].astype(np.float64),
            meant.astype(np.float64),
            rtol=2e-3 if dtype is np.float16 else 3e-7,
            atol=1e-7,
        )


def test_exr_that_is_not_premultiplied_and_layers(tmp_path: Path) -> None:
    rgb, alpha = (RGB / 255).astype(np.float16), (ALPHA / 255).astype(np.float16)
    exr(tmp_path / "a.0001.exr", rgb, alpha)
    info, frame = first(tmp_path / "a.0001.exr", alpha="straight")
    assert info.alpha == "straight" and frame.rgb.dtype == np.float16 and (frame.rgb == rgb).all()
    planes = {f"{layer}.{n}": np.ascontiguousarray(p) for layer in ("hero", "sky")
              for n, p in zip("RGB", np.moveaxis(rgb, -1, 0), strict=True)} | {"hero.A": alpha}  # fmt: skip
    OpenEXR.File({"type": OpenEXR.scanlineimage}, planes).write(str(tmp_path / "l.exr"))
    assert first(tmp_path / "l.exr", layer="hero")[1].alpha is not None
    assert not first(tmp_path / "l.exr", layer="sky")[0].has_alpha


def test_outside_a_data_window_a_plate_with_alpha_has_none(tmp_path: Path) -> None:
    ones = np.ones((8, 10), np.float16)
    header = {"dataWindow": ((4, 2), (13, 9)), "displayWindow": ((0, 0), (19, 15)), "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, dict.fromkeys("RGBA", ones)).write(str(tmp_path / "a.0001.exr"))
    _, frame = first(tmp_path / "a.0001.exr")
    assert frame.alpha is not None and frame.alpha.sum() == 80 and frame.alpha[2:10, 4:14].all()
    assert frame.rgb.dtype == np.float16


@pytest.mark.parametrize(
    "output", ["o.mov", "o.mkv", "o.webm", "o.webp", "o.####.png", "o.####.tif", "o.mov:alpha", "o.####.dpx"]
)
def test_every_output_has_the_product_and_is_read_back(tmp_path: Path, output: str) -> None:
    _png_rgba(tmp_path / "a.0001.png")
    product = (ALPHA / np.float32(255)) * MATTE
    with open_clip(tmp_path / "a.0001.png") as reader:
        with open_writers([f"{tmp_path}/{output}"], reader.info, OutputSettings()) as group:
            for frame in reader.frames():
                group.write(with_plate_alpha(matted(frame, MATTE)))
        for path, promise in group.expected():
            assert all(c.good for c in verify_output(path, promise, [(float(product.min()), float(product.max()))]))
    file = next(p for p in tmp_path.iterdir() if p.name.startswith("o."))
    if file.suffix == ".webp":
        found = np.asarray(Image.open(file).convert("RGBA"))[..., 3] / 255
    elif file.suffix == ".png":
        found = first(file)[1].alpha
    elif file.suffix == ".webm" and shutil.which("ffmpeg"):
        found = alpha_by_ffmpeg(file, "libvpx-vp9")
    elif file.suffix in (".mov", ".mkv") and "alpha" not in output and shutil.which("ffmpeg"):
        found = alpha_by_ffmpeg(file, deep=True)
    else:
        return
    assert found is not None
    assert np.abs(found - product).max() < (0.02 if file.suffix == ".webm" else 0.004)


def test_a_premultiplied_png_is_multiplied_once(tmp_path: Path) -> None:
    """Straight PNG to `--premultiply`, and an associated TIFF, come to the same codes."""
    tifffile = pytest.importorskip("tifffile")
    deep = np.dstack([RGB, ALPHA]).astype(np.uint16) * 257
    deep[..., :3] = np.rint(deep[..., :3] * (deep[..., 3:] / 65535))
    tifffile.imwrite(tmp_path / "a.0001.tif", deep, photometric="rgb", extrasamples=["assocalpha"])
    path = written(f"{tmp_path}/o.####.tif", tmp_path / "a.0001.tif", premultiply=True).with_name("o.0001.tif")
    found = tifffile.imread(path).astype(np.float64)
    assert np.abs(found[..., :3] - deep[..., :3] * MATTE[..., None]).max() <= 1


def test_own_colour_is_not_touched_where_the_plate_is_cut() -> None:
    """Dark stored colour under alpha 0 does not pull at the subject's colour inside."""
    rgb = np.where(X[..., None] < 32, np.uint16(0), np.uint16(40000)).repeat(3, -1)
    own = np.where(X < 32, 0, np.where(X == 32, 0.5, 1)).astype(np.float32)
    soft = np.clip((X - 28) / 8, 0, 1).astype(np.float32)
    pulled, kept = estimate_foreground(rgb, soft), estimate_foreground(rgb, soft, own)
    assert np.abs(pulled.astype(int)[:, 33:] - 40000).max() > 1000  # what it would do by itself
    assert (kept == rgb).all()
    frame = Frame(0, 0, Fraction(1, 24), rgb, alpha=own)
    assert (with_foreground(with_plate_alpha(matted(frame, soft))).frame.rgb == rgb).all()


def test_recipe_multiplies_last(tmp_path: Path) -> None:
    """Grown, feathered and inverted or not, the matte never exceeds the plate's alpha."""
    from mam_video.models.colour_model import ColourModel
    from mam_video.prompts.prompt import Prompt

    own = (ALPHA / 255).astype(np.float32)
    frames = [Frame(k, k, Fraction(1, 24), np.ascontiguousarray(RGB), alpha=own) for k in range(3)]
    prompt = Prompt.parse("10,10,50,40", [], (H, W))
    for finish in ({}, {"grow": 4.0, "feather": 3.0}, {"invert": True}):
        settings = Settings().with_values({"finish": finish}, "test")
        plain = matte_frames(
            [Frame(f.index, f.pts, f.time_base, f.rgb) for f in frames], prompt, ColourModel(), settings
        )
        for with_it, without in zip(matte_frames(frames, prompt, ColourModel(), settings), plain, strict=True):
            assert with_it.matte is not None and (with_it.matte == without.alpha).all()
            assert (with_it.alpha == without.alpha * own).all() and without.matte is None


def test_numbers_that_are_none() -> None:
    alpha = settled(np.array([[np.nan, np.inf, -1, 2, 1e-30, 0.5]], np.float32))
    assert alpha.tolist() == [[0, 1, 0, 1, 0, 0.5]]
    rgb = np.array([[[np.nan] * 3, [np.inf] * 3, [1] * 3, [2] * 3, [3] * 3, [4] * 3]], np.float32)
    found = unpremultiplied(rgb, alpha)[0, :, 0]
    assert np.isnan(found[0]) and found[1:].tolist() == [np.inf, 1, 2, 3, 8]
    assert unpremultiplied(np.array([[[200] * 3]], np.uint8), np.array([[0.5]], np.float32)).tolist() == [[[65535] * 3]]


def test_a_matted_frame_checks_itself() -> None:
    frame = Frame(0, 0, Fraction(1, 24), RGB)
    with pytest.raises(TypeError):
        Frame(0, 0, Fraction(1, 24), RGB, alpha=ALPHA)
    with pytest.raises(TypeError):
        Matted(frame, MATTE, matted(frame, MATTE).record, matte=MATTE[:4])
