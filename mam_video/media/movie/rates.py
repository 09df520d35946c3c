"""Find the frame rate that a file means, where its time stamps or header are too coarse to say it.

Matroska, WebM and FLV stamp in milliseconds, GIF in hundredths of a second, and FFmpeg makes a fraction of what it
finds there: 19001/317 of 60000/1001. The rate that is meant is a usual one that agrees with every stamp of the first
frames as rounded to ticks, or, where frames are missing, one as near as rounded headers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from mam_video.media.ffmpeg_compat import fraction, ticks, url
from mam_video.media.movie.timeline import Timeline

_WHOLE: Final = (5, 6, 8, 10, 12, 15, 16, 18, 20, 24, 25, 30, 48, 50, 60, 72, 75, 90, 96, 100, 120, 144, 180, 200, 240)
_BY_1001: Final = (12, 15, 24, 30, 48, 60, 72, 90, 96, 120, 144, 180, 240)
USUAL: Final = (*map(Fraction, _WHOLE), Fraction(25, 2), *(Fraction(1000 * n, 1001) for n in _BY_1001))

_COARSE: Final = Fraction(1, 2000)  # seconds; finer ticks hold the usual rates well enough for FFmpeg's own estimate
_AS_WRITTEN: Final = Fraction(5, 1_000_000)  # relative; 59.94, or a duration in whole nanoseconds, is nearer than that
_NEAR: Final = Fraction(1, 200)  # relative; a usual rate may be so far from FFmpeg's where few stamps tell
_ENOUGH: Final = 12  # stamps that tell the usual rates apart by themselves
_MOST_STAMPS: Final = 300
_MOST_BYTES: Final = 32 << 20
_MOST_REORDERED: Final = 16


def meant_rate(
    path: Path, container: InputContainer, stream: VideoStream, said: Fraction, timeline: Timeline
) -> Fraction:
    """Return the rate that the file means; `said` is FFmpeg's. Reads packets of the first seconds, decodes none."""
    unit = fraction(stream.time_base)
    if unit is None:
        return said
    if unit < _COARSE:
        return nearest_usual(said) if (1 / (said * unit)).denominator != 1 else said
    stamps = _stamps(path, container, stream, timeline)
    guessed = fraction(stream.guessed_rate)
    if "mov" in container.format.name.split(",") and guessed in USUAL and _agrees(stamps, unit, guessed):
        return guessed  # of what is said there the last frame's length is a part, which is often cut short
    return rate_of_stamps(stamps, unit, said)


def rate_of_stamps(stamps: Sequence[int], unit: Fraction, said: Fraction) -> Fraction:
    """Return the usual rate that agrees with stamps (in ticks of `unit` seconds, growing); `said` where none does."""
    if said in USUAL and _agrees(stamps, unit, said):
        return said
    enough = len(stamps) >= _ENOUGH
    fit = [rate for rate in USUAL if (enough or abs(rate / said - 1) < _NEAR) and _agrees(stamps, unit, rate)]
    if fit:
        return min(fit, key=lambda rate: abs(rate - said))
    return nearest_usual(said) if (1 / (said * unit)).denominator != 1 else said


def nearest_usual(said: Fraction) -> Fraction:
    """Return the usual rate that `said` is a rounding of; `said` where there is none."""
    nearest = min(USUAL, key=lambda rate: abs(rate - said))
    return nearest if abs(nearest / said - 1) < _AS_WRITTEN else said


def _agrees(stamps: Sequence[int], unit: Fraction, rate: Fraction) -> bool:
    """Return whether stamps are k / rate rounded to ticks: in one way or another, but all in the same."""
    step = 1 / (rate * unit)
    off = [stamp - k * step for k, stamp in enumerate(stamps)]
    return not off or max(off) - min(off) < 1


def _stamps(path: Path, container: InputContainer, stream: VideoStream, timeline: Timeline) -> list[int]:
    """Stamps of the first frames, growing; [] where the file cannot be demuxed."""
    if "mov" in container.format.name.split(",") and len(stream.index_entries) > 1:
        entries = stream.index_entries
        return [entries[k].timestamp for k in range(min(len(entries), _MOST_STAMPS))]
    found: list[int] = []
    size, whole = 0, False
    try:
        with av.open(url(path), "r") as again:
            for packet in timeline.packets(again, again.streams[stream.index]):
                if not packet.size:
                    whole = True
                    break
                stamp = ticks(packet.pts) if ticks(packet.pts) is not None else ticks(packet.dts)
                size += packet.size
                if stamp is None or len(found) >= _MOST_STAMPS or size > _MOST_BYTES:
                    break
                found.append(stamp)
    except (av.FFmpegError, OSError, ValueError):
        return []
    found.sort()
    return found if whole else found[: max(len(found) - _MOST_REORDERED, 2)]
