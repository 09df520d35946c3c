"""Pictures that cannot be decoded, and interlaced ones."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, TypeVar

import av
import av.filter
from av.container import InputContainer
from av.filter.graph import Graph
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from mam_video.core.errors import MediaError
from mam_video.media.ffmpeg_compat import ticks

T = TypeVar("T")
_HIDES_PICTURES: Final = ("vp8", "mpeg4", "msmpeg4v3")
_MOST_DUE: Final = 1024  # packets on their way through a decoder; far more than any holds back


class FrameSlot(NamedTuple):
    """A frame in display order: its picture, or None where it cannot be decoded, and the time of its packet."""

    picture: av.VideoFrame | None
    pts: int | None


def strict(
    packets: Iterable[Packet[VideoStream]],
    container: InputContainer,
    stream: VideoStream,
    decoder: VideoCodecContext | None = None,
) -> Iterator[FrameSlot]:
    """Decode a stream in which every frame must be decodable; one that is not raises PyAV's error.

    Some damage raises nothing: the decoder gives no picture for a packet, or is silent while it is drained. Where the
    container's packets are frames, `FrameSlot(None, time)` marks such a frame: its packet's time has passed without a
    picture. Three things are not checked: packets of one field, codecs whose packets may hold a hidden picture, and
    frames before the first one coded, which may need others from before a cut.

    Args:
        packets: of the stream.
        decoder: used in place of the stream's own.
    """
    reliable = bool({"mov", "matroska"} & set(container.format.name.split(",")))
    reliable = reliable and stream.codec_context.codec.canonical_name not in _HIDES_PICTURES
    due: list[int] = []
    first: int | None = None
    fields = False
    for packet in packets:
        pts = ticks(packet.pts)
        if reliable and packet.size and pts is not None and not packet.is_discard and len(due) < _MOST_DUE:
            first = pts if first is None else first
            if pts >= first:
                heapq.heappush(due, pts)
        for picture in _decoded(packet, decoder):
            pts = ticks(picture.pts)
            while due and pts is not None and due[0] <= pts:
                lost = heapq.heappop(due)
                if lost < pts and not fields:
                    yield FrameSlot(None, lost)
            fields = bool(picture.interlaced_frame)
            yield FrameSlot(picture, pts)
    if due and not fields:
        yield FrameSlot(None, due[0])


def skip_damaged(
    packets: Iterable[Packet[VideoStream]], decoder: VideoCodecContext | None = None
) -> Iterator[FrameSlot]:
    """Decode a stream in display order, with `FrameSlot(None, time)` for each damaged frame. `packets`: of one stream.

    A packet promises a frame at its time. That frame is lost where a later frame comes out of the decoder first, or
    none comes. Frames that the decoder marks as incomplete are lost too.
    """
    due: list[int] = []
    begun = False
    for packet in packets:
        promised = ticks(packet.pts)
        if packet.size and promised is not None and not packet.is_discard and len(due) < _MOST_DUE:
            heapq.heappush(due, promised)
        try:
            pictures = _decoded(packet, decoder)
        except (av.FFmpegError, ValueError):
            continue
        for picture in pictures:
            pts = ticks(picture.pts)
            while due and pts is not None and due[0] <= pts:
                lost = heapq.heappop(due)
                if begun and lost < pts:
                    yield FrameSlot(None, lost)
            begun = True
            yield FrameSlot(None if picture.is_corrupt else picture, pts)
    for lost in sorted(due):
        yield FrameSlot(None, lost)


def _decoded(packet: Packet[VideoStream], decoder: VideoCodecContext | None) -> list[av.VideoFrame]:
    """Decode a packet; an empty one gives what the decoder still holds."""
    if decoder is None:
        return list(packet.decode())
    return list(decoder.decode(packet if packet.size else None))


def deinterlaced(
    frames: Iterator[T], picture_of: Callable[[T], av.VideoFrame], with_picture: Callable[[T, av.VideoFrame], T]
) -> Iterator[T]:
    """Make each picture progressive from both of its fields by FFmpeg's bwdif; frames and times stay.

    Holds two frames, since a picture takes part of what moves from its neighbours.
    Raises: MediaError, where FFmpeg's filter is missing.
    """
    waiting: deque[T] = deque()
    graph: Graph | None = None
    for frame in frames:
        picture = picture_of(frame)
        if graph is None:
            graph = _bwdif(picture)
        waiting.append(frame)
        graph.vpush(picture)
        for done in _pulled(graph):
            yield with_picture(waiting.popleft(), done)
    if graph is not None:
        graph.vpush(None)
        for done in _pulled(graph):
            yield with_picture(waiting.popleft(), done)


def _bwdif(first: av.VideoFrame) -> Graph:
    try:
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=first.time_base
        )
        steps = [source, graph.add("bwdif", mode="send_frame", parity="auto", deint="all"), graph.add("buffersink")]
        graph.link_nodes(*steps).configure()
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"this FFmpeg cannot deinterlace with bwdif ({error})") from error
    return graph


def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
