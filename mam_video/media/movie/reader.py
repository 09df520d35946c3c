"""Read movies through PyAV: whatever FFmpeg decodes.

Time is ticks of an exact time base from the reader to the writer. `pixel_formats.py` converts the pixels. Timecode
(`quicktime_timecode.py`), sound (`audio.py`), colour tags, sample aspect, reel and creation time travel beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from mam_video.core.arrays import RGB8
from mam_video.core.errors import MediaError
from mam_video.core.frames import Frame
from mam_video.core.settings import InputSettings
from mam_video.media import pixel_formats
from mam_video.media.movie.alpha_side_channel import has_alpha_beside
from mam_video.media.movie.container_layout import is_animated_webp
from mam_video.media.movie.decoder import Decoded, MovieDecoder, damaged_at, shown_pictures
from mam_video.media.movie.integrity import cut_off, hidden, joined, unread
from mam_video.media.movie.seek_index import SeekIndex
from mam_video.media.movie.stream_info import OpenedStream, describe_stream, stream_notes
from mam_video.media.movie.timeline import Timeline, continued
from mam_video.media.plate_alpha import IGNORED, alpha_notes, straight_picture
from mam_video.runtime.lifecycle import Closeable
from mam_video.runtime.os_errors import reason
from mam_video.runtime.streams import ordered_map

_SCALED: Final = {"bt709": Colorspace.ITU709, "smpte170m": Colorspace.ITU601, "bt470bg": Colorspace.ITU601}
CONVERSIONS_AHEAD: Final = 2  # pictures converted to RGB at a time while the decoder goes on
END_SLACK: Final = 4  # frames by which a clip may end before its header says, since writers count durations differently


class MovieReader(Closeable):
    """Frames of one movie, in display order, upright, as 16-bit RGB. See `Reader` for the promises.

    `MovieDecoder` says which times frames have.

    broken  see `Reader`; empty unless `on_error` is "repeat"
    """

    def __init__(self, path: Path, settings: InputSettings | None = None) -> None:
        """Open and decode the first frame, which says what the header may leave open.

        Raises: MediaError, in one line, for a missing file, a folder, not a video, no video stream, a cut-off file.
        """
        self.path = path
        self._settings = settings or InputSettings()
        self._closed = False
        with OpenedStream(self.path) as (container, stream):
            if short := cut_off(path, container, stream):
                raise MediaError(f"{path}: {short}; get a whole copy, or save what is there: ffmpeg -i IN -c copy OUT")
            if is_animated_webp(path):
                raise MediaError(f"{path}: an animated WebP is not read; convert it to a GIF or an animated PNG first")
            stream.thread_type = "SLICE"  # threads by frames would decode several to give one
            first = self._first_frame(container, stream)
            stored_size = (first.height, first.width)
            timeline = continued(path, stream.index, anyway=joined(path, container))
            own = pixel_formats.alpha_of(first)  # before `describe_stream`, which spends the frame
            info, self._decoding, self._turn = describe_stream(path, container, stream, first, timeline)
            beside = has_alpha_beside(stream)
            fewer = hidden(container, stream)
            unknown = (*_tags_not_known(first), *unread(path, container))
        choice = self._settings.alpha
        if beside and choice != "ignore":
            first = self._first_with_alpha()
            own = pixel_formats.alpha_of(first)
        if own is not None or (beside and choice == "ignore"):
            association = {"auto": "straight", "ignore": IGNORED}.get(choice, choice)
            basis = "assumed" if choice == "auto" else "as set"
            info = replace(info, has_alpha=True, alpha=association, alpha_basis=basis, pixel_format=first.format.name)
        self._reads_alpha = choice != "ignore" and (info.has_alpha or bool(first.format.has_palette))
        own_alpha = alpha_notes(own, info.alpha, info.alpha_basis)
        self.info = replace(info, notes=(*stream_notes(info, self._settings, fewer), *unknown, *own_alpha))
        self._decoder = MovieDecoder(self.info, self._settings, stored_size, reads_alpha=self._reads_alpha)
        self.broken = self._decoder.broken

    @property
    def decoded(self) -> int:
        """Frames decoded so far, over all passes."""
        return self._decoder.count

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Yield frames start <= index < stop; see `Reader.frames`.

        Raises: MediaError where a frame cannot be decoded or the file ends before its time, naming the frame.
        """
        if self._closed:
            raise ValueError("frames() of a closed reader")
        return ordered_map(self._convert, self._decoder.frames(start, stop), CONVERSIONS_AHEAD)

    def index_for_random_access(self) -> None:
        # Where broken frames are repeated or pictures deinterlaced, a frame depends on those before it.
        if self._decoder.seek_index is None and self._settings.on_error == "stop" and not self._settings.deinterlace:
            self._decoder.seek_index = SeekIndex()

    def index_frames(self) -> Iterator[int]:
        self.index_for_random_access()
        if self._decoder.seek_index is not None:
            for decoded in self._decoder.frames(0, None):
                yield decoded.index

    def views(self, width: int, height: int, start: int, stop: int | None) -> Iterator[tuple[int, RGB8]] | None:
        """Return frames start <= index < stop at another size, with their indices, for people to look at.

        FFmpeg's scaler makes them, several times as fast as `frames` and up to some codes off: they are not for models.
        None: this movie has no such quick way (other than 8 bits, with alpha, turned, or of a matrix it does not know).
        """
        known = _SCALED.get(self.info.colour.matrix)
        plain = self.info.pixel_format in ("yuv420p", "yuv422p", "yuv444p") and not self.info.has_alpha
        if known is None or not plain or self.info.rotation or self.info.colour.range != "tv":
            return None

        def scaled(decoded: Decoded) -> tuple[int, RGB8]:
            picture = decoded.picture.reformat(width, height, "rgb24", src_colorspace=known)
            return decoded.index, np.asarray(picture.to_ndarray(), np.uint8)

        return map(scaled, self._decoder.frames(start, stop))

    def alphas(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield the alpha of frames start <= index < stop, upright, (H, W) float32 in [0, 1].

        It is the clip's own where it has one (WebM's side channel too), else the grey value: that of a matte alone.
        Raises: MediaError as `frames` does, and where this FFmpeg cannot read the alpha that the clip has.
        """
        if self._closed:
            raise ValueError("alphas() of a closed reader")
        return ordered_map(self._alpha, self._decoder.frames(start, stop, with_alpha=True), CONVERSIONS_AHEAD)

    def close(self) -> None:
        self._closed = True

    def _alpha(self, decoded: Decoded) -> np.ndarray:
        alpha = pixel_formats.alpha_of(decoded.picture)
        if alpha is None:
            alpha = pixel_formats.grey_of(self._decoding(decoded.picture))
        return self._turn(alpha)

    def _convert(self, decoded: Decoded) -> Frame:
        rgb = self._turn(self._decoding(decoded.picture))
        start = self.info.timecode
        label = None if start is None else str(start + decoded.index)
        alpha = None
        if self._reads_alpha and (own := pixel_formats.alpha_of(decoded.picture)) is not None:
            rgb, alpha = straight_picture(rgb, self._turn(own), self.info.alpha)
        return Frame(decoded.index, decoded.pts, self.info.time_base, rgb, timecode=label, alpha=alpha)

    def _first_frame(self, container: InputContainer, stream: VideoStream) -> av.VideoFrame:
        try:
            for frame in container.decode(stream):
                return frame
        except (av.FFmpegError, OSError, ValueError) as error:
            raise damaged_at(self.path, 0, reason(error)) from error
        raise MediaError(f"{self.path}: holds no frame that can be decoded; the file is empty or cut off")

    def _first_with_alpha(self) -> av.VideoFrame:
        """Return the first frame with the alpha that stands beside it."""
        with OpenedStream(self.path) as (container, stream):
            try:
                for shown in shown_pictures(self.path, container, stream, Timeline(), True, False):
                    if shown.picture is not None:
                        return shown.picture
            except (av.FFmpegError, OSError, ValueError) as error:
                raise damaged_at(self.path, 0, reason(error)) from error
        raise MediaError(f"{self.path}: holds no frame that can be decoded")


def _tags_not_known(first: av.VideoFrame) -> tuple[str, ...]:
    """Return lines about tags that say something that is not read: never taken for something else in silence."""
    tags = {
        "matrix": (int(first.colorspace), pixel_formats.MATRICES, "decoded by the usual rule for its size"),
        "primaries": (int(first.color_primaries), pixel_formats.PRIMARIES, "taken as Rec. 709"),
        "transfer": (int(first.color_trc), pixel_formats.TRANSFERS, "taken as display-referred sRGB"),
    }
    notes = []
    for what, (number, names, instead) in tags.items():
        known = number in names or number == 0
        if what == "matrix" and not first.format.is_rgb and len(first.format.components) >= 3:
            known = number in (0, 2) or pixel_formats.is_readable(names.get(number, ""))
        if not known:
            notes.append(
                f"the {what} tag {names.get(number, number)} is not read here: {instead}; convert the clip first"
            )
    return tuple(notes)
