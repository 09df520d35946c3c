"""Convert a matted frame to the pixel planes of each movie codec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, Protocol

import cv2
import numpy as np

from mam_video.core.planes import PlaneRecipe
from mam_video.media import pixel_formats
from mam_video.media.background import Background
from mam_video.media.bands import bands
from mam_video.media.base import Colour

Content = Literal["rgba", "alpha", "preview"]

_NO_COLOUR: Final = np.zeros((0, 4))
_GBR: Final = np.eye(4)[[1, 2, 0]]


class MovieCodec(Protocol):
    """Planes of a matted frame in a codec's pixel format. Pure, so that threads can share it.

    codec         FFmpeg's name of the encoder
    pixel_format  FFmpeg's name
    options       of the encoder
    colour        tags of what is written
    backdrop      what the pictures are composited over
    """

    codec: str
    pixel_format: str
    options: dict[str, str]
    colour: Colour
    backdrop: Background | None

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return (H, W) as coded."""
        ...

    @property
    def recipe(self) -> PlaneRecipe | None:
        """The same as numbers, where every plane is linear in colour and alpha and as large as the picture."""
        ...

    def planes(self, rgb: np.ndarray, alpha: np.ndarray, back: np.ndarray | None) -> list[np.ndarray]:
        """Return an array for every plane, in the codec's codes.

        Rows of a picture may be converted apart, an even number of them at a time but for the last ones.

        Args:
            rgb: (H, W, 3) uint16; alpha: (H, W) float32 in [0, 1].
            back: (H, W, 3) uint16, what they are composited over where the codec has a backdrop; else None.
        """
        ...


class CodecFactory(Protocol):
    """How a row of the table of formats makes its codec."""

    def __call__(
        self, content: Content, source: Colour, height: int, width: int, backdrop: Background | None = None
    ) -> MovieCodec:
        """`source`: colour tags of the pixels; `backdrop`: what a preview is composited over."""
        ...


def draw(
    codec: MovieCodec,
    planes: Sequence[np.ndarray],
    rgb: np.ndarray,
    alpha: np.ndarray,
    back: np.ndarray | None,
    *,
    premultiply: bool,
) -> None:
    """Draw a whole picture into a codec's planes, (H, W) each, band by band.

    Args: as of `MovieCodec.planes`; rgb: uint8 too; premultiply: multiply colour by alpha first.
    """
    height, width = alpha.shape
    for rows in bands(height, width):
        part = pixel_formats.as_16_bit(rgb[rows])
        if premultiply:
            part = pixel_formats.premultiplied(part, alpha[rows])
        made = codec.planes(part, alpha[rows], None if back is None else back[rows])
        for plane, codes in zip(planes, made, strict=True):
            first = rows.start if len(plane) >= height else rows.start // 2
            plane[first : first + len(codes)] = codes


class FullFrameCodec:
    """A codec of any size of picture, without a backdrop."""

    backdrop: Background | None = None
    recipe: PlaneRecipe | None = None

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height, width


class ProResCodec(FullFrameCodec):
    """ProRes 4444: limited-range YUV 4:4:4 of 10 bits, and alpha of 10 bits in that profile's 16-bit coding.

    The planes are made here and not by swscale, which truncates alpha (80/65535 off after reading back; rounding
    leaves 44). Quality is a constant quantiser of 1: within 4/1023 of the YUV given, in half the time of the encoder's
    search for a bit rate, whatever the picture. The alpha kind has the matte in R = G = B.
    """

    codec = "prores_ks"
    profile = "4444"
    table = "auto"  # the profile's own

    def __init__(
        self, content: Content, source: Colour, height: int, width: int, backdrop: Background | None = None
    ) -> None:
        self._alpha_only = content == "alpha"
        self.pixel_format = "yuv444p10le" if self._alpha_only else "yuva444p10le"
        self.options = {
            "profile": self.profile, "quant_mat": self.table, "flags": "+qscale", "global_quality": "118",
        }  # fmt: skip
        if not self._alpha_only:
            self.options["alpha_bits"] = "16"
        self.colour = replace(source, range="tv", matrix=pixel_formats.writable_matrix(source, height, width))
        if self._alpha_only:
            self.recipe = PlaneRecipe.of(_NO_COLOUR, (876, 64), (0, 512), (0, 512))
        else:
            self.recipe = PlaneRecipe.of(pixel_formats.rgb_to_yuv(self.colour.matrix, 10), (1023, 0))

    def planes(self, rgb: np.ndarray, alpha: np.ndarray, back: np.ndarray | None) -> list[np.ndarray]:
        if self._alpha_only:
            neutral = np.full(alpha.shape, 512, np.uint16)
            luma = np.rint(np.clip(alpha, 0, 1) * np.float32(876) + np.float32(64)).astype(np.uint16)
            return [luma, neutral, neutral]
        return [*pixel_formats.yuv444(rgb, self.colour.matrix, 10), pixel_formats.alpha_codes(alpha, 10)]


