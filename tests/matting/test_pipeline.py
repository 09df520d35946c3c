"""The whole loop with the fake model: the right pixels, every frame once, the same bits again, nothing left behind."""

from fractions import Fraction
from pathlib import Path
from threading import enumerate as threads

import av
import numpy as np
import pytest
from PIL import Image

from mam_video.core.errors import MamVideoError, UsageError
from mam_video.core.frames import Matted, State
from mam_video.core.geometry import Box, Point
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings
from mam_video.jobs.matte_clip import matte_clip
from mam_video.matting.pipeline import matte_frames
from mam_video.media import open_clip
from mam_video.media.movie.reader import MovieReader
from mam_video.media.movie.verify import expected_of_plate, verify_movie
from mam_video.media.view_transforms import SRGB
from mam_video.models.colour_model import ColourModel
from mam_video.prompts.prompt import Prompt
from mam_video.report.run import RunReport
from tests.clips import make_clip, planes_of
from tests.media.sequence_clips import read_exr, write_exr
from tests.synthetic import disc, picture, write_movie

RADIUS = 21.0


def centre_of(i: int, size: tuple[int, int]) -> tuple[float, float]:
    return 0.3 * size[1] + 2.5 * i, 0.45 * size[0] + 1.25 * i


def moving_disc(tmp_path: Path, size: tuple[int, int], count: int = 6) -> Path:
    return write_movie(tmp_path / "plate.mov", count, lambda i: picture(disc(size, centre_of(i, size), RADIUS)))


def first_box(size: tuple[int, int]) -> Prompt:
    x, y = centre_of(0, size)
    return Prompt(Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS))


def settings_of(**values: dict[str, object]) -> Settings:
    return Settings().with_values({"model": {"name": "fake-colour"}, **values}, "test")


def centroid(alpha: np.ndarray) -> tuple[float, float]:
    yy, xx = np.mgrid[: alpha.shape[0], : alpha.shape[1]] + 0.5
    return float((alpha * xx).sum() / alpha.sum()), float((alpha * yy).sum() / alpha.sum())


def read_png(path: Path) -> np.ndarray:
    """Alpha of a 16-bit gray PNG, (H, W) float32."""
    return np.asarray(Image.open(path), np.float32) / 65535


@pytest.mark.parametrize("roi", ["auto", "frame"])
@pytest.mark.parametrize("size", [(240, 320), (241, 319), (179, 411), (320, 180), (1080, 1920)])
def test_the_matte_lands_on_the_right_pixels(tmp_path: Path, size: tuple[int, int], roi: str) -> None:
    plate = moving_disc(tmp_path, size, 4)
    report = matte_clip(plate, f"{tmp_path}/m/:alpha", first_box(size), settings_of(view={"roi": roi}))
    files = sorted((tmp_path / "m").glob("*.png"))
    assert len(files) == len(report.records) == 4
    for i, file in enumerate(files):
        alpha = read_png(file)
        truth = disc(size, centre_of(i, size), RADIUS)
        assert alpha.shape == size
        x, y = centroid(alpha)
        assert abs(x - centre_of(i, size)[0]) < 0.5 and abs(y - centre_of(i, size)[1]) < 0.5
        # an edge that is half a pixel off all round would be a ring of that width
        assert ((alpha > 0.5) ^ (truth > 0.5)).sum() < 0.5 * 2 * np.pi * RADIUS
    assert [r.state for r in report.records] == [State.PROMPTED] + 3 * [State.TRACKED]


