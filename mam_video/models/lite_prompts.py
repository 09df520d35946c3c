"""Prompts of the embedded model as pictures over its square. Tensors in, tensors out."""

from __future__ import annotations

import torch
from torch import Tensor


def prompt_maps(
    size: int,
    boxes: Tensor,
    has_box: Tensor,
    previous: Tensor,
    has_previous: Tensor,
    points: Tensor,
    labels: Tensor,
) -> Tensor:
    """(B, PROMPT_MAPS, size, size): the prompts as pictures over the square.

    boxes         (B, 4) x0 y0 x1 y1 in shares of the square's side
    has_box       (B,) 0 or 1
    previous      (B, 1, size, size) the previous mask, 0..1
    has_previous  (B,) 0 or 1
    points        (B, N, 2) x y in shares of the side; N may be 0
    labels        (B, N) 1 subject, 0 background, below 0 no point
    """
    axis = _cells(size, boxes.device)
    soft = size / 2  # the edge of a box is two cells wide

    def inside(low: Tensor, high: Tensor) -> Tensor:
        a = ((axis - low[:, None]) * soft + 0.5).clamp(0, 1)
        b = ((high[:, None] - axis) * soft + 0.5).clamp(0, 1)
        return a * b

    box = inside(boxes[:, 1], boxes[:, 3])[:, :, None] * inside(boxes[:, 0], boxes[:, 2])[:, None]
    flag_box = has_box.view(-1, 1, 1).expand_as(box)

    def across(low: Tensor, high: Tensor) -> Tensor:
        """-1 at one side of the box, 1 at the other, no more than 2 beyond."""
        return ((2 * axis - (low + high)[:, None]) / (high - low).clamp(min=1e-3)[:, None]).clamp(-2, 2)

    u = across(boxes[:, 0], boxes[:, 2])[:, None].expand_as(box) * flag_box
    v = across(boxes[:, 1], boxes[:, 3])[:, :, None].expand_as(box) * flag_box
    flag_previous = has_previous.view(-1, 1, 1).expand_as(box)
    mask = previous[:, 0] * flag_previous
    return torch.stack([box * flag_box, flag_box, u, v, mask, flag_previous, *click_maps(size, points, labels)], 1)


def _cells(size: int, device: torch.device) -> Tensor:
    """The middles of `size` cells in shares of the side, (size,)."""
    return (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size


def click_maps(size: int, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(B, size, size) each: spots at the points on the subject, and at those on the background.

    Arguments as in `prompt_maps`. Where spots of one kind overlap, the highest counts.
    """
    if not points.shape[1]:
        nothing = torch.zeros(len(points), size, size, device=points.device)
        return nothing, nothing
    axis = _cells(size, points.device)
    across, down = ((axis - points[:, :, i : i + 1]) ** 2 for i in (0, 1))
    spots = torch.exp(-(down[:, :, :, None] + across[:, :, None]) * (size / 5) ** 2 / 2)  # (B, N, size, size)
    on_subject, on_background = ((spots * kind[:, :, None, None]).amax(1) for kind in (labels > 0, labels == 0))
    return on_subject, on_background
