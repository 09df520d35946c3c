"""What can be written, in one table, and the doors of this room: open_clip, open_writer, open_writers.

An output is asked for as NAME or NAME:kind. The kind is read from the name's ending where it is not given; `:alpha`
is the alpha alone in the name's own family.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mam_video.core.errors import UsageError
from mam_video.core.frames import ViewTransform
from mam_video.media.atomic_output import ExactName, Pattern
from mam_video.media.base import ClipInfo, Colour
from mam_video.media.movie.codecs import Content, Ffv1Codec, ProResCodec, ProResXqCodec, Vp9Codec
from mam_video.media.transfers import CURVES, HDR
from mam_video.media.view_transforms import assumed_primaries


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """One way to write.

    name            as typed after the colon
    family          codec family: prores, prores-xq, ffv1, exr, dpx, tiff, png, webp, vp9, preview
    content         rgba, alpha (alone), or preview (over a background)
    suffixes        names that it can have; the first ones also choose it (see `_BY_SUFFIX`)
    bytes_a_pixel   measured on real plates; a plan for the disk, not a promise
    says            one line for the help
    """

    name: str
    family: str
    content: Content
    suffixes: tuple[str, ...]
    bytes_a_pixel: float
    says: str


_KINDS: Final = {
    kind.name: kind
    for kind in (
        OutputFormat("prores", "prores", "rgba", (".mov", ".mkv"), 1.4, "ProRes 4444 with alpha (.mov)"),
        OutputFormat("prores-alpha", "prores", "alpha", (".mov", ".mkv"), 0.11, "ProRes 4444, the alpha alone in gray"),
        OutputFormat(
            "prores-xq", "prores-xq", "rgba", (".mov", ".mkv"), 1.4, "ProRes 4444 XQ with alpha (name.mov:prores-xq)"
        ),
        OutputFormat("ffv1", "ffv1", "rgba", (".mkv",), 3.3, "FFV1, lossless RGBA of 16 bits (.mkv)"),
        OutputFormat("ffv1-alpha", "ffv1", "alpha", (".mkv",), 0.15, "FFV1, the alpha alone, lossless gray of 16 bits"),
        OutputFormat(
            "png", "png", "rgba", (".png", "/"), 4.7, "PNG sequence, RGBA of 16 bits (name.%04d.png, or a folder/)"
        ),
        OutputFormat(
            "png-alpha", "png", "alpha", (".png", "/"), 0.15, "PNG sequence, the alpha alone, gray of 16 bits"
        ),
        OutputFormat(
            "exr", "exr", "rgba", (".exr", "/"), 4.5, "EXR sequence, scene-linear RGBA, premultiplied (name.%04d.exr)"
        ),
        OutputFormat(
            "exr-alpha", "exr", "alpha", (".exr", "/"), 0.12, "EXR sequence, the alpha alone, channel A or LAYER.A"
        ),
        OutputFormat(
            "exr-layers", "exr", "alpha", (".exr", "/"), 0.2, "EXR sequence, a layer for each subject: dancer.A"
        ),
        OutputFormat(
            "tiff", "tiff", "rgba", (".tif", ".tiff", "/"), 5.6, "TIFF sequence, RGBA of 16 bits (name.%04d.tif)"
        ),
        OutputFormat(
            "tiff-alpha", "tiff", "alpha", (".tif", ".tiff", "/"), 0.2, "TIFF sequence, the alpha alone, 16 bits"
        ),
        OutputFormat(
            "dpx-alpha", "dpx", "alpha", (".dpx", "/"), 4.0, "DPX sequence, the alpha alone, 10 bits (name.%04d.dpx)"
        ),
        OutputFormat("webp", "webp", "rgba", (".webp",), 0.04, "animated WebP of 8 bits for a quick look (.webp)"),
        OutputFormat("vp9", "vp9", "rgba", (".webm", ".mkv"), 0.05, "WebM VP9 with alpha, 8 bits, for the web (.webm)"),
        OutputFormat("vp9-alpha", "vp9", "alpha", (".webm", ".mkv"), 0.004, "WebM VP9, the alpha alone in gray"),
        OutputFormat(
            "preview", "preview", "preview", (".mp4", ".m4v", ".mov", ".mkv"), 0.015, "H.264 over a backdrop (.mp4)"
        ),
        OutputFormat(
            "preview-alpha", "preview", "alpha", (".mp4", ".m4v", ".mov", ".mkv"), 0.003, "H.264, the alpha in gray"
        ),
    )
}
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
SEQUENCES: Final = ("exr", "dpx", "tiff", "png")
LAYERS: Final = "exr-layers"
LAYER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SHOWN: Final = ("vp9", "preview", "webp")  # for eyes: always as a display shows it
TAGGED: Final = ("prores", "prores-xq", "ffv1")  # 10 bits and more, with the plate's own colour tags
PICTURES: Final[dict[str, Any]] = {
    "prores": ProResCodec,
    "prores-xq": ProResXqCodec,
    "ffv1": Ffv1Codec,
    "vp9": Vp9Codec,
}
_AFTER_COLON = re.compile(r"(?P<name>.+):(?P<kind>[A-Za-z][A-Za-z0-9_-]*)", re.DOTALL)


def kinds() -> tuple[OutputFormat, ...]:
    """All that can be written, for the help."""
    return tuple(_KINDS.values())


def parse_output(output: str | Path) -> tuple[str, OutputFormat]:
    """NAME or NAME:kind, as the name and what will be written there.

    Raises: UsageError, naming the kinds.
    """
    text = str(output)
    if not text.strip():
        raise UsageError("an output needs a name, as matte.mov")
    name, asked = text, None
    found = _AFTER_COLON.fullmatch(text)
    if found and len(found["name"]) > 1:  # one letter before the colon is a drive: C:matte
        name, asked = found["name"], found["kind"].lower()
    suffix = "/" if name.endswith(("/", "\\")) else Path(name).suffix.lower()
    by_name = _BY_SUFFIX.get(suffix)
    if asked is None or asked == "alpha":
        if by_name is None:
            raise UsageError(f"{text}: no kind is known for '{suffix or name}'; {_choices()}")
        wanted = by_name if asked is None or by_name.endswith("-alpha") else f"{by_name}-alpha"
        if wanted not in _KINDS:
            raise UsageError(f"{text}: {by_name} is not written as alpha alone; {_choices()}")
        return name, _KINDS[wanted]
    if asked not in _KINDS:
        raise UsageError(f"{text}: unknown kind '{asked}'; {_choices()}")
    kind = _KINDS[asked]
    if suffix not in kind.suffixes:
        raise UsageError(f"{text}: {asked} is written to {' or '.join(kind.suffixes)}, not to '{suffix or name}'")
    return name, kind


def _choices() -> str:
    return (
        "use .mov (ProRes with alpha), .exr or .png (a sequence), .webm (for the web) or .mp4 (a preview); "
        "`mam-video matte --help` lists every kind"
    )


def expected_bytes(kind: OutputFormat | str | Path, info: ClipInfo, frames: int | None = None) -> int | None:
    """About how many bytes an output will take, for a look at the disk before a long run; None where it is not known.

    `kind` is an OutputFormat or an output as typed; `frames` defaults to what the header claims. The rates were
    measured on real plates at 720p: heavy grain can double them.
    """
    chosen = kind if isinstance(kind, OutputFormat) else parse_output(kind)[1]
    count = info.frames_in_header if frames is None else frames
    if count is None:
        return None
    return round(chosen.bytes_a_pixel * info.width * info.height * count)


def pattern_of(name: str, kind: OutputFormat, info: ClipInfo) -> Pattern:
    """The names of a sequence's files. Of a clip that is one picture, a plain name is written exactly."""
    if info.numbers is not None and len(info.numbers) == 1 and ExactName.is_one_file(name):
        return ExactName(name, info.numbers[0])
    return Pattern(name, kind.suffixes[0], info.padding or 4, info.padding_below)


def kept_by(look: ViewTransform, info: ClipInfo) -> tuple[float, ...] | None:
    """Chromaticities of the light of a look that the user chose: the movie's own where it changes no primaries."""
    return info.chromaticities if look.name == "linear" else None


def look_told(tags: Colour, look: str) -> tuple[str, ...]:
    """Lines about what a movie's own transfer function and primaries mean here, for its look by name."""
    primaries = assumed_primaries(look, tags.primaries)
    assumed = "" if primaries == tags.primaries else " (assumed: the file does not say)"
    told = [f"the movie is {CURVES[look].says}"] if look in CURVES else []
    mapped = ", tone-mapped," if look in HDR else ""
    if primaries != "bt709" or look in CURVES:
        told.append(
            f"EXR keeps its {primaries} primaries{assumed}; models, previews and files without colour tags get it"
            f"{mapped} in Rec. 709 through the sRGB curve; --input-transform says otherwise"
        )
    return tuple(told)


def gamut(info: ClipInfo) -> str:
    return assumed_primaries(info.look, info.colour.primaries)
