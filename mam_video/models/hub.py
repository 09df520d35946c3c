"""Weights as folders of the Hugging Face hub: a configuration and safetensors, loaded by transformers.

Nothing here asks the network but `fetch`. A model is loaded from a folder: one that `mam-video weights get` made, or
one that the user names. The commit that was fetched first is stored, and fetched again later. Only safetensors are
read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mam_video.core.errors import WeightsError, need_extra
from mam_video.core.untrusted import parse_json
from mam_video.models.catalogue import Listing, Part
from mam_video.models.random_source import is_random, seeded
from mam_video.models.weights import folder, hash_of, make_folder

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_INDEX = f"{WEIGHTS}.index.json"  # of weights in several files
_RECORD = "mam-video.json"  # which commit of the hub the folder holds


def folder_of(listing: Listing) -> Path:
    """Return the folder that `fetch` fills; models that share weights share it."""
    return folder() / listing.hub.replace("/", "--")


def is_here(listing: Listing) -> bool:
    """Return whether the folder of `fetch` is whole."""
    return bool(_weight_files(folder_of(listing)))


def fetch(listing: Listing, revision: str = "") -> Path:
    """Fetch the model's folder from the hub, and store its commit. The only function that uses the network.

    Args:
        revision: a commit, branch or tag; "": the commit of the first time, else the newest one.
    Raises: UsageError, an optional dependency is missing; WeightsError, in one line what failed and what to do.
    """
    need_extra("transformers", "transformers", f"{listing.name}")
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise WeightsError(f"{listing.name}: HF_HUB_OFFLINE is set; unset it, or {_elsewhere(listing)}")
    make_folder()
    place = folder_of(listing)
    wanted = revision or commit_of(place) or None
    try:
        snapshot = snapshot_download(
            listing.hub,
            revision=wanted,
            allow_patterns=["*.json", "*.safetensors"],
            cache_dir=folder() / "hub",
        )
    except GatedRepoError:
        raise WeightsError(
            f"{listing.name}: access is not granted; accept {listing.gated or 'its terms on the hub'}, then run "
            "`hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise WeightsError(f"{listing.name}: {listing.hub} has no revision '{wanted}'; leave out --revision") from None
    except RepositoryNotFoundError:
        raise WeightsError(
            f"{listing.name}: {listing.hub} cannot be found on the hub; run `hf auth login` if it is private"
        ) from None
    except Exception as error:  # noqa: BLE001 - the client raises errors of several HTTP packages
        raise WeightsError(
            f"{listing.name}: the hub does not answer ({_first_line(error)}); {_elsewhere(listing)}"
        ) from None
    return _linked(Path(snapshot), place, listing)


def _linked(snapshot: Path, place: Path, listing: Listing) -> Path:
    """Name the snapshot as the model's folder; the record in it says which commit it is."""
    if not _weight_files(snapshot):
        raise WeightsError(f"{listing.name}: {listing.hub} holds no safetensors; give a folder that does")
    if place.is_symlink() or place.is_file():
        place.unlink()
    try:
        record = {"hub": listing.hub, "commit": snapshot.name}
        (snapshot / _RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
        place.symlink_to(snapshot, target_is_directory=True)
    except OSError as error:
        raise WeightsError(f"{place}: cannot make this folder ({error.strerror or error})") from None
    return place


def commit_of(place: Path) -> str:
    """Return the commit of a fetched folder, or ""."""
    try:
        record = parse_json((place / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(record.get("commit", "")) if isinstance(record, dict) else ""


def load(part: Part, kind: type[Any], random_config: Callable[[], Any]) -> tuple[Any, dict[str, str]]:
    """Load a transformers model of class `kind` from its folder, in float32 on the CPU, without the network.

    Args:
        part: names the model, and perhaps a folder or random:SEED.
        random_config: makes the configuration for random:SEED.
    Returns: the model in evaluation mode, and the SHA-256 of its files by name.
    Raises: WeightsError, the folder is missing, of another model, or damaged.
    """
    if is_random(part.source):
        with seeded(part.source):
            return kind(random_config()).eval().requires_grad_(False), {}
    place = Path(part.source).expanduser() if part.source else folder_of(part.listing)
    files = _weight_files(place)
    if not files:
        raise WeightsError(_missing(part, place))
    _check_kind(part, place, kind)
    from transformers.utils import logging

    logging.disable_progress_bar()  # loading takes a second or two, and progress is the caller's to show
    try:
        model, report = kind.from_pretrained(
            str(place), local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # noqa: BLE001 - a damaged folder can raise anything
        raise WeightsError(f"{place}: cannot be loaded as {part.listing.name} ({_first_line(error)})") from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise WeightsError(f"{place}: lacks {len(missing)} weights of {part.listing.name}, such as {missing[0]}")
    return model.eval().requires_grad_(False), {f"{place.name}/{file.name}": hash_of(file) for file in files}


def _check_kind(part: Part, place: Path, kind: type[Any]) -> None:
    """Raises: WeightsError, the folder's configuration is of another kind of model."""
    config = parse_json((place / CONFIG).read_text(encoding="utf-8"))
    given = str(config.get("model_type", "")) if isinstance(config, dict) else ""
    wanted = str(kind.config_class.model_type)
    # One folder serves the picture model and the video model of SAM 2, and all models of SAM 3.
    if given.split("_")[0] != wanted.split("_")[0]:
        raise WeightsError(
            f"{place}: is a folder of '{given or 'no known kind'}', {part.listing.name} needs one of '{wanted}'"
        )


def _weight_files(place: Path) -> list[Path]:
    """Return the weight files of a folder; empty where it is not whole."""
    if not (place / CONFIG).is_file():
        return []
    if (place / WEIGHTS).is_file():
        return [place / WEIGHTS]
    try:
        index = parse_json((place / _INDEX).read_text(encoding="utf-8"))
        files = sorted({place / str(name) for name in index["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return files if all(file.is_file() for file in files) else []


def _missing(part: Part, place: Path) -> str:
    if part.source:
        return (
            f"{place}: is no folder with {CONFIG} and {WEIGHTS}; give one that save_pretrained wrote, or leave it out"
        )
    size = f" ({part.listing.megabytes} MB)" if part.listing.megabytes else ""
    gate = f"accept {part.listing.gated}, then " if part.listing.gated else ""
    return f"{part.listing.name}: its weights are missing{size}; {gate}run `mam-video weights get {part.listing.name}`"


def _elsewhere(listing: Listing) -> str:
    return f"fetch it elsewhere (hf download {listing.hub} --local-dir DIR) and give --model {listing.name}:DIR"


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
