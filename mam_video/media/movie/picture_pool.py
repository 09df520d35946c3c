"""Pictures that are drawn into again once they are encoded."""

from __future__ import annotations

from collections import deque

import av


class PicturePool:
    """Pictures of one size and pixel format, of which as many exist as are in work at a time.

    A new picture's memory is cleared by the system page by page as it is first written. At 1080p that took longer than
    the conversion. Any thread may take a picture; one thread encodes.
    """

    def __init__(self, height: int, width: int, pixel_format: str) -> None:
        self._kind = (width, height, pixel_format)
        self._free: deque[av.VideoFrame] = deque()
        self._encoding: deque[av.VideoFrame] = deque()

    def take(self) -> av.VideoFrame:
        """Return a picture of any content, which nobody else reads."""
        try:
            picture = self._free.popleft()
        except IndexError:
            return av.VideoFrame(*self._kind)
        picture.make_writable()  # copied where the encoder has kept it all the same
        return picture

    def handed_over(self, picture: av.VideoFrame) -> None:
        """Remember that the encoder has got a picture, which the caller gives up."""
        self._encoding.append(picture)

    def encoded(self, count: int) -> None:
        """Have as many pictures again as the encoder gave packets: in the order in which it got them."""
        for _ in range(min(count, len(self._encoding))):
            self._free.append(self._encoding.popleft())
