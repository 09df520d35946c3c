"""Pictures that need help on their way in: those that cannot be decoded, and interlaced ones."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

import av
import av.filter

from mam_video.errors import MediaError
from mam_video.media.edge import ticks

T = TypeVar("T")
_MOST_DUE: Final = 1024  # packets on their way through a decoder; far more than any holds back


class Shown(NamedTuple):
    """One frame's turn: its picture, or None where it cannot be decoded, and the time its packet promised."""

    picture: av.VideoFrame | None
    pts: int | None


def whole(container: Any, stream: Any) -> Iterator[Shown]:
    """A stream in which every frame must be decodable: what cannot be raises PyAV's error.

    A damaged frame at the very end raises nothing while the decoder is drained. It is found by its packet, whose time
    no frame reached, in containers whose packets are frames; a gap stands for it.
    """
    reliable = bool({"mov", "matroska"} & set(container.format.name.split(",")))
    promised = reached = None
    for packet in container.demux(stream):
        pts = ticks(packet.pts)
        if packet.size and pts is not None and not packet.is_discard:
            promised = pts if promised is None else max(promised, pts)
        for picture in packet.decode():
            pts = ticks(picture.pts)
            reached = pts if reached is None or pts is None else max(reached, pts)
            yield Shown(picture, pts)
    if reliable and promised is not None and reached is not None and reached < promised:
        yield Shown(None, promised)


def mended(container: Any, stream: Any) -> Iterator[Shown]:
    """Every frame's turn in display order, damaged ones as a gap.

    A packet promises a frame at its time. Where a later frame comes out of the decoder first, or none comes, that frame
    is lost. Frames that the decoder knows to be incomplete count as lost too.
    """
    due: list[int] = []
    begun = False
    for packet in container.demux(stream):
        promised = ticks(packet.pts)
        if packet.size and promised is not None and not packet.is_discard and len(due) < _MOST_DUE:
            heapq.heappush(due, promised)
        try:
            pictures = packet.decode()
        except (av.FFmpegError, ValueError):
            continue
        for picture in pictures:
            pts = ticks(picture.pts)
            while due and pts is not None and due[0] <= pts:
                lost = heapq.heappop(due)
                if begun and lost < pts:
                    yield Shown(None, lost)
            begun = True
            yield Shown(None if picture.is_corrupt else picture, pts)
    for lost in sorted(due):
        yield Shown(None, lost)


def deinterlaced(
    frames: Iterator[T], picture_of: Callable[[T], av.VideoFrame], with_picture: Callable[[T, av.VideoFrame], T]
) -> Iterator[T]:
    """The same frames at the same times, each picture made progressive from both of its fields by FFmpeg's bwdif.

    Holds two frames, since a picture takes part of what moves from its neighbours.
    Raises: MediaError, where FFmpeg's filter is missing.
    """
    waiting: deque[T] = deque()
    graph: Any = None
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


def _bwdif(first: av.VideoFrame) -> Any:
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


def _pulled(graph: Any) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
