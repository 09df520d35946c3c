"""The table of output formats: outputs are opened, written, verified, resumed and documented from its rows.

An output is named NAME or NAME:kind. Without a kind the name's ending chooses the format; the kind `alpha` is the alpha
alone in that format's family.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mam_video.core.errors import UsageError
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import OutputSettings
from mam_video.media.atomic_output import ExactName, Pattern
from mam_video.media.background import Background
from mam_video.media.base import ClipInfo, Colour
from mam_video.media.movie.codecs import (
    CodecFactory,
    Content,
    Ffv1Codec,
    PreviewCodec,
    ProResCodec,
    ProResXqCodec,
    Vp9Codec,
)
from mam_video.media.sequence.encoders import EncoderFactory, dpx_encoder, exr_encoder, png_encoder, tiff_encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """One way to write: a row of the table.

    name               as typed after the colon
    family             codec family: prores, prores-xq, ffv1, exr, dpx, tiff, png, webp, vp9, preview
    content            rgba, alpha (alone), or preview (over a background)
    suffixes           endings of the names that it can have; "/" is a folder
    writer             which writer makes it: movie, sequence or webp
    says               one line for the help
    colour, alpha      how each is stored, for docs/formats.md
    bytes_per_pixel    measured on real plates; a plan for the disk, not a promise
    codec              movies: makes the planes of each picture
    encoder            sequences: makes the file of each picture
    depth              sequences of whole numbers: bits, as verification names them
    alpha_slack        largest error of a picture's least and largest alpha after reading back; None: lossy
    resumable          whether its frames stand alone, so that a run can be resumed after any of them
    display_referred   whether it always gets display-referred pixels, never the plate's own codes
    carries_tags       whether it keeps 10 bits or more with the plate's colour tags
    scene_linear       whether it keeps scene-linear light, float and beyond white
    layers             whether it holds one layer for each of several subjects
    """

    name: str
    family: str
    content: Content
    suffixes: tuple[str, ...]
    writer: Literal["movie", "sequence", "webp"]
    says: str
    colour: str
    alpha: str
    bytes_per_pixel: float
    codec: CodecFactory | None = None
    encoder: EncoderFactory | None = None
    depth: str | None = None
    alpha_slack: float | None = None
    resumable: bool = False
    display_referred: bool = False
    carries_tags: bool = False
    scene_linear: bool = False
    layers: bool = False


_NONE: Final = "none"
_MOV: Final = (".mov", ".mkv")
_WEBM: Final = (".webm", ".mkv")
_MP4: Final = (".mp4", ".m4v", ".mov", ".mkv")
_CODE_16: Final = 0.51 / 65535
_CODE_10: Final = 0.51 / 1023
_HALF: Final = 2.0**-12
# ProRes: half a step of 10 bits and a decoder's truncation; more where the matte is its luma.
_PRORES_ALPHA: Final = 48 / 65535
_PRORES_LUMA: Final = 12 / 1023

FORMATS: Final = {
    row.name: row
    for row in (
        OutputFormat(
            name="prores", family="prores", content="rgba", suffixes=_MOV, writer="movie", codec=ProResCodec,
            says="ProRes 4444 with alpha (.mov)",
            colour="10 bits of YUV, straight", alpha="16-bit coding of 10 bits",
            bytes_per_pixel=1.4, alpha_slack=_PRORES_ALPHA, resumable=True, carries_tags=True,
        ),
        OutputFormat(
            name="prores-alpha", family="prores", content="alpha", suffixes=_MOV, writer="movie", codec=ProResCodec,
            says="ProRes 4444, the alpha alone in gray",
            colour=_NONE, alpha="10 bits of gray",
            bytes_per_pixel=0.11, alpha_slack=_PRORES_LUMA, resumable=True, carries_tags=True,
        ),
        OutputFormat(
            name="prores-xq", family="prores-xq", content="rgba", suffixes=_MOV, writer="movie", codec=ProResXqCodec,
            says="ProRes 4444 XQ with alpha (name.mov:prores-xq)",
            colour="10 bits of YUV, straight", alpha="16-bit coding of 10 bits",
            bytes_per_pixel=1.4, alpha_slack=_PRORES_ALPHA, resumable=True, carries_tags=True,
        ),
        OutputFormat(
            name="ffv1", family="ffv1", content="rgba", suffixes=(".mkv",), writer="movie", codec=Ffv1Codec,
            says="FFV1, lossless RGBA of 16 bits (.mkv)",
            colour="16 bits, straight", alpha="16 bits",
            bytes_per_pixel=3.3, alpha_slack=1 / 65535, resumable=True, carries_tags=True,
        ),
        OutputFormat(
            name="ffv1-alpha", family="ffv1", content="alpha", suffixes=(".mkv",), writer="movie", codec=Ffv1Codec,
            says="FFV1, the alpha alone, lossless gray of 16 bits",
            colour=_NONE, alpha="16 bits of gray",
            bytes_per_pixel=0.15, alpha_slack=2 / 65535, resumable=True, carries_tags=True,
        ),
        OutputFormat(
            name="png", family="png", content="rgba", suffixes=(".png", "/"), writer="sequence", encoder=png_encoder,
            says="PNG sequence, RGBA of 16 bits (name.%04d.png, or a folder/)",
            colour="16 bits, straight", alpha="16 bits",
            bytes_per_pixel=4.7, depth="16 bits", alpha_slack=_CODE_16, resumable=True,
        ),
        OutputFormat(
            name="png-alpha", family="png", content="alpha", suffixes=(".png", "/"), writer="sequence",
            encoder=png_encoder, says="PNG sequence, the alpha alone, gray of 16 bits",
            colour=_NONE, alpha="16 bits of gray",
            bytes_per_pixel=0.15, depth="16 bits", alpha_slack=_CODE_16, resumable=True,
        ),
        OutputFormat(
            name="exr", family="exr", content="rgba", suffixes=(".exr", "/"), writer="sequence", encoder=exr_encoder,
            says="EXR sequence, scene-linear RGBA, premultiplied (name.%04d.exr)",
            colour="scene-linear, half or float, premultiplied", alpha="channel A, half or float",
            bytes_per_pixel=4.5, alpha_slack=_HALF, resumable=True, scene_linear=True,
        ),
        OutputFormat(
            name="exr-alpha", family="exr", content="alpha", suffixes=(".exr", "/"), writer="sequence",
            encoder=exr_encoder, says="EXR sequence, the alpha alone, channel A or LAYER.A",
            colour=_NONE, alpha="channel A or LAYER.A, half or float",
            bytes_per_pixel=0.12, alpha_slack=_HALF, resumable=True, scene_linear=True,
        ),
        OutputFormat(
            name="exr-layers", family="exr", content="alpha", suffixes=(".exr", "/"), writer="sequence",
            encoder=exr_encoder, says="EXR sequence, a layer for each subject: dancer.A",
            colour=_NONE, alpha="a channel NAME.A for each subject, half or float",
            bytes_per_pixel=0.2, alpha_slack=_HALF, resumable=True, scene_linear=True, layers=True,
        ),
        OutputFormat(
            name="tiff", family="tiff", content="rgba", suffixes=(".tif", ".tiff", "/"), writer="sequence",
            encoder=tiff_encoder, says="TIFF sequence, RGBA of 16 bits (name.%04d.tif)",
            colour="16 bits, straight", alpha="16 bits",
            bytes_per_pixel=5.6, depth="16 bits", alpha_slack=_CODE_16, resumable=True,
        ),
        OutputFormat(
            name="tiff-alpha", family="tiff", content="alpha", suffixes=(".tif", ".tiff", "/"), writer="sequence",
            encoder=tiff_encoder, says="TIFF sequence, the alpha alone, 16 bits",
            colour=_NONE, alpha="16 bits of gray",
            bytes_per_pixel=0.2, depth="16 bits", alpha_slack=_CODE_16, resumable=True,
        ),
        OutputFormat(
            name="dpx-alpha", family="dpx", content="alpha", suffixes=(".dpx", "/"), writer="sequence",
            encoder=dpx_encoder, says="DPX sequence, the alpha alone, 10 bits (name.%04d.dpx)",
            colour=_NONE, alpha="10 bits in R = G = B",
            bytes_per_pixel=4.0, depth="10 bits", alpha_slack=_CODE_10, resumable=True,
        ),
        OutputFormat(
            name="webp", family="webp", content="rgba", suffixes=(".webp",), writer="webp",
            says="animated WebP of 8 bits for a quick look (.webp)",
            colour="8 bits, straight", alpha="8 bits",
            bytes_per_pixel=0.04, display_referred=True,
        ),
        OutputFormat(
            name="vp9", family="vp9", content="rgba", suffixes=_WEBM, writer="movie", codec=Vp9Codec,
            says="WebM VP9 with alpha, 8 bits, for the web (.webm)",
            colour="8 bits of YUV 4:2:0, straight", alpha="8 bits beside the picture",
            bytes_per_pixel=0.05, display_referred=True,
        ),
        OutputFormat(
            name="vp9-alpha", family="vp9", content="alpha", suffixes=_WEBM, writer="movie", codec=Vp9Codec,
            says="WebM VP9, the alpha alone in gray",
            colour=_NONE, alpha="8 bits of gray",
            bytes_per_pixel=0.004, display_referred=True,
        ),
        OutputFormat(
            name="preview", family="preview", content="preview", suffixes=_MP4, writer="movie", codec=PreviewCodec,
            says="H.264 over a backdrop (.mp4)",
            colour="8 bits of YUV 4:2:0, composited", alpha="none",
            bytes_per_pixel=0.015, display_referred=True,
        ),
        OutputFormat(
            name="preview-alpha", family="preview", content="alpha", suffixes=_MP4, writer="movie", codec=PreviewCodec,
            says="H.264, the alpha in gray",
            colour=_NONE, alpha="8 bits of gray",
            bytes_per_pixel=0.003, display_referred=True,
        ),
    )
}  # fmt: skip
# The format of a name without a kind, by its ending.
_BY_SUFFIX: Final = {
    ".mov": "prores",
    ".mkv": "ffv1",
    ".png": "png",
    "/": "png",
    ".exr": "exr",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".dpx": "dpx-alpha",
    ".webp": "webp",
    ".webm": "vp9",
    ".mp4": "preview",
    ".m4v": "preview",
}
LAYERS: Final = "exr-layers"
LAYER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AFTER_COLON = re.compile(r"(?P<name>.+):(?P<kind>[A-Za-z][A-Za-z0-9_-]*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class OutputRequest:
    """One output of a run, as a writer gets it.

    name        as typed, without its kind
    info        of the clip; `info.timecode` is the label of the first frame that is written
    part        whether a range is written: a movie of it starts at time 0 and has the sound of these frames alone
    frames      that range; of a sequence frames outside it stay as they are. None: the whole clip
    checkpoint  hidden folder for the frames of a run that can be resumed; None: it cannot
    subjects    names, where there are several
    backdrop    what a preview is composited over
    """

    name: str
    format: OutputFormat
    info: ClipInfo
    settings: OutputSettings
    part: bool = False
    frames: FrameRange | None = None
    checkpoint: Path | None = None
    subjects: Sequence[str] = ()
    backdrop: Background | None = None

    @property
    def path(self) -> Path:
        return Path(self.name)

    @property
    def alpha_only(self) -> bool:
        return self.format.content == "alpha"

    @property
    def pattern(self) -> Pattern:
        """The names of a sequence's files."""
        return pattern_of(self.name, self.format, self.info)

    @property
    def tags(self) -> Colour:
        """Colour tags of what is written: the plate's, or those of what a display shows of it.

        A matte is no picture in the plate's codes.
        """
        info = self.info
        if info.shown is not None and (self.format.display_referred or (info.coded and self.alpha_only)):
            return info.shown
        return info.colour


