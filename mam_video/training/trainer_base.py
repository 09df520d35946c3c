"""The base of all trainers: settings, data loader, loop, log, learning rate, checks, saving and resuming."""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mam_video.core.errors import MamVideoError, UsageError
from mam_video.core.tables import from_table, read_toml
from mam_video.media.name_guard import NameGuard
from mam_video.training.checkpoints import load_run, optimizer_to, save_run


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """The settings that all recipes share; the files in configs/training explain each."""

    out: str
    seed: int = 1
    size: int = 256
    batch: int = 4
    steps: int = 100_000
    warm_up: int = 100
    rate: float = 1e-3
    log_every: int = 25
    save_every: int = 100
    threads: int = 2
    workers: int = 1
    device: str = "cpu"


Config = TypeVar("Config", bound=TrainerConfig)


def read_config(kind: type[Config], path: Path, changes: Mapping[str, Any] | None = None) -> Config:
    """Read a config from a TOML file, with `changes`. Paths stay relative to the working directory.

    Raises: MamVideoError, the file is unreadable, a key is unknown or a value has the wrong type; UsageError, see
    `_check_names`.
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


def _check_names(config: TrainerConfig, path: Path) -> None:
    """Check that the run overwrites neither its config nor a file that the config names. Raises: UsageError."""
    guard = NameGuard()
    guard.reads("the config", path)
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if each.name != "out" and isinstance(value, str) and value and Path(value).is_file():
            guard.reads(f"`{each.name}`", value)
    if config.out:
        guard.writes_folder("`out`", config.out, _WRITTEN)


COOL_SHARE = 0.6
"""The part of a run limited by time, at its end, in which the learning rate falls."""


def rate_share(
    step: int, *, warm_up: int, steps: int, cool_down: int, seconds: float = 0.0, elapsed: float = 0.0
) -> float:
    """Return the factor of the learning rate, in (0, 1]: linear warm-up, constant, then linear decay to 0.01.

    The decay takes the last `cool_down` of `steps`. If `seconds` is above 0, the run is limited by time: the decay
    takes the last `COOL_SHARE` of the seconds, of which `elapsed` have passed.
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
        """Include the weights of `net` in the average."""
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


class NumberedSamples(torch.utils.data.Dataset[dict[str, np.ndarray]]):
    """Samples drawn by their number."""

    def __init__(self, draw: Callable[[int], dict[str, np.ndarray]]) -> None:
        self.draw = draw

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        cv2.setNumThreads(0)  # the loader's processes would compete with the trainer's threads
        return self.draw(index)


