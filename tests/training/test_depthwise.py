"""The quicker backward gives the gradients of the plain one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mam_video.models.devices import cpu_has_bfloat16
from mam_video.training.depthwise import quicken

pytestmark = pytest.mark.numeric


@pytest.mark.skipif(not cpu_has_bfloat16(), reason="this CPU has no native bfloat16: autocast would take minutes")
@pytest.mark.parametrize(("stride", "padding"), [(1, 2), (2, 0)])
def test_gradients_are_the_same(stride: int, padding: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 32, 5, stride, padding, groups=32)
    x = torch.randn(2, 32, 19, 21).contiguous(memory_format=torch.channels_last).requires_grad_()
    results = []
    for quick in (False, True):
        if quick:
            quicken(nn.Sequential(conv))
        conv.zero_grad()
        x.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            y = conv(x)
        (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        assert x.grad is not None and conv.weight.grad is not None and conv.bias is not None
        assert conv.bias.grad is not None
        results.append([v.detach().float() for v in (y, conv.weight.grad, conv.bias.grad, x.grad)])
    for plain, mine in zip(*results, strict=True):
        assert (plain - mine).abs().max() <= 0.02 * plain.abs().max()


def test_without_autocast_nothing_changes() -> None:
    conv = nn.Conv2d(8, 8, 5, padding=2, groups=8)
    x = torch.randn(1, 8, 9, 9)
    plain = conv(x)
    quicken(nn.Sequential(conv))
    assert torch.equal(conv(x), plain)
