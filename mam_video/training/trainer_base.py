"""The base of all trainers: settings, data loader, loop, log, learning rate, checks, saving and resuming."""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mam_video.core.errors import MamVideoError, UsageError
from mam_video.core.tables import from_table, read_toml
from mam_video.media.name_guard import NameGuard
from mam_video.models.devices import device_name
from mam_video.training.batches import NumberedBatches, NumberedSamples, StepLog, count_workers, load_batches
from mam_video.training.checkpoints import load_run, optimizer_to, save_run
from mam_video.training.profile import Phase, StepProfile, profile_steps, unmeasured


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
    save_seconds: float = 60.0
    profile: int = 0
    threads: int = 2
    workers: int = -1
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


WARM_SHARE, COOL_SHARE = 0.04, 0.6
"""The parts of a run limited by time in which the learning rate rises, at its start, and falls, at its end."""


def rate_share(
    step: int, *, warm_up: int, steps: int, cool_down: int, seconds: float = 0.0, elapsed: float = 0.0
) -> float:
    """Return the factor of the learning rate, in (0, 1]: linear warm-up, constant, then linear decay to 0.01.

    The warm-up takes `warm_up` steps, and the decay the last `cool_down` of `steps`. If `seconds` is above 0, the run
    is limited by time, of which `elapsed` have passed: the warm-up takes the first `WARM_SHARE` of the seconds, and the
    decay the last `COOL_SHARE`.
    """
    if seconds:
        rise = min(1.0, max(elapsed / (WARM_SHARE * seconds), 0.01))
        return rise * min(1.0, max((seconds - elapsed) / (COOL_SHARE * seconds), 0.01))
    share = min(1.0, (step + 1) / warm_up)
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
        live = net.state_dict()
        floats = [k for k, v in live.items() if v.dtype.is_floating_point]
        # All weights at once: a launch for each of some hundred tensors would take longer than the arithmetic.
        torch._foreach_lerp_([self.state[k] for k in floats], [live[k] for k in floats], share)
        for k in live.keys() - set(floats):
            self.state[k].copy_(live[k])


