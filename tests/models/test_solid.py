"""Solidity by construction: what is filled, what stays open, what is removed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mam_video.models.solid import solid

M, CELL = 80, 4
V = M * CELL


def disc(side: int, x: float, y: float, radius: float) -> np.ndarray:
    """(side, side) bool; places in shares of the side."""
    axis = (np.arange(side) + 0.5) / side
    return np.asarray((axis[:, None] - y) ** 2 + (axis[None] - x) ** 2 < radius**2)


def made(alpha: np.ndarray, mask: np.ndarray, content: tuple[int, int] = (V, V)) -> np.ndarray:
    given = torch.from_numpy(alpha.astype(np.float32))[None, None]
    logits = np.where(mask, 6.0, -6.0).astype(np.float32)[None]
    out = solid(given, logits, content)
    assert out.shape == given.shape and out.dtype == torch.float32
    assert float(out.min()) >= 0 and float(out.max()) <= 1
    assert np.array_equal(given[0, 0].numpy(), alpha.astype(np.float32)), "the input was written to"
    return np.asarray(out[0, 0].numpy())


@pytest.fixture
def subject() -> tuple[np.ndarray, np.ndarray]:
    """A disc in the middle: its alpha and its mask."""
    return disc(V, 0.5, 0.5, 0.3).astype(np.float32), disc(M, 0.5, 0.5, 0.3)


def test_what_is_right_stays_as_it_is(subject: tuple[np.ndarray, np.ndarray]) -> None:
    alpha, mask = subject
    assert np.allclose(made(alpha, mask), alpha, atol=0.004)


def test_half_open_holes_are_filled_and_whole_ones_are_not(subject: tuple[np.ndarray, np.ndarray]) -> None:
    alpha, mask = subject
    hole = disc(V, 0.45, 0.5, 0.03)
    half, whole = alpha.copy(), alpha.copy()
    half[hole] = 0.4
    whole[hole] = 0.0
    assert np.allclose(made(half, mask), alpha, atol=0.004)
    assert np.allclose(made(whole, mask), whole, atol=0.004)


def test_a_hole_that_the_mask_has_stays_as_the_head_says(subject: tuple[np.ndarray, np.ndarray]) -> None:
    alpha, mask = subject
    gap = disc(V, 0.5, 0.5, 0.08)
    alpha[gap] = 0.3
    mask &= ~disc(M, 0.5, 0.5, 0.08)
    inner = disc(V, 0.5, 0.5, 0.06)
    assert made(alpha, mask)[inner].max() <= 0.3


def test_a_bite_of_the_head_does_not_reach_deep_into_the_mask(subject: tuple[np.ndarray, np.ndarray]) -> None:
    """The head gives up a strip from the edge to the middle: only the edge's own zone may go."""
    alpha, mask = subject
    bite = np.zeros(alpha.shape, bool)
    bite[V // 2 - 8 : V // 2 + 8, : V // 2] = True
    alpha[bite] = 0.0
    out = made(alpha, mask)
    assert out[disc(V, 0.5, 0.5, 0.24)].min() == 1
    assert out[bite & disc(V, 0.5, 0.5, 0.3) & ~disc(V, 0.5, 0.5, 0.29)].max() < 0.5


def test_hair_that_the_mask_takes_for_solid_stays_hair(subject: tuple[np.ndarray, np.ndarray]) -> None:
    """The head sees single strands in half of the subject: that much is not taken for a mistake."""
    alpha, mask = subject
    hair = alpha.copy()
    hair[: V // 2, ::4] *= 0.2
    hair[: V // 2, 1::4] *= 0.1
    out = made(hair, mask)
    there = disc(V, 0.5, 0.35, 0.1)
    assert np.allclose(out[there], hair[there], atol=1e-6)
    assert out[disc(V, 0.5, 0.65, 0.1)].min() == 1


def test_haze_inside_and_outside_is_cleared(subject: tuple[np.ndarray, np.ndarray]) -> None:
    alpha, mask = subject
    haze = alpha * 0.9 + (1 - alpha) * 0.08
    out = made(haze, mask)
    assert out[disc(V, 0.5, 0.5, 0.24)].min() == 1
    assert not out[~disc(V, 0.5, 0.5, 0.37)].any()


def test_specks_away_from_the_subject_go_and_strands_of_it_stay(subject: tuple[np.ndarray, np.ndarray]) -> None:
    alpha, mask = subject
    alpha[V // 2, : V // 2] = np.maximum(alpha[V // 2, : V // 2], 0.6)  # a hair, from the edge to the border
    before = alpha.copy()
    alpha[disc(V, 0.1, 0.1, 0.03)] = 1.0
    out = made(alpha, mask)
    assert not out[: V // 6].any()
    assert out[V // 2, 4] > 0.5 and (out > 0.01).sum() == (before > 0.01).sum()


def test_a_second_part_of_the_mask_stays_and_a_speck_of_it_goes(subject: tuple[np.ndarray, np.ndarray]) -> None:
    alpha, mask = subject
    for place, radius, stays in ((0.1, 0.06, True), (0.9, 0.02, False)):
        part = disc(V, place, place, radius)
        out = made(np.maximum(alpha, part), mask | disc(M, place, place, radius))
        assert bool(out[part].any()) == stays and (not stays or out[part].min() == 1)


def test_the_border_of_the_picture_is_no_edge_and_padding_stays_out() -> None:
    """A subject that the border cuts off is solid up to it; what the network makes of the padding does not matter."""
    h, w = V - 6, V - 40
    mask = np.zeros((M, M), bool)
    mask[M // 2 : -(-h // CELL), : -(-w // CELL)] = True
    alpha = np.zeros((V, V), np.float32)
    alpha[V // 2 : h, :w] = 0.8
    alpha[:, w:] = 0.5
    out = made(alpha, mask, (h, w))
    assert out[V // 2 + 20 : h, :w].min() == 1
    assert not out[: V // 2 - 4, :w].any()


def test_no_mask_no_alpha_and_each_of_a_batch_by_itself() -> None:
    full, none = np.full((M, M), 5.0, np.float32), np.full((M, M), -5.0, np.float32)
    alpha = torch.full((2, 1, V, V), 0.7)
    out = solid(alpha, np.stack([full, none]), (V, V))
    assert float(out[0].min()) == 1 and not out[1].any()


def test_a_smear_over_an_enclosed_doubt_of_the_mask_is_closed(subject: tuple[np.ndarray, np.ndarray]) -> None:
    """The head half opens a patch with a low core, where the mask doubts but takes it for subject; one is a hole."""
    for doubt, closed in ((1.0, True), (-1.0, False)):
        alpha, mask = (a.copy() for a in subject)
        patch, spot = disc(V, 0.45, 0.5, 0.12), disc(M, 0.45, 0.5, 0.02)
        alpha[patch] = 0.5
        alpha[disc(V, 0.45, 0.5, 0.012)] = 0.1
        logits = np.where(mask, 6.0, -6.0).astype(np.float32)
        logits[spot] = doubt
        out = solid(torch.from_numpy(alpha)[None, None], logits[None], (V, V))[0, 0].numpy()
        assert (out[disc(V, 0.45, 0.5, 0.01)].min() == 1) == closed
