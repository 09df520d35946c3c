"""The random choices of a roll-out. They are drawn on the host before a step, so that the device never waits for them.

Every choice has a name and, for each frame, its probability. All choices of a step are one array: it takes one transfer
to the device, and a step computes the same whether it runs line by line, compiled, or as a recorded graph.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

NOISE = -1.0
"""In place of a probability: four numbers of the normal distribution, one per side of a box."""

FIRST = {
    "inaccurate": 0.3,
    "accurate": 0.4,
    "jitter": NOISE,
    "has_box": 0.85,
    "has_points": 0.12,
    "has_mask": 0.15,
    "other_frame": 0.25,
}
"""The choices of the first frame, in the order in which they are drawn."""
NEXT = {
    "inaccurate": 0.5,
    "jitter": NOISE,
    "has_box": 0.85,
    "leak": 0.2,
    "mask_jitter": NOISE,
    "use_mask_box": 0.6,
    "keep_box": 0.45,
    "use_bad_mask": 0.12,
    "has_mask": 0.75,
    "has_points": 0.04,
    "use_truth": 0.35,
    "has_anchor": 0.88,
}
"""The choices of every other frame. From the third frame on, `RECENT` follows."""
RECENT = {"has_recent": 0.65}


def _plan(frames: int) -> Iterator[tuple[int, str, float]]:
    """Yield frame, name and probability of every choice, in the order in which they are drawn."""
    for t in range(frames):
        for name, share in {**(FIRST if t == 0 else NEXT), **(RECENT if t > 1 else {})}.items():
            yield t, name, share


def draw_choices(generator: torch.Generator, batch: int, frames: int) -> Tensor:
    """Draw all choices of a roll-out. Returns: (B, C) float32 on the CPU; `Choices` reads it."""
    columns = []
    for _, _, share in _plan(frames):
        if share == NOISE:
            columns.append(torch.randn(batch, 4, generator=generator))
        else:
            columns.append((torch.rand(batch, generator=generator) < share).float()[:, None])
    return torch.cat(columns, 1)


class Choices:
    """The choices of a roll-out by frame and name: (B,) of 0 or 1, and (B, 4) of noise."""

    def __init__(self, drawn: Tensor, frames: int, *, random: bool = True) -> None:
        """Read what `draw_choices` drew for as many frames.

        random: whether they were drawn. Choices that are not are those of use: a box, then the network's own masks.
        """
        self.random = random
        self._found: dict[tuple[int, str], Tensor] = {}
        place = 0
        for t, name, share in _plan(frames):
            if share == NOISE:
                self._found[t, name] = drawn[:, place : place + 4]
                place += 4
            else:
                self._found[t, name] = drawn[:, place]
                place += 1

    @classmethod
    def usual(cls, batch: int, frames: int, device: torch.device) -> Choices:
        """Choose the more likely case everywhere, and no noise."""
        columns = [
            torch.zeros(batch, 4) if share == NOISE else torch.full((batch, 1), float(share >= 0.5))
            for _, _, share in _plan(frames)
        ]
        return cls(torch.cat(columns, 1).to(device), frames, random=False)

    def __call__(self, t: int, name: str) -> Tensor:
        """Return the choice `name` of frame `t`."""
        return self._found[t, name]
