"""Shared parts of the trainers: configs from TOML, moving average of the weights, checkpoints, sample numbers."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mam_video.core.errors import MamVideoError, UsageError
from mam_video.core.tables import from_table, read_toml
from mam_video.media.name_guard import NameGuard
from mam_video.models.lite_net import ARCHITECTURE_KEY, ARCHITECTURES, LiteArchitecture, architecture_of

Config = TypeVar("Config")


def read_config(kind: type[Config], path: Path, changes: Mapping[str, Any] | None = None) -> Config:
    """Make a frozen dataclass from a TOML file and `changes`. Paths stay relative to the working directory.

    Raises: MamVideoError, the file cannot be read, a key is unknown or a value is of the wrong type.
    """
    try:
        values = read_toml(path, str(path), "training settings")
        values.pop("recipe", None)
        config = from_table(kind, {**values, **(changes or {})}, str(path))
    except UsageError as e:
        raise MamVideoError(str(e)) from e
    _check_names(config, path)
    return config


_WRITTEN = ("run.pt", "average.safetensors", "mam.pth", "checks.txt")  # files that the trainers write into `out`


def _check_names(config: Any, path: Path) -> None:
    """Check that the run overwrites neither its config nor a file that the config names. Raises: UsageError."""
    guard = NameGuard()
    guard.reads("the config", path)
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if each.name != "out" and isinstance(value, str) and value and Path(value).is_file():
            guard.reads(f"`{each.name}`", value)
    if getattr(config, "out", None):
        guard.writes_folder("`out`", config.out, _WRITTEN)


COOL_SHARE = 0.6
"""The share of a run limited by time, at its end, in which the learning rate falls."""


def rate_share(
    step: int, *, warm_up: int, steps: int, cool_down: int, seconds: float = 0.0, elapsed: float = 0.0
) -> float:
    """Compute the learning rate's factor, in (0, 1]: a warm-up, then constant, then linearly down to a hundredth.

    It falls over the last `cool_down` of `steps`. If `seconds` is above 0, it falls over the last `COOL_SHARE` of these
    seconds instead, of which `elapsed` have passed.
    """
    share = min(1.0, (step + 1) / warm_up)
    if seconds:
        return share * min(1.0, max((seconds - elapsed) / (COOL_SHARE * seconds), 0.01))
    if cool_down:
        return share * min(1.0, max((steps - step) / cool_down, 0.01))
    return share


class MovingAverage:
    """The moving average of all weights and statistics of a network. It follows faster at the start."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.state = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        self.count += 1
        share = 1 - min(self.decay, (self.count + 1) / (self.count + 10))
        for k, v in net.state_dict().items():
            if v.dtype.is_floating_point:
                self.state[k].lerp_(v, share)
            else:
                self.state[k].copy_(v)


class Numbers(torch.utils.data.Sampler[int]):
    """Yield first, first + 1, ... without end. A number determines its sample, so a resumed run draws the same ones."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def __iter__(self) -> Iterator[int]:
        i = self.first
        while True:
            yield i
            i += 1


def save_weights(
    state: Mapping[str, Tensor], path: Path, *, half: bool = False, note: str = "", architecture: str = ""
) -> None:
    """As safetensors, written beside and renamed. With `half`, floats are stored in 16 bits.

    `note` and `architecture` (JSON, of `LiteArchitecture.to_text`) stand in the file's metadata where they are given.
    """
    arrays = {
        k: (v.half() if half and v.dtype == torch.float32 else v).contiguous()
        for k, v in state.items()
        if not k.endswith("num_batches_tracked")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    stored = {k: v for k, v in (("note", note), (ARCHITECTURE_KEY, architecture)) if v}
    save_file(arrays, part, metadata=stored or None)
    part.replace(path)


def load_weights(net: nn.Module, path: Path, *, parts: Sequence[str] = ("",), grown: bool = False) -> None:
    """Load weights from safetensors of any float precision: all, or those whose names begin with one of `parts`.

    With `grown` the file may come from a smaller version of the network. New input channels of a convolution, which
    come last, start at zero. Weights that the file lacks do not change.

    Raises: MamVideoError, the file is unreadable, or its names or shapes do not fit.
    """
    try:
        state = load_file(path)
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


def architecture_in(path: Path) -> LiteArchitecture:
    """Read the architecture of a weight file. Raises: MamVideoError, it is unreadable or of another network."""
    try:
        with safe_open(path, "pt") as f:
            stored = (f.metadata() or {}).get(ARCHITECTURE_KEY)
        return architecture_of(load_file(path), stored)
    except (OSError, SafetensorError) as e:
        raise MamVideoError(f"{path}: cannot read these weights ({e})") from e
    except ValueError as e:
        raise MamVideoError(f"{path}: these weights are of another network ({e})") from e


def chosen_architecture(name: str, start: str) -> LiteArchitecture:
    """Choose the architecture to train: that of the file `start`, else the one called `name`.

    Raises: MamVideoError, the name is unknown, or `start` has another architecture.
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


def save_samples(rows: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Save sample pictures of a run as a JPEG. Each is (h, w) or (h, w, 3) uint8 RGB, all of one size."""
    lines = [np.hstack([p if p.ndim == 3 else np.repeat(p[:, :, None], 3, 2) for p in row]) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(lines)).save(path, quality=88)


def save_run(path: Path, **parts: Any) -> None:
    """Save the state that a run needs to resume, to a temporary file that is renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(parts, part)
    with part.open("rb") as f:
        os.fsync(f.fileno())
    part.replace(path)


def load_run(path: Path) -> dict[str, Any]:
    try:
        parts: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as e:
        raise MamVideoError(f"{path}: no run to resume; start one without --resume") from e
    return parts


def optimizer_to(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    for state in optimizer.state.values():
        for k, v in state.items():
            if torch.is_tensor(v) and k != "step":
                state[k] = v.to(device)