class Trainer(ABC, Generic[Config]):
    """Trains a network by a recipe, until `steps` or the recipe's own limit.

    A subclass builds `net` and `optimizer`, opens the data, computes the loss and says what it saves beside `run.pt`.
    All randomness comes from the config's seed: a resumed run gives the weights of an uninterrupted one.
    """

    prefetch = 2  # batches that each process of the data loader prepares in advance, and not more
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
        self._saved_time = 0.0  # time.monotonic() of the last save
        self._start_time: float | None = None  # time.monotonic() when training began, after all preparations
        self._phase: Phase = unmeasured
        self._elapsed_before = 0.0  # seconds of the calls of `run` before a resumed one

    # ------------------------------------------------------------------------------------------- a recipe's own part
    @abstractmethod
    def open_data(self) -> NumberedSamples:
        """Read the training data, and the held-out data for the checks. Raises: MamVideoError."""

    @abstractmethod
    def rates(self) -> Sequence[float]:
        """Return the learning rate of each parameter group at this step."""

    def inputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Draw what a step needs beside its samples, and move all to the device."""
        return {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}

    @abstractmethod
    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the loss of `inputs`, a scalar with gradient, and the measures to log (n,). Reads nothing back."""

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

    def sides(self) -> tuple[int, ...]:
        """Return the sides of the pictures, in the order in which the batches have them."""
        return (self.config.size,)

    def warm(self, batches: Mapping[int, dict[str, Tensor]]) -> None:
        """Choose how to compute and compile, before the clock starts. `batches` has one of each side."""

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
        batches = self.prepare()
        if self.config.profile:
            print(self.profile(batches, self.config.profile).table(), flush=True)
        log = StepLog()
        while not self.finished():
            with log.waiting():
                batch = next(batches)
            log.add(self.learn(batch))
            if self.step % self.config.log_every == 0:
                print(f"step {self.step} {self.log_text(log.means())} {log.times()}", flush=True)
                log = StepLog()
            if self._save_is_due():
                self.save()
            if self.check_every and self.step % self.check_every == 0:
                self._run_checks()
        if self._saved_step != self.step:
            self.save()

    def prepare(self) -> Iterator[dict[str, Tensor]]:
        """Read the data, start the processes that draw samples, warm up, and start the clock. Returns: all batches."""
        times = [time.monotonic()]
        samples = self.open_data()
        times.append(time.monotonic())
        numbers = NumberedBatches(self.step, self.sides(), self.config.batch, self.config.size)
        workers, pinned = count_workers(self.config.workers), self.device.type == "cuda"
        batches = iter(load_batches(samples, numbers, workers, self.prefetch, pinned=pinned))
        first = [next(batches) for _ in self.sides()]
        times.append(time.monotonic())
        self.warm({keys[0][1]: batch for keys, batch in zip(numbers, first, strict=False)})
        times.append(time.monotonic())
        data, drawing, warming = (b - a for a, b in pairwise(times))
        print(f"start: {data:.1f} s to read, {drawing:.1f} s to draw the first batches, {warming:.1f} s to warm up",
              flush=True)  # fmt: skip
        self._start_time = self._saved_time = time.monotonic()
        return chain(first, batches)

    def profile(self, batches: Iterator[dict[str, Tensor]], count: int) -> StepProfile:
        """Measure the next steps, about three times `count`. They train as all others do."""

        def step() -> None:
            with self._phase("waiting for data"):
                batch = next(batches)
            self.learn(batch)

        def use_phase(phase: Phase) -> None:
            self._phase = phase

        return profile_steps(step, use_phase, self.device, device_name(self.device), count)

    def finished(self) -> bool:
        """Return whether the run has reached its end."""
        return self.step >= self.config.steps

    def elapsed(self) -> float:
        """Return the seconds of training, without preparations, of all calls of `run` together."""
        this_call = time.monotonic() - self._start_time if self._start_time is not None else 0.0
        return self._elapsed_before + this_call

    def learn(self, batch: dict[str, Tensor]) -> Tensor:
        """Do one training step. Returns the loss and the recipe's measures, on the device."""
        for group, rate in zip(self.optimizer.param_groups, self.rates(), strict=True):
            group["lr"] = rate
        with self._phase("inputs"):
            inputs = self.inputs(batch)
        with self._phase("forward"):
            loss, measures = self.loss(inputs)
        with self._phase("backward"):
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        with self._phase("optimizer"):
            self.clip_gradients([p for group in self.optimizer.param_groups for p in group["params"]])
            self.optimizer.step()
        self.step += 1
        with self._phase("average"):
            self.after_step()
        return torch.cat([loss.detach()[None], measures])

    def _save_is_due(self) -> bool:
        c = self.config
        by_steps = c.save_every > 0 and self.step % c.save_every == 0
        return by_steps or (c.save_seconds > 0 and time.monotonic() - self._saved_time >= c.save_seconds)

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
            elapsed=self.elapsed(),
            **self.extra_state(),
        )
        self._saved_step, self._saved_time = self.step, time.monotonic()

    def restore(self, parts: dict[str, Any]) -> None:
        """Continue from the entries of a run.pt."""
        self.step = parts["step"]
        self._elapsed_before = parts.get("elapsed", 0.0)  # runs of before did not keep it
        self.net.load_state_dict(parts["net"])
        self.restore_extra(parts)
        self.optimizer.load_state_dict(parts["optimizer"])
        optimizer_to(self.optimizer, self.device)


def save_samples(rows: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Save sample pictures of a run as a JPEG. Each is (h, w) or (h, w, 3) uint8 RGB, all of one size."""
    lines = [np.hstack([p if p.ndim == 3 else np.repeat(p[:, :, None], 3, 2) for p in row]) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(lines)).save(path, quality=88)
