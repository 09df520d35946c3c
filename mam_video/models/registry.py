"""Models by name. Each is imported only when it is asked for: the classic one needs no torch weights, MAM needs SAM."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mam_video.core.errors import UsageError, WeightsError
from mam_video.core.settings import ModelSettings, Settings
from mam_video.core.tables import suggestion
from mam_video.models.base import Model
from mam_video.models.devices import keep_memory, resolve_device

_LITE = "lite:"
_MAM = "mam-"
_VARIANTS = ("vit-b", "vit-l", "vit-h")

# What each name is, in a line; the command line shows it.
MODELS = {
    "lite": "the embedded small model; needs no download (lite:FILE.safetensors takes weights of your own training)",
    "classic": "learns the look from the prompted frame alone; needs no weights",
    "mam-vit-b": "Matting Anything on SAM ViT-B",
    "mam-vit-l": "Matting Anything on SAM ViT-L",
    "mam-vit-h": "Matting Anything on SAM ViT-H",
    "fake-colour": "for tests: segments by the colour under the prompt",
}


def load_model(settings: ModelSettings | Settings | str | None = None) -> Model:
    """The model that `settings` asks for, loaded and on its device.

    Args:
        settings: of the model or of a whole run; or a name, such as "lite"; None: the default model.
    Raises: UsageError, no model is called so; WeightsError; DeviceError, the device or precision is not to be had.
    """
    if settings is None or isinstance(settings, str):
        settings = ModelSettings() if settings is None else ModelSettings(name=settings)
    elif isinstance(settings, Settings):
        settings = settings.model
    elif not isinstance(settings, ModelSettings):
        raise UsageError(f"load_model takes a name, as 'lite', or settings of a model; is {type(settings).__name__}")
    device = resolve_device(settings.device)  # asked for and absent is an error for every model
    if device.type == "cpu":
        keep_memory()
    name = settings.name
    if name == "lite" or name.startswith(_LITE):
        from mam_video.models.lite import LiteModel

        own = name.removeprefix(_LITE) if name.startswith(_LITE) else ""
        return LiteModel.load(Path(own) if own else None, device)
    if name == "classic":
        from mam_video.models.classic import ClassicModel

        return ClassicModel()
    if name == "fake-colour":
        from mam_video.models.colour_model import ColourModel

        return ColourModel()
    if name.startswith(_MAM) and name.removeprefix(_MAM) in _VARIANTS:
        from mam_video.models.mam import MamModel

        variant = name.removeprefix(_MAM)
        sam = _weights(settings.sam_weights, f"sam-{variant}")
        mam = _weights(settings.mam_weights, f"mam-{variant}")
        return MamModel.load(variant, sam, mam, device, settings.precision)
    names = [each for each in MODELS if each != "fake-colour"]
    raise UsageError(f"no model is called '{name}'; {suggestion(name, names)}choose one of: {', '.join(names)}")


def weight_files(settings: ModelSettings) -> dict[str, Path]:
    """The weight files that `load_model` would read, as far as they are here, by what asks for them."""
    found: dict[str, Path] = {}
    if settings.name.startswith(_LITE):
        found["--model"] = Path(settings.name.removeprefix(_LITE))
    variant = settings.name.removeprefix(_MAM) if settings.name.startswith(_MAM) else ""
    for option, given, prefix in (
        ("--sam-weights", settings.sam_weights, "sam-"),
        ("--mam-weights", settings.mam_weights, _MAM),
    ):
        if given.partition(":")[0] == "random" or not (given or variant):
            continue
        with suppress(WeightsError):
            found[option] = Path(_weights(given, f"{prefix}{variant}"))
    return found


def _weights(given: str, default: str) -> str | Path:
    from mam_video.models.weights import resolve

    return given if given.partition(":")[0] == "random" else resolve(given, default)
