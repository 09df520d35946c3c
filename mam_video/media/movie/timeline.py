"""Continue the clock of files whose time stamps restart or jump, as players do.

Two recordings joined in one transport stream keep their own stamps: the clock starts again in the middle. A scan of the
packets, which decodes none, finds such places before the work. From each one on, all stamps are moved by one amount, so
that the first picture after it stands one frame behind the last one before it; sound is moved by the same amount.

Pictures say where the clock restarts. A stream of sound restarts at its own jump beside that place, since its packets
lie a little before or behind the pictures'; where it has none there, at the place in the file. Sound that still runs
when the next recording begins is left out from there on: no container holds two packets of a stream for one moment.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import Any, Final, TypeVar

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from mam_video.media.ffmpeg_compat import fraction, ticks, url

_BACK: Final = Fraction(1, 10)  # seconds that decoding times may go back without a restart: jitter
_BACK_SHOWN: Final = Fraction(2)  # likewise of presentation times, where no decoding time is known: reordered frames
_AHEAD: Final = Fraction(10)  # seconds that a clock may go ahead in formats whose clock may jump; as FFmpeg has it
_FAR: Final = Fraction(60)  # seconds that a picture may be shown after it is decoded; more is damage
_TS_DISCONT: Final = 0x0200  # FFmpeg's flag of such formats (AVFMT_TS_DISCONT)
_UNSET: Final = -(1 << 63)
_MOST_TOLD: Final = 3


StreamT = TypeVar("StreamT", bound=Stream)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Packets start <= n < stop of one stream, counted from its first, whose times are moved by `shift` seconds.

    stop  None: to the end
    """

    start: int
    stop: int | None
    shift: Fraction


@dataclass(frozen=True, slots=True)
class Timeline:
    """How the times of a file's packets are moved so that they always grow.

    stretches  by the stream's index; packets in none are left out; streams that are not here keep their times
    joins      seconds, on the continued clock, of the first picture after each place where the clock restarts
    left_out   seconds of sound left out, all streams together
    """

    stretches: Mapping[int, tuple[Stretch, ...]] = field(default_factory=dict)
    joins: tuple[Fraction, ...] = ()
    left_out: Fraction = Fraction(0)

    def packets(self, container: InputContainer, streams: StreamT | list[StreamT]) -> Iterator[Packet[StreamT]]:
        """Demux a stream, or a list of them, with the continued times."""
        seen: Counter[int] = Counter()
        demuxed: Iterator[Packet[Any]] = container.demux(streams)
        for packet in demuxed:
            stretches = self.stretches.get(packet.stream_index)
            if stretches and packet.size:
                number = seen[packet.stream_index]
                seen[packet.stream_index] += 1
                found = next((s for s in reversed(stretches) if s.start <= number), None)
                if found is None or (found.stop is not None and number >= found.stop):
                    continue
                _move(packet, found.shift)
            yield packet

    def message(self) -> list[str]:
        """Return a line for the user; none where the clock is whole."""
        if not self.joins:
            return []
        places = ", ".join(f"{float(at):.3f}" for at in self.joins[:_MOST_TOLD])
        more = f" and {len(self.joins) - _MOST_TOLD} times more" if len(self.joins) > _MOST_TOLD else ""
        text = (
            f"the file's clock restarts or jumps at {places} s{more} (recordings joined?): all later times, of "
            "pictures and sound, are moved by one amount so that they go on there"
        )
        if self.left_out:
            text += f"; {float(self.left_out):.3f} s of sound beyond the last picture before it are left out"
        return [text]


def _move(packet: Packet[Any], shift: Fraction) -> None:
    unit = fraction(packet.time_base)
    if not shift or unit is None:
        return
    moved = round(shift / unit)
    pts, dts = ticks(packet.pts), ticks(packet.dts)
    packet.pts = None if pts is None else pts + moved
    packet.dts = None if dts is None else dts + moved


