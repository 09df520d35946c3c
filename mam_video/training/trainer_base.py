"""What the trainers share: configs from TOML, the moving average of the weights, checkpoints, seeds."""

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
    """A frozen dataclass from a TOML file; unknown keys and wrong types are errors. Paths stay relative to the cwd."""
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
            raise MamVideoError(f"{path}: '{name}' must be of the kind {type(default).__name__}, is {value!r}")
    config = kind(**values)
    _check_names(config, path)
    return config


_WRITTEN = ("run.pt", "average.safetensors", "mam.pth", "checks.txt")  # by the trainers, into `out`


def _check_names(config: Any, path: Path) -> None:
    """Raises: UsageError, a file that the config names, or the config itself, would be overwritten in its `out`."""
    guard = NameGuard()
    guard.reads("the config", path)
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if each.name != "out" and isinstance(value, str) and value and Path(value).is_file():
            guard.reads(f"`{each.name}`", value)
    if getattr(config, "out", None):
        guard.writes_folder("`out`", config.out, _WRITTEN)


class MovingAverage:
    """Of all weights and statistics of a network; young averages follow faster."""

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
    """first, first + 1, ... for ever: each number draws its own sample, so a resumed run goes on where it was."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def __iter__(self) -> Iterator[int]:
        i = self.first
        while True:
            yield i
            i += 1


def save_weights(state: Mapping[str, Tensor], path: Path, *, half: bool = False, note: str = "") -> None:
    """As safetensors, written beside and renamed. With `half`, floats are stored in 16 bits."""
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
    """From safetensors of any float precision: all weights, or those whose names begin with one of `parts`.

    With `grown` the file may be of the same network before it grew: inputs that a convolution has gained, which come
    last, start at zero, and what the file does not name stays as it was.

    Raises MamVideoError where names or shapes do not fit.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as e:
        raise MamVideoError(f"{path}: cannot read these weights ({e})") from e
    state = {k: v for k, v in state.items() if k.startswith(tuple(parts))}
    own = {k: v for k, v in net.state_dict().items() if k.startswith(tuple(parts))}
    wanted = {k for k in own if not k.endswith("num_batches_tracked")}
    if grown:
        for k in wanted & set(state):
            if state[k].ndim == 4 and state[k].shape[1] < own[k].shape[1]:
                new = state[k].new_zeros(own[k].shape)
                new[:, : state[k].shape[1]] = state[k]
                state[k] = new
        state = {**{k: own[k] for k in wanted}, **state}
    if wanted != set(state) or any(own[k].shape != state[k].shape for k in wanted):
        raise MamVideoError(f"{path}: these weights are of another network")
    net.load_state_dict({k: v.to(own[k].dtype) for k, v in state.items()}, strict=False)


def save_samples(rows: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Pictures to look at while a run goes on, each (h, w) or (h, w, 3) uint8 RGB, all of one size; as JPEG."""
    lines = [np.hstack([p if p.ndim == 3 else np.repeat(p[:, :, None], 3, 2) for p in row]) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(lines)).save(path, quality=88)


def save_run(path: Path, **parts: Any) -> None:
    """Everything a run needs to go on, written beside and renamed."""
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
        raise MamVideoError(f"{path}: no run to resume; leave --resume out to start one") from e
    return parts


def optimizer_to(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    for state in optimizer.state.values():
        for k, v in state.items():
            if torch.is_tensor(v) and k != "step":
                state[k] = v.to(device)
