"""Every knob, in one frozen dataclass a concern; checked at birth.

The order is: defaults < preset or file (TOML) < flags. The command line and Python build the same objects, a stage
gets its own part, and an unknown key is an error that names the key.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mam_video.core.errors import UsageError
from mam_video.core.untrusted import parse_toml


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    deinterlace: bool = False  # interlaced movies: make whole pictures of their fields (FFmpeg's bwdif)
    on_error: Literal["stop", "repeat"] = "stop"  # where a frame cannot be decoded: stop, or repeat the one before
    fps: str = ""  # of a sequence, exact: 24, 24000/1001, or 23.976, which means it; empty: its own, else 24
    on_gap: Literal["stop", "repeat"] = "stop"  # where frames of a sequence are missing: stop, or repeat the one before
    layer: str = ""  # of an EXR: a layer or part; empty: R, G, B themselves, or the only layer
    # The plate's own alpha. auto: as the file's kind or tag has it (movies and PNG straight, EXR premultiplied);
    # straight, premultiplied: taken so; ignore: left out, as if the plate had none.
    alpha: Literal["auto", "straight", "premultiplied", "ignore"] = "auto"
    transform: str = "auto"  # what the plate's values are: auto, none, srgb, linear, log, or an OCIO colour space

    def __post_init__(self) -> None:
        if self.fps:
            parse_rate(self.fps)


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    model: str = "IDEA-Research/grounding-dino-tiny"  # of --text: a folder, or a name on the Hugging Face hub
    threshold: float = 0.3  # score of a box from which it is believed

    def __post_init__(self) -> None:
        _in_range("text.threshold", self.threshold, 0, 1)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    name: str = "lite"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: half only where the device has it
    batch: int = 0  # frames embedded and matted at once; 0: 1 on a CPU, 8 on a GPU
    sam_weights: str = ""  # a path, or a name of `mam-video weights list`; empty: the one that belongs to the model
    mam_weights: str = ""

    def __post_init__(self) -> None:
        _in_range("model.batch", self.batch, 0, 256)


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    roi: Literal["auto", "frame"] = "auto"  # auto: a view around the subject; frame: the whole picture, as SAM does
    grow: float = 1.5  # side of a new view, in longer sides of the box
    room: float = 0.03  # a view is held while the box keeps this share of the view's side to its edge ...
    fill: float = 0.5  # ... and the box's longer side fills at least this share of the view
    subjects: Literal["shared", "own"] = "shared"  # several subjects: one view around all of them, or one each

    def __post_init__(self) -> None:
        _in_range("view.grow", self.grow, 1.05, 8)
        _in_range("view.room", self.room, 0, 0.4)
        _in_range("view.fill", self.fill, 0, 0.9)


@dataclass(frozen=True, kw_only=True)
class MotionSettings:
    side: int = 640  # longer side of the pictures between which motion is measured, in pixels
    preset: Literal["ultrafast", "fast", "medium"] = "fast"  # OpenCV's DIS

    def __post_init__(self) -> None:
        _in_range("motion.side", self.side, 64, 4096)


@dataclass(frozen=True, kw_only=True)
class CutSettings:
    # At a hard cut. stop: end before it; reprompt: the new shot waits for a prompt of its own, empty without one, so
    # that the output stays as long as the clip; continue: track on as if there were none, its first frame flagged.
    on_cut: Literal["stop", "reprompt", "continue"] = "reprompt"
    threshold: float = 0.36  # likeness of neighbours below which they are of two shots, see `cuts.py`

    def __post_init__(self) -> None:
        _in_range("cuts.threshold", self.threshold, -2, 1)


@dataclass(frozen=True, kw_only=True)
class TrackSettings:
    margin: float = 0.03  # the box asked for is grown by this share of its longer side
    speck: float = 0.15  # parts smaller than this share of the largest do not count for the box: no leak widens it
    shrink: float = 0.05  # the box asked for draws its sides in by at most this share of its size a frame
    stand: int = (
        5  # a separate part that stands still for so many frames while the subject moves is taken off; 0: never
    )
    min_score: float = 0.5  # below: the frame is lost
    review_score: float = 0.6  # below: the frame is uncertain
    min_overlap: float = 0.3  # IoU of the mask with the moved previous one; below: the frame is lost
    review_overlap: float = 0.45  # below: the frame is uncertain
    review_area: float = 1.6  # area ratio to the frame before, either way; beyond: uncertain
    min_area: float = 0.08  # share of the whole subject's area; below: the frame is lost
    review_share: float = 0.6  # below: that is said, and nothing is learnt of its colours
    hidden_share: float = 0.4  # below: the frame is uncertain
    min_similarity: float = 0.5  # likeness of the mask's colours to the subject's; below: the frame is lost
    review_similarity: float = 0.75  # below: the frame is uncertain, and nothing of it counts as found again
    search: bool = True  # look for a lost subject in the whole frame

    def __post_init__(self) -> None:
        shares = ("margin", "speck", "shrink", "min_score", "review_score", "min_overlap", "review_overlap")
        for name in (*shares, "min_area", "review_share", "hidden_share", "min_similarity", "review_similarity"):
            _in_range(f"track.{name}", getattr(self, name), 0, 1)
        _in_range("track.stand", self.stand, 0, 1000)
        _in_range("track.review_area", self.review_area, 1, 100)


@dataclass(frozen=True, kw_only=True)
class MatteSettings:
    """MAM's merge of its three outputs; the names and defaults are the reference's."""

    guidance: Literal["mask", "alpha"] = "mask"
    box_clean: bool = True  # alpha guidance: nothing outside the mask's box
    two_sided: bool = False
    os8_width: int = 10
    os4_width: int = 20
    os1_width: int = 10
    scale_widths: bool = True  # widths grow with pictures larger than the model's view; False: the reference's pixels

    def __post_init__(self) -> None:
        for name in ("os8_width", "os4_width", "os1_width"):
            _in_range(f"matte.{name}", getattr(self, name), 0, 400)


@dataclass(frozen=True, kw_only=True)
class RefineSettings:
    enabled: bool = True  # sharpen an alpha that was enlarged beyond the model's view, with the plate as guide
    radius: int = 1  # of the guided filter, in view pixels
    eps: float = 1e-4  # its regularisation, in squared colour of [0, 1]; smaller follows the plate more
    projections: int = 3  # rounds of back projection

    def __post_init__(self) -> None:
        _in_range("refine.radius", self.radius, 1, 16)
        _in_range("refine.eps", self.eps, 1e-6, 1)
        _in_range("refine.projections", self.projections, 0, 16)


@dataclass(frozen=True, kw_only=True)
class SmoothSettings:
    strength: float = 0.75  # 0 = off; 1 = a neighbour counts as much as the frame itself, where it can be trusted
    radius: int = 1  # frames of past and future that take part

    def __post_init__(self) -> None:
        _in_range("smooth.strength", self.strength, 0, 1)
        _in_range("smooth.radius", self.radius, 1, 3)


@dataclass(frozen=True, kw_only=True)
class FinishSettings:
    """The matte's edge by hand, in pixels of the plate: a proxy of half the size wants half of them."""

    black: float = 0.0  # alpha up to here becomes 0 ...
    white: float = 1.0  # ... and from here on 1; straight between them
    choke: float = 0.0  # pixels by which edges move inwards, before `grow`: both together take specks away
    grow: float = 0.0  # pixels by which edges move outwards
    feather: float = 0.0  # pixels from 10 to 90 % of what a hard edge becomes; the half stays where it is
    invert: bool = False

    def __post_init__(self) -> None:
        _in_range("finish.black", self.black, 0, 1)
        _in_range("finish.white", self.white, 0, 1)
        if self.white - self.black < 1 / 1024:
            raise UsageError(
                f"finish.black {self.black:g} must lie below finish.white {self.white:g}, by 0.001 at least"
            )
        for name in ("choke", "grow", "feather"):
            _in_range(f"finish.{name}", getattr(self, name), 0, 100)

    @property
    def levels(self) -> bool:
        """Whether the points are not where they stand by themselves."""
        return (self.black, self.white) != (0, 1)


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    foreground: Literal["estimate", "plate"] = "estimate"  # colour at soft edges: the subject's own, or as shot
    premultiply: bool = False
    audio: Literal["copy", "pcm", "none"] = "copy"  # the source's sound in movies; pcm: decoded, as linear PCM
    verify: bool = True  # read back what was written and compare it with what was promised
    background: str = "#33ff92"  # what the preview kind is laid over: #rrggbb, checker, a picture or a clip
    rate: str = ""  # of movies: a constant rate, as 24 or 24000/1001; empty: every frame at its own time
    overwrite: bool = False
    start_number: int = -1  # number of a sequence's first frame; -1: the source's own numbers, 1001 for movies
    exr_type: Literal["auto", "half", "float"] = "auto"  # auto: float where the plate is float32, else half
    exr_compression: Literal["none", "zips", "zip", "piz", "dwaa", "dwab"] = "zip"  # dwaa and dwab lose a little
    exr_layer: str = ""  # of the matte alone: channel LAYER.A; empty: A

    def __post_init__(self) -> None:
        if self.rate:
            parse_rate(self.rate)
        _in_range("output.start_number", self.start_number, -1, 999_999_999)
        if self.exr_layer and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.exr_layer):
            raise UsageError(
                f"output.exr_layer '{self.exr_layer}' must be a name of letters, digits and _ that starts with no digit"
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    input: InputSettings = field(default_factory=InputSettings)
    text: TextSettings = field(default_factory=TextSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    view: ViewSettings = field(default_factory=ViewSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    cuts: CutSettings = field(default_factory=CutSettings)
    track: TrackSettings = field(default_factory=TrackSettings)
    matte: MatteSettings = field(default_factory=MatteSettings)
    refine: RefineSettings = field(default_factory=RefineSettings)
    smooth: SmoothSettings = field(default_factory=SmoothSettings)
    finish: FinishSettings = field(default_factory=FinishSettings)
    # Of single subjects, by name: keys of `finish` that are otherwise for them; in TOML [looks.dancer].
    looks: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)
    output: OutputSettings = field(default_factory=OutputSettings)

    def finish_of(self, subject: str) -> FinishSettings:
        """`finish` as it is for one subject."""
        return dataclasses.replace(self.finish, **self.looks.get(subject, {}))

    def with_values(self, values: Mapping[str, Mapping[str, Any]], source: str) -> Settings:
        """A copy with `values` ({"smooth": {"strength": 0.5}}) in place; `source` is named in errors."""
        parts: dict[str, Any] = {}
        for section, given in values.items():
            if section not in (f.name for f in dataclasses.fields(self)):
                raise UsageError(f"{source}: unknown section [{section}]; known: {_names(self)}")
            if not isinstance(given, Mapping):
                raise UsageError(f"{source}: '{section}' is a section; write its keys below [{section}]")
            if section == "looks":
                parts[section] = _with_looks(self.looks, given, source)
                continue
            part = getattr(self, section)
            hints = get_type_hints(type(part))
            for key, value in given.items():
                if key not in hints:
                    raise UsageError(f"{source}: unknown key '{key}' in [{section}]; known: {_names(part)}")
                _check_type(f"{section}.{key}", value, hints[key], source)
            try:
                parts[section] = dataclasses.replace(part, **given)
            except UsageError as error:
                raise UsageError(f"{source}: {error}") from None
        merged = dataclasses.replace(self, **parts)
        for name in merged.looks:  # each together with what is for all
            try:
                merged.finish_of(name)
            except UsageError as error:
                raise UsageError(f"{source}: looks.{name}: {error}") from None
        return merged

    def with_file(self, name_or_path: str) -> Settings:
        """A copy with a preset's values (default, fast, quality), or those of a TOML file."""
        path = Path(name_or_path)
        try:
            if path.suffix == ".toml" or path.exists():
                text = path.read_text(encoding="utf-8")
            else:
                text = (configs_folder() / f"{name_or_path}.toml").read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UsageError(f"{name_or_path}: no such preset or file; presets: {', '.join(presets())}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{name_or_path}: cannot read these settings ({error})") from None
        try:
            values = parse_toml(text)
        except ValueError as error:
            raise UsageError(f"{name_or_path}: not valid TOML ({error})") from None
        return self.with_values(values, str(name_or_path))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        return dataclasses.asdict(self)


def _with_looks(
    looks: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], source: str
) -> dict[str, dict[str, Any]]:
    """`looks` with what is given for single subjects in place."""
    merged = {name: dict(look) for name, look in looks.items()}
    hints = {key: hint for key, hint in get_type_hints(FinishSettings).items() if key != "invert"}
    for name, look in given.items():
        if not isinstance(look, Mapping):
            raise UsageError(f"{source}: looks.{name} is of a subject; write its keys below [looks.{name}]")
        for key, value in look.items():
            if key not in hints:
                raise UsageError(f"{source}: unknown key '{key}' in [looks.{name}]; known: {', '.join(hints)}")
            _check_type(f"looks.{name}.{key}", value, hints[key], source)
        merged.setdefault(name, {}).update(look)
    return merged


def presets() -> list[str]:
    """Names of the presets that the package ships."""
    return sorted(p.name.removesuffix(".toml") for p in configs_folder().iterdir() if p.name.endswith(".toml"))


def parse_value(text: str) -> Any:
    """A value as TOML writes it (3, 0.5, true, "text", [1, 2]); anything else is a text."""
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


# Rates that are written short and meant exactly.
_SHORT_RATES = {"23.976": 24000, "23.98": 24000, "29.97": 30000, "47.952": 48000, "59.94": 60000, "119.88": 120000}


def parse_rate(text: str) -> Fraction:
    """Frames a second, exactly: "24", "24000/1001", "12.5"; "23.976" and its like mean n * 1000/1001.

    Raises: UsageError, where it is no rate between 1/1000 and 1000.
    """
    wanted = text.strip()
    try:
        rate = Fraction(_SHORT_RATES[wanted], 1001) if wanted in _SHORT_RATES else Fraction(wanted[:32])
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"rate '{text}' is not a number of frames a second, as 24 or 24000/1001") from None
    if not Fraction(1, 1000) <= rate <= 1000 or rate.denominator > 1_000_000:
        raise UsageError(f"rate '{text}' must be between 1/1000 and 1000 frames a second")
    return rate


def configs_folder() -> Traversable:
    """The folder of presets and (in `training`) recipes: in the package when installed, beside it in a checkout."""
    package = resources.files("mam_video")
    inside = package / "configs"
    return inside if inside.is_dir() else Path(str(package)).parent / "configs"


def _names(part: Any) -> str:
    return ", ".join(f.name for f in dataclasses.fields(part))


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise UsageError(f"{name} must be between {low:g} and {high:g}, is {value}")


def _check_type(name: str, value: Any, expected: Any, source: str) -> None:
    if get_origin(expected) is Literal:
        if value not in get_args(expected):
            raise UsageError(f"{source}: {name} must be one of {', '.join(map(str, get_args(expected)))}, is '{value}'")
        return
    accepted = (int, float) if expected is float else expected
    if not isinstance(value, accepted) or (isinstance(value, bool) and expected is not bool):
        raise UsageError(f"{source}: {name} must be of type {expected.__name__}, is {value!r}")
