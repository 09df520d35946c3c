"""What the trainers of the embedded model share: start weights, precision, moving average, clock, saved weights."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from mam_video.core.errors import MamVideoError
from mam_video.models.devices import resolve_precision
from mam_video.models.lite_net import LiteNet
from mam_video.training.checkpoints import chosen_architecture, load_imagenet, load_weights, save_weights, weights_path
from mam_video.training.depthwise import quicken
from mam_video.training.layouts import (
    COMPILERS,
    LAYOUTS,
    MEASURE,
    MEASURE_ALL,
    OFF,
    KeptBuffers,
    candidates,
    compiled,
    match_layout,
    quickest,
    seconds_per_call,
)
from mam_video.training.trainer_base import MovingAverage, Trainer, TrainerConfig, rate_share


@dataclass(frozen=True, kw_only=True)
class LiteConfig(TrainerConfig):
    """The settings that the recipes of the embedded model share; the files in configs/training explain each."""

    data: str = "../shared/data/train"
    allow: str = ".*"
    deny: str = ""
    rendered: str = ""
    architecture: str = ""
    start: str = ""
    cool_down: int = 0
    seconds: float = 0.0
    within: float = 0.0
    sizes: tuple[int, ...] = ()
    weight_decay: float = 1e-4
    average: float = 0.998
    clip_gradient: float = 1.0
    freeze_norm: bool = False
    check_every: int = 500
    precision: str = "auto"
    layout: str = "channels_last"
    compile: str = "off"
    cudnn_benchmark: bool = True


Config = TypeVar("Config", bound=LiteConfig)

TO_SAVE = 10.0
"""Seconds of `within` that are kept for the last save."""


def rendered_root(config: LiteConfig) -> Path:
    """Return where the rendered subjects are: in the packed file if `data` is one, else in the folder `rendered`."""
    data = Path(config.data)
    return data if data.is_file() else Path(config.rendered)


def _say(text: str) -> None:
    print(text, flush=True)


class LiteTrainer(Trainer[Config]):
    """Trains one part of a LiteNet. A subclass chooses the parameters to train, by `_train`."""

    part: ClassVar[str]  # the name of the part, for the note in the weight file
    net: LiteNet

    def __init__(self, config: Config, segmenter: str = "") -> None:
        """Build the network from `config.start`, the file `segmenter`, or else ImageNet weights.

        `segmenter` replaces the backbone and the segmenter of `config.start`. Raises: MamVideoError, a file does not
        fit, or the ImageNet weights are not installed.
        """
        self._built = time.monotonic()
        super().__init__(config)
        # The averages of idle gradients become denormal numbers, which are many times slower on a CPU.
        torch.set_flush_denormal(True)
        self.check_every = config.check_every
        self.half = resolve_precision(config.precision, self.device) is torch.bfloat16
        start, segmenter = weights_path(config.start), weights_path(segmenter)
        self.net = LiteNet(chosen_architecture(config.architecture, start or segmenter))
        if self.half and self.device.type == "cpu":
            quicken(self.net)
        if start:
            load_weights(self.net, Path(start), grown=True)
        if segmenter:
            self.load_segmenter(segmenter)
        elif not start:
            load_imagenet(self.net)
        self.net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator = torch.Generator().manual_seed(config.seed)
        compilers = [OFF, *COMPILERS, MEASURE, MEASURE_ALL]
        for key, value, known in (
            ("layout", config.layout, [*LAYOUTS, MEASURE]),
            ("compile", config.compile, compilers),
        ):
            if value not in known:
                raise MamVideoError(f"{key} = '{value}': choose one of {', '.join(known)}")
        torch.backends.cudnn.benchmark = config.cudnn_benchmark
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        self._step_loss = self.compute  # compiled, if the config says so

    def load_segmenter(self, path: str) -> None:
        """Load the backbone and the segmenter from a weight file. Raises: MamVideoError."""
        load_weights(self.net, Path(weights_path(path)), parts=("backbone.", "segmenter."))

    def _train(self, groups: Sequence[tuple[list[nn.Parameter], float]], averaged: nn.Module) -> None:
        """Set the parameters to train, in groups with a learning rate each, and the module to average."""
        self._base_rates = [rate for _, rate in groups]
        self.optimizer = torch.optim.AdamW(
            [{"params": parameters, "lr": rate} for parameters, rate in groups],
            weight_decay=self.config.weight_decay,
            fused=self.device.type == "cuda",
        )
        self._averaged_module = averaged
        self.average = MovingAverage(averaged, self.config.average)

    @abstractmethod
    def averaged(self) -> dict[str, Tensor]:
        """Return all weights of the network, with the trained ones averaged."""

    def averaged_net(self) -> LiteNet:
        """Build the network with averaged weights, for checks."""
        net = LiteNet(self.net.architecture)
        net.load_state_dict(self.averaged())
        return net.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    def autocast(self) -> torch.autocast:
        """Compute in the config's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    # ------------------------------------------------------------------------------------------------------- a step
    @abstractmethod
    def compute(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the loss of `inputs` and the measures (n,). Depends on tensors alone, so that it can be compiled."""

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if self.config.compile != OFF:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return self._step_loss(batch)

    def sides(self) -> tuple[int, ...]:
        return self.config.sizes or (self.config.size,)

    def warm(self, batches: Mapping[int, dict[str, Tensor]]) -> None:
        """Choose layout and compiler, and compile each size. Weights, statistics and random numbers stay as they were.

        Raises: MamVideoError, the config's compiler does not work on this machine.
        """
        config = self.config
        self.set_layout(config.layout if config.layout != MEASURE else "channels_last")
        if self.device.type == "cpu" and config.compile == OFF and config.layout != MEASURE:
            return
        buffers, random_state = KeptBuffers(self.net), self.generator.get_state()
        inputs = {side: self.inputs(batch) for side, batch in batches.items()}
        first = next(iter(inputs.values()))
        if config.layout == MEASURE:
            self.set_layout(quickest(list(LAYOUTS), lambda name: self._timed(first, layout=name), _say))
        compiler = config.compile
        if compiler in (MEASURE, MEASURE_ALL):
            names = candidates(compiler, self.device)
            compiler = quickest(names, lambda name: self._timed(first, compiler=name), _say)
        try:
            self._step_loss = compiled(self.compute, compiler)
            for each in inputs.values():
                seconds_per_call(partial(self._forth_and_back, each), self.device, warm=2, count=1)
        except Exception as e:  # what a compiler lacks on this machine shows in errors of many kinds
            if compiler == OFF:
                raise
            raise MamVideoError(f"compile = '{compiler}' does not work here ({e}); set compile = 'off'") from e
        buffers.put_back()
        self.generator.set_state(random_state)

    def _timed(self, inputs: dict[str, Tensor], layout: str | None = None, compiler: str = OFF) -> float:
        """Return the seconds of a step's forward and backward pass with a layout or a compiler."""
        if layout is not None:
            self.set_layout(layout)
        self._step_loss = compiled(self.compute, compiler)
        return seconds_per_call(lambda: self._forth_and_back(inputs), self.device)

    def _forth_and_back(self, inputs: dict[str, Tensor]) -> None:
        self.loss(inputs)[0].backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad(set_to_none=True)

    def set_layout(self, name: str) -> None:
        """Give the network, its average and the optimizer's state one of `LAYOUTS`."""
        self.net.to(memory_format=LAYOUTS[name])
        live = self._averaged_module.state_dict()
        self.average.state = {k: match_layout(v, live[k]) for k, v in self.average.state.items()}
        for parameter, state in self.optimizer.state.items():
            for k, v in state.items():
                if torch.is_tensor(v):
                    state[k] = match_layout(v, parameter)

    # ------------------------------------------------------------------------------------------------------- the run
    def seconds(self) -> float:
        """Return the seconds of training of the whole run, or 0 if its steps limit it."""
        config = self.config
        if not config.within:
            return config.seconds
        start = self._start_time if self._start_time is not None else time.monotonic()
        left = self._elapsed_before + max(self._built + config.within - TO_SAVE - start, 1.0)
        return min(left, config.seconds) if config.seconds else left

    def finished(self) -> bool:
        """Return whether the run has reached its end, by steps or by time."""
        seconds = self.seconds()
        return super().finished() or (seconds > 0 and self.elapsed() >= seconds)

    def rate_share(self) -> float:
        """Return the factor of the learning rates at this step."""
        c = self.config
        return rate_share(
            self.step,
            warm_up=c.warm_up,
            steps=c.steps,
            cool_down=c.cool_down,
            seconds=self.seconds(),
            elapsed=self.elapsed(),
        )

    def rates(self) -> list[float]:
        share = self.rate_share()
        return [rate * share for rate in self._base_rates]

    def clip_gradients(self, parameters: list[Tensor]) -> None:
        torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_gradient)

    def after_step(self) -> None:
        self.average.update(self._averaged_module)

    # ------------------------------------------------------------------------------------------------------- on disk
    def export(self) -> None:
        """Write average.safetensors."""
        note = f"{self.part}, {self.step} steps, seed {self.config.seed}"
        architecture = self.net.architecture.to_text()
        save_weights(self.averaged(), self.out / "average.safetensors", note=note, architecture=architecture)

    def extra_state(self) -> dict[str, Any]:
        return {"average": self.average.state, "count": self.average.count, "draw": self.generator.get_state()}

    def restore_extra(self, parts: dict[str, Any]) -> None:
        self.average.state = {k: v.to(self.device) for k, v in parts["average"].items()}
        self.average.count = parts["count"]
        self.generator.set_state(parts["draw"])