def kinds() -> tuple[OutputFormat, ...]:
    """Return every row of the table, in the order of the help."""
    return tuple(FORMATS.values())


def depth_of(suffix: str) -> str | None:
    """Return the depth of sequences with this ending; None where files of several depths are written."""
    return next((row.depth for row in kinds() if row.writer == "sequence" and suffix.lower() in row.suffixes), None)


def parse_output(output: str | Path) -> tuple[str, OutputFormat]:
    """Split NAME or NAME:kind into the name and its format.

    Raises: UsageError, naming the kinds.
    """
    text = str(output)
    if not text.strip():
        raise UsageError("an output needs a name, as matte.mov")
    name, kind = text, None
    found = _AFTER_COLON.fullmatch(text)
    if found and len(found["name"]) > 1:  # one letter before the colon is a drive: C:matte
        name, kind = found["name"], found["kind"].lower()
    suffix = "/" if name.endswith(("/", "\\")) else Path(name).suffix.lower()
    by_name = _BY_SUFFIX.get(suffix)
    if kind is None or kind == "alpha":
        if by_name is None:
            raise UsageError(f"{text}: no kind is known for '{suffix or name}'; {_choices()}")
        wanted = by_name if kind is None or by_name.endswith("-alpha") else f"{by_name}-alpha"
        if wanted not in FORMATS:
            raise UsageError(f"{text}: {by_name} is not written as alpha alone; {_choices()}")
        return name, FORMATS[wanted]
    if kind not in FORMATS:
        raise UsageError(f"{text}: unknown kind '{kind}'; {_choices()}")
    row = FORMATS[kind]
    if suffix not in row.suffixes:
        raise UsageError(f"{text}: {kind} is written to {' or '.join(row.suffixes)}, not to '{suffix or name}'")
    return name, row


