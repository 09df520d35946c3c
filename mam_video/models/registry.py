"""Load models by name. A model's module is imported only when it is used, since MAM needs the SAM package."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mam_video.core.errors import UsageError, WeightsError, need_extra
from mam_video.core.settings import ModelSettings, Settings
from mam_video.models.base import MaskModel, MatteModel, Model
from mam_video.models.catalogue import MODELS, Part, parse_model
from mam_video.models.random_source import is_random

if TYPE_CHECKING:
    import torch

__all__ = ["MODELS", "licences", "load_model", "weight_files"]

_MAM = "mam-"


def load_model(settings: ModelSettings | Settings | str | None = None) -> Model:
    """Load the model that `settings` names and move it to its device.

    Args:
        settings: of the model or of a whole run; or a name, such as "lite" or "sam2.1-tiny+vitmatte-small"; None: the
            default model.
    Raises: UsageError, the name is unknown; WeightsError; DeviceError, the device or precision is not available.
    """
    from mam_video.models.batches import limit_memory
    from mam_video.models.devices import keep_memory, resolve_device
    from mam_video.models.pair import NoMatteModel, PairedModel

    if settings is None or isinstance(settings, str):
        settings = ModelSettings() if settings is None else ModelSettings(name=settings)
    elif isinstance(settings, Settings):
        settings = settings.model
    elif not isinstance(settings, ModelSettings):
        raise UsageError(f"load_model takes a name, as 'lite', or settings of a model; is {type(settings).__name__}")
    masks, mattes = parse_model(settings.name)
    device = resolve_device(settings.device)  # an unavailable device is an error for every model
    limit_memory(device, settings.memory)
    if device.type == "cpu":
        keep_memory()
    finds = _load(masks, settings, device)
    if mattes is None:
        return cast(Model, finds)
    if mattes.listing.name == "none":
        return PairedModel(settings.name, finds, NoMatteModel(finds.view_size, finds.mask_size))
    return PairedModel(settings.name, finds, cast(MatteModel, _load(mattes, settings, device)))


def _load(part: Part, settings: ModelSettings, device: torch.device) -> MaskModel:
    """Load one half. A family's module is imported only when it is used."""
    name, family = part.listing.name, part.listing.family
    if name == "lite":
        from mam_video.models.lite import LiteModel

        return LiteModel.load(Path(part.source) if part.source else None, device)
    if name == "classic":
        from mam_video.models.classic import ClassicModel

        return ClassicModel()
    if name == "masks":
        from mam_video.models.pair import NoMaskModel

        return NoMaskModel()
    if name == "fake-colour":
        from mam_video.models.colour_model import ColourModel

        return ColourModel()
    if family == "mam":
        from mam_video.models.mam import MamModel

        variant = part.listing.variant
        sam = _weights(settings.sam_weights, f"sam-{variant}")
        mam = _weights(settings.mam_weights, f"mam-{variant}")
        return MamModel.load(variant, sam, mam, device, settings.precision)
    need_extra("transformers", part.listing.extra, f"model {name}")
    if name.startswith("vitmatte"):
        from mam_video.models.vitmatte import VitMatteModel

        return cast(MaskModel, VitMatteModel.load(part, device, settings.precision))
    if name.endswith("-video"):
        from mam_video.models.sam2_video import Sam2VideoModel

        return Sam2VideoModel.load(part, device, settings.precision)
    from mam_video.models.sam2 import Sam2MaskModel

    return Sam2MaskModel.load(part, device, settings.precision)


def licences(name: str) -> dict[str, str]:
    """Return the licence of the weights of each half of a model's name; empty for a model of the caller's own."""
    with suppress(UsageError):
        return {part.listing.name: part.listing.licence for part in parse_model(name) if part is not None}
    return {}


def weight_files(settings: ModelSettings) -> dict[str, Path]:
    """Return the weight files that `load_model` would read and that exist, by the option that names them."""
    try:
        parts = [part for part in parse_model(settings.name) if part is not None]
    except UsageError:
        return {}
    files: dict[str, Path] = {}
    variant = ""
    for part in parts:
        if part.source and not is_random(part.source):
            files[f"--model {part.listing.name}"] = Path(part.source)
        if part.listing.family == "mam":
            variant = part.listing.variant
    for option, source, prefix in (
        ("--sam-weights", settings.sam_weights, "sam-"),
        ("--mam-weights", settings.mam_weights, _MAM),
    ):
        if is_random(source) or not (source or variant):
            continue
        with suppress(WeightsError):
            files[option] = Path(_weights(source, f"{prefix}{variant}"))
    return files


def _weights(source: str, default: str) -> str | Path:
    from mam_video.models.weights import resolve

    return source if is_random(source) else resolve(source, default)
