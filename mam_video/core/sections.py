"""The sections of the settings: one frozen dataclass for each stage, with help, bounds and options in its fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from mam_video.core.errors import SettingError, UsageError
from mam_video.core.knobs import KnobField, Section, knob, knob_fields

MODEL_NAMES = (  # those that can be named alone, as models/catalogue.py lists them
    "lite", "classic", "mam-vit-b", "mam-vit-l", "mam-vit-h", "sam2.1-tiny", "sam2.1-small", "sam2.1-base-plus",
    "sam2.1-large", "sam2.1-tiny-video", "sam2.1-small-video", "sam2.1-base-plus-video", "sam2.1-large-video", "sam3",
    "sam3-video", "masks",
)  # fmt: skip
# Rates that are written short and meant exactly.
_SHORT_RATES = {"23.976": 24000, "23.98": 24000, "29.97": 30000, "47.952": 48000, "59.94": 60000, "119.88": 120000}


def parse_rate(text: str) -> Fraction:
    """Frames a second, exactly: "24", "24000/1001", "12.5"; "23.976" and its like mean n * 1000/1001.

    Raises: UsageError, the text is no rate between 1/1000 and 1000.
    """
    wanted = text.strip()
    try:
        rate = Fraction(_SHORT_RATES[wanted], 1001) if wanted in _SHORT_RATES else Fraction(wanted[:32])
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"rate '{text}' is not a number of frames a second, as 24 or 24000/1001") from None
    if not Fraction(1, 1000) <= rate <= 1000 or rate.denominator > 1_000_000:
        raise UsageError(f"rate '{text}' must be between 1/1000 and 1000 frames a second")
    return rate


def _layer_name(text: str) -> str:
    """A name that EXR channels can begin with, or "". Raises: UsageError."""
    if text and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise UsageError(f"'{text}' must be a name of letters, digits and _ that does not start with a digit")
    return text


@dataclass(frozen=True, kw_only=True)
class InputSettings(Section, section="input"):
    deinterlace: bool = knob(
        False, help="Deinterlace an interlaced movie first, with FFmpeg's bwdif.", flag="--deinterlace", group="input"
    )
    on_error: Literal["stop", "repeat"] = knob(
        "stop", help="Where a frame cannot be decoded, stop or repeat the frame before.", flag="--on-error",
        group="input",
    )  # fmt: skip
    fps: str | None = knob(
        None, help="Frame rate of an image sequence, such as 24, 24000/1001 or 23.976 (read as 24000/1001).",
        flag="--fps", metavar="RATE", group="input", unit="frames a second", legacy="", parse=parse_rate,
        absent="the rate in the files, else 24", example="24000/1001",
    )  # fmt: skip
    on_gap: Literal["stop", "repeat"] = knob(
        "stop", help="Where frames of a sequence are missing, stop or repeat the frame before.", flag="--on-gap",
        group="input",
    )  # fmt: skip
    layer: str = knob(
        "", help="The layer or part of an EXR that holds the picture.", flag="--layer", metavar="NAME", group="input",
        absent="R, G, B without a layer, or the only layer", example="beauty",
    )  # fmt: skip
    alpha: Literal["auto", "straight", "premultiplied", "ignore"] = knob(
        "auto", help="How to read the plate's own alpha; auto goes by the file's type and tags.", flag="--plate-alpha",
        group="input",
        shortcuts={
            "--ignore-alpha": ("ignore", "leave the plate's own alpha out; otherwise the matte is multiplied into it")
        },
    )  # fmt: skip
    transform: str = knob(
        "auto", help="What the plate's values mean: auto, none, srgb, linear, log, or the name of an OCIO space.",
        flag="--input-transform", metavar="NAME", group="input",
    )  # fmt: skip

    @property
    def frame_rate(self) -> Fraction | None:
        """`fps`, exactly; None where it is not set."""
        rate: Fraction | None = self._parsed["fps"]
        return rate


@dataclass(frozen=True, kw_only=True)
class TextSettings(Section, section="text"):
    model: str = knob(
        "IDEA-Research/grounding-dino-tiny",
        help="The detector for --text: a folder, or a name on the Hugging Face hub, which is downloaded once.",
        flag="--text-model", metavar="FOLDER|NAME", group="subject in the first frame",
    )  # fmt: skip
    threshold: float = knob(0.3, help="Lowest detector score at which a box is accepted.", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Section, section="model"):
    name: str = knob(
        "lite", help="The model, or MASKS+MATTES such as sam2.1-tiny+vitmatte-small; `mam-video models` lists them.",
        flag="--model", metavar="NAME", group="model",
    )  # fmt: skip
    device: Literal["auto", "cpu", "cuda", "mps"] = knob(
        "auto", help="The device that the model runs on; auto takes a GPU where there is one.", flag="--device",
        group="model",
    )  # fmt: skip
    precision: Literal["auto", "float32", "bfloat16", "float16"] = knob(
        "auto", help="The model's arithmetic; auto takes half precision only where the device supports it.",
        flag="--precision", group="model",
    )  # fmt: skip
    batch: int | None = knob(
        None, help="How many frames the model processes at once.", low=1, high=256, unit="frames", legacy=0,
        absent="1 on a CPU, 8 on a GPU", example=8,
    )  # fmt: skip
    memory: float | None = knob(
        None, help="The most of a GPU's memory that the model may use. Where it runs out, batches are halved.",
        flag="--device-memory", metavar="GIB", group="model", low=0.5, high=4096, unit="GiB", absent="all that is free",
        example=8.0,
    )  # fmt: skip
    stages: Literal["auto", "host", "device"] = knob(
        "auto", help="Where the stages after the model work: host is the CPU, in OpenCV; device is the model's, in "
        "PyTorch; auto is the device where that is an NVIDIA GPU.",
    )  # fmt: skip
    sam_weights: str = knob(
        "", help="A SAM checkpoint: a file, or a name that `mam-video weights list` shows.", flag="--sam-weights",
        metavar="FILE", group="model", absent="the one that belongs to the model", example="sam-vit-b",
    )  # fmt: skip
    mam_weights: str = knob(
        "", help="A MAM checkpoint: a file, or a name that `mam-video weights list` shows.", flag="--mam-weights",
        metavar="FILE", group="model", absent="the one that belongs to the model", example="mam-vit-b",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ViewSettings(Section, section="view"):
    roi: Literal["auto", "frame"] = knob(
        "auto", help="What the model sees: auto is a crop around the subject, frame the whole picture.", flag="--roi",
        group="matte",
    )  # fmt: skip
    grow: float = knob(
        1.5, help="Side of a new crop, relative to the longer side of the subject's box.", low=1.05, high=8
    )
    room: float = knob(
        0.03, help="A crop is kept while the box stays this far from its edge, relative to its side.", low=0, high=0.4
    )
    fill: float = knob(
        0.5, help="A crop is kept while the box's longer side fills at least this share of it.", low=0, high=0.9
    )
    subjects: Literal["auto", "shared", "own"] = knob(
        "auto", help="With several subjects: one crop around all of them, or one for each; auto shares one where the "
        "model's encoder is slow, as SAM's.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MotionSettings(Section, section="motion"):
    side: int = knob(
        640, help="Longer side of the pictures on which optical flow is computed.", low=64, high=4096, unit="pixels"
    )
    preset: Literal["ultrafast", "fast", "medium"] = knob("fast", help="Preset of OpenCV's DIS optical flow.")


@dataclass(frozen=True, kw_only=True)
class CutSettings(Section, section="cuts"):
    on_cut: Literal["stop", "reprompt", "continue"] = knob(
        "reprompt",
        help="At a hard cut: stop before it; reprompt, where the new shot needs its own prompt and is empty without "
        "one; or continue, tracking on with the shot's first frame flagged.",
        flag="--on-cut", group="job",
    )  # fmt: skip
    threshold: float = knob(
        0.36, help="Similarity of two neighbouring frames below which there is a cut between them.", low=-2, high=1
    )


@dataclass(frozen=True, kw_only=True)
class TrackSettings(Section, section="track"):
    margin: float = knob(
        0.03, help="The box given to the segmenter is enlarged by this share of its longer side.", low=0, high=1
    )
    speck: float = knob(
        0.15, help="Parts of a mask smaller than this share of its largest part do not widen the box.", low=0, high=1
    )
    shrink: float = knob(
        0.05, help="The box shrinks by at most this share of its size from frame to frame.", low=0, high=1
    )
    stand: int = knob(
        5, help="A separate part that stands still this long while the subject moves is dropped; 0 keeps it.", low=0,
        high=1000, unit="frames",
    )  # fmt: skip
    min_score: float = knob(0.5, help="Below this segmenter score the frame is lost.", low=0, high=1)
    review_score: float = knob(0.6, help="Below this segmenter score the frame is uncertain.", low=0, high=1)
    min_overlap: float = knob(
        0.3, help="Below this IoU with the previous mask, moved by the flow, the frame is lost.", low=0, high=1
    )
    review_overlap: float = knob(0.45, help="Below this IoU the frame is uncertain.", low=0, high=1)
    review_area: float = knob(
        1.6, help="If the mask's area grows or shrinks by more than this factor, the frame is uncertain.", low=1,
        high=100,
    )  # fmt: skip
    min_area: float = knob(0.08, help="Below this share of the subject's usual area the frame is lost.", low=0, high=1)
    review_share: float = knob(
        0.6, help="Below this share of the usual area there is a note, and no colours are learnt.", low=0, high=1
    )
    hidden_share: float = knob(0.4, help="Below this share of the usual area the frame is uncertain.", low=0, high=1)
    min_similarity: float = knob(
        0.5, help="Below this similarity of the mask's colours to the subject's the frame is lost.", low=0, high=1
    )
    review_similarity: float = knob(
        0.75, help="Below this colour similarity the frame is uncertain, and a lost subject is not taken as found.",
        low=0, high=1,
    )  # fmt: skip
    search: bool = knob(True, help="Search the whole frame for a subject that was lost.")
    passes: int = knob(
        1, help="With 2, track also back from the last confirmed frame to the prompt, and take the better mask of each "
        "frame. For one subject; a range then differs from the same frames of a whole run.", low=1, high=2,
    )  # fmt: skip
    check: bool = knob(
        True, help="Track every 8 frames back, and flag those whose mask does not lead back to the subject."
    )
    review_return: float = knob(
        0.65, help="Below this IoU with the mask tracked back the frames are uncertain.", low=0, high=1
    )


@dataclass(frozen=True, kw_only=True)
class MatteSettings(Section, section="matte"):
    """MAM's merge of its three outputs; the names and defaults are those of the reference implementation."""

    guidance: Literal["mask", "alpha"] = knob(
        "mask", help="Whether MAM's refinement starts from the hard mask or from the soft alpha.", flag="--guidance",
        group="matte",
    )  # fmt: skip
    box_clean: bool = knob(True, help="With alpha guidance, clear everything outside the mask's box.")
    two_sided: bool = knob(
        False, help="Treat pixels inside the mask's edge as uncertain too, not only those outside it."
    )
    os8_width: int = knob(
        10, help="Width of the uncertain band at the coarsest output (1/8).", low=0, high=400, unit="pixels"
    )
    os4_width: int = knob(
        20, help="Width of the uncertain band at the middle output (1/4).", low=0, high=400, unit="pixels"
    )
    os1_width: int = knob(
        10, help="Width of the uncertain band at the full output (1/1).", low=0, high=400, unit="pixels"
    )
    scale_widths: bool = knob(
        True, help="Widen the bands for pictures larger than the model's input; false: as in the reference."
    )