class _Stamps:
    """Stamps of one stream's packets, in file order, in ticks; `places` are those of the packets in the file."""

    def __init__(self, stream: Stream) -> None:
        self.index = int(stream.index)
        self.unit = fraction(stream.time_base) or Fraction(1)
        self.dts, self.pts, self.durations, self.places = array("q"), array("q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self.places)

    def add(self, packet: Packet[Any], place: int) -> None:
        dts, pts = ticks(packet.dts), ticks(packet.pts)
        self.dts.append(_UNSET if dts is None else dts)
        self.pts.append(_UNSET if pts is None else pts)
        self.durations.append(ticks(packet.duration) or 0)
        self.places.append(place)

    def shown(self, number: int) -> int | None:
        """Return the presentation time; the decoding time where that is unset, or far off."""
        pts, dts = self.pts[number], self.dts[number]
        if pts == _UNSET or (dts != _UNSET and abs(pts - dts) * self.unit > _FAR):
            pts = dts
        return None if pts == _UNSET else pts

    def jumps(self, ahead: bool) -> list[int]:
        """Return numbers of the packets at which the stamps go back, or (`ahead`) far ahead."""
        found: list[int] = []
        last, decoded = _UNSET, False
        for number, (dts, pts) in enumerate(zip(self.dts, self.pts, strict=True)):
            stamp = pts if dts == _UNSET else dts
            if stamp == _UNSET:
                continue
            if last != _UNSET:
                step = (stamp - last) * self.unit
                back = _BACK if decoded and dts != _UNSET else _BACK_SHOWN
                if step < -back or (ahead and step > _AHEAD):
                    found.append(number)
            last, decoded = stamp, dts != _UNSET
        return found

    def first_after(self, place: int) -> int:
        """Number of the first packet behind a place in the file."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.places[middle] < place else (low, middle)
        return low

    def step(self, start: int, stop: int) -> int:
        """Return ticks from one picture to the next, as packets start <= n < stop say."""
        said = [d for d in self.durations[start:stop] if d > 0]
        if said:
            return median_low(said)
        times = sorted({t for n in range(start, stop) if (t := self.shown(n)) is not None})
        gaps = [b - a for a, b in pairwise(times)]
        return median_low(gaps) if gaps else 1


def continued(path: Path, video: int, *, anyway: bool = False) -> Timeline:
    """Scan a file for places where its clock restarts; `video` is the index of the stream of pictures.

    Files are scanned whose format lets clocks jump (MPEG transport and program streams, Ogg), others only if `anyway`.
    No error of a damaged file is raised: what can be demuxed counts.
    """
    with suppress(av.FFmpegError, OSError, ValueError), av.open(url(path), "r") as container:
        may_jump = bool(int(container.format.flags) & _TS_DISCONT)
        if not may_jump and not anyway:
            return Timeline()
        chosen = [s for s in container.streams if s.type == "audio" or s.index == video]
        stamps = {s.index: _Stamps(s) for s in chosen}
        with suppress(av.FFmpegError, OSError, ValueError):
            for place, packet in enumerate(container.demux(chosen)):
                if packet.size:
                    stamps[packet.stream_index].add(packet, place)
        pictures = stamps.pop(video)
        return _planned(pictures, list(stamps.values()), may_jump)
    return Timeline()


def _planned(pictures: _Stamps, sounds: Sequence[_Stamps], ahead: bool) -> Timeline:
    own = {sound.index: sound.jumps(ahead) for sound in sounds}
    found = pictures.jumps(ahead)
    beside = [_beside(pictures, number, sounds, own, found) for number in found]
    kept = [k for k, number in enumerate(found) if not _is_gap(pictures, number, sounds, own, beside[k])]
    starts = [0, *(found[k] for k in kept)]
    shifts, joins = _shifts(pictures, starts)
    stretches = {pictures.index: _as_stretches(starts, shifts)} if joins else {}
    left_out = Fraction(0)
    for sound in sounds:
        splits = [
            beside[k].get(sound.index, sound.first_after(pictures.places[found[k]])) for k in kept
        ]  # the first packet of each recording
        planned = _with_own_jumps(sound, _as_stretches([0, *splits], shifts), own[sound.index])
        planned, lost = _trimmed(sound, planned)
        left_out += lost
        if len(planned) > 1 or lost:
            stretches[sound.index] = planned
    return Timeline(stretches, joins, left_out)


def _beside(
    pictures: _Stamps, number: int, sounds: Iterable[_Stamps], own: Mapping[int, Sequence[int]], found: Sequence[int]
) -> dict[int, int]:
    """Return the jump of each stream of sound, by its index, that belongs to the pictures' jump at `number`."""
    at = found.index(number)
    before = pictures.places[found[at - 1]] if at else -1
    behind = pictures.places[found[at + 1]] if at + 1 < len(found) else 1 << 62
    place, time = pictures.places[number], (pictures.shown(number) or 0) * pictures.unit
    matched = {}
    for sound in sounds:
        near = [
            n
            for n in own[sound.index]
            if before < sound.places[n] < behind and abs((sound.shown(n) or 0) * sound.unit - time) < _AHEAD
        ]
        if near:
            matched[sound.index] = min(near, key=lambda n: abs(sound.places[n] - place))
    return matched


def _is_gap(
    pictures: _Stamps,
    number: int,
    sounds: Iterable[_Stamps],
    own: Mapping[int, Sequence[int]],
    beside: Mapping[int, int],
) -> bool:
    """Return whether pictures pause there while sound goes on without a jump of its own: then the clock is whole."""
    before, here = pictures.shown(number - 1), pictures.shown(number)
    if before is None or here is None or here < before or beside:
        return False
    low, high = before * pictures.unit + _BACK_SHOWN, here * pictures.unit - _BACK_SHOWN
    for sound in sounds:
        near = max(sound.first_after(pictures.places[number]) - 1, 0)
        start = max((n for n in own[sound.index] if n <= near), default=0)
        stop = min((n for n in own[sound.index] if n > near), default=len(sound))
        times = (time * sound.unit for n in range(start, stop) if (time := sound.shown(n)) is not None)
        if any(low < time < high for time in times):
            return True
    return False


def _shifts(pictures: _Stamps, starts: Sequence[int]) -> tuple[list[Fraction], tuple[Fraction, ...]]:
    """Return seconds that each recording is moved by, and where each but the first begins then."""
    shifts, joins = [Fraction(0)], []
    end: Fraction | None = None
    for start, stop in zip(starts, [*starts[1:], len(pictures)], strict=True):
        times = [time for n in range(start, stop) if (time := pictures.shown(n)) is not None]
        if not times:
            times = [0]
        if end is not None:
            shifts.append(end - min(times) * pictures.unit)
            joins.append(end)
        end = (max(times) + pictures.step(start, stop)) * pictures.unit + shifts[-1]
    return shifts, tuple(joins)


def _as_stretches(starts: Sequence[int], shifts: Sequence[Fraction]) -> tuple[Stretch, ...]:
    """Stretches from the first packets and the shifts of recordings; those without a packet are left out."""
    stops: list[int | None] = [*starts[1:], None]
    return tuple(
        Stretch(start, stop, shift)
        for start, stop, shift in zip(starts, stops, shifts, strict=True)
        if stop is None or stop > start
    )


def _with_own_jumps(sound: _Stamps, planned: Sequence[Stretch], jumps: Sequence[int]) -> tuple[Stretch, ...]:
    """Return the same, split where the sound alone goes back: from there on it goes on behind its last packet."""
    whole: list[Stretch] = []
    for stretch in planned:
        parts = [stretch]
        for number in jumps:
            last = parts[-1]
            if number <= last.start or (last.stop is not None and number >= last.stop):
                continue
            before, here = sound.shown(number - 1), sound.shown(number)
            if before is not None and here is not None and here < before:
                more = (before + max(sound.durations[number - 1], 1) - here) * sound.unit
                parts[-1:] = [replace(last, stop=number), Stretch(number, last.stop, last.shift + more)]
        whole += parts
    return tuple(whole)


def _trimmed(sound: _Stamps, planned: Sequence[Stretch]) -> tuple[tuple[Stretch, ...], Fraction]:
    """Return the same without the ends that overlap the next beginning, and the seconds that are left out.

    A packet stays that overlaps by less than half of itself.
    """
    kept, lost = list(planned), 0
    for k in range(len(kept) - 2, -1, -1):
        here, behind = kept[k], kept[k + 1]
        begins = next((t for n in range(behind.start, len(sound)) if (t := sound.shown(n)) is not None), None)
        stop = here.stop
        assert stop is not None
        if begins is None:
            continue
        begins += round((behind.shift - here.shift) / sound.unit)
        while stop > here.start:
            time = sound.shown(stop - 1)
            if time is not None and time < begins and 2 * (begins - time) >= sound.durations[stop - 1]:
                break
            stop -= 1
            lost += sound.durations[stop]
        kept[k] = replace(here, stop=stop)
    return tuple(kept), lost * sound.unit
