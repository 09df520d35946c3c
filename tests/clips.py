"""Clips made by code, with pixels, times and tags known exactly, for the tests of every room that reads films."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.core.geometry import Box

NTSC_FILM = Fraction(24000, 1001)


def ramp(height: int, width: int, shift: int = 0) -> np.ndarray:
    """(H, W, 3) uint16: a smooth coloured picture that moves with `shift`."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    red = 0.5 + 0.4 * np.sin((x + 3 * shift) / width * 4)
    green = 0.5 + 0.4 * np.cos((y - 2 * shift) / height * 3)
    blue = 0.15 + 0.7 * (x + y) / (width + height)
    return np.rint(np.stack([red, green, blue], -1) * 65535).astype(np.uint16)


def soft_disc(height: int, width: int) -> np.ndarray:
    """(H, W) float32 alpha: 1 inside a disc, 0 outside, a soft rim, with every value in between somewhere."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    distance = np.hypot(x - width / 2, y - height / 2)
    return np.clip((min(height, width) * 0.35 - distance) / 12 + 0.5, 0, 1).astype(np.float32)


def matted(frame: Frame, alpha: np.ndarray) -> Matted:
    """A frame with an alpha, and a record without news."""
    box = Box(0, 0, frame.rgb.shape[1], frame.rgb.shape[0])
    return Matted(frame, alpha, Record(frame.index, frame.pts, State.TRACKED, box, 1.0, 0.5))


def make_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    rate: Fraction = Fraction(25),
    time_base: Fraction | None = None,
    pts: Sequence[int] | None = None,
    codec: str | None = None,
    pixel_format: str | None = None,
    rotation: float | None = None,
    mirrored: bool = False,
    options: dict[str, str] | None = None,
    tags: tuple[int, int, int, int] | None = None,
    sample_aspect: Fraction | None = None,
    audio: bool = False,
) -> Path:
    """Write a clip and return its path.

    Args:
        codec, pixel_format: lossless RGB of 16 bits unless given: PNG in MOV, FFV1 elsewhere.
        frames: (H, W, 3) uint8 or uint16 RGB, converted by swscale where `pixel_format` is no RGB of 16 bits; or lists
            of planes in the pixel format's own codes, which go in untouched.
        pts: ticks of `time_base`, one a frame; 0, 1, 2, ... of 1/rate without.
        rotation: display matrix, degrees counter-clockwise by which a player turns the stored picture.
        tags: FFmpeg's numbers of range, matrix, primaries, transfer.
    """
    if codec is None:
        codec, pixel_format = ("png", "rgb48be") if path.suffix == ".mov" else ("ffv1", "gbrp16le")
    pixel_format = pixel_format or "yuv420p"
    time_base = time_base or 1 / rate
    times = list(pts) if pts is not None else [int(i / rate / time_base) for i in range(len(frames))]
    container_options = {}
    if path.suffix in (".mov", ".mp4"):
        container_options = {"video_track_timescale": str(time_base.denominator)}
    with av.open(str(path), "w", options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        first = frames[0]
        height, width = (first if isinstance(first, np.ndarray) else first[0]).shape[:2]
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.time_base = stream.time_base = time_base
        if tags:
            context = stream.codec_context
            context.color_range, context.colorspace, context.color_primaries, context.color_trc = tags
        if sample_aspect:
            stream.codec_context.sample_aspect_ratio = sample_aspect
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirrored)
        sound: Any = (
            container.add_stream("pcm_s16le" if path.suffix == ".mov" else "aac", rate=48000) if audio else None
        )
        for content, time in zip(frames, times, strict=True):
            frame = as_frame(content, pixel_format, width, height)
            if tags:
                frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = tags
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        if sound is not None:
            container.mux(sound.encode(_silence(len(frames) / rate)))
            container.mux(sound.encode(None))
        container.mux(stream.encode(None))
    return path


def make_sound(path: Path) -> Path:
    """A file that holds sound and no picture."""
    with av.open(str(path), "w") as container:
        sound: Any = container.add_stream("pcm_s16le", rate=48000)
        container.mux(sound.encode(_silence(Fraction(1, 2))))
        container.mux(sound.encode(None))
    return path


def _silence(seconds: Fraction) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * int(48000 * seconds)), np.int16), "s16", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
    return frame


def as_frame(content: Any, pixel_format: str, width: int, height: int) -> av.VideoFrame:
    """A frame of PyAV from RGB, or from planes that are already in the pixel format's codes."""
    if isinstance(content, np.ndarray) and pixel_format == "gbrp16le":
        red, green, blue = cv2.split(content if content.dtype == np.uint16 else content.astype(np.uint16) * 257)
        content = [green, blue, red]
    if isinstance(content, np.ndarray):
        source = "rgb24" if content.dtype == np.uint8 else "rgb48le"
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(content), source).reformat(format=pixel_format)
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, codes in zip(frame.planes, content, strict=True):
        codes = codes.reshape(codes.shape[0], -1)
        memory = np.frombuffer(plane, codes.dtype).reshape(plane.height, -1)
        memory[:, : codes.shape[1]] = codes
    return frame


def planes_of(path: Path, decoder: str | None = None) -> list[tuple[int, Fraction, str, list[np.ndarray]]]:
    """Every frame of a movie straight from the decoder: pts, time base, pixel format and planes of codes."""
    result = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        own: Any = av.CodecContext.create(decoder, "r") if decoder else None
        if own is not None and stream.codec_context.extradata:
            own.extradata = stream.codec_context.extradata
        for packet in container.demux(stream):
            for frame in own.decode(packet if packet.size else None) if own is not None else packet.decode():
                bits = max(component.bits for component in frame.format.components)
                planes = []
                for plane in frame.planes:
                    rows = np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16).reshape(plane.height, -1)
                    planes.append(rows[:, : plane.width].copy())
                base = frame.time_base or stream.time_base
                result.append((frame.pts, Fraction(base.numerator, base.denominator), frame.format.name, planes))
    return result
