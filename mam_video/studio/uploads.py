"""Masks that the page sends. They are bounded, judged by their header before they are decoded, and kept whole."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Final

from mam_video.core.errors import MamVideoError, UsageError
from mam_video.media.still_images import read_alpha
from mam_video.prompts.prompt import Prompt
from mam_video.studio.plain_files import save_bytes

MOST_BYTES: Final = 32 << 20  # of a mask: PNG of 16 bits with alpha at 4096x2160 has less
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def png_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) of a PNG. Raises: UsageError, it is none."""
    if len(data) < 33 or not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR":
        raise UsageError("a mask is a PNG picture: the subject white, all else black")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def keep_mask(folder: Path, data: bytes, size: tuple[int, int]) -> str:
    """Keep a mask of a clip of `size` (H, W) in a folder; return its name, which its bytes decide.

    Raises: UsageError, it is no mask of this size; MediaError, it cannot be written.
    """
    width, height = png_size(data)
    if (height, width) != size:
        raise UsageError(
            f"the mask is {width}x{height}, the clip {size[1]}x{size[0]}; a mask must have the clip's size"
        )
    name = f"{hashlib.sha256(data).hexdigest()[:16]}.png"
    path = folder / name
    if path.exists():
        return name
    save_bytes(path, data)
    try:
        Prompt.of_mask(read_alpha(path))
    except MamVideoError as error:
        path.unlink(missing_ok=True)
        raise UsageError(str(error).replace(str(path), "the mask")) from None
    return name
