"""Alpha that stands beside the pictures of a stream, as in WebM."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import av
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from mam_video.core.errors import MediaError
from mam_video.runtime.cores import codec_threads

_WITH_ALPHA_BESIDE: Final = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # codecs, and the decoders that read that alpha


def has_alpha_beside(stream: VideoStream) -> bool:
    """Return whether the header says that an alpha stands beside each picture, as WebM has it."""
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    return stream.codec_context.codec.canonical_name in _WITH_ALPHA_BESIDE and tags.get("alpha_mode") == "1"


def alpha_decoder(path: Path, stream: VideoStream) -> VideoCodecContext | None:
    """Return a decoder that reads the alpha beside the pictures; None where there is none.

    FFmpeg's own VP8 and VP9 decoders leave that out, and libvpx's read it. Pictures are the same bits.
    """
    if not has_alpha_beside(stream):
        return None
    name = _WITH_ALPHA_BESIDE[stream.codec_context.codec.canonical_name]
    try:
        decoder = av.CodecContext.create(name, "r")
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(
            f"{path}: this FFmpeg lacks {name}, which reads its alpha; convert the clip first, or see --ignore-alpha"
        ) from error
    assert isinstance(decoder, VideoCodecContext)
    if stream.codec_context.extradata:
        decoder.extradata = stream.codec_context.extradata
    decoder.thread_count = codec_threads()
    return decoder