def _choices() -> str:
    return (
        "use .mov (ProRes with alpha), .exr or .png (a sequence), .webm (for the web) or .mp4 (a preview); "
        "`mam-video matte --help` lists every kind"
    )


def expected_bytes(kind: OutputFormat | str | Path, info: ClipInfo, frames: int | None = None) -> int | None:
    """Estimate the bytes of an output, for a look at the disk before a long run; None where that is not possible.

    `kind` is a format or an output as typed; `frames` defaults to the header's count. The rates were measured on real
    plates at 720p: heavy grain can double them.
    """
    chosen = kind if isinstance(kind, OutputFormat) else parse_output(kind)[1]
    count = info.frames_in_header if frames is None else frames
    if count is None:
        return None
    return round(chosen.bytes_per_pixel * info.width * info.height * count)


def pattern_of(name: str, kind: OutputFormat, info: ClipInfo) -> Pattern:
    """The names of a sequence's files. Of a clip that is one picture, a plain name is written exactly."""
    if info.numbers is not None and len(info.numbers) == 1 and ExactName.is_one_file(name):
        return ExactName(name, info.numbers[0])
    return Pattern(name, kind.suffixes[0], info.padding or 4, info.padding_below)


def markdown_table() -> str:
    """Return the table of docs/formats.md: one line for each format."""
    lines = [
        "| kind | names | colour | alpha | pixels | `--resume` | alpha after reading back |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in kinds():
        default = {suffix for suffix, name in _BY_SUFFIX.items() if name == row.name}
        shown = {suffix: "a folder/" if suffix == "/" else suffix for suffix in row.suffixes}
        names = ", ".join(f"**{text}**" if suffix in default else text for suffix, text in shown.items())
        pixels = "display" if row.display_referred else "scene-linear" if row.scene_linear else "plate's codes"
        slack = "lossy" if row.alpha_slack is None else f"within {row.alpha_slack:.1g}"
        resumes = "yes" if row.resumable else "no"
        pixels = pixels if row.content != "alpha" else "matte"
        lines.append(f"| `{row.name}` | {names} | {row.colour} | {row.alpha} | {pixels} | {resumes} | {slack} |")
    return "\n".join(lines) + "\n"