class Trainer(ABC, Generic[Config]):
    """Trains a network by a recipe, until `steps` or the recipe's own limit.

    A subclass builds `net` and `optimizer`, opens the data, computes the loss and says what it saves beside `run.pt`.
    All randomness comes from the config's seed: a resumed run gives the weights of an uninterrupted one.
    """

    prefetch = 4  # batches that each process of the data loader prepares in advance
    check_every = 0  # steps between checks; 0 for a recipe without checks
    net: nn.Module
    optimizer: torch.optim.Optimizer

    def __init__(self, config: Config) -> None:
        self.config = config
        self.device = torch.device(config.device)
        self.out = Path(config.out)
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.threads)
        self.step = 0
        self._saved_step: int | None = None
        self._start_time: float | None = None  # time.monotonic() when the first batch was loaded

    # ------------------------------------------------------------------------------------------- a recipe's own part
    @abstractmethod
    def open_data(self) -> torch.utils.data.Dataset[dict[str, np.ndarray]]:
        """Read the training data, and the held-out data for the checks. Raises: MamVideoError."""

    @abstractmethod
    def rates(self) -> Sequence[float]:
        """Return the learning rate of each parameter group at this step."""

    @abstractmethod
    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, list[float]]:
        """Compute the loss of a batch, a scalar with gradient, and the measures to log."""

    @abstractmethod
    def clip_gradients(self, parameters: list[Tensor]) -> None:
        """Limit the gradients in place."""

    @abstractmethod
    def log_text(self, means: np.ndarray) -> str:
        """Write a log line from the means of the loss and the measures since the last line."""

    def checks(self) -> Iterable[str]:
        """Measure the network on held-out data. Yields: one line per measurement."""
        return ()

    def after_step(self) -> None:
        """Update what follows the weights."""

    @abstractmethod
    def export(self) -> None:
        """Write the trained weights as they are used outside of training."""

    @abstractmethod
    def extra_state(self) -> dict[str, Any]:
        """Return the entries of `run.pt` beside step, net, optimizer and config."""

    @abstractmethod
    def restore_extra(self, parts: dict[str, Any]) -> None:
        """Restore the entries of `extra_state`, after the network's weights."""

    # ------------------------------------------------------------------------------------------------------- the run
    def run(self, *, resume: bool = False) -> None:
        """Train to the end. Raises: MamVideoError, data are missing or there is no run to resume."""
        if resume:
            self.restore(load_run(self.out / "run.pt"))
        batches = iter(self._loader())
        log_time, log = time.monotonic(), []
        while not self.finished():
            batch = next(batches)
            if self._start_time is None:
                self._start_time = time.monotonic()
            log.append(self.learn(batch))
            if self.step % self.config.log_every == 0:
                seconds = (time.monotonic() - log_time) / len(log)
                print(f"step {self.step} {self.log_text(np.mean(log, 0))} {seconds:.2f} s", flush=True)
                log_time, log = time.monotonic(), []
            if self.step % self.config.save_every == 0:
                self.save()
            if self.check_every and self.step % self.check_every == 0:
                self._run_checks()
                log_time = time.monotonic()
        if self._saved_step != self.step:
            self.save()

    def _loader(self) -> Iterable[dict[str, Tensor]]:
        config = self.config
        return torch.utils.data.DataLoader(
            self.open_data(),
            config.batch,
            sampler=Numbers(self.step * config.batch),
            num_workers=config.workers,
            prefetch_factor=self.prefetch if config.workers else None,
        )

    def finished(self) -> bool:
        """Return whether the run has reached its end."""
        return self.step >= self.config.steps

    def elapsed(self) -> float:
        """Return the seconds since the first step of this call of `run`."""
        return time.monotonic() - self._start_time if self._start_time is not None else 0.0

    def learn(self, batch: dict[str, Tensor]) -> list[float]:
        """Do one training step. Returns the loss and the recipe's measures."""
        for group, rate in zip(self.optimizer.param_groups, self.rates(), strict=True):
            group["lr"] = rate
        loss, measures = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.clip_gradients([p for group in self.optimizer.param_groups for p in group["params"]])
        self.optimizer.step()
        self.step += 1
        self.after_step()
        return [float(loss.detach()), *measures]

    def _run_checks(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        for text in self.checks():
            line = f"check {self.step} {text}"
            print(line, flush=True)
            with (self.out / "checks.txt").open("a") as f:
                f.write(line + "\n")

    # ------------------------------------------------------------------------------------------------------- on disk
    def save(self) -> None:
        """Write the trained weights, and run.pt, from which a run resumes."""
        self.export()
        config = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self.config).items()}
        save_run(
            self.out / "run.pt",
            step=self.step,
            net=self.net.state_dict(),
            optimizer=self.optimizer.state_dict(),
            config=config,
            **self.extra_state(),
        )
        self._saved_step = self.step

    def restore(self, parts: dict[str, Any]) -> None:
        """Continue from the entries of a run.pt."""
        self.step = parts["step"]
        self.net.load_state_dict(parts["net"])
        self.restore_extra(parts)
        self.optimizer.load_state_dict(parts["optimizer"])
        optimizer_to(self.optimizer, self.device)


def save_samples(rows: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Save sample pictures of a run as a JPEG. Each is (h, w) or (h, w, 3) uint8 RGB, all of one size."""
    lines = [np.hstack([p if p.ndim == 3 else np.repeat(p[:, :, None], 3, 2) for p in row]) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(lines)).save(path, quality=88)
