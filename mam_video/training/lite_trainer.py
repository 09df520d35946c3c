"""What the trainers of the embedded model share: start weights, precision, moving average, clock, saved weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from mam_video.models.devices import resolve_precision
from mam_video.models.lite_net import LiteNet
from mam_video.training.checkpoints import chosen_architecture, load_imagenet, load_weights, save_weights
from mam_video.training.depthwise import quicken
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
    weight_decay: float = 1e-4
    average: float = 0.998
    clip_gradient: float = 1.0
    freeze_norm: bool = False
    check_every: int = 500
    precision: str = "auto"


Config = TypeVar("Config", bound=LiteConfig)


class LiteTrainer(Trainer[Config]):
    """Trains one part of a LiteNet. A subclass chooses the parameters to train, by `_train`."""

    part: ClassVar[str]  # the name of the part, for the note in the weight file
    net: LiteNet

    def __init__(self, config: Config, segmenter: str = "") -> None:
        """Build the network from `config.start`, the file `segmenter`, or else ImageNet weights.

        `segmenter` replaces the backbone and the segmenter of `config.start`. Raises: MamVideoError, a file does not
        fit, or the ImageNet weights are not installed.
        """
        super().__init__(config)
        # The averages of idle gradients become denormal numbers, which are many times slower on a CPU.
        torch.set_flush_denormal(True)
        self.check_every = config.check_every
        self.half = resolve_precision(config.precision, self.device) is torch.bfloat16
        self.net = LiteNet(chosen_architecture(config.architecture, config.start or segmenter))
        if self.half and self.device.type == "cpu":
            quicken(self.net)
        if config.start:
            load_weights(self.net, Path(config.start), grown=True)
        if segmenter:
            self.load_segmenter(segmenter)
        elif not config.start:
            load_imagenet(self.net)
        self.net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator = torch.Generator().manual_seed(config.seed)

    def load_segmenter(self, path: str) -> None:
        """Load the backbone and the segmenter from a weight file. Raises: MamVideoError."""
        load_weights(self.net, Path(path), parts=("backbone.", "segmenter."))

    def _train(self, groups: Sequence[tuple[list[nn.Parameter], float]], averaged: nn.Module) -> None:
        """Set the parameters to train, in groups with a learning rate each, and the module to average."""
        self._base_rates = [rate for _, rate in groups]
        self.optimizer = torch.optim.AdamW(
            [{"params": parameters, "lr": rate} for parameters, rate in groups], weight_decay=self.config.weight_decay
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

    # ------------------------------------------------------------------------------------------------------- the run
    def finished(self) -> bool:
        """Return whether the run has reached its end, by steps or by time."""
        return super().finished() or (self.config.seconds > 0 and self.elapsed() >= self.config.seconds)

    def rate_share(self) -> float:
        """Return the factor of the learning rates at this step."""
        c = self.config
        return rate_share(
            self.step,
            warm_up=c.warm_up,
            steps=c.steps,
            cool_down=c.cool_down,
            seconds=c.seconds,
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
