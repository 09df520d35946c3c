"""Pictures that cannot be decoded, and interlaced ones."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

import av
import av.filter
from av.codec.codec import Properties
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
_MOST_REORDERED: Final = 16  # pictures that one may come behind: what H.264 and HEVC keep at most


class FrameSlot(NamedTuple):
    """A frame in display order: its picture, or None where it cannot be decoded, and the time of its packet."""

    picture: av.VideoFrame | None
    pts: int | None


class _DisplayOrder:
    """Pictures in display order, with a gap for each packet that never gives its picture.

    A packet promises one picture at its time; two packets of the same time promise two. A decoder gives pictures in
    display order, but times of packets may be damaged: then a picture comes after one of a later time. So a gap is
    declared only when no decoder can hold the picture back any longer; later pictures wait until then.
    """

    def __init__(self, most_held_back: int) -> None:
        """Let `most_held_back` pictures overtake one. 0: the decoder gives one picture for each packet, in turn."""
        self._held_back = most_held_back
        self._sent = 0
        self._due: list[tuple[int, int]] = []  # time and number of each packet whose picture has not come
        self._waiting: deque[FrameSlot] = deque()
        self._begun = False
        self._last: int | None = None

    def promise(self, pts: int) -> None:
        """Note a packet that goes into the decoder."""
        self._sent += 1
        if len(self._due) < _MOST_DUE:
            insort(self._due, (pts, self._sent))

    def come(self, picture: av.VideoFrame, *, judge: bool = True, twins: bool = True) -> Iterator[FrameSlot]:
        """Take a picture from the decoder; give what has its turn now.

        Without `judge` nothing is a gap that is overdue now, and without `twins` no packet whose time a picture had.
        """
        pts = ticks(picture.pts)
        if pts is not None:
            own = next((entry for entry in self._due if entry[0] == pts), None)
            if own is not None:
                self._due.remove(own)
            elif (late := FrameSlot(None, pts)) in self._waiting:
                self._waiting.remove(late)
            before = own[1] if own is not None and not self._held_back else self._sent + 1
            for entry in [each for each in self._due if each[0] < pts and each[1] < before]:
                self._due.remove(entry)
                if self._begun and judge and (twins or entry[0] != self._last):
                    self._waiting.append(FrameSlot(None, entry[0]))
            self._last = pts
        self._begun = True
        self._waiting.append(FrameSlot(picture, pts))
        yield from self._ready()

    def _ready(self) -> Iterator[FrameSlot]:
        behind = sum(shown.picture is not None for shown in self._waiting)
        while self._waiting and (self._waiting[0].picture is not None or behind > self._held_back):
            behind -= self._waiting[0].picture is not None
            yield self._waiting.popleft()

    def end(self) -> Iterator[FrameSlot]:
        """Give the rest; then a gap for every packet whose picture did not come."""
        yield from self._waiting
        self._waiting.clear()
        for pts, _ in self._due:
            yield FrameSlot(None, pts)


def _display_order(stream: VideoStream) -> _DisplayOrder:
    intra_only: Any = Properties.INTRA_ONLY.value
    in_turn = bool(stream.codec_context.codec.properties & intra_only)
    return _DisplayOrder(0 if in_turn else _MOST_REORDERED)


def strict(
    packets: Iterable[Packet[VideoStream]],
    container: InputContainer,
    stream: VideoStream,
    decoder: VideoCodecContext | None = None,
) -> Iterator[FrameSlot]:
    """Decode a stream in which every frame must be decodable; one that is not raises PyAV's error.

    Some damage raises nothing: the decoder gives no picture for a packet, or is silent while it is drained. In
    containers whose packets are frames, `FrameSlot(None, time)` marks such a frame. Three things are not checked:
    packets of one field, codecs whose packets may hold a hidden picture, and frames before the first one coded, which
    may need others from before a cut. `packets` are the stream's.

    `decoder`: one to use in place of the stream's own.
    """
    reliable = bool({"mov", "matroska"} & set(container.format.name.split(",")))
    reliable = reliable and stream.codec_context.codec.canonical_name not in _HIDES_PICTURES
    order = _display_order(stream)
    first: int | None = None
    fields = False
    for packet in packets:
        pts = ticks(packet.pts)
        if reliable and packet.size and pts is not None and not packet.is_discard:
            first = pts if first is None else first
            if pts >= first:
                order.promise(pts)
        for picture in _decoded(packet, decoder):
            yield from order.come(picture, judge=not fields)
            fields = bool(picture.interlaced_frame)
    for shown in order.end():
        if shown.picture is not None or not fields:
            yield shown


def skip_damaged(
    packets: Iterable[Packet[VideoStream]], stream: VideoStream, decoder: VideoCodecContext | None = None
) -> Iterator[FrameSlot]:
    """Decode a stream in display order, with `FrameSlot(None, time)` for each damaged frame; see `_DisplayOrder`.

    Frames that the decoder marks as incomplete are lost too. `packets` are the stream's.
    """
    order = _display_order(stream)
    fields = False
    for packet in packets:
        promised = ticks(packet.pts)
        if packet.size and promised is not None and not packet.is_discard:
            order.promise(promised)
        try:
            pictures = _decoded(packet, decoder)
        except (av.FFmpegError, ValueError):
            continue
        for picture in pictures:
            # The second field of a frame may be a packet of its own, with the time of the first.
            yield from map(_without_damage, order.come(picture, twins=not fields))
            fields = bool(picture.interlaced_frame)
    yield from map(_without_damage, order.end())


def _without_damage(shown: FrameSlot) -> FrameSlot:
    return FrameSlot(None, shown.pts) if shown.picture is not None and shown.picture.is_corrupt else shown


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
