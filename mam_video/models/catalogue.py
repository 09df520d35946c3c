"""The models by name: what each does, its size, its licence and where its weights come from. Nothing is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mam_video.core.errors import UsageError
from mam_video.core.tables import suggestion


class Does(Enum):
    """What a model can be used for."""

    BOTH = "masks and mattes"
    MASKS = "masks"
    MATTES = "mattes"


@dataclass(frozen=True, slots=True)
class Listing:
    """One model.

    name     as `--model` takes it
    does     whether it finds, mattes, or both
    says     one line for the command line
    licence  of the weights
    megabytes  of the weight files; None where they are not weighed
    hub      OWNER/NAME on the Hugging Face hub, or "" where the weights come another way
    variant  which of the family, as the module that loads it names them
    gated    what to accept on the hub before the weights can be fetched, or ""
    extra    the optional dependency that it needs, or ""
    alone    the matte model that it is paired with where none is named
    """

    name: str
    does: Does
    says: str
    licence: str
    megabytes: int | None = None
    hub: str = ""
    variant: str = ""
    gated: str = ""
    extra: str = ""
    alone: str = "lite"
    hidden: bool = False

    @property
    def family(self) -> str:
        """The part of the name that all variants share."""
        return self.name.removesuffix(self.variant).rstrip("-") if self.variant else self.name


_APACHE = "Apache-2.0"
_SAM3 = "SAM License (Meta); read it before commercial use"
_EXTRA = "transformers"
_MAM = f"SAM {_APACHE}; MAM: see its repository"


def _sam2(variant: str, megabytes: int, *, video: bool) -> Listing:
    end = "-video" if video else ""
    how = "follows with its own memory" if video else "under this program's tracker"
    return Listing(
        f"sam2.1-{variant}{end}", Does.MASKS, f"SAM 2.1 {variant}, {how}", _APACHE, megabytes,
        f"facebook/sam2.1-hiera-{variant}", variant, extra=_EXTRA,
    )  # fmt: skip


def _sam3(*, video: bool) -> Listing:
    how = "follows with its own memory" if video else "under this program's tracker"
    return Listing(
        "sam3-video" if video else "sam3", Does.MASKS, f"SAM 3's tracker, {how}", _SAM3, 3440, "facebook/sam3",
        gated="the SAM License on https://huggingface.co/facebook/sam3", extra=_EXTRA,
    )  # fmt: skip


def _vitmatte(size: str, data: str, megabytes: int) -> Listing:
    short = "" if data == "composition-1k" else "-distinctions"
    return Listing(
        f"vitmatte-{size}{short}", Does.MATTES, f"ViTMatte {size}, trained on {data}", _APACHE, megabytes,
        f"hustvl/vitmatte-{size}-{data}", size, extra=_EXTRA,
    )  # fmt: skip


_SIZES = (("tiny", 156), ("small", 184), ("base-plus", 324), ("large", 898))

# The megabytes of weights that come from the hub are those of float32 parameters, not of files that were fetched.
LISTINGS: tuple[Listing, ...] = (
    Listing("lite", Does.BOTH, "the small model in the package; needs no download", "see mam_video/models/LITE.md", 12),
    Listing("classic", Does.BOTH, "learns the subject's appearance from the prompted frame alone", "no weights", 0),
    *(
        Listing(f"mam-{v}", Does.BOTH, f"Matting Anything on SAM {text}", _MAM, size, variant=v, alone="")
        for v, text, size in (("vit-b", "ViT-B", 375), ("vit-l", "ViT-L", 1250), ("vit-h", "ViT-H", 2565))
    ),
    *(_sam2(variant, size, video=False) for variant, size in _SIZES),
    *(_sam2(variant, size, video=True) for variant, size in _SIZES),
    _sam3(video=False),
    _sam3(video=True),
    Listing("masks", Does.MASKS, "finds nothing itself: the masks come from --masks or --track", "no weights", 0),
    _vitmatte("small", "composition-1k", 103),
    _vitmatte("base", "composition-1k", 387),
    _vitmatte("small", "distinctions-646", 103),
    _vitmatte("base", "distinctions-646", 387),
    Listing("none", Does.MATTES, "no matte model: the mask itself, its edge sharpened by the plate", "no weights", 0),
    Listing("fake-colour", Does.BOTH, "for tests: segments by a fixed colour", "no weights", 0, hidden=True),
)

BY_NAME = {listing.name: listing for listing in LISTINGS}

# One line per model that can be named alone; the command line shows it.
MODELS = {each.name: each.says for each in LISTINGS if each.does is not Does.MATTES}


@dataclass(frozen=True, slots=True)
class Part:
    """One half of a model's name: the listing, and what stands after the colon (a file, a folder, random:SEED)."""

    listing: Listing
    source: str = ""

    @property
    def text(self) -> str:
        return f"{self.listing.name}:{self.source}" if self.source else self.listing.name


def parse_model(text: str) -> tuple[Part, Part | None]:
    """Parse a model's name: MASKS, MASKS+MATTES, each with :SOURCE where its weights are elsewhere.

    Returns: the model that finds, and the one that mattes; None where the first does both.
    Raises: UsageError, a name is unknown, or cannot be used for that half.
    """
    first, second = _halves(text)
    masks = _part(first, text)
    if masks.listing.does is Does.MATTES:
        raise UsageError(
            f"model '{text}': {masks.listing.name} only mattes; name what finds the subject before it, as "
            f"lite+{masks.listing.name}"
        )
    if second is None:
        alone = masks.listing.alone
        if masks.listing.does is Does.BOTH or not alone:
            return masks, None
        return masks, Part(BY_NAME[alone])
    mattes = _part(second, text)
    if mattes.listing.does is Does.MASKS:
        raise UsageError(f"model '{text}': {mattes.listing.name} only finds masks; name it first, as {second}+lite")
    if mattes == masks:
        return masks, None
    return masks, mattes


def _halves(text: str) -> tuple[str, str | None]:
    """Split at the last plus that a model's name follows; a path may hold a plus."""
    for place in range(len(text) - 1, 0, -1):
        if text[place] == "+" and (text[place + 1 :].partition(":")[0] in BY_NAME or ":" not in text[:place]):
            return text[:place], text[place + 1 :]
    return text, None


def _part(text: str, whole: str) -> Part:
    name, _, source = text.partition(":")
    listing = BY_NAME.get(name)
    if listing is None:
        names = [each.name for each in LISTINGS if not each.hidden]
        raise UsageError(
            f"unknown model '{name if name else whole}'; {suggestion(name, names)}`mam-video models` lists them; "
            f"without a download: lite, classic"
        )
    if source and listing.megabytes == 0:
        raise UsageError(f"model '{whole}': {name} has no weights; leave out ':{source}'")
    return Part(listing, source)
