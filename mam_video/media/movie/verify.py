"""Read movies back: does a movie hold what it should (`ExpectedMedia`)?

The quick way reads headers, index and three frames; the thorough way decodes every frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from mam_video.core.errors import MediaError
from mam_video.core.ranges import FrameRange
from mam_video.core.timecode import Timecode
from mam_video.media import pixel_formats
from mam_video.media.base import ClipInfo, Colour, Reader
from mam_video.media.expected import Check, ExpectedMedia, rate_of
from mam_video.media.ffmpeg_compat import fraction, ticks, url
from mam_video.media.movie.reader import MovieReader
from mam_video.media.movie.retime import Retimer, at_rate
from mam_video.runtime.os_errors import reason

_NAMED: Final = 5


def expected_of_plate(plate: Reader, frames: FrameRange | None = None, rate: Fraction | None = None) -> ExpectedMedia:
    """State what a matte of this plate (or of a range of it, which starts at time 0) should hold. Decodes the plate.

    `rate`: the constant rate of the matte; None: that of the plate.
    """
    part = frames or FrameRange()
    info = plate.info
    label = info.timecode + part.start if info.timecode is not None else None
    times = [frame.pts * info.time_base for frame in plate.frames(part.start, part.stop)]
    if not times:
        raise MediaError(f"{info.path}: holds no frame of this range")
    shift = times[0] if frames is not None else min(times[0], Fraction(0))
    times = [time - shift for time in times]
    info = replace(info, timecode=label)
    if rate is not None:
        pace = Retimer(rate)
        shown = [picture for time in times for picture in pace.until(time)]
        shown += pace.end(times[-1] + 1 / info.rate)
        times, info = [picture / rate for picture in shown], at_rate(info, rate)
    return ExpectedMedia(
        size=info.size,
        times=times,
        rate=rate_of(times, info.rate),
        aspect=info.sample_aspect,
        timecode=info.timecode,
        colour=info.colour,
        shown=info.shown,
    )


def verify_movie(path: Path, expected: ExpectedMedia, *, every_frame: bool = False) -> list[Check]:
    """Compare a movie with what it should hold. Raises: MediaError, where it cannot be read at all."""
    with MovieReader(path) as reader, av.open(url(path)) as container:
        info = reader.info
        stream = container.streams.video[0]
        try:
            times = sorted(_times(container, stream))
        except (av.FFmpegError, OSError) as error:
            raise MediaError(f"{path}: cannot be read back ({reason(error)})") from error
        exact = "mov" in container.format.name.split(",")
        checks = [
            _equal("frames", len(expected.times), len(times)),
            _check_times(expected.times, times, Fraction(0) if exact else Fraction(1, 1000)),
            _check_size(expected.size, info),
            _equal("sample aspect", expected.aspect, info.sample_aspect),
        ]
        if expected.rate is not None and exact:
            checks.append(_check_rate(expected.rate, info.rate, expected.times))
        if expected.timecode is not None or info.timecode is not None:
            checks.append(_check_timecode(expected.timecode, info.timecode))
        if expected.colour is not None:
            by_eye = _check_colour(expected.shown, info.colour) if expected.shown is not None else None
            checks.append(by_eye if by_eye and by_eye.good else _check_colour(expected.colour, info.colour))
        if expected.sound is not None:
            checks.append(_equal("audio streams", expected.sound, len(info.sound)))
        if expected.has_alpha is not None:
            checks.append(_equal("alpha channel", expected.has_alpha, info.has_alpha))
        checks.append(_check_pictures(path, reader, expected, times, every_frame))
    return checks


def _times(container: InputContainer, stream: VideoStream) -> Iterator[Fraction]:
    """Yield every frame's time, in file order: from the index where it tells (ProRes in MOV), else from the packets."""
    unit = fraction(stream.time_base) or Fraction(1)
    if "mov" in container.format.name.split(",") and stream.codec_context.name == "prores":
        yield from (entry.timestamp * unit for entry in stream.index_entries)
        return
    for packet in container.demux(stream):
        pts = ticks(packet.pts)
        if packet.size and pts is not None and not packet.is_discard:
            yield pts * unit


def _equal(what: str, meant: object, found: object) -> Check:
    return Check(what, meant == found, str(found) if meant == found else f"{found}, should be {meant}")


def _check_rate(meant: Fraction, found: Fraction, times: Sequence[Fraction]) -> Check:
    """Compare the rate of frames in steady steps; of a variable rate only an average stands in the header."""
    steady = len({b - a for a, b in pairwise(times)}) == 1
    return _equal("rate", meant, found) if steady else Check("rate", True, str(found))


