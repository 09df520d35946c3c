"""The sizes of the embedded model's network, and its backbone: EfficientNet-Lite. Tensors in, tensors out.

The backbone has TensorFlow's padding and its batch norms folded into the convolutions. Its stem and first two stages
stay as ImageNet made them. Source: Tan and Le, EfficientNet, ICML 2019, in the Lite form (no squeeze-excite, ReLU6).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mam_video.models.cpu_convolutions import added

_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the stages of every EfficientNet-Lite; the stem has stride 2
HEAD_CHANNELS = 32  # of an attention's head in the segmenter


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the backbone: `repeats` inverted residuals, the first of which has the stage's stride."""

    expansion: int
    kernel: int
    channels: int
    repeats: int


@dataclass(frozen=True, slots=True)
class LiteArchitecture:
    """The size of the network: the backbone's seven stages, and the segmenter's channels at strides 16, 8 and 4.

    Attributes:
        stages: of the backbone, in running order.
        wide: channels at stride 16, a multiple of 32.
        middle: channels at stride 8.
        narrow: channels at stride 4.
        attentions: how many attention layers the decoder has at stride 16.
    Raises: ValueError, no network can have this form.
    """

    stages: tuple[Stage, ...]
    wide: int
    middle: int
    narrow: int
    attentions: int

    def __post_init__(self) -> None:
        if len(self.stages) != len(_STRIDES):
            raise ValueError(f"a backbone has {len(_STRIDES)} stages, not {len(self.stages)}")
        numbers = [self.wide, self.middle, self.narrow, self.attentions]
        numbers += [n for s in self.stages for n in (s.expansion, s.kernel, s.channels, s.repeats)]
        if not all(isinstance(n, int) and n > 0 for n in numbers):
            raise ValueError("the sizes of an architecture are whole numbers above 0")
        if self.wide % HEAD_CHANNELS:
            raise ValueError(f"wide is {self.wide}, which is no multiple of {HEAD_CHANNELS}")
        if not all(s.kernel % 2 for s in self.stages):
            raise ValueError("the kernels of an architecture are odd")

    @property
    def channels(self) -> tuple[int, int, int, int, int]:
        """Channels of f2, f4, f8, f16 and f32."""
        c = [s.channels for s in self.stages]
        return c[0], c[1], c[2], c[4], c[6]

    def to_text(self) -> str:
        """As JSON, for the metadata of a weight file; `from_text` reads it."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> LiteArchitecture:
        """From JSON. Raises: ValueError, it is not what `to_text` writes."""
        try:
            values = json.loads(text)
            stages = tuple(Stage(**stage) for stage in values.pop("stages"))
            return cls(stages=stages, **values)
        except (AttributeError, KeyError, TypeError, RecursionError, json.JSONDecodeError) as e:
            raise ValueError(f"not an architecture: {text[:60]}") from e

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, Sequence[int]]) -> LiteArchitecture:
        """From the shapes of a network's weights by name. Raises: ValueError, they are of another network."""
        try:
            stages = []
            for i in range(len(_STRIDES)):
                blocks = {int(m[1]) for k in shapes if (m := re.match(rf"backbone\.stages\.{i}\.(\d+)\.", k))}
                last = f"backbone.stages.{i}.{max(blocks)}"
                mid, _, kernel, _ = shapes[f"{last}.depthwise.weight"]
                entry = f"{last}.expand.weight"
                expansion = mid // shapes[entry][1] if entry in shapes else 1
                stages.append(Stage(expansion, kernel, shapes[f"{last}.project.weight"][0], len(blocks)))
            wide, middle, narrow = (shapes[f"segmenter.lateral{n}.0.weight"][0] for n in (16, 8, 4))
            attentions = sum(bool(re.fullmatch(r"segmenter\.body16\.\d+\.qkv\.weight", k)) for k in shapes)
        except (KeyError, ValueError, IndexError, ZeroDivisionError) as e:
            raise ValueError("these are not the shapes of a network of this kind") from e
        return cls(tuple(stages), wide, middle, narrow, attentions)


LITE0 = LiteArchitecture(
    stages=(
        Stage(1, 3, 16, 1),
        Stage(6, 3, 24, 2),
        Stage(6, 5, 40, 2),
        Stage(6, 3, 80, 3),
        Stage(6, 5, 112, 3),
        Stage(6, 5, 192, 4),
        Stage(6, 3, 320, 1),
    ),
    wide=128,
    middle=64,
    narrow=32,
    attentions=2,
)
LITE2 = LiteArchitecture(
    stages=(
        Stage(1, 3, 16, 1),
        Stage(6, 3, 24, 3),
        Stage(6, 5, 48, 3),
        Stage(6, 3, 88, 4),
        Stage(6, 5, 120, 4),
        Stage(6, 5, 208, 5),
        Stage(6, 3, 352, 1),
    ),
    wide=192,
    middle=80,
    narrow=32,
    attentions=3,
)
ARCHITECTURES = {"lite0": LITE0, "lite2": LITE2}
"""By the names that a training config may use; each has the backbone EfficientNet-Lite of its number."""
ARCHITECTURE_KEY = "architecture"  # in the metadata of a weight file


