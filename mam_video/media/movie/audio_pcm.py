"""Decode one stream of sound to linear PCM, at the source's times."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

from mam_video.media.ffmpeg_compat import fraction, ticks
from mam_video.media.movie.audio_plan import BLOCK, FAILURES, bytes_a_sample, pcm_packet

_SLACK: Final = Fraction(1, 200)  # seconds by which times may differ from the count of samples before silence is put in


class PcmDecoder:
    """One stream decoded to linear PCM, sample by sample at the source's times.

    Samples before time 0 of the output are left out. Where the source's times leave a gap of more than `_SLACK`,
    silence fills it; where they overlap, the later samples give way. Holds a packet's worth.
    """

    def __init__(self, source: AudioStream, out: AudioStream, codec: str) -> None:
        self.source, self.out = source, out
        self.count = self.broken = 0
        self._codec = codec
        self._rate = int(source.codec_context.sample_rate)
        self._layout = source.codec_context.layout
        self._format = str(source.codec_context.format.name)
        self._channels = int(self._layout.nb_channels)
        self._resampler: AudioResampler | None = None
        self._next: int | None = None  # where in the output the next sample from the decoder lies
        self._at = 0  # where the first of those that are held lies
        self._held: list[np.ndarray] = []
        self._holds = 0

    def decode(self, packet: Packet[Any] | None, shift: Fraction) -> None:
        """Take a packet of the source; None: what the decoder still has."""
        try:
            frames = self.source.codec_context.decode(packet)
        except FAILURES:
            self.broken += 1
            return
        for frame in frames:
            self._take(frame, shift)

    def ready(self, stop: Fraction | None, *, last: bool = False) -> Iterator[Packet[Any]]:
        """Packets of the output up to `stop`, in seconds of the output: whole blocks, and what is left where `last`."""
        while True:
            most = self._holds if stop is None else min(self._holds, round(stop * self._rate) - self._at)
            if most <= 0 or (most < BLOCK and not last):
                return
            yield self._packet(min(most, BLOCK))

    def _take(self, frame: AudioFrame, shift: Fraction) -> None:
        stamp = ticks(frame.pts)
        unit = fraction(frame.time_base)
        samples = self._samples(frame)
        if stamp is not None and unit is not None:
            place = round((stamp * unit + shift) * self._rate)
            slack = max(self._rate * _SLACK, 2 * unit * self._rate)
            if self._next is None:
                self._next = place
            elif place - self._next > slack:
                self._fill(place - self._next)
            elif self._next - place > slack:
                samples = samples[self._next - place :]
        elif self._next is None:
            self._next = round(shift * self._rate)
        self._hold(samples)

    def _fill(self, count: int) -> None:
        """Silence, in pieces, so that a long gap is not held at once."""
        zero = np.zeros((1, self._channels), _TYPES[self._codec])
        self._hold(np.broadcast_to(zero, (count, self._channels)))

    def _hold(self, samples: np.ndarray) -> None:
        assert self._next is not None
        start = self._next
        self._next += len(samples)
        samples = samples[max(0, -start) :]
        if not len(samples):
            return
        if not self._holds:
            self._at = max(start, 0)
        self._held.append(samples)
        self._holds += len(samples)

    def _samples(self, frame: AudioFrame) -> np.ndarray:
        """(samples, channels) of the output's type."""
        same = frame.sample_rate == self._rate and frame.layout.nb_channels == self._channels
        frames = [frame]
        if not same or frame.format.name != self._format:  # the stream changes on its way
            if self._resampler is None:
                self._resampler = av.AudioResampler(self._format, self._layout, self._rate)
            frames = self._resampler.resample(frame)
        parts = [np.zeros((0, self._channels), _TYPES[self._codec])]
        for each in frames:
            values = each.to_ndarray()
            flat = values.T if each.format.is_planar else values.reshape(-1, self._channels)
            parts.append(_linear(flat, self._codec))
        return np.concatenate(parts)

    def _packet(self, count: int) -> Packet[Any]:
        taken, left = [], count
        while left:
            first = self._held[0]
            taken.append(first[:left])
            if len(first) > left:
                self._held[0] = first[left:]
            else:
                self._held.pop(0)
            left -= len(taken[-1])
        data = np.ascontiguousarray(np.concatenate(taken))
        whole = data.view(np.uint8).reshape(count, self._channels, data.itemsize)
        packet = pcm_packet(whole[:, :, : bytes_a_sample(self._codec)].tobytes(), self._at, count, self._rate, self.out)
        self._at += count
        self._holds -= count
        self.count += 1
        return packet


_TYPES: Final = {
    "pcm_s16le": "<i2",
    "pcm_s24le": "<i4",  # the low three bytes are written
    "pcm_s32le": "<i4",
    "pcm_f32le": "<f4",
    "pcm_f64le": "<f8",
}


def _linear(values: np.ndarray, codec: str) -> np.ndarray:
    """Samples of a decoder's type in that of the output: rounded to the nearest, cut at full scale, never wrapped."""
    if codec in ("pcm_f32le", "pcm_f64le"):
        return values.astype(_TYPES[codec])
    bits = 8 * bytes_a_sample(codec)
    least, most = -(1 << bits - 1), (1 << bits - 1) - 1
    if values.dtype.kind == "f":
        scaled = np.rint(np.nan_to_num(values.astype(np.float64)) * -float(least))
        return np.clip(scaled, least, most).astype(_TYPES[codec])
    whole = values.astype(np.int64)
    have = 8 * values.dtype.itemsize
    if values.dtype == np.uint8:
        whole -= 128
    if have > bits:
        whole = np.clip((whole >> have - bits - 1) + 1 >> 1, least, most)
    return (whole << max(bits - have, 0)).astype(_TYPES[codec])