def _check_times(meant: Sequence[Fraction], found: Sequence[Fraction], slack: Fraction) -> Check:
    late = [k for k, (a, b) in enumerate(zip(meant, found, strict=False)) if abs(a - b) > slack]
    if late:
        k = late[0]
        here, due = float(found[k]), float(meant[k])
        return Check("timestamps", False, f"{len(late)} differ, first frame {k}: {here:.6f} s, should be {due:.6f} s")
    return Check("timestamps", True, "exact" if not slack else f"within {float(slack):g} s")


def _check_size(meant: tuple[int, int], info: ClipInfo) -> Check:
    height, width = meant
    even = (height + height % 2, width + width % 2)  # 4:2:0 of H.264 has no odd sizes
    good = info.size == meant or (info.size == even and info.pixel_format == "yuv420p")
    says = f"{info.width}x{info.height}"
    return Check("size", good, says if good else f"{says}, should be {width}x{height}")


def _check_timecode(meant: Timecode | None, found: Timecode | None) -> Check:
    same = str(meant).replace(";", ":") == str(found).replace(";", ":")  # FFmpeg writes ; at 29.97 and 59.94 alone
    return Check("timecode", same, str(found) if same else f"{found or 'none'}, should be {meant or 'none'}")


def _check_colour(meant: Colour, found: Colour) -> Check:
    names = [(field, getattr(meant, field), getattr(found, field)) for field in ("primaries", "transfer")]
    wrong = [f"{field} {there}, should be {meant}" for field, meant, there in names if meant != there]
    shown = f"{found.range} {found.matrix} {found.primaries} {found.transfer}"
    return Check("colour tags", not wrong, "; ".join(wrong) or shown)


def _check_pictures(
    path: Path, reader: MovieReader, expected: ExpectedMedia, times: Sequence[Fraction], every_frame: bool
) -> Check:
    """Decode some frames or all, and compare the least and largest alpha of each with what was given."""
    ranges, wrong = [], []
    count = len(times)
    chosen: Iterable[int] = range(count) if every_frame else sorted({0, count // 2, count - 1})
    try:
        found: Iterator[tuple[int, np.ndarray]]
        if every_frame:
            found = enumerate(reader.alphas())
        else:
            found = ((k, alpha) for k, alpha in zip(chosen, _alphas_at(path, [times[k] for k in chosen]), strict=True))
        slack = expected.alpha_slack
        for k, alpha in found:
            low, high = float(alpha.min()), float(alpha.max())
            ranges.append((low, high))
            if slack is not None and expected.alpha is not None and k < len(expected.alpha):
                meant = expected.alpha[k]
                if max(abs(low - meant[0]), abs(high - meant[1])) > slack:
                    wrong.append(f"frame {k}: {low:.4f} to {high:.4f}, should be {meant[0]:.4f} to {meant[1]:.4f}")
    except (av.FFmpegError, OSError, MediaError) as error:
        return Check("pictures", False, reason(error) if not isinstance(error, MediaError) else str(error))
    if every_frame and len(ranges) != count:
        return Check("pictures", False, f"{len(ranges)} of {count} can be decoded")
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        return Check("alpha", False, "; ".join(wrong[:_NAMED]) + more)
    if not expected.shows_alpha:
        return Check("pictures", True, f"{len(ranges)} frames decoded")
    low, high = min(pair[0] for pair in ranges), max(pair[1] for pair in ranges)
    return Check("alpha", True, f"{low:.4f} to {high:.4f} in {len(ranges)} frames decoded")


def _alphas_at(path: Path, times: Sequence[Fraction]) -> Iterator[np.ndarray]:
    """Yield the alpha (or grey) of the frames at these times, found by seeking. (H, W) float32, as stored."""
    with av.open(url(path)) as container:
        stream = container.streams.video[0]
        unit = fraction(stream.time_base) or Fraction(1)
        for time in times:
            pts = round(time / unit)
            container.seek(pts, stream=stream, backward=True)
            yield _alpha_at(path, container, stream, pts)


def _alpha_at(path: Path, container: InputContainer, stream: VideoStream, pts: int) -> np.ndarray:
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    decoder: VideoCodecContext = stream.codec_context
    if tags.get("alpha_mode") == "1" and decoder.codec.canonical_name == "vp9":
        decoder = av.CodecContext.create("libvpx-vp9", "r")
    for packet in container.demux(stream):
        for picture in decoder.decode(packet if packet.size else None):
            if (ticks(picture.pts) or 0) >= pts:
                alpha = pixel_formats.alpha_of(picture)
                if alpha is not None:
                    return alpha
                tags_of = pixel_formats.colour_of(picture, stream.codec_context.name)
                return pixel_formats.grey_of(pixel_formats.Decoding(tags_of.matrix, tags_of.range == "pc")(picture))
    raise MediaError(f"{path}: the frame at {float(pts * (fraction(stream.time_base) or 1)):.3f} s cannot be found")