def architecture_of(state: Mapping[str, Tensor], told: str | None = None) -> LiteArchitecture:
    """The architecture of a network's weights, by their shapes.

    Args:
        state: weights by name.
        told: the architecture as the file's metadata tells it, or None. The shapes must confirm it.
    Raises: ValueError, `told` is no architecture or not that of the weights, or they are of another network.
    """
    found = LiteArchitecture.from_shapes({k: tuple(v.shape) for k, v in state.items()})
    if told is not None and LiteArchitecture.from_text(told) != found:
        raise ValueError("the architecture in the file's metadata is not that of its weights")
    return found


_BN_EPS = 1e-3  # of the backbone
FROZEN_STAGES = 2
_WORTH_LEAVING_OUT = 0.8  # share of the square; from here on to put maps together costs what to compute them does


class SameConv(nn.Conv2d):
    """A convolution and, where `act`, ReLU6. It pads as TensorFlow's SAME does.

    same  at stride 2 the pixels padded to the left, right, top and bottom, for even sides as all of ours are
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, *, act: bool = False
    ) -> None:
        super().__init__(c_in, c_out, kernel, stride, 0 if stride > 1 else kernel // 2, groups=groups)
        few, more = (kernel - 2) // 2, (kernel - 1) // 2
        self.same = (few, more, few, more) if stride > 1 else None
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(F.pad(x, self.same) if self.same else x)
        return F.relu6(y, inplace=True) if self.act else y


class InvertedResidual(nn.Module):
    def __init__(self, c_in: int, c_out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        mid = c_in * expansion
        self.expand = SameConv(c_in, mid, 1, act=True) if expansion > 1 else None
        self.depthwise = SameConv(mid, mid, kernel, stride, mid, act=True)
        self.project = SameConv(mid, c_out, 1)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x if self.expand is None else self.expand(x))
        return added(self.project, y, x) if self.residual else self.project(y)


class Backbone(nn.Module):
    """EfficientNet-Lite without its classifier, batch norms folded. Input: RGB in [-1, 1]."""

    def __init__(self, architecture: LiteArchitecture = LITE0) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2, act=True)
        stages, channels = [], 32
        for stage, stride in zip(architecture.stages, _STRIDES, strict=True):
            blocks = []
            for i in range(stage.repeats):
                first = stride if i == 0 else 1
                blocks.append(InvertedResidual(channels, stage.channels, stage.expansion, stage.kernel, first))
                channels = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        early, next_one = architecture.stages[:2]
        # Pixels to each side that `low` sees at most: the stem's 3x3, then kernels at strides 2 and 4.
        self._reach = 2 + early.repeats * (early.kernel - 1) + next_one.repeats * 2 * (next_one.kernel - 1)

    def low(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f2 and f4 of pictures (B, 3, S, S): what never was trained further."""
        f2 = self.stages[0](self.stem(x))
        return f2, self.stages[1](f2)

    def low_within(self, x: Tensor, content: tuple[int, int], empty: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """What `low` makes of pictures that are 0 beyond their first rows and columns `content` (h, w).

        What lies far from the picture is that of no picture, `empty`, and not computed.
        """
        seen, (h, w) = self._extents(content, x.shape[-1])
        found = []
        for none, some, scale in zip(empty, self.low(x[..., :h, :w]), (2, 1), strict=True):
            whole = none.expand(len(x), -1, -1, -1).clone(memory_format=torch.channels_last)
            rows, columns = (scale * n for n in seen)
            whole[..., :rows, :columns] = some[..., :rows, :columns]
            found.append(whole)
        return found[0], found[1]

    def worth_leaving_out(self, content: tuple[int, int], side: int) -> bool:
        """Whether `low_within` takes less time than `low`."""
        _, (h, w) = self._extents(content, side)
        return h * w < _WORTH_LEAVING_OUT * side * side

    def _extents(self, content: tuple[int, int], side: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """(h, w) of what sees the picture, in pixels of f4, and of what has to be looked at for it, in pixels."""
        down, across = (min(-(-(n + self._reach) // 4), side // 4) for n in content)
        h, w = (min(-(-(4 * n + self._reach) // 8) * 8, side) for n in (down, across))
        return (down, across), (h, w)

    def deep(self, f4: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """f8, f16 and f32."""
        f8 = self.stages[2](f4)
        f16 = self.stages[4](self.stages[3](f8))
        return f8, f16, self.stages[6](self.stages[5](f16))

    def frozen(self) -> list[nn.Parameter]:
        return [p for m in (self.stem, *self.stages[:FROZEN_STAGES]) for p in m.parameters()]

    def load_efficientnet_lite(self, state: Mapping[str, Tensor]) -> None:
        """The ImageNet weights in the order of the TensorFlow conversion: each convolution followed by its batch norm.

        Raises ValueError where the shapes do not fit.
        """
        arrays = [v for k, v in state.items() if not k.endswith("num_batches_tracked")]
        convs = [m for m in self.modules() if isinstance(m, SameConv)]
        with torch.no_grad():
            for i, conv in enumerate(convs):
                weight, gamma, beta, mean, var = arrays[5 * i : 5 * i + 5]
                if weight.shape != conv.weight.shape or gamma.shape != mean.shape:
                    raise ValueError(f"not this EfficientNet-Lite: array {5 * i} is {tuple(weight.shape)}")
                scale = gamma.double() / torch.sqrt(var.double() + _BN_EPS)
                conv.weight.copy_(weight.double() * scale.view(-1, 1, 1, 1))
                assert conv.bias is not None
                conv.bias.copy_(beta.double() - mean.double() * scale)