@dataclass(frozen=True, kw_only=True)
class RefineSettings(Section, section="refine"):
    enabled: bool = knob(
        True, help="Sharpen an alpha that was enlarged beyond the model's resolution, guided by the plate."
    )
    radius: int = knob(1, help="Radius of the guided filter at the model's resolution.", low=1, high=16, unit="pixels")
    eps: float = knob(
        1e-4, help="Regularisation of the guided filter for colours in 0 to 1; smaller follows the plate more.",
        low=1e-6, high=1,
    )  # fmt: skip
    projections: int = knob(3, help="Rounds of back projection.", low=0, high=16)


@dataclass(frozen=True, kw_only=True)
class SmoothSettings(Section, section="smooth"):
    strength: float = knob(
        0.75, help="Temporal smoothing along the optical flow: 0 is off, 1 weighs neighbours like the frame itself.",
        flag="--smooth", metavar="S", group="matte", low=0, high=1,
    )  # fmt: skip
    radius: int = knob(
        1, help="How many frames before and after take part in the smoothing.", low=1, high=3, unit="frames"
    )


@dataclass(frozen=True, kw_only=True)
class FinishSettings(Section, section="finish"):
    """Edge adjustments, in pixels of the plate: a proxy of half the size needs half the values."""

    black: float = knob(
        0.0, help="Black point: alpha up to this value becomes 0.", flag="--black", metavar="A", group="matte", low=0,
        high=1,
    )  # fmt: skip
    white: float = knob(
        1.0, help="White point: alpha from this value on becomes 1.", flag="--white", metavar="A", group="matte",
        low=0, high=1,
    )  # fmt: skip
    choke: float = knob(
        0.0, help="Move the edge inwards; choke and then grow by the same amount remove specks.", flag="--choke",
        metavar="PX", group="matte", low=0, high=100, unit="pixels",
    )  # fmt: skip
    grow: float = knob(
        0.0, help="Move the edge outwards, after --choke.", flag="--grow", metavar="PX", group="matte", low=0,
        high=100, unit="pixels",
    )  # fmt: skip
    feather: float = knob(
        0.0, help="Soften the edge: a hard edge becomes a ramp of this width, from 10 to 90 %.", flag="--feather",
        metavar="PX", group="matte", low=0, high=100, unit="pixels",
    )  # fmt: skip
    invert: bool = knob(False, help="Write the matte of the background.", flag="--invert", group="matte")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.white - self.black < 1 / 1024:
            rule = f"{self.black:g} must lie below finish.white {self.white:g}, by 0.001 at least"
            raise SettingError("finish.black", rule)

    @property
    def levels(self) -> bool:
        """Whether the black or the white point changes anything."""
        return (self.black, self.white) != (0, 1)


