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
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mam_video.core.errors import MamVideoError
from mam_video.core.untrusted import parse_toml
from mam_video.media.name_guard import NameGuard

Config = TypeVar("Config")


def read_config(kind: type[Config], path: Path, changes: Mapping[str, Any] | None = None) -> Config:
    """Read a frozen dataclass from a TOML file. Paths stay relative to the working directory.

    Raises: MamVideoError, the file is unreadable, a key is unknown or a value has the wrong type; UsageError, see
    `_check_names`.
    """
    try:
        values = parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise MamVideoError(f"{path}: cannot read this training config ({e})") from e
    values.pop("recipe", None)
    values.update(changes or {})
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise MamVideoError(f"{path}: unknown key '{unknown[0]}'; known are {', '.join(sorted(fields))}")
    for name, value in values.items():
        default = fields[name].default
        if isinstance(default, tuple) and isinstance(value, list):
            values[name] = value = tuple(value)
        if isinstance(default, float) and isinstance(value, int):
            values[name] = float(value)
        elif default is not dataclasses.MISSING and type(value) is not type(default):
            raise MamVideoError(f"{path}: '{name}' must be of type {type(default).__name__}, is {value!r}")
    config = kind(**values)
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


def save_weights(state: Mapping[str, Tensor], path: Path, *, half: bool = False, note: str = "") -> None:
    """Save weights as safetensors to a temporary file and rename it. `half` stores floats in 16 bits."""
    arrays = {
        k: (v.half() if half and v.dtype == torch.float32 else v).contiguous()
        for k, v in state.items()
        if not k.endswith("num_batches_tracked")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file(arrays, part, metadata={"note": note} if note else None)
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
