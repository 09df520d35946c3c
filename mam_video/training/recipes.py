"""Find and run training recipes by name. The command line and `python -m mam_video.training` start here."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mam_video.core.errors import MamVideoError, UsageError
from mam_video.core.settings import configs_folder
from mam_video.core.tables import parse_value, read_toml, suggestion

if TYPE_CHECKING:
    from mam_video.training.trainer_base import Trainer


def recipes() -> list[str]:
    """List the training configs in the package."""
    return sorted(p.name.removesuffix(".toml") for p in (configs_folder() / "training").iterdir()
                  if p.name.endswith(".toml"))  # fmt: skip


def find_config(name_or_path: str | Path) -> Path:
    """Find a TOML file, or the recipe of that name in the package. Raises: UsageError, there is no such recipe."""
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.exists():
        return path
    if str(name_or_path) not in recipes():
        hint = suggestion(str(name_or_path), recipes())
        raise UsageError(f"{name_or_path}: no such recipe or file; {hint}recipes: {', '.join(recipes())}")
    return Path(str(configs_folder() / "training" / f"{name_or_path}.toml"))


def train(config: str | Path, *, resume: bool = False, changes: Mapping[str, Any] | None = None) -> None:
    """Run a recipe to its end.

    Args:
        config: a TOML file, or the name of a recipe in the package. Its paths are relative to the working directory.
        resume: continue the run in the config's `out`.
        changes: values that replace those of the config's keys.
    Raises: MamVideoError, the config or a file it names is wrong, or there is no run to resume.
    """
    trainer_of(config, changes).run(resume=resume)


def trainer_of(config: str | Path, changes: Mapping[str, Any] | None = None) -> Trainer[Any]:
    """Build the trainer of a recipe; arguments as in `train`. Raises: MamVideoError."""
    path = find_config(config)
    try:
        recipe = read_toml(path, str(path), "training settings").get("recipe")
    except UsageError as e:
        raise MamVideoError(str(e)) from e
    trainers: dict[str, Callable[[Path, Mapping[str, Any] | None], Trainer[Any]]] = {
        "lite-segmenter": _lite_segmenter, "lite-matte": _lite_matte, "mam": _mam
    }  # fmt: skip
    if not isinstance(recipe, str) or recipe not in trainers:
        raise MamVideoError(f"{path}: unknown recipe {recipe!r}; known: {', '.join(trainers)}")
    return trainers[recipe](path, changes)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a training command."""
    parser.add_argument("config", metavar="CONFIG", help=f"a TOML file, or a recipe: {', '.join(recipes())}")
    parser.add_argument("--resume", action="store_true", help="continue the run in the config's `out`")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a value of the config; may be repeated"
    )


def parse_changes(texts: Iterable[str]) -> dict[str, Any]:
    """Parse the texts of `--set`. Raises: UsageError, one is not of the form KEY=VALUE."""
    changes: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (equals and key.strip()):
            raise UsageError(f"--set '{text}' is not of the form KEY=VALUE, as in batch=4")
        changes[key.strip()] = parse_value(value.strip())
    return changes


def _lite_segmenter(path: Path, changes: Mapping[str, Any] | None) -> Trainer[Any]:
    from mam_video.training.train_segmenter import SegmenterConfig, SegmenterTrainer
    from mam_video.training.trainer_base import read_config

    return SegmenterTrainer(read_config(SegmenterConfig, path, changes))


def _lite_matte(path: Path, changes: Mapping[str, Any] | None) -> Trainer[Any]:
    from mam_video.training.train_matte_head import MatteConfig, MatteTrainer
    from mam_video.training.trainer_base import read_config

    return MatteTrainer(read_config(MatteConfig, path, changes))


def _mam(path: Path, changes: Mapping[str, Any] | None) -> Trainer[Any]:
    from mam_video.training.train_mam import MamConfig, MamTrainer
    from mam_video.training.trainer_base import read_config

    return MamTrainer(read_config(MamConfig, path, changes))