@dataclass(frozen=True, kw_only=True)
class OutputSettings(Section, section="output"):
    foreground: Literal["estimate", "plate"] = knob(
        "estimate", help="Colour at soft edges: estimate the subject's own, or leave the plate's.",
        flag="--foreground", group="matte",
    )  # fmt: skip
    premultiply: bool = knob(
        False, help="Write colour premultiplied by alpha; EXR always is.", flag="--premultiply", group="matte"
    )
    audio: Literal["copy", "pcm", "none"] = knob(
        "copy", help="The sound of movies: copy it, decode it to linear PCM, or leave it out.", flag="--audio",
        shortcuts={"--no-audio": ("none", "leave the sound out, as --audio none")},
    )  # fmt: skip
    verify: bool = knob(
        True,
        help="Read each output back and compare it with what was to be written.",
        flag="--no-verify",
        flag_help="do not read the outputs back",
    )
    background: str = knob(
        "#33ff92", help="What an .mp4 preview lies over: #rrggbb, checker, a picture or a clip.",
        flag=("--bg", "--background"), metavar="WHAT", group="matte",
    )  # fmt: skip
    rate: str | None = knob(
        None, help="Write movies at this constant rate, such as 24 or 24000/1001, with exact times.", flag="--rate",
        metavar="RATE", group="matte", unit="frames a second", legacy="", parse=parse_rate,
        absent="every frame keeps its own time", example="24000/1001",
    )  # fmt: skip
    overwrite: bool = knob(False, help="Replace outputs that exist.", flag="--overwrite")
    start_number: int | None = knob(
        None, help="Number of a sequence's first file.", flag="--start-number", metavar="N", group="matte", low=0,
        high=999_999_999, legacy=-1, absent="the numbers of the source, 1001 for a movie", example=1001,
    )  # fmt: skip
    exr_type: Literal["auto", "half", "float"] = knob(
        "auto", help="Pixel type of EXR files; auto is float where the plate is float32, else half."
    )
    exr_compression: Literal["none", "zips", "zip", "piz", "dwaa", "dwab"] = knob(
        "zip", help="Compression of EXR files; dwaa and dwab are lossy."
    )
    exr_layer: str = knob(
        "", help="Layer of an alpha written alone to EXR: the channel is then LAYER.A.", absent="channel A",
        example="dancer", parse=_layer_name,
    )  # fmt: skip

    @property
    def constant_rate(self) -> Fraction | None:
        """`rate`, exactly; None where every frame keeps its own time."""
        rate: Fraction | None = self._parsed["rate"]
        return rate


SECTIONS: tuple[type[Section], ...] = (
    InputSettings, TextSettings, ModelSettings, ViewSettings, MotionSettings, CutSettings, TrackSettings,
    MatteSettings, RefineSettings, SmoothSettings, FinishSettings, OutputSettings,
)  # fmt: skip
EDGE_KEYS = tuple(each for each in knob_fields(FinishSettings) if each.name != "invert")


def all_knobs() -> Iterator[KnobField]:
    """Every setting of every section, in order."""
    return (each for section in SECTIONS for each in knob_fields(section))
