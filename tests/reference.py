"""Where outputs of the authors' code lie, for the tests that compare with them."""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parent.parent.parent / "shared" / "reference"

needs_reference = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason="the authors' outputs (../shared/reference) are not here; the project's own fixtures are",
)


def checkpoint(name: str) -> dict[str, Any]:
    """A checkpoint packed with xz."""
    with lzma.open(FOLDER / name) as packed:
        return dict(torch.load(io.BytesIO(packed.read()), map_location="cpu", weights_only=True))
