"""Encoded packets kept on disk, so that a movie can be resumed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.packet import Packet

from mam_video.media.ffmpeg_compat import ticks
from mam_video.runtime.append_log import AppendLog

_PACKET: Final = struct.Struct("<qqqq?")  # pts, dts, duration, shift, key


class PacketLog:
    """Encoded pictures of one movie, of a codec whose pictures stand alone: a packet is a frame.

    shift  ticks that each time was moved by; the same for all
    """

    def __init__(self, path: Path) -> None:
        self._log = AppendLog(path)

    def __len__(self) -> int:
        return len(self._log)

    def append(self, packet: Packet[Any], shift: int) -> None:
        times = (ticks(packet.pts) or 0, ticks(packet.dts) or 0, ticks(packet.duration) or 0)
        head = _PACKET.pack(*times, shift, bool(packet.is_keyframe))
        self._log.append(head + bytes(packet))

    def times(self) -> Iterator[tuple[int, int]]:
        """Yield pts and shift of each picture."""
        for entry in self._log:
            pts, _, _, shift, _ = _PACKET.unpack_from(entry)
            yield pts, shift

    def packets(self, unit: Fraction) -> Iterator[Packet[Any]]:
        """Yield each as it came from the encoder, its times in `unit`s."""
        for entry in self._log:
            pts, dts, duration, _, key = _PACKET.unpack_from(entry)
            packet = av.Packet(entry[_PACKET.size :])
            packet.time_base = unit
            packet.pts, packet.dts, packet.duration, packet.is_keyframe = pts, dts, duration, key
            yield packet

    def cut(self, count: int) -> None:
        self._log.cut(count)

    def close(self) -> None:
        self._log.close()
