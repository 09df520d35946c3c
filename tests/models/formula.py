"""Weights, features and pictures by formula: the same numbers everywhere, with nothing stored."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch


def scrambled(name: str, count: int) -> np.ndarray:
    """(count,) float64 in [-1, 1), fixed by `name` and each value's own index (splitmix64; whole numbers, so exact)."""
    with np.errstate(over="ignore"):
        x = np.arange(count, dtype=np.uint64) + (np.uint64(zlib.crc32(name.encode())) << np.uint64(32))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**52 - 1.0


def filled(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of `state`: sensible sizes, so that no part is idle and none explodes."""
    new = {}
    for name, old in state.items():
        wave = torch.from_numpy(scrambled(name, old.numel())).reshape(old.shape)
        kind = name.rsplit(".", 1)[-1]
        if kind == "num_batches_tracked":
            value = torch.tensor(1)
        elif kind == "running_var" or (kind == "weight" and old.ndim == 1):  # of a norm
            value = 1 + 0.2 * wave
        elif kind in ("bias", "running_mean") or old.ndim == 1:
            value = 0.1 * wave
        elif kind == "positional_encoding_gaussian_matrix":
            value = 1.5 * wave
        elif "rel_pos" in name or kind == "pos_embed":
            value = 0.2 * wave
        elif "token" in name or "embed" in name.rsplit(".", 2)[-2]:
            value = wave
        else:
            value = wave * (3.0 / old[0].numel()) ** 0.5
        new[name] = value.to(old.dtype)
    # The stored vectors of a spectral norm come from its power iteration.
    for name in [n for n in new if n.endswith("weight_bar")]:
        matrix = new[name].double().flatten(1)
        u = torch.nn.functional.normalize(torch.from_numpy(scrambled(name + "/u", matrix.shape[0])), dim=0)
        for _ in range(5):
            v = torch.nn.functional.normalize(matrix.t() @ u, dim=0)
            u = torch.nn.functional.normalize(matrix @ v, dim=0)
        new[name.replace("weight_bar", "weight_u")] = u.float()
        new[name.replace("weight_bar", "weight_v")] = v.float()
    return new


# The last step of each head, (strength, shift): so chosen that alphas reach 0 and 1 and are soft between.
_HEADS = {"refine_OS8": (20.0, -2.5), "refine_OS4": (15.0, 7.8), "refine_OS1": (50.0, -6.3)}


def m2m_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`filled`, with last steps that spread the alphas over their whole range."""
    new = filled(state)
    for head, (strength, shift) in _HEADS.items():
        new[f"{head}.3.weight"] *= strength
        new[f"{head}.3.bias"] = torch.tensor([shift])
    return new


def m2m_case(name: str, batch: int, h: int, w: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embedding (B, 256, h, w), picture (B, 3, 16h, 16w) and guide mask (B, 1, 4h, 4w), float32."""

    def field(what: str, *shape: int) -> torch.Tensor:
        return torch.from_numpy(scrambled(f"{name}/{what}", int(np.prod(shape)))).reshape(shape).float()

    mask = torch.zeros(batch, 1, 4 * h, 4 * w)
    mask[:, :, h : 3 * h, w // 2 : 3 * w] = 1
    return field("embedding", batch, 256, h, w), 2 * field("picture", batch, 3, 16 * h, 16 * w), mask


def mask_logits() -> np.ndarray:
    """(256, 256) float32: a mask as a prompt, above 0 in an ellipse about the picture's disc."""
    y, x = np.mgrid[0:256, 0:256].astype(np.float64)
    return (8 - 8 * (((x - 140) / 80) ** 2 + ((y - 96) / 70) ** 2)).clip(-16, 8).astype(np.float32)


def picture(h: int, w: int) -> np.ndarray:
    """(h, w, 3) uint8: a textured disc on a gradient."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    disc = ((x - 0.55 * w) / (0.28 * w)) ** 2 + ((y - 0.5 * h) / (0.36 * h)) ** 2 < 1
    ground = np.stack([60 + 120 * x / w, 90 + 80 * y / h, 160 - 60 * x / w], axis=-1)
    subject = np.stack([210 + 30 * np.sin(x / 5), 120 + 40 * np.sin(y / 7), 60 + 20 * np.sin((x + y) / 3)], axis=-1)
    grain = 12 * scrambled("grain", h * w * 3).reshape(h, w, 3)
    return np.clip(np.rint(np.where(disc[..., None], subject, ground) + grain), 0, 255).astype(np.uint8)