@pytest.mark.parametrize("subjects", [1, 2])
def test_threads_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subjects: int) -> None:
    """Refining, smoothing and converting several frames at once gives the frames in order, with the same bits."""
    size = (180, 320)
    plate = moving_disc(tmp_path, size, 8)
    prompt = first_box(size)
    given = prompt if subjects == 1 else {"one": prompt, "two": Prompt(Box(2, 2, 40, 30))}
    found: list[list[np.ndarray]] = []
    for workers in (1, 5):
        monkeypatch.setattr("mam_video.matting.pipeline.worker_count", lambda workers=workers: workers)
        with open_clip(plate) as clip:
            mattes = list(matte_frames(clip.frames(), given, settings=settings_of()))
        assert [m.frame.index for m in mattes] == list(range(8))
        out = tmp_path / f"{workers}.mov"
        matte_clip(plate, str(out), prompt, settings_of())
        found.append([m.alpha for m in mattes] + [plane for *_, planes in planes_of(out) for plane in planes])
    assert len(found[0]) == len(found[1]) > 8
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", ["m.mov", "a.mov:alpha", "m.mkv", "m.webm", "m.mp4"])
def test_every_movie_keeps_each_frame_and_its_time(tmp_path: Path, name: str) -> None:
    size = (121, 203)
    times = [0, 1001, 2002, 5005, 5505, 9009]  # a variable rate, at 1/24000
    plate = write_movie(
        tmp_path / "plate.mov",
        len(times),
        lambda i: picture(disc(size, centre_of(i, size), RADIUS)),
        pts=times,
    )
    output = tmp_path / name.partition(":")[0]
    matte_clip(plate, f"{tmp_path}/{name}", first_box(size), settings_of())
    with av.open(str(output)) as movie:
        got = [
            float(f.pts * f.time_base) for f in movie.decode(video=0) if f.pts is not None and f.time_base is not None
        ]
    tick = 0.001 if output.suffix in (".mkv", ".webm") else 1e-9  # Matroska counts milliseconds
    assert got == pytest.approx([float(t * Fraction(1, 24000)) for t in times], abs=tick)


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_plates_are_matted_upright(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    """The stored picture is turned; a player shows the disc upright, and there the box and the matte are."""
    upright = (180, 240)
    shown = disc(upright, (70, 60), RADIUS)
    stored = np.rot90(picture(shown), -rotation // 90)
    if mirrored:
        stored = stored[:, ::-1] if rotation == 180 else stored[::-1]
    plate = make_clip(
        tmp_path / "plate.mov",
        [np.ascontiguousarray(stored)] * 2,
        codec="png",
        pixel_format="rgb24",
        rotation=rotation,
        mirrored=mirrored,
    )
    with open_clip(plate) as clip:
        seen = next(iter(clip.frames())).rgb8
    assert seen.shape[:2] == upright
    x, y = centroid((seen[..., 0] < 60).astype(np.float32))
    prompt = Prompt(Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS))
    matte_clip(plate, f"{tmp_path}/m.####.png:alpha", prompt, settings_of())
    for file in sorted(tmp_path.glob("m.*.png")):
        found = centroid(read_png(file))
        assert found == pytest.approx((x, y), abs=0.5)
        if not mirrored:
            assert found == pytest.approx((70, 60), abs=0.5)


@pytest.mark.parametrize(
    ("name", "decoder", "plane", "peak", "low"),
    [
        ("m.mov", None, 3, 4095, 0),
        ("m.mkv", None, 3, 65535, 0),
        ("m.webm", "libvpx-vp9", 3, 255, 0),
        ("a.mov:alpha", None, 0, 3760, 256),
        ("a.mkv:alpha", None, 0, 65535, 0),
    ],
)
def test_every_output_has_the_matte_in_the_same_place(
    tmp_path: Path, name: str, decoder: str | None, plane: int, peak: int, low: int
) -> None:
    size = (121, 203)
    plate = moving_disc(tmp_path, size, 3)
    matte_clip(plate, f"{tmp_path}/{name}", first_box(size), settings_of())
    frames = planes_of(tmp_path / name.partition(":")[0], decoder)
    assert len(frames) == 3
    for i, (_, _, _, planes) in enumerate(frames):
        alpha = np.clip((planes[plane].astype(np.float32) - low) / (peak - low), 0, 1)
        alpha[alpha < 0.02] = 0
        assert alpha.shape == size
        assert centroid(alpha) == pytest.approx(centre_of(i, size), abs=0.5)
        assert ((alpha > 0.5) ^ (disc(size, centre_of(i, size), RADIUS) > 0.5)).sum() < np.pi * RADIUS


def test_a_range_from_a_saved_track_is_the_same_bits(tmp_path: Path) -> None:
    size = (180, 240)
    plate = moving_disc(tmp_path, size, 14)
    track = tmp_path / "plate.track"
    settings = settings_of(smooth={"strength": 0.7, "radius": 2}, model={"name": "fake-colour", "batch": 4})
    matte_clip(plate, tmp_path / "whole.####.png", first_box(size), settings, track_to=track)
    matte_clip(plate, tmp_path / "part.####.png", None, settings, track_from=track, frames=(5, 9))
    parts = sorted(p.name for p in tmp_path.glob("part.*.png"))
    assert len(parts) == 5
    for name in parts:
        whole = tmp_path / name.replace("part", "whole")
        assert (tmp_path / name).read_bytes() == whole.read_bytes()


def test_the_same_loop_from_python(tmp_path: Path) -> None:
    size = (120, 160)
    plate = moving_disc(tmp_path, size, 5)
    with open_clip(plate) as clip:
        mattes = list(matte_frames(clip.frames(), first_box(size), ColourModel()))
    assert [m.frame.index for m in mattes] == list(range(5))
    assert [m.frame.pts * m.frame.time_base for m in mattes] == [i * Fraction(1001, 24000) for i in range(5)]
    assert all(m.alpha.shape == size for m in mattes)


def test_a_point_will_do(tmp_path: Path) -> None:
    size = (120, 160)
    plate = moving_disc(tmp_path, size, 3)
    prompt = Prompt(points=(Point(*centre_of(0, size)), Point(150, 10, subject=False)))
    report = matte_clip(plate, f"{tmp_path}/m/:alpha", prompt, settings_of())
    assert not report.flagged
    truth = disc(size, centre_of(2, size), RADIUS)
    assert np.abs(read_png(sorted((tmp_path / "m").glob("*.png"))[2]) - truth).mean() < 0.01


def test_a_subject_that_vanishes_is_flagged(tmp_path: Path) -> None:
    size = (120, 160)
    plate = write_movie(
        tmp_path / "plate.mov",
        6,
        lambda i: picture(disc(size, centre_of(i, size), RADIUS) if i < 3 else np.zeros(size, np.float32)),
    )
    report = matte_clip(plate, f"{tmp_path}/m/", first_box(size), settings_of())
    assert [r.state for r in report.records[3:]] == 3 * [State.LOST]
    assert [(r.first, r.last) for r in report.flagged] == [(3, 5)]
    assert "3-5" in str(report.flagged[0])


class Failing(ColourModel):
    """Fails at its fourth matte."""

    def __init__(self) -> None:
        super().__init__()
        self.mattes = 0

    def matte(self, *arguments: object) -> object:  # type: ignore[override]
        self.mattes += 1
        if self.mattes == 4:
            raise MamVideoError("the model broke")
        return super().matte(*arguments)  # type: ignore[arg-type]


def test_an_error_in_the_middle_is_the_one_that_is_seen_and_leaves_nothing(tmp_path: Path) -> None:
    size = (120, 160)
    plate = moving_disc(tmp_path, size, 8)
    before = {p.name for p in tmp_path.iterdir()}
    outputs = [tmp_path / "m.mov", f"{tmp_path}/m.####.png", tmp_path / "m.mkv"]
    with pytest.raises(MamVideoError, match="the model broke"):
        matte_clip(plate, outputs, first_box(size), settings_of(), model=Failing(), track_to=tmp_path / "plate.track")
    assert {p.name for p in tmp_path.iterdir()} == before
    assert not {t.name for t in threads()} & {"decode", "model"}


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    size = (120, 160)
    plate = moving_disc(tmp_path, size, 30)
    before = {p.name for p in tmp_path.iterdir()}

    def interrupt(matted: Matted, report: RunReport) -> None:
        if matted.frame.index == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matte_clip(plate, tmp_path / "m.mov", first_box(size), settings_of(), on_frame=interrupt)
    assert {p.name for p in tmp_path.iterdir()} == before


def test_ranges_that_cannot_be(tmp_path: Path) -> None:
    size = (60, 80)
    plate = moving_disc(tmp_path, size, 3)
    for frames in ((2, 1), (-1, 2), (7, 9)):
        with pytest.raises(UsageError, match="range"):
            matte_clip(plate, tmp_path / "m.mov", first_box(size), settings_of(), frames=frames)
    assert not (tmp_path / "m.mov").exists()


def test_a_linear_sequence_keeps_its_values_its_numbers_and_its_ranges(tmp_path: Path) -> None:
    """The main job on half EXR with highlights of 16 inside the subject: seen through a look, written untouched."""
    size = (120, 160)
    for i in range(5):
        plate = SRGB.linear(picture(disc(size, centre_of(i, size), RADIUS)))
        x, y = (int(v) for v in centre_of(i, size))
        plate[y - 2 : y + 2, x - 2 : x + 2, 1] = 16
        write_exr(tmp_path / f"plate.{1001 + i}.exr", plate.astype(np.float16))
    name, track, settings = tmp_path / "plate.%04d.exr", tmp_path / "plate.track", settings_of()
    report = matte_clip(name, tmp_path / "m.%04d.exr", first_box(size), settings, track_to=track)
    assert not report.flagged and report.clip.numbers == range(1001, 1006)
    for i in range(5):
        _, plate_planes = read_exr(tmp_path / f"plate.{1001 + i}.exr")
        _, planes = read_exr(tmp_path / f"m.{1001 + i}.exr")
        solid = planes["A"] == 1
        assert centroid(planes["A"].astype(np.float32)) == pytest.approx(centre_of(i, size), abs=0.5)
        for channel in "RGB":
            assert (planes[channel][solid].view(np.uint16) == plate_planes[channel][solid].view(np.uint16)).all()
        assert planes["G"].max() == 16
    matte_clip(name, tmp_path / "p.%04d.exr", None, settings, track_from=track, frames=(2, 3))
    assert sorted(p.name for p in tmp_path.glob("p.*")) == ["p.1003.exr", "p.1004.exr"]
    for number in (1003, 1004):
        part, whole = (read_exr(tmp_path / f"{kind}.{number}.exr")[1] for kind in "pm")
        assert all((part[c].view(np.uint16) == whole[c].view(np.uint16)).all() for c in "RGBA")


@pytest.mark.parametrize("part", [None, (2, 5)])
def test_a_variable_clip_at_a_constant_rate_on_request(tmp_path: Path, part: tuple[int, int] | None) -> None:
    """Count, times, alphas and sound are as the plate says that they should be, and a line says what was done."""
    size, times = (96, 128), [0, 40, 80, 200, 240, 250, 255, 400]
    frames = [picture(disc(size, centre_of(k, size), RADIUS)) for k in range(len(times))]
    plate = make_clip(
        tmp_path / "plate.mov", frames, rate=Fraction(20), time_base=Fraction(1, 1000), pts=times, audio=True
    )
    settings = settings_of(output={"rate": "25"}, smooth={"strength": 0.0})
    prompt = first_box(size)
    first = part[0] if part else 0
    matte_clip(plate, f"{tmp_path}/all/:alpha", prompt, settings_of(smooth={"strength": 0.0}))
    matte_clip(plate, f"{tmp_path}/t.mov", prompt, settings_of(smooth={"strength": 0.0}), track_to=tmp_path / "t.track")
    report = matte_clip(plate, f"{tmp_path}/m.mov", None, settings, track_from=tmp_path / "t.track", frames=part)
    assert not report.failed_checks
    (note,) = [note for note in report.notes if "25 frames a second" in note]
    assert "dropped" in note and "repeated" in note and "\n" not in note
    with open_clip(plate) as reader:
        promise = expected_of_plate(reader, FrameRange.of(part), Fraction(25))
    assert all(check.good for check in verify_movie(tmp_path / "m.mov", promise, every_frame=True))
    given = times[first : part[1] + 1 if part else None]
    count = len(promise.times)
    steps = [
        first + max(k for k, t in enumerate(given) if t - (given[0] if part else 0) < 40 * n + 20) for n in range(count)
    ]
    with MovieReader(tmp_path / "m.mov") as reader:
        for k, alpha in zip(steps, reader.alphas(), strict=True):
            truth = read_png(tmp_path / f"all/all.{1001 + k:04d}.png")
            assert np.abs(alpha - truth).max() < 1e-3
    shift = Fraction(given[0] if part else 0, 1000)
    of_plate, of_matte = sound_times(plate), sound_times(tmp_path / "m.mov")
    # In step with the pictures, to the millisecond that the movie counts in. MOV's reader groups samples anew, so that
    # only the first packet must be one of the plate's.
    assert abs(of_matte[0] + shift - min(time for time in of_plate if time >= shift)) < Fraction(1, 1000)
    if part is None:
        assert of_matte == of_plate


def sound_times(path: Path) -> list[Fraction]:
    """Seconds at which each packet of sound begins, exact."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        return [Fraction(packet.pts or 0) * Fraction(packet.time_base) for packet in packets]
