"""What a file wants of a frame, as numbers: whole-number planes that are linear in colour and alpha.

Writers say it, and whoever holds the pixels makes the planes, wherever they lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class PlaneRecipe:
    """How the planes of one output are made of a frame's pixels.

    rows           for each plane the weights of red, green, blue (codes 0..65535) and alpha (0..1), and an offset: the
                   plane is their sum, rounded to nearest and kept in 0..65535
    premultiplied  whether colour is multiplied by alpha first, and rounded to whole codes
    """

    rows: tuple[tuple[float, float, float, float, float], ...]
    premultiplied: bool = False

    @classmethod
    def of(cls, colour: np.ndarray, *alpha: tuple[float, float], premultiplied: bool = False) -> PlaneRecipe:
        """Make one of a matrix (n, 4) of colour with offset, and of a weight and an offset for each plane of alpha."""
        rows = [(float(r), float(g), float(b), 0.0, float(offset)) for r, g, b, offset in colour]
        rows += [(0.0, 0.0, 0.0, weight, offset) for weight, offset in alpha]
        return cls(tuple(rows), premultiplied)
