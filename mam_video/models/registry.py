"""Load models by name. A model's module is imported only when it is used, since MAM needs the SAM package."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mam_video.core.errors import UsageError, WeightsError
from mam_video.core.settings import ModelSettings, Settings
from mam_video.core.tables import suggestion
from mam_video.models.base import Model
from mam_video.models.batches import limit_memory
from mam_video.models.devices import keep_memory, resolve_device

_LITE = "lite:"
_MAM = "mam-"
_VARIANTS = ("vit-b", "vit-l", "vit-h")

# One line per model; the command line shows it.
MODELS = {
    "lite": "the small model in the package; needs no download (lite:FILE.safetensors loads weights that you trained)",
    "classic": "learns the subject's appearance from the prompted frame alone; needs no weights",
    "mam-vit-b": "Matting Anything on SAM ViT-B",
    "mam-vit-l": "Matting Anything on SAM ViT-L",
    "mam-vit-h": "Matting Anything on SAM ViT-H",
    "fake-colour": "for tests: segments by a fixed colour",
}


def load_model(settings: ModelSettings | Settings | str | None = None) -> Model:
    """Load the model that `settings` names and move it to its device.

    Args:
        settings: of the model or of a whole run; or a name, such as "lite"; None: the default model.
    Raises: UsageError, the name is unknown; WeightsError; DeviceError, the device or precision is not available.
    """
    if settings is None or isinstance(settings, str):
        settings = ModelSettings() if settings is None else ModelSettings(name=settings)
    elif isinstance(settings, Settings):
        settings = settings.model
    elif not isinstance(settings, ModelSettings):
        raise UsageError(f"load_model takes a name, as 'lite', or settings of a model; is {type(settings).__name__}")
    device = resolve_device(settings.device)  # an unavailable device is an error for every model
    limit_memory(device, settings.memory)
    if device.type == "cpu":
        keep_memory()
    name = settings.name
    if name == "lite" or name.startswith(_LITE):
        from mam_video.models.lite import LiteModel

        path = name.removeprefix(_LITE) if name.startswith(_LITE) else ""
        return LiteModel.load(Path(path) if path else None, device)
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
    raise UsageError(f"unknown model '{name}'; {suggestion(name, names)}choose one of: {', '.join(names)}")


def weight_files(settings: ModelSettings) -> dict[str, Path]:
    """Return the weight files that `load_model` would read and that exist, by the option that names them."""
    files: dict[str, Path] = {}
    if settings.name.startswith(_LITE):
        files["--model"] = Path(settings.name.removeprefix(_LITE))
    variant = settings.name.removeprefix(_MAM) if settings.name.startswith(_MAM) else ""
    for option, source, prefix in (
        ("--sam-weights", settings.sam_weights, "sam-"),
        ("--mam-weights", settings.mam_weights, _MAM),
    ):
        if source.partition(":")[0] == "random" or not (source or variant):
            continue
        with suppress(WeightsError):
            files[option] = Path(_weights(source, f"{prefix}{variant}"))
    return files


def _weights(source: str, default: str) -> str | Path:
    from mam_video.models.weights import resolve

    return source if source.partition(":")[0] == "random" else resolve(source, default)
