"""Names for arrays by what they hold. NumPy's types tell the kind of number; shape and range are said here.

H and W are a picture's height and width in pixels. `mypy` checks the kind of number, and nobody the shape.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

RGB8: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8, red first, full range 0..255, display-referred: what models, motion and people look at."""

RGB16: TypeAlias = NDArray[np.uint16]
"""(H, W, 3) uint16, red first, full range 0..65535: the codes of a plate of more than 8 bits."""

RGBFloat: TypeAlias = NDArray[np.floating[Any]]
"""(H, W, 3) float16 or float32, red first, of any value: scene-linear or log, as EXR and float TIFF hold it."""

Plate: TypeAlias = NDArray[Any]
"""(H, W, 3): `RGB8`, `RGB16` or `RGBFloat`, as the file holds it."""

Alpha: TypeAlias = NDArray[np.float32]
"""(H, W) float32 in [0, 1]: 1 is solid subject."""

Mask: TypeAlias = NDArray[np.bool_]
"""(H, W) bool: True is subject, or whatever the region is named after."""

Logits: TypeAlias = NDArray[np.float32]
"""(m, m) float32, any value: a mask over a model's square, before the sigmoid. Above 0 is subject."""

Flow: TypeAlias = NDArray[np.float32]
"""(h, w, 2) float32: by how many pixels each pixel moves, x first. At the motion's size, not the picture's."""

Grey8: TypeAlias = NDArray[np.uint8]
"""(H, W) uint8, 0..255: brightness, or a region for OpenCV with 0 outside."""
