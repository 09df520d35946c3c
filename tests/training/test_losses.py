"""Losses on cases whose value is known."""

from __future__ import annotations

import pytest
import torch

from mam_video.training.losses import _binomial_kernel, _blur, l1, laplacian_loss, laplacian_pyramid, mask_loss

pytestmark = pytest.mark.numeric


def test_a_sure_right_mask_costs_nothing() -> None:
    truth = torch.zeros(2, 1, 8, 8)
    truth[:, :, 2:5, 2:6] = 1
    loss, iou = mask_loss((truth - 0.5) * 60, truth, torch.ones_like(truth))
    assert float(loss) == pytest.approx(0, abs=1e-5) and iou.tolist() == [1, 1]
    loss, iou = mask_loss(torch.zeros_like(truth) - 1e-6, truth, torch.ones_like(truth))
    # Cross-entropy of a coin is log 2; Dice with p = 1/2: 1 - (2*6 + 1) / (32 + 12 + 1).
    assert float(loss) == pytest.approx(0.693147 + 1 - 13 / 45, rel=1e-4) and iou.tolist() == [0, 0]


def test_what_is_not_known_is_not_counted() -> None:
    truth = torch.zeros(1, 1, 4, 4)
    truth[..., :2] = 1
    weight = torch.ones_like(truth)
    weight[..., 3] = 0
    wrong_there = (truth - 0.5) * 60
    wrong_there[..., 3] = 30
    loss, iou = mask_loss(wrong_there, truth, weight)
    assert float(loss) == pytest.approx(0, abs=1e-5) and iou.item() == 1


def test_an_absent_subject_has_no_dice() -> None:
    truth = torch.zeros(1, 1, 4, 4)
    loss, iou = mask_loss(torch.full_like(truth, -30), truth, torch.ones_like(truth))
    assert float(loss) == pytest.approx(0, abs=1e-6) and iou.item() == 1


def test_l1_is_a_weighted_mean() -> None:
    p, t = torch.tensor([[[[0.5, 1.0]]]]), torch.tensor([[[[0.0, 0.0]]]])
    assert float(l1(p, t, torch.tensor([[[[1.0, 3.0]]]]))) == pytest.approx(3.5 / 4)


def test_the_pyramid_adds_up_again() -> None:
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    bands = laplacian_pyramid(x, 3)
    assert [b.shape[-1] for b in bands] == [32, 16, 8]
    flat = laplacian_pyramid(torch.full((1, 1, 64, 64), 0.3), 3)
    # Within the border, a flat picture has no detail at any level.
    assert max(float(b[..., 4:-4, 4:-4].abs().max()) for b in flat) < 1e-6


def test_laplacian_loss_weighs_coarse_levels_more() -> None:
    truth = torch.zeros(1, 1, 64, 64)
    assert float(laplacian_loss(truth, truth, torch.ones_like(truth))) == 0
    fine = truth.clone()
    fine[..., ::2, ::2] = 0.1
    coarse = truth.clone()
    coarse[..., 16:48, 16:48] = 0.1
    ones = torch.ones_like(truth)
    assert float(laplacian_loss(coarse, truth, ones)) > float(laplacian_loss(fine, truth, ones)) > 0


@pytest.mark.parametrize("shape", [(1, 1, 16, 16), (2, 3, 37, 53), (4, 1, 128, 128)])
def test_blurs_and_gradients_are_those_of_a_plain_convolution(shape: tuple[int, ...]) -> None:
    """The gradient is computed as a convolution too, which sums in another order."""
    row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0])
    kernel = (row[:, None] * row[None]) / 256
    values = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    ours, plain = values.clone().requires_grad_(), values.clone().requires_grad_()
    blurred = _blur(ours, _binomial_kernel(ours))
    padded = torch.nn.functional.pad(plain, (2, 2, 2, 2), mode="reflect")
    expected = torch.nn.functional.conv2d(padded, kernel.expand(shape[1], 1, 5, 5), groups=shape[1])
    blurred.square().sum().backward()
    expected.square().sum().backward()
    assert torch.allclose(blurred, expected, atol=1e-6)
    assert ours.grad is not None and plain.grad is not None and torch.allclose(ours.grad, plain.grad, atol=4e-6)
