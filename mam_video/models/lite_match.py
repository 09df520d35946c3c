"""Comparing the cells of a frame with those of reference frames on a CPU. Tensors in, tensors out.

What is asked is the highest similarity alone. Of a reference's cells those are left out that cannot have it, and some
are compared with all of the frame's at a time, so that their similarities stay in the processor's cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_TOGETHER = 128  # cells of a reference
_NEGLIGIBLE = 0.003  # a share of a cell so small that the cell is hardly ever the most similar
_MOST_SIMILAR = 1.0001  # keys have length 1; to rounding


def query_cells(key: Tensor) -> Tensor:
    """(KEY + 1, n): a frame's cells, of keys (KEY, h, w); the last channel is 1, by which penalties count."""
    cells = key.flatten(1)
    return torch.cat([cells, torch.ones_like(cells[:1])])


@dataclass(frozen=True, slots=True)
class ReferenceCells:
    """The cells of a reference frame, n of them, made ready to be compared with.

    key      (KEY, n)
    penalty  (n,) what is added to the similarity to each
    likely   (m, KEY + 1) those whose penalty is at least `bar`, with it as the last channel
    """

    key: Tensor
    penalty: Tensor
    likely: Tensor
    bar: float

    @classmethod
    def of(cls, key: Tensor, penalty: Tensor, cover: float) -> ReferenceCells:
        """Of (KEY, n) and (n,): the logarithms of shares times `cover`."""
        bar = math.log(_NEGLIGIBLE) * cover
        kept = torch.nonzero(penalty > bar)[:, 0]
        return cls(key, penalty, _rows(key[:, kept], penalty[kept]), bar)

    def highest(self, cells: Tensor) -> Tensor:
        """(n,): the highest similarity of each of `query_cells` to one of these, with the penalty added."""
        if len(self.likely):
            best = _highest(cells, self.likely)
            if float(best.amin()) >= self.bar + _MOST_SIMILAR:
                return best
        return _highest(cells, _rows(self.key, self.penalty))


def _rows(key: Tensor, penalty: Tensor) -> Tensor:
    return torch.cat([key, penalty[None]]).t().contiguous()


def _highest(cells: Tensor, others: Tensor) -> Tensor:
    best = None
    for some in torch.split(others, _TOGETHER):
        found = torch.mm(some, cells).amax(0)
        best = found if best is None else torch.maximum(best, found)
    assert best is not None
    return best