class ProResXqCodec(ProResCodec):
    """ProRes 4444 XQ: the same planes with the finest table that FFmpeg's encoder has, four for every frequency.

    4444 has it but for the highest frequencies, so that XQ is hardly larger here, and hardly nearer. It is for places
    that ask for this profile. (FFmpeg's other encoder has a finer table but keeps to a bit rate: 3 times the error.)
    """

    profile = "4444xq"
    table = "default"


class Ffv1Codec(FullFrameCodec):
    """FFV1, lossless: RGB and alpha of 16 bits each, or alpha alone as gray of 16 bits."""

    codec = "ffv1"

    def __init__(
        self, content: Content, source: Colour, height: int, width: int, backdrop: Background | None = None
    ) -> None:
        self._alpha_only = content == "alpha"
        self.pixel_format = "gray16le" if self._alpha_only else "gbrap16le"
        self.options = {"level": "3", "slicecrc": "1", "g": "1"}
        if min(height, width) >= 64:  # threads share a frame by slices; the encoder refuses them on tiny pictures
            self.options["slices"] = "16"
        self.colour = replace(source, range="pc", matrix="unknown" if self._alpha_only else "gbr")
        self.recipe = PlaneRecipe.of(_NO_COLOUR if self._alpha_only else _GBR, (65535, 0))

    def planes(self, rgb: np.ndarray, alpha: np.ndarray, back: np.ndarray | None) -> list[np.ndarray]:
        codes = pixel_formats.alpha_codes(alpha, 16)
        if self._alpha_only:
            return [codes]
        red, green, blue = cv2.split(rgb)
        return [green, blue, red, codes]


class Vp9Codec(FullFrameCodec):
    """VP9 for the web: 8-bit 4:2:0 with an alpha of 8 bits in WebM's side channel, both lossy."""

    codec = "libvpx-vp9"

    def __init__(
        self, content: Content, source: Colour, height: int, width: int, backdrop: Background | None = None
    ) -> None:
        self._alpha_only = content == "alpha"
        self.pixel_format = "yuv420p" if self._alpha_only else "yuva420p"
        self.options = {
            "crf": "18", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0",
        }  # fmt: skip
        self.colour = replace(source, range="tv", matrix=pixel_formats.writable_matrix(source, height, width))

    def planes(self, rgb: np.ndarray, alpha: np.ndarray, back: np.ndarray | None) -> list[np.ndarray]:
        codes = pixel_formats.alpha_codes(alpha, 16 if self._alpha_only else 8)
        if self._alpha_only:
            return pixel_formats.yuv420(cv2.merge([codes, codes, codes]), self.colour.matrix)
        return [*pixel_formats.yuv420(rgb, self.colour.matrix), codes.astype(np.uint8)]


class PreviewCodec:
    """H.264 to look at: the subject over a backdrop, or its matte in gray. Odd sizes get one more row or
    column (the last one repeated), since 4:2:0 has none."""

    codec = "libx264"
    pixel_format = "yuv420p"
    recipe: PlaneRecipe | None = None

    def __init__(
        self, content: Content, source: Colour, height: int, width: int, backdrop: Background | None = None
    ) -> None:
        """`backdrop`: what the subject lies over; None for the matte alone."""
        self.options = {"crf": "18", "preset": "veryfast"}
        self.colour = replace(source, range="tv", matrix=pixel_formats.writable_matrix(source, height, width))
        self.backdrop = backdrop

    def size(self, height: int, width: int) -> tuple[int, int]:
        return height + height % 2, width + width % 2

    def planes(self, rgb: np.ndarray, alpha: np.ndarray, back: np.ndarray | None) -> list[np.ndarray]:
        if back is None:
            codes = pixel_formats.alpha_codes(alpha, 16)
            picture = cv2.merge([codes, codes, codes])
        else:
            picture = pixel_formats.composite(rgb, alpha, back)
        height, width = alpha.shape
        if height % 2 or width % 2:
            picture = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        return pixel_formats.yuv420(picture, self.colour.matrix)
